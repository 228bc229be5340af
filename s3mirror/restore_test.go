package s3mirror

import (
	"context"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/integration/env"
)

// poolKinds are the kinds of pools that there are.
var poolKinds = []struct {
	name string
	make func(w *world)
}{
	{"directory", func(*world) {}},
	{"encrypted directory", func(w *world) { w.target.Password = "secret" }},
	{"same server", func(w *world) { w.onServer(w.server, w.server.Endpoint) }},
	{"another server", func(w *world) { s := env.S3Server(w.t); w.onServer(s, s.Endpoint) }},
	{"encrypted on a server", func(w *world) { w.onServer(w.server, w.server.Endpoint); w.target.Password = "secret" }},
}

// Whatever has become of the bucket, a restore makes it what it was; another bucket
// and a directory too.
func TestRestore(t *testing.T) {
	for _, tc := range poolKinds {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t)
			tc.make(w)
			objects := w.fillKinds()
			set := w.keepSet("s", objects)
			if len(set.findings) != 0 {
				t.Errorf("findings of the copy: %v", set.findings)
			}
			list := plainKeys(objects)
			gone, changed, cut := list[0], list[1], list[2]
			w.server.Delete(t, testBucket, gone)
			w.server.Put(t, testBucket, changed, altered(objects[changed]))
			w.server.Put(t, testBucket, cut, objects[cut][1:])
			extra := map[string][]byte{newKey("s"): newContent(50), "also": newContent(5)}
			for key, b := range extra {
				w.server.Put(t, testBucket, key, b)
			}
			here := Destination{Bucket: &w.bucket}

			_, d := w.compareTo(set, here)
			if d.Objects != uint64(len(objects)) || d.Missing != 1 || d.MissingBytes != uint64(len(objects[gone])) ||
				d.Differing != 2 || d.Extra != 2 || d.ExtraBytes != 55 || d.New {
				t.Errorf("difference %+v", d)
			}
			if list := d.ExtraKeys(1); len(list) != 1 || list[0].Key != "also" || len(d.ExtraKeys(9)) != 2 {
				t.Errorf("extra objects %+v", list)
			}
			if r := w.mustRestore(set, here, RestoreOptions{}); r.Objects != 3 || r.Deleted != 0 || len(r.Findings) != 0 {
				t.Errorf("restored %+v", r)
			}
			all := merged(objects, extra)
			bucketHolds(t, w.server, testBucket, all)
			if r := w.mustRestore(set, here, RestoreOptions{DeleteExtra: true}); r.Objects != 0 || r.Deleted != 2 || r.DeletedBytes != 55 {
				t.Errorf("restored %+v", r)
			}
			bucketHolds(t, w.server, testBucket, objects)
			w.put(extra)
			p, d := w.compareTo(set, here)
			w.server.Put(t, testBucket, "came later", []byte("x"))
			if r, err := p.Restore(t.Context(), d, RestoreOptions{DeleteExtra: true}); err != nil || r.Deleted != 2 || r.DeletedBytes != 55 {
				t.Errorf("deleted %+v, %v", r, err)
			}
			bucketHolds(t, w.server, testBucket, merged(objects, map[string][]byte{"came later": []byte("x")}))
			w.server.Delete(t, testBucket, "came later")

			to := otherBucket(t, w.server, "another")
			if r := w.mustRestore(set, Destination{Bucket: to}, RestoreOptions{}); r.Objects != uint64(len(objects)) {
				t.Errorf("restored %+v", r)
			}
			bucketHolds(t, w.server, "another", objects)
			if _, d := w.compareTo(set, Destination{Bucket: to}); d.Missing+d.Differing+d.Extra != 0 {
				t.Errorf("after the restore: %+v", d)
			}

			dir := filepath.Join(t.TempDir(), "new", "dir")
			if _, d := w.compareTo(set, Destination{Dir: dir}); !d.New || d.Missing != d.Objects {
				t.Errorf("new directory: %+v", d)
			}
			w.mustRestore(set, Destination{Dir: dir}, RestoreOptions{})
			sameSums(t, filesBelow(t, dir), sumsOf(objects))
			if st, err := os.Stat(dir); err != nil || st.Mode().Perm() != 0o700 {
				t.Errorf("the directory has mode %v (%v)", st.Mode(), err)
			}
			left, err := filepath.Glob(filepath.Join(w.set.StateDir, "bucket", scratchPrefix+"*"))
			if d.Close(); err != nil || len(left) > 4 { // those of the differences that are still open
				t.Errorf("left over: %v (%v)", left, err)
			}
		})
	}
}

