//go:build integration

package integration

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ocbackup/ocbackup/integration/env"
)

// resticThat makes ocbackup use a restic that behaves well until the file "misbehave"
// is there, and then, when it stores the users' files in the cold window, does what
// the shell text says ($RESTIC is the real one).
func (c *cloud) resticThat(text string) {
	c.t.Helper()
	c.restic(c.script("restic", fmt.Sprintf(`RESTIC=%s
case "$*" in
  *tag=seed*) ;;
  *tag=root=users*) if [ -e %s ]; then %s; fi ;;
esac
exec "$RESTIC" "$@"`, env.Restic(c.t, "0.18"), c.path("misbehave"), text)))
}

// What restic does wrong in the cold window never keeps OpenCloud away, and commits
// nothing.
func TestResticFails(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name, text string
		code       int
		says       string
	}{
		{"killed mid-run", `"$RESTIC" "$@" & kill -KILL $!; wait $!; kill -KILL $$`, 8, "killed"},
		{"exits 3", `"$RESTIC" "$@"; exit 3`, 3, ""},
		{"exits 1", `echo "Fatal: no such luck" >&2; exit 1`, 8, "no such luck"},
		{"says nothing", `exit 0`, 8, ""},
		{"forgets a file", `exec "$RESTIC" --exclude=slot-1.dat "$@"`, 3, "were stored"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			c := newCloud(t, "posix")
			c.resticThat(row.text)
			id := c.backup()
			c.write("misbehave", "")
			r := c.run("backup")
			wants(t, r, row.code, row.says, "running again")
			c.running()
			if list := c.sets(); len(list) != 1 || list[0].Set != id {
				t.Errorf("the sets are %v", list)
			}
			c.remove("misbehave")
			c.good()
		})
	}
}

// A window that takes too long is ended, and what was stored makes the next shorter.
func TestDeadline(t *testing.T) {
	t.Parallel()
	c := newCloud(t, "posix")
	c.resticThat(`"$RESTIC" "$@"; sleep 60`)
	c.backup()
	c.write("misbehave", "")
	c.configure("backup", "max_downtime", `"3s"`)
	begun := time.Now()
	wants(t, c.run("backup"), 7, "max_downtime", "running again")
	if took := time.Since(begun); took > 40*time.Second {
		t.Errorf("it took %s", took)
	}
	c.running()
	var kept []string
	for _, s := range c.snapshots() {
		if s.tag("root") == "users" {
			kept = append(kept, s.ID)
		}
	}
	if len(kept) != 2 {
		t.Fatalf("what was stored of users was not kept: %v", kept)
	}
	c.remove("misbehave")
	c.configure("backup", "max_downtime", "")
	next := c.good()
	for _, s := range c.snapshots() {
		if s.tag("set") == next && s.tag("root") == "users" && !slices.Contains(kept, s.Parent) {
			t.Errorf("the next run started from %q, not from one of %v", s.Parent, kept)
		}
	}
}

func TestLockedRepository(t *testing.T) {
	t.Parallel()
	c := newCloud(t, "posix")
	c.write("data/storage/users/large", strings.Repeat("x", 1<<10)+noise(t, 4<<20))
	c.backup()
	stops := c.happened("stop")

	// A check at a crawl holds an exclusive lock for as long as it is left alone.
	holder := exec.Command(env.Restic(t, "0.18"), "check", "--read-data", "--limit-download", "20")
	holder.Env = append(os.Environ(), c.resticEnv()...)
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = holder.Process.Kill() }()
	env.Eventually(t, 20*time.Second, "the repository is locked", func() bool {
		locks, _ := os.ReadDir(c.path("repository/locks"))
		return len(locks) > 0
	})
	wants(t, c.run("backup"), 8, "locked", fmt.Sprint(holder.Process.Pid))
	if c.happened("stop") != stops {
		t.Error("the server was stopped for it")
	}
	c.running()

	// Dead, it leaves its lock behind, and nobody waits for that.
	if err := holder.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = holder.Wait()
	if locks, _ := os.ReadDir(c.path("repository/locks")); len(locks) == 0 {
		t.Fatal("the dead process left no lock: the test shows nothing")
	}
	c.good()
}

