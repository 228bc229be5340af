package recovery

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/guard"
	"github.com/ocbackup/ocbackup/opencloud"
	"github.com/ocbackup/ocbackup/opencloud/control"
	"github.com/ocbackup/ocbackup/opencloud/index"
	"github.com/ocbackup/ocbackup/opencloud/readiness"
	"github.com/ocbackup/ocbackup/progress"
)

// TestMain makes the test program play the run that dies and its guard, too.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 {
		switch os.Args[1] {
		case "guard":
			os.Exit(playGuard(os.Args[3]))
		case "main":
			os.Exit(playMain(os.Args[2]))
		}
	}
	os.Exit(m.Run())
}

// instance is an instance under the control of shell commands: it runs for as
// long as the file "running" is there, and counts its starts in the file "starts".
type instance struct {
	dir, state string
	server     Server
}

func newInstance(t *testing.T) *instance {
	t.Helper()
	dir := t.TempDir()
	i := &instance{dir: dir, state: filepath.Join(dir, "state")}
	sh := func(script string) []string { return []string{"/bin/sh", "-c", "cd " + dir + "; " + script} }
	i.server = Server{
		Layout: opencloud.Layout{ConfigDir: filepath.Join(dir, "config"), DataDir: filepath.Join(dir, "data")},
		Control: control.Config{
			Type: "command", StartTimeout: 2 * time.Second, StopTimeout: 2 * time.Second,
			Start:  sh("echo x >> starts; touch running"),
			Stop:   sh("echo x >> stops; rm -f running"),
			Status: sh("test -e running || exit 3; cat starts"),
		},
		Ready: readiness.Config{Off: true},
	}
	for _, d := range []string{i.state, i.server.Layout.ConfigDir, i.server.Layout.DataDir} {
		must(t, os.Mkdir(d, 0o700))
	}
	return i
}

func (i *instance) path(name string) string { return filepath.Join(i.dir, name) }

// lines counts the lines of a file: how often the instance was started or stopped.
func (i *instance) lines(t *testing.T, name string) int {
	t.Helper()
	b, err := os.ReadFile(i.path(name))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return strings.Count(string(b), "\n")
}

func (i *instance) running() bool {
	_, err := os.Stat(i.path("running"))
	return err == nil
}

// journal writes the journal of a run that died ten seconds after it had written it.
func (i *instance) journal(t *testing.T, j guard.Journal) {
	t.Helper()
	var err error
	j.Server, err = json.Marshal(i.server)
	must(t, err)
	if j.Kind == "" {
		j.Kind = guard.Backup
	}
	j.Written = time.Now().Add(-10 * time.Second)
	must(t, guard.Write(i.state, j))
}

func (i *instance) recover(t *testing.T) *Outcome {
	t.Helper()
	out, err := Recover(context.Background(), i.state, progress.Discard)
	must(t, err)
	if left, err := guard.Read(i.state); left != nil || err != nil {
		t.Errorf("a journal is left: %v, %v", left, err)
	}
	return out
}

// fails recovers, and checks that it fails as NotBack, keeps the journal and says what is wanted.
func (i *instance) fails(t *testing.T, o Options, says string) {
	t.Helper()
	o.StateDir = i.state
	_, err := Run(context.Background(), o)
	if fail.CodeOf(err) != fail.NotBack {
		t.Fatalf("error is %v, code %d, want %d", err, fail.CodeOf(err), fail.NotBack)
	}
	_, state, hint := fail.Details(err)
	if text := err.Error() + "|" + state + "|" + hint; !strings.Contains(text, says) || state == "" || hint == "" {
		t.Errorf("got %q, want %q in it", text, says)
	}
	if !pending(i.state) {
		t.Error("the journal is gone")
	}
}

func TestNothingToDo(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing")
	out, err := Recover(context.Background(), missing, progress.Discard)
	must(t, err)
	if out.Did != Nothing {
		t.Errorf("got %+v", out)
	}
	if _, err := os.Stat(missing); err == nil {
		t.Error("the state directory was made")
	}
}

