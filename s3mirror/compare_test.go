package s3mirror

import (
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ocbackup/ocbackup/fail"
)

// An inventory may lie: what would lead out of a directory, or to something else in
// the pool, is refused before anything is written.
func TestCompareRefusesInventory(t *testing.T) {
	w := newWorld(t)
	p := w.pool()
	line := func(o Object) string {
		b, _ := json.Marshal(o)
		return string(b) + "\n"
	}
	good := line(Object{Key: "a/b", Size: 1})
	for name, text := range map[string]string{
		"up":                  line(Object{Key: "a/../../b", Size: 1}),
		"absolute":            line(Object{Key: "/etc/passwd", Size: 1}),
		"only up":             line(Object{Key: "..", Size: 1}),
		"empty element":       line(Object{Key: "a//b", Size: 1}),
		"place up":            line(Object{Key: "a/b", Size: 1, At: "odd/../../x"}),
		"place outside":       line(Object{Key: "a/b", Size: 1, At: "/etc/passwd"}),
		"the marker":          line(Object{Key: "a/b", Size: 1, At: markerFile}),
		"cut off":             good[:10],
		"cut off at the end":  strings.TrimSuffix(good, "\n"),
		"out of order":        line(Object{Key: "a/c"}) + good,
		"twice":               good + good,
		"a space comes again": good + line(Object{Key: "b/b"}) + line(Object{Key: "a/c"}),
		"no object":           "{}\n",
	} {
		dir := filepath.Join(t.TempDir(), "to")
		if d, err := p.Compare(t.Context(), strings.NewReader(text), Destination{Dir: dir}); err == nil {
			t.Errorf("%s: accepted: %+v", name, d)
		}
		if _, err := os.Stat(dir); err == nil {
			t.Errorf("%s: something was written", name)
		}
	}
	if _, err := p.Compare(t.Context(), io.MultiReader(strings.NewReader(good), brokenReader{}), Destination{Dir: t.TempDir()}); err == nil ||
		!strings.Contains(err.Error(), "the repository is gone") {
		t.Errorf("the error of the inventory is lost: %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(w.set.StateDir, "bucket", scratchPrefix+"*")); len(left) > 0 {
		t.Errorf("left over: %v", left)
	}
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) {
	return 0, fail.New(fail.Repository, "the repository is gone", "")
}

// Destinations that a restore would harm, or that are not there, are refused.
func TestRestoreRefuses(t *testing.T) {
	w := newWorld(t)
	objects := w.fill(3)
	set := w.keepSet("s", objects)
	compare := func(to Destination) (*Difference, error) { return w.pool().Compare(t.Context(), set.reader(t), to) }
	absent, keys := w.bucket, w.bucket
	absent.Name = "absent"
	keys.Keys.Secret = "wrong-" + keys.Keys.Secret
	link := t.TempDir()
	if err := os.Symlink(t.TempDir(), filepath.Join(link, "space")); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name       string
		to         Destination
		code       fail.Code
		text, hint string
	}{
		{"nothing", Destination{}, fail.Usage, "", ""},
		{"both", Destination{Bucket: &w.bucket, Dir: "/x"}, fail.Usage, "", ""},
		{"no such bucket", Destination{Bucket: &absent}, fail.Repository, "absent", "no such bucket"},
		{"wrong keys", Destination{Bucket: &keys}, fail.Repository, testBucket, "keys"},
		{"a relative directory", Destination{Dir: "x"}, fail.Usage, "", ""},
		{"the pool", Destination{Dir: w.target.Location}, fail.Usage, "pool", ""},
		{"in the pool", Destination{Dir: filepath.Join(w.target.Location, "x")}, fail.Usage, "pool", ""},
		{"around the pool", Destination{Dir: filepath.Dir(w.target.Location)}, fail.Usage, "pool", ""},
		{"a link in the directory", Destination{Dir: link}, fail.Usage, "space", "empty"},
		{"a file", Destination{Dir: file}, fail.Usage, "file", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := compare(tc.to)
			w.fails(err, tc.code, tc.text, tc.hint)
		})
	}

	// A directory with something of others' in it stays as it is.
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "letter"), []byte("dear"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := w.restore(t.Context(), set, Destination{Dir: dir}, RestoreOptions{DeleteExtra: true})
	w.fails(err, fail.Usage, "letter", "empty")
	if got := filesBelow(t, dir); len(got) != 1 {
		t.Errorf("the directory has %v", got)
	}

	// A pool in the bucket that is restored, by whatever name its server has, is no extra.
	w.server.Put(t, testBucket, "backup/"+markerFile, []byte("{}"))
	_, err = w.restore(t.Context(), set, Destination{Bucket: &w.bucket}, RestoreOptions{DeleteExtra: true})
	w.fails(err, fail.Usage, "backup/"+markerFile, "")
	w.server.Delete(t, testBucket, "backup/"+markerFile)
	w.target = Target{Location: "s3:" + w.bucket.Endpoint + "/" + testBucket + "/backup", Keys: w.bucket.Keys}
	_, err = compare(Destination{Bucket: &w.bucket})
	w.fails(err, fail.Usage, "the pool", "another bucket")
}

// A bucket that can't be written says so, and nothing is deleted from it; nor is a
// pool that is not there any more one whose objects are all lost.
func TestRestoreFails(t *testing.T) {
	w := newWorld(t)
	objects := w.fill(30)
	set := w.keepSet("s", objects)
	proxy := w.proxied()
	gone := sortedKeys(objects)[0]
	w.server.Delete(t, testBucket, gone)
	w.server.Put(t, testBucket, "extra", []byte("x"))
	proxy.Add(refusePuts)
	r, err := w.restore(t.Context(), set, Destination{Bucket: &w.bucket}, RestoreOptions{DeleteExtra: true})
	w.fails(err, fail.Repository, gone, "right to")
	if r.Deleted != 0 || w.server.List(t, testBucket)["extra"] != 1 {
		t.Errorf("deleted, although not all was restored: %+v", r)
	}
	proxy.Clear()

	p, d := w.compareTo(set, Destination{Dir: filepath.Join(t.TempDir(), "to")})
	if err := os.Rename(w.target.Location, w.target.Location+".unmounted"); err != nil {
		t.Fatal(err)
	}
	r, err = p.Restore(t.Context(), d, RestoreOptions{})
	w.fails(err, fail.Repository, "is not there", "mounted")
	if len(r.Findings) > 0 {
		t.Errorf("findings: %v", r.Findings)
	}
}
