package backup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/dustin/go-humanize/english"
	"golang.org/x/sys/unix"

	"github.com/ocbackup/ocbackup/census"
	"github.com/ocbackup/ocbackup/config/discover"
	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/manifest"
	"github.com/ocbackup/ocbackup/opencloud"
	"github.com/ocbackup/ocbackup/opencloud/control"
	"github.com/ocbackup/ocbackup/opencloud/readiness"
	"github.com/ocbackup/ocbackup/proc"
	"github.com/ocbackup/ocbackup/progress"
	"github.com/ocbackup/ocbackup/repo"
	"github.com/ocbackup/ocbackup/snapshot"
)

// root is a root on its way into the repository.
type root struct {
	opencloud.Root
	real    string      // Path with symbolic links resolved
	info    os.FileInfo // of real
	dir     bool        // a directory, not a file
	absent  bool        // optional, and not there
	command []string    // an extra that is a command's output, not a path
	parent  string      // the snapshot to compare with

	driver   snapshot.Driver // that freezes it; empty or None: none
	unfrozen string          // why not
	view     string          // where its frozen tree can be read; empty: it is not frozen

	counted *census.Known  // as the hot pass, or the store step, found it
	changes census.Changes // since the last set, as of the hot pass
	files   uint64         // as many
	seed    *repo.Summary  // of what the hot pass stored, if that was all
	took    time.Duration  // to store it
	sum     *census.Sum
}

// hotRoot tells whether the root is stored while the instance runs: a binary on
// disk does not change with it.
func (x *root) hotRoot() bool { return x.Has(opencloud.Binary) }

// onDisk tells whether the root is a tree or file that the instance works on.
func (x *root) onDisk() bool { return x.real != "" && !x.hotRoot() }

// freezes tells whether the root is read from a snapshot of its file system.
func (x *root) freezes() bool { return x.driver != "" && x.driver != snapshot.None }

// trusted tells whether the snapshot of a root is one by construction. What the admin's
// commands show may be anything, and is compared with the stopped tree.
func (x *root) trusted() bool { return x.driver != snapshot.Command }

// at is where the root is read.
func (x *root) at() string {
	if x.view != "" {
		return x.view
	}
	return x.real
}

// history is what the repository holds of an instance.
type history struct {
	sets      []string // ids of the committed sets, oldest first
	snapshots []repo.Snapshot
}

// prepare makes sure of everything that could fail later. Nothing is stopped
// before all of it holds.
func (r *run) prepare(ctx context.Context, step progress.Step) (string, error) {
	step.Update("reading the repository")
	var err error
	if r.restic, err = r.Repo.Prepare(ctx); err != nil {
		return "", r.Repo.Failure(err, "run restic")
	}
	if err := r.lookBack(ctx); err != nil {
		return "", err
	}
	step.Update("looking at the instance")
	if r.ctl, err = control.New(r.Config.Control); err != nil {
		return "", fail.Wrap(fail.Usage, err, "", "correct [control] in the configuration")
	}
	if r.before, err = r.ctl.Status(ctx); err != nil {
		return "", fail.Wrap(fail.Failed, err, "ask for the state of "+r.ctl.String(), "see \"ocbackup doctor\"")
	}
	if err := r.checkDrift(ctx); err != nil {
		return "", err
	}
	if err := r.findRoots(); err != nil {
		return "", err
	}
	if err := r.checkAttributes(); err != nil {
		return "", err
	}
	if err := errors.Join(r.checkRoom(), r.checkProofRoom()); err != nil {
		return "", err
	}
	if err := r.findFreezing(ctx); err != nil {
		return "", err
	}
	if err := r.findBucket(ctx, step); err != nil {
		return "", err
	}
	if err := r.checkState(ctx, step); err != nil {
		return "", err
	}
	r.notes = slices.Clone(r.Config.NotProtected)
	return fmt.Sprintf("repository %s (%s), restic %s, %s %s, freeze: %s",
		r.Repo.Location(), english.Plural(len(r.history.sets), "set", ""), r.restic, r.ctl, r.before.State, r.freezing()), nil
}

