package s3mirror

import (
	"bufio"
	"bytes"
	"context"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/google/uuid"
	"github.com/rclone/rclone/fs"
	"github.com/rclone/rclone/fs/operations"
	"github.com/rclone/rclone/fs/walk"

	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/integration/env"
)

func TestMain(m *testing.M) {
	uploadCutoff = "5Mi" // the least that S3 allows
	if os.Getenv("MEASURE") == "" {
		apiBackoff = 50 * time.Millisecond
	}
	if run := children[os.Getenv("S3MIRROR_CHILD")]; run != nil {
		os.Exit(run())
	}
	os.Exit(env.Main(m))
}

// children are what the test binary does when a test starts it again.
var children = map[string]func() int{}

const testBucket = "opencloud-bucket"

var testOwner = Owner{Instance: "cloud.example.com", Repository: "repo-1"}

// world is a bucket, a pool beside it, and all that a mirror needs.
type world struct {
	t      testing.TB
	server *env.S3
	bucket Bucket
	target Target
	set    Settings
}

// newWorld starts a server with an empty bucket; the pool is in a directory.
func newWorld(t testing.TB, options ...env.S3Option) *world {
	t.Helper()
	s := env.S3Server(t, options...)
	s.Bucket(t, testBucket)
	return &world{
		t: t, server: s,
		bucket: Bucket{Endpoint: s.Endpoint, Region: s.Region, Name: testBucket, Keys: Keys{Access: s.AccessKey, Secret: s.SecretKey}},
		target: Target{Location: filepath.Join(t.TempDir(), "pool")},
		set:    Settings{StateDir: t.TempDir()},
	}
}

// open opens bucket and pool, and makes the pool where it is new.
func (w *world) open() (*Source, *Pool, error) {
	src, err := OpenBucket(w.t.Context(), w.bucket, w.set)
	if err != nil {
		return nil, nil, err
	}
	pool, err := OpenPool(w.t.Context(), w.target, w.set)
	if err != nil {
		return nil, nil, err
	}
	_, err = pool.Create(w.t.Context(), testOwner)
	return src, pool, err
}

// copy copies the bucket with a new mirror, as each run of ocbackup does.
func (w *world) copy(ctx context.Context, last LastInventory, o CopyOptions) (*Copied, error) {
	src, pool, err := w.open()
	if err != nil {
		return nil, err
	}
	m, err := NewMirror(src, pool, last)
	if err != nil {
		return nil, err
	}
	return m.Copy(ctx, o)
}