// noise is text that can't be compressed.
func noise(t testing.TB, n int) string {
	t.Helper()
	b := make([]byte, n)
	f, err := os.Open("/dev/urandom")
	if err == nil {
		_, err = f.Read(b)
		_ = f.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestDiskFull(t *testing.T) {
	t.Parallel()
	c := newCloud(t, "posix")
	small := t.TempDir()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=24m", "none", small).CombinedOutput(); err != nil {
		t.Skipf("mount: %v %s", err, out)
	}
	t.Cleanup(func() { _ = exec.Command("umount", "-l", small).Run() })
	newRepository(t, filepath.Join(small, "repository"))
	c.configure("repository", "location", quote(filepath.Join(small, "repository")))
	c.backup()
	c.write("data/storage/users/large", noise(t, 40<<20))
	r := c.run("backup")
	wants(t, r, 8, "no space left", "running again")
	c.running()
	if list := c.sets(); len(list) != 1 {
		t.Errorf("the sets are %v", list)
	}
	if out, err := exec.Command("mount", "-o", "remount,size=200m", small).CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	id := c.backup()
	c.running()
	c.must("verify")
	c.restoreCopy(id)

	// A target that is too small is refused before anything is stopped.
	tiny := t.TempDir()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=8m", "none", tiny).CombinedOutput(); err != nil {
		t.Skipf("mount: %v %s", err, out)
	}
	t.Cleanup(func() { _ = exec.Command("umount", "-l", tiny).Run() })
	wants(t, c.run("restore", "--target", filepath.Join(tiny, "to")), 2)
	c.running()
}

func TestWontStop(t *testing.T) {
	t.Parallel()
	c := newCloud(t, "posix")
	id := c.backup()
	c.quirk("ignore-term", "")
	c.configure("control", "stop_timeout", `"2s"`)
	wants(t, c.run("backup"), 1, "did not stop within 2s", "running again")
	c.running()
	c.mark("after")
	wants(t, c.run("restore", "--yes", id), 1, "did not stop within 2s")
	c.running()
	if got := c.marked(); got != "after" {
		t.Errorf("the data is from %q", got)
	}
	c.remove("config/standin.ignore-term")
	c.good()
}

// A server that does not come back is the one thing that outranks all else: the
// journal stays until somebody has mended it.
func TestWontComeBack(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		quirk string
		runs  bool // all the same
	}{{"fail-start", false}, {"never-ready", true}} {
		t.Run(row.quirk, func(t *testing.T) {
			t.Parallel()
			c := newCloud(t, "posix")
			c.backup()
			c.configure("control", "start_timeout", `"2s"`)
			c.configure("ready", "timeout", `"2s"`)
			touch := "exec:touch " + c.path("config/standin."+row.quirk)
			wants(t, c.runWith(fault("cold.stopped", touch), "backup"), 5, "NOT BACK", "recover")
			if c.read("state/journal.json") == "" {
				t.Fatal("there is no journal")
			}
			if running := c.ctl("status").Code == 0; running != row.runs {
				t.Errorf("the server runs: %t", running)
			}
			wants(t, c.run("recover"), 5, "NOT BACK")
			wants(t, c.run("backup"), 5, "NOT BACK")
			c.remove("config/standin." + row.quirk)
			wants(t, c.run("recover"), 0)
			c.running()
			wants(t, c.run("recover"), 0, "nothing to do")
			if n := len(c.sets()); n != 1 {
				t.Errorf("there are %d sets", n)
			}
			c.good()
		})
	}
}

// A restored instance that does not come up gets its old data back.
func TestRestoredWontStart(t *testing.T) {
	t.Parallel()
	c := newCloud(t, "posix")
	c.mark("before")
	c.stop()
	c.quirk("fail-start", "")
	id := c.backup()
	c.remove("config/standin.fail-start")
	c.start()
	c.mark("after")
	c.configure("control", "start_timeout", `"2s"`)
	c.configure("ready", "timeout", `"3s"`)
	wants(t, c.run("restore", "--yes", id), 1, "old data was put back")
	c.running()
	if got := c.marked(); got != "after" {
		t.Errorf("the data is from %q", got)
	}
	c.noTraces()
	c.good()
}

func TestStaysStopped(t *testing.T) {
	t.Parallel()
	c := newCloud(t, "posix")
	c.stop()
	starts := c.happened("start")
	c.restoreCopy(c.backup())
	for _, action := range []string{"KILL", "TERM", "error"} {
		if r := c.runWith(fault("cold.stopped", action), "backup"); r.Code == 0 {
			t.Errorf("%s: it succeeded", action)
		}
		c.stopped()
	}
	c.backup()
	c.stopped()
	if c.happened("start") != starts {
		t.Errorf("it was started: %v", c.events())
	}
	c.start()
	c.good()
}

