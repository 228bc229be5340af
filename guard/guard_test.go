package guard

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestMain makes the test program play the other processes too: "guard" is what
// Arm starts, "main" a run that is armed.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 {
		switch os.Args[1] {
		case "guard":
			os.Exit(playGuard(os.Args[3]))
		case "main":
			os.Exit(playMain(os.Args[2], os.Args[3]))
		}
	}
	os.Exit(m.Run())
}

// playGuard is a guard that tells through the pipe DIR/brought what it found when
// it was to bring the instance back.
func playGuard(dir string) int {
	if os.Getenv("GUARD_FAILS") != "" {
		fmt.Fprintln(os.Stderr, "no such luck")
		return 3
	}
	err := Serve(context.Background(), dir, os.Stdin, os.Stdout, func(context.Context) error {
		word := "brought back, lock free"
		if l, err := Acquire(dir, "recover"); err != nil {
			word = err.Error()
		} else {
			l.Release()
		}
		return os.WriteFile(filepath.Join(dir, "brought"), []byte(word+"\n"), 0o600)
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// playMain is a run that has stopped something. It prints "armed", then waits to be killed or told to end.
func playMain(dir, mode string) int {
	_, err := Acquire(dir, "backup")
	j := Journal{Kind: Backup, WasRunning: true}
	if mode == "overdue" {
		j.Deadline = time.Now().Add(-2 * grace)
	}
	if mode == "not yet overdue" {
		j.Deadline = time.Now().Add(-grace / 2)
	}
	err = errors.Join(err, Write(dir, j))
	child := exec.Command("sleep", "60") // a child that outlives its parent holds nothing that the guard waits for
	// Started first: while it is being started it has the lock as well, and the guard of an
	// overdue run acts at once.
	if err == nil {
		err = child.Start()
	}
	var g *Guard
	if err == nil {
		g, err = Arm(dir)
	}
	if err != nil {
		fmt.Println("failed:", err)
		return 1
	}
	fmt.Println("armed", g.cmd.Process.Pid, child.Process.Pid)
	_, _ = bufio.NewReader(os.Stdin).ReadString('\n')
	_ = Clear(dir)
	_ = child.Process.Kill()
	fmt.Println("disarmed", g.Disarm())
	return 0
}

// run is a process that plays main.
type run struct {
	*exec.Cmd
	dir   string
	in    io.WriteCloser
	out   *bufio.Reader
	guard int
}

func start(t *testing.T, mode string) *run {
	t.Helper()
	r := &run{dir: t.TempDir()}
	must(t, unix.Mkfifo(filepath.Join(r.dir, "brought"), 0o600))
	r.Cmd = exec.Command("/proc/self/exe", "main", r.dir, mode)
	var err error
	r.in, err = r.StdinPipe()
	must(t, err)
	out, err := r.StdoutPipe()
	must(t, err)
	r.out = bufio.NewReader(out)
	must(t, r.Start())
	var child int
	// One that is overdue may be dead before it can say so.
	if _, err := fmt.Fscanf(r.out, "armed %d %d\n", &r.guard, &child); err != nil && mode != "overdue" {
		t.Fatalf("main did not arm a guard: %v", err)
	}
	t.Cleanup(func() {
		_ = r.Process.Kill()
		if child > 0 {
			_ = syscall.Kill(child, syscall.SIGKILL)
		}
		_ = r.Wait()
	})
	return r
}

// brought waits until the guard has acted and returns what it says.
func (r *run) brought(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(r.dir, "brought"))
	must(t, err)
	return strings.TrimSpace(string(b))
}

// TestGuardActsWhenMainDies kills main by each signal that it does not survive.
func TestGuardActsWhenMainDies(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGKILL, syscall.SIGTERM, syscall.SIGSEGV} {
		t.Run(sig.String(), func(t *testing.T) {
			r := start(t, "")
			must(t, r.Process.Signal(sig))
			if got := r.brought(t); got != "brought back, lock free" {
				t.Error(got)
			}
		})
	}
}

// TestGuardOutlivesSignals sends the guard what a terminal that closes, a Ctrl-C
// and a service manager send.
func TestGuardOutlivesSignals(t *testing.T) {
	r := start(t, "")
	for _, sig := range []syscall.Signal{syscall.SIGHUP, syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT, syscall.SIGPIPE} {
		must(t, syscall.Kill(r.guard, sig))
	}
	if sid, err := unix.Getsid(r.guard); err != nil || sid != r.guard {
		t.Errorf("the guard is in session %d (%v), want one of its own", sid, err)
	}
	must(t, r.Process.Kill())
	if got := r.brought(t); got != "brought back, lock free" {
		t.Error(got)
	}
}

func TestGuardEndsMainThatHangs(t *testing.T) {
	r := start(t, "overdue")
	if got := r.brought(t); got != "brought back, lock free" {
		t.Error(got)
	}
	_ = r.Wait()
	if ws := r.ProcessState.Sys().(syscall.WaitStatus); ws.Signal() != syscall.SIGKILL {
		t.Errorf("main ended with %v, want it killed", r.ProcessState)
	}
}

func TestDisarm(t *testing.T) {
	for _, mode := range []string{"", "not yet overdue"} {
		r := start(t, mode)
		must(t, r.in.Close())
		line, err := r.out.ReadString('\n')
		must(t, err)
		if line != "disarmed <nil>\n" {
			t.Error(line)
		}
		if err := syscall.Kill(r.guard, 0); !errors.Is(err, syscall.ESRCH) {
			t.Errorf("the guard is still there: %v", err)
		}
	}
}

// TestDisarmTellsOfAGuardThatDied: a run that was not watched over must say so.
func TestDisarmTellsOfAGuardThatDied(t *testing.T) {
	r := start(t, "")
	must(t, syscall.Kill(r.guard, syscall.SIGKILL))
	must(t, r.in.Close())
	line, err := r.out.ReadString('\n')
	must(t, err)
	if !strings.Contains(line, "died before its time") {
		t.Error(line)
	}
}

func TestArmTellsWhyThereIsNoGuard(t *testing.T) {
	t.Setenv("GUARD_FAILS", "1")
	_, err := Arm(t.TempDir())
	if err == nil || !strings.Contains(err.Error(), "no such luck") || !strings.Contains(err.Error(), "exit status 3") {
		t.Errorf("error is %v", err)
	}
}

// TestGuardInsists: the manager of the instance may be down, another run at work.
func TestGuardInsists(t *testing.T) {
	broken := errors.New("the engine is down")
	for _, c := range []struct {
		name   string
		bring  func(try int) error
		tries  int
		waited time.Duration
		err    error
	}{
		{"at once", func(int) error { return nil }, 1, 0, nil},
		{"the third time", func(try int) error {
			if try == 3 {
				return nil
			}
			return broken
		}, 3, 15 * time.Second, nil},
		{"never", func(int) error { return broken }, 14, 615 * time.Second, broken},
		{"held", func(int) error { return fmt.Errorf("no: %w", ErrHeld) }, 1, 0, ErrHeld},
		{"damaged", func(int) error { return fmt.Errorf("no: %w", &DamagedError{Err: broken}) }, 1, 0, broken},
	} {
		t.Run(c.name, func(t *testing.T) {
			var tries int
			var waited time.Duration
			err := insist(t.Context(), func(context.Context) error { tries++; return c.bring(tries) },
				func(_ context.Context, d time.Duration) { waited += d })
			if !errors.Is(err, c.err) || tries != c.tries || waited != c.waited {
				t.Errorf("%d tries, waited %s: %v", tries, waited, err)
			}
		})
	}
}

func TestNoGuardIsNoError(t *testing.T) {
	var g *Guard
	must(t, g.Disarm())
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
