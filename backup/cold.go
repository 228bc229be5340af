package backup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/fault"
	"github.com/ocbackup/ocbackup/guard"
	"github.com/ocbackup/ocbackup/opencloud"
	"github.com/ocbackup/ocbackup/opencloud/control"
	"github.com/ocbackup/ocbackup/opencloud/index"
	"github.com/ocbackup/ocbackup/progress"
	"github.com/ocbackup/ocbackup/recovery"
	"github.com/ocbackup/ocbackup/repo"
)

// watchEvery is how often the instance is looked at while it must be stopped.
const watchEvery = 2 * time.Second

// cold is the window in which the instance is away. It is written so that there is
// one way out: through bringing back what was running.
func (r *run) cold(ctx context.Context, step progress.Step) (string, error) {
	step.Update("writing out caches")
	syncing, done := patient(ctx)
	r.plan.Sync(syncing) // so that the snapshots have less to write
	done()
	if !r.running() {
		if err := r.window(ctx, step); err != nil {
			return "", err
		}
		return "it was stopped before and stays stopped", nil
	}
	// The hot pass may have taken hours. What is brought back is what runs now.
	now, err := r.ctl.Status(ctx)
	if err != nil {
		return "", fail.Wrap(fail.Failed, err, "ask for the state of "+r.ctl.String(), "see \"ocbackup doctor\"")
	}
	if now.State != r.before.State {
		return "", fail.New(fail.Failed, fmt.Sprintf("%s was %s when the run began and is now %s", r.ctl, r.before.State, now.State), "run it again")
	}
	r.before = now
	g, err := r.arm()
	if err != nil {
		return "", err
	}
	asked := time.Now()
	err = r.window(ctx, step)
	if back := r.bringBack(ctx, step); back != nil {
		// The journal stays: the next run, the boot unit and "ocbackup recover" go on from it.
		return "", errors.Join(back, err, g.Disarm())
	}
	r.down.Total = time.Since(asked).Seconds()
	if err := errors.Join(err, guard.Clear(r.Config.StateDir)); err != nil {
		return "", errors.Join(err, g.Disarm())
	}
	if err := g.Disarm(); err != nil {
		r.warn("the guard process was gone before the end; OpenCloud is back all the same: " + err.Error())
	}
	return r.away(), fault.Point("cold.end")
}

// away says how long the instance was away, and what for.
func (r *run) away() string {
	d := r.down
	parts := []string{fmt.Sprintf("stopped %.1f s", d.Stop)}
	if !r.plan.Empty() {
		parts = append(parts, fmt.Sprintf("frozen %.1f s", d.Freeze))
	}
	if len(r.inWindow()) > 0 {
		parts = append(parts, fmt.Sprintf("stored %.1f s", d.Store))
	}
	if r.mirror != nil && !r.bucketLater() {
		parts = append(parts, fmt.Sprintf("bucket %.1f s (%s)", d.Bucket, newObjects(r.mirror.cold)))
	}
	return strings.Join(append(parts, fmt.Sprintf("started %.1f s, ready %.1f s, downtime %.1f s", d.Start, d.Ready, d.Total)), ", ")
}

// arm writes down what is about to be stopped and starts the guard, which brings
// it back if this process dies.
func (r *run) arm() (*guard.Guard, error) {
	server, err := json.Marshal(recovery.ServerOf(r.Config))
	if err != nil {
		return nil, err
	}
	j := guard.Journal{
		Kind: guard.Backup, Instance: r.Config.Name, Set: r.set, PID: os.Getpid(),
		Written: time.Now(), WasRunning: true, Also: r.before.Also, Server: server,
	}
	if d := r.Config.Backup.MaxDowntime; d > 0 {
		// Later than our own deadline by a stop that is seen through, and by all that
		// bringing back may take.
		stop, _ := r.Config.Control.Budget()
		j.Deadline = time.Now().Add(d + stop + r.backTimeout())
	}
	if err := guard.Write(r.Config.StateDir, j); err != nil {
		return nil, fail.Wrap(fail.Failed, err, "write the journal", "check the state directory (state_dir)")
	}
	if err := fault.Point("cold.journaled"); err != nil {
		return nil, errors.Join(err, guard.Clear(r.Config.StateDir))
	}
	g, err := guard.Arm(r.Config.StateDir)
	if err != nil {
		return nil, errors.Join(fail.Wrap(fail.Failed, err, "start the guard process", ""), guard.Clear(r.Config.StateDir))
	}
	return g, nil
}

// window stops the instance, proves that it is stopped, freezes or stores it, and
// proves that nobody started it in between.
func (r *run) window(ctx context.Context, step progress.Step) error {
	if d := r.Config.Backup.MaxDowntime; d > 0 && r.running() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, d, &fail.Error{
			Code: fail.Deadline, Err: fmt.Errorf("OpenCloud was stopped for longer than max_downtime (%s) allows", d),
			Hint: "raise max_downtime in [backup], or find out what took so long; what was stored before the stop need not be read again",
		})
		defer cancel()
	}
	err := r.stopAndTake(ctx, step)
	if cause := context.Cause(ctx); cause != nil && err != nil {
		return errors.Join(cause, err)
	}
	return err
}

