package discover

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ocbackup/ocbackup/config"
	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/opencloud"
	"github.com/ocbackup/ocbackup/opencloud/control"
	"github.com/ocbackup/ocbackup/paths"
	"github.com/ocbackup/ocbackup/proc"
)

// ComposeOptions say where a compose project is.
type ComposeOptions struct {
	Dir   string   // project directory
	Files []string // compose files; empty: as compose finds them
	// Project and Service are names; empty: compose's own, and the one that is found.
	Project, Service string
	// Command is the compose program and its first arguments; empty: found.
	Command    []string
	EngineHost string
}

// project is what "compose config --format json" prints, as far as it matters here
// (https://github.com/compose-spec/compose-spec).
type project struct {
	Name     string
	Services map[string]*service
	Volumes  map[string]struct {
		Name       string
		Driver     string
		DriverOpts map[string]string `json:"driver_opts"`
	}
	Configs map[string]struct{ File string }
	Secrets map[string]struct{ File string }
}

type service struct {
	Image       string
	Command     []string
	Entrypoint  []string
	Environment map[string]*string
	Restart     string
	Volumes     []struct {
		Type, Source, Target string
		ReadOnly             bool `json:"read_only"`
		Volume               struct{ Subpath string }
	}
}

// env is the service's environment.
func (s *service) env() map[string]string {
	m := map[string]string{}
	for k, v := range s.Environment {
		if v != nil {
			m[k] = *v
		}
	}
	return m
}

// Compose finds the instance in a Docker Compose project. The engine need not run.
func Compose(ctx context.Context, o ComposeOptions) (*Found, error) {
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return nil, err
	}
	if st, err := os.Stat(dir); err != nil || !st.IsDir() {
		return nil, fail.Usagef("name the directory of compose.yaml or docker-compose.yml", "there is no directory %s", dir)
	}
	command, err := composeCommand(ctx, o.Command)
	if err != nil {
		return nil, err
	}
	for i, f := range o.Files {
		if !filepath.IsAbs(f) {
			o.Files[i] = filepath.Join(dir, f)
		}
	}
	p, err := readProject(ctx, dir, command, o)
	if err != nil {
		return nil, err
	}
	name, err := p.pick(o.Service)
	if err != nil {
		return nil, err
	}
	if o.EngineHost == "" {
		o.EngineHost = os.Getenv("DOCKER_HOST")
	}
	if strings.HasPrefix(o.EngineHost, "tcp:") || strings.HasPrefix(o.EngineHost, "ssh:") {
		return nil, fail.Usagef("run ocbackup on that machine", "the container engine runs on another machine (%s): the data is not here", o.EngineHost)
	}
	files := o.Files
	if len(files) == 0 && os.Getenv("COMPOSE_FILE") != "" {
		// The timer's environment will not have the variable.
		if files, err = projectFiles(dir); err != nil {
			return nil, err
		}
	}
	f := &Found{Config: &config.Config{Control: control.Config{
		Type: "compose", ProjectDir: dir, Files: files, Project: p.Name, Service: name,
		Compose: o.Command, EngineHost: o.EngineHost,
	}}}
	return f, p.find(ctx, f, engine{program: "docker", host: o.EngineHost})
}

// find fills in what the project's services say.
func (p *project) find(ctx context.Context, f *Found, e engine) error {
	name := f.Config.Control.Service
	svc := p.Services[name]
	s := &server{
		env: svc.env(), configDir: "/etc/opencloud", dataDir: "/var/lib/opencloud",
		mounts: p.mounts(ctx, svc, e),
	}
	r, err := s.resolve()
	if err != nil {
		return err
	}
	f.Config.NotProtected = exceptBucket(p.others(name, s.mounts), r.bucket)
	f.Config.Control.AlsoStop = p.sharing(name, r.layout)
	for _, n := range f.Config.Control.AlsoStop {
		f.Notes = append(f.Notes, fmt.Sprintf("service %s writes to OpenCloud's data as well: it is stopped with it", n))
	}
	r.ready.InContainer = true
	deployment, notes := p.deployment(f.Config.Control)
	f.Notes = append(f.Notes, notes...)
	for _, file := range append(deployment, p.mountedConfig(f.Config.Control.ProjectDir)...) {
		if !contains(file, &r.layout) && !inside(file, &r.layout) && !slices.Contains(r.layout.Deployment, file) {
			r.layout.Deployment = append(r.layout.Deployment, file)
		}
	}
	slices.Sort(r.layout.Deployment)
	f.fill(s, r)
	f.Restart = svc.Restart
	f.Image = svc.Image
	f.Digest, f.Version = e.image(ctx, svc.Image)
	if f.Version == "" {
		f.Version = imageVersion(svc.Image)
	}
	return nil
}

