//go:build integration

package integration

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ocbackup/ocbackup/integration/env"
)

// restored is what a restore says it did.
type restored struct {
	Running    bool
	Reindex    string
	ReindexWhy string   `json:"reindex_why"`
	Aside      []string `json:"aside"`
	Undo       string   `json:"undo_command"`
}

// restore runs a restore that has to succeed.
func (c *cloud) restore(args ...string) restored {
	c.t.Helper()
	var res restored
	out := c.must(append([]string{"--json", "restore", "--yes"}, args...)...)
	if err := json.Unmarshal([]byte(out), &res); err != nil {
		c.t.Fatalf("%v: %s", err, out)
	}
	return res
}

// noTraces asserts that a restore has left nothing beside the data but what it says.
func (c *cloud) noTraces(allowed ...string) {
	c.t.Helper()
	err := filepath.WalkDir(c.dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.IsDir() || !strings.HasPrefix(d.Name(), ".ocbackup-") {
			return nil
		}
		for _, a := range allowed {
			if path == a {
				return filepath.SkipDir
			}
		}
		c.t.Errorf("left behind: %s", path)
		return filepath.SkipDir
	})
	if err != nil {
		c.t.Fatal(err)
	}
}

// indexed asserts that every space of the instance that can be is in its index.
func (c *cloud) indexed(want int) {
	c.t.Helper()
	r := c.ctl("exec", "indexed")
	wants(c.t, r, 0)
	if n := len(strings.Fields(r.Stdout)); n != want {
		c.t.Errorf("%d spaces are indexed, want %d: %s", n, want, r.Stdout)
	}
	if c.read("state/reindex-required.json") != "" {
		c.t.Error("the reindex marker is still there")
	}
}

// Everything is lost, and comes back with one command: the index with it.
func TestRestoreWhole(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name, driver string
		args         []string
	}{
		{"posix", "posix", nil},
		{"decomposed", "decomposed", nil},
		{"posix in place", "posix", []string{"--in-place"}},
		{"decomposed in place", "decomposed", []string{"--in-place"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			c := newCloud(t, row.driver)
			c.index()
			c.mark("before")
			id := c.backup()
			c.kill()
			c.remove("config", "data")
			res := c.restore(row.args...)
			if !res.Running || res.Reindex != "not needed" {
				t.Errorf("the result is %+v", res)
			}
			if got := c.marked(); got != "before" {
				t.Errorf("the data is from %q", got)
			}
			c.indexed(2)
			c.noTraces(res.Aside...)
			if next := c.good(); next == id {
				t.Error("no new set")
			}
		})
	}
}

// The running instance is put back to an earlier moment, and forth again.
func TestRestoreAndUndo(t *testing.T) {
	t.Parallel()
	for _, driver := range []string{"posix", "decomposed"} {
		t.Run(driver, func(t *testing.T) {
			t.Parallel()
			c := newCloud(t, driver)
			c.mark("before")
			id := c.backup()
			c.mark("after")

			// Not without somebody's consent.
			wants(t, c.run("restore", id), 2, "--yes", c.path("config"))
			if got := c.marked(); got != "after" {
				t.Fatalf("the data is from %q", got)
			}

			res := c.restore(id)
			c.running()
			if got := c.marked(); got != "before" || res.Undo == "" || len(res.Aside) == 0 {
				t.Fatalf("the data is from %q; %+v", got, res)
			}
			c.noTraces(res.Aside...)
			c.good()

			wants(t, c.run("restore", "--undo", "--yes"), 0)
			c.running()
			if got := c.marked(); got != "after" {
				t.Fatalf("after the undo the data is from %q", got)
			}
			c.good()
			wants(t, c.run("restore", "--undo", "--yes"), 2)

			c.restore("--in-place", id)
			c.running()
			if got := c.marked(); got != "before" {
				t.Fatalf("after the restore in place the data is from %q", got)
			}
			c.good()
		})
	}
}