// readyWithin is how long a running instance may take to prove that it is ready
// before the stop: it may just have been started.
const readyWithin = 30 * time.Second

// checkState sees that the instance is in a state in which a backup can be begun,
// and, when it runs, that it can be told afterwards whether it is back.
func (r *run) checkState(ctx context.Context, step progress.Step) error {
	switch {
	case r.before.State == control.Changing:
		return fail.New(fail.Failed, fmt.Sprintf("%s is starting or stopping right now (%s)", r.ctl, r.before.Detail),
			"wait until it has settled, or look why it does not: a backup must know whether OpenCloud runs")
	case !r.running() && len(r.before.Also) > 0:
		return fail.New(fail.Failed, fmt.Sprintf("%s is stopped, but %s, which work on the same data, are running", r.ctl, strings.Join(r.before.Also, ", ")),
			"start OpenCloud, or stop them too")
	case !r.running():
		return nil
	}
	step.Update("is OpenCloud ready?")
	ready := r.Config.Ready
	ready.Timeout = min(ready.Timeout, readyWithin)
	err := readiness.Wait(ctx, ready, r.Config.Layout, func(ctx context.Context) (int, error) {
		st, err := r.ctl.Status(ctx)
		return st.PID, err
	}, nil)
	return fail.Wrap(fail.CodeOf(err), err, "OpenCloud is running, but can't be used, so it could not be told whether it is back after the backup",
		"correct [ready] in the configuration (\"ocbackup doctor\" tells more), or mend OpenCloud, or stop it: a stopped one can be backed up")
}

// recentSets is how many of the last sets are looked at for what a run may take.
const recentSets = 5

// lookBack reads what the repository holds of this instance.
func (r *run) lookBack(ctx context.Context) error {
	snaps, err := r.Repo.Snapshots(ctx)
	var damaged *repo.DamagedSnapshotsError
	if errors.As(err, &damaged) {
		r.warn("the repository is damaged, see \"ocbackup verify\": " + err.Error()) // no reason to make no new set
	} else if err != nil {
		return r.Repo.Failure(err, "read the repository")
	}
	r.history = look(snaps)
	for _, id := range slices.Backward(r.history.sets) {
		m, err := r.manifestOf(ctx, id)
		if err != nil || m == nil {
			return err
		}
		if r.last == nil {
			r.last = m
		}
		if len(r.sets) >= recentSets && (!r.wantsBucket() || r.lastBucket() != nil) {
			break
		}
	}
	return nil
}

// manifestOf reads the manifest of a committed set and keeps the set. One that can't
// be read, nil, only spares work that was done before.
func (r *run) manifestOf(ctx context.Context, id string) (*manifest.Manifest, error) {
	var its []repo.Snapshot
	for _, s := range r.history.snapshots {
		if s.HasTag(manifest.SetTag(id)) {
			its = append(its, s)
		}
	}
	sets, err := manifest.FromSnapshots(ctx, r.Repo, its, r.cacheDir())
	switch {
	case context.Cause(ctx) != nil:
		return nil, context.Cause(ctx)
	case err != nil:
		r.warn("the manifest of set " + id + " could not be read: " + err.Error())
		return nil, nil
	case len(sets) == 0 || sets[0].Manifest == nil:
		return nil, nil
	}
	r.sets = slices.Insert(r.sets, 0, sets[0])
	return sets[0].Manifest, nil
}

// look sorts snapshots into a history.
func look(snaps []repo.Snapshot) history {
	h := history{snapshots: snaps}
	for _, s := range snaps {
		if id := manifest.SetOf(s); id != "" && s.HasTag(manifest.Tag) {
			h.sets = append(h.sets, id)
		}
	}
	slices.Sort(h.sets)
	return h
}

