package guard

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// LogName is the file in the state directory that a guard process writes its
// messages to. Each run begins it anew.
const LogName = "guard.log"

const (
	readyWord  = "ready\n"
	disarmWord = "disarm\n"
	// armTimeout is how long a guard may take to be ready, or to end when disarmed.
	armTimeout = 20 * time.Second
)

// Guard is a guard process that watches over this one.
type Guard struct {
	cmd  *exec.Cmd
	line *os.File // the write end; the guard acts when it closes
	log  string
	done chan struct{} // closed when the guard has ended; err is set then
	err  error
}

// Arm starts a guard process, this program as "guard --state-dir DIR", and
// returns once it watches. The journal must have been written. From then on the
// guard brings the instance back when this process dies, however it dies, and
// ends this process when the journal's deadline is long past.
//
// The guard has a session of its own, and no signal but SIGKILL ends it. It knows
// that this process is gone by the end of a pipe of which only this process has
// the other end: like all descriptors of Go's, it is not passed on to children.
func Arm(dir string) (*Guard, error) {
	g, err := arm(dir)
	if err != nil {
		return nil, fmt.Errorf("start the guard process: %w", err)
	}
	return g, nil
}

func arm(dir string) (*Guard, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	g := &Guard{log: filepath.Join(dir, LogName), done: make(chan struct{})}
	log, err := os.OpenFile(g.log, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }()
	in, line, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer func() { _ = in.Close() }()
	ready, out, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(err, line.Close())
	}
	defer func() { _ = ready.Close() }()
	g.line = line

	// The kernel's name of this program is good even when its file has been
	// replaced by an update.
	g.cmd = exec.Command("/proc/self/exe", "guard", "--state-dir", dir)
	g.cmd.Args[0] = os.Args[0]
	g.cmd.Dir = "/"
	g.cmd.Stdin, g.cmd.Stdout, g.cmd.Stderr = in, out, log
	g.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = g.cmd.Start()
	_ = out.Close()
	if err != nil {
		return nil, errors.Join(err, line.Close())
	}
	go func() {
		g.err = g.cmd.Wait()
		close(g.done)
	}()

	if err := ready.SetReadDeadline(time.Now().Add(armTimeout)); err != nil {
		return nil, errors.Join(err, g.kill())
	}
	answer := make([]byte, len(readyWord))
	if _, err := io.ReadFull(ready, answer); err != nil || string(answer) != readyWord {
		killed := g.kill()
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil, fmt.Errorf("it ended at once (%w)%s", killed, g.lastWords())
		}
		return nil, fmt.Errorf("no answer within %s%s", armTimeout, g.lastWords())
	}
	return g, nil
}

// Disarm tells the guard that the instance is back, and waits until it has ended.
// An error says that there was no guard any more: the run went on without one. A
// nil Guard is no error, nor is one disarmed before.
func (g *Guard) Disarm() error {
	if g == nil || g.line == nil {
		return nil
	}
	_, err := io.WriteString(g.line, disarmWord)
	err = errors.Join(err, g.line.Close())
	g.line = nil
	t := time.NewTimer(armTimeout)
	defer t.Stop()
	select {
	case <-g.done:
	case <-t.C:
		// It was told, so it does nothing any more; it just does not end.
		return errors.Join(errors.New("the guard process did not end when told"), g.kill())
	}
	if err = errors.Join(err, g.err); err != nil {
		return fmt.Errorf("the guard process died before its time: %w%s", err, g.lastWords())
	}
	return nil
}

// kill ends a guard that must not act.
func (g *Guard) kill() error {
	_ = g.cmd.Process.Kill() // before the line closes: it must not take that for our death
	<-g.done
	if g.line != nil {
		_ = g.line.Close()
		g.line = nil
	}
	return g.err
}

// lastWords returns the last line of the guard's log, for an error message.
func (g *Guard) lastWords() string {
	b, err := os.ReadFile(g.log)
	if err != nil {
		return ""
	}
	var last string
	for s := bufio.NewScanner(bytes.NewReader(b)); s.Scan(); {
		if s.Text() != "" {
			last = s.Text()
		}
	}
	if last == "" {
		return ""
	}
	return ": " + last
}
