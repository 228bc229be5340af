package restore

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/guard"
	"github.com/ocbackup/ocbackup/progress"
	"github.com/ocbackup/ocbackup/snapshot"
	"github.com/ocbackup/ocbackup/treecopy"
)

// FromRepository is where a root comes from that no snapshot on this host holds.
const FromRepository = "repository"

// closeTimeout is how long unmounting the local snapshots may take.
const closeTimeout = time.Minute

// origin names where a root comes from, for people: FromRepository, or a driver.
func origin(from string) string {
	switch from {
	case FromRepository:
		return from
	case string(snapshot.Command):
		return "local snapshot"
	}
	return "local " + from + " snapshot"
}

// Origin says where the root comes from, for people.
func (r Restored) Origin() string { return origin(r.From) }

// from is where an item comes from.
func (it *item) from() string {
	if it.driver == "" {
		return FromRepository
	}
	return string(it.driver)
}

// origins says where the items come from, for people.
func (r *run) origins() string {
	var list []string
	for _, it := range r.items {
		if o := "the " + origin(it.from()); !slices.Contains(list, o) {
			list = append(list, o)
		}
	}
	slices.Sort(list) // "local" before "repository"
	return "from " + strings.Join(list, " and ")
}

// openLocal finds what of the set is kept on this host in snapshots of its file
// systems, and makes it readable. All that is not comes from the repository.
func (r *run) openLocal(ctx context.Context) error {
	dir := r.StateDir
	if dir == "" && r.cfg != nil {
		dir = r.cfg.StateDir
	}
	if dir == "" && r.Config != nil {
		dir = r.Config.StateDir
	}
	if r.FromRepository || r.InPlace || dir == "" {
		return nil // in place, only what differs is written, which restic finds out
	}
	rec := r.keptRecord(dir)
	if rec == nil || r.DryRun {
		return nil
	}
	err := r.openRecord(ctx, dir, *rec)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		r.note(fmt.Sprintf("What is kept of the set on this host can't be used (%s); all of it is restored from the repository.", oneLine(err)))
		for _, it := range r.items {
			it.driver = ""
		}
	}
	return nil
}

// keptRecord looks for the set's snapshots, and notes which roots they hold. It is nil
// when they hold none.
func (r *run) keptRecord(dir string) *snapshot.Record {
	kept, err := snapshot.Kept(dir)
	for _, rec := range kept {
		if rec.Set != r.set.ID || rec.Instance != r.set.Manifest.Instance {
			continue
		}
		found := false
		for _, it := range r.items {
			if f, ok := rec.Roots[it.Name]; ok && f.Path == it.Real && !it.absent() {
				it.driver, found = f.Driver, true
			}
		}
		if found {
			return &rec
		}
	}
	if err != nil {
		r.note("Whether the set is kept on this host as well could not be found out: " + err.Error())
	}
	return nil
}

// openRecord makes the set's snapshots readable. They are the instance's: a restore
// beside it takes its lock for as long as it needs them.
func (r *run) openRecord(ctx context.Context, dir string, rec snapshot.Record) error {
	if r.Target != "" {
		lock, err := guard.Acquire(dir, "restore")
		if err != nil {
			return err
		}
		r.lock = lock
	}
	var err error
	if r.local, err = snapshot.OpenKept(ctx, rec, ""); err != nil {
		r.closeLocal(ctx)
		return err
	}
	for _, it := range r.items {
		if it.driver != "" {
			it.view = r.local.Path(it.Name)
		}
	}
	return nil
}

// closeLocal gives back what openRecord has taken.
func (r *run) closeLocal(ctx context.Context) {
	if r.local != nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
		defer cancel()
		if err := r.local.Close(ctx); err != nil {
			r.note("The local snapshot could not be unmounted, which the next backup does: " + err.Error())
		}
		r.local = nil
	}
	if r.Target != "" {
		r.lock.Release()
		r.lock = nil
	}
}

// copyLocal copies a root from its snapshot on this host to dest.
func (r *run) copyLocal(ctx context.Context, step progress.Step, it *item, dest string) (treecopy.Stats, error) {
	step.Update("copying " + it.Name)
	if err := os.MkdirAll(filepath.Dir(dest), 0o700); err != nil {
		return treecopy.Stats{}, err
	}
	stats, err := treecopy.Copy(ctx, it.view, dest, treecopy.Options{Filter: it.Filter(), OnProgress: func(_, done uint64) {
		step.Update(fmt.Sprintf("copying %s, %s of %s", it.Name, humanize.IBytes(done), humanize.IBytes(it.Bytes)))
	}})
	if ctx.Err() != nil {
		return stats, err
	}
	return stats, fail.Wrap(fail.Failed, err, "copy it from the "+origin(it.from()),
		"check the file system that takes the data: room, owners, user extended attributes; or restore with --from-repository")
}

// needs is how much room a root takes below dir. What shares its content with a
// snapshot takes a block of metadata or so for each file.
func (it *item) needs(dir string) uint64 {
	const metadata = 4096
	src := it.view
	if src == "" {
		src = it.Real // dry run: the snapshot is of the same file system
	}
	if it.driver == snapshot.Btrfs && treecopy.Shares(src, dir) {
		return it.Files * metadata
	}
	return it.Bytes
}

// content reads a file of the set that lies at rel, relative to its root.
func (r *run) content(ctx context.Context, it *item, rel string) ([]byte, error) {
	p := filepath.Join(it.view, rel)
	if st, err := os.Lstat(p); err == nil && it.view != "" && st.Mode().IsRegular() {
		if b, err := os.ReadFile(p); err == nil {
			return b, nil
		}
	}
	in := "/" + rel
	if !it.rootless() {
		in = path.Join("/", it.Entry, rel)
	}
	var b bytes.Buffer
	err := r.Repo.Dump(ctx, it.Snapshot, in, &b)
	return b.Bytes(), err
}
