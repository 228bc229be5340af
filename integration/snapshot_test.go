//go:build integration

package integration

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ocbackup/ocbackup/integration/env"
)

// A backup from snapshots is the state of one stopped moment, while the server's
// writer goes on; and what has not changed is not read again, from a snapshot after
// the live tree, the other way around, and from one snapshot after the other.
func TestSnapshots(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ driver, root string }{{"posix", "users"}, {"decomposed", "metadata"}} {
		t.Run(row.driver, func(t *testing.T) {
			t.Parallel()
			fs := env.FileSystem(t, "btrfs", 400)
			c := newCloudOn(t, subvolume(t, fs, "srv"), row.driver)
			c.fill()
			first := c.exact()
			c.wasTaken(first, "config: btrfs", "system: btrfs", row.root+": btrfs")
			if _, down := c.shown(first); down.Freeze == 0 || down.Freeze > down.Total {
				t.Errorf("the downtime is %+v", down)
			}
			c.nothingLeft(fs)

			second := c.backup()
			c.notReadAgain(second, first, row.root)
			c.freezeBy("none")
			live := c.backup()
			c.wasTaken(live, row.root+": final pass")
			c.notReadAgain(live, second, row.root)
			c.freezeBy("btrfs")
			third := c.exact()
			c.wasTaken(third, row.root+": btrfs")
			c.notReadAgain(third, live, row.root)
			c.good()
			c.nothingLeft(fs)
		})
	}
}

// Where the file system has no snapshots, the set is taken on the stopped tree, and a
// driver that is asked for is not passed over in silence.
func TestNoSnapshots(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ fs, driver, root string }{{"xfs", "posix", "users"}, {"ext4", "decomposed", "metadata"}} {
		t.Run(row.fs, func(t *testing.T) {
			t.Parallel()
			c := newCloudOn(t, env.FileSystem(t, row.fs, 400), row.driver)
			c.fill()
			first := c.exact()
			c.wasTaken(first, row.root+": final pass")
			c.notReadAgain(c.exact(), first, row.root)
			c.freezeBy("btrfs")
			c.failed(func() { wants(t, c.run("backup"), 2, "btrfs", row.fs, "driver") }, false)
			c.freezeBy("auto")
			c.good()
		})
	}
}

