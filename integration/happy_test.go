//go:build integration

package integration

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pkg/xattr"

	"github.com/ocbackup/ocbackup/integration/env"
)

// treesum prints everything about directory trees that a backup must bring back.
func treesum(t testing.TB, base string, dirs ...string) []string {
	t.Helper()
	path := provide(t, "treesum", func(path string) error {
		cmd := exec.Command("go", "build", "-o", path, "./integration/treesum")
		cmd.Dir = env.Root()
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%w\n%s", err, out)
		}
		return nil
	})
	var lines []string
	for _, d := range dirs {
		r := env.Exec(background, nil, path, filepath.Join(base, d))
		wants(t, r, 0)
		for line := range strings.Lines(r.Stdout) {
			lines = append(lines, line)
		}
	}
	return lines
}

// sameTrees asserts that two trees are equal in everything; skip names lines that
// are not compared, by a part of them.
func sameTrees(t testing.TB, want, got []string, skip ...string) {
	t.Helper()
	skipped := func(line string) bool {
		return slices.ContainsFunc(skip, func(s string) bool { return strings.Contains(line, s) })
	}
	want, got = slices.DeleteFunc(slices.Clone(want), skipped), slices.DeleteFunc(slices.Clone(got), skipped)
	if slices.Equal(want, got) {
		return
	}
	t.Errorf("the trees differ (%d and %d lines)", len(want), len(got))
	n := 0
	for _, l := range want {
		if !slices.Contains(got, l) && n < 10 {
			t.Logf("- %s", l)
			n++
		}
	}
	for _, l := range got {
		if !slices.Contains(want, l) && n < 20 {
			t.Logf("+ %s", l)
			n++
		}
	}
}

// oddities puts into the tree what is easily lost on the way.
func (c *cloud) oddities() {
	c.t.Helper()
	dir := "data/storage/users/odd"
	c.write(dir+"/plain", "text")
	c.write(dir+"/na me\nwith \"all\" [of] it *?\\ \xff", "text")
	must := func(err error) {
		c.t.Helper()
		if err != nil {
			c.t.Fatal(err)
		}
	}
	must(os.Chmod(c.path(dir, "plain"), 0o4751))
	must(os.Lchown(c.path(dir, "plain"), 4242, 4343))
	must(xattr.LSet(c.path(dir, "plain"), "user.oc.binary", []byte{0, 1, 255}))
	must(xattr.LSet(c.path(dir, "plain"), "user.oc.empty", nil))
	must(os.Link(c.path(dir, "plain"), c.path(dir, "hard")))
	must(os.Symlink("../no where", c.path(dir, "dangling")))
	must(os.Symlink("plain", c.path(dir, "soft")))
	must(os.Lchown(c.path(dir, "soft"), 4242, 4343))
	must(os.MkdirAll(c.path(dir, "empty/empty"), 0o2570))
	sparse, err := os.Create(c.path(dir, "sparse"))
	must(err)
	must(sparse.Truncate(64 << 20))
	must(sparse.Close())
}

// sparse asserts that the sparse file below root takes no room.
func (c *cloud) sparse(root string) {
	c.t.Helper()
	r := env.Exec(background, nil, "stat", "-c", "%b", root+c.path("data/storage/users/odd/sparse"))
	if blocks := strings.TrimSpace(r.Stdout); len(blocks) > 3 {
		c.t.Errorf("the sparse file takes %s blocks", blocks)
	}
}

