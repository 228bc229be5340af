package backup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ocbackup/ocbackup/config"
	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/fault"
	"github.com/ocbackup/ocbackup/manifest"
	"github.com/ocbackup/ocbackup/paths"
	"github.com/ocbackup/ocbackup/progress"
	"github.com/ocbackup/ocbackup/repo"
	"github.com/ocbackup/ocbackup/snapshot"
)

// patience is how long anything with snapshots may take that does not read them: storage
// may hang, and a run that hangs with it would hold the lock for ever.
const patience = 2 * time.Minute

// patient is a context for that.
func patient(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, patience, fmt.Errorf("the storage did not answer within %s", patience))
}

// findFreezing finds out which roots can be read from snapshots of their file systems.
func (r *run) findFreezing(ctx context.Context) error {
	req := snapshot.Request{Config: r.Config.Snapshot, Instance: r.Config.Name, Set: r.set, StateDir: r.Config.StateDir}
	for _, x := range r.roots {
		if x.onDisk() {
			req.Roots = append(req.Roots, config.SnapshotRoot(x.Root, x.real))
		}
	}
	ctx, cancel := patient(ctx)
	defer cancel()
	var err error
	if r.plan, err = snapshot.Find(ctx, req); err != nil {
		return err
	}
	r.takeDrivers()
	for _, x := range r.roots {
		if was := snapshot.Driver(r.lastRoot(x).Taken); x.onDisk() && !x.freezes() && madeBy(was) {
			r.warn(fmt.Sprintf("root %s was read from a snapshot (%s) the last time, and is now read while OpenCloud is stopped: %s", x.Name, was, x.unfrozen))
		}
	}
	return nil
}

// madeBy tells whether a way of taking a root is a driver's.
func madeBy(d snapshot.Driver) bool {
	return slices.Contains([]snapshot.Driver{snapshot.Btrfs, snapshot.ZFS, snapshot.LVM, snapshot.Command}, d)
}

// lastRoot is what the last set holds of a root; nothing where there is none.
func (r *run) lastRoot(x *root) manifest.Root {
	if r.last != nil {
		for _, old := range r.last.Roots {
			if old.Name == x.Name {
				return old
			}
		}
	}
	return manifest.Root{}
}

// takeDrivers takes over how the roots will be frozen.
func (r *run) takeDrivers() {
	for _, x := range r.roots {
		if x.onDisk() {
			x.driver, x.unfrozen = r.plan.How(x.Name)
		}
	}
}

// freezable lists the roots that are read from snapshots.
func (r *run) freezable() []*root {
	var out []*root
	for _, x := range r.roots {
		if x.freezes() {
			out = append(out, x)
		}
	}
	return out
}

// freezing names the drivers that the run uses.
func (r *run) freezing() string {
	var names []string
	for _, x := range r.freezable() {
		if d := string(x.driver); !slices.Contains(names, d) {
			names = append(names, d)
		}
	}
	if len(names) == 0 {
		return string(snapshot.None)
	}
	return strings.Join(names, ", ")
}

// tryFreezing removes what earlier runs have left, and makes all snapshots once while
// the instance runs: whatever keeps them from being made shows before it is stopped.
func (r *run) tryFreezing(ctx context.Context, step progress.Step) error {
	step.Update("removing left-over snapshots")
	sweep := snapshot.SweepOptions{Instance: r.Config.Name, StateDir: r.Config.StateDir}
	for _, x := range r.roots {
		if x.onDisk() {
			sweep.Near = append(sweep.Near, x.real)
		}
	}
	sweeping, cancel := patient(ctx)
	removed, err := snapshot.Sweep(sweeping, sweep)
	cancel()
	for _, s := range removed {
		r.Report.Note("Removed: " + s)
	}
	if err != nil {
		r.warn("left-over snapshots could not be removed: " + err.Error())
	}
	if r.plan.Empty() {
		return nil
	}
	step.Update("trying whether snapshots can be made")
	if err := r.plan.Rehearse(ctx); err != nil {
		return fail.Wrap(fail.CodeOf(err), err, "make snapshots (a trial, with OpenCloud running)", "mend it, or set driver in [snapshot] to \"auto\" or \"none\"")
	}
	could := r.freezable()
	r.takeDrivers()
	for _, x := range could {
		if !x.freezes() {
			r.warn("root " + x.Name + " is read while OpenCloud is stopped, since no snapshot could be made: " + x.unfrozen)
		}
	}
	return nil
}

// freeze takes the snapshots, with the instance stopped.
func (r *run) freeze(ctx context.Context, step progress.Step) error {
	if r.plan.Empty() {
		return nil
	}
	step.Update("making snapshots (" + r.freezing() + ")")
	began := time.Now()
	err := r.plan.Freeze(ctx)
	r.down.Freeze = time.Since(began).Seconds()
	if err != nil && ctx.Err() != nil {
		return err
	}
	if err != nil {
		return fail.Wrap(fail.CodeOf(err), err, "make snapshots", "see \"ocbackup doctor\"; or set driver in [snapshot] to \"none\"")
	}
	return fault.Point("cold.frozen")
}

