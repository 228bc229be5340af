package discover

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/proc"
)

// flagsHint names the flags that say which instance is meant.
const flagsHint = "say which with --compose DIR, --systemd UNIT, --container NAME [--podman], or --config-dir and --data-dir"

// Auto looks for the one instance on this machine: a compose project in the working
// directory, containers of Docker and Podman, then systemd units.
func Auto(ctx context.Context) (*Found, error) {
	var tried []string
	try := func(format string, args ...any) { tried = append(tried, fmt.Sprintf(format, args...)) }

	f, err := workingDir(ctx)
	if err == nil {
		return f, nil
	}
	try("%v", err)
	for _, e := range []engine{{program: "docker"}, {program: "podman"}} {
		names, err := serverContainers(ctx, e)
		switch {
		case err != nil && missing(err):
			try("%s: not installed", e.program)
		case err != nil:
			try("%s: %v", e.program, err)
		case len(names) == 0:
			try("%s: no container runs an OpenCloud image", e.program)
		case len(names) > 1:
			return nil, ambiguous("several containers of "+e.program+" may be OpenCloud", "--container", names)
		default:
			return Container(ctx, ContainerOptions{Name: names[0], Type: e.program})
		}
	}
	units, err := serverUnits(ctx)
	switch {
	case err != nil:
		try("systemd: %v", err)
	case len(units) == 0:
		try("systemd: no unit with opencloud in its name")
	case len(units) > 1:
		return nil, ambiguous("several systemd units may be OpenCloud", "--systemd", units)
	default:
		return Systemd(ctx, units[0])
	}
	return nil, fail.Usagef(flagsHint, "OpenCloud was not found on this machine. Tried:\n%s", strings.Join(tried, "\n"))
}

// workingDir finds the instance in a compose project in the working directory.
func workingDir(ctx context.Context) (*Found, error) {
	dir, err := os.Getwd()
	if err != nil {
		return nil, fmt.Errorf("compose project in the working directory: %w", err)
	}
	if files, err := projectFiles(dir); err != nil || len(files) == 0 {
		return nil, fmt.Errorf("compose project in %s: there is none", dir)
	}
	f, err := Compose(ctx, ComposeOptions{Dir: dir})
	if err != nil {
		return nil, fmt.Errorf("compose project in %s: %w", dir, err)
	}
	return f, nil
}

// serverContainers lists the containers, running or not, that run OpenCloud's
// server. One container of each compose project is enough.
func serverContainers(ctx context.Context, e engine) ([]string, error) {
	out, err := e.run(ctx, "ps", "-a", "--format",
		"{{.Names}}\t{{.Image}}\t{{.Label \""+labelProject+"\"}}\t{{.Label \""+labelService+"\"}}\t{{.Command}}")
	if err != nil {
		return nil, err
	}
	var names []string
	projects := map[string]int{} // index into names
	for line := range strings.SplitSeq(out, "\n") {
		col := strings.Split(line, "\t")
		if len(col) < 5 || !isServerImage(col[1]) || col[2] == "" && strings.Contains(col[4], "collaboration") {
			continue
		}
		i, known := projects[col[2]]
		switch {
		case col[2] == "" || !known:
			projects[col[2]] = len(names)
			names = append(names, col[0])
		case col[3] == "opencloud":
			names[i] = col[0]
		}
	}
	return names, nil
}

// serverUnits lists the service units that run OpenCloud, by their names.
func serverUnits(ctx context.Context) ([]string, error) {
	var units []string
	for _, args := range [][]string{
		{"list-unit-files", "--no-legend", "--no-pager", "--plain", "--type=service", "*opencloud*"},
		{"list-units", "--all", "--no-legend", "--no-pager", "--plain", "--type=service", "*opencloud*"},
	} {
		out, err := proc.Output(ctx, "systemctl", args...)
		var ee *proc.ExitError
		silent := errors.As(err, &ee) && ee.Stderr == "" // nothing matches
		if err != nil && !silent {
			return nil, err
		}
		for line := range strings.SplitSeq(out, "\n") {
			name, _, _ := strings.Cut(strings.TrimSpace(line), " ")
			if name != "" && !strings.Contains(name, "@.") && !strings.HasPrefix(name, "ocbackup") && !slices.Contains(units, name) {
				units = append(units, name)
			}
		}
	}
	return units, nil
}