// parent returns the newest snapshot of a root, committed or not: what a run that
// failed has stored need not be read again.
func (h history) parent(root string) string {
	for _, s := range slices.Backward(h.snapshots) {
		if s.HasTag(manifest.RootTag(root)) {
			return s.ID
		}
	}
	return ""
}

// leftovers returns the snapshots that no set needs: those of sets that were never
// committed.
func (h history) leftovers() []string {
	var ids []string
	for _, s := range h.snapshots {
		if id := manifest.SetOf(s); id != "" && !slices.Contains(h.sets, id) {
			ids = append(ids, s.ID)
		}
	}
	return ids
}

// checkDrift compares the configuration with the instance as it is deployed now: a
// data directory that was moved since would be missing in the set.
func (r *run) checkDrift(ctx context.Context) error {
	found, err := discover.Again(ctx, r.Config)
	if err != nil {
		r.warn("the deployment could not be compared with the configuration: " + err.Error())
		return nil
	}
	if found == nil {
		return nil // nothing to compare with: commands of the admin's
	}
	if diff := discover.Drift(r.Config, found.Config); len(diff) > 0 {
		return fail.New(fail.Usage, "the instance is not where the configuration says:\n"+strings.Join(diff, "\n"),
			"correct "+r.Config.Path+", or write it anew with \"ocbackup init --force\"")
	}
	return nil
}

// findRoots makes the list of what is to be stored, and looks at each.
func (r *run) findRoots() error {
	l := r.Config.Layout
	for _, x := range l.Roots() {
		r.add(&root{Root: x})
	}
	for _, e := range r.Config.Extra {
		r.add(&root{
			Root:    opencloud.Root{Name: "extra-" + e.Name, Components: []opencloud.Component{opencloud.Extra}, Path: e.Path},
			command: e.Command,
		})
	}
	if len(r.roots) == 0 && !r.wantsBucket() {
		return fail.Usagef("see --component in \"ocbackup backup --help\"", "nothing to back up: no root of the instance belongs to the chosen components")
	}
	var missing []string
	for _, x := range r.roots {
		if err := x.look(); err != nil {
			missing = append(missing, err.Error())
		}
	}
	if l.Driver == opencloud.Decomposed && r.wants(opencloud.Blobs) && opencloud.BlobsElsewhere(l.UsersRoot) {
		missing = append(missing, "the metadata in "+l.UsersRoot+" name contents of files, and there are none: is the storage driver decomposeds3?")
	}
	if err := l.HasConfig(); r.wants(opencloud.Config) && err != nil {
		missing = append(missing, err.Error()) // a set without them could not be restored
	}
	if len(missing) > 0 {
		return fail.New(fail.Usage, strings.Join(missing, "\n"),
			"mount what is missing, or correct [layout] in "+r.Config.Path+"; if the data are lost: ocbackup restore")
	}
	return nil
}

// add takes a root in if the run wants it.
func (r *run) add(x *root) {
	if !slices.ContainsFunc(x.Components, r.wants) {
		return
	}
	x.parent = r.history.parent(x.Name)
	r.roots = append(r.roots, x)
}

// wants tells whether a component is part of the run.
func (r *run) wants(c opencloud.Component) bool {
	if slices.Contains(r.Config.Backup.Skip, c) {
		return false
	}
	return len(r.Components) == 0 || slices.Contains(r.Components, c)
}

// look resolves a root's path and sees whether it can be stored.
func (x *root) look() error {
	if len(x.command) > 0 {
		if err := proc.Find(x.command[0]); err != nil {
			return fmt.Errorf("root %s: %w", x.Name, err)
		}
		return nil
	}
	real, err := filepath.EvalSymlinks(x.Path)
	if errors.Is(err, fs.ErrNotExist) {
		if x.Optional {
			x.absent = true
			return nil
		}
		return fmt.Errorf("root %s: %s does not exist", x.Name, x.Path)
	}
	if err != nil {
		return fmt.Errorf("root %s: %w", x.Name, err)
	}
	st, err := os.Stat(real)
	if err != nil {
		return fmt.Errorf("root %s: %w", x.Name, err)
	}
	x.real, x.info, x.dir = real, st, st.IsDir()
	if x.Has(opencloud.Metadata) && x.Has(opencloud.Blobs) {
		if err := opencloud.XattrSupport(real); err != nil {
			return fmt.Errorf("root %s: %w", x.Name, err)
		}
	}
	_, err = x.spec()
	return err
}

