package repo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

func TestLocks(t *testing.T) {
	eachRestic(t, func(t *testing.T, binary string) {
		r, dir := newRepo(t, binary)
		spec := blocking(t, dir)
		holder := exec.Command(binary, append([]string{"backup", "--stdin-from-command", "--"}, spec.Command...)...)
		holder.Env = append(r.env().list(), "TMPDIR="+dir)
		holder.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
		if err := holder.Start(); err != nil {
			t.Fatal(err)
		}
		end := func() {
			_ = syscall.Kill(-holder.Process.Pid, syscall.SIGKILL)
			_ = holder.Wait()
		}
		defer end()
		awaitOpen(t, filepath.Join(dir, "ready"))

		// A living process holds it: told who, and left alone.
		_, err := r.Check(ctx(t), CheckSpec{})
		if !errors.Is(err, ErrLocked) {
			t.Fatalf("check of a locked repository: %v", err)
		}
		contains(t, err, fmt.Sprintf("by PID %d on ", holder.Process.Pid), "lock was created at")
		if _, err := r.Check(ctx(t), CheckSpec{OnProgress: func(Progress) {}}); !errors.Is(err, ErrLocked) {
			t.Errorf("check with progress of a locked repository: %v", err)
		}
		if n := locks(t, dir); n != 1 {
			t.Errorf("%d locks, want the holder's", n)
		}
		// Reading goes on beside it.
		if _, err := r.Snapshots(ctx(t)); err != nil {
			t.Errorf("snapshots beside a backup: %v", err)
		}
		// Waiting for it can be cut short.
		patient := New(Options{
			Binary: binary, Location: r.opt.Location, PasswordFile: r.opt.PasswordFile,
			CacheDir: r.opt.CacheDir, RetryLock: time.Hour,
		})
		c, cancel := context.WithTimeout(ctx(t), 3*time.Second)
		defer cancel()
		if _, err := patient.Check(c, CheckSpec{}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("check that waits for the lock: %v", err)
		}

		// Dead, it holds nothing.
		end()
		if n := locks(t, dir); n != 1 {
			t.Fatalf("%d locks after the kill, want the stale one", n)
		}
		if res, err := r.Check(ctx(t), CheckSpec{}); err != nil || len(res.Errors) != 0 {
			t.Errorf("check after its holder died: %+v, %v", res, err)
		}
		if n := locks(t, dir); n != 0 {
			t.Errorf("%d locks are left", n)
		}
	})
}

func mkfifo(t *testing.T, path string) {
	t.Helper()
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
}

// awaitOpen waits until somebody writes into a fifo.
func awaitOpen(t *testing.T, fifo string) {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		_, err := os.ReadFile(fifo)
		done <- err
	}()
	select {
	case err := <-done:
		if err != nil {
			t.Fatal(err)
		}
	case <-ctx(t).Done():
		t.Fatal("the command never ran")
	}
}
