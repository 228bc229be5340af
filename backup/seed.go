package backup

import (
	"context"
	"errors"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ocbackup/ocbackup/progress"
	"github.com/ocbackup/ocbackup/repo"
)

// seedBytes is how much of a root must have changed for a seed to be worth it by that
// alone: reading it would keep the instance away for about a second.
const seedBytes = 64 << 20

// seed stores roots while the instance runs. The final pass then finds little new; and
// of a root in which nothing has changed until the stop, which its census tells, the
// seed is what the set holds, and there is no final pass.
func (r *run) seed(ctx context.Context, step progress.Step) (string, error) {
	var names []string
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(storers)
	board := &board{step: step, doing: "seeding", total: r.counted}
	for _, x := range largestFirst(r.roots) {
		if !r.needsSeed(x) {
			continue
		}
		names = append(names, x.Name)
		g.Go(func() error { return r.seedRoot(gctx, x, func(p repo.Progress) { board.set(x.Name, p) }) })
	}
	if err := g.Wait(); err != nil || len(names) == 0 {
		return "", err
	}
	return "seeded " + strings.Join(names, " "), nil
}

// needsSeed tells whether a root is stored once before the stop: when it never was,
// when much of it has changed, and when it has been quiet for so long that it
// probably stays so until the instance is stopped.
func (r *run) needsSeed(x *root) bool {
	if !x.onDisk() || x.freezes() || !r.running() {
		return false
	}
	switch r.Config.Backup.Seed {
	case "always":
		return true
	case "never":
		return false
	}
	return x.parent == "" || x.changes.Bytes > seedBytes || r.quiet(x)
}

// seedRoot stores a root while the instance runs. What it misses or what changes
// under it does not matter: the final pass makes up for it.
func (r *run) seedRoot(ctx context.Context, x *root, onProgress func(repo.Progress)) error {
	spec, err := x.spec()
	if err != nil || len(spec.Targets) == 0 {
		return err
	}
	spec.Parent, spec.Tags, spec.NoScan, spec.OnProgress = x.parent, r.tags(x.Root), true, onProgress
	began := time.Now()
	sum, err := r.Repo.Backup(ctx, spec)
	var incomplete *repo.IncompleteError
	if err != nil && !errors.As(err, &incomplete) {
		return r.Repo.Failure(err, "seed "+x.Name)
	}
	if sum.SnapshotID == "" {
		return nil
	}
	x.parent = sum.SnapshotID
	r.pushing.Lock()
	defer r.pushing.Unlock()
	r.seeds = append(r.seeds, sum.SnapshotID)
	if err == nil {
		x.seed, x.took = &sum, time.Since(began)
	}
	r.seeded[x.Name] = sum.DataAddedPacked
	return nil
}
