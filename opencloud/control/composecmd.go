package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/proc"
)

// projectName is the configured name, else the one that compose gives the project.
func (c *compose) projectName(ctx context.Context) (string, error) {
	c.once.Lock()
	name := c.project
	c.once.Unlock()
	if name != "" {
		return name, nil
	}
	out, err := c.compose(ctx, "config", "--format", "json")
	if err != nil {
		return "", fmt.Errorf("name of the %s: %w", c, err)
	}
	var project struct{ Name string }
	if err := json.Unmarshal([]byte(out), &project); err != nil || project.Name == "" {
		return "", fmt.Errorf("name of the %s: compose does not tell: set project in [control]", c)
	}
	c.once.Lock()
	defer c.once.Unlock()
	c.project = project.Name
	return project.Name, nil
}

// compose runs a compose command on the project.
func (c *compose) compose(ctx context.Context, args ...string) (string, error) {
	command, err := c.findCompose(ctx)
	if err != nil {
		return "", err
	}
	all := append(append([]string{}, command[1:]...), "--ansi", "never")
	if c.cfg.Project != "" {
		all = append(all, "--project-name", c.cfg.Project)
	}
	if c.cfg.ProjectDir != "" {
		all = append(all, "--project-directory", c.cfg.ProjectDir)
	}
	for _, f := range c.cfg.Files {
		all = append(all, "--file", f)
	}
	// In its directory, the project's .env and COMPOSE_FILE are found as the admin has it.
	return output(proc.Run(ctx, proc.Cmd{Name: command[0], Args: append(all, args...), Dir: c.cfg.ProjectDir, Env: c.env()}))
}

// composeVersion is what "compose version --short" prints.
var composeVersion = regexp.MustCompile(`^v?(\d+)\.\d+`)

// findCompose finds a compose command of version 2 or later: the configured one,
// else the engine's plugin, else docker-compose.
func (c *compose) findCompose(ctx context.Context) ([]string, error) {
	c.once.Lock()
	defer c.once.Unlock()
	if c.command != nil {
		return c.command, nil
	}
	candidates := [][]string{c.cfg.Compose}
	if len(c.cfg.Compose) == 0 {
		candidates = [][]string{{c.program, "compose"}, {"docker-compose"}}
	}
	const hint = "install compose version 2: the plugin docker-compose-plugin, or the program docker-compose of version 2"
	var errs []error
	for _, cmd := range candidates {
		name := strings.Join(cmd, " ")
		out, err := output(proc.Run(ctx, proc.Cmd{Name: cmd[0], Args: append(append([]string{}, cmd[1:]...), "version", "--short"), Env: c.env()}))
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
			continue
		}
		version := strings.TrimSpace(out)
		m := composeVersion.FindStringSubmatch(version)
		if m == nil {
			errs = append(errs, fmt.Errorf("%s: unknown version %q", name, version))
			continue
		}
		if major, _ := strconv.Atoi(m[1]); major < 2 {
			errs = append(errs, fmt.Errorf("%s is version %s, which can't be used", name, version))
			continue
		}
		c.command = cmd
		return cmd, nil
	}
	return nil, fail.Wrap(fail.Usage, errors.Join(errs...), "find compose", hint)
}
