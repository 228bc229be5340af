package s3mirror

import (
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ocbackup/ocbackup/fail"
)

// Single objects of pools of every kind are read as they were stored.
func TestOpen(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*world){
		"directory":           func(*world) {},
		"encrypted directory": func(w *world) { w.target.Password = "secret word" },
		"S3":                  func(w *world) { w.targetOnS3() },
		"encrypted S3":        func(w *world) { w.targetOnS3(); w.target.Password = "secret word" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			change(w)
			want := map[string]string{}
			for _, size := range []int{0, 1, 70 << 10} {
				key := newKey("space")
				want[key] = string(newContent(size))
				w.server.Put(t, testBucket, key, []byte(want[key]))
			}
			records := inventory(t, w.mustCopy(CopyOptions{}).Inventory.Path)
			_, pool, err := w.open()
			if err != nil {
				t.Fatal(err)
			}
			for _, key := range slices.Sorted(maps.Keys(want)) {
				o := records[key]
				if got, err := readAll(t, pool, &o); err != nil || got != want[key] {
					t.Errorf("%d bytes: %d, %v", o.Size, len(got), err)
				}
				// Another record is another object.
				o.SHA1, o.MD5, o.Size = strings.Repeat("0", 40), "", o.Size+1
				if got, err := readAll(t, pool, &o); len(got) == len(want[key])+1 || kindOf(err) != Damaged {
					t.Errorf("what was not stored: %d bytes, %v", len(got), err)
				}
				o.Key = newKey("space")
				if _, err := readAll(t, pool, &o); kindOf(err) != Lost {
					t.Errorf("what is not there: %v", err)
				}
			}
		})
	}
}

// An inventory that was tampered with leads to nothing but objects of the pool.
func TestOpenNothingElse(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(1)
	w.mustCopy(CopyOptions{})
	_, pool, err := w.open()
	if err != nil {
		t.Fatal(err)
	}
	secret := []byte("not of the pool")
	if err := os.WriteFile(filepath.Join(w.target.Location, "..", "secret"), secret, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, o := range []Object{{Key: "../../secret"}, {Key: "a/b", At: "../secret"}, {Key: "a/b", At: markerFile}} {
		o.Size = int64(len(secret))
		if got, err := readAll(t, pool, &o); fail.CodeOf(err) != fail.Inconsistent || len(got) > 0 {
			t.Errorf("%+v: %q, %v", o, got, err)
		}
	}
}

// What is wrong with an object is told before its last byte; a pool that is gone is
// another matter.
func TestOpenDamaged(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	key := newKey("space")
	w.server.Put(t, testBucket, key, []byte("content"))
	o := inventory(t, w.mustCopy(CopyOptions{}).Inventory.Path)[key]
	_, pool, err := w.open()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(w.target.Location, o.Path())
	for _, other := range []string{"Content", "cont", "content and more"} {
		if err := os.WriteFile(path, []byte(other), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := readAll(t, pool, &o); kindOf(err) != Damaged || len(got) >= len("content") {
			t.Errorf("%q: %q, %v", other, got, err)
		}
	}
	if err := os.Rename(w.target.Location, w.target.Location+".gone"); err != nil {
		t.Fatal(err)
	}
	if _, err := readAll(t, pool, &o); kindOf(err) != "" || fail.CodeOf(err) != fail.Repository {
		t.Errorf("no pool: %v", err)
	}
}

func kindOf(err error) string {
	f, _ := ObjectFault(err)
	return f.Kind
}

func readAll(t *testing.T, p *Pool, o *Object) (string, error) {
	r, err := p.Open(t.Context(), o)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	_, err = io.Copy(&b, r)
	return b.String(), errors.Join(err, r.Close())
}

// targetOnS3 moves the pool to a bucket of the same server.
func (w *world) targetOnS3() {
	w.t.Helper()
	w.server.Bucket(w.t, "pool")
	w.target = Target{Location: "s3:" + w.server.Endpoint + "/pool/prefix", Region: w.server.Region, Keys: w.bucket.Keys}
}
