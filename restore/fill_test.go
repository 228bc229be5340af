package restore

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/integration/env"
	"github.com/ocbackup/ocbackup/opencloud"
	"github.com/ocbackup/ocbackup/progress"
)

// log is a Reporter that keeps all it is told.
type log struct{ text *strings.Builder }

func (l log) Step(name string) progress.Step { l.Note(name); return l }
func (l log) Note(text string)               { l.text.WriteString(text + "\n") }
func (l log) Update(text string)             { l.Note(text) }
func (l log) Done(text string)               { l.Note(text) }
func (l log) Skip(text string)               { l.Note(text) }
func (l log) Fail(err error)                 { l.Note(err.Error()) }

// Passwords do not belong into locations, and one that is there is told nobody.
func TestPasswordInLocation(t *testing.T) {
	t.Parallel()
	s := newBucketSite(t)
	const secret = "hunter2"
	set := func(pool, target string) Options {
		o := s.options()
		o.PoolAt, o.BucketTarget = pool, target
		return o
	}
	for _, o := range []Options{
		set("s3:https://KEY:"+secret+"@host/b", ""),
		set("sftp://u:"+secret+"@127.0.0.1:1//p", ""),
		set("sftp:me:"+secret+"@127.0.0.1:/p", ""),
		set("rclone:r,pass="+secret+":p", ""),
		set("", "s3:https://KEY:"+secret+"@host/b"),
		set("", "s3:https://KEY:"+secret+"@host/b/prefix"),
		set("", "https://KEY:"+secret+"@host/b"),
	} {
		told := log{&strings.Builder{}}
		o.Report = told
		res, err := Run(context.Background(), o)
		wantError(t, err, fail.Usage, "", "")
		step, state, hint := fail.Details(err)
		if all := err.Error() + step + state + hint + told.text.String(); res != nil || strings.Contains(all, secret) || strings.Contains(all, "reading the repository") {
			t.Errorf("%+v: %s", res, all)
		}
	}
	_, err := Run(context.Background(), set("", "s3:https://KEY:"+secret+"@host/b"))
	wantError(t, err, fail.Usage, "--bucket-target", "--bucket-env-file")
	_, err = Run(context.Background(), set("sftp:me:"+secret+"@nas:/p", ""))
	wantError(t, err, fail.Usage, "--pool", "")
}

// The bucket can't be reached when the instance is back: its search works all the
// same, and nothing is deleted.
func TestSearchWhenMendingFails(t *testing.T) {
	t.Parallel()
	s := newBucketSite(t)
	p := env.S3Proxy(t, s.s3)
	s.cfg.Bucket.Reach = p.Endpoint
	s.spoil()
	o := s.options()
	o.Components = []opencloud.Component{opencloud.Metadata, opencloud.Blobs}
	o.DeleteExtra = true
	o.Report = cancelAt{"once more", func() { p.Add(env.Rule{Kind: env.List, Do: env.Refuse(403, "AccessDenied")}) }}
	res, err := Run(context.Background(), o)
	if err == nil || res == nil {
		t.Fatalf("%+v, %v", res, err)
	}
	wantError(t, err, fail.Repository, "while it was being restored", "")
	if res.Reindex != ReindexDone || !res.Running || !strings.Contains(s.read("log"), "exec search") {
		t.Errorf("%+v; log: %s", res, s.read("log"))
	}
	if step, state, _ := fail.Details(err); step != mendStep || state != "OpenCloud is running with the restored data" {
		t.Errorf("%s: %s", step, state)
	}
	if notes := strings.Join(res.Notes, "\n"); res.Bucket.Deleted != 0 || !strings.Contains(notes, "Nothing is deleted") {
		t.Errorf("%+v; %s", res.Bucket, notes)
	}
	s.wantObjects(bucketName, 2)
}

// An object that the pool has lost, and that OpenCloud deletes from the bucket when it
// was there a moment ago.
func TestLostAndPurgedMeanwhile(t *testing.T) {
	t.Parallel()
	s := newBucketSite(t)
	purged := s.keys()[7]
	if err := os.Remove(filepath.Join(s.cfg.Pool.Location, "blobs", purged)); err != nil {
		t.Fatal(err)
	}
	content := s.s3.Get(t, bucketName, purged)
	o := s.options()
	o.Report = cancelAt{"comparing system", func() { s.s3.Delete(t, bucketName, purged) }}
	res, err := Run(context.Background(), o)
	wantError(t, err, fail.Inconsistent, purged, "unreadable")
	if res == nil || !res.Running || len(res.Bucket.Findings) != 1 || res.Bucket.Findings[0].Key != purged {
		t.Errorf("%+v", res)
	}
	s.s3.Put(t, bucketName, purged, content)
	o.AcceptDamagedBlobs = true
	res, err = Run(context.Background(), o)
	if err != nil || len(res.Bucket.Findings) != 1 || !strings.Contains(strings.Join(res.Notes, "\n"), purged) {
		t.Errorf("%+v, %v", res, err)
	}
}