// Somebody starts the server while it must be stopped: the run is void, and the
// server is left running.
func TestStartedInTheWindow(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ name, point, then string }{
		{"right after the stop", "cold.stopped", ""},
		{"at the end", "cold.stored", ""},
		{"and stopped again", "cold.stored", "stop"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			c := newCloud(t, "posix")
			ctl := filepath.Join(env.Root(), "tools/standin-ctl.sh") + " " + c.dir
			// A status that tells one start from another also while it is stopped.
			c.configure("control", "status", quoteList(c.script("status", ctl+" status; code=$?; cat "+c.path("server.pid")+"; exit $code")))
			c.backup()
			meddle := c.script("meddle", "before=$(grep -c ' ready ' "+c.path("events")+"); "+ctl+" start; until [ $(grep -c ' ready ' "+c.path("events")+") -gt $before ]; do sleep 0.05; done")
			if row.then != "" {
				c.write("meddle", c.read("meddle")+ctl+" "+row.then+"\n")
			}
			r := c.runWith(fault(row.point, "exec:"+meddle), "backup")
			wants(t, r, 1, "somebody started OpenCloud", "void")
			if row.then == "" {
				wants(t, r, 1, "its parents: ", "/opencloud server) of user ")
			}
			c.running()
			if n := len(c.sets()); n != 1 {
				t.Errorf("there are %d sets", n)
			}
			c.good()
		})
	}
}

func quoteList(words ...string) string {
	var q []string
	for _, w := range words {
		q = append(q, quote(w))
	}
	return "[" + strings.Join(q, ", ") + "]"
}

// A manager that says "stopped" while a server is at work on the data is not believed.
func TestManagerIsWrong(t *testing.T) {
	t.Parallel()
	c := newCloud(t, "posix")
	c.mark("before")
	id := c.backup()
	c.mark("after")
	ctl := filepath.Join(env.Root(), "tools/standin-ctl.sh") + " " + c.dir
	lie := c.path("lie")
	honest := c.with(t)
	c.configure("control", "stop", quoteList("/usr/bin/touch", lie))
	c.configure("control", "start", quoteList("/bin/rm", "-f", lie))
	c.configure("control", "status", quoteList(c.script("status", "[ ! -e "+lie+" ] || exit 3; "+ctl+" status")))
	for _, args := range [][]string{{"backup"}, {"restore", "--yes", id}, {"restore", "--yes", "--in-place", id}} {
		wants(t, c.run(args...), 1, "at work", "idm.boltdb")
		c.running()
	}
	if got := c.marked(); got != "after" || len(c.sets()) != 1 {
		t.Errorf("the data is from %q, the sets are %v", got, c.sets())
	}
	honest.saveConfig()
	honest.good()
}

func TestTwoRunsAtOnce(t *testing.T) {
	t.Parallel()
	c := newCloud(t, "posix")
	c.backup()
	// The first one waits for the second to end.
	first := c.command("backup")
	first.Env = append(first.Env, fault("cold.stopped", "exec:touch "+c.path("first")+"; until [ -e "+c.path("second")+" ]; do sleep 0.05; done")...)
	if err := first.Start(); err != nil {
		t.Fatal(err)
	}
	env.Eventually(t, 30*time.Second, "the first run has stopped the server", func() bool {
		_, err := os.Stat(c.path("first"))
		return err == nil
	})
	for _, args := range [][]string{{"backup"}, {"restore", "--yes"}, {"recover"}} {
		wants(t, c.run(args...), 6, fmt.Sprint(first.Process.Pid))
	}
	wants(t, c.run("list"), 0)
	c.stopped()
	c.write("second", "")
	if err := first.Wait(); err != nil {
		t.Error(err)
	}
	c.running()
	c.good()
}

// killBoth is a command that kills ocbackup and its guard: as a loss of power would,
// or systemd.
func (c *cloud) killBoth() string {
	return c.script("kill-both", `kill -KILL $(pgrep -f "guard --state-dir `+c.path("state")+`$") "$1"`)
}

