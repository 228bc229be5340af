package control

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/proc"
)

// exitStopped is what a status command exits with when the instance is stopped,
// the same as "systemctl status" and init scripts (LSB: program is not running).
const exitStopped = 3

// command controls an instance by commands of the admin's.
type command struct{ cfg Config }

func newCommand(cfg Config) (Controller, error) {
	for _, c := range []struct {
		key  string
		args []string
		need bool
	}{{"start", cfg.Start, true}, {"stop", cfg.Stop, true}, {"status", cfg.Status, true}, {"exec", cfg.Exec, false}} {
		if c.need && len(c.args) == 0 {
			return nil, wrong(c.key, `is missing: type "command" needs start, stop and status`)
		}
		if len(c.args) > 0 && c.args[0] == "" {
			return nil, wrong(c.key, "names no program")
		}
	}
	return &command{cfg}, checkNoAlso(cfg)
}

func (c *command) String() string { return "the instance behind " + c.cfg.Start[0] }

func (c *command) Status(ctx context.Context) (Status, error) {
	res, err := proc.Run(ctx, proc.Cmd{Name: c.cfg.Status[0], Args: c.cfg.Status[1:]})
	var exit *proc.ExitError
	switch {
	case err == nil:
		return Status{State: Running, Stamp: strings.TrimSpace(string(res.Stdout)), Detail: "the status command says running"}, nil
	case ctx.Err() == nil && errors.As(err, &exit) && exit.Signal == 0 && exit.Code == exitStopped:
		return Status{State: Stopped, Stamp: strings.TrimSpace(string(res.Stdout)), Detail: "the status command says stopped"}, nil
	}
	return Status{}, fail.Wrap(fail.Failed, err, "ask the status command",
		"it must exit with 0 when the instance runs and with 3 when it is stopped")
}

func (c *command) Stop(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return c.reach(context.WithoutCancel(ctx), "stop", Stopped, c.cfg.Stop, c.cfg.StopTimeout)
}

func (c *command) Start(ctx context.Context, _ []string) error {
	return c.reach(ctx, "start", Running, c.cfg.Start, c.cfg.StartTimeout)
}

// reach runs the command for op unless the instance is in the wanted state, and
// waits until it is.
func (c *command) reach(parent context.Context, op string, want State, args []string, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(parent, limit)
	defer cancel()
	there := func(ctx context.Context) (bool, error) {
		s, err := c.Status(ctx)
		var exit *proc.ExitError
		if errors.As(err, &exit) {
			err = nil // not known at this moment: it is asked again
		}
		return err == nil && s.State == want, err
	}
	done, err := there(ctx)
	if err == nil && !done {
		// Detached: what a start command leaves in the background must outlive us.
		_, err = proc.Run(ctx, proc.Cmd{Name: args[0], Args: args[1:], Detached: op == "start"})
		if err == nil {
			err = await(ctx, there)
		}
	}
	switch {
	case err == nil:
		return nil
	case timedOut(parent, ctx):
		return &TimeoutError{Op: op, What: c.String(), After: limit, Detail: lastWord(ctx, c.Status)}
	}
	return fmt.Errorf("%s %s: %w", op, c, err)
}

func (c *command) Exec(ctx context.Context, args ...string) (string, error) {
	if len(c.cfg.Exec) == 0 {
		return "", ErrNoExec
	}
	return output(proc.Run(ctx, proc.Cmd{Name: c.cfg.Exec[0], Args: append(append([]string{}, c.cfg.Exec[1:]...), args...)}))
}

func (c *command) Image(context.Context) (Image, error) { return Image{}, nil }

// output is what a server command wrote, also when it failed.
func output(res *proc.Result, err error) (string, error) {
	if res == nil {
		return "", err
	}
	return string(res.Stdout), err
}
