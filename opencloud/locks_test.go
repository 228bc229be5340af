package opencloud

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestLocksFree(t *testing.T) {
	dir := t.TempDir()
	free, held := filepath.Join(dir, "idm.boltdb"), filepath.Join(dir, "root.bolt")
	for _, f := range []string{free, held} {
		if err := os.WriteFile(f, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	files := []string{filepath.Join(dir, "absent"), filepath.Join(dir, "absent", "too"), free, held}
	if err := LocksFree(files); err != nil {
		t.Fatal(err)
	}

	pid, release := hold(t, held)
	// Another process has it open, but not locked.
	other, err := os.Open(held)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Close() }()
	err = LocksFree(files)
	var e *HeldError
	if !errors.As(err, &e) {
		t.Fatalf("error %v, want a HeldError", err)
	}
	if e.File != held || len(e.PIDs) != 1 || e.PIDs[0] != pid || e.Commands[0] != "flock" {
		t.Errorf("%+v, want %s held by flock, %d", e, held, pid)
	}
	if !strings.Contains(e.Error(), held+" is in use (flock, process ") {
		t.Errorf("error %q", e)
	}

	release()
	if err := LocksFree(files); err != nil {
		t.Fatal(err)
	}
	// And nothing of ours is left on them.
	if err := syscall.Flock(int(other.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		t.Errorf("still locked after LocksFree: %v", err)
	}
}

func TestLocksFreeSaysWhatItCannotOpen(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root can open everything")
	}
	path := filepath.Join(t.TempDir(), "idm.boltdb")
	if err := os.WriteFile(path, nil, 0); err != nil {
		t.Fatal(err)
	}
	if err := LocksFree([]string{path}); !errors.Is(err, os.ErrPermission) {
		t.Fatalf("error %v", err)
	}
}

// hold has another process lock a file as a server does.
func hold(t *testing.T, path string) (pid int, release func()) {
	t.Helper()
	// --close: what it runs does not hold the file, too.
	cmd := exec.Command("flock", "--exclusive", "--close", path, "sh", "-c", "echo locked; exec cat")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Skip("the test needs flock of util-linux: ", err)
	}
	release = func() { _ = in.Close(); _ = cmd.Wait() }
	t.Cleanup(release)
	if _, err := out.Read(make([]byte, 7)); err != nil {
		t.Fatal(err)
	}
	return cmd.Process.Pid, release
}
