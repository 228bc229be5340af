//go:build integration

package integration

import (
	"encoding/json"
	"maps"
	"slices"
	"testing"

	"github.com/ocbackup/ocbackup/integration/env"
)

// bucket is what the instance's bucket holds: hashes of contents by key; nil without one.
func (c *cloud) bucket() map[string]string {
	c.t.Helper()
	if c.s3 == nil {
		return nil
	}
	return c.s3.Objects(c.t, env.BucketName)
}

// wipeBucket deletes all objects of the bucket, where there is one.
func (c *cloud) wipeBucket() {
	c.t.Helper()
	if c.s3 != nil {
		c.s3.Wipe(c.t, env.BucketName)
	}
}

// What is uploaded and purged while the backup runs is of no consequence: the set
// holds the bucket of the moment at which the server was stopped.
func TestBucketOfTheMoment(t *testing.T) {
	t.Parallel()
	c := newCloud(t, "decomposeds3")
	c.writesEvery("5ms")
	ids := []string{c.backup(), c.backup(), c.backup()}
	for _, id := range ids {
		c.restoreCopy(id)
	}
	var shown struct {
		Manifest struct {
			Bucket   struct{ Objects, Bytes, New int }
			Downtime struct {
				Store  float64 `json:"store_s"`
				Bucket float64 `json:"bucket_s"`
			}
		}
	}
	if err := json.Unmarshal([]byte(c.must("--json", "show", ids[2])), &shown); err != nil {
		t.Fatal(err)
	}
	m := shown.Manifest
	if m.Bucket.Objects == 0 || m.Bucket.Bytes == 0 || m.Downtime.Bucket <= 0 || m.Downtime.Bucket > m.Downtime.Store {
		t.Errorf("the manifest says %+v", m)
	}
	c.must("verify", "--all")
	c.good()
}

// A set is gone back to after its objects were purged, and what came later is still
// in the pool for the sets that need it.
func TestBackAndForth(t *testing.T) {
	t.Parallel()
	c := newCloud(t, "decomposeds3")
	c.index()
	c.stop()
	first, then := c.backup(), c.bucket()
	c.writesEvery("5ms") // every write purges an older version
	c.good()
	c.stop()
	second, now := c.backup(), c.bucket()
	if maps.Equal(then, now) {
		t.Fatal("nothing has changed: the test shows nothing")
	}
	c.restore("--no-start", first)
	wants(t, c.check(""), 0)
	for key, sum := range then {
		if c.bucket()[key] != sum {
			t.Errorf("%s did not come back", key)
		}
	}
	c.restore("--no-start", "--delete-extra", second)
	if got := c.bucket(); !maps.Equal(got, now) {
		t.Errorf("the bucket has %d objects, had %d", len(got), len(now))
	}
	c.start()
	c.good()
}

// The pool loses objects: that is found, and mended as long as the bucket has them.
func TestPoolLosesObjects(t *testing.T) {
	t.Parallel()
	c := newCloud(t, "decomposeds3")
	id := c.backup()
	c.stop()
	key := slices.Sorted(maps.Keys(c.bucket()))[0]
	c.backup()
	c.must("verify")
	c.remove("pool/blobs/" + key)
	wants(t, c.run("verify"), 4, key, "lost")
	wants(t, c.run("bucket", "status"), 4, key)
	wants(t, c.run("bucket", "reconcile"), 0, key, "1 object")
	c.must("verify")
	c.must("bucket", "status")
	c.restoreCopy(id)

	// What was seen to be lost, the next backup does not take for held.
	c.remove("pool/blobs/" + key)
	wants(t, c.run("verify"), 4, key, "bucket reconcile")
	wants(t, c.run("backup"), 0, "lost", key)
	c.must("verify", "--all")

	// What the bucket has lost, too, is told of for as long as a set needs it.
	c.remove("pool/blobs/" + key)
	c.s3.Delete(t, env.BucketName, key)
	wants(t, c.run("bucket", "reconcile"), 4, key, "Damage in the pool")
	wants(t, c.run("bucket", "reconcile"), 4, key)
}

// What only a forgotten set has needed leaves the pool, after its grace period and not
// before; what others need stays, and they can be restored.
func TestBucketExpire(t *testing.T) {
	t.Parallel()
	c := newCloud(t, "decomposeds3")
	c.configure("pool", "grace", `"1ms"`)
	c.stop()
	first, then := c.backup(), c.bucket()
	c.writesEvery("5ms") // every write purges an older version
	c.good()
	c.stop()
	last := c.backup()
	wants(t, c.run("bucket", "status"), 0, first, last, "lost           none")

	// Nothing leaves while a set can't be read.
	var forget []string
	for _, s := range c.snapshots() {
		if s.tag("set") == first && !slices.Contains(s.Tags, "manifest") {
			wants(t, c.runRestic("forget", s.ID), 0)
			break
		}
	}
	wants(t, c.run("bucket", "expire"), 8, first, "nothing is deleted")
	for _, s := range c.snapshots() {
		if s.tag("set") == first {
			forget = append(forget, s.ID)
		}
	}
	wants(t, c.runRestic(append([]string{"forget"}, forget...)...), 0)

	gone := func() (n int) {
		for key := range then {
			if c.read("pool/blobs/"+key) == "" {
				n++
			}
		}
		return n
	}
	wants(t, c.run("bucket", "expire", "--dry-run"), 0, "Dry run")
	wants(t, c.run("bucket", "expire"), 0, "wait for the end of the grace period")
	if n := gone(); n != 0 {
		t.Errorf("%d objects left the pool before their time", n)
	}
	wants(t, c.run("bucket", "expire"), 0, "Deleted ")
	if gone() == 0 {
		t.Error("nothing left the pool")
	}
	for _, s := range c.sets() {
		c.restoreCopy(s.Set)
	}
	wants(t, c.run("bucket", "status"), 0, "unreferenced   0 objects", "lost           none")
	c.start()
	c.good()
}
