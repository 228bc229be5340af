package restore

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/fault"
	"github.com/ocbackup/ocbackup/guard"
	"github.com/ocbackup/ocbackup/opencloud"
	"github.com/ocbackup/ocbackup/paths"
	"github.com/ocbackup/ocbackup/progress"
	"github.com/ocbackup/ocbackup/repo"
)

// coldInPlace overwrites the old data while the instance is away. From the first
// write on, nothing but a complete restore lets it be started again.
func (r *run) coldInPlace(ctx context.Context, step progress.Step) (string, error) {
	specs, err := r.overwrites(ctx)
	if err != nil {
		return "", err
	}
	if err := r.loadImage(ctx, step); err != nil {
		return "", err
	}
	g, err := r.arm(r.journal())
	if err != nil {
		return "", err
	}
	asked := time.Now()
	err = r.stop(ctx, step)
	if err == nil {
		err = fault.Point("inplace.stopped")
	}
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return "", errors.Join(err, r.putBack(ctx, step), g.Disarm())
	}
	if err := r.overwrite(ctx, step, specs); err != nil {
		return "", errors.Join(fail.Wrap(fail.NotBack, err, "the restore in place was not completed",
			"run it again, it goes on where this one stopped: "+r.again()), g.Disarm())
	}
	if err := r.bringUp(ctx, step); err != nil {
		return "", errors.Join(err, g.Disarm())
	}
	r.res.Downtime = time.Since(asked).Seconds()
	if err := errors.Join(guard.Clear(r.stateDir()), g.Disarm()); err != nil {
		return "", err
	}
	return fmt.Sprintf("overwritten, downtime %.1f s", r.res.Downtime), nil
}

// overwrite restores every root onto what is there, and compares it before the
// server may be started.
func (r *run) overwrite(ctx context.Context, step progress.Step, specs []overwriteSpec) error {
	j := r.journal()
	j.Again = r.again()
	j.Hold = "the restore in place of set " + r.set.ID + " was not completed; run it again: " + j.Again
	if err := r.write(j); err != nil {
		return err
	}
	r.hold, r.stopped = true, true
	for _, s := range specs {
		step.Update("restoring " + s.it.Name)
		if err := r.overwriteOne(ctx, step, s); err != nil {
			return atTarget(err, fmt.Sprintf("restore %s to %s", s.it.Name, s.it.target))
		}
	}
	if err := fault.Point("inplace.restored"); err != nil {
		return err
	}
	for _, s := range specs {
		step.Update("comparing " + s.it.Name)
		if _, err := r.compare(ctx, s.it, s.it.target, s.spared); err != nil {
			return err
		}
	}
	if err := r.dropIDCache(func(it *item) string { return it.target }); err != nil {
		return err
	}
	if err := r.judgeIndex(ctx, func(it *item) string { return it.target }); err != nil {
		return err
	}
	stale, err := r.staleIndex()
	for _, d := range stale {
		err = errors.Join(err, os.RemoveAll(d))
	}
	if err != nil {
		return err
	}
	if err := r.makeLinks(); err != nil {
		return err
	}
	if err := r.markReindex(); err != nil {
		return err
	}
	j.Hold, j.Again, j.WasRunning = "", "", !r.noStart()
	if err := r.write(j); err != nil {
		return err
	}
	r.hold = false
	r.committed()
	return nil
}

