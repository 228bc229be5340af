package restore

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/dustin/go-humanize/english"

	"github.com/ocbackup/ocbackup/atomicfile"
	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/fault"
	"github.com/ocbackup/ocbackup/opencloud"
	"github.com/ocbackup/ocbackup/progress"
	"github.com/ocbackup/ocbackup/recovery"
	"github.com/ocbackup/ocbackup/s3mirror"
)

// undoLosesBlobs says what deleting objects means for an undo.
const undoLosesBlobs = "An undo of this restore would bring back metadata of files whose objects are gone."

// checkExtra refuses to delete objects that a running OpenCloud still needs: without
// the metadata of the set, that of now stays, which names them.
func (r *run) checkExtra() error {
	switch {
	case !r.DeleteExtra || r.bucket == nil || !r.bucket.own:
	case !r.has(opencloud.Metadata):
		return fail.Usagef("restore the metadata as well, or leave out --delete-extra",
			"--delete-extra would delete the contents of files that were uploaded since set %s, and whose metadata stay", r.set.ID)
	}
	return nil
}

// agreeExtra asks before objects are deleted that the set does not have.
func (r *run) agreeExtra() error {
	b := r.bucket
	if b == nil || b.diff.Extra == 0 {
		return nil
	}
	what := fmt.Sprintf("%s in %s (%s) that set %s does not have",
		english.Plural(int(b.diff.Extra), "object", ""), b.name, humanize.IBytes(b.diff.ExtraBytes), r.set.ID)
	if !r.DeleteExtra {
		r.note("There " + english.PluralWord(int(b.diff.Extra), "is ", "are ") + what + ": left there (--delete-extra deletes).")
		return nil
	}
	last := "\nThe list is made again when the objects are restored: what has been added by then is deleted as well."
	if b.own {
		last += " " + undoLosesBlobs
	}
	if r.DryRun {
		r.note("Would delete " + what + ":" + listExtra(b.diff, 20) + last)
		return nil
	}
	path, err := r.writeExtra(b.diff)
	if err != nil {
		return err
	}
	question := "This DELETES " + what + ", once all is restored:" + listExtra(b.diff, 5) + "\nAll of them are listed in " + path + "." + last
	if r.Yes {
		r.note(question)
		return nil
	}
	if r.Confirm != nil {
		ok, err := r.Confirm(question, "delete")
		if ok || err != nil {
			return err
		}
	}
	return fail.New(fail.Usage, "nobody agreed. "+question, "agree with --yes, or leave out --delete-extra")
}

// listExtra shows the first of the objects that are to be deleted.
func listExtra(d *s3mirror.Difference, most uint64) string {
	var list strings.Builder
	for _, o := range d.ExtraKeys(int(most)) {
		fmt.Fprintf(&list, "\n  %s (%s, of %s)", o.Key, humanize.IBytes(uint64(o.Size)), o.Modified.Local().Format(time.DateTime))
	}
	if d.Extra > most {
		fmt.Fprintf(&list, "\n  and %s more", humanize.Comma(int64(d.Extra-most)))
	}
	return list.String()
}

// writeExtra lists all objects that are to be deleted in a file, one a line.
func (r *run) writeExtra(d *s3mirror.Difference) (path string, err error) {
	path = filepath.Join(r.stateDir(), "bucket", "extra-"+r.set.ID+".jsonl")
	all := d.ExtraKeys(int(d.Extra))
	var text bytes.Buffer
	if uint64(len(all)) != d.Extra {
		err = fmt.Errorf("%d of %d could be read", len(all), d.Extra)
	}
	for enc := json.NewEncoder(&text); err == nil && len(all) > 0; all = all[1:] {
		err = enc.Encode(all[0])
	}
	if err == nil {
		err = os.MkdirAll(filepath.Dir(path), 0o700)
	}
	if err == nil {
		err = atomicfile.Write(path, text.Bytes(), 0o600)
	}
	return path, fail.Wrap(fail.Failed, err, "list the objects that are to be deleted", "check the state directory ("+r.stateDir()+")")
}

// findExtra lists what the bucket has beside the set, when it has all of the set.
// OpenCloud may have gone on up to here; what is uploaded after its restart is not to
// be on the list.
func (r *run) findExtra(ctx context.Context, step progress.Step) error {
	b := r.bucket
	if !r.DeleteExtra {
		return nil
	}
	step.Update("listing what the set does not have")
	var err error
	if b.left, err = r.difference(ctx); err != nil {
		return err
	}
	r.res.Bucket.Extra, r.res.Bucket.ExtraBytes = b.left.Extra, b.left.ExtraBytes
	if b.left.Extra > 0 {
		_, err = r.writeExtra(b.left)
	}
	return err
}

// deleteExtra deletes what the set does not have. It comes last of all: up to here,
// all can be undone.
func (r *run) deleteExtra(ctx context.Context, step progress.Step) (string, error) {
	b := r.bucket
	if !r.DeleteExtra || b.left.Extra == 0 {
		return "", nil
	}
	if r.unmended != nil {
		r.note("Nothing is deleted from " + b.name + ": it may lack objects of the set.")
		return "", nil
	}
	if err := fault.Point("restore.deleting"); err != nil {
		return "", err
	}
	if err := r.noteDeletion(); err != nil {
		return "", err
	}
	step.Update("deleting what the set does not have")
	done, err := b.pool.Restore(ctx, b.left, s3mirror.RestoreOptions{DeleteExtra: true, OnProgress: objectProgress(step)})
	if done != nil {
		r.res.Bucket.Deleted, r.res.Bucket.DeletedBytes = done.Deleted, done.DeletedBytes
	}
	if err != nil {
		return "", err
	}
	if b.own && r.res.Undo != "" {
		r.note(undoLosesBlobs)
	}
	return fmt.Sprintf("%s deleted from %s (%s)", english.Plural(int(done.Deleted), "object", ""), b.name, humanize.IBytes(done.DeletedBytes)), nil
}

// noteDeletion writes it down for an undo that objects are deleted, before any is.
func (r *run) noteDeletion() error {
	path := filepath.Join(r.stateDir(), recovery.RecordName)
	b, err := os.ReadFile(path)
	if err != nil || r.res.Undo == "" || !r.bucket.own {
		return nil //nolint:nilerr // there is nothing to undo
	}
	rec := undoRecord{}
	if err = json.Unmarshal(b, &rec); err == nil {
		rec.ObjectsDeleted = r.bucket.left.Extra
		if b, err = json.MarshalIndent(rec, "", "  "); err == nil {
			err = atomicfile.Write(path, append(b, '\n'), 0o600)
		}
	}
	return fail.Wrap(fail.Failed, err, "write down that objects are deleted", "check the state directory ("+r.stateDir()+")")
}
