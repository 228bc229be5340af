// Package proc runs child processes, all of them in one way: in a process
// group of their own, ended with SIGTERM and then SIGKILL when the context is
// done, ended by the kernel when ocbackup itself dies, and with secrets cut out
// of whatever they print.
package proc

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// killAfter is how long a child may take to end after SIGTERM, if it has no time of its own.
const killAfter = 15 * time.Second

// keepStderr is how many bytes of a child's standard error are kept for the
// error message: the last ones, where tools say why they failed.
const keepStderr = 16 << 10

// Cmd is a child to run.
type Cmd struct {
	Name string   // program: a name to look up in PATH, or a path
	Args []string // arguments without the program's name; never secrets
	Dir  string   // working directory; empty: ocbackup's own
	Env  []string // added to (and overriding) ocbackup's own environment
	// CleanEnv starts the child with Env alone.
	CleanEnv bool
	Stdin    io.Reader
	// Stdout receives standard output; nil: it is captured into Result.Stdout.
	Stdout io.Writer
	// OnStderr is called for each line of standard error, redacted, as it comes.
	OnStderr func(line string)
	// Secrets are cut out of everything that is captured or reported.
	Secrets []string
	// Credential runs the child as another user (root only).
	Credential *syscall.Credential
	// KillAfter is how long the child may take to end after SIGTERM; 0: 15 s.
	KillAfter time.Duration
	// Detached children outlive ocbackup: they get a session of their own and no
	// parent-death signal.
	Detached bool
}

// Result is what a child that ended left behind.
type Result struct {
	Stdout []byte // captured only when Cmd.Stdout was nil
	Stderr string // the last 16 KiB, redacted
	Code   int    // exit code; 128+signal when it died by a signal
}

// ExitError says that a child ran and ended with another code than 0.
type ExitError struct {
	Name   string // base name of the program and its first argument
	Code   int    // exit code; 128+signal when it died by a signal
	Signal syscall.Signal
	Stderr string // the last lines, redacted
}

// Error gives the child's own words.
func (e *ExitError) Error() string {
	how := fmt.Sprintf("exit code %d", e.Code)
	if e.Signal != 0 {
		how = "killed by signal " + e.Signal.String()
	}
	if s := strings.TrimSpace(e.Stderr); s != "" {
		return fmt.Sprintf("%s: %s: %s", e.Name, how, lastLines(s, 4))
	}
	return e.Name + ": " + how
}

// NotFoundError says that a program is not there.
type NotFoundError struct{ Name string }

// Error names the program.
func (e *NotFoundError) Error() string { return e.Name + ": no such program" }

// Run runs c and waits for it. The error is nil when it exited with 0, an
// *ExitError when it exited otherwise, a *NotFoundError when there is no such
// program, and wraps the context's error when the context ended it.
func Run(ctx context.Context, c Cmd) (*Result, error) {
	cmd := exec.Command(c.Name, c.Args...) // not CommandContext: ending it takes two signals
	cmd.Dir = c.Dir
	if c.CleanEnv {
		cmd.Env = append([]string{}, c.Env...)
	} else {
		cmd.Env = append(os.Environ(), c.Env...)
	}
	cmd.Stdin = c.Stdin
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: c.Credential}
	if c.Detached {
		cmd.SysProcAttr.Setsid = true
	} else {
		// A group of its own: Ctrl-C on the terminal reaches ocbackup, which ends the child in order.
		cmd.SysProcAttr.Setpgid = true
		cmd.SysProcAttr.Pdeathsig = syscall.SIGTERM
	}
	redact := Redactor(c.Secrets)
	var out bytes.Buffer
	cmd.Stdout = c.Stdout
	if c.Stdout == nil {
		cmd.Stdout = &out
	}
	stderr := &lineTail{redact: redact, onLine: c.OnStderr}
	cmd.Stderr = stderr
	// Grandchildren that keep the pipes open must not hold us up for ever.
	cmd.WaitDelay = 5 * time.Second

	if err := ctx.Err(); err != nil {
		return nil, err
	}
	started := make(chan error)
	waited := make(chan error, 1)
	go startAndWait(cmd, !c.Detached, started, waited)
	if err := <-started; err != nil {
		if errors.Is(err, exec.ErrNotFound) || errors.Is(err, os.ErrNotExist) && (c.Dir == "" || dirExists(c.Dir)) {
			return nil, &NotFoundError{Name: c.Name}
		}
		return nil, fmt.Errorf("start %s: %w", c.Name, err)
	}
	var waitErr error
	select {
	case waitErr = <-waited:
	case <-ctx.Done():
		waitErr = end(cmd, waited, cmp.Or(c.KillAfter, killAfter))
	}
	stderr.flush()
	res := &Result{Stdout: []byte(redact(out.String())), Stderr: stderr.String()}
	if waitErr == nil || errors.Is(waitErr, exec.ErrWaitDelay) {
		return res, ctxErr(ctx, c.Name, nil)
	}
	var ee *exec.ExitError
	if !errors.As(waitErr, &ee) {
		return res, fmt.Errorf("run %s: %w", c.Name, waitErr)
	}
	x := &ExitError{Name: title(c), Code: ee.ExitCode(), Stderr: res.Stderr}
	if ws, ok := ee.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		x.Signal = ws.Signal()
		x.Code = 128 + int(ws.Signal())
	}
	res.Code = x.Code
	return res, ctxErr(ctx, c.Name, x)
}

