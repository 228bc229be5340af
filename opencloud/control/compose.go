package control

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/ocbackup/ocbackup/fail"
)

// compose controls an instance that is a service of a compose project.
//
// Its containers are looked up each time by the labels that compose gives them,
// for project and service, and are stopped and started by the engine. Compose
// itself would start what the service depends on, too, running before or not, and
// wait for its health; and it needs the project's files, which a restore may be
// about to bring back. Compose makes a container that is gone, and runs server
// commands while there is none.
type compose struct {
	engine
	cfg Config

	once    sync.Mutex // guards the fields below, which are found once
	command []string   // compose and its global options
	project string
}

func newCompose(cfg Config) (Controller, error) {
	if err := checkName("service", cfg.Service, serviceName); err != nil {
		return nil, err
	}
	if cfg.Project == "" && cfg.ProjectDir == "" && len(cfg.Files) == 0 {
		return nil, wrong("project_dir", "is missing: compose needs project_dir, files or project")
	}
	if cfg.Project != "" {
		if err := checkName("project", cfg.Project, projectName); err != nil {
			return nil, err
		}
	}
	if err := checkPath("project_dir", cfg.ProjectDir); err != nil {
		return nil, err
	}
	if cfg.ProjectDir == "" {
		for _, f := range cfg.Files {
			if err := checkPath("files", f); err != nil {
				return nil, err
			}
		}
	}
	if len(cfg.Compose) > 0 && cfg.Compose[0] == "" {
		return nil, wrong("compose", "names no program")
	}
	return &compose{engine: newEngine(cfg), cfg: cfg, project: cfg.Project}, checkAlso(cfg, cfg.Service, serviceName)
}

func (c *compose) String() string { return c.what(c.cfg.Service) }

func (c *compose) what(service string) string {
	switch {
	case c.cfg.Project != "":
		return fmt.Sprintf("compose project %s, service %s", c.cfg.Project, service)
	case c.cfg.ProjectDir != "":
		return fmt.Sprintf("compose project in %s, service %s", c.cfg.ProjectDir, service)
	}
	return fmt.Sprintf("compose project of %s, service %s", c.cfg.Files[0], service)
}

// The labels of containers that compose made.
const (
	labelProject = "com.docker.compose.project"
	labelService = "com.docker.compose.service"
	labelOneOff  = "com.docker.compose.oneoff" // "True" for those of "compose run"
)

// containers returns the project's containers by service.
func (c *compose) containers(ctx context.Context) (map[string][]container, error) {
	project, err := c.projectName(ctx)
	if err != nil {
		return nil, err
	}
	out, err := c.run(ctx, "ps", "--all", "--quiet", "--no-trunc", "--filter", "label="+labelProject+"="+project)
	if err != nil {
		return nil, fmt.Errorf("list the containers of %s: %w", c, err)
	}
	list, err := c.inspect(ctx, strings.Fields(out)...)
	if err != nil {
		return nil, err
	}
	services := map[string][]container{}
	for _, x := range list {
		if l := x.Config.Labels; !strings.EqualFold(l[labelOneOff], "true") {
			services[l[labelService]] = append(services[l[labelService]], x)
		}
	}
	for _, list := range services {
		slices.SortFunc(list, func(a, b container) int { return strings.Compare(a.Name, b.Name) })
	}
	return services, nil
}

func (c *compose) Status(ctx context.Context) (Status, error) {
	services, err := c.containers(ctx)
	if err != nil {
		return Status{}, err
	}
	st := c.together(services[c.cfg.Service])
	for _, name := range c.cfg.AlsoStop {
		if s := c.together(services[name]).State; s == Running || s == Changing {
			st.Also = append(st.Also, name)
		}
	}
	return st, nil
}

// together is the status of a service, which has one container unless it is
// scaled: it runs when one of them does.
func (c *compose) together(list []container) Status {
	if len(list) == 0 {
		return Status{State: Absent, Detail: "no container"}
	}
	all := c.status(list[0])
	for _, x := range list[1:] {
		st := c.status(x)
		stamp := all.Stamp + " " + st.Stamp
		if st.State == Running && all.State != Running || st.State == Changing && all.State == Stopped {
			all = st
		}
		all.Stamp = stamp
	}
	return all
}

func (c *compose) Stop(ctx context.Context) error {
	services, err := c.containers(ctx)
	if err != nil {
		return err
	}
	for _, name := range append(append([]string{}, c.cfg.AlsoStop...), c.cfg.Service) {
		for _, x := range services[name] {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := c.stop(ctx, c.what(name), x, c.cfg.StopTimeout); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *compose) Start(ctx context.Context, also []string) error {
	services, err := c.containers(ctx)
	if err != nil {
		return err
	}
	var errs []error
	// A service that does not start must not keep the others down.
	for _, name := range append([]string{c.cfg.Service}, also...) {
		if len(services[name]) == 0 {
			errs = append(errs, c.up(ctx, name))
		}
		for _, x := range services[name] {
			errs = append(errs, c.start(ctx, c.what(name), x, c.cfg))
		}
	}
	return errors.Join(errs...)
}

// up makes and starts the container of a service that has none, and waits until
// it runs.
func (c *compose) up(parent context.Context, name string) error {
	ctx, cancel := context.WithTimeout(parent, c.cfg.StartTimeout)
	defer cancel()
	detail := "no container"
	_, err := c.compose(ctx, "up", "--detach", "--no-deps", name)
	if err == nil {
		err = await(ctx, func(ctx context.Context) (bool, error) {
			services, err := c.containers(ctx)
			if err != nil {
				return false, err
			}
			st := c.together(services[name])
			if detail = st.Detail; st.State == Stopped {
				err = fmt.Errorf("it ended right away: %s", detail)
			}
			return st.State == Running, err
		})
	}
	switch {
	case err == nil:
		return nil
	case timedOut(parent, ctx):
		return &TimeoutError{Op: "start", What: c.what(name), After: c.cfg.StartTimeout, Detail: detail}
	}
	return fail.Wrap(fail.Failed, err, "start "+c.what(name), "")
}

// Exec runs the command in the service's running container, else in one of its own.
func (c *compose) Exec(ctx context.Context, args ...string) (string, error) {
	services, err := c.containers(ctx)
	if err != nil {
		return "", err
	}
	for _, x := range services[c.cfg.Service] {
		if state, _ := x.state(); state == Running {
			return c.run(ctx, append([]string{"exec", x.ID, serverProgram}, args...)...)
		}
	}
	return c.compose(ctx, append([]string{"run", "--rm", "--no-deps", "-T", "--entrypoint", serverProgram, c.cfg.Service}, args...)...)
}

func (c *compose) Image(ctx context.Context) (Image, error) {
	services, err := c.containers(ctx)
	if err != nil || len(services[c.cfg.Service]) == 0 {
		return Image{}, err
	}
	return c.image(ctx, services[c.cfg.Service][0])
}
