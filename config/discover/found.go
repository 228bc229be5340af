// Package discover finds an OpenCloud instance on this machine: who runs it, with
// which storage driver, where it keeps what, and what else it relies on.
package discover

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/ocbackup/ocbackup/config"
	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/opencloud/control"
	"github.com/ocbackup/ocbackup/paths"
)

// Found is an instance that was found.
type Found struct {
	// Config is complete save for the repository.
	Config *config.Config
	// Version of the server; empty when it could not be learnt.
	Version string
	// Image is the container image as the deployment names it, and Digest its
	// repository digest, else its id; empty without a container, or without an engine.
	Image, Digest string
	// Restart is the restart policy of the container ("always", ...).
	Restart string
	// Notes are things that a person should know about how this was found.
	Notes []string

	// guessed lists volumes whose place on this host is a guess, for lack of a
	// running engine.
	guessed []string
	// keys returns the access keys of the bucket. A function, so that they are in
	// nothing that is printed.
	keys func() (access, secret string)
}

// Again finds the instance of a configuration once more, so that the two can be
// compared. It returns nil without an error for instances under commands of the
// admin's, of which nothing can be learnt.
func Again(ctx context.Context, c *config.Config) (*Found, error) {
	f, err := again(ctx, c)
	if err == nil && f != nil && len(f.guessed) > 0 {
		return nil, fmt.Errorf("the container engine does not answer, so the place of volume %s is not known", strings.Join(f.guessed, ", "))
	}
	return f, err
}

// again is Again that takes guesses.
func again(ctx context.Context, c *config.Config) (*Found, error) {
	switch ctl := c.Control; ctl.Type {
	case "compose":
		return Compose(ctx, ComposeOptions{
			Dir: ctl.ProjectDir, Files: ctl.Files, Project: ctl.Project, Service: ctl.Service,
			Command: ctl.Compose, EngineHost: ctl.EngineHost,
		})
	case "systemd":
		return Systemd(ctx, ctl.Unit)
	case "docker", "podman":
		return container(ctx, ContainerOptions{Name: ctl.Container, Type: ctl.Type, Engine: ctl.Engine, EngineHost: ctl.EngineHost}, false)
	}
	return nil, nil
}

// Drift lists in which ways the instance as it is deployed now (found) is not what
// the configuration says. Whatever is in the list would be missing in a backup, or
// wrong. Paths that are the same through symbolic links are the same.
func Drift(conf, found *config.Config) []string {
	var out []string
	differ := func(key, a, b string) {
		if a != b {
			out = append(out, fmt.Sprintf("layout.%s: the configuration says %s, OpenCloud uses %s", key, or(a, "nothing"), or(b, "nothing")))
		}
	}
	a, b := conf.Layout, found.Layout
	differ("driver", string(a.Driver), string(b.Driver))
	differ("config_dir", resolve(a.ConfigDir), resolve(b.ConfigDir))
	differ("data_dir", resolve(a.DataDir), resolve(b.DataDir))
	differ("users_root", resolve(a.UsersRoot), resolve(b.UsersRoot))
	if a.SearchExternal != b.SearchExternal {
		out = append(out, fmt.Sprintf("layout.search_external: the configuration says %t, OpenCloud uses %t", a.SearchExternal, b.SearchExternal))
	} else if !a.SearchExternal {
		differ("search_dir", resolve(a.SearchDir), resolve(b.SearchDir))
	}
	for _, p := range b.SystemPaths {
		if !listed(conf, p) {
			out = append(out, fmt.Sprintf("layout.system_paths: OpenCloud keeps data in %s, which the configuration does not name", p))
		}
	}
	if a.Binary != "" && b.Binary != "" {
		differ("binary", resolve(a.Binary), resolve(b.Binary))
	}
	return append(out, bucketDrift(conf, found)...)
}

// Unlisted lists files of the deployment, as it is now, that the configuration does
// not name. Unlike Drift it is no reason not to make a backup.
func Unlisted(conf, found *config.Config) []string {
	var out []string
	for _, p := range found.Layout.Deployment {
		if !listed(conf, p) {
			out = append(out, p)
		}
	}
	return out
}

// listed tells whether a path belongs to what the configuration has backed up.
func listed(c *config.Config, p string) bool {
	l := c.Layout
	all := slices.Concat([]string{l.ConfigDir, l.DataDir, l.UsersRoot, l.SearchDir}, l.SystemPaths, l.Deployment)
	for _, e := range c.Extra {
		all = append(all, e.Path)
	}
	p = resolve(p)
	return slices.ContainsFunc(all, func(q string) bool {
		if q == "" {
			return false
		}
		q = resolve(q)
		return paths.Within(q, p)
	})
}

// resolve follows symbolic links where it can.
func resolve(p string) string {
	if p == "" {
		return ""
	}
	if r, err := filepath.EvalSymlinks(p); err == nil {
		return r
	}
	return filepath.Clean(p)
}

func or(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

// AskVersion asks the server for its version, unless that is known. It may need the
// instance to run.
func (f *Found) AskVersion(ctx context.Context) {
	ctl, err := control.New(f.Config.Control)
	if err != nil {
		return
	}
	if v, err := control.Version(ctx, ctl); err == nil {
		f.Version = v
	}
}

// fill puts the result of a server's settings into a configuration.
func (f *Found) fill(s *server, r *result) {
	c := f.Config
	c.Layout = r.layout
	c.Ready = r.ready
	c.Bucket, f.keys = r.bucket, s.keys
	c.NotProtected = append(r.notProtected, c.NotProtected...)
	f.Notes = append(f.Notes, s.notes...)
	f.guessed = s.mounts.guessed()
	for _, v := range f.guessed {
		f.Notes = append(f.Notes, fmt.Sprintf("the container engine does not answer: the place of volume %s is a guess", v))
	}
	c.Name = instanceName(r.ready.URL)
	c.SetDefaults()
}

var notInName = regexp.MustCompile(`[^A-Za-z0-9._-]+`)

// instanceName names an instance by the host name of its address, else by that of
// the machine.
func instanceName(address string) string {
	name := ""
	if u, err := url.Parse(address); err == nil {
		name = u.Hostname()
	}
	if name == "" || isLocal(name) {
		name, _ = os.Hostname()
	}
	name = strings.TrimLeft(notInName.ReplaceAllString(name, "-"), "._-")
	return or(name, "opencloud")
}

// ambiguous reports that there are several instances to choose from.
func ambiguous(what, flag string, candidates []string) error {
	slices.Sort(candidates)
	return fail.Usagef("choose one with "+flag, "%s: %s", what, strings.Join(candidates, ", "))
}