func TestRestoreComponent(t *testing.T) {
	t.Parallel()
	c := newCloud(t, "posix")
	c.mark("before")
	id := c.backup()
	c.mark("after")
	res := c.restore("--component", "config", id)
	if c.read("config/mark") != "before" || c.read("data/nats/mark") != "after" || c.read("data/storage/users/mark") != "after" {
		t.Errorf("the data is from %q", c.marked())
	}
	if res.Reindex != "not needed" {
		t.Errorf("the configuration alone needs no index: %+v", res)
	}
	c.running()
	// Files without the index that names them: it is made again.
	res = c.restore("--component", "metadata,blobs", id)
	if c.read("data/storage/users/mark") != "before" || c.read("data/nats/mark") != "after" || res.Reindex != "done" {
		t.Errorf("the data is from %q; %+v", c.marked(), res)
	}
	c.indexed(2)
	c.running()
}

// To other paths: the server that is configured there gets the data.
func TestRestoreMapped(t *testing.T) {
	t.Parallel()
	for _, mode := range [][]string{nil, {"--in-place"}} {
		t.Run(strings.Join(append([]string{"map"}, mode...), " "), func(t *testing.T) {
			t.Parallel()
			from, to := newCloud(t, "posix"), newCloud(t, "posix")
			from.index() // an empty index would be left out
			from.mark("from")
			from.stop()
			from.backup()
			frozen := treesum(t, from.dir, "config", "data")
			to.config["repository"] = from.config["repository"]
			to.saveConfig()
			// Where it goes is not where the instance is: that is noticed.
			wants(t, to.run("restore", "--yes"), 2, "--map")
			to.running()
			to.stop()
			to.must(append([]string{"restore", "--yes", "--no-start", "--map", from.dir + "=" + to.dir}, mode...)...)
			sameTrees(t, frozen, treesum(t, to.dir, "config", "data"))
			to.start()
			to.running()
			if got := to.marked(); got != "from" {
				t.Errorf("the data is from %q", got)
			}
		})
	}
}

