package guard

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ocbackup/ocbackup/fail"
)

// lockName is the file in the state directory that is locked. It is never
// removed: whoever waits for a removed file would wait for another lock than the
// next run takes.
const lockName = "lock"

// Lock is the right to work on an instance. The kernel releases it when the
// process dies, however it dies.
type Lock struct{ f *os.File }

// holder is what the lock file says of the process that holds it.
type holder struct {
	PID   int       `json:"pid"`
	What  string    `json:"what"`
	Since time.Time `json:"since"`
}

// LockedError says who holds the lock. It matches ErrLocked.
type LockedError struct {
	Dir   string    // the state directory
	PID   int       // 0 when it is not known
	What  string    // what that process does: backup, restore, recover, ...
	Since time.Time // zero when it is not known
}

// Error names the process, what it does, and since when.
func (e *LockedError) Error() string {
	if e.PID == 0 {
		return fmt.Sprintf("%v (lock %s)", ErrLocked, filepath.Join(e.Dir, lockName))
	}
	return fmt.Sprintf("%v: %s, process %d, since %s", ErrLocked, e.What, e.PID, e.Since.Local().Format(time.DateTime))
}

// Unwrap returns ErrLocked.
func (e *LockedError) Unwrap() error { return ErrLocked }

// Acquire takes the lock of the instance whose state directory is dir, which is
// made if it is not there. what tells others what for: backup, restore, recover.
// It does not wait: a *LockedError, of code fail.Locked, says who else has it.
func Acquire(dir, what string) (*Lock, error) {
	l, err := acquire(dir, what)
	var locked *LockedError
	if errors.As(err, &locked) {
		return nil, fail.Wrap(fail.Locked, err, "another run holds the lock", "wait until it is done")
	}
	return l, fail.Wrap(fail.Failed, err, "take the lock", "check the state directory ("+dir+")")
}

func acquire(dir, what string) (*Lock, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make state directory: %w", err)
	}
	path := filepath.Join(dir, lockName)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock: %w", err)
	}
	if err := flock(f); err != nil {
		defer func() { _ = f.Close() }()
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		locked := &LockedError{Dir: dir}
		var h holder
		if json.NewDecoder(f).Decode(&h) == nil {
			locked.PID, locked.What, locked.Since = h.PID, h.What, h.Since
		}
		return nil, locked
	}
	l := &Lock{f}
	if err := l.write(what); err != nil {
		l.Release()
		return nil, fmt.Errorf("write lock %s: %w", path, err)
	}
	return l, nil
}

// Release gives the lock back. A nil Lock is let be, so is one already released.
func (l *Lock) Release() {
	if l == nil {
		return
	}
	// Whoever reads the file now must not be told of us. A failure only makes the
	// message to others worse.
	_ = l.f.Truncate(0)
	// A child that is just being started still shares the file, and with it the lock.
	_ = unix.Flock(int(l.f.Fd()), unix.LOCK_UN)
	_ = l.f.Close()
}

func (l *Lock) write(what string) error {
	b, err := json.Marshal(holder{PID: os.Getpid(), What: what, Since: time.Now().UTC().Truncate(time.Second)})
	if err != nil {
		return err
	}
	if err := l.f.Truncate(0); err != nil {
		return err
	}
	_, err = l.f.WriteAt(append(b, '\n'), 0)
	return err
}

func flock(f *os.File) error {
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