// composeCommand returns the command that speaks for compose v2.
func composeCommand(ctx context.Context, given []string) ([]string, error) {
	candidates := [][]string{{"docker", "compose"}, {"docker-compose"}}
	if len(given) > 0 {
		candidates = [][]string{given}
	}
	old := ""
	for _, c := range candidates {
		res, err := proc.Run(ctx, proc.Cmd{Name: c[0], Args: append(slices.Clone(c[1:]), "version", "--short")})
		if err != nil {
			continue // not installed, or a docker without the plugin
		}
		version := strings.TrimPrefix(strings.TrimSpace(string(res.Stdout)), "v")
		if !strings.HasPrefix(version, "1.") {
			return c, nil
		}
		old = strings.Join(c, " ") + " is version " + version
	}
	if old != "" {
		return nil, fail.Usagef("install compose v2 (the plugin docker-compose-v2 or docker-compose-plugin, or docker-compose of Debian 13); it works with the engine that is there, and with projects of v1",
			"%s, which can't tell what it makes of a project (config --format json)", old)
	}
	return nil, fail.Usagef("install compose v2, or name a container with --container", "neither %q nor %q works here", "docker compose", "docker-compose")
}

// readProject has compose resolve the project.
func readProject(ctx context.Context, dir string, command []string, o ComposeOptions) (*project, error) {
	args := slices.Clone(command[1:])
	if o.Project != "" {
		args = append(args, "--project-name", o.Project)
	}
	args = append(args, "--project-directory", dir)
	for _, f := range o.Files {
		args = append(args, "--file", f)
	}
	res, err := proc.Run(ctx, proc.Cmd{Name: command[0], Args: append(args, "config", "--format", "json"), Dir: dir})
	if err != nil {
		var ee *proc.ExitError
		if errors.As(err, &ee) && strings.Contains(ee.Stderr, "no configuration file provided") {
			return nil, fail.Usagef("name the directory of compose.yaml or docker-compose.yml", "there is no compose project in %s", dir)
		}
		return nil, fail.Wrap(fail.Usage, err, "read the compose project in "+dir, "")
	}
	p := &project{}
	// Compose prints every $ doubled, so that its output can be read as a compose file.
	if err := json.Unmarshal(bytes.ReplaceAll(res.Stdout, []byte("$$"), []byte("$")), p); err != nil {
		return nil, fmt.Errorf("read what %s says about the project in %s: %w", strings.Join(command, " "), dir, err)
	}
	return p, nil
}

// pick returns the name of the service that runs the server.
func (p *project) pick(name string) (string, error) {
	var all, candidates []string
	for n, s := range p.Services {
		all = append(all, n)
		if n == "opencloud" || isServerImage(s.Image) || s.hasEnv("OC_") {
			candidates = append(candidates, n)
		}
	}
	if name != "" {
		if p.Services[name] == nil {
			return "", ambiguous(fmt.Sprintf("the compose project %s has no service %q", p.Name, name), "--service", all)
		}
		return name, nil
	}
	// The same image runs parts of the server as services of their own
	// ("opencloud collaboration server").
	for _, better := range []func(n string, s *service) bool{
		func(n string, _ *service) bool { return n == "opencloud" },
		func(_ string, s *service) bool { return isServerImage(s.Image) && s.mountsAt("/var/lib/opencloud") },
		func(_ string, s *service) bool { return isServerImage(s.Image) },
		func(string, *service) bool { return true },
	} {
		var best []string
		for _, n := range candidates {
			if better(n, p.Services[n]) {
				best = append(best, n)
			}
		}
		if len(best) == 1 {
			return best[0], nil
		}
		if len(best) > 1 {
			return "", ambiguous("several services of the compose project "+p.Name+" may be OpenCloud", "--service", best)
		}
	}
	return "", ambiguous(fmt.Sprintf("no service of the compose project %s looks like OpenCloud", p.Name), "--service", all)
}

