package discover

import (
	"path/filepath"

	"github.com/ocbackup/ocbackup/config"
	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/opencloud/control"
	"github.com/ocbackup/ocbackup/paths"
)

// PathsOptions say where an instance keeps what that nobody manages whom ocbackup
// can ask.
type PathsOptions struct {
	ConfigDir, DataDir string
	Driver             string // empty: what is set in OpenCloud's configuration, or lies on disk
	// Env holds more of OpenCloud's settings, by the names of its environment variables.
	Env map[string]string
	// Start, Stop, Status and Exec are commands, as in control.Config; without them
	// the instance can't be stopped.
	Start, Stop, Status, Exec []string
}

// Paths makes an instance of given paths.
func Paths(o PathsOptions) (*Found, error) {
	f := &Found{Config: &config.Config{Control: control.Config{Type: "none"}}}
	if len(o.Start)+len(o.Stop)+len(o.Status) > 0 {
		f.Config.Control = control.Config{Type: "command", Start: o.Start, Stop: o.Stop, Status: o.Status, Exec: o.Exec}
	} else {
		f.Notes = append(f.Notes, "nobody is named who can stop and start OpenCloud: backups are only taken while it is stopped")
	}
	env := map[string]string{}
	for k, v := range o.Env {
		env[k] = v
	}
	if o.Driver != "" {
		env["STORAGE_USERS_DRIVER"] = o.Driver
	}
	s := &server{env: env, mounts: onHost}
	for _, d := range []struct {
		flag, path string
		to         *string
	}{{"--config-dir", o.ConfigDir, &s.configDir}, {"--data-dir", o.DataDir, &s.dataDir}} {
		if d.path == "" {
			return nil, fail.Usagef("", "%s is missing: --config-dir and --data-dir go together", d.flag)
		}
		dir, err := filepath.Abs(d.path)
		if err != nil {
			return nil, err
		}
		if !paths.IsDir(dir) {
			return nil, fail.Usagef("", "%s: there is no directory %s", d.flag, dir)
		}
		*d.to = dir
	}
	r, err := s.resolve()
	if err != nil {
		return nil, err
	}
	f.fill(s, r)
	return f, nil
}
