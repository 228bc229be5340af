package control

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/ocbackup/ocbackup/fail"
)

func TestNewNamesTheWrongKey(t *testing.T) {
	run := []string{"true"}
	for _, tt := range []struct {
		key string
		cfg Config
	}{
		{"type", Config{}},
		{"type", Config{Type: "kubernetes"}},
		{"stop_timeout", Config{Type: "none", StopTimeout: -1}},
		{"start_timeout", Config{Type: "none", StartTimeout: -1}},
		{"unit", Config{Type: "systemd"}},
		{"unit", Config{Type: "systemd", Unit: "--help"}},
		{"unit", Config{Type: "systemd", Unit: "open*"}},
		{"also_stop", Config{Type: "systemd", Unit: "a", AlsoStop: []string{"a"}}},
		{"also_stop", Config{Type: "systemd", Unit: "a", AlsoStop: []string{"b", "b"}}},
		{"also_stop", Config{Type: "systemd", Unit: "a", AlsoStop: []string{""}}},
		{"service", Config{Type: "compose", Project: "p"}},
		{"project_dir", Config{Type: "compose", Service: "s"}},
		{"project_dir", Config{Type: "compose", Service: "s", ProjectDir: "srv"}},
		{"project", Config{Type: "compose", Service: "s", Project: "No Such"}},
		{"files", Config{Type: "compose", Service: "s", Files: []string{"compose.yaml"}}},
		{"compose", Config{Type: "compose", Service: "s", Project: "p", Compose: []string{""}}},
		{"also_stop", Config{Type: "compose", Service: "s", Project: "p", AlsoStop: []string{"-x"}}},
		{"container", Config{Type: "docker"}},
		{"container", Config{Type: "podman", Container: "-a"}},
		{"start", Config{Type: "command", Stop: run, Status: run}},
		{"stop", Config{Type: "command", Start: run, Status: run}},
		{"status", Config{Type: "command", Start: run, Stop: run}},
		{"exec", Config{Type: "command", Start: run, Stop: run, Status: run, Exec: []string{""}}},
		{"also_stop", Config{Type: "command", Start: run, Stop: run, Status: run, AlsoStop: []string{"b"}}},
		{"also_stop", Config{Type: "none", AlsoStop: []string{"b"}}},
	} {
		_, err := New(tt.cfg)
		if err == nil || !strings.Contains(err.Error(), "[control] "+tt.key+" ") || fail.CodeOf(err) != fail.Usage {
			t.Errorf("%+v: error %v, want one about %s", tt.cfg, err, tt.key)
		}
	}
}

func TestNewNamesTheInstance(t *testing.T) {
	run := []string{"/srv/oc/start"}
	for want, cfg := range map[string]Config{
		"systemd unit opencloud.service":                {Type: "systemd", Unit: "opencloud.service"},
		"compose project oc, service opencloud":         {Type: "compose", Project: "oc", Service: "opencloud"},
		"compose project in /srv/oc, service opencloud": {Type: "compose", ProjectDir: "/srv/oc", Service: "opencloud"},
		"docker container oc":                           {Type: "docker", Container: "oc"},
		"podman container oc":                           {Type: "podman", Container: "oc"},
		"the instance behind /srv/oc/start":             {Type: "command", Start: run, Stop: run, Status: run},
		"an instance without control":                   {Type: "none"},
	} {
		c, err := New(cfg)
		if err != nil || c.String() != want {
			t.Errorf("%q, %v, want %q", c, err, want)
		}
	}
}

func TestNone(t *testing.T) {
	c, err := New(Config{Type: "none"})
	if err != nil {
		t.Fatal(err)
	}
	if st, err := c.Status(t.Context()); err != nil || st.State != Stopped {
		t.Errorf("status %+v, %v", st, err)
	}
	if err := errors.Join(c.Stop(t.Context()), c.Start(t.Context(), nil)); err != nil {
		t.Error(err)
	}
	if _, err := Version(t.Context(), c); !errors.Is(err, ErrNoExec) {
		t.Errorf("version: %v", err)
	}
}

func TestBudget(t *testing.T) {
	stop, start := Config{StopTimeout: time.Minute, StartTimeout: 2 * time.Minute, AlsoStop: []string{"a", "b"}}.Budget()
	if stop < 3*time.Minute || start < stop+2*3*2*time.Minute {
		t.Errorf("stop %s, start %s", stop, start)
	}
	if stop, start := (Config{}).Budget(); stop < DefaultStopTimeout || start < 2*DefaultStartTimeout {
		t.Errorf("without configuration: stop %s, start %s", stop, start)
	}
}