// An extra object that was written anew after the bucket was listed is not deleted.
func TestRestoreKeepsNewer(t *testing.T) {
	w := newWorld(t)
	objects := w.fill(2)
	set := w.keepSet("s", objects)
	extra := map[string][]byte{}
	for _, name := range []string{"goes", "other size", "other content", "written again", "gone"} {
		extra["s/"+name] = newContent(50)
	}
	w.put(extra)
	for name := range extra {
		setModified(t, filepath.Join(w.server.Dir, testBucket, name), time.Now().Add(-time.Hour))
	}
	p, d := w.compareTo(set, Destination{Bucket: &w.bucket})
	listed := map[string]time.Time{}
	for _, o := range d.ExtraKeys(9) {
		listed[o.Key] = o.Modified
	}
	newer := map[string][]byte{"s/other size": newContent(51), "s/other content": newContent(50), "s/written again": extra["s/written again"]}
	w.put(newer)
	for _, key := range []string{"s/other size", "s/other content"} { // it is not the time alone
		setModified(t, filepath.Join(w.server.Dir, testBucket, key), listed[key])
	}
	w.server.Delete(t, testBucket, "s/gone")
	r, err := p.Restore(t.Context(), d, RestoreOptions{DeleteExtra: true})
	if err != nil || r.Deleted != 1 || r.DeletedBytes != 50 {
		t.Errorf("%+v %v", r, err)
	}
	bucketHolds(t, w.server, testBucket, merged(objects, newer))
}

// setModified gives an object of the server another time.
func setModified(t *testing.T, path string, at time.Time) {
	t.Helper()
	if err := os.Chtimes(path, at, at); err != nil {
		t.Fatal(err)
	}
}

// A server copies by itself what it can; nothing passes through this machine.
func TestRestoreOnServer(t *testing.T) {
	w := newWorld(t)
	proxy := env.S3Proxy(t, w.server)
	w.bucket.Endpoint = proxy.Endpoint
	w.onServer(w.server, proxy.Endpoint)
	objects := w.fillKinds()
	set := w.keepSet("s", objects)
	to := *otherBucket(t, w.server, "another")
	to.Endpoint = proxy.Endpoint
	changed := plainKeys(objects)[0]
	w.server.Put(t, "another", changed, altered(objects[changed]))
	proxy.Forget()
	w.mustRestore(set, Destination{Bucket: &to}, RestoreOptions{})
	bucketHolds(t, w.server, "another", objects)
	if n, odd := proxy.Count(env.Copy), 1; n != len(objects)-odd {
		t.Errorf("the server has copied %d of %d objects", n, len(objects))
	}
	for _, r := range proxy.Requests() {
		if r.Kind == env.Get && strings.Contains(r.Key, blobsDir) || r.Kind == env.Put && plain(r.Key) {
			t.Errorf("passed through here: %+v", r)
		}
	}

	// A server that does not, or that copies wrongly, is asked no more.
	for _, do := range map[string]env.Action{"refuses": env.Refuse(403, "AccessDenied"), "lies": env.Swallow} {
		w.server.Wipe(t, "another")
		proxy.Clear()
		proxy.Add(env.Rule{Kind: env.Copy, Do: do})
		w.mustRestore(set, Destination{Bucket: &to}, RestoreOptions{})
		bucketHolds(t, w.server, "another", objects)
	}
}

// What the pool has lost, or holds with other content, is told; all else is restored,
// and nothing wrong.
func TestRestoreDamaged(t *testing.T) {
	for _, tc := range poolKinds {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t)
			w.target.Location = filepath.Join(t.TempDir(), "pool")
			tc.make(w)
			objects := w.fillKinds()
			set := w.keepSet("s", objects)
			list := plainKeys(objects)
			lost, damaged, cut, replaced := list[0], list[1], list[2], list[3]
			w.spoil(lost, func([]byte) []byte { return nil })
			w.spoil(damaged, altered)
			w.spoil(cut, func(b []byte) []byte { return b[:len(b)-1] })
			w.spoil(replaced, altered)

			to := otherBucket(t, w.server, "another")
			left := map[string][]byte{replaced: newContent(77), "extra": newContent(7)}
			for key, b := range left {
				w.server.Put(t, "another", key, b)
			}
			r, err := w.restore(t.Context(), set, Destination{Bucket: to}, RestoreOptions{DeleteExtra: true})
			wantCode(t, err, fail.Inconsistent)
			if !strings.Contains(err.Error(), "4 objects") || r.Deleted != 0 {
				t.Errorf("%v, %+v", err, r)
			}
			kinds := map[string]string{}
			for _, f := range r.Findings {
				kinds[f.Key] = f.Kind
			}
			if want := map[string]string{lost: Lost, damaged: Damaged, cut: Damaged, replaced: Damaged}; !maps.Equal(kinds, want) {
				t.Errorf("findings %v, want %v", r.Findings, want)
			}
			want := maps.Clone(objects)
			for _, key := range []string{lost, damaged, cut} {
				delete(want, key)
			}
			maps.Copy(want, left)
			bucketHolds(t, w.server, "another", want)

			dir := t.TempDir()
			_, err = w.restore(t.Context(), set, Destination{Dir: dir}, RestoreOptions{})
			wantCode(t, err, fail.Inconsistent)
			delete(want, "extra")
			delete(want, replaced)
			sameSums(t, filesBelow(t, dir), sumsOf(want))
		})
	}
}