// again is the command that completes this restore.
func (r *run) again() string {
	words := []string{"restore", "--in-place"}
	if r.Config == nil {
		words = append(words, "--repository", r.Bare.Location)
		if r.Bare.PasswordFile != "" {
			words = append(words, "--password-file", r.Bare.PasswordFile)
		}
	}
	if len(r.Components) > 0 {
		words = append(words, "--component", strings.ReplaceAll(join(r.Components), " ", ""))
	}
	for _, f := range []struct{ flag, value string }{
		{"--bucket-target", r.BucketTarget},
		{"--bucket-env-file", r.BucketEnvFile},
		{"--pool", r.PoolAt},
		{"--pool-env-file", r.PoolEnvFile},
		{"--pool-password-file", r.PoolPasswordFile},
	} {
		if f.value != "" {
			words = append(words, f.flag, f.value)
		}
	}
	if r.DeleteExtra {
		words = append(words, "--delete-extra")
	}
	if r.AcceptDamagedBlobs {
		words = append(words, "--accept-damaged-blobs")
	}
	for _, m := range r.Maps {
		words = append(words, "--map", m.Old+"="+m.New)
	}
	return r.command(append(words, r.set.ID)...)
}

// makeLinks makes the symbolic links by which the configured paths lead to their targets.
func (r *run) makeLinks() error {
	for _, it := range r.items {
		if it.link == "" || it.absent() || paths.Exists(it.link) {
			continue
		}
		if err := r.mkdirs(filepath.Dir(it.link)); err != nil {
			return err
		}
		if err := os.Symlink(it.target, it.link); err != nil {
			return err
		}
	}
	return nil
}

// overwriteSpec says how one root is restored onto what is there.
type overwriteSpec struct {
	it   *item
	spec repo.RestoreSpec
	// entry tells that the root has another name here than in the set, so that the
	// metadata of its own directory are restored separately.
	entry bool
	// spared lists what is left alone in the midst of the root, relative to it.
	spared []string
}