// Output runs a program and returns its standard output without the final newline.
func Output(ctx context.Context, name string, args ...string) (string, error) {
	res, err := Run(ctx, Cmd{Name: name, Args: args})
	if err != nil {
		return "", err
	}
	return strings.TrimRight(string(res.Stdout), "\n"), nil
}

// end ends a child whose context is done and waits for it.
func end(cmd *exec.Cmd, waited <-chan error, patience time.Duration) error {
	_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM)
	t := time.NewTimer(patience)
	defer t.Stop()
	select {
	case err := <-waited:
		return err
	case <-t.C:
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		return <-waited
	}
}

func ctxErr(ctx context.Context, name string, err error) error {
	if cause := context.Cause(ctx); cause != nil && err != nil {
		return fmt.Errorf("%s was ended: %w (%w)", name, cause, err)
	}
	if err == nil {
		return nil
	}
	return err
}

func title(c Cmd) string {
	n := c.Name[strings.LastIndexByte(c.Name, '/')+1:]
	for _, a := range c.Args {
		if !strings.HasPrefix(a, "-") {
			return n + " " + a
		}
	}
	return n
}

func dirExists(p string) bool {
	st, err := os.Stat(p)
	return err == nil && st.IsDir()
}

// Redactor returns a function that replaces every secret in a text by "***".
// Secrets shorter than four characters are left alone: cutting them out would
// garble the text and hide nothing.
func Redactor(secrets []string) func(string) string {
	var pairs []string
	for _, s := range secrets {
		if len(s) >= 4 {
			pairs = append(pairs, s, "***")
		}
	}
	if len(pairs) == 0 {
		return func(s string) string { return s }
	}
	return strings.NewReplacer(pairs...).Replace
}

// lineTail splits what a child writes into lines, hands them on and keeps the last bytes.
type lineTail struct {
	redact func(string) string
	onLine func(string)
	part   []byte
	kept   []byte
}

func (l *lineTail) Write(p []byte) (int, error) {
	l.part = append(l.part, p...)
	for {
		i := bytes.IndexByte(l.part, '\n')
		if i < 0 {
			break
		}
		l.line(string(l.part[:i]))
		l.part = l.part[i+1:]
	}
	if len(l.part) > bufio.MaxScanTokenSize {
		l.flush()
	}
	return len(p), nil
}

func (l *lineTail) flush() {
	if len(l.part) > 0 {
		l.line(string(l.part))
		l.part = nil
	}
}

func (l *lineTail) line(s string) {
	s = l.redact(strings.TrimRight(s, "\r"))
	if l.onLine != nil {
		l.onLine(s)
	}
	l.kept = append(append(l.kept, s...), '\n')
	if n := len(l.kept) - keepStderr; n > 0 {
		l.kept = append([]byte(nil), l.kept[n:]...)
	}
}

func (l *lineTail) String() string { return string(l.kept) }

func lastLines(s string, n int) string {
	lines := strings.Split(s, "\n")
	if len(lines) > n {
		lines = lines[len(lines)-n:]
	}
	return strings.Join(lines, "\n")
}