// One window for several file systems: what lies on btrfs is frozen, the rest is read
// while the server is stopped. A root may be reached by a symbolic link, and an extra
// one may lie on a file system that can't be written to.
func TestSeveralFileSystems(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	users, other := env.FileSystem(t, "btrfs", 300), env.FileSystem(t, "btrfs", 300)
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	real := subvolume(t, other, "etc")
	if err := os.Symlink(real, filepath.Join(dir, "config")); err != nil {
		t.Fatal(err)
	}
	extra := env.FileSystem(t, "btrfs", 300)
	if err := os.WriteFile(filepath.Join(extra, "sealed"), []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	wants(t, env.Exec(background, nil, "mount", "-o", "remount,ro", extra), 0)

	at := filepath.Join(dir, "data/storage/users")
	if err := os.MkdirAll(at, 0o755); err != nil {
		t.Fatal(err)
	}
	wants(t, env.Exec(background, nil, "mount", "--bind", users, at), 0)
	c := newCloudOn(t, dir, "posix")
	c.fill()
	c.write("ocbackup.toml", c.read("ocbackup.toml")+"[[extra]]\nname = \"sealed\"\npath = "+quote(extra)+"\n")

	keep := c.script("keep-stopped", "cd "+dir+" && mkdir stopped && cp -a data stopped/ && cp -a "+real+" stopped/etc")
	r := c.runWith(faults("cold.stopped=exec:"+keep, c.atWork()), "backup")
	wants(t, r, 0)
	id := c.setIDs()[0]
	c.wasTaken(id, "users: btrfs", "config: btrfs", "system: final pass")
	copied := t.TempDir()
	c.must("restore", "--target", copied, id)
	sameTrees(t, treesum(t, c.path("stopped"), "data", "etc"), append(treesum(t, copied+dir, "data"), treesum(t, filepath.Join(copied, filepath.Dir(real)), "etc")...))
	if b, _ := os.ReadFile(filepath.Join(copied, extra, "sealed")); string(b) != "text" {
		t.Errorf("the extra root has %q", b)
	}
	for _, fs := range []string{users, other, extra} {
		c.nothingLeft(fs)
	}
}

// What one snapshot would not hold is not frozen, and it is said what that is.
func TestNotFrozen(t *testing.T) {
	t.Parallel()
	fs := env.FileSystem(t, "btrfs", 400)
	c := newCloudOn(t, subvolume(t, fs, "srv"), "posix")
	nested := subvolume(t, c.path("data/storage/users"), "nested")
	c.write("data/storage/users/nested/file", "text")
	id := c.exact()
	c.wasTaken(id, "users: final pass", "config: btrfs")
	wants(t, c.run("backup", "--dry-run"), 0, nested, "subvolume")
	c.freezeBy("btrfs")
	c.failed(func() { wants(t, c.run("backup"), 2, nested, "subvolume") }, false)
	wants(t, env.Exec(background, nil, "btrfs", "subvolume", "delete", nested), 0)
	c.wasTaken(c.good(), "users: btrfs")
	c.nothingLeft(fs)
}

// Commands of the admin's make the snapshots. What they show is compared with what was
// there when the server was stopped: it may be anything.
func TestCommandDriver(t *testing.T) {
	t.Parallel()
	fs := env.FileSystem(t, "btrfs", 500)
	srv := subvolume(t, fs, "srv")
	c := newCloudOn(t, srv, "posix")
	c.fill()
	bad := filepath.Join(fs, "bad")
	at := filepath.Join(fs, "snaps")
	script := c.script("snap", `mkdir -p `+at+`
case "$1" in
create) if [ -e `+bad+` ]; then cp -r `+srv+` "`+at+`/$2"; else btrfs subvolume snapshot -r `+srv+` "`+at+`/$2"; fi ;;
destroy) if [ -e `+bad+` ]; then rm -rf "`+at+`/$2"; elif [ -e "`+at+`/$2" ]; then btrfs subvolume delete "`+at+`/$2"; fi ;;
esac`)
	for key, value := range map[string]string{
		"driver": `"command"`, "path": quote(srv), "mount_point": quote(at + "/{name}"),
		"create": quoteList(script, "create", "{name}"), "destroy": quoteList(script, "destroy", "{name}"),
	} {
		c.configure("snapshot", key, value)
	}
	id := c.exact()
	c.wasTaken(id, "users: command", "system: command", "config: command")
	if err := os.WriteFile(bad, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	c.failed(func() {
		wants(t, c.run("backup"), 3, "is not what was there when OpenCloud was stopped", "extended attributes")
	}, true)
	if err := os.Remove(bad); err != nil {
		t.Fatal(err)
	}
	c.good()
	if left, err := os.ReadDir(at); err != nil || len(left) > 0 {
		t.Errorf("there is left: %v, %v", left, err)
	}
}

// Kept snapshots are listed, serve a restore, and go when their time is over.
func TestKeptSnapshots(t *testing.T) {
	t.Parallel()
	fs := env.FileSystem(t, "btrfs", 500)
	c := newCloudOn(t, subvolume(t, fs, "srv"), "posix")
	c.configure("snapshot", "keep_snapshots", `"1h"`)
	c.mark(before)
	id := c.backup()
	c.mark(after)
	left := c.leftovers(fs)
	if len(left) != 2 || !strings.Contains(left[0], id) || !strings.Contains(left[1], id+".json") {
		t.Errorf("of set %s are kept: %q", id, left)
	}
	wants(t, c.run("show", id), 0, "on this host")
	wants(t, c.run("list"), 0, "on this host")

	// From a repository that lacks the data it could not come.
	packs := c.path("repository/data")
	if err := os.Rename(packs, packs+"-away"); err != nil {
		t.Fatal(err)
	}
	c.must("restore", "--yes", id)
	if err := os.Rename(packs+"-away", packs); err != nil {
		t.Fatal(err)
	}
	c.running()
	if got := c.marked(); got != before {
		t.Errorf("the data is from %q", got)
	}

	c.configure("snapshot", "keep_snapshots", `"1ms"`)
	short := c.backup()
	if left := c.leftovers(fs); len(left) != 4 {
		t.Errorf("are kept: %q", left)
	}
	c.configure("snapshot", "keep_snapshots", "")
	c.backup()
	for _, l := range c.leftovers(fs) {
		if strings.Contains(l, short) {
			t.Errorf("its time is over, and it is kept: %s", l)
		}
	}
	if left := c.leftovers(fs); len(left) != 2 {
		t.Errorf("of set %s are kept: %q", id, left)
	}
}
