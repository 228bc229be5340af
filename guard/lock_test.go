package guard

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestLock(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "made", "as needed")
	first, err := Acquire(dir, "backup")
	must(t, err)
	_, err = Acquire(dir, "restore")
	var locked *LockedError
	if !errors.Is(err, ErrLocked) || !errors.As(err, &locked) {
		t.Fatalf("error is %v", err)
	}
	if locked.PID != os.Getpid() || locked.What != "backup" || locked.Since.IsZero() || !strings.Contains(err.Error(), "backup") {
		t.Errorf("error is %v", err)
	}
	first.Release()
	first.Release()
	second, err := Acquire(dir, "restore")
	must(t, err)
	second.Release()
	var none *Lock
	none.Release()
}

// TestLockOfWhoWroteNothing: between taking the lock and writing its name, a process has none.
func TestLockOfWhoWroteNothing(t *testing.T) {
	dir := t.TempDir()
	l, err := Acquire(dir, "backup")
	must(t, err)
	defer l.Release()
	must(t, os.Truncate(filepath.Join(dir, lockName), 0))
	if _, err := Acquire(dir, "restore"); !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), dir) {
		t.Errorf("error is %v", err)
	}
}

// TestReleaseDespiteAChild: until it execs, a child has the parent's files.
func TestReleaseDespiteAChild(t *testing.T) {
	dir := t.TempDir()
	l, err := Acquire(dir, "backup")
	must(t, err)
	child, err := unix.Dup(int(l.f.Fd()))
	must(t, err)
	defer unix.Close(child)
	l.Release()
	again, err := Acquire(dir, "restore")
	must(t, err)
	again.Release()
}

func TestLockDiesWithItsProcess(t *testing.T) {
	r := start(t, "")
	if _, err := Acquire(r.dir, "backup"); !errors.Is(err, ErrLocked) {
		t.Fatalf("error is %v", err)
	}
	must(t, r.Process.Kill())
	r.brought(t)
	_ = r.Wait()
	l, err := Acquire(r.dir, "backup")
	must(t, err)
	l.Release()
}
