package restore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/fault"
	"github.com/ocbackup/ocbackup/guard"
	"github.com/ocbackup/ocbackup/opencloud"
	"github.com/ocbackup/ocbackup/opencloud/control"
	"github.com/ocbackup/ocbackup/opencloud/index"
	"github.com/ocbackup/ocbackup/paths"
	"github.com/ocbackup/ocbackup/progress"
	"github.com/ocbackup/ocbackup/recovery"
)

// cold is the window in which the instance is away: the old data is exchanged for
// the new. Up to the commit all of it is undone when anything fails.
func (r *run) cold(ctx context.Context, step progress.Step) (string, error) {
	if err := r.makePlan(); err != nil {
		return "", err
	}
	g, err := r.arm(r.journal())
	if err != nil {
		return "", err
	}
	asked := time.Now()
	r.res.WasRunning = r.running() && !r.ailing
	if err := r.exchange(ctx, step); err != nil {
		return "", errors.Join(err, r.putBack(ctx, step), g.Disarm())
	}
	if err := r.bringUp(ctx, step); err != nil {
		return "", errors.Join(err, g.Disarm())
	}
	r.res.Downtime = time.Since(asked).Seconds()
	if err := errors.Join(guard.Clear(r.stateDir()), g.Disarm()); err != nil {
		return "", err
	}
	switch {
	case !r.res.Running:
		return "exchanged; OpenCloud is not started", nil
	case !r.running():
		return "exchanged; OpenCloud is running", nil
	}
	return fmt.Sprintf("exchanged, downtime %.1f s", r.res.Downtime), nil
}

// makePlan plans the exchange, and makes what it needs beside the old data.
func (r *run) makePlan() error {
	var err error
	if r.keep, err = r.findKeep(); err != nil {
		return err
	}
	x := exchange{keep: r.keep, mounts: r.mounts.at, tree: diskTree{}}
	for _, g := range r.groups {
		s := start{root: g.outer.Root.Root, target: g.outer.target, staged: g.top(), aside: filepath.Join(g.aside, filepath.Base(g.outer.target))}
		if g.outer.absent() {
			s.staged = ""
		}
		x.starts = append(x.starts, s)
	}
	if r.plan, err = planSwap(x); err != nil {
		return fail.Wrap(fail.Usage, err, "the restored data can't be put in its place", "restore with --in-place")
	}
	if err := r.addLinks(); err != nil {
		return err
	}
	if err := r.dropStaleIndex(); err != nil {
		return err
	}
	r.addSpares()
	for _, s := range r.plan.Steps {
		if dir := filepath.Dir(s.To); r.isAside(s.To) {
			if err := os.MkdirAll(dir, 0o700); err != nil {
				return err
			}
		}
	}
	if r.exchanged, err = recovery.Before(r.stateDir()); err != nil {
		return err
	}
	r.exchanged.Swap, r.exchanged.Aside, r.exchanged.Absent = r.plan.Steps, r.asides(), r.before.State == control.Absent
	r.fresh, r.exchanged.Stay = map[string]guard.Meta{}, map[string]guard.Meta{}
	for _, s := range r.plan.Stay {
		if r.fresh[s.Path], err = guard.ReadMeta(s.Staged); err != nil {
			return err
		}
		if r.exchanged.Stay[s.Path], err = guard.ReadMeta(s.Path); err != nil {
			return err
		}
	}
	return nil
}

// addSpares says where that goes which the server makes anew in places that nothing
// is put in: with the rest of what is restored, for it has come to be with it.
func (r *run) addSpares() {
	filled := map[string]bool{}
	for _, s := range r.plan.Steps {
		filled[s.To] = true
	}
	for i, s := range r.plan.Steps {
		if filled[s.From] || !r.isAside(s.To) {
			continue
		}
		aside := asideOf(s.To)
		rel, _ := paths.Below(aside, s.To)
		stage := filepath.Join(filepath.Dir(aside), stagePrefix+r.set.ID)
		r.plan.Steps[i].Spare = filepath.Join(stage, rel)
		if !slices.Contains(r.stages, stage) {
			r.stages = append(r.stages, stage)
		}
	}
}

