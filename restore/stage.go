package restore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/dustin/go-humanize"

	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/fault"
	"github.com/ocbackup/ocbackup/guard"
	"github.com/ocbackup/ocbackup/opencloud"
	"github.com/ocbackup/ocbackup/paths"
	"github.com/ocbackup/ocbackup/progress"
	"github.com/ocbackup/ocbackup/recovery"
	"github.com/ocbackup/ocbackup/repo"
)

// stage restores every root beside its place, on the same file system, while the
// instance runs.
func (r *run) stage(ctx context.Context, step progress.Step) (string, error) {
	step.Update("making room for the staging")
	if err := r.makeStages(); err != nil {
		return "", atTarget(err, "make room for the staging")
	}
	if err := r.announce(); err != nil {
		return "", err
	}
	var files, bytes uint64
	for _, g := range r.groups {
		for _, it := range g.items {
			if it.absent() {
				continue
			}
			sum, err := r.stageItem(ctx, step, it)
			if err != nil {
				return "", atTarget(err, fmt.Sprintf("restore %s to %s", it.Name, g.stage))
			}
			files += sum.FilesRestored
			bytes += sum.BytesRestored
		}
	}
	r.closeLocal(ctx)
	if err := r.loadImage(ctx, step); err != nil {
		return "", err
	}
	return fmt.Sprintf("%s files and folders, %s", humanize.Comma(int64(files)), humanize.IBytes(bytes)), fault.Point("restore.staged")
}

// announce writes down what is being staged, so that it is removed if this process
// dies. Nothing is stopped yet.
func (r *run) announce() error {
	if r.KeepStaging {
		return nil
	}
	j := r.journal()
	j.WasRunning = r.held != nil && r.held.WasRunning
	return r.write(j)
}

// restic is Repo.Restore with errors that say whose fault they are.
func (r *run) restic(ctx context.Context, spec repo.RestoreSpec) (repo.RestoreSummary, error) {
	sum, err := r.Repo.Restore(ctx, spec)
	return sum, r.Repo.Failure(err, "")
}

// atTarget is a failure to restore something. What does not say itself whose fault it
// is comes from the place that takes the data.
func atTarget(err error, what string) error {
	var known *fail.Error
	if errors.As(err, &known) {
		return fail.Wrap(fail.CodeOf(err), err, what, "")
	}
	return fail.Wrap(fail.Failed, err, what, repo.TargetHint)
}

// makeStages makes the staging directories, and what is missing of the directories
// above them. What an earlier restore of the same set left behind is removed.
func (r *run) makeStages() error {
	for _, g := range r.groups {
		if g.outer.absent() {
			continue // nothing to stage
		}
		if err := r.mkdirs(g.anchor); err != nil {
			return err
		}
		dir := filepath.Dir(g.stage)
		if err := r.newStage(dir); err != nil {
			return err
		}
		if err := os.MkdirAll(g.stage, 0o700); err != nil {
			return err
		}
	}
	return nil
}

func (r *run) newStage(dir string) error {
	for _, s := range r.stages {
		if s == dir {
			return nil
		}
	}
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("remove the left-over staging of an earlier restore: %w", err)
	}
	others, err := filepath.Glob(filepath.Join(opencloud.Glob(filepath.Dir(dir)), stagePrefix+"*"))
	if err == nil && len(others) > 0 {
		r.note("Left over from other restores; to do away with it: " + recovery.RemoveCommand(others))
	}
	if err := r.sweep(filepath.Dir(dir)); err != nil {
		return fmt.Errorf("remove what an earlier restore left behind: %w", err)
	}
	r.stages = append(r.stages, dir)
	return os.Mkdir(dir, 0o700)
}

