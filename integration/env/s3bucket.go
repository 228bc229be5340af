package env

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/pkg/xattr"
	"golang.org/x/sync/errgroup"
)

// What a test does with a bucket works while the test is cleaned up, too.
var background = context.Background()

// BucketOption is an option of S3.Bucket. Its server has to KeepVersions.
type BucketOption int

// The options of buckets.
const (
	Versioned    BucketOption = iota + 1 // old versions are kept
	ObjectLocked                         // versioned, and versions can be locked
)

// Bucket makes an empty bucket.
func (s *S3) Bucket(t testing.TB, name string, options ...BucketOption) {
	t.Helper()
	in := &s3.CreateBucketInput{Bucket: &name}
	for _, o := range options {
		if o == ObjectLocked {
			in.ObjectLockEnabledForBucket = new(true)
		}
	}
	_, err := s.client.CreateBucket(background, in)
	if err == nil && len(options) > 0 {
		_, err = s.client.PutBucketVersioning(background, &s3.PutBucketVersioningInput{
			Bucket: &name, VersioningConfiguration: &types.VersioningConfiguration{Status: types.BucketVersioningStatusEnabled},
		})
	}
	if err != nil {
		t.Fatalf("bucket %s: %v", name, err)
	}
}

// Put puts an object, and returns its version id, "" in a bucket without versions.
func (s *S3) Put(t testing.TB, bucket, key string, content []byte) (version string) {
	t.Helper()
	out, err := s.client.PutObject(background, &s3.PutObjectInput{Bucket: &bucket, Key: &key, Body: bytes.NewReader(content)})
	if err != nil {
		t.Fatalf("put %s: %v", key, err)
	}
	if out.VersionId != nil {
		version = *out.VersionId
	}
	return version
}

// Get gets an object that is there.
func (s *S3) Get(t testing.TB, bucket, key string) []byte {
	t.Helper()
	content, err := s.get(background, bucket, key)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

func (s *S3) get(ctx context.Context, bucket, key string) ([]byte, error) {
	out, err := s.client.GetObject(ctx, &s3.GetObjectInput{Bucket: &bucket, Key: &key})
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", key, err)
	}
	defer func() { _ = out.Body.Close() }()
	return io.ReadAll(out.Body)
}

// Delete deletes an object. In a Versioned bucket its versions stay.
func (s *S3) Delete(t testing.TB, bucket, key string) {
	t.Helper()
	if _, err := s.client.DeleteObject(background, &s3.DeleteObjectInput{Bucket: &bucket, Key: &key}); err != nil {
		t.Fatalf("delete %s: %v", key, err)
	}
}

// Versions are the ids of an object's versions, the newest first, without delete markers.
func (s *S3) Versions(t testing.TB, bucket, key string) (ids []string) {
	t.Helper()
	pages := s3.NewListObjectVersionsPaginator(s.client, &s3.ListObjectVersionsInput{Bucket: &bucket, Prefix: &key})
	for pages.HasMorePages() {
		page, err := pages.NextPage(background)
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range page.Versions {
			if *v.Key == key {
				ids = append(ids, *v.VersionId)
			}
		}
	}
	return ids
}

// List lists a bucket: sizes by key.
func (s *S3) List(t testing.TB, bucket string) map[string]int64 {
	t.Helper()
	list := map[string]int64{}
	pages := s3.NewListObjectsV2Paginator(s.client, &s3.ListObjectsV2Input{Bucket: &bucket})
	for pages.HasMorePages() {
		page, err := pages.NextPage(background)
		if err != nil {
			t.Fatalf("list %s: %v", bucket, err)
		}
		for _, o := range page.Contents {
			list[*o.Key] = *o.Size
		}
	}
	return list
}

// Objects reads a whole bucket: SHA-256 in hex by key.
func (s *S3) Objects(t testing.TB, bucket string) map[string]string {
	t.Helper()
	var (
		g   errgroup.Group
		mu  sync.Mutex
		all = map[string]string{}
	)
	g.SetLimit(8)
	for key := range s.List(t, bucket) {
		g.Go(func() error {
			content, err := s.get(background, bucket, key)
			mu.Lock()
			defer mu.Unlock()
			all[key] = sum(content)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	return all
}

func sum(content []byte) string {
	digest := sha256.Sum256(content)
	return hex.EncodeToString(digest[:])
}

// Wipe deletes all objects of a bucket.
func (s *S3) Wipe(t testing.TB, bucket string) {
	t.Helper()
	for key := range s.List(t, bucket) {
		s.Delete(t, bucket, key)
	}
}

// Fill puts many objects, past the protocol: they are written as the server itself
// stores them, which takes a tenth of the time. Not for a Versioned bucket, whose
// objects get their version ids from the server.
func (s *S3) Fill(t testing.TB, bucket string, objects iter.Seq2[string, []byte]) {
	t.Helper()
	root, made := filepath.Join(s.Dir, bucket), map[string]bool{}
	for key, content := range objects {
		path := filepath.Join(root, key)
		if dir := filepath.Dir(path); !made[dir] {
			if err := os.MkdirAll(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			made[dir] = true
		}
		err := errors.Join(
			os.WriteFile(path, content, 0o644),
			xattr.Set(path, "user.etag", []byte(etag(content))),
			xattr.Set(path, "user.content-type", []byte("application/octet-stream")),
		)
		if err != nil {
			t.Fatal(err)
		}
	}
}

// LoadBucket puts the files below dir into a bucket: the path below dir is the key.
// The folder bucket/ of a recorded tree is such a one.
func (s *S3) LoadBucket(t testing.TB, bucket, dir string) {
	t.Helper()
	var g errgroup.Group
	g.SetLimit(8)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		g.Go(func() error {
			f, err := os.Open(path)
			if err != nil {
				return err
			}
			defer func() { _ = f.Close() }()
			key := filepath.ToSlash(rel)
			_, err = s.client.PutObject(background, &s3.PutObjectInput{Bucket: &bucket, Key: &key, Body: f})
			return err
		})
		return nil
	})
	if err := errors.Join(err, g.Wait()); err != nil {
		t.Fatalf("load %s: %v", bucket, err)
	}
}
