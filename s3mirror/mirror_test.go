package s3mirror

import (
	"crypto/md5"
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/pkg/xattr"

	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/integration/env"
)

// What the bucket lists is in the pool afterwards, with its hashes; a second copy
// has nothing to do.
func TestCopy(t *testing.T) {
	w := newWorld(t)
	objects := map[string][]byte{}
	for range 3 {
		space := uuid.NewString()
		for i := range 40 {
			objects[newKey(space)] = newContent(i * 100)
		}
	}
	objects["top"] = newContent(10)
	big := newKey(uuid.NewString())
	objects[big] = newContent(20 << 20)
	for k, v := range objects {
		w.server.Put(t, testBucket, k, v)
	}
	c := w.mustCopy(CopyOptions{})
	if c.New != uint64(len(objects)) || c.Inventory.Objects != c.New || len(c.Findings) != 0 {
		t.Fatalf("copied %+v, want %d objects", c, len(objects))
	}
	inv := inventory(t, c.Inventory.Path)
	for k, v := range objects {
		m, s := md5.Sum(v), sha1.Sum(v)
		if o := inv[k]; o.Size != int64(len(v)) || o.MD5 != hex.EncodeToString(m[:]) || o.SHA1 != hex.EncodeToString(s[:]) {
			t.Errorf("%s: inventory says %+v", k, o)
		}
		held, err := os.ReadFile(filepath.Join(w.target.Location, "blobs", k))
		if err != nil || sum(held) != sum(v) {
			t.Errorf("%s: the pool holds %d bytes (%v)", k, len(held), err)
		}
	}
	again := w.mustCopy(CopyOptions{})
	if again.New != 0 || again.Inventory.Digest != c.Inventory.Digest || again.Reconciled {
		t.Errorf("copied again: %+v", again)
	}
}

// An object that has other content than before is kept beside the first: what either
// inventory names is there. The next run has nothing to do.
func TestChanged(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name   string
		change func(w *world, key string, old []byte) []byte
	}{
		{"size", func(w *world, key string, _ []byte) []byte {
			b := newContent(77)
			w.put(map[string][]byte{key: b})
			return b
		}},
		{"same size", func(w *world, key string, old []byte) []byte {
			b := newContent(len(old))
			w.put(map[string][]byte{key: b})
			return b
		}},
		{"uploaded in parts, other content", func(w *world, key string, old []byte) []byte {
			b := newContent(len(old))
			w.multipart(key, b)
			return b
		}},
		{"an odd key's", nil},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			p := w.proxied()
			key := newKey("space")
			if row.change == nil {
				key = "Odd Key"
				row.change = func(w *world, key string, _ []byte) []byte {
					b := newContent(77)
					w.put(map[string][]byte{key: b})
					return b
				}
			}
			objects := w.fill(4)
			objects[key] = newContent(6 << 20)
			w.multipart(key, objects[key])
			first := w.mustCopy(CopyOptions{})
			w.exact(first, objects)
			old := inventory(t, first.Inventory.Path)[key]
			before := map[string][]byte{key: objects[key]}

			objects[key] = row.change(w, key, objects[key])
			c := w.mustCopy(CopyOptions{})
			if len(c.Findings) != 1 || c.Findings[0].Kind != Changed || c.Findings[0].Key != key || c.New != 1 {
				t.Errorf("%+v", c)
			}
			w.exact(c, objects, old.Path())
			if held := w.held(); held[old.Path()] != sum(before[key]) {
				t.Error("the first content is not kept")
			}
			for _, o := range []CopyOptions{{}, {Reconcile: true}} {
				p.Forget()
				if c = w.mustCopy(o); c.New != 0 || len(c.Findings) != 0 || p.Count(env.Get) != 0 {
					t.Errorf("%d objects read again: %+v", p.Count(env.Get), c)
				}
				w.exact(c, objects, old.Path())
			}
			// When the newer one is lost, its place is not taken for the first one's.
			o := inventory(t, c.Inventory.Path)[key]
			newer := o.Path()
			if err := os.Remove(filepath.Join(w.target.Location, newer)); err != nil {
				t.Fatal(err)
			}
			c = w.mustCopy(CopyOptions{Reconcile: true})
			w.exact(c, objects, old.Path())
			if held := w.held(); held[old.Path()] != sum(before[key]) || c.New != 1 {
				t.Errorf("the first content was overwritten: %+v", c)
			}
		})
	}
}