func TestBackupThatDied(t *testing.T) {
	for _, c := range []struct {
		name                string
		wasRunning, running bool
		want                Did
		starts              int
	}{
		{"while stopped", true, false, Started, 1},
		{"before the stop, or after the start", true, true, Running, 0},
		{"on a stopped instance", false, false, Cleared, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			i := newInstance(t)
			if c.running {
				must(t, os.WriteFile(i.path("running"), nil, 0o600))
				must(t, os.WriteFile(i.path("starts"), nil, 0o600))
			}
			i.journal(t, guard.Journal{Instance: "cloud", Set: "set", WasRunning: c.wasRunning})
			out := i.recover(t)
			if out.Did != c.want || out.Set != "set" || out.Instance != "cloud" || out.Kind != guard.Backup {
				t.Errorf("got %+v", out)
			}
			if (out.Downtime >= 10) != (c.want == Started) {
				t.Errorf("downtime %v", out.Downtime)
			}
			if i.lines(t, "starts") != c.starts || i.running() != c.wasRunning {
				t.Errorf("%d starts, running: %v", i.lines(t, "starts"), i.running())
			}
			if again := i.recover(t); again.Did != Nothing {
				t.Errorf("again: %+v", again)
			}
		})
	}
}

func TestInstanceThatDoesNotStart(t *testing.T) {
	i := newInstance(t)
	i.server.Control.Start = []string{"/bin/sh", "-c", "echo no disk >&2; exit 1"}
	i.journal(t, guard.Journal{WasRunning: true})
	i.fails(t, Options{}, "no disk")
	i.fails(t, Options{}, "ocbackup --state-dir "+i.state+" recover")
}

func TestInstanceThatDoesNotBecomeReady(t *testing.T) {
	i := newInstance(t)
	i.server.Ready = readiness.Config{Address: "127.0.0.1:1", Plain: true, Timeout: 300 * time.Millisecond}
	i.journal(t, guard.Journal{WasRunning: true})
	i.fails(t, Options{}, "127.0.0.1:1")
}

// TestInstanceThatEndsAgain has a stop still under way when the instance is started.
func TestInstanceThatEndsAgain(t *testing.T) {
	i := newInstance(t)
	i.server.Ready = readiness.Config{Address: "127.0.0.1:1", Plain: true, Timeout: time.Minute}
	// It runs while its start is awaited, then no more.
	i.server.Control.Status = []string{"/bin/sh", "-c", "cd " + i.dir + "; test -e running || exit 3; rm running"}
	i.journal(t, guard.Journal{WasRunning: true})
	i.fails(t, Options{}, "ended again")
	if n := i.lines(t, "starts"); n != control.StartTries {
		t.Errorf("%d starts, want %d", n, control.StartTries)
	}
}

// restored lays out an instance with a restore under way, whose first n renames have been done.
func (i *instance) restored(t *testing.T, n int) []guard.Rename {
	t.Helper()
	live := i.server.Layout.DataDir
	must(t, os.WriteFile(filepath.Join(live, "old"), nil, 0o600))
	must(t, os.Mkdir(live+".new", 0o700))
	steps := []guard.Rename{{From: live, To: live + ".old"}, {From: live + ".new", To: live}}
	for _, s := range steps[:n] {
		must(t, os.Rename(s.From, s.To))
	}
	return steps
}

func TestRestoreThatDied(t *testing.T) {
	for n := range 3 {
		for _, running := range []bool{false, true} {
			t.Run(fmt.Sprintf("after %d renames, running %v", n, running), func(t *testing.T) {
				i := newInstance(t)
				if running {
					must(t, os.WriteFile(i.path("running"), nil, 0o600))
				}
				i.journal(t, guard.Journal{Kind: guard.Restore, WasRunning: true, Exchange: &guard.Exchange{Swap: i.restored(t, n)}})
				out := i.recover(t)
				if out.Undone != (n > 0) || out.Kind != guard.Restore {
					t.Errorf("got %+v", out)
				}
				if _, err := os.Stat(filepath.Join(i.server.Layout.DataDir, "old")); err != nil {
					t.Error("the old data is not back")
				}
				if !i.running() {
					t.Error("not running")
				}
				if running && n > 0 && i.lines(t, "stops") != 1 {
					t.Error("the data was moved under a running instance")
				}
			})
		}
	}
}

