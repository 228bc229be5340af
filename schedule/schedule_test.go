package schedule

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ocbackup/ocbackup/config"
	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/integration/env"
	"github.com/ocbackup/ocbackup/opencloud"
	"github.com/ocbackup/ocbackup/opencloud/control"
	"github.com/ocbackup/ocbackup/opencloud/readiness"
	"github.com/ocbackup/ocbackup/snapshot"
)

// options are what "schedule install" has without flags, for an instance run by systemd.
func options(t *testing.T) Options {
	t.Helper()
	program, err := os.Executable()
	must(t, err)
	return Options{
		Config: &config.Config{
			Name: "cloud.example.com", Path: "/etc/ocbackup/ocbackup.toml", StateDir: "/var/lib/ocbackup/cloud.example.com",
			Layout:     opencloud.Layout{ConfigDir: "/etc/opencloud", DataDir: "/var/lib/opencloud", UsersRoot: "/var/lib/opencloud/storage/users"},
			Control:    control.Config{Type: "systemd", Unit: "opencloud.service"},
			Repository: config.Repository{Location: "/srv/backup", PasswordFile: "/etc/ocbackup/password"},
		},
		Program: program, Backup: DefaultBackup, Check: DefaultCheck, RandomizedDelay: DefaultDelay, Nice: DefaultNice,
	}
}

// variants are instances whose units differ.
func variants(t *testing.T) map[string]Options {
	t.Helper()
	list := map[string]Options{}
	add := func(name string, change func(*Options, *config.Config)) {
		o := options(t)
		change(&o, o.Config)
		list[name] = o
	}
	add("systemd", func(*Options, *config.Config) {})
	add("compose in a container's network", func(_ *Options, c *config.Config) {
		c.Control, c.Ready = control.Config{Type: "compose"}, readiness.Config{InContainer: true}
	})
	add("docker, repository elsewhere", func(_ *Options, c *config.Config) {
		c.Control = control.Config{Type: "docker", Container: "opencloud"}
		c.Repository = config.Repository{Location: "s3:https://s3.example.com/backup", PasswordFile: "/etc/ocbackup/password", EnvFile: "/etc/ocbackup/env"}
	})
	add("podman", func(_ *Options, c *config.Config) { c.Control = control.Config{Type: "podman", Container: "opencloud"} })
	add("command", func(_ *Options, c *config.Config) {
		c.Control = control.Config{Type: "command", Start: []string{"/usr/local/bin/start"}}
	})
	add("all options", func(o *Options, c *config.Config) {
		o.MemoryMax, o.CPUQuota, o.IOWeight, o.Nice, o.OnFailure = "50%", "150%", 20, -3, "alert@%n.service"
		o.RandomizedDelay, o.ReadData = 90*time.Second, "next/10"
		c.Extra = []config.Extra{{Name: "keycloak", Command: []string{"pg_dump"}}}
	})
	add("no snapshots", func(_ *Options, c *config.Config) { c.Snapshot.Driver = snapshot.None })
	add("btrfs", func(_ *Options, c *config.Config) { c.Snapshot.Driver = snapshot.Btrfs })
	add("snapshots by command", func(_ *Options, c *config.Config) { c.Snapshot.Driver = snapshot.Command })
	add("odd paths", func(_ *Options, c *config.Config) {
		c.Path = `/etc/my "oc" 100%/$HOME.toml`
		c.StateDir = `/srv/state 100%`
		c.Repository = config.Repository{Location: `local:/srv/my\backup; 100%`, PasswordFile: `/etc/pass word%`, TempDir: "/tmp/packs"}
		c.Layout.DataDir = "/srv/data; 100%"
	})
	return list
}

// unit returns the text of a unit in the plan for o.
func unit(t *testing.T, o Options, suffix string) string {
	t.Helper()
	p, err := Render(o)
	must(t, err)
	i := slices.IndexFunc(p.Units, func(u Unit) bool { return strings.HasSuffix(u.Name, suffix) })
	if i < 0 {
		t.Fatalf("there is no unit %s", suffix)
	}
	return p.Units[i].Text
}

