// Package schedule renders and installs the systemd units that make backups
// happen: a backup and a check by timers, and the recovery of what an interrupted
// run has left, at boot. docs/scheduling.md tells what each unit does and what of
// the system it can reach.
package schedule

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/ocbackup/ocbackup/config"
	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/guard"
	"github.com/ocbackup/ocbackup/paths"
)

// Defaults of Options.
const (
	DefaultBackup = "*-*-* 02:15"
	DefaultCheck  = "Sun *-*-* 05:00"
	DefaultDelay  = 15 * time.Minute
	DefaultNice   = 10
)

// Off as a calendar expression leaves a timer out.
const Off = "off"

// Options say what to schedule, and how.
type Options struct {
	Config  *config.Config // as loaded from Config.Path
	Program string         // ocbackup's own path, absolute

	Backup string // when, as systemd.time(7) "calendar events"; Off: only by hand
	Check  string // when sets are verified, in the same form; Off: never
	// ReadData is the part of the data that each verification reads, as verify.ParsePart
	// takes it; empty: none.
	ReadData string
	// RandomizedDelay spreads the start, so that many machines do not reach one
	// repository at once.
	RandomizedDelay time.Duration
	OnFailure       string // a unit that is started when a backup, a check or a recovery fails

	// Limits of the backup and the check; empty or 0: none.
	MemoryMax string // bytes, with K, M, G, T or %
	CPUQuota  string // percent of one CPU: "150%"
	IOWeight  int    // 1 to 10000, 100 is the default of other units
	Nice      int    // -20 to 19
}

// Unit is one unit file.
type Unit struct {
	Name string `json:"unit"`
	Text string `json:"text"`
}

// timer tells whether a unit is a timer.
func (u Unit) timer() bool { return strings.HasSuffix(u.Name, ".timer") }

// enabled tells whether a unit is to be enabled: timers, and what runs at boot.
func (u Unit) enabled() bool { return strings.Contains(u.Text, "\n[Install]\n") }

// Plan is what is to be installed.
type Plan struct {
	Units []Unit `json:"units"`
	// Warnings tell what an admin should know or change before relying on it.
	Warnings []string `json:"warnings,omitempty"`
	// pool is the directory of a pool on this machine: the units' sandbox wants it to
	// be there, also before the first backup fills it.
	pool string
}

// prefix is what the names of an instance's units begin with. Names of instances
// consist of letters, digits, dots, dashes and underscores, as those of units may.
func prefix(instance string) string { return "ocbackup-" + instance }

// names are the names of all units that an instance may have.
func names(instance string) []string {
	p := prefix(instance)
	return []string{p + "-backup.timer", p + "-check.timer", p + "-backup.service", p + "-check.service", p + "-recover.service"}
}

// Render renders the units of an instance. Its errors carry fail.Usage.
func Render(o Options) (*Plan, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	d := o.data()
	pool, _ := config.LocalPath(o.Config.Pool.Location)
	plan := &Plan{Warnings: o.warnings(), pool: pool}
	add := func(name, template string, data any) error {
		text, err := render(template, data)
		if err != nil {
			return fmt.Errorf("render %s: %w", name, err)
		}
		plan.Units = append(plan.Units, Unit{name, text})
		return nil
	}
	type unit struct {
		name, template string
		data           any
	}
	units := []unit{{d.Backup + ".service", "backup.service", d}, {d.Recover + ".service", "recover.service", d}}
	if o.Backup != Off {
		units = append(units, unit{d.Backup + ".timer", "timer", timer{
			d.Backup, "Back up OpenCloud (" + d.Name + ") at " + specifiers(o.Backup), o.Backup, span(o.RandomizedDelay),
		}})
	}
	if o.Check != Off {
		check := d
		check.Freezes = false
		units = append(units, unit{d.Check + ".service", "check.service", check}, unit{d.Check + ".timer", "timer", timer{
			d.Check, "Verify the backups of OpenCloud (" + d.Name + ") at " + specifiers(o.Check), o.Check, span(o.RandomizedDelay),
		}})
	}
	for _, u := range units {
		if err := add(u.name, u.template, u.data); err != nil {
			return nil, err
		}
	}
	return plan, nil
}