// The same content that was uploaded anew, in other parts, is no other object.
func TestUploadedAnew(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.proxied()
	key, b := newKey("space"), newContent(12<<20)
	objects := map[string][]byte{key: b}
	w.multipart(key, b)
	w.exact(w.mustCopy(CopyOptions{}), objects)
	w.multipart(key, b, 6<<20)
	c := w.mustCopy(CopyOptions{})
	if c.New != 0 || len(c.Findings) != 0 {
		t.Errorf("%+v", c)
	}
	w.exact(c, objects)
	p.Forget()
	if c = w.mustCopy(CopyOptions{}); p.Count(env.Get) != 0 {
		t.Error("it was read again")
	}
	w.exact(c, objects)
}

// An object that is deleted between listing and copy is asked for once more, told of,
// and not in the inventory.
func TestGone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.proxied()
	objects := w.fill(10)
	gone := slices.Sorted(maps.Keys(objects))[3]
	p.Add(env.Rule{Kind: env.Get, Key: gone, Times: 1, Do: env.Before(func(env.Request) { w.server.Delete(t, testBucket, gone) })})
	delete(objects, gone)
	c := w.mustCopy(CopyOptions{})
	if len(c.Findings) != 1 || c.Findings[0].Kind != Gone || c.Findings[0].Key != gone {
		t.Errorf("found %+v", c.Findings)
	}
	w.exact(c, objects)
	asked := 0
	for _, r := range p.Requests() {
		if r.Kind == env.List && r.Key == gone {
			asked++
		}
	}
	if asked != 1 {
		t.Errorf("it was asked for %d times", asked)
	}
	w.exact(w.mustCopy(CopyOptions{}), objects)
}

// An object that is purged stays in the pool, for older sets, and leaves the inventory.
func TestPurged(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	objects := w.fill(10)
	w.mustCopy(CopyOptions{})
	keys := slices.Sorted(maps.Keys(objects))
	space := spaceOf(keys[0])
	var purged []string
	for _, k := range keys { // a whole space
		if spaceOf(k) == space {
			w.server.Delete(t, testBucket, k)
			purged = append(purged, "blobs/"+k)
			delete(objects, k)
		}
	}
	for _, o := range []CopyOptions{{}, {Reconcile: true}} {
		c := w.mustCopy(o)
		w.exact(c, objects, purged...)
		if len(w.held()) != 10 || len(c.Findings) != 0 {
			t.Errorf("%+v", c)
		}
	}
	// It comes back: there is nothing to copy.
	back := strings.TrimPrefix(purged[0], "blobs/")
	held, err := os.ReadFile(filepath.Join(w.target.Location, purged[0]))
	if err != nil {
		t.Fatal(err)
	}
	objects[back] = held
	w.put(map[string][]byte{back: held})
	c := w.mustCopy(CopyOptions{})
	w.exact(c, objects, purged...)
	if c.New != 0 {
		t.Errorf("%+v", c)
	}
}

// A server that encrypts has entity tags that are no MD5: each object is copied once,
// and not read again on the next run.
func TestTagsThatLie(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.proxied()
	objects := w.fill(20)
	for k := range objects {
		setTag(t, filepath.Join(w.server.Dir, testBucket, k), digestOf(k)[:32])
	}
	c := w.mustCopy(CopyOptions{})
	w.exact(c, objects)
	if c.New != 20 || len(c.Findings) != 0 {
		t.Errorf("%+v", c)
	}
	for _, o := range []CopyOptions{{}, {Reconcile: true}} {
		p.Forget()
		if c = w.mustCopy(o); c.New != 0 || len(c.Findings) != 0 || p.Count(env.Get) != 0 {
			t.Errorf("%d read again: %+v", p.Count(env.Get), c)
		}
	}
}

