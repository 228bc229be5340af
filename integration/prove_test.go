//go:build integration

package integration

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"testing"

	"github.com/ocbackup/ocbackup/integration/env"
)

// certified is a part of a certificate.
type certified struct {
	Nodes    int
	Fatal    int
	Findings []finding
}

// finding is one of a certificate.
type finding struct {
	Class   string
	Fatal   bool
	Space   string
	Path    string
	Version string
	Trash   string
	At      string
	Text    string
}

// lines are the findings in short, without orphans: the path (of a version PATH@KEY, in
// the trash PATH?), the class, and "fatal".
func (p *certified) lines() (list []string) {
	for _, f := range p.Findings {
		if f.Class == "orphan" {
			continue
		}
		line := f.Path
		switch {
		case f.Version != "":
			line += "@" + f.Version
		case f.Trash != "":
			line += "?"
		}
		line += " " + f.Class
		if f.Fatal {
			line += " fatal"
		}
		list = append(list, line)
	}
	return list
}

// sameLines compares lists in any order.
func sameLines(t testing.TB, what string, got, want []string) {
	t.Helper()
	got = slices.Clone(got)
	for _, w := range want {
		if i := slices.Index(got, w); i >= 0 {
			got = slices.Delete(got, i, i+1)
		} else {
			t.Errorf("%s: not found: %q", what, w)
		}
	}
	if len(got) > 0 {
		t.Errorf("%s: found besides: %q", what, got)
	}
}

// proof is what "show" tells of a set's certificate; latest by default.
func (c *cloud) proof(set ...string) *certified {
	c.t.Helper()
	var res struct{ Proof *certified }
	if err := json.Unmarshal([]byte(c.must(append([]string{"--json", "show", "--findings"}, set...)...)), &res); err != nil {
		c.t.Fatal(err)
	}
	return res.Proof
}

// proven asserts that nothing is wrong with the latest set.
func (c *cloud) proven() {
	c.t.Helper()
	p := c.proof()
	if p == nil {
		c.t.Fatal("there is no certificate")
	}
	sameLines(c.t, "the certificate", p.lines(), nil)
}

// verified are the certificates that verify makes of sets, which it has to find damaged.
func (c *cloud) verified(args ...string) map[string]*certified {
	c.t.Helper()
	r := c.run(append([]string{"--json", "verify"}, args...)...)
	wants(c.t, r, 4)
	var res struct {
		Sets []struct {
			Set         string
			Certificate *certified
		}
	}
	if err := json.Unmarshal([]byte(r.Stdout), &res); err != nil {
		c.t.Fatal(err)
	}
	all := map[string]*certified{}
	for _, s := range res.Sets {
		if s.Certificate == nil {
			c.t.Fatalf("set %s has no certificate: %s", s.Set, r.Stdout)
		}
		all[s.Set] = s.Certificate
	}
	return all
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

	// Nothing of it is in the set when the run ends before it is; snapshots go with the run,
	// or the next.
	for _, row := range []struct {
		point, action string
		code          int
	}{
		{"store.bucket", "error", 1},
		{"store.bucket", "KILL", -1},
		{"prove.bucket", "INT", 130},
		{"prove.bucket", "error", 1},
		{"prove.bucket", "KILL", -1},
	} {
		c.failed(func() {
			tmp := t.TempDir()
			wants(t, c.runWith(append(fault(row.point, row.action), "TMPDIR="+tmp), "backup"), row.code)
			c.nothingTemporary(tmp, row.action == "KILL")
			if row.action == "KILL" {
				c.awaitBack()
				return
			}
			c.nothingLeft(fs)
		}, true)
	}
	c.next()
	c.nothingLeft(fs)

	bucket := filepath.Join(c.s3.Dir, env.BucketName)
	pooled := c.script("purge-pooled", fmt.Sprintf(
		`cd %s/blobs && find . -type f | head -n 200 | while read -r f; do rm -f "%s/$f"; done`, c.path("pool"), bucket))
	late := c.script("purge-late", fmt.Sprintf(
		`cd %s && find . -type f | while read -r f; do test -e "%s/blobs/$f" || rm -f "$f"; done`, bucket, c.path("pool")))

	// Purged when the server was back: the hot pass had brought it into the pool.
	r := c.runWith(faults("store.begin=exec:"+pooled), "backup")
	wants(t, r, 0, "every blob present")
	c.restoreCopy(c.sets()[3].Set)

	// Uploaded after the hot pass, and gone before the second: nobody has it.
	uploaded := c.script("uploaded", fmt.Sprintf(
		`cd %s && until find . -type f | while read -r f; do test -e "%s/blobs/$f" || echo "$f"; done | grep -q .; do :; done`, bucket, c.path("pool")))
	r = c.runWith(faults("hot.end=exec:"+uploaded, "store.begin=exec:"+late), "backup")
	wants(t, r, 4, "missing")
	if sets := c.sets(); sets[4].State != "INCONSISTENT" {
		t.Errorf("the sets are %+v", sets)
	}
	c.running()
}
