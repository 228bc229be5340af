package restore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ocbackup/ocbackup/config"
	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/manifest"
	"github.com/ocbackup/ocbackup/opencloud"
	"github.com/ocbackup/ocbackup/opencloud/control"
	"github.com/ocbackup/ocbackup/paths"
)

// configName is the configuration among the files beside the manifest.
const configName = "ocbackup.toml"

// findInstance finds out how the instance is run: from the configuration file, or
// on a bare host from the set.
func (r *run) findInstance(ctx context.Context) error {
	if r.Config != nil {
		c := *r.Config
		r.cfg = &c
	} else {
		c, err := r.storedConfig(ctx)
		if err != nil {
			return err
		}
		r.cfg = r.maps.config(*c)
		r.cfg.Repository = r.Bare
		r.dropAbsentSecrets()
	}
	if r.StateDir != "" {
		r.cfg.StateDir = r.StateDir
	}
	return nil
}

// storedConfig reads the configuration that was stored with the set. A set without
// one has the essential in its manifest.
func (r *run) storedConfig(ctx context.Context) (*config.Config, error) {
	m := r.set.Manifest
	fallback := &config.Config{Name: m.Instance, Layout: m.Layout, Control: m.Control}
	fallback.SetDefaults()
	text, err := manifest.File(ctx, r.Repo, r.set, configName)
	if errors.Is(err, fs.ErrNotExist) {
		r.note("The set holds no " + configName + ": how to see that the server is ready is guessed.")
		return fallback, nil
	}
	if err != nil {
		return nil, r.Repo.Failure(err, "read the stored configuration")
	}
	dir, err := os.MkdirTemp("", "ocbackup-config-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // left-over temporary files are no reason to fail
	path := filepath.Join(dir, configName)
	if err := os.WriteFile(path, text, 0o600); err != nil {
		return nil, err
	}
	c, err := config.Load(path)
	if err != nil {
		r.note("The stored " + configName + " can't be used (" + err.Error() + "); the manifest alone is followed.")
		return fallback, nil
	}
	c.Path = ""
	return c, nil
}

// dropAbsentSecrets forgets secrets that readiness was checked with on the old host
// and that are not there on this one.
func (r *run) dropAbsentSecrets() {
	ready := &r.cfg.Ready
	if ready.TokenFile != "" && !paths.Exists(ready.TokenFile) {
		r.note(ready.TokenFile + " (ready.token_file) is not on this host: readiness is checked without it.")
		ready.TokenFile = ""
	}
	if ready.PasswordFile != "" && !paths.Exists(ready.PasswordFile) {
		r.note(ready.PasswordFile + " (ready.password_file) is not on this host: readiness is checked without it.")
		ready.User, ready.PasswordFile = "", ""
	}
}

// writeConfig writes the configuration back on a bare host.
func (r *run) writeConfig() error {
	if r.Config != nil || r.ConfigPath == "" || paths.Exists(r.ConfigPath) {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(r.ConfigPath), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(r.ConfigPath, config.Render(r.cfg), 0o600); err != nil {
		return err
	}
	r.note("The configuration was written to " + r.ConfigPath + "; run \"ocbackup doctor\", then \"ocbackup schedule install\".")
	return nil
}

// checkPlaces makes sure that the set goes to where the instance looks for it.
func (r *run) checkPlaces(context.Context) error {
	if r.Config == nil {
		return r.checkRenames()
	}
	was, is := r.set.Manifest.Layout, r.cfg.Layout
	var lines, maps []string
	for _, p := range []struct {
		what     string
		was, is  string
		relevant bool
	}{
		{"config directory", was.ConfigDir, is.ConfigDir, r.has(opencloud.Config)},
		{"data directory", was.DataDir, is.DataDir, r.has(opencloud.System)},
		{"storage root", was.UsersRoot, is.UsersRoot, r.has(opencloud.Metadata) || r.has(opencloud.Blobs)},
		{"search index directory", was.SearchDir, is.SearchDir, r.has(opencloud.Search)},
	} {
		if !p.relevant || p.was == "" || p.is == "" {
			continue
		}
		a, err := resolve(r.maps.path(p.was))
		if err != nil {
			return err
		}
		b, err := resolve(p.is)
		if err != nil {
			return err
		}
		if a != b {
			lines = append(lines, fmt.Sprintf("the %s of the set is %s, that of the instance is %s", p.what, p.was, p.is))
			maps = append(maps, "--map "+p.was+"="+p.is)
		}
	}
	if len(lines) > 0 {
		return fail.Usagef("say that they are to be moved: "+strings.Join(maps, " "), "%s", strings.Join(lines, "\n"))
	}
	return r.checkRenames()
}

// checkRenames makes sure that what is restored can be put in its place by renaming.
func (r *run) checkRenames() error {
	if r.InPlace {
		return nil // nothing is renamed
	}
	return r.checkMounts()
}

// has tells whether a component is restored.
func (r *run) has(c opencloud.Component) bool {
	return slices.ContainsFunc(r.items, func(it *item) bool { return it.Has(c) })
}

// checkState finds out whether the instance runs, and that it can be asked.
func (r *run) checkState(ctx context.Context) error {
	var err error
	if r.ctl, err = control.New(r.cfg.Control); err != nil {
		return fail.Wrap(fail.Usage, err, "", "correct [control] in the configuration")
	}
	r.before, err = r.ctl.Status(ctx)
	if err != nil && r.deploymentGone() {
		// What runs it has yet to be restored. The locks tell if it runs nevertheless.
		r.note("Whether OpenCloud runs could not be found out, so it is taken for absent: " + err.Error())
		r.before = control.Status{State: control.Absent, Also: r.cfg.Control.AlsoStop}
		return nil
	}
	if err != nil {
		return fail.Wrap(fail.Failed, err, "ask for the state of "+r.ctl.String(), "see \"ocbackup doctor\"")
	}
	switch r.before.State {
	case control.Changing:
		// The usual look of a server whose data are gone: it is started over and over.
		r.note(fmt.Sprintf("%s is starting or stopping right now (%s); it is stopped before its data are replaced.", r.ctl, r.before.Detail))
		r.before.State, r.ailing = control.Running, true
	case control.Absent:
		r.before.Also = r.cfg.Control.AlsoStop
	}
	if r.held != nil {
		r.before.Also = r.held.Also
	}
	return nil
}

// deploymentGone tells whether the files that say how the instance is run are
// missing, and restored: compose files, scripts.
func (r *run) deploymentGone() bool {
	if r.Config == nil {
		return true
	}
	return r.has(opencloud.Config) && slices.ContainsFunc(r.cfg.Layout.Deployment, func(p string) bool { return !paths.Exists(p) })
}

// noStart tells whether the instance is left stopped.
func (r *run) noStart() bool { return r.NoStart || r.cfg.Control.Type == "none" }
