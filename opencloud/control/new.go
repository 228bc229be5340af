package control

import (
	"cmp"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/ocbackup/ocbackup/fail"
)

// Types lists the values of Config.Type.
var Types = []string{"systemd", "compose", "docker", "podman", "command", "none"}

// New returns the controller that cfg describes. It asks nobody: whether the
// instance is there is Status' answer. Its errors carry fail.Usage and name the
// key of the [control] table that is wrong.
func New(cfg Config) (Controller, error) {
	if cfg.StopTimeout < 0 {
		return nil, wrong("stop_timeout", "must not be negative")
	}
	if cfg.StartTimeout < 0 {
		return nil, wrong("start_timeout", "must not be negative")
	}
	cfg.setDefaults()
	switch cfg.Type {
	case "systemd":
		return newSystemd(cfg)
	case "compose":
		return newCompose(cfg)
	case "docker", "podman":
		return newDocker(cfg)
	case "command":
		return newCommand(cfg)
	case "none":
		return newNone(cfg)
	case "":
		return nil, wrong("type", "is missing: one of "+strings.Join(Types, ", "))
	}
	return nil, wrong("type", "is "+quote(cfg.Type)+": it must be one of "+strings.Join(Types, ", "))
}

// setDefaults sets the time-outs that are not configured.
func (c *Config) setDefaults() {
	c.StopTimeout = cmp.Or(c.StopTimeout, DefaultStopTimeout)
	c.StartTimeout = cmp.Or(c.StartTimeout, DefaultStartTimeout)
}

// wrong is an error about one key of the [control] table.
func wrong(key, what string) error {
	return fail.Usagef("see [control] in the configuration file", "[control] %s %s", key, what)
}

func quote(s string) string { return `"` + s + `"` }

// The names that are handed to managers as arguments. None of them can be taken
// for an option or a pattern.
var (
	unitName      = regexp.MustCompile(`^[A-Za-z0-9:_.\\@][A-Za-z0-9:_.\\@-]*$`)
	containerName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]*$`)
	serviceName   = regexp.MustCompile(`^[A-Za-z0-9._][A-Za-z0-9._-]*$`)
	projectName   = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]*$`)
)

// checkName checks one required name.
func checkName(key, name string, valid *regexp.Regexp) error {
	switch {
	case name == "":
		return wrong(key, "is missing")
	case !valid.MatchString(name):
		return wrong(key, quote(name)+" is no valid name")
	}
	return nil
}

// checkAlso checks also_stop.
func checkAlso(cfg Config, own string, valid *regexp.Regexp) error {
	seen := map[string]bool{own: true}
	for _, name := range cfg.AlsoStop {
		if err := checkName("also_stop", name, valid); err != nil {
			return err
		}
		if seen[name] {
			return wrong("also_stop", "names "+quote(name)+" twice, or it is the instance itself")
		}
		seen[name] = true
	}
	return nil
}

// checkNoAlso refuses also_stop where nothing could stop them.
func checkNoAlso(cfg Config) error {
	if len(cfg.AlsoStop) > 0 {
		return wrong("also_stop", "can't be used with type "+quote(cfg.Type))
	}
	return nil
}

// checkPath checks an optional path that must not depend on where ocbackup is run.
func checkPath(key, path string) error {
	if path != "" && !filepath.IsAbs(path) {
		return wrong(key, quote(path)+" is no absolute path")
	}
	return nil
}

// seconds rounds d up to whole seconds, the unit of the managers' own options.
func seconds(d time.Duration) int {
	return int((d + time.Second - 1) / time.Second)
}