// leastRoom is what must be free for OpenCloud to start: it writes a few files then.
const leastRoom = 8 << 20

// checkRoom sees that a running instance can be started again: on a full disk it can't.
func (r *run) checkRoom() error {
	for _, x := range r.roots {
		if !r.running() || !x.onDisk() || !x.Has(opencloud.System) && !x.Has(opencloud.Search) {
			continue
		}
		var st unix.Statfs_t
		if err := unix.Statfs(x.real, &st); err != nil || st.Flags&unix.ST_RDONLY != 0 {
			continue // it says nothing
		}
		if free := st.Bavail * uint64(st.Bsize); free < leastRoom {
			return fail.New(fail.Failed, fmt.Sprintf("the file system of root %s (%s) is full: %s are free, and OpenCloud might not start again", x.Name, x.Path, humanize.IBytes(free)),
				"make room; or stop OpenCloud yourself: a stopped one can be backed up")
		}
	}
	return nil
}

// checkProofRoom sees that the state directory has room for the step prove: for the catalog,
// and for what it is made of.
func (r *run) checkProofRoom() error {
	if r.last == nil || r.last.Catalog == nil {
		return nil // nothing to go by
	}
	var st unix.Statfs_t
	if unix.Statfs(r.Config.StateDir, &st) != nil {
		return nil // it says nothing
	}
	need := 4*r.last.Catalog.Size + 1<<20
	if free := st.Bavail * uint64(st.Bsize); free < need {
		return fail.New(fail.Failed, fmt.Sprintf("the file system of the state directory %s is full: the list of all nodes takes about %s there, and %s are free", r.Config.StateDir, humanize.IBytes(need), humanize.IBytes(free)),
			"make room, or have another directory: state_dir in the configuration")
	}
	return nil
}

// checkAttributes sees that the metadata which the posix driver keeps in extended
// attributes are there: a storage that was copied without them can't be restored.
func (r *run) checkAttributes() error {
	for _, x := range r.roots {
		if x.real == "" || !x.Has(opencloud.Metadata) || !x.Has(opencloud.Blobs) {
			continue
		}
		ok, err := opencloud.HasXattrs(x.real, x.Filter())
		if err != nil {
			return fail.Wrap(fail.Incomplete, err, "look at root "+x.Name, "")
		}
		if !ok {
			return fail.New(fail.Incomplete,
				fmt.Sprintf("root %s (%s): no file carries extended attributes, so OpenCloud's metadata are lost or this is not its storage", x.Name, x.Path),
				"check users_root in [layout], and that the storage was not copied without its attributes")
		}
	}
	return nil
}

// full tells whether an instance can be restored from the set.
func (r *run) full() bool {
	for _, c := range []opencloud.Component{opencloud.Config, opencloud.System, opencloud.Metadata, opencloud.Blobs} {
		if !r.wants(c) {
			return false
		}
	}
	return true
}

// components lists what the set holds.
func (r *run) components() []opencloud.Component {
	var out []opencloud.Component
	for _, c := range append(slices.Clone(opencloud.Components), opencloud.Extra) {
		has := slices.ContainsFunc(r.roots, func(x *root) bool { return x.Has(c) && !x.absent })
		if has || c == opencloud.Binary && r.image != nil || c == opencloud.Blobs && r.mirror != nil {
			out = append(out, c)
		}
	}
	return out
}

func (r *run) cacheDir() string { return filepath.Join(r.Config.StateDir, "cache") }

func (r *run) warn(text string) {
	r.warnings = append(r.warnings, text)
	r.Report.Note("Warning: " + text)
}
