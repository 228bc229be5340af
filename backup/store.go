package backup

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

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

// storeRoots stores every root that was not stored hot, from the stopped tree.
func (r *run) storeRoots(ctx context.Context, step progress.Step) error {
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(storers)
	board := &board{step: step, total: r.counted}
	for _, x := range largestFirst(r.roots) {
		if x.absent || x.hotRoot() {
			continue
		}
		g.Go(func() error {
			onProgress := func(p repo.Progress) { board.set(x.Name, p) }
			if len(x.command) > 0 {
				return r.storeOutput(gctx, x, onProgress)
			}
			return r.store(gctx, x, r.tags(x.Root), onProgress)
		})
	}
	return g.Wait()
}

// store stores one root as one snapshot.
func (r *run) store(ctx context.Context, x *root, tags []string, onProgress func(repo.Progress)) error {
	spec, err := x.spec()
	if err != nil {
		return err
	}
	if len(spec.Targets) == 0 {
		x.absent = true // an included folder that does not exist yet: no blob was ever written
		return nil
	}
	spec.Tags, spec.Parent, spec.OnProgress, spec.NoScan = tags, x.parent, onProgress, true
	sum, err := r.Repo.Backup(ctx, spec)
	if err != nil {
		return r.Repo.Failure(err, fmt.Sprintf("store %s (%s)", x.Name, x.Path))
	}
	r.push(x.Name, sum)
	return nil
}

// storeOutput stores what a command of the admin's prints.
func (r *run) storeOutput(ctx context.Context, x *root, onProgress func(repo.Progress)) error {
	sum, err := r.Repo.BackupCommand(ctx, repo.CommandSpec{
		Command: x.command, Filename: x.Name, Tags: r.tags(x.Root), OnProgress: onProgress,
	})
	if err != nil {
		return r.Repo.Failure(err, fmt.Sprintf("store the output of %q ([[extra]] %s)", strings.Join(x.command, " "), x.Name))
	}
	r.push(x.Name, sum)
	return nil
}

// push remembers what came of storing a root.
func (r *run) push(name string, sum repo.Summary) {
	r.pushing.Lock()
	defer r.pushing.Unlock()
	r.pushed[name] = stored{sum.SnapshotID, sum.TotalFilesProcessed, sum.TotalBytesProcessed, sum.DataAddedPacked + r.seeded[name]}
}

// spec says how restic is to store the root: with the working directory at its
// parent and relative names, so that the same tree finds its parent wherever it is
// read from.
func (x *root) spec() (repo.BackupSpec, error) {
	s := repo.BackupSpec{Dir: filepath.Dir(x.real)}
	base := filepath.Base(x.real)
	if x.real == "/" {
		base = "."
	}
	for _, g := range x.Exclude {
		s.Exclude = append(s.Exclude, filepath.Join(opencloud.Glob(x.real), g))
	}
	if len(x.Include) == 0 {
		s.Targets = []string{base}
		return s, nil
	}
	for _, g := range x.Include {
		found, err := filepath.Glob(filepath.Join(opencloud.Glob(x.real), g))
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
	b.step.Update("storing " + root + ", " + soFar(all))
}

func soFar(p repo.Progress) string {
	s := humanize.Comma(int64(p.FilesDone)) + " files, " + humanize.IBytes(p.BytesDone)
	if p.BytesTotal > p.BytesDone {
		s += " of " + humanize.IBytes(p.BytesTotal)
	}
	return s
}