// TestRestoreIsTakenBackWhole: not only what was moved.
func TestRestoreIsTakenBackWhole(t *testing.T) {
	for n := range 3 {
		t.Run(fmt.Sprintf("after %d renames", n), func(t *testing.T) {
			i := newInstance(t)
			must(t, os.WriteFile(i.path("state/"+RecordName), []byte("of the one before"), 0o600))
			must(t, index.MarkRequired(i.state, index.Marker{Reason: index.Damaged, Detail: "before"}))
			x, err := Before(i.state)
			must(t, err)
			x.Swap = i.restored(t, n)
			conf := i.server.Layout.ConfigDir
			x.Stay = map[string]guard.Meta{}
			x.Stay[conf], err = guard.ReadMeta(conf)
			must(t, err)
			x.Aside, x.Keep = []string{i.path("aside")}, []guard.Rename{{From: i.path("data.new"), To: i.path("kept")}}
			// What the restore did before it died.
			must(t, os.Chmod(conf, 0o711))
			must(t, os.WriteFile(i.path("state/"+RecordName), []byte("of this one"), 0o600))
			must(t, index.MarkRequired(i.state, index.Marker{Reason: index.Absent, Detail: "now"}))
			for _, dir := range []string{"aside/a/b", "staged/copy"} {
				must(t, os.MkdirAll(i.path(dir), 0o700))
			}
			i.journal(t, guard.Journal{Kind: guard.Restore, WasRunning: true, Exchange: x, Staging: []string{i.path("staged")}})
			i.recover(t)
			if m, err := guard.ReadMeta(conf); err != nil || !reflect.DeepEqual(m, x.Stay[conf]) {
				t.Errorf("metadata: %+v, want %+v (%v)", m, x.Stay[conf], err)
			}
			if m, err := index.Required(i.state); err != nil || m == nil || m.Detail != "before" {
				t.Errorf("marker: %+v %v", m, err)
			}
			if b, err := os.ReadFile(i.path("state/" + RecordName)); string(b) != "of the one before" {
				t.Errorf("record: %q %v", b, err)
			}
			for name, want := range map[string]bool{"aside": false, "staged": false, "data.new": false, "kept": true} {
				if _, err := os.Stat(i.path(name)); (err == nil) != want {
					t.Errorf("%s is there: %v, want %v", name, err == nil, want)
				}
			}
			if !i.running() {
				t.Error("not running")
			}
		})
	}
}

// TestServerThatCannotBeStopped: nothing is moved under a server, whoever runs it.
func TestServerThatCannotBeStopped(t *testing.T) {
	i := newInstance(t)
	x := &guard.Exchange{Swap: i.restored(t, 2)}
	must(t, os.Mkdir(i.path("data/idm"), 0o700))
	db, err := os.Create(i.path("data/idm/idm.boltdb"))
	must(t, err)
	must(t, syscall.Flock(int(db.Fd()), syscall.LOCK_EX))
	i.journal(t, guard.Journal{Kind: guard.Restore, WasRunning: true, Exchange: x})
	i.fails(t, Options{}, "idm.boltdb is in use")
	if done, err := guard.SwapDone(x.Swap); err != nil || !done {
		t.Errorf("something was moved: %v", err)
	}
	must(t, db.Close())
	i.recover(t)
}

// TestInstanceThatWasAbsent: on a new host there may be no manager yet.
func TestInstanceThatWasAbsent(t *testing.T) {
	for _, absent := range []bool{true, false} {
		i := newInstance(t)
		i.server.Control.Status, i.server.Control.Stop = []string{"/nowhere/status"}, []string{"/nowhere/stop"}
		i.journal(t, guard.Journal{Kind: guard.Restore, Exchange: &guard.Exchange{Swap: i.restored(t, 2), Absent: absent}})
		if absent {
			i.recover(t)
		} else {
			i.fails(t, Options{}, "/nowhere/status")
		}
	}
}

// TestDamagedIndexIsNamed: a server does not start with one, and says so nowhere near.
func TestDamagedIndexIsNamed(t *testing.T) {
	i := newInstance(t)
	i.server.Layout.SearchDir = i.path("data/search")
	i.server.Control.Start = []string{"/bin/false"}
	must(t, os.MkdirAll(i.path("data/search/bleve/store"), 0o700))
	must(t, os.WriteFile(i.path("data/search/bleve/index_meta.json"), []byte("{"), 0o600))
	i.journal(t, guard.Journal{WasRunning: true})
	i.fails(t, Options{}, "the search index is damaged, and keeps OpenCloud from starting: mv "+i.path("data/search/bleve "))
	i.fails(t, Options{}, "then: ocbackup --state-dir "+i.state+" recover\nthen: ocbackup reindex")
}