// TestSystemdAnalyze has systemd itself read the units: no warnings, and an
// exposure that systemd calls OK (below 5.0).
func TestSystemdAnalyze(t *testing.T) {
	_, err := exec.LookPath("systemd-analyze")
	env.Need(t, err)
	exposure := regexp.MustCompile(`Overall exposure level for .*: ([0-9.]+)`)
	for name, o := range variants(t) {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			p, err := Render(o)
			must(t, err)
			verify := []string{"verify"}
			for _, u := range p.Units {
				path := filepath.Join(dir, u.Name)
				must(t, os.WriteFile(path, []byte(u.Text), 0o600))
				verify = append(verify, path)
			}
			out, err := exec.Command("systemd-analyze", verify...).CombinedOutput()
			if err != nil || len(out) > 0 {
				t.Errorf("systemd-analyze verify: %v\n%s", err, out)
			}
			for _, path := range verify[1:] {
				// OpenCloud itself, or commands of the admin's, run in these units, so they have no sandbox.
				wide := (o.Config.Control.Type == "podman" || o.Config.Control.Type == "command" || o.Config.Snapshot.Driver == snapshot.Command) && !strings.Contains(path, "-check.")
				if !strings.HasSuffix(path, ".service") || wide {
					continue
				}
				out, err := exec.Command("systemd-analyze", "security", "--offline=yes", "--no-pager", path).CombinedOutput()
				m := exposure.FindSubmatch(out)
				if m == nil {
					t.Fatalf("systemd-analyze security: %v\n%s", err, out)
				}
				if level, err := strconv.ParseFloat(string(m[1]), 64); err != nil || level >= 5 {
					t.Errorf("%s: exposure %s\n%s", filepath.Base(path), m[1], out)
				}
			}
		})
	}
}

// TestEscaping compares what becomes of odd paths with what systemd.syntax(7) and
// systemd.service(5) want.
func TestEscaping(t *testing.T) {
	text := unit(t, variants(t)["odd paths"], "-backup.service")
	for _, want := range []string{
		`--config "/etc/my \"oc\" 100%%/$$HOME.toml" --state-dir "/srv/state 100%%" backup` + "\n",
		`ReadWritePaths="/srv/state 100%%" "/srv/my\\backup; 100%%" /tmp/packs` + "\n",
		"LoadCredential=password:/etc/pass word%%\n",
		`RequiresMountsFor="/srv/state 100%%" "/srv/my\\backup; 100%%" /etc/opencloud "/srv/data; 100%%" /var/lib/opencloud/storage/users` + "\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if strings.Contains(text, "PrivateTmp=yes") {
		t.Error("a private /tmp hides temp_dir")
	}
	if !strings.Contains(text, "ReadWritePaths=/tmp /var/tmp\n") {
		t.Error("there is no place for temporary files")
	}
	if text := unit(t, variants(t)["odd paths"], "-recover.service"); !strings.Contains(text, "ConditionPathExists=/srv/state 100%%/journal.json\n") {
		t.Errorf("the condition is wrong:\n%s", text)
	}
}

