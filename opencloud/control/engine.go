package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/proc"
)

// serverProgram is the server's binary in its container images.
const serverProgram = "opencloud"

// engine is a docker or podman program.
type engine struct {
	program string
	host    string // for DOCKER_HOST
	podman  bool
}

func newEngine(cfg Config) engine {
	e := engine{program: cfg.Engine, host: cfg.EngineHost, podman: cfg.Type == "podman"}
	switch {
	case e.program == "" && e.podman:
		e.program = "podman"
	case e.program == "":
		e.program = "docker"
	}
	return e
}

// env is what the program needs in its environment.
func (e engine) env() []string {
	switch {
	case e.host == "":
		return nil
	case e.podman:
		// podman's own name for it; what podman calls (compose) goes by Docker's.
		return []string{"CONTAINER_HOST=" + e.host, "DOCKER_HOST=" + e.host}
	}
	return []string{"DOCKER_HOST=" + e.host}
}

// local tells whether process ids that the engine tells are this host's.
func (e engine) local() bool {
	return e.host == "" || strings.HasPrefix(e.host, "unix://")
}

func (e engine) run(ctx context.Context, args ...string) (string, error) {
	return output(proc.Run(ctx, proc.Cmd{Name: e.program, Args: args, Env: e.env()}))
}

// container is what "container inspect" tells about one, in what docker and
// podman have in common.
type container struct {
	ID    string `json:"Id"`
	Name  string
	Image string // the image's id
	// Created is when the container was made (RFC 3339), not when it was started.
	Created string
	State   struct {
		Status    string
		Pid       int
		ExitCode  int
		StartedAt string
		Error     string
	}
	RestartCount int
	Config       struct {
		Image  string // as the deployment names it
		User   string
		Env    []string
		Labels map[string]string
	}
	HostConfig struct {
		NetworkMode   string
		RestartPolicy struct{ Name string }
	}
	Mounts []mount
}

// mount is what a container has of its host.
type mount struct{ Source string }

// noSuch is how the engines say that something does not exist.
var noSuch = regexp.MustCompile(`(?i)no such (container|object|image)|image not known`)

// missing tells whether err says that something does not exist.
func missing(err error) bool {
	var exit *proc.ExitError
	return errors.As(err, &exit) && noSuch.MatchString(exit.Stderr)
}

// inspect asks for containers by name or id. Those that do not exist are left out.
func (e engine) inspect(ctx context.Context, names ...string) ([]container, error) {
	if len(names) == 0 {
		return nil, nil
	}
	out, err := e.run(ctx, append([]string{"container", "inspect"}, names...)...)
	// With one of several missing, the others are printed all the same.
	if err != nil && !missing(err) {
		return nil, fmt.Errorf("ask %s about %s: %w", e.program, strings.Join(names, ", "), err)
	}
	var list []container
	if strings.TrimSpace(out) == "" {
		return nil, nil
	}
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		return nil, fmt.Errorf("ask %s about %s: %w", e.program, strings.Join(names, ", "), err)
	}
	for i := range list {
		list[i].Name = strings.TrimPrefix(list[i].Name, "/")
	}
	return list, nil
}

// state translates the engine's word for a container's state.
func (c container) state() (State, string) {
	switch c.State.Status {
	case "running":
		return Running, "running"
	case "created", "configured", "initialized":
		return Stopped, c.State.Status
	case "exited", "stopped", "dead":
		detail := fmt.Sprintf("%s (%d)", c.State.Status, c.State.ExitCode)
		if c.State.Error != "" {
			detail += ": " + c.State.Error
		}
		return Stopped, detail
	}
	return Changing, c.State.Status // restarting, paused, removing, stopping
}

// stamp changes with each start: by a person, by the restart policy, and when the
// container is made anew.
func (c container) stamp() string {
	return fmt.Sprintf("%s@%s#%d", c.ID, c.State.StartedAt, c.RestartCount)
}

// status is what there is to say about one container.
func (e engine) status(c container) Status {
	st := Status{Stamp: c.stamp()}
	st.State, st.Detail = c.state()
	if e.local() && st.State == Running {
		st.PID = c.State.Pid
	}
	return st
}