// asideOf returns the directory for old data that a path lies in.
func asideOf(p string) string {
	for !ours(filepath.Base(p)) {
		p = filepath.Dir(p)
	}
	return p
}

// isAside tells whether a path is where old data is kept.
func (r *run) isAside(p string) bool {
	return paths.Within(r.indexAside(), p) || slices.ContainsFunc(r.groups, func(g *group) bool { return paths.Within(g.aside, p) })
}

// addLinks adds the symbolic links by which the instance's configured paths lead to
// their targets.
func (r *run) addLinks() error {
	for _, it := range r.items {
		if it.link == "" || it.absent() || paths.Exists(it.link) {
			continue
		}
		if err := r.mkdirs(filepath.Dir(it.link)); err != nil {
			return err
		}
		// Where the link goes may be on another file system than the target.
		dir := filepath.Join(filepath.Dir(it.link), stagePrefix+r.set.ID)
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
		r.stages = append(r.stages, dir)
		staged := filepath.Join(dir, "link-"+it.Name)
		if err := os.Symlink(it.target, staged); err != nil {
			return err
		}
		r.plan.Steps = append(r.plan.Steps, guard.Rename{From: staged, To: it.link})
	}
	return nil
}

// dropStaleIndex adds the index of an instance whose files are restored without it
// to what gives way: it would name files that are no longer there.
func (r *run) dropStaleIndex() error {
	dirs, err := r.staleIndex()
	for _, d := range dirs {
		r.plan.Steps = append(r.plan.Steps, guard.Rename{From: d, To: filepath.Join(r.indexAside(), filepath.Base(d))})
	}
	return err
}

// indexAside is where an index is kept that is not part of the restore.
func (r *run) indexAside() string {
	return filepath.Join(r.cfg.Layout.SearchDir, filepath.Base(filepath.Dir(r.groups[0].aside)), "search")
}

// staleIndex lists the index directories of the instance, when they are not
// restored with the files.
func (r *run) staleIndex() ([]string, error) {
	l := r.cfg.Layout
	restored := slices.ContainsFunc(r.items, func(it *item) bool { return it.Has(opencloud.Search) })
	if r.reindexWhy == "" || restored || l.SearchExternal || l.SearchDir == "" {
		return nil, nil
	}
	return index.Dirs(l.SearchDir)
}

// journal is what is written down before the stop.
func (r *run) journal() guard.Journal {
	j := guard.Journal{
		Kind: guard.Restore, Instance: r.cfg.Name, Set: r.set.ID, PID: os.Getpid(),
		Written: time.Now(), WasRunning: r.running(), Also: r.before.Also, Exchange: r.exchanged,
	}
	if !r.KeepStaging {
		j.Staging = r.stages
	}
	if r.held != nil {
		j.Hold, j.Again = r.held.Hold, r.held.Again
	}
	return j
}

// write writes the journal with all that bringing the instance back needs.
func (r *run) write(j guard.Journal) error {
	server, err := json.Marshal(r.server())
	if err != nil {
		return err
	}
	j.Server = server
	r.journaled = true
	return fail.Wrap(fail.Failed, guard.Write(r.stateDir(), j), "write the journal", "check the state directory ("+r.stateDir()+")")
}

// arm writes down what is about to be done and starts the guard, which undoes it if
// this process dies.
func (r *run) arm(j guard.Journal) (*guard.Guard, error) {
	if err := r.write(j); err != nil {
		return nil, err
	}
	err := fault.Point("restore.journaled")
	var g *guard.Guard
	if err == nil {
		if g, err = guard.Arm(r.stateDir()); err == nil {
			return g, nil
		}
		err = fail.Wrap(fail.Failed, err, "start the guard process", "")
	}
	return nil, errors.Join(err, r.forget())
}

// forget takes the journal back: nothing was done, or all of it was undone. That of
// an earlier restore in place stays.
func (r *run) forget() error {
	r.journaled = false
	if r.held != nil {
		return guard.Write(r.stateDir(), *r.held)
	}
	return guard.Clear(r.stateDir())
}