var (
	memory   = regexp.MustCompile(`^([0-9]+[KMGT%]?|infinity)$`)
	percent  = regexp.MustCompile(`^[0-9]+%$`)
	unitName = regexp.MustCompile(`^[A-Za-z0-9:_.\\@%-]+\.(service|target)$`)
)

// check makes sure of what systemd would only warn about, long after the install.
func (o Options) check() error {
	bad := func(flag, value, want string) error {
		return fail.Usagef("use "+want, "--%s %q", flag, value)
	}
	c := o.Config
	switch {
	case c.Name == "":
		return fail.Usagef(`set "name" in the configuration`, "the instance has no name")
	case !filepath.IsAbs(o.Program), !filepath.IsAbs(c.Path), !filepath.IsAbs(c.StateDir):
		return fail.Usagef("give absolute paths", "program (%s), configuration (%s) and state directory (%s) must be known by absolute paths", o.Program, c.Path, c.StateDir)
	case strings.TrimSpace(o.Backup) == "" || strings.ContainsAny(o.Backup, "\r\n"):
		return bad("backup", o.Backup, `a calendar event of systemd.time(7), or "off"`)
	case strings.TrimSpace(o.Check) == "" || strings.ContainsAny(o.Check, "\r\n"):
		return bad("check", o.Check, `a calendar event of systemd.time(7), or "off"`)
	case o.RandomizedDelay < 0:
		return bad("randomized-delay", o.RandomizedDelay.String(), "15m")
	case o.MemoryMax != "" && !memory.MatchString(o.MemoryMax):
		return bad("memory-max", o.MemoryMax, "2G, or 50%")
	case o.CPUQuota != "" && !percent.MatchString(o.CPUQuota):
		return bad("cpu-quota", o.CPUQuota, "100% for one CPU")
	case o.IOWeight < 0 || o.IOWeight > 10000:
		return bad("io-weight", fmt.Sprint(o.IOWeight), "1 to 10000")
	case o.Nice < -20 || o.Nice > 19:
		return bad("nice", fmt.Sprint(o.Nice), "-20 to 19")
	case o.OnFailure != "" && !unitName.MatchString(o.OnFailure):
		return bad("on-failure", o.OnFailure, "the name of a service or target: alert@%n.service")
	}
	for _, p := range append(o.paths(), o.Program, c.Path) {
		if strings.ContainsAny(p, "\r\n") {
			return fail.Usagef("rename it", "a unit file can't hold the path %q", p)
		}
	}
	return nil
}

// warnings tell what the units can't make up for.
func (o Options) warnings() []string {
	var w []string
	c := o.Config
	switch c.Control.Type {
	case "command":
		w = append(w, "[control] type \"command\": what its start command leaves running becomes part of the backup unit, with its limits. "+
			"Better have the command hand OpenCloud over to a manager (systemd-run, systemctl), or use type \"systemd\"")
	case "podman":
		w = append(w, "[control] type \"podman\": podman starts containers itself, so the units have no sandbox. "+
			"Better run the container as a systemd unit (podman-systemd.unit(5)) and use type \"systemd\"")
	}
	if c.Repository.PasswordFile == "" && c.Repository.PasswordCommand == "" {
		w = append(w, "the configuration names no password_file: variables of your shell (RESTIC_PASSWORD, OCBACKUP_*) are not there when a timer runs a backup")
	}
	if paths.Within("/home", o.Program) || paths.Within("/root", o.Program) || paths.Within("/tmp", o.Program) {
		w = append(w, "the units run "+o.Program+": install ocbackup where only root can replace it, in /usr/local/bin")
	}
	return w
}

// journal is the file whose presence says that a recovery is due.
func (o Options) journal() string { return filepath.Join(o.Config.StateDir, guard.JournalName) }
