package verify

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ocbackup/ocbackup/manifest"
	"github.com/ocbackup/ocbackup/opencloud"
	"github.com/ocbackup/ocbackup/s3mirror"
)

// object changes an object of the pool.
func (w *world) object(key string, change func([]byte) []byte) {
	w.t.Helper()
	path := filepath.Join(w.pool, "blobs", key)
	b, err := os.ReadFile(path)
	if err == nil {
		if b = change(b); b == nil {
			err = os.Remove(path)
		} else {
			err = os.WriteFile(path, b, 0o600)
		}
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

// What the pool has lost since is named by path.
func TestDamagedPool(t *testing.T) {
	t.Parallel()
	w := newWorld(t, opencloud.DecomposedS3)
	w.store()
	w.object(w.at("/same a"), func([]byte) []byte { return nil })
	w.object(w.at("/old.txt@trash"), func(b []byte) []byte { return b[1:] })
	w.object(w.at("/offers/offer.odt@version"), flipped)
	w.object(w.at("/upload.bin"), flipped)
	listed := []string{"missing /same a", "size-mismatch /old.txt@trash"}
	rep := w.verify("")
	w.wants(rep, listed...)
	if len(rep.Pool) != 2 {
		t.Errorf("of the pool: %+v", rep.Pool)
	}
	rep = w.verify("1/1")
	w.wants(rep, append(listed, "hash-mismatch /offers/offer.odt@version")...)
	if len(rep.Pool) != 4 {
		t.Errorf("of the pool: %+v", rep.Pool)
	}
}

// An inventory that does not say what the pool holds, or the metadata want, is found out.
func TestInventoryLies(t *testing.T) {
	t.Parallel()
	w := newWorld(t, opencloud.DecomposedS3)
	w.listing = map[string]s3mirror.Object{}
	for key, b := range w.held {
		w.listing[key] = object(key, b)
	}
	change := func(name string, f func(*s3mirror.Object)) {
		o := w.listing[w.at(name)]
		f(&o)
		w.listing[o.Key] = o
	}
	change("/same a", func(o *s3mirror.Object) { o.Size-- })
	change("/same b", func(o *s3mirror.Object) { o.SHA1, o.MD5 = object("", nil).SHA1, object("", nil).MD5 })
	delete(w.listing, w.at("/offers/terms.txt"))
	debris := spaceID + "/" + scatter(nodeID("debris"))
	w.held[debris] = []byte("of no node")
	w.listing[debris] = object(debris, w.held[debris])
	w.store()
	want := []string{"size-mismatch /same a", "hash-mismatch /same b", "missing /offers/terms.txt"}
	w.wants(w.verify(""), want...)
	w.wants(w.verify("1/1"), want...)

	// One that names an object which is nowhere can't be restored from in full.
	w.listing = nil
	w.held[debris+"x"] = []byte("not in the pool")
	w.store()
	w.object(debris+"x", func([]byte) []byte { return nil })
	if rep := w.verify(""); rep.Sound || len(rep.Pool) != 1 || len(lossesOf(rep.Sets[0].Certificate)) != 0 {
		t.Errorf("%+v", rep)
	}
	delete(w.held, debris+"x")

	w.store(func(m *manifest.Manifest, _ map[string]string) { m.Bucket.Digest = m.Catalog.Digest })
	rep := w.verify("")
	contains(t, rep.Sets[0].Findings, "its inventory of the bucket can't be used")
	if rep.Sound {
		t.Error("a set with another inventory is said to be sound")
	}
}

// A pool that is away is no reason not to look at the repository, and its part does not
// count as read.
func TestPoolAway(t *testing.T) {
	t.Parallel()
	w := newWorld(t, opencloud.DecomposedS3)
	w.store()
	o := w.options("next/2")
	away := errors.New("it is away")
	o.Pool = func(context.Context, *manifest.Manifest) (*s3mirror.Pool, error) { return nil, away }
	rep, err := Run(t.Context(), o)
	if !errors.Is(err, away) || rep == nil || rep.Sound || rep.ReadData != "1/2" || rep.Sets[0].Certificate == nil || rep.Sets[0].Uncertified == "" {
		t.Fatalf("%+v, %v", rep, err)
	}
	for _, want := range []string{"1/2", "2/2"} {
		if rep := w.verify("next/2"); rep.ReadData != want {
			t.Errorf("read %s, want %s", rep.ReadData, want)
		}
	}
}

// Of a set whose objects are in another pool, that is said: its certificate is by what its
// inventory says alone.
func TestPoolElsewhere(t *testing.T) {
	t.Parallel()
	w := newWorld(t, opencloud.DecomposedS3)
	w.store(func(m *manifest.Manifest, _ map[string]string) {
		m.Bucket.Pool = manifest.Pool{ID: "moved", Location: "/mnt/then"}
	})
	w.store()
	o := w.options("")
	o.All = true
	rep, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if a, b := rep.Sets[0], rep.Sets[1]; !strings.Contains(a.Uncertified, "/mnt/then") || a.Certificate == nil || b.Uncertified != "" {
		t.Errorf("%+v", rep.Sets)
	}
}
