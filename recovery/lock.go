package recovery

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/guard"
)

const (
	// holds is what the lock says that a recovery holds it for.
	holds = "recover"
	// lockEvery is how often a lock is tried that another recovery holds.
	lockEvery = 200 * time.Millisecond
	// dying is how long a lock may outlast the process that holds it, or belong to
	// one that has not said who it is.
	dying = 10 * time.Second
)

// lock takes the instance's lock. It waits for other recoveries and for processes
// that are just dying, not for runs that are under way. A nil lock says that the
// one who holds it does not count.
func (o Options) lock(ctx context.Context) (*guard.Lock, error) {
	end := time.Now().Add(dying)
	for {
		lock, err := guard.Acquire(o.StateDir, holds)
		var locked *guard.LockedError
		switch {
		case err == nil:
			return lock, nil
		case !errors.As(err, &locked):
			return nil, err
		case locked.What == holds:
		case o.Dead != 0 && locked.PID == o.Dead:
			if time.Now().After(end) {
				return nil, nil
			}
		case locked.PID != 0 && alive(locked.PID), time.Now().After(end):
			return nil, fail.Wrap(fail.Locked, locked, "recover", "wait until it is done")
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for the lock: %w (%w)", context.Cause(ctx), locked)
		case <-time.After(lockEvery):
		}
	}
}

// alive tells whether a process exists and has not ended.
func alive(pid int) bool {
	return !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH)
}
