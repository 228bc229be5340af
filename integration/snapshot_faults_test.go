//go:build integration

package integration

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ocbackup/ocbackup/integration/env"
)

// What goes wrong with snapshots keeps nobody away from OpenCloud, makes no set of half
// a moment, and leaves nothing behind for good.
func TestSnapshotFaults(t *testing.T) {
	t.Parallel()
	fs := env.FileSystem(t, "btrfs", 500)
	c := newCloudOn(t, subvolume(t, fs, "srv"), "posix")
	c.fill()
	first := c.backup()
	snapshots := filepath.Join(fs, ".ocbackup-snapshots")

	t.Run("can't be made", func(t *testing.T) {
		c := c.with(t)
		btrfs := func(args ...string) { wants(t, env.Exec(background, nil, "btrfs", args...), 0) }
		// At no time, which shows before the stop.
		btrfs("quota", "enable", fs)
		defer func() { _ = exec.Command("btrfs", "quota", "disable", fs).Run() }()
		btrfs("qgroup", "limit", "1", "0/5", fs)
		wants(t, c.run("backup"), 0, "quota exceeded", "Warning")
		ids := c.setIDs()
		c.wasTaken(ids[len(ids)-1], "users: final pass")
		c.freezeBy("btrfs")
		c.failed(func() { wants(t, c.run("backup"), 1, "quota exceeded") }, false)
		btrfs("quota", "disable", fs)
		// Not while the server is stopped.
		sealed := fault("cold.stopped", "exec:mkdir -p "+snapshots+" && chattr +i "+snapshots)
		c.failed(func() { wants(t, c.runWith(sealed, "backup"), 1, "not permitted", "running again") }, true)
		wants(t, env.Exec(background, nil, "chattr", "-i", snapshots), 0)
		c.backup()
		c.nothingLeft(fs)
	})
	t.Run("is lost while it is read", func(t *testing.T) {
		c := c.with(t)
		lose := c.script("lose", "for s in "+snapshots+"/*; do btrfs subvolume delete $s; done")
		c.failed(func() {
			wants(t, c.runWith(fault("store.opened", "exec:"+lose), "backup"), 3, "is lost: somebody has removed it", "running again")
		}, true)
		c.nothingLeft(fs)
	})
	t.Run("what was stored of it is not listed in full", func(t *testing.T) {
		changed := c.with(t)
		short := changed.resticInProof("ls", `"$RESTIC" "$@" | head -n 100; exit 0`, "true")
		c := c.with(t)
		c.failed(func() {
			r := changed.runWith(short, "backup")
			c.saveConfig()
			wants(t, r, 8, "restic lists ", "and has stored ", "running again")
		}, true)
		c.nothingLeft(fs)
	})
	t.Run("is in use", func(t *testing.T) {
		c := c.with(t)
		use := c.script("use", "cd /run/ocbackup/"+c.name+"/*/users/users && { sleep 1000 >/dev/null 2>&1 & echo $! >"+c.path("user")+"; }")
		r := c.runWith(fault("store.opened", "exec:"+use), "backup")
		pid, err := strconv.Atoi(strings.TrimSpace(c.read("user")))
		if err != nil {
			t.Fatalf("%v\n%s%s", err, r.Stdout, r.Stderr)
		}
		user, err := os.FindProcess(pid)
		if err != nil {
			t.Fatal(err)
		}
		defer user.Kill()
		wants(t, r, 0)
		c.running()
		c.nothingLeft(fs)
	})
	for _, point := range []string{"cold.frozen", "store.opened", "commit.begin"} {
		t.Run("ocbackup is killed at "+point, func(t *testing.T) {
			c := c.with(t)
			stops, sets := c.happened("stop"), len(c.setIDs())
			wants(t, c.runWith(fault(point, "KILL"), "backup"), -1)
			c.awaitBack()
			c.running()
			if c.happened("stop") != stops+1 || len(c.setIDs()) != sets {
				t.Errorf("events %v, sets %v", c.events(), c.setIDs())
			}
			if len(c.leftovers(fs)) == 0 {
				t.Error("the killed run left nothing: the test shows nothing")
			}
			r := c.run("backup")
			wants(t, r, 0, "Removed: btrfs snapshot")
			c.running()
			c.nothingLeft(fs)
		})
	}
	for _, row := range []struct {
		point, action string
		code          int
	}{{"cold.frozen", "error", 1}, {"store.opened", "INT", 130}} {
		t.Run(row.action+" at "+row.point, func(t *testing.T) {
			c := c.with(t)
			c.failed(func() { wants(t, c.runWith(fault(row.point, row.action), "backup"), row.code) }, true)
			c.nothingLeft(fs)
		})
	}
	t.Run("those of others stay", func(t *testing.T) {
		c := c.with(t)
		var others []string
		for _, name := range []string{"ocbackup-other.test-20260102T030405Z-abcd-0123ab-0", "ocbackup-" + c.name + "-20260102T030405Z-abcd-0123ab-0", "ocbackup-mine", "daily"} {
			if err := os.MkdirAll(snapshots, 0o700); err != nil {
				t.Fatal(err)
			}
			others = append(others, subvolume(t, snapshots, name))
		}
		c.backup()
		for _, o := range others {
			if _, err := os.Stat(o); err != nil {
				t.Error(err)
			}
		}
	})
	c.good()
	if ids := c.setIDs(); ids[0] != first {
		t.Errorf("the sets are %v, the first was %s", ids, first)
	}
}