func (r *run) stopAndTake(ctx context.Context, step progress.Step) error {
	if r.running() {
		at := time.Now()
		step.Update("stopping " + r.ctl.String())
		r.stopped = true
		if err := r.ctl.Stop(ctx); err != nil {
			return fail.Wrap(fail.Failed, err, "stop OpenCloud", "raise stop_timeout in [control], or look why it does not stop")
		}
		r.down.Stop = time.Since(at).Seconds()
	}
	r.proven = time.Now()
	if err := fault.Point("cold.stopped"); err != nil {
		return err
	}
	return unlessHung(ctx, giveUp, func() error { return r.take(ctx, step) })
}

// giveUp is how long what is done in the window may go on past its end. Children that do
// not end when told are killed meanwhile.
const giveUp = 20 * time.Second

// unlessHung returns what do returns. When the context has ended, and do does not return
// for so long after that, it hangs in the kernel, on a file system that is away, say:
// OpenCloud does not wait for it.
func unlessHung(ctx context.Context, patience time.Duration, do func() error) error {
	done := make(chan error, 1)
	go func() { done <- do() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	select {
	case err := <-done:
		return err
	case <-time.After(patience):
		return context.Cause(ctx)
	}
}

// take freezes and stores the stopped instance, and proves that nobody started it in
// between.
func (r *run) take(ctx context.Context, step progress.Step) error {
	after, err := r.proveStopped(ctx)
	if err != nil {
		return err
	}
	if err := r.samePlaces(); err != nil {
		return err
	}
	r.frozen = time.Now()
	if err := r.freeze(ctx, step); err != nil {
		return err
	}
	if err := r.finalPass(ctx, step); err != nil {
		return err
	}
	now, err := r.proveStopped(ctx)
	if err != nil {
		return err
	}
	if now.StartedSince(after) {
		return void(r.startedBy(ctx, now))
	}
	return r.compareCounts()
}

// inWindow lists the roots that are taken while the instance is stopped: those that
// can't be frozen, and what commands print.
func (r *run) inWindow() []*root {
	var out []*root
	for _, x := range r.roots {
		if !x.absent && !x.hotRoot() && !x.freezes() {
			out = append(out, x)
		}
	}
	return out
}

// finalPass takes, with the instance stopped, what can't be frozen, and the bucket.
func (r *run) finalPass(ctx context.Context, step progress.Step) error {
	roots := r.inWindow()
	if len(roots) > 0 || r.mirror != nil && !r.bucketLater() {
		step.Update("storing")
		began := time.Now()
		defer func() { r.down.Store = time.Since(began).Seconds() }()
	}
	storing, callOff := context.WithCancelCause(ctx)
	defer callOff(nil)
	g, gctx := errgroup.WithContext(storing)
	watched := make(chan struct{})
	go func() { defer close(watched); r.watch(gctx, callOff) }()
	var stored time.Time
	g.Go(func() error {
		defer func() { stored = time.Now() }()
		return r.storeRoots(gctx, step, roots)
	})
	g.Go(func() error { return r.copyDelta(gctx, step) })
	g.Go(func() error { return r.recount(gctx) })
	if !r.searchFreezes() {
		r.judgeIndex(gctx)
	}
	err := g.Wait()
	if m := r.mirror; m != nil && m.done.After(stored) { // never, when it is copied later
		r.down.BucketAlone = m.done.Sub(stored).Seconds()
	}
	callOff(nil)
	<-watched
	if cause := context.Cause(storing); errors.Is(cause, errStarted) {
		return void(cause)
	}
	if err != nil {
		return err
	}
	return fault.Point("cold.stored")
}

// errStarted says that the instance was started while it had to be stopped.
var errStarted = errors.New("somebody started OpenCloud while it was being backed up")

// startedBy is errStarted with what the manager says, and what else tells who it was.
func (r *run) startedBy(ctx context.Context, st control.Status) error {
	err := fmt.Errorf("%w (%s is %s)", errStarted, r.ctl, detail(st))
	if who := control.Starter(ctx, r.ctl, r.Config.Layout.LockFiles(), r.proven); who != "" {
		err = fmt.Errorf("%w\n%s", err, who)
	}
	return err
}

// void is the failure of a run in which the instance was started.
func void(cause error) error {
	return fail.Wrap(fail.Failed, cause, "the run is void", "find out what started it: a restart policy, a watchdog, a person")
}

// proveStopped makes sure that the instance is stopped: its manager says so, and
// nobody holds the locks that a running one holds.
func (r *run) proveStopped(ctx context.Context) (control.Status, error) {
	st, err := r.ctl.Status(ctx)
	if err != nil {
		return st, fail.Wrap(fail.Failed, err, "ask whether OpenCloud is stopped", "")
	}
	if up(st) {
		return st, void(r.startedBy(ctx, st))
	}
	if err := opencloud.LocksFree(r.Config.Layout.LockFiles()); err != nil {
		return st, fail.Wrap(fail.Failed, err, "OpenCloud is still at work on its data although "+r.ctl.String()+" is stopped",
			"a second server on the same data? stop it, or correct [control] in the configuration")
	}
	return st, nil
}

// up tells whether the instance, or anything else that works on its data, is not stopped.
func up(st control.Status) bool {
	return st.State == control.Running || st.State == control.Changing || len(st.Also) > 0
}

// detail is the manager's word for a state, with what else is running.
func detail(st control.Status) string {
	if len(st.Also) == 0 {
		return st.Detail
	}
	return st.Detail + "; running: " + strings.Join(st.Also, ", ")
}

// watch looks at the instance now and then and calls off the run as soon as
// somebody starts it.
func (r *run) watch(ctx context.Context, callOff context.CancelCauseFunc) {
	t := time.NewTicker(watchEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		st, err := r.ctl.Status(ctx)
		if err == nil && up(st) {
			callOff(r.startedBy(ctx, st))
			return
		}
	}
}

// recount brings the census of the hot pass up to the frozen moment, of the roots that are
// stored in the window and of those that commands have frozen. That of roots that were
// seeded is done before they are stored.
func (r *run) recount(ctx context.Context) error {
	for _, x := range r.roots {
		if !x.onDisk() || x.seed != nil || x.freezes() && x.trusted() {
			continue
		}
		if _, err := r.recountRoot(ctx, x); err != nil {
			return err
		}
	}
	return nil
}

// recountRoot takes the census of a root on the stopped tree: only what has changed
// since the hot pass is read again. It tells whether nothing has.
func (r *run) recountRoot(ctx context.Context, x *root) (same bool, err error) {
	res, err := x.counted.Recount(ctx, x.real, x.Filter(), 0)
	if err != nil {
		return false, fail.Wrap(fail.Incomplete, err, "count "+x.Name, "")
	}
	if x.dir {
		x.sum = &res.Sum
	}
	return res.Changes.Inodes == 0, nil
}

// compareCounts holds what restic says it stored against what is there.
func (r *run) compareCounts() error {
	for _, x := range r.roots {
		s, ok := r.pushed[x.Name]
		if !ok || x.sum == nil {
			continue
		}
		if s.files != x.sum.Regular {
			return r.Repo.Failure(&repo.IncompleteError{Items: []repo.Item{{
				Path: x.Path, Err: fmt.Sprintf("%d files are there, %d were stored", x.sum.Regular, s.files),
			}}}, "store "+x.Name)
		}
	}
	return nil
}

// searchFreezes tells whether the search index is read from a snapshot.
func (r *run) searchFreezes() bool {
	return slices.ContainsFunc(r.roots, func(x *root) bool { return x.Has(opencloud.Search) && x.freezes() })
}

// judgeIndex finds out in what state the search index is. It is judged on the stopped
// tree or in its snapshot: a running server holds its lock.
func (r *run) judgeIndex(ctx context.Context) {
	dir, live := r.Config.Layout.SearchDir, ""
	for _, x := range r.roots {
		if x.Has(opencloud.Search) && x.view != "" {
			dir, live = x.view, dir
		}
	}
	switch l := r.Config.Layout; {
	case l.SearchExternal:
		r.verdict = index.Verdict{State: index.External}
	case !r.wants(opencloud.Search):
		r.verdict = index.Verdict{State: index.Unknown}
	default:
		r.verdict = index.Judge(ctx, dir, false)
		if live != "" {
			r.verdict.Detail = strings.ReplaceAll(r.verdict.Detail, dir, live)
		}
	}
	if s := r.verdict.State; s == index.Damaged || s == index.Schema {
		r.warn("the search index is " + string(s) + " (" + r.verdict.Detail + "); a restore will build it again")
	}
}

// bringBack starts what was running and waits until it answers. Nothing but the
// time-outs of the configuration ends it: not a signal, not the deadline.
func (r *run) bringBack(ctx context.Context, step progress.Step) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.backTimeout())
	defer cancel()
	step.Update("starting OpenCloud")
	took, err := recovery.Start(ctx, recovery.ServerOf(r.Config), r.before.Also, step.Update)
	r.down.Start, r.down.Ready = took.Start.Seconds(), took.Ready.Seconds()
	if err != nil {
		return err
	}
	r.back = true
	return nil
}

// backTimeout is how long bringing back may take at the most.
func (r *run) backTimeout() time.Duration {
	_, start := r.Config.Control.Budget()
	return start + control.StartTries*r.Config.Ready.Timeout
}
