package opencloud

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// HeldError says that a process holds the lock of a database: a server runs on
// these files, whatever its manager says.
type HeldError struct {
	File string
	// PIDs are the processes that hold the lock, as far as they can be seen, and
	// Commands their names, in the same order.
	PIDs     []int
	Commands []string
}

// Error names the file and its holders.
func (e *HeldError) Error() string {
	if len(e.PIDs) == 0 {
		return e.File + " is locked by a process that can't be seen from here"
	}
	holders := make([]string, len(e.PIDs))
	for i, pid := range e.PIDs {
		holders[i] = fmt.Sprintf("%s, process %d", e.Commands[i], pid)
	}
	return fmt.Sprintf("%s is in use (%s)", e.File, strings.Join(holders, "; "))
}

// LocksFree makes sure that no server has any of the files open: a running one
// holds an exclusive flock on each (facts of bbolt). The first that is held gives
// a *HeldError. A file that does not exist is free. It does not wait.
//
// The lock that is tried is a shared one: it fails on a server's all the same,
// needs the file open for reading only, and does not get in the way of readers.
func LocksFree(files []string) error {
	for _, file := range files {
		if err := lockFree(file); err != nil {
			return err
		}
	}
	return nil
}

func lockFree(file string) error {
	f, err := os.OpenFile(file, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("is the lock free: %w", err)
	}
	defer func() { _ = f.Close() }() // releases the lock
	for {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB)
		if !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	switch {
	case errors.Is(err, syscall.EWOULDBLOCK):
		held := &HeldError{File: file}
		held.PIDs, held.Commands = lockHolders(f)
		return held
	case err != nil:
		return fmt.Errorf("is the lock free: %s: %w", file, err)
	}
	return nil
}

// lockHolders looks for the processes that hold a flock on f. It goes by the
// files that processes have open (proc_pid_fdinfo(5)), not by /proc/locks, whose
// device numbers are not those of stat(2) on btrfs.
func lockHolders(f *os.File) (pids []int, commands []string) {
	want, err := f.Stat()
	if err != nil {
		return nil, nil
	}
	fds, _ := filepath.Glob("/proc/[0-9]*/fd/*")
	for _, fd := range fds {
		// By name first: stat(2) on just any open file may hang (a dead NFS server).
		target, err := os.Readlink(fd)
		if err != nil || filepath.Base(strings.TrimSuffix(target, " (deleted)")) != filepath.Base(f.Name()) {
			continue
		}
		st, err := os.Stat(fd)
		if err != nil || !os.SameFile(st, want) {
			continue
		}
		dir := filepath.Dir(filepath.Dir(fd))
		info, _ := os.ReadFile(filepath.Join(dir, "fdinfo", filepath.Base(fd)))
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil || slices.Contains(pids, pid) || !strings.Contains(string(info), "FLOCK") {
			continue
		}
		comm, _ := os.ReadFile(filepath.Join(dir, "comm"))
		pids = append(pids, pid)
		commands = append(commands, strings.TrimSpace(string(comm)))
	}
	return pids, commands
}