func TestCommands(t *testing.T) {
	if got, want := RemoveCommand([]string{"/a", "/b c", "/it's"}), `rm -rf /a '/b c' '/it'\''s'`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got, want := Command("/b c"), "ocbackup --state-dir '/b c' recover"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestRestoreOfAStoppedInstance(t *testing.T) {
	i := newInstance(t)
	i.journal(t, guard.Journal{Kind: guard.Restore, Exchange: &guard.Exchange{Swap: i.restored(t, 1)}})
	if out := i.recover(t); out.Did != Cleared || !out.Undone || i.running() {
		t.Errorf("got %+v, running: %v", out, i.running())
	}
}

// TestRestoreThatSomeoneInterferedWith: nothing is moved, and nothing is started on half of the data.
func TestRestoreThatSomeoneInterferedWith(t *testing.T) {
	i := newInstance(t)
	steps := i.restored(t, 1)
	must(t, os.Mkdir(steps[0].From, 0o700)) // an engine makes missing directories of its mounts
	i.journal(t, guard.Journal{Kind: guard.Restore, WasRunning: true, Exchange: &guard.Exchange{Swap: steps}})
	i.fails(t, Options{}, steps[0].To+" (exists)")
	if i.running() {
		t.Error("it was started")
	}
}

func TestRestoreInPlaceIsNotStarted(t *testing.T) {
	i := newInstance(t)
	i.journal(t, guard.Journal{Kind: guard.Restore, WasRunning: true, Set: "20261123T021500Z-7f3a", Hold: "it was interrupted", Again: "ocbackup --config /x restore --in-place 20261123T021500Z-7f3a"})
	i.fails(t, Options{}, "ocbackup --config /x restore --in-place 20261123T021500Z-7f3a")
	if i.running() {
		t.Error("it was started")
	}
	_, err := Recover(context.Background(), i.state, progress.Discard)
	var held *HeldError
	if !errors.As(err, &held) || !errors.Is(err, guard.ErrHeld) || held.Set != "20261123T021500Z-7f3a" {
		t.Errorf("error is %v", err)
	}
}

// TestRestoreOverAHeldOne: a restore that was to mend a restore in place died as well.
func TestRestoreOverAHeldOne(t *testing.T) {
	i := newInstance(t)
	i.journal(t, guard.Journal{Kind: guard.Restore, WasRunning: true, Set: "s", Hold: "it was interrupted", Exchange: &guard.Exchange{Swap: i.restored(t, 1)}})
	i.fails(t, Options{}, "it was interrupted")
	if _, err := os.Stat(filepath.Join(i.server.Layout.DataDir, "old")); err != nil {
		t.Error("the data is not back where it was")
	}
	j, err := guard.Read(i.state)
	must(t, err)
	if i.running() || j.Hold == "" || j.Exchange != nil {
		t.Errorf("running: %v, journal: %+v", i.running(), j)
	}
	i.fails(t, Options{}, "it was interrupted")
}

func TestDamagedJournal(t *testing.T) {
	for _, c := range []struct {
		name, text string
		fallback   bool
		missing    bool // the data
		says       string
	}{
		{name: "with a configuration", text: "{", fallback: true},
		{name: "its server is damaged", text: `{"format": 1, "kind": "backup", "was_running": true, "server": 7}`, fallback: true},
		{name: "without a configuration", text: "{", says: "--config FILE recover"},
		{name: "of a restore", text: `{"format": 1, "kind": "restore", "swa`, fallback: true, says: "after a restore"},
		{name: "and no data", text: "{", fallback: true, missing: true, says: "no such file"},
	} {
		t.Run(c.name, func(t *testing.T) {
			i := newInstance(t)
			must(t, os.WriteFile(filepath.Join(i.state, guard.JournalName), []byte(c.text), 0o600))
			o := Options{StateDir: i.state}
			if c.fallback {
				o.Fallback = &i.server
			}
			if c.missing {
				must(t, os.Remove(i.server.Layout.DataDir))
			}
			if c.says != "" {
				i.fails(t, o, c.says)
				if i.running() {
					t.Error("it was started")
				}
				return
			}
			out, err := Run(context.Background(), o)
			must(t, err)
			if out.Did != Started || !i.running() || pending(i.state) {
				t.Errorf("got %+v, running: %v, journal: %v", out, i.running(), pending(i.state))
			}
			if b, err := os.ReadFile(out.Damaged); err != nil || string(b) != c.text {
				t.Errorf("the damaged journal was not kept: %q, %v", b, err)
			}
		})
	}
}

// TestManyAtOnce is the guard, ExecStopPost= and an admin at the same time.
func TestManyAtOnce(t *testing.T) {
	i := newInstance(t)
	i.journal(t, guard.Journal{WasRunning: true})
	var wg sync.WaitGroup
	var did [4]Did
	for n := range did {
		wg.Go(func() {
			out, err := Recover(context.Background(), i.state, progress.Discard)
			if err != nil {
				t.Error(err)
				return
			}
			did[n] = out.Did
		})
	}
	wg.Wait()
	if i.lines(t, "starts") != 1 || strings.Count(fmt.Sprint(did), string(Started)) != 1 {
		t.Errorf("%d starts; they did %v", i.lines(t, "starts"), did)
	}
}

func TestRunUnderWay(t *testing.T) {
	i := newInstance(t)
	i.journal(t, guard.Journal{WasRunning: true})
	lock, err := guard.Acquire(i.state, "backup")
	must(t, err)
	defer lock.Release()
	_, err = Recover(context.Background(), i.state, progress.Discard)
	if fail.CodeOf(err) != fail.Locked || !errors.Is(err, guard.ErrLocked) || i.running() {
		t.Errorf("error is %v; running: %v", err, i.running())
	}
}

// TestWaitEndsWithItsContext waits for another recovery, which does not end.
func TestWaitEndsWithItsContext(t *testing.T) {
	i := newInstance(t)
	i.journal(t, guard.Journal{WasRunning: true})
	lock, err := guard.Acquire(i.state, holds)
	must(t, err)
	defer lock.Release()
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if _, err := Recover(ctx, i.state, progress.Discard); !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, guard.ErrLocked) {
		t.Errorf("error is %v", err)
	}
}