// A snapshot of a file system that hangs is not waited for: the server is back first.
func TestFreezeHangs(t *testing.T) {
	t.Parallel()
	c := newCloudOn(t, subvolume(t, env.FileSystem(t, "btrfs", 400), "srv"), "posix")
	hung := env.FileSystem(t, "btrfs", 200)
	thaw := func() { _ = exec.Command("fsfreeze", "--unfreeze", hung).Run() }
	t.Cleanup(thaw)
	c.write("ocbackup.toml", c.read("ocbackup.toml")+"[[extra]]\nname = \"more\"\npath = "+quote(hung)+"\n")
	c.backup()
	c.failed(func() {
		ready := c.happened("ready")
		run := c.command("backup", "--max-downtime", "3s")
		run.Env = append(run.Env, fault("cold.stopped", "exec:fsfreeze --freeze "+hung)...)
		var out strings.Builder
		run.Stderr = &out
		if err := run.Start(); err != nil {
			t.Fatal(err)
		}
		env.Eventually(t, time.Minute, "the server is back", func() bool { return c.happened("ready") > ready })
		thaw() // no process ends as long as one of its threads hangs in the kernel
		_ = run.Wait()
		wants(t, env.Result{Code: run.ProcessState.ExitCode(), Stderr: out.String()}, 7, "max_downtime", "running again")
	}, true)
	c.backup()
	c.nothingLeft(hung)
	c.good()
}

// The deadline holds in every part of the window: the server is back first.
func TestDeadlines(t *testing.T) {
	t.Parallel()
	c := newCloudOn(t, subvolume(t, env.FileSystem(t, "btrfs", 400), "srv"), "posix")
	c.backup()
	for _, row := range []struct{ name, point string }{
		{"after the stop", "cold.stopped"}, {"after the freeze", "cold.frozen"}, {"after the final pass", "cold.stored"},
	} {
		t.Run(row.name, func(t *testing.T) {
			c := c.with(t)
			c.failed(func() {
				r := c.runWith(fault(row.point, "exec:sleep 8"), "backup", "--max-downtime", "7s")
				wants(t, r, 7, "max_downtime", "running again")
			}, true)
		})
	}
	t.Run("in the stop", func(t *testing.T) {
		c := c.with(t)
		c.quirk("slow-stop", "8s")
		defer c.remove("config/standin.slow-stop")
		c.failed(func() { wants(t, c.run("backup", "--max-downtime", "7s"), 7, "max_downtime", "running again") }, true)
	})
	// None of it is in the way of what follows, which is read from the snapshots after
	// the window, however long that takes.
	c.resticThat(`sleep 8`)
	c.write("misbehave", "")
	c.must("backup", "--max-downtime", "7s")
	c.running()
}

// What a run has stored that is then cut off at its deadline need not be read again.
func TestDeadlineKeepsWhatWasStored(t *testing.T) {
	t.Parallel()
	c := newCloud(t, "posix")
	c.fill()
	c.failed(func() {
		r := c.runWith(fault("cold.stored", "exec:sleep 8"), "backup", "--max-downtime", "7s")
		wants(t, r, 7, "max_downtime", "running again")
	}, true)
	before := c.snapshots()
	s := c.stored(c.good(), "users")
	if !slices.ContainsFunc(before, func(old snapshot) bool { return old.ID == s.Parent }) || s.Summary.FilesUnmodified < unchangedFiles {
		t.Errorf("the next run read it all again: compared with %q, %+v", s.Parent, s.Summary)
	}
	c.noStrays()
}

