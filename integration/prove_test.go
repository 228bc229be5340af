//go:build integration

package integration

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ocbackup/ocbackup/integration/env"
)

// finding is one of a certificate.
type finding struct {
	Class string `json:"class"`
	Fatal bool   `json:"fatal"`
	Path  string `json:"path"`
	Text  string `json:"text"`
}

// proof is what "show" tells of a set's certificate; latest by default.
func (c *cloud) proof(set ...string) (fatal int, findings []finding) {
	c.t.Helper()
	var res struct {
		Proof struct {
			Fatal    int
			Findings []finding
		}
	}
	if err := json.Unmarshal([]byte(c.must(append([]string{"--json", "show", "--findings"}, set...)...)), &res); err != nil {
		c.t.Fatal(err)
	}
	return res.Proof.Fatal, res.Proof.Findings
}

// proven asserts that nothing is wrong with the latest set.
func (c *cloud) proven() {
	c.t.Helper()
	fatal, findings := c.proof()
	for _, f := range findings {
		if f.Class != "orphan" {
			c.t.Errorf("found: %+v", f)
		}
	}
	if fatal != 0 {
		c.t.Errorf("%d fatal findings", fatal)
	}
}

// Data that the server has lost makes a set that says so: it is kept, named by the files
// that users know, never the latest, and the exit code tells.
func TestInconsistent(t *testing.T) {
	t.Parallel()
	for _, fixture := range []string{"opencloud-4.0-posix", "opencloud-4.0-decomposed", "opencloud-4.0-decomposeds3"} {
		t.Run(fixture, func(t *testing.T) {
			t.Parallel()
			onlyStandin(t, "its trees are damaged by hand")
			c := newRecordedCloud(t, fixture)
			good := c.backup()
			c.proven()
			lost := c.loseContent("big-fx.bin")
			r := c.run("backup")
			wants(t, r, 4, "big-fx.bin", "inconsistent")
			c.running()
			sets := c.sets()
			if len(sets) != 2 || sets[0].State != "complete" || sets[1].State != "INCONSISTENT" {
				t.Fatalf("the sets are %+v", sets)
			}
			fatal, findings := c.proof(sets[1].Set)
			if fatal != 1 || findings[0].Class != lost || !findings[0].Fatal || findings[0].Path != "/big-fx.bin" {
				t.Errorf("the certificate has %d fatal findings, %+v", fatal, findings)
			}
			if out := c.must("--json", "show"); !strings.Contains(out, good) {
				t.Errorf("latest is not the set before: %s", out)
			}
			wants(t, c.run("list"), 0, "1 LOST")
			wants(t, c.run("verify", sets[1].Set), 4, "big-fx.bin")
			c.must("verify", good)
			// What the set before has of it comes back.
			c.must("get", good, "Admin:/big-fx.bin", "--to", c.path("got"))
			if st, err := os.Stat(c.path("got/big-fx.bin")); err != nil || st.Size() != 1<<20 {
				t.Errorf("the file came back as %v (%v)", st, err)
			}
		})
	}
}

// loseContent damages the content of a file of the admin's on the server, and says which
// class of finding that makes.
func (c *cloud) loseContent(name string) (class string) {
	c.t.Helper()
	if c.driver == "posix" {
		found, err := filepath.Glob(c.path("data/storage/users/users/*/" + name))
		if err != nil || len(found) != 1 {
			c.t.Fatalf("found %v (%v)", found, err)
		}
		st, err := os.Stat(found[0])
		if err != nil {
			c.t.Fatal(err)
		}
		if err := os.Truncate(found[0], 100); err != nil {
			c.t.Fatal(err)
		}
		if err := os.Chtimes(found[0], st.ModTime(), st.ModTime()); err != nil { // as a disk loses it
			c.t.Fatal(err)
		}
		return "size-mismatch"
	}
	var at string
	for _, n := range c.browse("find", name).Nodes {
		at = n.At
	}
	if at == "" {
		c.t.Fatalf("%s is not in the catalog", name)
	}
	if c.s3 != nil {
		c.s3.Delete(c.t, env.BucketName, at)
	} else {
		c.remove("data/storage/users/" + at)
	}
	return "missing"
}

// With a frozen view the bucket is copied when the server is back: the set has what the
// frozen moment needs, also when it was purged since; and says so when it was too late.
func TestBucketLater(t *testing.T) {
	t.Parallel()
	fs := env.FileSystem(t, "btrfs", 300)
	c := newCloudOn(t, subvolume(t, fs, "srv"), "decomposeds3")
	onlyStandin(t, "its bucket is changed by hand")
	c.writesEvery("300ms") // what it uploads must not be purged before it was copied
	id := c.exact()
	c.proven()
	if _, down := c.shown(id); down.Bucket != 0 {
		t.Errorf("the bucket was copied while the server was stopped: %+v", down)
	}
	c.exact()

	bucket := filepath.Join(c.s3.Dir, env.BucketName)
	pooled := c.script("purge-pooled", fmt.Sprintf(
		`cd %s/blobs && find . -type f | head -n 200 | while read -r f; do rm -f "%s/$f"; done`, c.path("pool"), bucket))
	late := c.script("purge-late", fmt.Sprintf(
		`cd %s && find . -type f | while read -r f; do test -e "%s/blobs/$f" || rm -f "$f"; done`, bucket, c.path("pool")))

	// Purged when the server was back: the hot pass had brought it into the pool.
	r := c.runWith(faults("store.begin=exec:"+pooled), "backup")
	wants(t, r, 0, "every blob present")
	c.restoreCopy(c.sets()[2].Set)

	// Uploaded after the hot pass, and gone before the second: nobody has it.
	uploaded := c.script("uploaded", fmt.Sprintf(
		`cd %s && until find . -type f | while read -r f; do test -e "%s/blobs/$f" || echo "$f"; done | grep -q .; do :; done`, bucket, c.path("pool")))
	r = c.runWith(faults("hot.end=exec:"+uploaded, "store.begin=exec:"+late), "backup")
	wants(t, r, 4, "missing")
	if sets := c.sets(); sets[3].State != "INCONSISTENT" {
		t.Errorf("the sets are %+v", sets)
	}
	c.running()
}
