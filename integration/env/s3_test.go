//go:build integration

package env

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

const testBucket = "blobs"

func TestS3Server(t *testing.T) {
	s := S3Server(t)
	s.Bucket(t, testBucket)
	s.Put(t, testBucket, "space/aa/-one", []byte("one"))
	s.Fill(t, testBucket, func(yield func(string, []byte) bool) {
		for i := range 1500 { // more than a page of a listing
			if !yield(fmt.Sprintf("space/bb/-%04d", i), fmt.Append(nil, i)) {
				return
			}
		}
	})
	dir := t.TempDir()
	if err := errors.Join(os.MkdirAll(dir+"/space/cc", 0o700), os.WriteFile(dir+"/space/cc/-two", []byte("two"), 0o600)); err != nil {
		t.Fatal(err)
	}
	s.LoadBucket(t, testBucket, dir)

	before := s.Objects(t, testBucket)
	if list := s.List(t, testBucket); len(list) != 1502 || list["space/bb/-1234"] != 4 || list["space/aa/-one"] != 3 {
		t.Errorf("%d objects", len(list))
	}
	if got := s.Get(t, testBucket, "space/cc/-two"); string(got) != "two" {
		t.Errorf("content %q", got)
	}
	head, err := s.client.HeadObject(t.Context(), &s3.HeadObjectInput{Bucket: aws.String(testBucket), Key: aws.String("space/bb/-0007")})
	if err != nil || *head.ETag != etag([]byte("7")) || *head.ContentType != "application/octet-stream" {
		t.Errorf("an object that was filled in: %+v %v", head, err)
	}

	// An endpoint that is down for a while, and back with all it had.
	s.Stop(t)
	if s.answers(t.Context()) {
		t.Error("a stopped server answers")
	}
	s.Start(t)
	if after := s.Objects(t, testBucket); !maps.Equal(before, after) {
		t.Error("the objects are others after a restart")
	}
	s.Delete(t, testBucket, "space/aa/-one")
	s.Wipe(t, testBucket)
	if list := s.List(t, testBucket); len(list) != 0 {
		t.Errorf("left after wiping: %v", list)
	}
}

func TestS3Versions(t *testing.T) {
	s := S3Server(t, KeepVersions)
	s.Bucket(t, "versioned", Versioned)
	s.Bucket(t, "locked", Versioned, ObjectLocked)
	for _, bucket := range []string{"versioned", "locked"} {
		first := s.Put(t, bucket, "a/key", []byte("1"))
		second := s.Put(t, bucket, "a/key", []byte("2"))
		s.Delete(t, bucket, "a/key")
		if got := s.Versions(t, bucket, "a/key"); !slices.Equal(got, []string{second, first}) || first == "" {
			t.Errorf("%s: versions %v, want %s and %s", bucket, got, second, first)
		}
		if list := s.List(t, bucket); len(list) != 0 {
			t.Errorf("%s: after deleting: %v", bucket, list)
		}
		lock, err := s.client.GetObjectLockConfiguration(t.Context(), &s3.GetObjectLockConfigurationInput{Bucket: &bucket})
		if locked := err == nil && lock.ObjectLockConfiguration.ObjectLockEnabled == types.ObjectLockEnabledEnabled; locked != (bucket == "locked") {
			t.Errorf("%s: object lock is %v (%v)", bucket, locked, err)
		}
	}
}
