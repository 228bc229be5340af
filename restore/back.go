package restore

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/fault"
	"github.com/ocbackup/ocbackup/guard"
	"github.com/ocbackup/ocbackup/opencloud/control"
	"github.com/ocbackup/ocbackup/opencloud/index"
	"github.com/ocbackup/ocbackup/progress"
	"github.com/ocbackup/ocbackup/recovery"
)

// bringUp starts the instance with the restored data and waits until it is ready.
// A signal no longer ends it: the new data is in place. When the server does not
// come up with the new data, the old comes back.
func (r *run) bringUp(ctx context.Context, step progress.Step) error {
	ctx = context.WithoutCancel(ctx)
	if err := fault.Point("restore.committed"); err != nil {
		return r.rollBack(ctx, step, err)
	}
	r.reloadUnits(ctx)
	if r.noStart() {
		r.back = true
		r.note("OpenCloud was not started.")
		return nil
	}
	if err := r.start(ctx, step); err != nil {
		return r.rollBack(ctx, step, err)
	}
	r.res.Running, r.back = true, true
	return fault.Point("restore.ready")
}

// start starts the instance and waits until it is ready.
func (r *run) start(ctx context.Context, step progress.Step) error {
	step.Update("starting OpenCloud")
	// Made anew: what the controller found out may have been restored meanwhile.
	ctl, err := control.New(r.cfg.Control)
	if err != nil {
		return err
	}
	if err := ctl.Start(ctx, r.before.Also); err != nil {
		return err
	}
	r.stopped = true // from here on it matters whether it comes up
	if err := fault.Point("restore.started"); err != nil {
		return err
	}
	_, err = recovery.Start(ctx, r.server(), r.before.Also, step.Update)
	return err
}

// rollBack brings the old data back when the server did not come up with the new.
func (r *run) rollBack(ctx context.Context, step progress.Step, cause error) error {
	switch {
	case r.before.State == control.Absent:
		// There was no instance. The data is where it belongs; starting it may take more.
		r.back = true
		if err := guard.Clear(r.stateDir()); err != nil {
			cause = errors.Join(cause, err)
		}
		return &fail.Error{
			Code: fail.Failed, What: "the data is restored, but OpenCloud did not start", Err: plain(cause),
			Hint: "start it by hand: " + r.startHint() + "; then, if it says so: ocbackup reindex",
		}
	case r.before.State != control.Running || r.NoRollback || r.plan == nil:
		r.stopped = true
		hint := "look into the server's log; then \"ocbackup recover\" starts it again"
		if r.res.Undo != "" {
			hint += ", and \"" + r.res.Undo + "\" brings the old data back"
		}
		return &fail.Error{Code: fail.NotBack, What: "OpenCloud does not come up with the restored data", Hint: hint, Err: cause}
	}
	r.note("OpenCloud does not come up with the restored data; the old data is put back.")
	r.done, r.res.Aside, r.res.Undo, r.res.Delete = false, nil, "", ""
	if err := r.write(r.journal()); err != nil {
		return &fail.Error{Code: fail.NotBack, Err: errors.Join(cause, err)}
	}
	var killed *control.KilledError
	if err := r.ctl.Stop(ctx); err != nil && !errors.As(err, &killed) {
		return &fail.Error{Code: fail.NotBack, What: "stop OpenCloud", Err: errors.Join(err, cause), Hint: "stop it by hand, then \"ocbackup recover\""}
	}
	if err := r.putBack(ctx, step); err != nil {
		return errors.Join(err, cause)
	}
	return &fail.Error{
		Code: fail.Failed, What: "OpenCloud did not come up with the restored data, so the old data was put back", Err: plain(cause),
		Hint: "look into the server's log; --no-rollback leaves the restored data in place",
	}
}

// plain takes the exit code from an error whose state of things has been mended.
func plain(err error) error { return errors.New(err.Error()) }

// putBack undoes an exchange that was begun, and starts what was running. Nothing
// but time-outs ends it.
func (r *run) putBack(ctx context.Context, step progress.Step) error {
	ctx = context.WithoutCancel(ctx)
	step.Update("putting the old data back")
	if err := r.undoExchange(); err != nil {
		r.stopped = true
		return fail.Wrap(fail.NotBack, err, "put the old data back", "mend what it says, then run \"ocbackup recover\"")
	}
	r.reloadUnits(ctx)
	if r.before.State == control.Running && r.held == nil {
		step.Update("starting OpenCloud")
		if _, err := recovery.Start(ctx, r.server(), r.before.Also, step.Update); err != nil {
			r.stopped = true
			return err // the journal stays: the next run, the boot unit and "ocbackup recover" go on from it
		}
	}
	if err := r.forget(); err != nil {
		return err
	}
	r.back = true
	return nil
}

// undoExchange brings the old data to its place, and its markers.
func (r *run) undoExchange() error {
	if err := guard.UndoSwap(r.plan.Steps); err != nil {
		return err
	}
	for path, m := range r.old {
		if err := m.apply(path); err != nil {
			return fmt.Errorf("owner and attributes of %s: %w", path, err)
		}
	}
	var err error
	if r.marker == nil {
		err = index.ClearRequired(r.stateDir())
	} else {
		err = index.MarkRequired(r.stateDir(), *r.marker)
	}
	return errors.Join(err, r.dropUndo(), removeEmpty(r.asides()))
}

// reloadUnits makes systemd see unit files that were exchanged, and enables the unit
// where it was enabled on a host that is gone.
func (r *run) reloadUnits(ctx context.Context) {
	if r.cfg.Control.Type != "systemd" || !slices.ContainsFunc(r.items, func(it *item) bool { return it.Name == "deployment" }) {
		return
	}
	if err := control.ReloadUnits(ctx); err != nil {
		r.note("Units: " + err.Error())
	}
	if r.done && r.set.Manifest.UnitEnabled && r.before.State == control.Absent {
		if err := control.EnableUnit(ctx, r.cfg.Control); err != nil {
			r.note("OpenCloud does not start at boot: " + err.Error())
		}
	}
}

// startHint is the command that starts the instance.
func (r *run) startHint() string {
	c := r.cfg.Control
	switch c.Type {
	case "systemd":
		return "systemctl start " + c.Unit
	case "compose":
		return "cd " + c.ProjectDir + " && docker compose up -d"
	case "docker", "podman":
		return "create container " + c.Container + " again (" + c.Type + " run --name " + c.Container + " ...)"
	}
	return join(c.Start)
}
