package repo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/ocbackup/ocbackup/proc"
)

// call is one run of restic.
type call struct {
	command  string   // backup, restore, ...
	args     []string // flags and arguments of the command
	dir      string   // working directory; empty: ocbackup's own
	env      envMap   // added to the environment
	secrets  []string // besides the repository's own
	progress bool     // somebody looks at the progress
	// out gets standard output as it is; onLine gets it line by line; without either
	// it is left in outcome.stdout. An error of theirs ends restic and is returned.
	out    io.Writer
	onLine func(line []byte) error
}

// giveUpAfter is how many times restic may say that it cannot open the repository
// before it is ended. It would go on for 15 minutes; the fifth time comes after
// some 20 seconds.
const giveUpAfter = 5

// errGivenUp is why restic is ended when it can't open the repository.
var errGivenUp = errors.New("gave up")

// run runs restic. When the repository is locked, locks of dead processes are
// removed once, and then the lock of a living one is waited for.
func (r *Repo) run(ctx context.Context, c call) (*outcome, error) {
	o, err := r.runOnce(ctx, c)
	if o.brokenCache() {
		o, err = r.runOnce(ctx, c)
	}
	if o.brokenCache() {
		c.args = append([]string{"--no-cache"}, c.args...)
		o, err = r.runOnce(ctx, c)
	}
	if !errors.Is(err, ErrLocked) {
		return o, err
	}
	if err := r.Unlock(ctx); err != nil && ctx.Err() != nil {
		return o, err
	}
	if r.opt.RetryLock > 0 {
		c.args = append([]string{"--retry-lock=" + r.opt.RetryLock.String()}, c.args...)
	}
	return r.runOnce(ctx, c)
}

// runOnce runs restic and turns the way it ended into an error.
func (r *Repo) runOnce(ctx context.Context, c call) (*outcome, error) {
	env := r.env()
	if !env.has(passwordVars...) && c.command != "version" {
		return &outcome{}, ErrNoPassword
	}
	env["RESTIC_PROGRESS_FPS"] = "0.2"
	if c.progress {
		env["RESTIC_PROGRESS_FPS"] = "1"
	}
	if c.dir != "" {
		env["PWD"] = c.dir // so that restic sees the names that the caller uses, not those behind links
	}
	for name, value := range c.env {
		env[name] = value
	}
	runCtx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	redact := proc.Redactor(append(c.secrets, r.secrets()...))
	o := &outcome{}
	tries := 0
	// No Secrets for proc: it cuts them out before the lines are parsed, and a
	// secret can be part of the JSON itself. Nothing of what proc captured leaves here.
	out, err := openStream(c.stdout(stop))
	if err != nil {
		return o, fmt.Errorf("restic %s: %w", c.command, err)
	}
	res, err := proc.Run(runCtx, proc.Cmd{
		Name:     r.opt.Binary,
		Args:     r.args(c),
		Dir:      c.dir,
		Env:      env.list(),
		CleanEnv: true,
		Stdout:   out.writer(),
		OnStderr: func(line string) {
			o.take(line, redact)
			if strings.HasPrefix(line, "Stat(<config/>) returned error, retrying") {
				if tries++; tries == giveUpAfter {
					stop(errGivenUp)
				}
			}
		},
	})
	if e := out.finish(); err == nil {
		err = e
	}
	if res != nil {
		o.stdout = res.Stdout
	}
	return o, r.judge(ctx, runCtx, c, o, err)
}

// judge turns what proc says about a run into an error.
func (r *Repo) judge(ctx, runCtx context.Context, c call, o *outcome, err error) error {
	name := "restic " + c.command
	var broken *sinkError
	if errors.As(context.Cause(runCtx), &broken) {
		return broken.err
	}
	if err == nil {
		return nil
	}
	if cause := context.Cause(ctx); cause != nil {
		if !errors.Is(cause, ctx.Err()) {
			cause = fmt.Errorf("%w: %w", ctx.Err(), cause)
		}
		return fmt.Errorf("%s was ended: %w", name, cause)
	}
	if errors.Is(context.Cause(runCtx), errGivenUp) {
		return unreachable(r.Location(), o.lastTry())
	}
	var missing *proc.NotFoundError
	if errors.As(err, &missing) {
		return &NotInstalledError{Binary: r.opt.Binary}
	}
	var x *proc.ExitError
	if errors.As(err, &x) {
		return r.explain(&proc.ExitError{Name: name, Code: x.Code, Signal: x.Signal}, o.words())
	}
	return fmt.Errorf("%s: %w", name, err)
}

// args are restic's arguments for a call.
func (r *Repo) args(c call) []string {
	args := []string{c.command}
	if r.opt.LimitUploadKiB > 0 {
		args = append(args, fmt.Sprintf("--limit-upload=%d", r.opt.LimitUploadKiB))
	}
	if r.opt.LimitDownloadKiB > 0 {
		args = append(args, fmt.Sprintf("--limit-download=%d", r.opt.LimitDownloadKiB))
	}
	return append(args, c.args...)
}

// sinkError says that what takes restic's output failed.
type sinkError struct{ err error }

func (e *sinkError) Error() string { return e.err.Error() }

// sink ends restic when nobody can take its output any more.
type sink struct {
	to   io.Writer
	stop context.CancelCauseFunc
}

func (s *sink) Write(p []byte) (int, error) {
	n, err := s.to.Write(p)
	if err != nil {
		s.stop(&sinkError{err})
	}
	return n, err
}

func (c call) stdout(stop context.CancelCauseFunc) io.Writer {
	switch {
	case c.out != nil:
		return &sink{to: c.out, stop: stop}
	case c.onLine != nil:
		return &sink{to: &lines{on: c.onLine}, stop: stop}
	}
	return nil
}