// exchange stops the instance, proves that it is stopped, and puts the new data in
// the place of the old.
func (r *run) exchange(ctx context.Context, step progress.Step) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := r.stop(ctx, step); err != nil {
		return err
	}
	if err := fault.Point("restore.stopped"); err != nil {
		return err
	}
	step.Update("putting the restored data in its place")
	for i := range r.plan.Steps {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := guard.Swap(r.plan.Steps[i : i+1]); err != nil {
			return fail.Wrap(fail.Failed, err, "put the restored data in its place", "")
		}
		if err := fault.Point("restore.swapped-one"); err != nil {
			return err
		}
	}
	for _, s := range r.plan.Stay {
		if err := r.fresh[s.Path].Apply(s.Path); err != nil {
			return fail.Wrap(fail.Failed, err, "restore owner and attributes of "+s.Path, "")
		}
	}
	if err := fault.Point("restore.swapped"); err != nil {
		return err
	}
	if err := r.proveStopped(ctx); err != nil {
		return err // somebody started it in between: what it has open is the old data
	}
	return r.commit(ctx)
}

// stop stops the instance and makes sure that it is.
func (r *run) stop(ctx context.Context, step progress.Step) error {
	if r.before.State == control.Running {
		step.Update("stopping " + r.ctl.String())
		r.stopped = true
		var killed *control.KilledError
		if err := r.ctl.Stop(ctx); errors.As(err, &killed) {
			r.note(err.Error() + "; the old data is kept as it was then") // stopped it is
		} else if err != nil {
			return fail.Wrap(fail.Failed, err, "stop OpenCloud", "raise stop_timeout in [control], or look why it does not stop")
		}
	}
	return r.proveStopped(ctx)
}

func (r *run) proveStopped(ctx context.Context) error {
	if r.before.State != control.Absent {
		st, err := r.ctl.Status(ctx)
		if err != nil {
			return fail.Wrap(fail.Failed, err, "ask whether OpenCloud is stopped", "")
		}
		if st.State == control.Running || st.State == control.Changing {
			return fail.New(fail.Failed, fmt.Sprintf("somebody started OpenCloud while it was being restored (%s is %s)", r.ctl, st.Detail),
				"find out what started it: a restart policy, a watchdog, a person")
		}
	}
	return fail.Wrap(fail.Failed, opencloud.LocksFree(r.cfg.Layout.LockFiles()),
		"a server is at work on the data although "+r.ctl.String()+" is not running",
		"stop it, or correct [control] in the configuration")
}

// commit makes the exchange final: what is started from now on is the new data.
func (r *run) commit(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := r.markReindex(); err != nil {
		return err
	}
	if err := r.saveUndo(); err != nil {
		return fail.Wrap(fail.Failed, err, "write down how to undo the restore", "check the state directory ("+r.stateDir()+")")
	}
	j := r.journal()
	j.Exchange, j.Hold, j.Again = nil, "", ""
	j.WasRunning = !r.noStart() && r.before.State != control.Absent
	if err := r.write(j); err != nil {
		return err
	}
	r.committed()
	if r.res.Aside = r.asides(); len(r.res.Aside) > 0 {
		if r.undoable {
			r.res.Undo = r.command("restore", "--undo")
		}
		r.res.Delete = recovery.RemoveCommand(r.res.Aside)
	}
	return nil
}

// committed notes that the restored data is in place for good. From now on the
// commands that people are told need the configuration.
func (r *run) committed() {
	r.done, r.held = true, nil
	if err := r.writeConfig(); err != nil {
		r.note("The configuration could not be written to " + r.ConfigPath + ": " + err.Error())
	}
}

// asides lists the directories that hold the old data.
func (r *run) asides() []string {
	var out []string
	for _, s := range r.plan.Steps {
		if !r.isAside(s.To) {
			continue
		}
		if dir := asideOf(s.To); !slices.Contains(out, dir) {
			out = append(out, dir)
		}
	}
	return out
}

// markReindex has it on disk, before the server is started, that its search index
// must be built again.
func (r *run) markReindex() error {
	if r.reindexWhy == "" {
		return nil
	}
	err := index.MarkRequired(r.stateDir(), index.Marker{Set: r.set.ID, Reason: r.reindexState, Detail: r.reindexWhy, Since: time.Now().UTC()})
	return fail.Wrap(fail.Failed, err, "mark the search index", "check the state directory ("+r.stateDir()+")")
}