// spoil changes an object of the pool behind everybody's back; nil: it is gone.
func (w *world) spoil(key string, change func([]byte) []byte) {
	w.t.Helper()
	p := w.pool()
	ctx := p.with(w.t.Context())
	path := blobsDir + "/" + key
	if f, ok := p.data.(interface{ EncryptFileName(string) string }); ok {
		path = encryptedDir + "/" + f.EncryptFileName(path)
	}
	b, err := read(ctx, p.base, path)
	if err != nil {
		w.t.Fatal(err)
	}
	if b = change(b); b != nil {
		err = write(ctx, p.base, path, b)
	} else if o, oerr := p.base.NewObject(ctx, path); oerr == nil {
		err = o.Remove(ctx)
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

// A restore that is interrupted goes on, and copies nothing twice.
func TestRestoreInterrupted(t *testing.T) {
	w := newWorld(t)
	w.set.Transfers = 1
	objects := w.fillKinds()
	set := w.keepSet("s", objects)
	proxy := env.S3Proxy(t, w.server)
	to := *otherBucket(t, w.server, "another")
	to.Endpoint = proxy.Endpoint
	for interruptions := 0; ; interruptions++ {
		ctx, cancel := context.WithCancel(t.Context())
		proxy.Clear()
		proxy.Add(env.Rule{Kind: env.Put, Skip: 5, Do: env.Before(func(env.Request) { cancel() })})
		r, err := w.restore(ctx, set, Destination{Bucket: &to}, RestoreOptions{})
		cancel()
		if err == nil {
			if interruptions < 2 {
				t.Errorf("interrupted %d times only", interruptions)
			}
			break
		}
		if r.Objects < 4 || interruptions > len(objects) {
			t.Fatalf("%+v: %v", r, err)
		}
	}
	bucketHolds(t, w.server, "another", objects)

	// The same with a directory, from a pool on a server.
	proxy.Clear()
	w.onServer(w.server, proxy.Endpoint)
	w.set.StateDir = t.TempDir()
	set = w.keepSet("s", objects)
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	proxy.Add(env.Rule{Kind: env.Get, Key: "blobs/", Skip: 5, Do: env.Before(func(env.Request) { cancel() })})
	if _, err := w.restore(ctx, set, Destination{Dir: dir}, RestoreOptions{}); err == nil {
		t.Fatal("it was not interrupted")
	}
	// A kill leaves a file that was being written; a power failure one that is not whole.
	there := sortedKeys(filesBelow(t, dir))
	for name, b := range map[string][]byte{there[0]: make([]byte, len(objects[there[0]])), there[1] + partialSuffix: []byte("x")} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	proxy.Clear()
	if r := w.mustRestore(set, Destination{Dir: dir}, RestoreOptions{}); r.Objects >= uint64(len(objects)) {
		t.Errorf("all was copied again: %+v", r)
	}
	sameSums(t, filesBelow(t, dir), sumsOf(objects))
}

// A server that stores something else, or nothing, is found out.
func TestRestoreToLiar(t *testing.T) {
	w := newWorld(t)
	objects := w.fillKinds()
	set := w.keepSet("s", objects)
	proxy := env.S3Proxy(t, w.server)
	key := plainKeys(objects)[3]
	for name, do := range map[string]env.Action{"stores nothing": env.Swallow, "cuts off": env.Truncate(1), "stores other": env.StoreOther(altered)} {
		to := *otherBucket(t, w.server, "liar-"+strings.ReplaceAll(name, " ", "-"))
		to.Endpoint = proxy.Endpoint
		proxy.Clear()
		proxy.Add(env.Rule{Kind: env.Put, Key: key, Times: 1, Do: do})
		w.mustRestore(set, Destination{Bucket: &to}, RestoreOptions{})
		bucketHolds(t, w.server, to.Name, objects)
		w.server.Wipe(t, to.Name)
		proxy.Clear()
		proxy.Add(env.Rule{Kind: env.Put, Key: key, Do: do})
		if _, err := w.restore(t.Context(), set, Destination{Bucket: &to}, RestoreOptions{}); err == nil {
			t.Errorf("a server that always %s was believed", name)
		}
	}
}
