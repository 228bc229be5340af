package restore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/dustin/go-humanize"

	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/fault"
	"github.com/ocbackup/ocbackup/manifest"
	"github.com/ocbackup/ocbackup/opencloud"
	"github.com/ocbackup/ocbackup/progress"
	"github.com/ocbackup/ocbackup/repo"
)

// prepareBeside makes sure that the set can be restored below the target directory.
// The instance has no part in it.
func (r *run) prepareBeside(ctx context.Context, step progress.Step) error {
	if r.BucketTarget != "" || r.DeleteExtra {
		return fail.Usagef("the objects of the bucket go below --target as well", "--target goes neither with --bucket-target nor with --delete-extra")
	}
	if len(r.Maps) > 0 || r.InPlace {
		return fail.Usagef("below --target everything keeps the path that it had", "--target goes neither with --map nor with --in-place")
	}
	dir, err := resolve(r.Target)
	if err != nil {
		return err
	}
	r.Target = dir
	entries, err := os.ReadDir(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return fail.Wrap(fail.Usage, err, "look into the target directory", "")
	case len(entries) > 0:
		return fail.Usagef("name an empty or a new directory", "%s is not empty", dir)
	}
	if err := r.chooseRoots(); err != nil {
		return err
	}
	if err := r.openLocal(ctx); err != nil {
		return err
	}
	var places []place
	r.items = slices.DeleteFunc(r.items, (*item).absent)
	for _, it := range r.items {
		it.target = filepath.Join(dir, it.Real)
		places = append(places, place{it, dir})
		r.res.Roots = append(r.res.Roots, Restored{Name: it.Name, Path: it.target, From: it.from(), Files: it.Files, Bytes: it.Bytes})
	}
	if r.wantsBucket() {
		// How the pool is opened is in the configuration.
		if err := r.findInstance(ctx); err != nil {
			return err
		}
	}
	if err := r.findBucket(ctx, step); err != nil {
		return err
	}
	if err := r.compareBucket(ctx, step); err != nil {
		return err
	}
	if b := r.res.Bucket; b != nil {
		places = append(places, place{&item{Root: manifest.Root{Bytes: b.Bytes}}, dir})
	}
	return r.checkFileSystems(ctx, places, false)
}

// beside restores the roots below the target directory, each under the path that it
// had, and compares them with the set.
func (r *run) beside(ctx context.Context, step progress.Step) (summary string, err error) {
	if err := r.mkdirs(r.Target); err != nil {
		return "", err
	}
	defer func() {
		if err != nil && !r.KeepStaging && !r.done {
			r.clearTarget()
		}
	}()
	items := slices.Clone(r.items)
	slices.SortStableFunc(items, func(a, b *item) int {
		if len(a.target) != len(b.target) {
			return len(b.target) - len(a.target)
		}
		return boolInt(b.partial()) - boolInt(a.partial())
	})
	for _, it := range items {
		if it.view != "" {
			if _, err := r.copyLocal(ctx, step, it, it.target); err != nil {
				return "", atTarget(err, fmt.Sprintf("restore %s to %s", it.Name, it.target))
			}
			continue
		}
		step.Update("restoring " + it.Name)
		spec := repo.RestoreSpec{Snapshot: it.Snapshot, Target: filepath.Dir(it.target), OnProgress: func(p repo.Progress) {
			step.Update(fmt.Sprintf("restoring %s, %s of %s", it.Name, humanize.IBytes(p.BytesDone), humanize.IBytes(p.BytesTotal)))
		}}
		if it.rootless() {
			spec.Target = it.target
		}
		if _, err := r.Repo.Restore(ctx, spec); err != nil {
			return "", r.Repo.Failure(err, fmt.Sprintf("restore %s to %s", it.Name, it.target))
		}
	}
	r.closeLocal(ctx)
	if err := fault.Point("restore.staged"); err != nil {
		return "", err
	}
	for _, it := range items {
		step.Update("comparing " + it.Name)
		if _, err := r.compare(ctx, it, it.target, nil); err != nil {
			return "", err
		}
	}
	if _, err := r.fillBucket(ctx, step); err != nil {
		return "", err
	}
	r.done = true
	if r.has(opencloud.System) && r.set.Manifest.Layout.Driver == opencloud.Posix {
		// Seen on 4.0: the id cache in nats names the old paths, and the
		// server takes what it finds at others for copies.
		r.note("Before a server is started on this copy while the original is there: remove " +
			filepath.Join(r.Target, r.set.Manifest.Layout.DataDir, "nats") + ", or it gives its files new ids and drops their shares.")
	}
	return "restored and compared; the instance was not touched", nil
}

// clearTarget removes what was restored: the directory was empty, or did not exist.
func (r *run) clearTarget() {
	entries, err := os.ReadDir(r.Target)
	for _, e := range entries {
		err = errors.Join(err, os.RemoveAll(filepath.Join(r.Target, e.Name())))
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		r.note("What was restored could not be removed: " + err.Error())
	}
}