// An empty machine, the repository and its password: nothing else.
func TestBareHost(t *testing.T) {
	t.Parallel()
	c := newCloud(t, "posix")
	c.mark("before")
	c.backup()
	c.kill()
	c.remove("config", "data", "state", "ocbackup.toml")

	// The configuration is written to where it belongs, which is not this machine's.
	etc := t.TempDir()
	for _, d := range []string{"up", "work"} {
		if err := os.Mkdir(filepath.Join(etc, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	r := env.Exec(background, nil, "unshare", "-m", "sh", "-c",
		`mount -t overlay overlay -o "lowerdir=/etc,upperdir=$0/up,workdir=$0/work" /etc && exec "$@"`, etc,
		ocbackupProgram(t), "restore", "--repository", c.path("repository"), "--password-file", c.path("password"), "--restic", env.Restic(t, "0.18"))
	wants(t, r, 0)
	c.running()
	if got := c.marked(); got != "before" {
		t.Errorf("the data is from %q", got)
	}
	written, err := os.ReadFile(filepath.Join(etc, "up/ocbackup/ocbackup.toml"))
	if err != nil {
		t.Fatal(err)
	}
	c.write("ocbackup.toml", string(written))
	c.good()
}

// A set whose index can't be used: it is left out, and built again by the server.
func TestReindex(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name, driver, fixture string
		damage                func(c *cloud) // of the index, the server stopped
		state                 string         // that the set says it has
	}{
		{"absent", "posix", "", func(c *cloud) { c.remove("data/search") }, "absent"},
		{"empty", "decomposed", "", func(c *cloud) { c.write("data/search/bleve/store/root.bolt", "") }, "damaged"},
		{"damaged meta", "posix", "", func(c *cloud) { c.write("data/search/bleve/index_meta.json", "{") }, "damaged"},
		{"segment lost", "posix", "", func(c *cloud) {
			zaps, _ := filepath.Glob(c.path("data/search/bleve/store/*.zap"))
			if len(zaps) == 0 {
				c.t.Fatal("no segments")
			}
			if err := os.Remove(zaps[0]); err != nil {
				c.t.Fatal(err)
			}
		}, "damaged"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			c := newCloud(t, row.driver)
			c.index()
			good := c.backup()
			c.stop()
			row.damage(c)
			id := c.backup()
			wants(t, c.run("show", id), 0, row.state)
			c.remove("config", "data")
			res := c.restore(id)
			if res.Reindex != "done" {
				t.Errorf("the result is %+v", res)
			}
			c.running()
			c.indexed(2)
			c.good()
			if res := c.restore(good); res.Reindex != "not needed" {
				t.Errorf("of the sound set: %+v", res)
			}
			c.indexed(2)
		})
	}
}

// A restore whose reindexing fails has the instance running, and says so until it
// is done by hand.
func TestReindexLater(t *testing.T) {
	t.Parallel()
	c := newCloud(t, "posix")
	c.stop()
	c.remove("data/search")
	c.backup()
	c.remove("config", "data")
	res := c.restore("--no-start")
	if res.Reindex != "pending" {
		t.Errorf("the result is %+v", res)
	}
	if c.read("state/reindex-required.json") == "" {
		t.Error("there is no marker")
	}
	c.start()
	wants(t, c.run("reindex"), 0)
	c.indexed(2)
	c.good()
}

// A signal does not undo a restore that is done; it ends the building of the index,
// which goes on from there.
func TestReindexInterrupted(t *testing.T) {
	t.Parallel()
	c := newCloud(t, "posix") // its index is empty
	c.mark("before")
	c.backup()
	c.mark("after")
	wants(t, c.runWith(fault("restore.ready", "TERM"), "restore", "--yes"), 130, "ocbackup.toml reindex")
	c.running()
	if got := c.marked(); got != "before" {
		t.Errorf("the data is from %q", got)
	}
	if c.read("state/reindex-required.json") == "" {
		t.Error("there is no marker")
	}
	wants(t, c.run("reindex"), 0)
	c.indexed(2)
	c.good()
}

func TestRestoreRefuses(t *testing.T) {
	t.Parallel()
	c := newCloud(t, "posix")
	c.mark("before")
	c.backup()
	c.mark("after")
	untouched := func(t *testing.T) {
		t.Helper()
		c.running()
		if got := c.marked(); got != "after" || c.happened("stop") != 1 {
			t.Errorf("the instance was touched: %q, %v", got, c.events())
		}
		c.noTraces()
	}

	t.Run("into a directory that is not empty", func(t *testing.T) {
		c.write("full/file", "text")
		wants(t, c.run("restore", "--target", c.path("full")), 2, "not empty")
		if c.read("full/file") != "text" {
			t.Error("what was there is gone")
		}
		untouched(t)
	})
	t.Run("an older server", func(t *testing.T) {
		defer c.saveConfig()
		c.with(t).configure("control", "exec", `["/bin/sh", "-c", "echo Version: 3.9.0"]`)
		wants(t, c.run("restore", "--yes"), 2, "3.9.0", c.version())
		wants(t, c.run("restore", "--yes", "--allow-version-mismatch"), 2, "older")
		untouched(t)
	})
	t.Run("a newer server", func(t *testing.T) {
		defer c.saveConfig()
		c.with(t).configure("control", "exec", `["/bin/sh", "-c", "echo Version: 7.3.0"]`)
		wants(t, c.run("restore", "--yes"), 2, "7.3.0", c.version(), "--allow-version-mismatch")
		untouched(t)
	})
	t.Run("an unknown set", func(t *testing.T) {
		wants(t, c.run("restore", "--yes", "20200101"), 2, "20200101")
		untouched(t)
	})
	t.Run("attributes lost on the way", func(t *testing.T) {
		// As a file system would that takes attributes and forgets them.
		strip := c.script("strip", `find "$1" -path '*/.ocbackup-*' -name 'slot-1.dat' -exec setfattr -x user.oc.blobid {} +`)
		r := c.runWith(fault("restore.staged", "exec:"+strip+" "+c.dir), "restore", "--yes")
		wants(t, r, 1, "attributes", "nothing was stopped")
		untouched(t)
		target := c.path("beside")
		strip = c.script("strip2", `find "$1" -name 'slot-1.dat' -exec setfattr -x user.oc.blobid {} +`)
		r = c.runWith(fault("restore.staged", "exec:"+strip+" "+target), "restore", "--target", target)
		wants(t, r, 1, "attributes")
		untouched(t)
	})
	t.Run("a file system without attributes", func(t *testing.T) {
		dir := mountRAM(t)
		wants(t, c.run("restore", "--target", filepath.Join(dir, "to")), 2, "can't hold")
		untouched(t)
	})
	c.good()
}
