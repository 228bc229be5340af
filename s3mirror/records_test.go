package s3mirror

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/uuid"

	"github.com/ocbackup/ocbackup/integration/env"
)

// Keys of every kind are copied as they are, and found again.
func TestKeys(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	objects := map[string][]byte{}
	for c := byte(' '); c <= '~'; c++ {
		if c != '/' {
			objects["chars/"+string(c)+"a"+string(c)+"b"+string(c)] = newContent(10)
		}
	}
	for _, c := range ` !"#$%&'()*+,-.:;<=>?@[\]^_{|}~` {
		objects[string(c)+"s"+string(c)+"/a"] = newContent(10)
	}
	for _, k := range []string{
		"top", "Top", "a/b", "a-b/c", "a.b/c", "a b/c", "ab/c", "a/b-c", "a/bc/d", "a/b.c/d", "ä/ö/ü", "日本/語", "a/é", "a/e\u0301",
		"a/＼", "a/．", "a/．．", "a/‛．", "a/␀", "a/%2F", "a/%25", "a/+", "a/a+b c", "a/x.ocb-partial", "a/x.rclonelink", "...", "a/...",
		"a/" + strings.Repeat("n", 255), "a/" + strings.Repeat("é", 127), strings.Repeat("s", 255) + "/a", "a/" + strings.Repeat("d/", 200) + "z",
		"blobs/a", "changed/a", "odd/a", "ocbackup-pool.json/a", uuid.NewString(),
	} {
		objects[k] = newContent(20)
	}
	objects["zero/0"] = nil
	w.put(objects)
	c := w.mustCopy(CopyOptions{})
	if len(c.Findings) != 0 {
		t.Errorf("found %v", c.Findings)
	}
	w.exact(c, encoded(objects))
	for _, o := range []CopyOptions{{}, {Reconcile: true}} {
		if again := w.mustCopy(o); again.New != 0 || len(again.Findings) != 0 || again.Inventory.Digest != c.Inventory.Digest {
			t.Errorf("copied again: %+v", again)
		}
	}
	// Without index and inventory, and into a target that is another.
	_ = os.RemoveAll(filepath.Join(w.set.StateDir, "bucket"))
	c = w.mustCopy(CopyOptions{})
	if c.New != 0 || len(c.Findings) != 0 {
		t.Errorf("copied again: %+v", c)
	}
	w.exact(c, encoded(objects))
	w.onS3(env.S3Server(t))
	w.set.StateDir = t.TempDir()
	w.exact(w.mustCopy(CopyOptions{}), encoded(objects))
	w.onSame(t)
}

// onSame copies with a pool on the bucket's own server.
func (w *world) onSame(t *testing.T) {
	p := w.onS3(w.server)
	w.bucket.Endpoint, w.set.StateDir = p.Endpoint, t.TempDir()
	w.set.Log = func(s string) { t.Error(s) }
	w.mustCopy(CopyOptions{})
	held := map[string]int{}
	for _, content := range w.held() {
		held[content]++
	}
	for _, content := range w.server.Objects(t, testBucket) {
		if held[content]--; held[content] < 0 {
			t.Errorf("the pool lacks an object")
		}
	}
}

// encoded are objects under the keys as rclone writes them.
func encoded(objects map[string][]byte) map[string][]byte {
	all := map[string][]byte{}
	for k, v := range objects {
		all[asRclone.ToStandardPath(k)] = v
	}
	return all
}

// What the bucket lists and is no object of OpenCloud's is told, not passed over.
func TestFolderMarkers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	objects := w.fill(3)
	for _, marker := range []string{"folder/", "space/folder/", "space/folder/below/"} {
		w.server.Put(t, testBucket, marker, nil)
	}
	key := newKey("space")
	objects[key] = newContent(10)
	w.put(map[string][]byte{key: objects[key]})
	c := w.mustCopy(CopyOptions{})
	w.exact(c, objects)
	var found []string
	for _, f := range c.Findings {
		found = append(found, f.Kind+" "+f.Key)
	}
	slices.Sort(found)
	if want := []string{"skipped folder/", "skipped space/folder/", "skipped space/folder/below/"}; !slices.Equal(found, want) {
		t.Errorf("found %q, want %q", found, want)
	}
}

// Keys that are no paths are told, and are in no inventory; all others are copied.
func TestNoPaths(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	key := newKey("space")
	objects := map[string][]byte{key: newContent(10)}
	w.put(objects)
	listed := map[string]string{ // by prefix: what the server lists besides; no file can have these names
		"":       "<CommonPrefixes><Prefix>/</Prefix></CommonPrefixes><CommonPrefixes><Prefix>../</Prefix></CommonPrefixes>" + contents("."),
		"space/": contents("space/../d") + contents("space/./c") + contents("space//b") + contents("space/.."),
	}
	upstream := env.S3Proxy(t, w.server)
	more := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		prefix := r.URL.Query().Get("prefix")
		isList := r.URL.Query().Has("list-type")
		r.URL.Scheme, r.URL.Host, r.RequestURI = "http", strings.TrimPrefix(upstream.Endpoint, "http://"), ""
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		defer answer.Body.Close()
		b, _ := io.ReadAll(answer.Body)
		if isList {
			b = bytes.Replace(b, []byte("</ListBucketResult>"), []byte(listed[prefix]+"</ListBucketResult>"), 1)
		}
		rw.WriteHeader(answer.StatusCode)
		_, _ = rw.Write(b)
	}))
	t.Cleanup(more.Close)
	w.bucket.Endpoint = more.URL
	set := w.keepSet("s", objects)
	var found []string
	for _, f := range set.findings {
		found = append(found, f.Kind+" "+f.Key)
	}
	slices.Sort(found)
	want := []string{"skipped .", "skipped ../", "skipped /", "skipped space/..", "skipped space/../d", "skipped space/./c", "skipped space//b"}
	if !slices.Equal(found, want) {
		t.Errorf("found %q, want %q", found, want)
	}
	if in := inventoryOf(t, set); len(in) != 1 || in[key].Size != 10 {
		t.Errorf("the inventory has %v", in)
	}
	w.mustRestore(set, Destination{Dir: filepath.Join(t.TempDir(), "to")}, RestoreOptions{})
}