// sweep removes the empty directories that a restore which died had made for old
// data. Those of the restore that can be undone are needed as they are.
func (r *run) sweep(anchor string) error {
	rec := undoRecord{}
	if b, err := os.ReadFile(filepath.Join(r.stateDir(), recovery.RecordName)); err == nil {
		if err := json.Unmarshal(b, &rec); err != nil {
			return nil //nolint:nilerr // what it needs is not known, so nothing is touched
		}
	}
	found, err := filepath.Glob(filepath.Join(opencloud.Glob(anchor), asidePrefix+"*"))
	if err != nil {
		return err
	}
	return recovery.RemoveEmpty(slices.DeleteFunc(found, func(d string) bool { return slices.Contains(rec.Aside, d) }))
}

// mkdirs makes a directory and those above it, and remembers which were made.
func (r *run) mkdirs(dir string) error {
	if paths.IsDir(dir) {
		return nil
	}
	if err := r.mkdirs(filepath.Dir(dir)); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	r.made = append(r.made, dir)
	return nil
}

// stageItem restores one root to its place in the staged tree of its group. Those
// that are nested in it are there already: the times of a directory are set last.
func (r *run) stageItem(ctx context.Context, step progress.Step, it *item) (repo.RestoreSummary, error) {
	dest := it.group.staged(it.target)
	if it.view != "" {
		s, err := r.copyLocal(ctx, step, it, dest)
		return repo.RestoreSummary{FilesRestored: s.Files + s.Dirs, BytesRestored: s.Bytes}, err
	}
	spec := repo.RestoreSpec{Snapshot: it.Snapshot, OnProgress: func(p repo.Progress) {
		step.Update(fmt.Sprintf("staging %s, %s of %s", it.Name, humanize.IBytes(p.BytesDone), humanize.IBytes(p.BytesTotal)))
	}}
	step.Update("staging " + it.Name)
	switch {
	case it.rootless():
		spec.Target = dest
		return r.restic(ctx, spec)
	case filepath.Base(dest) == it.Entry:
		spec.Target = filepath.Dir(dest)
		return r.restic(ctx, spec)
	}
	return r.stageRenamed(ctx, it, spec, dest)
}

// stageRenamed restores a root that --map gives another name.
func (r *run) stageRenamed(ctx context.Context, it *item, spec repo.RestoreSpec, dest string) (repo.RestoreSummary, error) {
	tmp := filepath.Join(it.group.stage, ".entry")
	defer os.RemoveAll(tmp) //nolint:errcheck // it is removed with the staging at the latest
	if !it.Dir {
		spec.Target = tmp
		sum, err := r.restic(ctx, spec)
		if err != nil {
			return sum, err
		}
		if err := os.MkdirAll(filepath.Dir(dest), 0o700); err != nil {
			return sum, err
		}
		return sum, os.Rename(filepath.Join(tmp, it.Entry), dest)
	}
	spec.Subfolder, spec.Target = "/"+it.Entry, dest
	sum, err := r.restic(ctx, spec)
	if err != nil {
		return sum, err
	}
	m, err := r.entryMeta(ctx, it, tmp)
	if err != nil {
		return sum, err
	}
	return sum, m.Apply(dest)
}

// entryMeta reads the metadata of a root's own directory out of the set. restic
// restores it only under the name that it had.
func (r *run) entryMeta(ctx context.Context, it *item, tmp string) (guard.Meta, error) {
	name := "/" + opencloud.Glob(it.Entry)
	_, err := r.restic(ctx, repo.RestoreSpec{Snapshot: it.Snapshot, Target: tmp, Include: []string{name, "!" + name + "/*"}})
	if err != nil {
		return guard.Meta{}, err
	}
	return guard.ReadMeta(filepath.Join(tmp, it.Entry))
}

// unstage removes the staging, and the directories that were made for it if
// nothing has come into them.
func (r *run) unstage() {
	var failed error
	for _, s := range r.stages {
		failed = errors.Join(failed, os.RemoveAll(s))
	}
	r.stages = nil
	if failed != nil {
		r.note("The staging could not be removed: " + failed.Error())
	}
	if r.done {
		return
	}
	for i := len(r.made) - 1; i >= 0; i-- {
		_ = os.Remove(r.made[i]) // not empty: somebody else needs it
	}
}