func (s *service) hasEnv(prefix string) bool {
	for k := range s.Environment {
		if strings.HasPrefix(k, prefix) {
			return true
		}
	}
	return false
}

func (s *service) mountsAt(target string) bool {
	for _, v := range s.Volumes {
		if paths.Within(target, v.Target) {
			return true
		}
	}
	return false
}

// mounts returns what a service has mounted where.
func (p *project) mounts(ctx context.Context, s *service, e engine) mounts {
	var out mounts
	for _, v := range s.Volumes {
		m := mount{target: path.Clean(v.Target), readOnly: v.ReadOnly}
		switch v.Type {
		case "bind":
			m.host = filepath.Clean(v.Source)
		case "volume":
			if v.Source == "" {
				m.problem = "it lies in a volume without a name, which is lost when the container is made anew"
				break
			}
			decl := p.Volumes[v.Source]
			m = e.volume(ctx, or(decl.Name, v.Source), volume{Driver: decl.Driver, Options: decl.DriverOpts})
			m.host = filepath.Join(m.host, v.Volume.Subpath)
			m.target, m.readOnly = path.Clean(v.Target), v.ReadOnly
		default:
			m.problem = "it lies on a file system of the type " + v.Type
		}
		out = append(out, m)
	}
	return out
}

// sharing lists the other services that can write to OpenCloud's data.
func (p *project) sharing(name string, l opencloud.Layout) []string {
	data := map[string]bool{}
	for _, v := range p.Services[name].Volumes {
		// The configuration is read by others, and changed by people only.
		if t := path.Clean(v.Target); v.Source != "" && !paths.Within("/etc/opencloud", t) {
			data[v.Type+":"+v.Source] = true
		}
	}
	var out []string
	for n, s := range p.Services {
		for _, v := range s.Volumes {
			if n != name && !v.ReadOnly && (data[v.Type+":"+v.Source] || v.Type == "bind" && inside(v.Source, &l)) && !slices.Contains(out, n) {
				out = append(out, n)
			}
		}
	}
	slices.Sort(out)
	return out
}

// databases are images that keep state even where no volume is declared.
var databases = []string{"postgres", "mariadb", "mysql", "opensearch", "elasticsearch", "openldap", "lldap", "minio", "mongo"}

// others lists the state of the project's other services, which no set holds.
func (p *project) others(name string, own mounts) []string {
	mine := map[string]bool{}
	for _, m := range own {
		mine[m.volume], mine[m.host] = true, true
	}
	var out []string
	for n, s := range p.Services {
		if n == name {
			continue
		}
		stateful := false
		for _, v := range s.Volumes {
			source := filepath.Clean(v.Source)
			switch {
			case v.ReadOnly:
			case v.Type == "volume":
				if volume := or(p.Volumes[v.Source].Name, v.Source); !mine[volume] {
					out = append(out, fmt.Sprintf("service %s: volume %s", n, or(volume, "without a name at "+v.Target)))
				}
				stateful = true
			case v.Type == "bind" && !mine[source] && paths.IsDir(source):
				out = append(out, fmt.Sprintf("service %s: directory %s", n, source))
				stateful = true
			}
		}
		if !stateful && slices.ContainsFunc(databases, func(d string) bool { return strings.Contains(imageName(s.Image), d) }) {
			out = append(out, fmt.Sprintf("service %s: its data lies inside the container", n))
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func imageName(ref string) string {
	ref = ref[strings.LastIndexByte(ref, '/')+1:]
	name, _, _ := strings.Cut(ref, ":")
	return name
}

// inside reports whether p is, or lies in, one of the layout's directories.
func inside(p string, l *opencloud.Layout) bool {
	for _, dir := range slices.Concat([]string{l.ConfigDir, l.DataDir, l.UsersRoot, l.SearchDir}, l.SystemPaths) {
		if paths.Within(dir, p) {
			return true
		}
	}
	return false
}
