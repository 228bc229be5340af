package s3mirror

import (
	"bytes"
	"context"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/uuid"

	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/integration/env"
)

// testSet is a set: an inventory as the repository keeps it, and what the bucket held.
type testSet struct {
	SetInventory
	objects  map[string][]byte
	findings []Finding
}

// keepSet copies the bucket, and keeps what a repository would.
func (w *world) keepSet(name string, objects map[string][]byte) testSet {
	w.t.Helper()
	c := w.mustCopy(CopyOptions{})
	return testSet{SetInventory{Set: name, Open: kept(w.t, c), Digest: c.Inventory.Digest}, maps.Clone(objects), c.Findings}
}

// reader opens the set's inventory.
func (s testSet) reader(t testing.TB) io.ReadCloser {
	t.Helper()
	in, err := s.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return in
}

func inventories(sets ...testSet) (list []SetInventory) {
	for _, s := range sets {
		list = append(list, s.SetInventory)
	}
	return list
}

// fillKinds puts objects into the bucket, of each kind that matters.
func (w *world) fillKinds() map[string][]byte {
	w.t.Helper()
	objects := map[string][]byte{"top": newContent(10)}
	for range 2 {
		space := uuid.NewString()
		for i := range 8 {
			objects[newKey(space)] = newContent(i * 100)
		}
	}
	objects["Odd Space/with blanks & ümlauts"] = newContent(333)
	objects[newKey(uuid.NewString())] = newContent(3 << 20)
	for key, b := range objects {
		w.server.Put(w.t, testBucket, key, b)
	}
	return objects
}

// pool opens the pool as a new run does.
func (w *world) pool() *Pool {
	w.t.Helper()
	_, p, err := w.open()
	if err != nil {
		w.t.Fatal(err)
	}
	return p
}

// compareTo is Compare, which must succeed.
func (w *world) compareTo(s testSet, to Destination) (*Pool, *Difference) {
	w.t.Helper()
	p := w.pool()
	in := s.reader(w.t)
	defer in.Close()
	d, err := p.Compare(w.t.Context(), in, to)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { d.Close() })
	return p, d
}

// restore is Compare and Restore.
func (w *world) restore(ctx context.Context, s testSet, to Destination, o RestoreOptions) (*Restored, error) {
	w.t.Helper()
	p, d := w.compareTo(s, to)
	defer d.Close()
	return p.Restore(ctx, d, o)
}

func (w *world) mustRestore(s testSet, to Destination, o RestoreOptions) *Restored {
	w.t.Helper()
	r, err := w.restore(w.t.Context(), s, to, o)
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

// otherBucket makes a bucket on a server.
func otherBucket(t testing.TB, s *env.S3, name string) *Bucket {
	t.Helper()
	s.Bucket(t, name)
	return &Bucket{Endpoint: s.Endpoint, Region: s.Region, Name: name, Keys: Keys{Access: s.AccessKey, Secret: s.SecretKey}}
}

// onServer puts the pool into a bucket of a server, reached at an endpoint.
func (w *world) onServer(s *env.S3, endpoint string) {
	s.Bucket(w.t, "pool")
	w.target = Target{Location: "s3:" + endpoint + "/pool/of/cloud", Region: s.Region, Keys: Keys{Access: s.AccessKey, Secret: s.SecretKey}}
}

// bucketHolds fails the test unless a bucket holds exactly what is wanted.
func bucketHolds(t testing.TB, s *env.S3, bucket string, want map[string][]byte) {
	t.Helper()
	sums := map[string]string{}
	for key, b := range want {
		sums[key] = sum(b)
	}
	sameSums(t, s.Objects(t, bucket), sums)
}

func sameSums(t testing.TB, got, want map[string]string) {
	t.Helper()
	for key, s := range want {
		if g, ok := got[key]; !ok {
			t.Errorf("%s is not there", key)
		} else if g != s {
			t.Errorf("%s has other content", key)
		}
	}
	for key := range got {
		if _, ok := want[key]; !ok {
			t.Errorf("%s is there and should not be", key)
		}
	}
}

// filesBelow are the digests of all files below a directory.
func filesBelow(t testing.TB, dir string) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		rel, _ := filepath.Rel(dir, path)
		found[rel] = sum(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func sumsOf(objects map[string][]byte) map[string]string {
	out := map[string]string{}
	for key, b := range objects {
		out[key] = sum(b)
	}
	return out
}

// sortedKeys are sorted.
func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// plainKeys are those that lie under blobs/, of small objects that are not empty.
func plainKeys(objects map[string][]byte) (list []string) {
	for _, key := range sortedKeys(objects) {
		if n := len(objects[key]); plain(key) && n > 0 && n < 1<<20 {
			list = append(list, key)
		}
	}
	return list
}

// altered is content of the same size.
func altered(b []byte) []byte {
	c := bytes.Clone(b)
	c[len(c)/2] ^= 1
	return c
}

func wantCode(t testing.TB, err error, code fail.Code) {
	t.Helper()
	if err == nil || fail.CodeOf(err) != code {
		t.Fatalf("code %d, want %d: %v", fail.CodeOf(err), code, err)
	}
}

// broken is an inventory whose repository is gone half way.
func broken(context.Context) (io.ReadCloser, error) {
	return io.NopCloser(io.MultiReader(bytes.NewReader(mustEncode(Object{Key: "a/b", Size: 1})), brokenReader{})), nil
}

func mustEncode(o Object) []byte {
	line, err := encode(nil, &o)
	if err != nil {
		panic(err)
	}
	return line
}

var refusePuts = env.Rule{Kind: env.Put, Do: env.Refuse(403, "AccessDenied")}

func merged(a, b map[string][]byte) map[string][]byte {
	all := maps.Clone(a)
	maps.Copy(all, b)
	return all
}
