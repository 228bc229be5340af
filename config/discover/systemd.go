package discover

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/ocbackup/ocbackup/config"
	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/opencloud/control"
	"github.com/ocbackup/ocbackup/paths"
	"github.com/ocbackup/ocbackup/proc"
)

// unit is what "systemctl show" says about a service unit.
type unit struct {
	name  string
	props map[string][]string // properties may occur several times (EnvironmentFiles)
}

func (u unit) get(name string) string {
	if v := u.props[name]; len(v) > 0 {
		return v[0]
	}
	return ""
}

// Systemd finds the instance that a systemd unit runs. While it runs, what its main
// process has in its environment counts; else the unit's Environment= and
// EnvironmentFile=.
func Systemd(ctx context.Context, name string) (*Found, error) {
	if !strings.Contains(name, ".") {
		name += ".service"
	}
	u, err := showUnit(ctx, name)
	if err != nil {
		return nil, err
	}
	return u.found()
}

func showUnit(ctx context.Context, name string) (unit, error) {
	out, err := proc.Output(ctx, "systemctl", "show", "--no-pager",
		"-p", "MainPID,EnvironmentFiles,Environment,User,Group,ExecStart,FragmentPath,DropInPaths,LoadState,ActiveState", "--", name)
	if err != nil {
		return unit{}, fail.Wrap(fail.Usage, err, "ask systemd for the unit "+name, "")
	}
	u := unit{name: name, props: map[string][]string{}}
	for line := range strings.SplitSeq(out, "\n") {
		if k, v, ok := strings.Cut(line, "="); ok && v != "" {
			u.props[k] = append(u.props[k], v)
		}
	}
	if s := u.get("LoadState"); s == "not-found" || s == "" {
		return u, fail.Usagef("systemctl list-units --type=service shows all", "there is no systemd unit %s", name)
	}
	return u, nil
}

// found turns the unit into an instance.
func (u unit) found() (*Found, error) {
	f := &Found{Config: &config.Config{Control: control.Config{Type: "systemd", Unit: u.name}}}
	binary, args := u.execStart()
	switch filepath.Base(binary) {
	case "docker", "podman", "docker-compose":
		return nil, fail.Usagef("use --compose DIR or --container NAME", "the unit %s runs OpenCloud in a container (%s)", u.name, strings.Join(args, " "))
	}
	env, err := u.environment(f)
	if err != nil {
		return nil, err
	}
	if pid := u.pid(); pid > 0 {
		// Of a binary that was replaced since, the link says "(deleted)".
		if exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid)); err == nil && isFile(exe) && !isInterpreter(exe) {
			binary = exe
		}
	}
	s := &server{env: env, mounts: onHost}
	s.configDir, s.dataDir = u.defaults(s)
	r, err := s.resolve()
	if err != nil {
		return nil, err
	}
	if isFile(binary) {
		r.layout.Binary = binary
	} else {
		f.Notes = append(f.Notes, fmt.Sprintf("the server's binary %s was not found; it is not backed up", binary))
	}
	for _, file := range u.files() {
		if !inside(file, &r.layout) && !slices.Contains(r.layout.Deployment, file) {
			r.layout.Deployment = append(r.layout.Deployment, file)
		}
	}
	slices.Sort(r.layout.Deployment)
	f.fill(s, r)
	return f, nil
}

func (u unit) pid() int {
	n, _ := strconv.Atoi(u.get("MainPID"))
	return n
}

// execStart returns the program of ExecStart= and its argument vector.
func (u unit) execStart() (program string, argv []string) {
	for part := range strings.SplitSeq(strings.Trim(u.get("ExecStart"), "{} "), " ; ") {
		k, v, _ := strings.Cut(strings.TrimSpace(part), "=")
		switch k {
		case "path":
			program = v
		case "argv[]":
			argv = strings.Fields(v)
		}
	}
	return program, argv
}

func isInterpreter(exe string) bool {
	switch filepath.Base(exe) {
	case "sh", "bash", "dash", "busybox", "env", "python3":
		return true
	}
	return false
}

// files lists what describes the unit: its file, its drop-ins and environment files.
func (u unit) files() []string {
	out := append([]string{u.get("FragmentPath")}, strings.Fields(strings.Join(u.props["DropInPaths"], " "))...)
	for _, e := range u.envFiles() {
		out = append(out, e.path)
	}
	return slices.DeleteFunc(out, func(p string) bool { return !isFile(p) })
}

type envFile struct {
	path     string
	optional bool
}

// envFiles reads lines like "/etc/default/opencloud (ignore_errors=yes)".
func (u unit) envFiles() []envFile {
	var out []envFile
	for _, line := range u.props["EnvironmentFiles"] {
		p, rest, _ := strings.Cut(line, " (ignore_errors=")
		out = append(out, envFile{strings.TrimPrefix(p, "-"), strings.HasPrefix(rest, "yes") || strings.HasPrefix(p, "-")})
	}
	return out
}

// environment returns the server's environment.
func (u unit) environment(f *Found) (map[string]string, error) {
	if pid := u.pid(); pid > 0 {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
		if err == nil {
			return config.ByName(strings.Split(string(b), "\x00")), nil
		}
		f.Notes = append(f.Notes, fmt.Sprintf("the environment of the running server could not be read (%v): the unit's is taken", err))
	}
	vars := control.SplitQuoted(u.get("Environment"))
	for _, e := range u.envFiles() {
		more, err := control.ReadEnvironmentFiles(e.path)
		if errors.Is(err, fs.ErrNotExist) && e.optional {
			continue
		}
		if err != nil {
			return nil, fail.Wrap(fail.Usage, err, "read the environment file of "+u.name, "")
		}
		vars = append(vars, more...)
	}
	env := config.ByName(vars)
	if name := u.get("User"); name != "" && env["HOME"] == "" {
		// systemd sets HOME for units with User= only (systemd.exec(5)).
		if usr, err := lookupUser(name); err == nil {
			env["HOME"] = usr.HomeDir
		}
	}
	return env, nil
}

func lookupUser(name string) (*user.User, error) {
	if _, err := strconv.Atoi(name); err == nil {
		return user.LookupId(name)
	}
	return user.Lookup(name)
}

// defaults returns where the server keeps its configuration and data when nothing
// says so: a self-built binary below $HOME, one that was built for packages and
// images in /etc and /var/lib (pkg/config/defaults/paths.go). What exists decides.
func (u unit) defaults(s *server) (configDir, dataDir string) {
	home := s.env["HOME"]
	choose := func(variable, what, belowHome, system, mark string) string {
		if s.env[variable] != "" {
			return s.env[variable]
		}
		candidates := []string{system}
		if home != "" {
			candidates = []string{filepath.Join(home, belowHome), system}
		}
		for _, dir := range candidates {
			if paths.Exists(filepath.Join(dir, mark)) {
				s.note("%s is not set; the %s %s was found", variable, what, dir)
				return dir
			}
		}
		return candidates[0]
	}
	return choose("OC_CONFIG_DIR", "configuration directory", ".opencloud/config", "/etc/opencloud", "opencloud.yaml"),
		choose("OC_BASE_DATA_PATH", "data directory", ".opencloud", "/var/lib/opencloud", "storage")
}
