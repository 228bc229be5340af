package discover

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/ocbackup/ocbackup/proc"
)

// engineTimeout is how long the container engine may take to answer a question.
const engineTimeout = 20 * time.Second

// engine asks docker or podman. It works without a running one, as far as that goes.
type engine struct {
	program string
	host    string // DOCKER_HOST; empty: the program's own default
}

func (e engine) env() []string {
	if e.host == "" {
		return nil
	}
	return []string{"DOCKER_HOST=" + e.host}
}

// run runs the engine's program and returns what it prints, of one that fails as well.
func (e engine) run(ctx context.Context, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, engineTimeout)
	defer cancel()
	res, err := proc.Run(ctx, proc.Cmd{Name: e.program, Args: args, Env: e.env()})
	if res == nil {
		return "", err
	}
	return strings.TrimSpace(string(res.Stdout)), err
}

// inspect decodes what "inspect" says about one object; false when there is no such
// object, or no engine to ask.
func (e engine) inspect(ctx context.Context, kind, name string, v any) bool {
	out, err := e.run(ctx, kind, "inspect", name)
	if err != nil {
		return false
	}
	var list []json.RawMessage
	return json.Unmarshal([]byte(out), &list) == nil && len(list) == 1 && json.Unmarshal(list[0], v) == nil
}

// volume is what the engine, or a compose file, says about a volume.
type volume struct {
	Name       string
	Driver     string
	Mountpoint string
	Options    map[string]string
}

// volume returns where a named volume lies on this host. Without a running engine
// it is a guess, from the engine's data directory.
func (e engine) volume(ctx context.Context, name string, known volume) mount {
	v := known
	m := mount{volume: name}
	if !e.inspect(ctx, "volume", name, &v) {
		m.guessed = true
		v.Mountpoint = filepath.Join(e.dataRoot(), "volumes", name, "_data")
	}
	m.host = v.Mountpoint
	if v.Driver != "" && v.Driver != "local" {
		m.problem = "volume " + name + " belongs to the driver " + v.Driver + ", which may take it away when the container stops"
		return m
	}
	// A local volume with options is mounted on its mount point by the engine, and
	// only while a container uses it.
	opts := strings.Split(v.Options["o"], ",")
	switch t := v.Options["type"]; {
	case has(opts, "bind") || has(opts, "rbind"):
		m.host, m.guessed = v.Options["device"], false
	case t != "" && t != "none":
		m.problem = "volume " + name + " is a " + t + " mount that the engine makes, and takes away when the container stops"
	}
	return m
}

func has(list []string, s string) bool {
	for _, e := range list {
		if strings.TrimSpace(e) == s {
			return true
		}
	}
	return false
}

// dataRoot is where Docker keeps its volumes: data-root of its configuration, else
// its default.
func (e engine) dataRoot() string {
	if filepath.Base(e.program) == "podman" {
		return "/var/lib/containers/storage"
	}
	var daemon struct {
		DataRoot string `json:"data-root"`
	}
	if b, err := os.ReadFile("/etc/docker/daemon.json"); err == nil && json.Unmarshal(b, &daemon) == nil && daemon.DataRoot != "" {
		return daemon.DataRoot
	}
	return "/var/lib/docker"
}

// image returns the repository digest of an image (else its id) and the version in
// its labels.
func (e engine) image(ctx context.Context, ref string) (digest, version string) {
	var img struct {
		ID          string `json:"Id"`
		RepoDigests []string
		Config      struct{ Labels map[string]string }
	}
	if ref == "" || !e.inspect(ctx, "image", ref, &img) {
		return "", ""
	}
	digest = img.ID
	if len(img.RepoDigests) > 0 {
		_, digest, _ = strings.Cut(img.RepoDigests[0], "@")
	}
	return digest, img.Config.Labels["org.opencontainers.image.version"]
}

// imageVersion takes the version from an image's tag, where it looks like one.
func imageVersion(ref string) string {
	ref, _, _ = strings.Cut(ref, "@")
	i := strings.LastIndexByte(ref, ':')
	if i < 0 || strings.Contains(ref[i:], "/") {
		return ""
	}
	if tag := strings.TrimPrefix(ref[i+1:], "v"); tag != "" && tag[0] >= '0' && tag[0] <= '9' && strings.Contains(tag, ".") {
		return tag
	}
	return ""
}

// isServerImage reports whether an image is OpenCloud's server (which other
// services of it run from as well).
func isServerImage(ref string) bool {
	ref, _, _ = strings.Cut(ref, "@")
	ref = ref[strings.LastIndexByte(ref, '/')+1:]
	name, _, _ := strings.Cut(ref, ":")
	return strings.Contains(name, "opencloud")
}

// missing reports whether err says that a program is not installed.
func missing(err error) bool {
	var nf *proc.NotFoundError
	return errors.As(err, &nf)
}