// overwrites works out how each root is restored in place: innermost first, so that
// directories get their times last, and with all that does not belong to the root
// kept out of restic's hands. restic deletes what the snapshot does not have, but
// nothing that its patterns leave out (internal/restorer, removeUnexpectedFiles).
func (r *run) overwrites(ctx context.Context) ([]overwriteSpec, error) {
	items := slices.Clone(r.items)
	slices.SortStableFunc(items, func(a, b *item) int {
		if len(a.target) != len(b.target) {
			return len(b.target) - len(a.target)
		}
		// Of two roots in one directory, the one that has it all comes last.
		return boolInt(b.partial()) - boolInt(a.partial())
	})
	var out []overwriteSpec
	for _, it := range items {
		s, err := r.overwriteSpec(ctx, it)
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, nil
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

func (r *run) overwriteSpec(ctx context.Context, it *item) (overwriteSpec, error) {
	s := overwriteSpec{it: it, spec: repo.RestoreSpec{Snapshot: it.Snapshot, Overwrite: "always"}}
	if it.absent() || !it.Dir {
		return s, nil
	}
	s.spec.Delete = true
	prefix := "/"
	switch {
	case it.rootless():
		s.spec.Target = it.target
	case filepath.Base(it.target) == it.Entry:
		s.spec.Target = filepath.Dir(it.target)
		prefix = "/" + opencloud.Glob(it.Entry)
	default:
		s.spec.Subfolder, s.spec.Target, s.entry = "/"+it.Entry, it.target, !it.partial()
	}
	switch {
	case it.partial():
		s.spec.Include = onlyIncluded(prefix, it.Include)
	case prefix == "/":
		s.spec.Include = []string{"*"}
	default:
		s.spec.Include = []string{prefix}
	}
	for _, k := range r.keep {
		if rel, ok := paths.Below(it.target, k); ok {
			s.spared = append(s.spared, rel)
		}
	}
	missing, err := r.missingAbove(ctx, it, s.spared)
	if err != nil {
		return s, err
	}
	s.spared = append(s.spared, missing...)
	for _, g := range it.Exclude {
		s.spec.Include = append(s.spec.Include, "!"+path.Join(prefix, g))
	}
	for _, rel := range s.spared {
		s.spec.Include = append(s.spec.Include, "!"+path.Join(prefix, opencloud.Glob(rel)))
	}
	return s, nil
}

// onlyIncluded returns patterns that select what a root includes and the directories
// on the way to it, and nothing else that is in these: of several patterns that
// match, restic goes by the last.
func onlyIncluded(prefix string, include []string) []string {
	var out []string
	seen := map[string]bool{}
	for _, inc := range include {
		p := prefix
		for _, part := range append([]string{""}, strings.Split(path.Dir(inc), "/")...) {
			if p = path.Join(p, part); p != "/" && !seen[p] {
				seen[p] = true
				out = append(out, p, "!"+path.Join(p, "*"))
			}
		}
	}
	for _, inc := range include {
		out = append(out, path.Join(prefix, inc))
	}
	return out
}

// missingAbove returns the directories above kept paths that the snapshot does not
// have: restic would delete them with what is kept in them.
func (r *run) missingAbove(ctx context.Context, it *item, kept []string) ([]string, error) {
	above := map[string]bool{}
	for _, k := range kept {
		for d := path.Dir(k); d != "."; d = path.Dir(d) {
			above[d] = true
		}
	}
	if len(above) == 0 {
		return nil, nil
	}
	top := "/"
	if !it.rootless() {
		top += it.Entry
	}
	errFound := errors.New("all found")
	err := r.Repo.Ls(ctx, it.Snapshot, top, func(n repo.Node) error {
		delete(above, strings.TrimPrefix(strings.TrimPrefix(n.Path, top), "/"))
		if len(above) == 0 {
			return errFound
		}
		return nil
	})
	if err != nil && !errors.Is(err, errFound) {
		return nil, r.Repo.Failure(err, "list root "+it.Name)
	}
	return slices.Sorted(maps.Keys(above)), nil
}

func (r *run) overwriteOne(ctx context.Context, step progress.Step, s overwriteSpec) error {
	it := s.it
	switch {
	case it.absent():
		if it.partial() {
			return nil
		}
		return r.remove(it.target)
	case !it.Dir:
		return r.overwriteFile(ctx, it)
	}
	s.spec.OnProgress = func(p repo.Progress) {
		step.Update(fmt.Sprintf("restoring %s, %s of %s", it.Name, humanize.IBytes(p.BytesDone), humanize.IBytes(p.BytesTotal)))
	}
	if _, err := r.restic(ctx, s.spec); err != nil {
		return err
	}
	if !s.entry {
		return nil
	}
	tmp, err := os.MkdirTemp(it.group.anchor, stagePrefix)
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp) //nolint:errcheck // a left-over empty directory is no reason to fail
	m, err := r.entryMeta(ctx, it, tmp)
	if err != nil {
		return err
	}
	return m.Apply(it.target)
}

// remove removes what the set does not have, but for what stays in its midst, mount
// points, and the directories above those.
func (r *run) remove(p string) error {
	holds := func(x string) bool { _, ok := paths.Below(p, x); return ok }
	spared := slices.Clone(r.keep)
	for _, it := range r.items {
		if !it.absent() {
			spared = append(spared, it.target) // restored already
		}
	}
	switch {
	case slices.Contains(spared, p):
		return nil
	case (diskTree{}).Kind(p) != dir, !r.mounts.at(p) && !slices.ContainsFunc(spared, holds) && len(r.mounts.inside(p)) == 0:
		return os.RemoveAll(p)
	}
	entries, err := os.ReadDir(p)
	for _, e := range entries {
		err = errors.Join(err, r.remove(filepath.Join(p, e.Name())))
	}
	return err
}

// overwriteFile restores a root that is a single file, by a rename: a binary may
// still be mapped by somebody.
func (r *run) overwriteFile(ctx context.Context, it *item) error {
	if err := r.mkdirs(it.group.anchor); err != nil {
		return err
	}
	tmp, err := os.MkdirTemp(it.group.anchor, stagePrefix)
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp) //nolint:errcheck // as above
	if _, err := r.restic(ctx, repo.RestoreSpec{Snapshot: it.Snapshot, Target: tmp}); err != nil {
		return err
	}
	return os.Rename(filepath.Join(tmp, it.Entry), it.target)
}
