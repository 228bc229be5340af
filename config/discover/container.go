package discover

import (
	"context"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/ocbackup/ocbackup/config"
	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/opencloud/control"
)

// ContainerOptions say which container to look at.
type ContainerOptions struct {
	Name string
	// Type is docker or podman.
	Type string
	// Engine is the program; empty: the type's name.
	Engine     string
	EngineHost string
}

// Labels that compose and podman put on containers.
const (
	labelProject = "com.docker.compose.project"
	labelService = "com.docker.compose.service"
	labelDir     = "com.docker.compose.project.working_dir"
	labelFiles   = "com.docker.compose.project.config_files"
	labelUnit    = "PODMAN_SYSTEMD_UNIT"
)

// inspected is what "docker inspect" and "podman inspect" say about a container.
type inspected struct {
	Name   string
	Image  string
	Config struct {
		Image  string
		Env    []string
		Labels map[string]string
	}
	Mounts []struct {
		Type, Name, Source, Destination, Driver string
		RW                                      bool
	}
	State      struct{ Running bool }
	HostConfig struct {
		RestartPolicy struct{ Name string }
		NetworkMode   string
		ExtraHosts    []string // NAME:ADDRESS, or NAME:host-gateway
	}
	NetworkSettings struct {
		// Networks are by name. A stopped container has them without addresses.
		Networks map[string]network
		// Ports are by port and protocol ("9000/tcp").
		Ports map[string][]struct {
			HostIP   string `json:"HostIp"`
			HostPort string
		}
	}
}

// network is what a container has of a network: its addresses, and its names there.
type network struct {
	IPAddress, GlobalIPv6Address string
	Aliases, DNSNames            []string
}

// Container finds the instance in a container, and switches to the compose project
// that the container belongs to, if it does.
func Container(ctx context.Context, o ContainerOptions) (*Found, error) {
	return container(ctx, o, true)
}

func container(ctx context.Context, o ContainerOptions, mayBeCompose bool) (*Found, error) {
	if o.EngineHost == "" {
		o.EngineHost = os.Getenv("DOCKER_HOST")
	}
	e := engine{program: or(o.Engine, o.Type), host: o.EngineHost}
	out, err := e.run(ctx, "ps", "-a", "--format", "{{.Names}}")
	if err != nil {
		return nil, fail.Wrap(fail.Usage, err, "ask "+e.program+" for containers", "")
	}
	var c inspected
	if !e.inspect(ctx, "container", o.Name, &c) {
		return nil, ambiguous(fmt.Sprintf("%s has no container %q", e.program, o.Name), "--container", strings.Fields(out))
	}
	var notes []string
	labels := c.Config.Labels
	if dir := labels[labelDir]; dir != "" && mayBeCompose {
		found, err := Compose(ctx, ComposeOptions{
			Dir: dir, Files: composeLabelFiles(labels), Project: labels[labelProject], Service: labels[labelService], EngineHost: o.EngineHost,
		})
		if err == nil {
			found.Notes = append(found.Notes, fmt.Sprintf("the container %s belongs to the compose project in %s: it is controlled through compose", o.Name, dir))
			return found, nil
		}
		notes = append(notes, fmt.Sprintf("the container belongs to the compose project in %s, which can't be used: %v", dir, err))
	}
	if u := labels[labelUnit]; u != "" {
		notes = append(notes, fmt.Sprintf("the container is started by the systemd unit %s: if that has Restart=, it may start the container again while it is to be stopped; backups notice that and fail", u))
	}
	name := strings.TrimPrefix(c.Name, "/")
	f := &Found{
		Config:  &config.Config{Control: control.Config{Type: o.Type, Container: name, Engine: o.Engine, EngineHost: o.EngineHost}},
		Image:   c.Config.Image,
		Restart: c.HostConfig.RestartPolicy.Name,
		Notes:   notes,
	}
	s := &server{env: c.env(), configDir: "/etc/opencloud", dataDir: "/var/lib/opencloud", mounts: c.mounts(ctx, e)}
	r, err := s.resolve()
	if err != nil {
		return nil, err
	}
	r.ready.InContainer = true
	f.fill(s, r)
	f.Digest, f.Version = e.image(ctx, c.Image)
	if f.Version == "" {
		f.Version = imageVersion(f.Image)
	}
	return f, nil
}

// composeLabelFiles returns the compose files of a container's project, unless they
// are those that compose finds by itself.
func composeLabelFiles(labels map[string]string) []string {
	files := strings.Split(labels[labelFiles], ",")
	if own, err := projectFiles(labels[labelDir]); err == nil && slices.Equal(own, files) {
		return nil
	}
	return slices.DeleteFunc(files, func(f string) bool { return f == "" })
}

func (c inspected) env() map[string]string {
	m := map[string]string{}
	for _, kv := range c.Config.Env {
		if k, v, ok := strings.Cut(kv, "="); ok {
			m[k] = v
		}
	}
	return m
}

func (c inspected) mounts(ctx context.Context, e engine) mounts {
	var out mounts
	for _, m := range c.Mounts {
		x := mount{host: m.Source, target: path.Clean(m.Destination), readOnly: !m.RW}
		switch m.Type {
		case "bind":
		case "volume":
			x = e.volume(ctx, m.Name, volume{Driver: m.Driver, Mountpoint: m.Source})
			x.target, x.readOnly = path.Clean(m.Destination), !m.RW
		default:
			x.problem = "it lies on a file system of the type " + m.Type
		}
		out = append(out, x)
	}
	return out
}
