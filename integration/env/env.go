// Package env is what the scenarios run against: restic of two versions, the
// recorded trees, a private Docker engine, a machine under real systemd, and
// the stand-in server. "make test" installs what it needs under .tools/.
//
// Every package whose tests use it has
//
//	func TestMain(m *testing.M) { os.Exit(env.Main(m)) }
package env

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Main runs the tests and takes down what they shared.
func Main(m *testing.M) int {
	defer func() {
		cleanup.Lock()
		defer cleanup.Unlock()
		for _, f := range slices.Backward(cleanup.list) {
			f()
		}
	}()
	return m.Run()
}

var cleanup struct {
	sync.Mutex
	list []func()
}

// atExit has f run after the last test of the package.
func atExit(f func()) {
	cleanup.Lock()
	defer cleanup.Unlock()
	cleanup.list = append(cleanup.list, f)
}

// Root is the root of the checkout.
func Root() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), "../..")
}

// Tools is a path below .tools/.
func Tools(elem ...string) string {
	dir := os.Getenv("OCBACKUP_TOOLS")
	if dir == "" {
		dir = filepath.Join(Root(), ".tools")
	}
	return filepath.Join(append([]string{dir}, elem...)...)
}

// Need ends the test when part of the environment is missing: as skipped on a
// developer's machine, as failed in CI, where everything has to be there.
func Need(t testing.TB, err error) {
	t.Helper()
	switch {
	case err == nil:
	case os.Getenv("CI") != "":
		t.Fatal(err)
	default:
		t.Skip(err)
	}
}

// Restic is the path of restic "0.18" or "0.19".
func Restic(t testing.TB, version string) string {
	t.Helper()
	path := Tools("restic-"+version, "restic")
	if _, err := os.Stat(path); err != nil {
		Need(t, fmt.Errorf("restic %s is missing: run tools/restic.sh: %w", version, err))
	}
	return path
}

// Result is how a command ended.
type Result struct {
	Stdout, Stderr string
	Code           int // -1 when it was killed or could not be started
}

// Exec runs a command to its end; env is added to the test's own environment.
func Exec(ctx context.Context, env []string, name string, args ...string) Result {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), env...)
	return result(cmd)
}

func result(cmd *exec.Cmd) Result {
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	cmd.WaitDelay = 5 * time.Second
	err := cmd.Run()
	r := Result{Stdout: out.String(), Stderr: errOut.String()}
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		r.Code = exit.ExitCode()
	case err != nil:
		r.Code = -1
		r.Stderr += err.Error()
	}
	return r
}

// must is the output of a command that has to work.
func must(t testing.TB, r Result, args ...string) string {
	t.Helper()
	if r.Code != 0 {
		t.Fatalf("%s: exit code %d\n%s%s", strings.Join(args, " "), r.Code, r.Stdout, r.Stderr)
	}
	return r.Stdout
}

// Eventually waits until a condition holds that sends no event of its own.
func Eventually(t testing.TB, timeout time.Duration, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(timeout); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %s", what, timeout)
		}
	}
}

// workDir makes a temporary directory that a later run removes if this one is
// killed before it can: its lock tells whether its owner lives.
func workDir(prefix string) (string, error) {
	stale, _ := filepath.Glob(filepath.Join(os.TempDir(), prefix+"*"))
	for _, dir := range stale {
		if f, err := os.Open(filepath.Join(dir, "lock")); err == nil {
			if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
				_ = os.RemoveAll(dir)
			}
			_ = f.Close()
		}
	}
	dir, err := os.MkdirTemp("", prefix)
	if err != nil {
		return "", err
	}
	lock, err := os.Create(filepath.Join(dir, "lock"))
	if err != nil {
		return "", err
	}
	locks.Store(dir, lock) // open, and locked, until this process ends
	return dir, unix.Flock(int(lock.Fd()), unix.LOCK_EX)
}

var locks sync.Map

// daemon starts a long-lived child that dies with this process, however that
// ends: the kernel sends it onDeath. Its network and mounts are its own.
type daemon struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
}

func startDaemon(cmd *exec.Cmd, onDeath syscall.Signal, namespaces uintptr) (*daemon, error) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: onDeath, Unshareflags: namespaces, Setsid: true}
	d := &daemon{cmd: cmd, done: make(chan struct{})}
	started := make(chan error)
	go func() {
		// The signal comes when the thread that started the child ends.
		runtime.LockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait()
			close(d.done)
		}
	}()
	return d, <-started
}

// stop signals the daemon, and kills it when it takes longer than patience.
func (d *daemon) stop(sig syscall.Signal, patience time.Duration) {
	_ = d.cmd.Process.Signal(sig)
	select {
	case <-d.done:
	case <-time.After(patience):
		_ = d.cmd.Process.Kill()
		<-d.done
	}
}
