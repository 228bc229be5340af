package restore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/dustin/go-humanize"
	"github.com/dustin/go-humanize/english"

	"github.com/ocbackup/ocbackup/bucket"
	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/fault"
	"github.com/ocbackup/ocbackup/manifest"
	"github.com/ocbackup/ocbackup/progress"
	"github.com/ocbackup/ocbackup/s3mirror"
)

// fillBucket adds what the destination lacks of the set, and puts back what has
// another content there.
func (r *run) fillBucket(ctx context.Context, step progress.Step) (string, error) {
	b := r.bucket
	if b == nil {
		return "", nil // of a restore below a target directory
	}
	if err := fault.Point("restore.filling"); err != nil {
		return "", err
	}
	step.Update("restoring objects to " + b.name)
	b.touched = b.diff.Missing+b.diff.Differing > 0
	done, err := b.pool.Restore(ctx, b.diff, s3mirror.RestoreOptions{OnProgress: objectProgress(step)})
	if err := others(done, err); err != nil {
		return "", mayNot(err)
	}
	res := r.res.Bucket
	res.Restored, res.RestoredBytes = done.Objects, done.Bytes
	res.Findings = bucket.Findings(done.Findings)
	if err := r.judgeObjects(done.Findings); err != nil {
		return "", err
	}
	if err := r.findExtra(ctx, step); err != nil {
		return "", err
	}
	r.done = r.done || r.onlyBucket()
	return fmt.Sprintf("%s of %s objects restored to %s (%s)", humanize.Comma(int64(done.Objects)), humanize.Comma(int64(b.diff.Objects)),
		b.name, humanize.IBytes(done.Bytes)), fault.Point("restore.filled")
}

// others is the error of a copy, save for the one that says that the pool has lost
// objects, which is judged by its findings.
func others(done *s3mirror.Restored, err error) error {
	if done != nil && len(done.Findings) > 0 && fail.CodeOf(err) == fail.Inconsistent {
		return nil
	}
	return err
}

// mayNot gives keys that may not write their hint: those that backups are made with
// need not.
func mayNot(err error) error {
	var api interface{ ErrorCode() string }
	if errors.As(err, &api) && api.ErrorCode() == "AccessDenied" {
		return fail.New(fail.CodeOf(err), err.Error(), "name keys that may write to the bucket: --bucket-env-file FILE")
	}
	return err
}

// judgeObjects is an error when the pool no longer has objects of the set as they
// were: the files that they hold would be unreadable.
func (r *run) judgeObjects(all []s3mirror.Finding) error {
	var bad []string
	for _, f := range all {
		bad = append(bad, fmt.Sprintf("%s (%s: %s)", f.Key, f.Kind, f.Text))
	}
	if len(bad) == 0 {
		return nil
	}
	const most = 10
	list := strings.Join(bad[:min(len(bad), most)], "\n  ")
	if n := len(bad) - most; n > 0 {
		list += fmt.Sprintf("\n  and %d more", n)
	}
	what := fmt.Sprintf("%s of set %s can't be restored, for the pool does not have them as they were:\n  %s",
		english.Plural(len(bad), "object", ""), r.set.ID, list)
	if r.AcceptDamagedBlobs {
		r.note("Files will be unreadable: " + what)
		if r.DeleteExtra {
			r.DeleteExtra = false
			r.note("Nothing is deleted from " + r.bucket.name + ": the objects there may be of use yet.")
		}
		return nil
	}
	if r.done || r.onlyBucket() || r.bucketBeside() {
		r.done = true // there is nothing more to be had
		return fail.New(fail.Inconsistent, what, "all else is restored; the files of these objects are unreadable. Try another set: \"ocbackup list\"")
	}
	return fail.New(fail.Inconsistent, what,
		"restore another set (\"ocbackup list\"), or go on without these, whose files will be unreadable: --accept-damaged-blobs")
}

// mendBucket puts back what OpenCloud has deleted from the bucket between the
// comparison and its stop: somebody has emptied a trash meanwhile, or deleted a
// version, and the set has it still.
func (r *run) mendBucket(ctx context.Context, step progress.Step) (string, error) {
	b := r.bucket
	if !b.own || !r.running() {
		return "", nil
	}
	if err := fault.Point("restore.mending"); err != nil {
		return "", err
	}
	step.Update("comparing the set with " + b.name + " once more")
	again := func(err error) error {
		return fail.Wrap(fail.CodeOf(err), err, "what OpenCloud has deleted from "+b.name+" while it was being restored may be missing there (once it can be reached: "+
			r.command("restore", "--component", "blobs", r.set.ID)+")", "")
	}
	d, err := r.difference(ctx)
	if err != nil {
		return "", again(err)
	}
	defer d.Close() //nolint:errcheck // temporary files
	if d.Missing+d.Differing == 0 {
		return "", nil
	}
	done, err := b.pool.Restore(ctx, d, s3mirror.RestoreOptions{OnProgress: objectProgress(step)})
	if err := others(done, err); err != nil {
		return "", again(err)
	}
	r.res.Bucket.Restored += done.Objects
	r.res.Bucket.RestoredBytes += done.Bytes
	if err := r.judgeObjects(r.untold(done.Findings)); err != nil {
		return "", err
	}
	if done.Objects == 0 {
		return "", nil
	}
	return english.Plural(int(done.Objects), "object", "") + " that OpenCloud had deleted meanwhile", nil
}

// untold puts down what has come to light since the bucket was filled, and returns it.
func (r *run) untold(all []s3mirror.Finding) []s3mirror.Finding {
	told := r.res.Bucket.Findings
	fresh := slices.DeleteFunc(slices.Clone(all), func(f s3mirror.Finding) bool {
		return slices.ContainsFunc(told, func(t manifest.Finding) bool { return t.Key == f.Key })
	})
	r.res.Bucket.Findings = append(told, bucket.Findings(fresh)...)
	return fresh
}

// objectProgress shows how far a copy is.
func objectProgress(step progress.Step) func(s3mirror.Progress) {
	return func(p s3mirror.Progress) {
		if p.TotalObjects > 0 {
			step.Update("restoring objects, " + bucket.Progress(p))
		}
	}
}