// TestUnits looks for what each variant needs, and must not have.
func TestUnits(t *testing.T) {
	all := variants(t)
	for _, c := range []struct {
		variant, unit string
		has, lacks    []string
	}{
		{"systemd", "-backup.service", []string{
			"StateDirectory=ocbackup/cloud.example.com\n", "ReadWritePaths=/srv/backup\n", "After=network-online.target opencloud.service\n",
			"CAP_SETUID", "KillMode=mixed", "RestrictNamespaces=yes", "ExecStopPost=", "Wants=ocbackup-cloud.example.com-recover.service\n", "TimeoutStopSec=720\n",
			"CAP_SYS_ADMIN", "@system-service @mount\n", "RuntimeDirectory=ocbackup\n", "RuntimeDirectoryPreserve=yes\n", "DeviceAllow=block-* rw\n",
			"DeviceAllow=/dev/zfs rw\n", "DeviceAllow=/dev/mapper/control rw\n", "ReadWritePaths=-/run/lock ", "Wants=modprobe@dm_snapshot.service ",
		}, []string{"MemoryMax", "PrivateDevices=yes"}},
		{"systemd", "-recover.service", []string{"CAP_SYS_ADMIN", "@system-service @mount\n", "DeviceAllow=block-* rw\n"}, []string{"PrivateDevices=yes"}},
		{"no snapshots", "-backup.service", []string{"PrivateDevices=yes\n"}, []string{"CAP_SYS_ADMIN", "@mount", "RuntimeDirectory", "DeviceAllow", "lvm", "modprobe"}},
		{"no snapshots", "-recover.service", []string{"PrivateDevices=yes\n"}, []string{"CAP_SYS_ADMIN", "@mount", "DeviceAllow"}},
		{"btrfs", "-backup.service", []string{"CAP_SYS_ADMIN", "DeviceAllow=block-* rw\n"}, []string{"/dev/zfs", "/dev/mapper", "lvm", "CAP_SYS_NICE", "modprobe"}},
		{"snapshots by command", "-backup.service", []string{"KillMode=mixed", "commands of [snapshot]"}, []string{"ProtectSystem=strict", "CapabilityBoundingSet", "NoNewPrivileges"}},
		{"systemd", "-recover.service", []string{"ConditionPathExists=/var/lib/ocbackup/cloud.example.com/journal.json\n", "WantedBy=multi-user.target"}, []string{"\nProtectSystem="}},
		{"systemd", "-backup.timer", []string{"OnCalendar=*-*-* 02:15\n", "RandomizedDelaySec=15min\n", "Persistent=true\n"}, nil},
		{"all options", "-check.service", []string{" verify --read-data next/10\n"}, nil},
		{"systemd", "-check.service", []string{" verify\n", "ProtectProc=invisible", "PrivateDevices=yes\n"}, []string{"@mount", "DeviceAllow", "CAP_SYS", "CAP_SETUID", "ExecStopPost"}},
		{"compose in a container's network", "-backup.service", []string{"CAP_SYS_ADMIN", "RestrictNamespaces=net", "After=network-online.target docker.service\n"}, []string{"CAP_SETUID"}},
		{"docker, repository elsewhere", "-backup.service", []string{"LoadCredential=env:/etc/ocbackup/env\n"}, []string{"ReadWritePaths=/s"}},
		{"command", "-backup.service", []string{"KillMode=process"}, []string{"ProtectSystem=strict", "CapabilityBoundingSet", "NoNewPrivileges"}},
		{"all options", "-backup.service", []string{"MemoryMax=50%\n", "CPUQuota=150%\n", "IOWeight=20\n", "Nice=-3\n", "OnFailure=alert@%n.service\n", "CAP_SETUID"}, nil},
		{"all options", "-backup.timer", []string{"RandomizedDelaySec=90s\n"}, nil},
	} {
		text := unit(t, all[c.variant], c.unit)
		for _, s := range c.has {
			if !strings.Contains(text, s) {
				t.Errorf("%s, %s: no %q in\n%s", c.variant, c.unit, s, text)
			}
		}
		for _, s := range c.lacks {
			if strings.Contains(text, s) {
				t.Errorf("%s, %s: %q in\n%s", c.variant, c.unit, s, text)
			}
		}
	}
}

func TestOff(t *testing.T) {
	o := options(t)
	o.Backup, o.Check = Off, Off
	p, err := Render(o)
	must(t, err)
	if len(p.Units) != 2 {
		t.Errorf("got %v", p.Units)
	}
}

func TestWarnings(t *testing.T) {
	for name, change := range map[string]func(*Options){
		"systemd-run":      func(o *Options) { o.Config.Control.Type = "command" },
		"podman-systemd":   func(o *Options) { o.Config.Control.Type = "podman" },
		"no password_file": func(o *Options) { o.Config.Repository.PasswordFile = "" },
		"/usr/local/bin":   func(o *Options) { o.Program = "/home/me/ocbackup" },
	} {
		o := options(t)
		o.Program = "/usr/bin/ocbackup"
		p, err := Render(o)
		must(t, err)
		if len(p.Warnings) > 0 {
			t.Errorf("warnings without a reason: %q", p.Warnings)
		}
		change(&o)
		p, err = Render(o)
		must(t, err)
		if len(p.Warnings) != 1 || !strings.Contains(p.Warnings[0], name) {
			t.Errorf("%s: got %q", name, p.Warnings)
		}
	}
}