// storeFrozen stores from the snapshots, with the instance at work again.
func (r *run) storeFrozen(ctx context.Context, step progress.Step) (string, error) {
	frozen := r.freezable()
	if len(frozen) == 0 {
		return "", nil
	}
	step.Update("opening the snapshots")
	opening, cancel := patient(ctx)
	defer cancel()
	if err := r.plan.Open(opening); err != nil {
		return "", fail.Wrap(fail.CodeOf(err), err, "read the snapshots", "")
	}
	r.counted = 0
	for _, x := range frozen {
		x.view = r.plan.View(x.Name)
		r.counted += r.lastRoot(x).Bytes
	}
	if err := fault.Point("store.opened"); err != nil {
		return "", err
	}
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return r.readFrozen(gctx, step, frozen) })
	if r.bucketLater() {
		g.Go(func() error { return r.copyAfter(gctx, step) })
	}
	if err := g.Wait(); err != nil {
		return "", err
	}
	var files, bytes, added uint64
	for _, x := range frozen {
		s := r.pushed[x.Name]
		files, bytes, added = files+s.files, bytes+s.bytes, added+s.added
	}
	summary := sizes(files, bytes, added)
	if r.bucketLater() {
		summary += fmt.Sprintf(", %s in the bucket", newObjects(r.mirror.cold))
	}
	return summary, fault.Point("store.end")
}

// readFrozen stores and counts the frozen roots, and has an eye on their snapshots.
func (r *run) readFrozen(ctx context.Context, step progress.Step, frozen []*root) error {
	reading, callOff := context.WithCancelCause(ctx)
	defer callOff(nil)
	lost := make(chan error, 1)
	go func() {
		err := r.plan.Watch(reading)
		callOff(err)
		lost <- err
	}()
	g, gctx := errgroup.WithContext(reading)
	g.Go(func() error { return r.storeRoots(gctx, step, frozen) })
	g.Go(func() error { return r.countFrozen(gctx, frozen) })
	if r.searchFreezes() {
		r.judgeIndex(gctx)
	}
	err := g.Wait()
	callOff(nil)
	gone := <-lost
	if gone == nil && context.Cause(ctx) == nil {
		gone = r.snapshotLost(ctx) // also if all went well: what is deleted can be read for a while, and be anything
	} else if gone != nil {
		gone = fail.Wrap(fail.Incomplete, gone, "read what was frozen", "")
	}
	if gone != nil {
		return gone
	}
	if err != nil {
		return err
	}
	return r.compareCounts()
}

// countFrozen takes the census of the frozen roots.
func (r *run) countFrozen(ctx context.Context, frozen []*root) error {
	for _, x := range frozen {
		res, err := r.countRoot(ctx, x)
		var bad *repo.IncompleteError
		if errors.As(err, &bad) {
			return r.Repo.Failure(bad, "count "+x.Name)
		}
		if err != nil {
			return err
		}
		if x.sum != nil {
			if diff := x.sum.Diff(res.Sum); len(diff) > 0 {
				return fail.New(fail.Incomplete, fmt.Sprintf("the snapshot of root %s (%s) is not what was there when OpenCloud was stopped: %s", x.Name, x.Path, strings.Join(diff, "; ")),
					"correct the commands of [snapshot]: the snapshot must be made when create is called, and keep owners, times and extended attributes")
			}
		}
		if x.dir {
			x.sum = &res.Sum
		}
	}
	return nil
}

// live is the path that something in the view of a frozen root has in the instance.
func (x *root) live(path string) string {
	if x.view == "" {
		return path
	}
	if rel, ok := paths.Below(x.view, path); ok {
		return filepath.Join(x.real, rel)
	}
	return path
}

// thaw removes the snapshots, or keeps them for a while. It says what it did.
func (r *run) thaw(ctx context.Context, keep time.Duration) string {
	if r.plan == nil || r.thawed {
		return ""
	}
	r.thawed = true
	ctx, cancel := patient(context.WithoutCancel(ctx))
	defer cancel()
	did, err := "", error(nil)
	if until := r.frozen.Add(keep); keep > 0 && !r.plan.Empty() {
		did, err = "snapshots kept until "+until.Local().Format(time.DateTime), r.plan.Keep(ctx, until)
		if err == nil {
			r.kept = until
		}
	} else {
		did, err = "snapshots removed", r.plan.Release(ctx)
	}
	switch {
	case err != nil:
		r.warn("snapshots could not be removed, or kept; the next run tries it again: " + err.Error())
		return ""
	case r.plan.Empty():
		return ""
	}
	return did
}

// samePlaces sees that stopping the instance has not taken a root away: a volume that
// is mounted for the container only, say.
func (r *run) samePlaces() error {
	for _, x := range r.roots {
		if !x.onDisk() || !x.dir {
			continue
		}
		now, err := os.Stat(x.real)
		if err == nil && os.SameFile(x.info, now) {
			continue
		}
		if err == nil {
			err = errors.New("another directory is there now")
		}
		return fail.Wrap(fail.Incomplete, err, "root "+x.Name+" ("+x.Path+") is not what it was while OpenCloud ran",
			"is it mounted for as long as OpenCloud runs only? mount it on the host for good")
	}
	return nil
}
