package schedule

import (
	"cmp"
	"embed"
	"encoding/json"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"text/template"
	"time"

	"github.com/ocbackup/ocbackup/config"
	"github.com/ocbackup/ocbackup/opencloud/control"
	"github.com/ocbackup/ocbackup/opencloud/readiness"
	"github.com/ocbackup/ocbackup/paths"
	"github.com/ocbackup/ocbackup/snapshot"
)

//go:embed units
var files embed.FS

var templates = template.Must(template.New("").Funcs(template.FuncMap{
	"command": command, "words": words, "path": specifiers, "join": strings.Join,
}).ParseFS(files, "units/*"))

// data is what the templates of the services are filled with.
type data struct {
	Options
	Name, Backup, Check, Recover string // of the instance, and its units without suffix
	Config, StateDir, Journal    string
	Control                      string
	Managers                     []string // units that OpenCloud is run by
	Mounts, RepoMounts           []string // what must be mounted
	StopSeconds                  int
	Credentials                  []credential
	StateDirectory               string   // relative to /var/lib; empty when it is elsewhere
	Writable                     []string // beside it
	// Outlives tells that OpenCloud becomes a descendant of the unit.
	Outlives bool
	// Wide leaves the sandbox out, since OpenCloud or what commands of the admin's mount
	// would have to live in it.
	Wide          bool
	Freezes       bool // snapshots of file systems are made
	ZFS, LVM      bool // perhaps by these
	PrivateTmp    bool
	InContainer   bool
	SetUser       bool
	ExtraCommands bool
}

// timer is what the template of the timers is filled with.
type timer struct{ Unit, Description, Calendar, Delay string }

type credential struct{ Name, File string }

func (o Options) data() data {
	c := o.Config
	d := data{
		Options: o, Name: c.Name, Config: c.Path, StateDir: c.StateDir, Journal: o.journal(), Control: c.Control.Type,
		Backup: prefix(c.Name) + "-backup", Check: prefix(c.Name) + "-check", Recover: prefix(c.Name) + "-recover",
		Managers: managers(c.Control), StopSeconds: stopSeconds(c),
		Outlives:      c.Control.Type == "command" || c.Control.Type == "podman",
		InContainer:   c.Ready.InContainer && !c.Ready.Off,
		ExtraCommands: slices.ContainsFunc(c.Extra, func(x config.Extra) bool { return len(x.Command) > 0 }),
	}
	driver := cmp.Or(c.Snapshot.Driver, snapshot.Auto)
	d.Wide = d.Outlives || driver == snapshot.Command
	d.Freezes = driver != snapshot.None && !d.Wide
	d.ZFS = d.Freezes && (driver == snapshot.Auto || driver == snapshot.ZFS)
	d.LVM = d.Freezes && (driver == snapshot.Auto || driver == snapshot.LVM)
	d.SetUser = c.Control.Type == "systemd" || d.ExtraCommands
	for _, x := range []credential{
		{config.CredentialPassword, c.Repository.PasswordFile},
		{config.CredentialEnv, c.Repository.EnvFile},
		{config.CredentialBucketEnv, c.Bucket.EnvFile},
		{config.CredentialPoolEnv, c.Pool.EnvFile},
		{config.CredentialPoolPassword, c.Pool.PasswordFile},
	} {
		if x.File != "" {
			d.Credentials = append(d.Credentials, x)
		}
	}
	if rel, ok := strings.CutPrefix(c.StateDir, "/var/lib/"); ok && plain.MatchString(rel) {
		d.StateDirectory = rel
	} else {
		d.Writable = append(d.Writable, c.StateDir)
	}
	repository, _ := config.LocalPath(c.Repository.Location)
	pool, _ := config.LocalPath(c.Pool.Location)
	for _, p := range []string{repository, pool, c.Repository.CacheDir, c.Repository.TempDir} {
		// /dev stays writable.
		if p != "" && !paths.Within("/dev", p) && !slices.ContainsFunc(append(d.Writable, c.StateDir), func(w string) bool { return paths.Within(w, p) }) {
			d.Writable = append(d.Writable, p)
		}
	}
	d.Mounts = o.paths()
	for _, p := range []string{repository, pool} {
		if p != "" {
			d.RepoMounts = append(d.RepoMounts, p)
		}
	}
	d.RepoMounts = append(d.RepoMounts, c.StateDir)
	// A private /tmp hides what the configuration names there.
	text, err := json.Marshal(c)
	d.PrivateTmp = err == nil && !strings.Contains(string(text), "/tmp/") && !paths.Within("/tmp", c.Path) && !paths.Within("/tmp", o.Program)
	return d
}

// plain are paths that need no escaping anywhere.
var plain = regexp.MustCompile(`^[A-Za-z0-9._/-]+$`)

// paths lists the directories that a backup reads and writes, for their mounts to
// be waited for.
func (o Options) paths() []string {
	c := o.Config
	repository, _ := config.LocalPath(c.Repository.Location)
	pool, _ := config.LocalPath(c.Pool.Location)
	list := []string{c.StateDir, repository, pool, c.Layout.ConfigDir, c.Layout.DataDir, c.Layout.UsersRoot, c.Layout.SearchDir}
	list = append(list, c.Layout.SystemPaths...)
	for _, x := range c.Extra {
		list = append(list, x.Path)
	}
	var out []string
	for _, p := range list {
		if filepath.IsAbs(p) && !slices.ContainsFunc(out, func(q string) bool { return paths.Within(q, p) }) {
			out = append(out, p)
		}
	}
	return out
}

// managers are the units that run OpenCloud.
func managers(c control.Config) []string {
	switch c.Type {
	case "systemd":
		return append([]string{c.Unit}, c.AlsoStop...)
	case "compose", "docker":
		return []string{"docker.service"}
	}
	return nil
}

// stopSeconds is how long bringing OpenCloud back may take: a stop that is under
// way, the starts, and until it is ready; and a while on top.
func stopSeconds(c *config.Config) int {
	stop, start := c.Control.Budget()
	ready := cmp.Or(c.Ready.Timeout, readiness.DefaultTimeout)
	return int((stop + start + control.StartTries*ready + time.Minute).Seconds())
}

func render(name string, data any) (string, error) {
	var b strings.Builder
	err := templates.ExecuteTemplate(&b, name, data)
	// An empty list leaves a blank at the end of its line.
	return strings.ReplaceAll(b.String(), " \n", "\n"), err
}

// specifiers escapes a text for settings that are taken as they are, but for
// specifiers (systemd.unit(5)).
func specifiers(s string) string { return strings.ReplaceAll(s, "%", "%%") }

// words joins words for settings that take a list (systemd.syntax(7), "Quoting").
func words(list []string) string {
	out := make([]string, len(list))
	for i, w := range list {
		out[i] = specifiers(quote(w))
	}
	return strings.Join(out, " ")
}

// command is words for command lines, in which variables are replaced, too
// (systemd.service(5), "Command lines").
func command(args ...string) string {
	return strings.ReplaceAll(words(args), "$", "$$")
}

// quote quotes a word for systemd where that is needed.
func quote(s string) string {
	if s != "" && !strings.ContainsAny(s, " \t\"'\\;") {
		return s
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

// span writes a length of time as systemd.time(7) has it.
func span(d time.Duration) string {
	switch {
	case d <= 0:
		return ""
	case d%time.Minute == 0:
		return fmt.Sprintf("%dmin", int(d.Minutes()))
	}
	return fmt.Sprintf("%ds", max(1, int(d.Seconds())))
}