func (w *world) mustCopy(o CopyOptions) *Copied {
	w.t.Helper()
	c, err := w.copy(w.t.Context(), nil, o)
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

// newKey is a key as OpenCloud makes them.
func newKey(space string) string {
	b := uuid.NewString()
	return fmt.Sprintf("%s/%s/%s/%s/%s/%s", space, b[0:2], b[2:4], b[4:6], b[6:8], b[8:])
}

// content is content of a size that no other has.
func newContent(size int) []byte {
	b := make([]byte, size)
	var seed [32]byte
	copy(seed[:], uuid.NewString())
	_, _ = rand.NewChaCha8(seed).Read(b)
	return b
}

// inventory reads an inventory.
func inventory(t testing.TB, path string) map[string]Object {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	all := map[string]Object{}
	for s := bufio.NewScanner(f); s.Scan(); {
		var o Object
		if err := json.Unmarshal(s.Bytes(), &o); err != nil {
			t.Fatal(err)
		}
		all[o.Key] = o
	}
	return all
}

// proxied puts a proxy in front of the bucket.
func (w *world) proxied() *env.Proxy {
	p := env.S3Proxy(w.t, w.server)
	w.bucket.Endpoint = p.Endpoint
	return p
}

const poolBucket = "pool-bucket"

// onS3 puts the pool on an S3 server, behind a proxy.
func (w *world) onS3(s *env.S3, options ...env.BucketOption) *env.Proxy {
	p := env.S3Proxy(w.t, s)
	s.Bucket(w.t, poolBucket, options...)
	w.target = Target{Location: "s3:" + p.Endpoint + "/" + poolBucket + "/some/prefix", Keys: Keys{Access: s.AccessKey, Secret: s.SecretKey}}
	return p
}

// fill puts objects into the bucket, in two spaces, and returns them.
func (w *world) fill(n int) map[string][]byte {
	w.t.Helper()
	objects, spaces := map[string][]byte{}, []string{uuid.NewString(), uuid.NewString()}
	for i := range n {
		objects[newKey(spaces[i%2])] = newContent(1000 + i)
	}
	w.put(objects)
	return objects
}

func (w *world) put(objects map[string][]byte) {
	w.t.Helper()
	for k, v := range objects {
		w.server.Put(w.t, testBucket, k, v)
	}
}

// held is all that the pool holds but its marker: content by path.
func (w *world) held() map[string]string {
	w.t.Helper()
	all := map[string]string{}
	pool, err := OpenPool(w.t.Context(), w.target, w.set)
	if err != nil {
		w.t.Fatal(err)
	}
	ctx := pool.with(w.t.Context())
	err = walk.ListR(ctx, pool.data, "", true, -1, walk.ListObjects, func(entries fs.DirEntries) error {
		for _, e := range entries {
			if e.Remote() == markerFile || e.Remote() == checkFile {
				continue
			}
			r, err := operations.Open(ctx, e.(fs.Object))
			if err != nil {
				return err
			}
			b, err := io.ReadAll(r)
			if err := errors.Join(err, r.Close()); err != nil {
				return err
			}
			all[e.Remote()] = sum(b)
		}
		return nil
	})
	if err != nil && !errors.Is(err, fs.ErrorDirNotFound) {
		w.t.Fatal(err)
	}
	return all
}

// exact makes sure that an inventory names these objects and no others, with their
// hashes, that the pool holds them where it says, and besides nothing but what further
// names.
func (w *world) exact(c *Copied, objects map[string][]byte, further ...string) {
	w.t.Helper()
	inv, held := inventory(w.t, c.Inventory.Path), w.held()
	if len(inv) != len(objects) || c.Inventory.Objects != uint64(len(objects)) || c.Listed != uint64(len(objects)) {
		w.t.Errorf("the inventory has %d objects (says %d, listed %d), want %d", len(inv), c.Inventory.Objects, c.Listed, len(objects))
	}
	var total uint64
	for k, v := range objects {
		m, s := md5.Sum(v), sha1.Sum(v)
		total += uint64(len(v))
		o := inv[k]
		if o.Size != int64(len(v)) || o.MD5 != hex.EncodeToString(m[:]) || o.SHA1 != hex.EncodeToString(s[:]) || o.Modified.IsZero() {
			w.t.Errorf("%q: the inventory says %+v", k, o)
		}
		if held[o.Path()] != sum(v) {
			w.t.Errorf("%q: the pool does not hold it at %s", k, o.Path())
		}
		delete(held, o.Path())
	}
	if c.Inventory.Bytes != total {
		w.t.Errorf("the inventory counts %d bytes, want %d", c.Inventory.Bytes, total)
	}
	for _, f := range further {
		delete(held, f)
	}
	if len(held) > 0 {
		w.t.Errorf("the pool holds further: %v", slices.Sorted(maps.Keys(held)))
	}
}

// fails makes sure that an error has a code, and that its text and its hint hold these
// words; and that it tells no keys.
func (w *world) fails(err error, code fail.Code, text, hint string) {
	w.t.Helper()
	if err == nil {
		w.t.Fatal("no error")
	}
	_, _, gotHint := fail.Details(err)
	if fail.CodeOf(err) != code || !strings.Contains(err.Error(), text) || !strings.Contains(gotHint, hint) {
		w.t.Errorf("code %d, want %d; text:\n%v\nwant %q in it; hint:\n%s\nwant %q in it", fail.CodeOf(err), code, err, text, gotHint, hint)
	}
	for _, secret := range []string{w.server.SecretKey, w.server.AccessKey, w.bucket.Keys.Secret, w.target.Keys.Secret, w.target.Password} {
		if secret != "" && strings.Contains(err.Error()+gotHint, secret) {
			w.t.Errorf("a secret is in the error: %v", err)
		}
	}
}

func sum(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

// kept is the inventory of a set, kept as a file as the repository would.
func kept(t testing.TB, c *Copied) LastInventory {
	t.Helper()
	b, err := os.ReadFile(c.Inventory.Path)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "inventory")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return func(context.Context) (io.ReadCloser, error) { return os.Open(path) }
}

// multipart puts an object in two parts, the first of which has a size; default 5 MiB.
func (w *world) multipart(key string, b []byte, first ...int) {
	w.t.Helper()
	at := 5 << 20
	if len(first) > 0 {
		at = first[0]
	}
	c, ctx, bucket := w.server.Client(), w.t.Context(), testBucket
	up, err := c.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: &bucket, Key: &key})
	if err != nil {
		w.t.Fatal(err)
	}
	var parts []types.CompletedPart
	for i, part := range [][]byte{b[:at], b[at:]} {
		n := int32(i + 1)
		out, err := c.UploadPart(ctx, &s3.UploadPartInput{Bucket: &bucket, Key: &key, UploadId: up.UploadId, PartNumber: &n, Body: bytes.NewReader(part)})
		if err != nil {
			w.t.Fatal(err)
		}
		parts = append(parts, types.CompletedPart{ETag: out.ETag, PartNumber: &n})
	}
	if _, err := c.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{
		Bucket: &bucket, Key: &key, UploadId: up.UploadId, MultipartUpload: &types.CompletedMultipartUpload{Parts: parts},
	}); err != nil {
		w.t.Fatal(err)
	}
}