// Everything of ocbackup is gone in the midst of it, and nobody is there to bring
// OpenCloud back: the unit at boot does, or the next run.
func TestPowerLoss(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name  string
		point string
		run   []string // that is interrupted
		back  []string // that brings it back
		want  string   // the data that is in place then
	}{
		{"backup then recover", "cold.stopped", []string{"backup"}, []string{"recover"}, "after"},
		{"backup then next run", "cold.stored", []string{"backup"}, []string{"backup"}, "after"},
		{"restore then recover", "restore.swapped-one", []string{"restore", "--yes"}, []string{"recover"}, "after"},
		{"restore then next run", "restore.swapped", []string{"restore", "--yes"}, []string{"restore", "--yes"}, "before"},
		{"restore then backup", "restore.committed", []string{"restore", "--yes"}, []string{"backup"}, "before"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			c := newCloud(t, "posix")
			c.mark("before")
			c.backup()
			c.mark("after")
			r := c.runWith(fault(row.point, "exec:"+c.killBoth()+" $PPID"), row.run...)
			wants(t, r, -1)
			c.stopped()
			if c.read("state/journal.json") == "" {
				t.Fatal("there is no journal")
			}
			wants(t, c.run(row.back...), 0)
			c.running()
			if got := c.marked(); got != row.want {
				t.Errorf("the data is from %q", got)
			}
			wants(t, c.run("recover"), 0, "nothing to do")
			c.good()
		})
	}
}

// The guard alone dies: the run goes on, its set is committed, and it says so.
func TestGuardKilled(t *testing.T) {
	t.Parallel()
	c := newCloud(t, "posix")
	c.backup()
	kill := c.script("kill-guard", `kill -KILL $(pgrep -f "guard --state-dir `+c.path("state")+`$")`)
	r := c.runWith(fault("cold.stopped", "exec:"+kill), "backup")
	wants(t, r, 0, "the guard process was gone before the end")
	c.running()
	c.good()
}

// A run that hangs (it was stopped with SIGSTOP) is not taken for a dead one, and
// goes on where it was.
func TestSuspended(t *testing.T) {
	t.Parallel()
	c := newCloud(t, "posix")
	c.backup()
	run := c.command("backup")
	run.Env = append(run.Env, fault("cold.stopped", "exec:touch "+c.path("there")+"; kill -STOP $PPID")...)
	if err := run.Start(); err != nil {
		t.Fatal(err)
	}
	env.Eventually(t, 30*time.Second, "the run is suspended", func() bool {
		stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", run.Process.Pid))
		return strings.Contains(string(stat), ") T ")
	})
	wants(t, c.run("backup"), 6)
	c.stopped()
	if err := run.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if err := run.Wait(); err != nil {
		t.Error(err)
	}
	c.running()
	c.good()
}

// A journal that can't be read is no reason to leave OpenCloud stopped.
func TestDamagedJournal(t *testing.T) {
	t.Parallel()
	c := newCloud(t, "posix")
	for _, command := range []string{"recover", "backup"} {
		c.stop()
		c.write("state/journal.json", "{")
		wants(t, c.run(command), 0, "journal.json.damaged")
		c.running()
	}
	// What may have been a restore's is not acted upon: the data may be half restored.
	c.stop()
	c.write("state/journal.json", `{"kind": "restore", `)
	wants(t, c.run("backup"), 5, "journal.json")
	wants(t, c.run("recover"), 5, "journal.json")
	c.stopped()
	c.remove("state/journal.json")
	c.start()
	c.good()
}

// A state directory that can't be written to stops nothing.
func TestReadOnlyState(t *testing.T) {
	t.Parallel()
	c := newCloud(t, "posix")
	c.backup()
	stops := c.happened("stop")
	state := c.path("state")
	for _, options := range []string{"bind", "remount,bind,ro"} {
		args := []string{"-o", options, state}
		if options == "bind" {
			args = append(args, state)
		}
		if out, err := exec.Command("mount", args...).CombinedOutput(); err != nil {
			t.Fatalf("%v %s", err, out)
		}
	}
	mounted := true
	unmount := func() {
		if mounted {
			_ = exec.Command("umount", "-l", state).Run()
			mounted = false
		}
	}
	defer unmount()
	wants(t, c.run("backup"), 1, "read-only", "state")
	c.running()
	if c.happened("stop") != stops {
		t.Error("the server was stopped")
	}
	unmount()
	c.good()
}