func TestBadOptions(t *testing.T) {
	for name, change := range map[string]func(*Options){
		"memory-max":       func(o *Options) { o.MemoryMax = "much" },
		"cpu-quota":        func(o *Options) { o.CPUQuota = "2" },
		"io-weight":        func(o *Options) { o.IOWeight = 10001 },
		"nice":             func(o *Options) { o.Nice = 20 },
		"on-failure":       func(o *Options) { o.OnFailure = "alert.service\nExecStart=/bin/sh" },
		"backup":           func(o *Options) { o.Backup = "daily\n[Service]" },
		"check":            func(o *Options) { o.Check = " " },
		"randomized-delay": func(o *Options) { o.RandomizedDelay = -time.Second },
		"no name":          func(o *Options) { o.Config.Name = "" },
		"absolute":         func(o *Options) { o.Config.StateDir = "state" },
		"can't hold":       func(o *Options) { o.Config.Layout.DataDir = "/srv/a\nb" },
	} {
		o := options(t)
		change(&o)
		if _, err := Render(o); fail.CodeOf(err) != fail.Usage || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: error is %v", name, err)
		}
	}
}

func TestCheckCalendar(t *testing.T) {
	_, err := exec.LookPath("systemd-analyze")
	env.Need(t, err)
	for _, good := range []string{DefaultBackup, DefaultCheck, "Mon..Fri 03:00", "daily", Off} {
		must(t, CheckCalendar(context.Background(), "backup", good))
	}
	for _, bad := range []string{"at night", "25:00", "-h"} {
		if err := CheckCalendar(context.Background(), "backup", bad); fail.CodeOf(err) != fail.Usage || !strings.Contains(err.Error(), "--backup") {
			t.Errorf("%q: error is %v", bad, err)
		}
	}
	t.Setenv("PATH", t.TempDir())
	must(t, CheckCalendar(context.Background(), "backup", "no systemd here"))
}

// TestInstallElsewhere writes to a directory that systemd does not look at.
func TestInstallElsewhere(t *testing.T) {
	t.Setenv("PATH", t.TempDir()) // there is no systemctl to be called
	dir, o := t.TempDir(), options(t)
	must(t, os.WriteFile(filepath.Join(dir, "other.service"), nil, 0o600))
	install := func() *Result {
		p, err := Render(o)
		must(t, err)
		r, err := Install(context.Background(), dir, o.Config.Name, p)
		must(t, err)
		return r
	}
	if r := install(); len(r.Written) != 5 || r.Active {
		t.Errorf("first: %+v", r)
	}
	if r := install(); len(r.Unchanged) != 5 || len(r.Written) != 0 {
		t.Errorf("again: %+v", r)
	}
	o.Check, o.Backup = Off, "daily"
	if r := install(); fmt.Sprint(r.Written) != "[ocbackup-cloud.example.com-backup.timer]" || len(r.Removed) != 2 || len(r.Unchanged) != 2 {
		t.Errorf("changed: %+v", r)
	}
	list, err := Show(context.Background(), dir, o.Config.Name)
	must(t, err)
	if len(list) != 5 || !list[0].Installed || list[0].Calendar != "daily" || list[1].Installed {
		t.Errorf("show: %+v", list)
	}
	r, err := Remove(context.Background(), dir, o.Config.Name)
	must(t, err)
	left, err := os.ReadDir(dir)
	must(t, err)
	if len(r.Removed) != 3 || len(left) != 1 {
		t.Errorf("removed: %+v, left: %v", r, left)
	}
	if r, err = Remove(context.Background(), dir, o.Config.Name); err != nil || len(r.Removed) != 0 {
		t.Errorf("removed again: %+v, %v", r, err)
	}
}

func TestTimestamp(t *testing.T) {
	if got := timestamp("Tue 2026-11-24 02:25:39 UTC"); got == nil || got.Unix() != 1795487139 {
		t.Errorf("got %v", got)
	}
	for _, none := range []string{"", "n/a", "0"} {
		if got := timestamp(none); got != nil {
			t.Errorf("%q: got %v", none, got)
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