func contents(key string) string {
	return "<Contents><Key>" + key + "</Key><LastModified>2026-01-01T00:00:00Z</LastModified><Size>1</Size></Contents>"
}

// inventoryOf is a set's inventory by key.
func inventoryOf(t *testing.T, s testSet) map[string]Object {
	t.Helper()
	in := s.reader(t)
	defer in.Close()
	all := map[string]Object{}
	r := newReader(in, "inventory")
	for r.next() {
		all[r.at.Key] = *r.at
	}
	if err := r.failed(); err != nil {
		t.Fatal(err)
	}
	return all
}

// What the server's listing can't tell is an error, not left out.
func TestControlCharacters(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(3)
	dir := filepath.Join(w.server.Dir, testBucket)
	for _, name := range []string{"a\x01b", "a\xffb"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := w.copy(t.Context(), nil, CopyOptions{})
		t.Logf("%q: %v", name, err)
		if err == nil && c.Listed == 3 && len(c.Findings) == 0 {
			t.Errorf("%q was passed over", name)
		}
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
}

// Two readers of sorted objects are walked side by side; what is out of order, cut off
// or no object is an error.
func TestJoin(t *testing.T) {
	t.Parallel()
	lines := func(keys ...string) *reader {
		var b []byte
		for _, k := range keys {
			var err error
			if b, err = encode(b, &Object{Key: k}); err != nil {
				t.Fatal(err)
			}
		}
		return newReader(bytes.NewReader(b), "test")
	}
	var got []string
	err := join(lines("a", "a/b", "z"), lines("a", "a/c", "b/a"), func(_, _ *Object) error { return nil })
	if err == nil {
		t.Error("wrong order passed")
	}
	keys := []string{"z", "b/a", "a-b/c", "a/b", "a", "a/b/c", "a/b-c"}
	slices.SortFunc(keys, compare)
	if want := []string{"a", "z", "a/b", "a/b-c", "a/b/c", "a-b/c", "b/a"}; !slices.Equal(keys, want) {
		t.Errorf("sorted: %q", keys)
	}
	err = join(lines("a", "z", "a/b", "b/a"), lines("a", "a/c", "b/a"), func(l, r *Object) error {
		switch {
		case l == nil:
			got = append(got, ">"+r.Key)
		case r == nil:
			got = append(got, "<"+l.Key)
		default:
			got = append(got, "="+l.Key)
		}
		return nil
	})
	if want := []string{"=a", "<z", "<a/b", ">a/c", "=b/a"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("got %q %v", got, err)
	}
	for _, bad := range []string{`{"key":"a"`, "{}\n", "x\n", `{"key":"a","size":-1}` + "\n", "\x00\x00\n"} {
		r := newReader(strings.NewReader(bad), "test")
		for r.next() {
		}
		if r.failed() == nil {
			t.Errorf("%q passed", bad)
		}
		if _, _, err := partsOf(strings.NewReader(bad)); err == nil && !strings.HasPrefix(bad, "{") {
			t.Errorf("parts of %q passed", bad)
		}
	}
}

// A recorder writes in order, only what is there, and stops at the first error.
func TestRecorder(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		r, err := newRecorder(segments{dir}, "s")
		if err != nil {
			t.Fatal(err)
		}
		read := func() string {
			b, _ := os.ReadFile(segments{dir}.file("index", "s"))
			return string(b)
		}
		late := &future{done: make(chan struct{})}
		for _, f := range []*future{known(&Object{Key: "s/a"}, true), late, known(&Object{Key: "s/c"}, true)} {
			if err := r.add(f); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		if s := read(); !strings.Contains(s, "s/a") || strings.Contains(s, "s/c") {
			t.Errorf("while one is on its way: %s", s)
		}
		close(late.done) // it turned out to be gone
		if err := r.close(); err != nil || strings.Count(read(), "\n") != 2 {
			t.Errorf("%v: %s", err, read())
		}
		// After an error nobody waits for it, however much there is to add.
		if r, err = newRecorder(segments{dir}, "s"); err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		close(done)
		if err := r.add(&future{done: done, err: errGone}); err != nil {
			t.Fatal(err)
		}
		var failed error
		for range 2 * recorderQueue {
			if failed = r.add(known(&Object{Key: "s/a"}, true)); failed != nil {
				break
			}
		}
		if failed == nil || r.close() == nil {
			t.Error("the error was lost")
		}
	})
}