// stop stops one container and waits until it is stopped.
func (e engine) stop(parent context.Context, what string, c container, limit time.Duration) error {
	if state, _ := c.state(); state == Stopped {
		return nil
	}
	// The engine kills what does not end in time, so that the outcome is known: a
	// container that ends long after its stop was given up stays stopped.
	ctx, cancel := seeThrough(parent, limit+slack)
	defer cancel()
	_, err := e.run(ctx, "stop", "-t", strconv.Itoa(seconds(limit)), c.ID)
	began := c
	if err == nil {
		err = await(ctx, func(ctx context.Context) (bool, error) {
			list, err := e.inspect(ctx, c.ID)
			if err != nil || len(list) == 0 {
				return err == nil, err // removed as it stopped (--rm)
			}
			c = list[0]
			state, _ := c.state()
			return state == Stopped, nil
		})
	}
	_, detail := c.state()
	switch {
	case timedOut(context.WithoutCancel(parent), ctx):
		return &TimeoutError{Op: "stop", What: what, After: limit, Detail: detail}
	case err != nil:
		return fmt.Errorf("stop %s: %w", what, err)
	case c.State.ExitCode == exitKilled && c.State.StartedAt == began.State.StartedAt:
		return &KilledError{What: what, Detail: fmt.Sprintf(
			"%s after %s; stop_timeout may be too short, or the container's first process does not pass on SIGTERM", detail, limit)}
	}
	return nil
}

// exitKilled is the exit code of a container whose first process was killed:
// 128 + SIGKILL.
const exitKilled = 137

// start starts one container and waits until it runs.
func (e engine) start(parent context.Context, what string, c container, cfg Config) error {
	state, detail := c.state()
	if state == Running {
		stopped, err := e.finishStop(parent, c, cfg.StopTimeout)
		if err != nil {
			return fmt.Errorf("wait for the stop of %s that is under way: %w", what, err)
		}
		if !stopped {
			return nil
		}
	}
	ctx, cancel := context.WithTimeout(parent, cfg.StartTimeout)
	defer cancel()
	_, err := e.run(ctx, "start", c.ID)
	if err == nil {
		err = await(ctx, func(ctx context.Context) (bool, error) {
			list, err := e.inspect(ctx, c.ID)
			if err == nil && len(list) == 0 {
				err = errors.New("the container is gone")
			}
			if err != nil {
				return false, err
			}
			state, detail = list[0].state()
			if state == Stopped {
				err = fmt.Errorf("it ended right away: %s", detail)
			}
			return state == Running, err
		})
	}
	switch {
	case err == nil:
		return nil
	case timedOut(parent, ctx):
		return &TimeoutError{Op: "start", What: what, After: cfg.StartTimeout, Detail: detail}
	}
	return fail.Wrap(fail.Failed, err, "start "+what, e.program+" logs --tail 50 "+c.Name)
}

// finishStop waits for the end of a stop that was asked for by someone who is
// gone (an ocbackup that was killed, say): the engine goes on with it, calls the
// container running until it has ended, and does nothing when it is told to start
// it meanwhile. It reports whether the container has stopped.
func (e engine) finishStop(parent context.Context, c container, limit time.Duration) (stopped bool, err error) {
	if e.podman || !e.stopAsked(parent, c) {
		return false, nil // podman calls such a container "stopping"
	}
	ctx, cancel := context.WithTimeout(parent, limit+slack)
	defer cancel()
	_, err = e.run(ctx, "wait", c.ID)
	if timedOut(parent, ctx) {
		return false, nil // it was told to end, and did not: it runs
	}
	return err == nil, err
}

// stopAsked tells whether a container was sent a signal to end since its start.
// It goes by the engine's memory of events, and is false when that can't be read.
func (e engine) stopAsked(ctx context.Context, c container) bool {
	ctx, cancel := context.WithTimeout(ctx, slack)
	defer cancel()
	now := strconv.FormatFloat(float64(time.Now().UnixMilli())/1000, 'f', 3, 64)
	out, err := e.run(ctx, "events", "--since", c.State.StartedAt, "--until", now,
		"--filter", "container="+c.ID, "--filter", "event=kill", "--format", "{{json .}}")
	if err != nil {
		return false
	}
	for line := range strings.Lines(out) {
		var event struct {
			Actor struct{ Attributes map[string]string }
		}
		if json.Unmarshal([]byte(line), &event) != nil {
			continue
		}
		switch strings.TrimPrefix(event.Actor.Attributes["signal"], "SIG") {
		case "15", "TERM", "9", "KILL", "3", "QUIT", "2", "INT":
			return true
		}
	}
	return false
}