// What hangs in the kernel in the final pass, where no signal ends it, does not hold the
// server up.
func TestFinalPassHangs(t *testing.T) {
	t.Parallel()
	c := newCloud(t, "posix")
	hung := env.FileSystem(t, "ext4", 32)
	thaw := func() { _ = exec.Command("fsfreeze", "--unfreeze", hung).Run() }
	t.Cleanup(thaw)
	c.backup()
	c.resticThat("echo >" + hung + "/file")
	c.write("misbehave", "")
	c.failed(func() {
		ready := c.happened("ready")
		run := c.command("backup", "--max-downtime", "7s")
		run.Env = append(run.Env, fault("cold.stopped", "exec:fsfreeze --freeze "+hung)...)
		var out strings.Builder
		run.Stderr = &out
		if err := run.Start(); err != nil {
			t.Fatal(err)
		}
		env.Eventually(t, 2*time.Minute, "the server is back", func() bool { return c.happened("ready") > ready })
		thaw() // or the child would stay for ever
		_ = run.Wait()
		wants(t, env.Result{Code: run.ProcessState.ExitCode(), Stderr: out.String()}, 7, "max_downtime", "running again")
	}, true)
	c.remove("misbehave")
	c.good()
}

// On a full disk a server that was stopped may not start again.
func TestDataDiskFull(t *testing.T) {
	t.Parallel()
	fs := env.FileSystem(t, "ext4", 64)
	c := newCloudOn(t, fs, "posix")
	c.backup()
	// What is left is enough for the server that runs.
	var st unix.Statfs_t
	if err := unix.Statfs(fs, &st); err != nil {
		t.Fatal(err)
	}
	ballast := filepath.Join(fs, "ballast")
	size := int64(st.Bavail)*st.Bsize - 6<<20
	wants(t, env.Exec(background, nil, "fallocate", "-l", strconv.FormatInt(size, 10), ballast), 0)
	c.failed(func() { wants(t, c.run("backup"), 1, "full", "make room", "not touched") }, false)
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	c.good()
}

// The window is predicted from the last sets. What would probably take longer than it
// may is refused before anything is stopped.
func TestPrediction(t *testing.T) {
	t.Parallel()
	c := newCloud(t, "posix")
	first := c.backup()
	if _, down := c.shown(first); down.Predicted != 0 {
		t.Errorf("the first was predicted to take %g s", down.Predicted)
	}
	before := c.ctl("status").Stdout
	c.configure("backup", "max_downtime", `"100ms"`)
	c.failed(func() {
		wants(t, c.run("backup"), 7, "max_downtime", "100ms", "--max-downtime", "OpenCloud was not touched")
	}, false)
	if now := c.ctl("status").Stdout; now != before {
		t.Errorf("the server was %q and is %q", before, now)
	}
	r := c.run("backup", "--max-downtime", "10m")
	wants(t, r, 0, "away for about")
	ids := c.setIDs()
	if _, down := c.shown(ids[len(ids)-1]); down.Predicted <= 0 {
		t.Errorf("the downtime is %+v", down)
	}
	c.running()
}

// What has not changed for a while is stored before the stop, and not looked at by
// restic in the window. If it changes before the stop, it is.
func TestQuietRoots(t *testing.T) {
	t.Parallel()
	c := newCloud(t, "posix")
	calls := c.path("calls")
	c.restic(c.script("restic", fmt.Sprintf(`case "$*" in *" backup "*|backup*)
  if %s/tools/standin-ctl.sh %s status >/dev/null; then echo "running $*" >>%s; else echo "stopped $*" >>%s; fi ;;
esac
exec %s "$@"`, env.Root(), c.dir, calls, calls, env.Restic(t, "0.18"))))
	c.backup()
	c.remove("calls")

	id := c.backup()
	c.wasTaken(id, "config: hot pass", "users: final pass")
	if text := c.read("calls"); windowHas(text, "config") || !windowHas(text, "users") {
		t.Errorf("restic was called:\n%s", text)
	}
	c.restoreCopy(id)

	c.remove("calls")
	wants(t, c.runWith(fault("hot.end", "exec:echo late >"+c.path("config/late")), "backup"), 0)
	ids := c.setIDs()
	id = ids[len(ids)-1]
	c.wasTaken(id, "config: final pass")
	if text := c.read("calls"); !windowHas(text, "config") || !strings.Contains(text, "running ") {
		t.Errorf("restic was called:\n%s", text)
	}
	if b, _ := os.ReadFile(c.restoreCopy(id) + c.path("config/late")); string(b) != "late\n" {
		t.Errorf("what was changed last is %q", b)
	}
	c.good()
}

// windowHas tells whether restic stored a root while the server was stopped.
func windowHas(calls, root string) bool {
	for line := range strings.Lines(calls) {
		if strings.HasPrefix(line, "stopped ") && strings.Contains(line, "root="+root) {
			return true
		}
	}
	return false
}
