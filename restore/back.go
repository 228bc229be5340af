package restore

import (
	"context"
	"errors"
	"slices"

	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/fault"
	"github.com/ocbackup/ocbackup/guard"
	"github.com/ocbackup/ocbackup/opencloud/control"
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
	r.stopped = true // from here on it matters whether it comes up
	if _, err := recovery.Start(ctx, r.server(), r.before.Also, step.Update); err != nil {
		return err
	}
	return fault.Point("restore.started")
}

// rollBack brings the old data back when the server did not come up with the new.
func (r *run) rollBack(ctx context.Context, step progress.Step, cause error) error {
	switch {
	case r.before.State == control.Absent:
		// There was no instance. The data is where it belongs; starting it may take more.
		r.back, r.unready = true, true
		if err := guard.Clear(r.stateDir()); err != nil {
			cause = errors.Join(cause, err)
		}
		return &fail.Error{
			Code: fail.Failed, What: "the data is restored, but OpenCloud did not start", Err: plain(cause),
			Hint: "start it by hand: " + r.startHint() + "; then, if it says so: " + r.command("reindex"),
		}
	case r.before.State != control.Running || r.NoRollback || r.plan == nil || r.ailing: // with the old it did not come up either
		r.stopped = true
		hint := "look into the server's log; then start it again: " + recovery.Command(r.stateDir())
		if r.res.Undo != "" {
			hint += "\nor bring the old data back: " + r.res.Undo
		}
		return &fail.Error{Code: fail.NotBack, What: "OpenCloud does not come up with the restored data", Hint: hint, Err: cause}
	}
	r.note("OpenCloud does not come up with the restored data; the old data is put back.")
	r.done, r.res.Aside, r.res.Undo, r.res.Delete = false, nil, "", ""
	if err := r.write(r.journal()); err != nil {
		return &fail.Error{Code: fail.NotBack, Err: errors.Join(cause, err)}
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
	begun, err := recovery.TakeBack(ctx, r.stateDir(), r.server(), r.exchanged, step.Update)
	r.stopped = r.stopped || begun || err != nil
	if err != nil {
		return recovery.NotBack(ctx, r.server(), err)
	}
	r.reloadUnits(ctx)
	if r.before.State == control.Running && r.held == nil {
		step.Update("starting OpenCloud")
		if _, err := recovery.Start(ctx, r.server(), r.before.Also, step.Update); err != nil {
			r.stopped = true
			return err // the journal stays: the next run, the boot unit and "ocbackup recover" go on from it
		}
	}
	r.back = true // the journal goes last, when what was staged is gone
	return nil
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