func TestPending(t *testing.T) {
	base := t.TempDir()
	for _, name := range []string{"idle", "left"} {
		must(t, os.Mkdir(filepath.Join(base, name), 0o700))
	}
	must(t, guard.Write(filepath.Join(base, "left"), guard.Journal{Kind: guard.Backup}))
	dirs, err := Pending(base)
	if err != nil || len(dirs) != 1 || dirs[0] != filepath.Join(base, "left") {
		t.Errorf("got %v, %v", dirs, err)
	}
	if dirs, err := Pending(filepath.Join(base, "missing")); dirs != nil || err != nil {
		t.Errorf("got %v, %v", dirs, err)
	}
}

func TestStart(t *testing.T) {
	i := newInstance(t)
	var told []string
	took, err := Start(context.Background(), i.server, nil, func(s string) { told = append(told, s) })
	must(t, err)
	if !i.running() || took.Start <= 0 || len(told) == 0 {
		t.Errorf("running: %v, took %+v, told %q", i.running(), took, told)
	}
	i.server.Control.Type = "telepathy"
	if _, err := Start(context.Background(), i.server, nil, nil); fail.CodeOf(err) != fail.NotBack {
		t.Errorf("error is %v", err)
	}
}

// playMain is a backup that has stopped its instance: it prints "stopped" and waits to be killed.
func playMain(dir string) int {
	b, err := os.ReadFile(filepath.Join(dir, "server.json"))
	if err != nil {
		fmt.Println(err)
		return 1
	}
	var s Server
	err = json.Unmarshal(b, &s)
	state := filepath.Join(dir, "state")
	_, lockErr := guard.Acquire(state, "backup")
	err = errors.Join(err, lockErr, guard.Write(state, guard.Journal{Kind: guard.Backup, WasRunning: true, Server: b}))
	if err == nil {
		_, err = guard.Arm(state)
	}
	if err == nil {
		var c control.Controller
		if c, err = control.New(s.Control); err == nil {
			err = c.Stop(context.Background())
		}
	}
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println("stopped")
	_, _ = io.Copy(io.Discard, os.Stdin)
	return 0
}

func playGuard(state string) int {
	err := guard.Serve(context.Background(), state, os.Stdin, os.Stdout, func(ctx context.Context) error {
		_, err := Recover(ctx, state, progress.Discard)
		return err
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// TestKilledForReal kills a real process that has stopped its instance, and waits for its guard.
func TestKilledForReal(t *testing.T) {
	i := newInstance(t)
	// The start is told through a pipe, so that the test can wait for it.
	if out, err := exec.Command("mkfifo", i.path("started")).CombinedOutput(); err != nil {
		t.Fatalf("mkfifo: %v: %s", err, out)
	}
	i.server.Control.Start = []string{"/bin/sh", "-c", "cd " + i.dir + "; echo x >> starts; touch running; echo started > started"}
	b, err := json.Marshal(i.server)
	must(t, err)
	must(t, os.WriteFile(i.path("server.json"), b, 0o600))
	must(t, os.WriteFile(i.path("running"), nil, 0o600))

	cmd := exec.Command("/proc/self/exe", "main", i.dir)
	in, err := cmd.StdinPipe()
	must(t, err)
	defer in.Close()
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	said := make([]byte, len("stopped\n"))
	if _, err := io.ReadFull(out, said); err != nil || string(said) != "stopped\n" || i.running() {
		t.Fatalf("it says %q (%v); running: %v", said, err, i.running())
	}
	must(t, cmd.Process.Kill())
	started, err := os.ReadFile(i.path("started")) // waits for the guard
	must(t, err)
	if string(started) != "started\n" || !i.running() {
		t.Errorf("it says %q; running: %v", started, i.running())
	}
	_ = cmd.Wait()
	i.recover(t) // waits for the guard to have tidied up
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
