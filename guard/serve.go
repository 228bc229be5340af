package guard

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// grace is how long after the journal's deadline the main process is ended. The
	// main process keeps the deadline itself; this is for one that hangs.
	grace = 60 * time.Second
	// lookAgain is how often a journal without a deadline is looked at.
	lookAgain = time.Minute
	// dieTimeout is how long a main process may take to be gone after SIGKILL, or
	// after its end of the pipe was closed. One that hangs in the kernel may take
	// for ever, and will do nothing more.
	dieTimeout = 10 * time.Second
	// It is tried for patience to bring an instance back, first after retryFirst, then
	// after ever longer up to retryMost: its manager may be down, another run at work.
	patience   = 10 * time.Minute
	retryFirst = 5 * time.Second
	retryMost  = time.Minute
)

// Serve is the body of the guard process that Arm starts. It answers on ready once
// it watches, and returns nil once it is told through in that it is not needed.
// When in ends without that, the main process is dead, and bring is called to
// bring the instance back. When the journal's deadline is long past and journal
// and main process are still there, the main process is killed first.
//
// bring must do nothing when there is no journal. When it fails it is called again
// for some minutes, unless the error is one that time does not mend: ErrHeld, a
// *DamagedError.
func Serve(ctx context.Context, dir string, in io.Reader, ready io.Writer, bring func(ctx context.Context) error) error {
	// Caught rather than ignored: children would inherit that.
	caught := make(chan os.Signal, 1)
	signal.Notify(caught, syscall.SIGHUP, syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT, syscall.SIGPIPE)
	defer signal.Stop(caught)

	main, err := findParent()
	if err != nil {
		return fmt.Errorf("watch the main process: %w", err)
	}
	defer main.close()
	told := make(chan bool, 1)
	go func() {
		line, err := bufio.NewReader(in).ReadString('\n')
		told <- err == nil && line == disarmWord
	}()
	if _, err := io.WriteString(ready, readyWord); err != nil {
		return fmt.Errorf("answer the main process: %w", err)
	}

	for {
		timer := time.NewTimer(due(dir))
		select {
		case disarmed := <-told:
			timer.Stop()
			if disarmed {
				return nil
			}
			main.wait(dieTimeout)
			fmt.Fprintln(os.Stderr, "guard: the main process is gone; bringing the instance back")
			return insist(ctx, bring, sleep)
		case <-timer.C:
			if !overdue(dir, main.pid) {
				continue
			}
			fmt.Fprintln(os.Stderr, "guard: the deadline is long past; ending the main process and bringing the instance back")
			if err := main.kill(); err != nil {
				return fmt.Errorf("end process %d, which hangs: %w", main.pid, err)
			}
			main.wait(dieTimeout)
			return insist(ctx, bring, sleep)
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		}
	}
}

// insist calls bring until it succeeds, fails for good, or has been tried for long enough.
func insist(ctx context.Context, bring func(context.Context) error, sleep func(context.Context, time.Duration)) error {
	pause := retryFirst
	for waited := time.Duration(0); ; waited += pause {
		err := bring(ctx)
		var damaged *DamagedError
		if err == nil || errors.Is(err, ErrHeld) || errors.As(err, &damaged) || waited >= patience || ctx.Err() != nil {
			return err
		}
		if waited > 0 {
			pause = min(2*pause, retryMost)
		}
		fmt.Fprintf(os.Stderr, "guard: %v; trying again in %s\n", err, pause)
		sleep(ctx, pause)
	}
}

// sleep waits for a while, or until ctx ends.
func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// due returns how long it is until the journal must be looked at.
func due(dir string) time.Duration {
	j, err := Read(dir)
	if err != nil || j == nil || j.Deadline.IsZero() {
		return lookAgain
	}
	left := time.Until(j.Deadline.Add(grace))
	if left <= 0 && j.PID != os.Getppid() {
		return lookAgain // not the journal of the process that is watched
	}
	return max(left, 0)
}

// overdue tells whether process pid should long have brought its instance back.
func overdue(dir string, pid int) bool {
	j, err := Read(dir)
	return err == nil && j != nil && j.PID == pid && !j.Deadline.IsZero() && time.Until(j.Deadline.Add(grace)) <= 0
}

// process is another process. Its number is not used to reach it: by then that
// may belong to someone else.
type process struct {
	pid int
	fd  int // pidfd; -1 when it is dead already
}

// findParent returns the process that started this one.
func findParent() (*process, error) {
	pid := os.Getppid()
	fd, err := unix.PidfdOpen(pid, 0)
	if os.Getppid() != pid || errors.Is(err, unix.ESRCH) {
		// It died meanwhile; the descriptor may stand for anyone.
		if err == nil {
			_ = unix.Close(fd)
		}
		return &process{pid: pid, fd: -1}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("pidfd_open: %w", err)
	}
	return &process{pid: pid, fd: fd}, nil
}

// kill sends SIGKILL. That the process is dead already is no error.
func (p *process) kill() error {
	if p.fd < 0 {
		return nil
	}
	if err := unix.PidfdSendSignal(p.fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return err
	}
	return nil
}

// wait waits until the process has ended with all of its threads, so that its
// files, and with them its locks, are closed.
func (p *process) wait(timeout time.Duration) {
	if p.fd < 0 {
		return
	}
	end := time.Now().Add(timeout)
	for left := timeout; left > 0; left = time.Until(end) {
		_, err := unix.Poll([]unix.PollFd{{Fd: int32(p.fd), Events: unix.POLLIN}}, int(left.Milliseconds())+1)
		if !errors.Is(err, unix.EINTR) {
			return
		}
	}
}

func (p *process) close() {
	if p.fd >= 0 {
		_ = unix.Close(p.fd)
	}
}