// Content that was damaged on the way is not what the tag says, and is read again.
func TestDamagedOnTheWay(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.proxied()
	objects := w.fill(5)
	bad := slices.Sorted(maps.Keys(objects))[2]
	path := filepath.Join(w.server.Dir, testBucket, bad)
	flip := func(env.Request) {
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Error(err)
			return
		}
		defer f.Close()
		b := make([]byte, 1)
		_, _ = f.ReadAt(b, 500)
		_, _ = f.WriteAt([]byte{b[0] ^ 1}, 500)
	}
	p.Add(env.Rule{Kind: env.Get, Key: bad, Times: 1, Do: env.Before(flip)})
	p.Add(env.Rule{Kind: env.Get, Key: bad, Times: 1, Do: env.After(flip)})
	c := w.mustCopy(CopyOptions{})
	w.exact(c, objects)
	if len(c.Findings) != 0 {
		t.Errorf("%+v", c)
	}
}

// In the end, what was done is what there was to do.
func TestProgress(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.proxied()
	objects := w.fill(30)
	gone := slices.Sorted(maps.Keys(objects))[7]
	p.Add(env.Rule{Kind: env.Get, Times: 3, Do: env.CutAnswer(300)})
	p.Add(env.Rule{Kind: env.Get, Key: gone, Times: 1, Do: env.Before(func(env.Request) { w.server.Delete(t, testBucket, gone) })})
	var last atomic.Pointer[Progress]
	c := w.mustCopy(CopyOptions{OnProgress: func(p Progress) { last.Store(&p) }})
	got := last.Load()
	if got.Listed != 29 || got.Objects != 29 || got.TotalObjects != 29 || got.Bytes != got.TotalBytes || uint64(got.Bytes) != c.NewBytes || got.ETA != 0 {
		t.Errorf("%+v after %+v", got, c)
	}
	_ = os.RemoveAll(filepath.Join(w.set.StateDir, "bucket"))
	w.mustCopy(CopyOptions{OnProgress: func(p Progress) { last.Store(&p) }})
	if got = last.Load(); got.Listed != 29 || got.TotalObjects != 0 || got.TotalBytes != 0 || got.Bytes != 0 {
		t.Errorf("with nothing to copy: %+v", got)
	}
}

// Many errors are a few lines.
func TestManyErrors(t *testing.T) {
	t.Parallel()
	p := &pass{giveUp: func(error) {}}
	for range 12 {
		p.fails(fail.Wrap(fail.Repository, errors.New("a long story"), "copy x", "a hint"))
	}
	err := p.failed()
	if _, _, hint := fail.Details(err); fail.CodeOf(err) != fail.Repository || hint != "a hint" ||
		strings.Count(err.Error(), "a long story") != 3 || !strings.Contains(err.Error(), "12 objects could not be copied") {
		t.Errorf("%v", err)
	}
}

// A copy leaves nothing running.
func TestNothingStaysRunning(t *testing.T) {
	w := newWorld(t)
	w.fill(20)
	w.mustCopy(CopyOptions{OnProgress: func(Progress) {}})
	stacks := func() string {
		b := make([]byte, 1<<20)
		return string(b[:runtime.Stack(b, true)])
	}
	ours := func() (n int) {
		for g := range strings.SplitSeq(stacks(), "\n\n") {
			if strings.Contains(g, "s3mirror.(*pass)") || strings.Contains(g, "s3mirror.(*recorder)") || strings.Contains(g, "s3mirror.(*meter)") || strings.Contains(g, "asyncreader") {
				n++
			}
		}
		return n
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(stacks())
		}
	})
	env.Eventually(t, 10*time.Second, "all goroutines have ended", func() bool { return ours() == 0 })
}

// setTag gives an object of the server another entity tag.
func setTag(t *testing.T, path, tag string) {
	t.Helper()
	if err := xattr.Set(path, "user.etag", []byte(`"`+tag+`"`)); err != nil {
		t.Fatal(err)
	}
}
