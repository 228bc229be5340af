package control

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/proc"
)

// docker controls an instance that is a container with a name, of docker or podman.
type docker struct {
	engine
	cfg Config
}

func newDocker(cfg Config) (Controller, error) {
	if err := checkName("container", cfg.Container, containerName); err != nil {
		return nil, err
	}
	return &docker{newEngine(cfg), cfg}, checkAlso(cfg, cfg.Container, containerName)
}

func (d *docker) String() string { return d.what(d.cfg.Container) }

func (d *docker) what(name string) string { return d.cfg.Type + " container " + name }

// find looks up one container; nil: there is none.
func (d *docker) find(ctx context.Context, name string) (*container, error) {
	list, err := d.inspect(ctx, name)
	if err != nil || len(list) == 0 {
		return nil, err
	}
	return &list[0], nil
}

func (d *docker) Status(ctx context.Context) (Status, error) {
	c, err := d.find(ctx, d.cfg.Container)
	if err != nil {
		return Status{}, err
	}
	st := Status{State: Absent, Detail: "no such container"}
	if c != nil {
		st = d.status(*c)
	}
	for _, name := range d.cfg.AlsoStop {
		also, err := d.find(ctx, name)
		if err != nil {
			return Status{}, err
		}
		if also == nil {
			continue
		}
		if state, _ := also.state(); state != Stopped {
			st.Also = append(st.Also, name)
		}
	}
	return st, nil
}

func (d *docker) Stop(ctx context.Context) error {
	for _, name := range append(append([]string{}, d.cfg.AlsoStop...), d.cfg.Container) {
		c, err := d.find(ctx, name) // fails once the caller has given up
		if err == nil && c != nil {
			err = d.stop(ctx, d.what(name), *c, d.cfg.StopTimeout)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (d *docker) Start(ctx context.Context, also []string) error {
	var errs []error
	// A container that does not start must not keep the others down.
	for _, name := range append([]string{d.cfg.Container}, also...) {
		c, err := d.find(ctx, name)
		switch {
		case err != nil:
		case c == nil:
			err = fail.Wrap(fail.Failed, errors.New("there is no such container"), "start "+d.what(name),
				"create it the way it was made first, with "+d.program+" create or run")
		default:
			err = d.start(ctx, d.what(name), *c, d.cfg)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// Exec runs the command in the running container. In a stopped one nothing can be
// run; then a container is made like it that is gone when the command ends.
func (d *docker) Exec(ctx context.Context, args ...string) (string, error) {
	c, err := d.find(ctx, d.cfg.Container)
	if err != nil {
		return "", err
	}
	if c == nil {
		return "", fmt.Errorf("run a command in %s: there is no such container", d)
	}
	if state, _ := c.state(); state == Running {
		return d.run(ctx, append([]string{"exec", c.ID, serverProgram}, args...)...)
	}
	run := []string{"run", "--rm", "--volumes-from", c.ID, "--entrypoint", serverProgram, "--env-file", "/dev/stdin"}
	if c.Config.User != "" {
		run = append(run, "--user", c.Config.User)
	}
	if c.HostConfig.NetworkMode != "" {
		run = append(run, "--network", c.HostConfig.NetworkMode)
	}
	// The variables may be secrets: they go by the standard input.
	var env strings.Builder
	for _, v := range c.Config.Env {
		if !strings.ContainsRune(v, '\n') { // can't be written in such a file
			env.WriteString(v + "\n")
		}
	}
	return output(proc.Run(ctx, proc.Cmd{
		Name: d.program, Args: append(append(run, c.Image), args...), Env: d.env(), Stdin: strings.NewReader(env.String()),
	}))
}

func (d *docker) Image(ctx context.Context) (Image, error) {
	c, err := d.find(ctx, d.cfg.Container)
	if err != nil || c == nil {
		return Image{}, err
	}
	return d.image(ctx, *c)
}