// The whole way there and back, for each driver, on recorded and fresh trees, with
// both versions of restic.
func TestThereAndBack(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ name, fixture, driver, restic string }{
		{"early posix", "opencloud-posix", "", "0.19"},
		{"4.0 posix", "opencloud-4.0-posix", "", "0.18"},
		{"early decomposed", "opencloud-decomposed", "", "0.18"},
		{"4.0 decomposed", "opencloud-4.0-decomposed", "", "0.19"},
		{"early decomposeds3", "opencloud-decomposeds3", "", "0.19"},
		{"4.0 decomposeds3", "opencloud-4.0-decomposeds3", "", "0.18"},
		{"fresh posix", "", "posix", "0.19"},
		{"fresh decomposed", "", "decomposed", "0.18"},
		{"fresh decomposeds3", "", "decomposeds3", "0.19"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			var c *cloud
			if row.fixture != "" {
				c = newRecordedCloud(t, row.fixture)
			} else {
				c = newCloud(t, row.driver)
				c.index() // an empty index would be left out
			}
			c.restic(env.Restic(t, row.restic))
			c.write("opencloud", "stands for the server's binary, which other tests share")
			c.configure("layout", "binary", c.quoted("opencloud"))
			c.oddities()

			// The server is started again by the backup; a tree that stays as it was
			// frozen is one under a server that was stopped before.
			c.stop()
			first := c.backup()
			frozen, blobs := treesum(t, c.dir, "config", "data"), c.bucket()
			c.stopped()
			c.start()

			second := c.backup()
			c.running()
			if stops := c.happened("stop"); stops != 2 {
				t.Errorf("the server was stopped %d times", stops)
			}
			list := c.sets()
			if len(list) != 2 || list[0].Set != first || list[1].Set != second || list[1].State != "complete" {
				t.Errorf("the list is %v", list)
			}
			wants(t, c.run("show", second), 0, second, c.version(), row.fixture[max(0, strings.LastIndexByte(row.fixture, '-')+1):])
			c.must("verify", "--all", "--read-data", "100%")

			copied := c.restoreCopy(first)
			sameTrees(t, frozen, treesum(t, copied+c.dir, "config", "data"))
			c.sparse(copied)
			c.restoreCopy(second)

			// The disk dies.
			c.kill()
			c.remove("config", "data")
			c.wipeBucket()
			r := c.run("restore", "--yes", "--no-start", first)
			wants(t, r, 0)
			if got := c.bucket(); !maps.Equal(got, blobs) {
				t.Errorf("the bucket has %d objects, had %d", len(got), len(blobs))
			}
			sameTrees(t, frozen, treesum(t, c.dir, "config", "data"))
			c.sparse("")
			wants(t, c.check(""), 0)
			c.start()
			c.good()
		})
	}
}

func quote(s string) string { b, _ := json.Marshal(s); return string(b) }

// A copy of the running tree is inconsistent: that is what a backup is up against.
// The set that ocbackup makes at the same time is not.
func TestConsistencyNeedsTheStop(t *testing.T) {
	t.Parallel()
	for _, driver := range []string{"posix", "decomposed"} {
		t.Run(driver, func(t *testing.T) {
			t.Parallel()
			onlyStandin(t, "whether a copy taken at some moment comes out inconsistent is luck")
			c := newCloud(t, driver)
			c.writesEvery("1ms")
			wants(t, c.runRestic("backup", c.path("config"), c.path("data")), 0)
			wants(t, c.runRestic("restore", "latest", "--target", c.path("plain")), 0)
			if r := c.check(c.path("plain")); r.Code != 1 {
				t.Errorf("a plain restic backup of the running tree came out consistent (%d): the test can't tell\n%s", r.Code, r.Stdout)
			}
			c.restoreCopy(c.backup())
			c.running()
		})
	}
}

// A second backup reads nothing again that has not changed.
func TestUnchangedIsIncremental(t *testing.T) {
	t.Parallel()
	for _, driver := range []string{"posix", "decomposed"} {
		t.Run(driver, func(t *testing.T) {
			t.Parallel()
			c := newRecordedCloud(t, "opencloud-4.0-"+driver)
			c.stop() // so that nothing changes
			c.backup()
			second := c.backup()
			for _, s := range c.snapshots() {
				if s.tag("set") != second || slices.Contains(s.Tags, "manifest") {
					continue
				}
				if s.Parent == "" || s.Summary.FilesNew > 0 || s.Summary.FilesUnmodified == 0 {
					t.Errorf("root %s was read again: parent %q, %d new, %d unmodified", s.tag("root"), s.Parent, s.Summary.FilesNew, s.Summary.FilesUnmodified)
				}
			}
		})
	}
}

func TestDryRunChangesNothing(t *testing.T) {
	t.Parallel()
	c := newCloud(t, "posix")
	wants(t, c.run("backup", "--dry-run"), 0, "nothing was stopped", "users")
	if n := len(c.snapshots()); n != 0 {
		t.Errorf("%d snapshots were made", n)
	}
	id := c.backup()
	c.mark("after")
	before := c.happened("stop")
	wants(t, c.run("restore", "--dry-run"), 0, "nothing was stopped", id)
	if c.happened("stop") != before || c.marked() != "after" {
		t.Error("the instance was touched")
	}
	c.running()
}

func TestPartialSet(t *testing.T) {
	t.Parallel()
	c := newCloud(t, "decomposed")
	full := c.backup()
	out := c.must("backup", "--component", "config,system")
	if !strings.Contains(out, "not a full set") {
		t.Errorf("it does not say that it is not a full set: %s", out)
	}
	list := c.sets()
	if len(list) != 2 || list[1].State != "partial" {
		t.Fatalf("the list is %v", list)
	}
	// It is no base for an instance: "latest" passes over it, and it is refused by name.
	wants(t, c.run("show"), 0, full)
	wants(t, c.run("restore", "--yes", list[1].Set), 2, "not a full set", "--component")
	c.good()
}
