package backup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/dustin/go-humanize"
	"golang.org/x/sync/errgroup"

	"github.com/ocbackup/ocbackup/manifest"
	"github.com/ocbackup/ocbackup/opencloud"
	"github.com/ocbackup/ocbackup/progress"
	"github.com/ocbackup/ocbackup/repo"
)

// storers is how many roots are stored at a time: the small ones beside the large
// one, since each restic spends its first second deriving the key.
const storers = 2

// storeRoots stores roots, from the stopped tree or from their snapshots.
func (r *run) storeRoots(ctx context.Context, step progress.Step, roots []*root) error {
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(storers)
	board := &board{step: step, doing: "storing", total: r.counted}
	for _, x := range largestFirst(roots) {
		g.Go(func() error {
			onProgress := func(p repo.Progress) { board.set(x.Name, p) }
			switch {
			case len(x.command) > 0:
				return r.storeOutput(gctx, x, onProgress)
			case x.seed != nil:
				return r.storeSeeded(gctx, x, onProgress)
			}
			return r.store(gctx, x, onProgress)
		})
	}
	return g.Wait()
}

// storeSeeded stores a root that was stored before the stop, unless that holds: its
// census tells whether anything has changed since.
func (r *run) storeSeeded(ctx context.Context, x *root, onProgress func(repo.Progress)) error {
	same, err := r.recountRoot(ctx, x)
	if err != nil {
		return err
	}
	if !same {
		return r.store(ctx, x, onProgress)
	}
	r.push(x.Name, *x.seed, manifest.TakenHot, x.took)
	return nil
}

// store stores one root as one snapshot.
func (r *run) store(ctx context.Context, x *root, onProgress func(repo.Progress)) error {
	began := time.Now()
	spec, err := x.spec()
	if err != nil {
		return err
	}
	if len(spec.Targets) == 0 {
		x.absent = true // an included folder that does not exist yet: no blob was ever written
		return nil
	}
	spec.Tags, spec.Parent, spec.OnProgress, spec.NoScan = r.tags(x.Root), x.parent, onProgress, true
	sum, err := r.Repo.Backup(ctx, spec)
	var bad *repo.IncompleteError
	if errors.As(err, &bad) {
		for i := range bad.Items {
			bad.Items[i].Path = x.live(bad.Items[i].Path)
		}
	}
	if err != nil {
		return r.Repo.Failure(err, fmt.Sprintf("store %s (%s)", x.Name, x.Path))
	}
	r.push(x.Name, sum, x.taken(), time.Since(began))
	return nil
}

// taken says how a root is read that is not taken from the hot pass.
func (x *root) taken() string {
	switch {
	case x.freezes():
		return string(x.driver)
	case x.hotRoot():
		return manifest.TakenLive
	}
	return manifest.TakenFinal
}

// storeOutput stores what a command of the admin's prints.
func (r *run) storeOutput(ctx context.Context, x *root, onProgress func(repo.Progress)) error {
	began := time.Now()
	sum, err := r.Repo.BackupCommand(ctx, repo.CommandSpec{
		Command: x.command, Filename: x.Name, Tags: r.tags(x.Root), OnProgress: onProgress,
	})
	if err != nil {
		return r.Repo.Failure(err, fmt.Sprintf("store the output of %q ([[extra]] %s)", strings.Join(x.command, " "), x.Name))
	}
	r.push(x.Name, sum, manifest.TakenFinal, time.Since(began))
	return nil
}

// push remembers what came of storing a root.
func (r *run) push(name string, sum repo.Summary, taken string, took time.Duration) {
	r.pushing.Lock()
	defer r.pushing.Unlock()
	added := sum.DataAddedPacked
	if taken != manifest.TakenHot {
		added += r.seeded[name]
	}
	r.pushed[name] = stored{
		snapshot: sum.SnapshotID, files: sum.TotalFilesProcessed, bytes: sum.TotalBytesProcessed, added: added, taken: taken, took: took,
	}
}

// spec says how restic is to store the root: with the working directory at its
// parent and relative names, so that the same tree finds its parent wherever it is
// read from.
func (x *root) spec() (repo.BackupSpec, error) {
	at := x.at()
	s := repo.BackupSpec{Dir: filepath.Dir(at)}
	base := filepath.Base(at)
	if at == "/" {
		base = "."
	}
	for _, g := range x.Exclude {
		s.Exclude = append(s.Exclude, filepath.Join(opencloud.Glob(at), g))
	}
	if len(x.Include) == 0 {
		s.Targets = []string{base}
		return s, nil
	}
	for _, g := range x.Include {
		found, err := filepath.Glob(filepath.Join(opencloud.Glob(at), g))
		if err != nil {
			return s, fmt.Errorf("root %s: %q: %w", x.Name, g, err)
		}
		if len(found) == 0 && opencloud.Glob(opencloud.Unglob(g)) == g {
			return s, fmt.Errorf("root %s: %w", x.Name,
				&os.PathError{Op: "find", Path: filepath.Join(x.real, opencloud.Unglob(g)), Err: os.ErrNotExist})
		}
		for _, f := range found {
			rel, err := filepath.Rel(s.Dir, f)
			if err != nil {
				return s, err
			}
			s.Targets = append(s.Targets, rel)
		}
	}
	return s, nil
}

// tags are what the snapshot of a root in a set carries.
func (r *run) tags(x opencloud.Root) []string {
	tags := []string{manifest.SetTag(r.set), manifest.RootTag(x.Name)}
	for _, c := range x.Components {
		tags = append(tags, string(c))
	}
	return tags
}

// largestFirst puts the roots that hold user data first.
func largestFirst(roots []*root) []*root {
	var big, small []*root
	for _, x := range roots {
		if x.Has(opencloud.Blobs) || x.Has(opencloud.Metadata) {
			big = append(big, x)
		} else {
			small = append(small, x)
		}
	}
	return append(big, small...)
}

// board adds up the progress of roots that are stored at the same time.
type board struct {
	mu    sync.Mutex
	step  progress.Step
	doing string
	total uint64 // bytes of all roots, as the hot pass counted them
	by    map[string]repo.Progress
}

func (b *board) set(root string, p repo.Progress) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.by == nil {
		b.by = map[string]repo.Progress{}
	}
	b.by[root] = p
	all := repo.Progress{BytesTotal: b.total}
	for _, p := range b.by {
		all.FilesDone += p.FilesDone
		all.BytesDone += p.BytesDone
	}
	b.step.Update(b.doing + " " + root + ", " + soFar(all))
}

func soFar(p repo.Progress) string {
	s := humanize.Comma(int64(p.FilesDone)) + " files, " + humanize.IBytes(p.BytesDone)
	if p.BytesTotal > p.BytesDone {
		s += " of " + humanize.IBytes(p.BytesTotal)
	}
	return s
}

// sizes sums up what was stored.
func sizes(files, bytes, added uint64) string {
	return fmt.Sprintf("%s in %s files (%s new)", humanize.IBytes(bytes), humanize.Comma(int64(files)), humanize.IBytes(added))
}
