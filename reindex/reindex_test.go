package reindex

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vmihailenco/msgpack/v5"

	"github.com/ocbackup/ocbackup/config"
	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/guard"
	"github.com/ocbackup/ocbackup/opencloud"
	"github.com/ocbackup/ocbackup/opencloud/control"
	"github.com/ocbackup/ocbackup/opencloud/index"
	"github.com/ocbackup/ocbackup/opencloud/readiness"
	"github.com/ocbackup/ocbackup/progress"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// The ids of the spaces of an instance.
const (
	first    = "11111111-0000-0000-0000-000000000001"
	second   = "22222222-0000-0000-0000-000000000002"
	disabled = "33333333-0000-0000-0000-000000000003"
)

// instance makes a storage root with three spaces, and a server that is a shell
// script: it appends the ids that it is to index to a file, and fails on the one
// that a file names.
func instance(t *testing.T) (cfg *config.Config, indexed func() string, failOn func(id string)) {
	t.Helper()
	t.Setenv("STORAGE_USERS_MOUNT_ID", "")
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "opencloud.yaml"), []byte("storage_users: {mount_id: st}\n"), 0o600))
	for i, id := range []string{first, second, disabled} {
		attrs := map[string][]byte{"user.oc.space.type": []byte("project"), "user.oc.space.name": fmt.Appendf(nil, "Space %d", i+1)}
		if id == disabled {
			attrs["user.oc.dtime"] = []byte("2026-11-23T04:13:23.656930206Z")
		}
		node := filepath.Join(dir, "users/spaces", id[:2], id[2:], "nodes", id[:2], id[2:4], id[4:6], id[6:8], id[8:])
		must(t, os.MkdirAll(node, 0o700))
		b, err := msgpack.Marshal(attrs)
		must(t, err)
		must(t, os.WriteFile(node+".mpk", b, 0o600))
	}
	log, bad := filepath.Join(dir, "indexed"), filepath.Join(dir, "bad")
	script := `[ "$3" = --help ] && { echo "  --force-rescan"; exit 0; }
[ "$1 $2 $3" = "search index --space" ] || exit 9
if [ "$4" = "$(cat ` + bad + ` 2>/dev/null)" ]; then echo "boom" >&2; exit 1; fi
echo "$4" >> ` + log
	cfg = &config.Config{
		Name: "test", StateDir: filepath.Join(dir, "state"),
		Layout:  opencloud.Layout{Driver: opencloud.Decomposed, ConfigDir: dir, UsersRoot: filepath.Join(dir, "users"), SearchDir: filepath.Join(dir, "search")},
		Control: control.Config{Type: "command", Start: []string{"true"}, Stop: []string{"true"}, Status: []string{"true"}, Exec: []string{"sh", "-c", script, "server"}},
		Ready:   readiness.Config{Off: true},
	}
	indexed = func() string {
		b, err := os.ReadFile(log)
		if !errors.Is(err, os.ErrNotExist) {
			must(t, err)
		}
		return strings.Join(strings.Fields(string(b)), " ")
	}
	return cfg, indexed, func(id string) { must(t, os.WriteFile(bad, []byte(id), 0o600)) }
}

func run(t *testing.T, o Options) (*Result, error) {
	t.Helper()
	o.Report, o.retryAfter = progress.Discard, time.Millisecond
	return Run(context.Background(), o)
}

func TestRun(t *testing.T) {
	cfg, indexed, _ := instance(t)
	must(t, index.MarkRequired(cfg.StateDir, index.Marker{Reason: index.Absent}))
	res, err := run(t, Options{Config: cfg})
	must(t, err)
	if got, want := indexed(), "st$"+first+" st$"+second; got != want {
		t.Errorf("indexed %q, want %q", got, want)
	}
	if len(res.Skipped) != 1 || res.Skipped[0].Name != "Space 3" || res.Marker == nil || res.Required {
		t.Errorf("got %+v", res)
	}
	if m, err := index.Required(cfg.StateDir); m != nil || err != nil {
		t.Errorf("marker %+v, %v", m, err)
	}
}

func TestRunWithoutMarkerIndexesAll(t *testing.T) {
	cfg, indexed, _ := instance(t)
	_, err := run(t, Options{Config: cfg})
	must(t, err)
	if got, want := indexed(), "st$"+first+" st$"+second; got != want {
		t.Errorf("indexed %q, want %q", got, want)
	}
}

func TestRunChosenSpaces(t *testing.T) {
	cfg, indexed, _ := instance(t)
	_, err := run(t, Options{Config: cfg, Spaces: []string{second}})
	must(t, err)
	if got, want := indexed(), "st$"+second; got != want {
		t.Errorf("indexed %q, want %q", got, want)
	}
	_, err = run(t, Options{Config: cfg, Spaces: []string{"st$nope"}})
	if _, _, hint := fail.Details(err); fail.CodeOf(err) != fail.Usage || !strings.Contains(hint, "Space 1") {
		t.Errorf("got %v, hint %q", err, hint)
	}
}

func TestRunGoesOnAfterAFailure(t *testing.T) {
	cfg, indexed, failOn := instance(t)
	must(t, index.MarkRequired(cfg.StateDir, index.Marker{Reason: index.Absent}))
	failOn("st$" + first)
	res, err := run(t, Options{Config: cfg})
	if fail.CodeOf(err) != fail.Failed || !strings.Contains(err.Error(), "Space 1") || !strings.Contains(err.Error(), "boom") {
		t.Fatalf("got %v", err)
	}
	if res == nil || len(res.Failed) != 1 || len(res.Indexed) != 1 || !res.Required {
		t.Fatalf("got %+v", res)
	}
	failOn("")
	if _, err = run(t, Options{Config: cfg}); err != nil {
		t.Fatal(err)
	}
	if got, want := indexed(), "st$"+second+" st$"+first; got != want {
		t.Errorf("indexed %q, want %q", got, want)
	}
}

func TestRunRefuses(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*config.Config)
		code   fail.Code
		words  string
	}{
		"stopped":      {func(c *config.Config) { c.Control.Status = []string{"sh", "-c", "exit 3"} }, fail.Failed, "stopped"},
		"not ready":    {func(c *config.Config) { c.Ready = readiness.Config{Address: "127.0.0.1:1", URL: "https://127.0.0.1:1"} }, fail.Failed, "not ready"},
		"no exec":      {func(c *config.Config) { c.Control.Exec = nil }, fail.Usage, "exec"},
		"no control":   {func(c *config.Config) { c.Control = control.Config{Type: "none"} }, fail.Usage, "exec"},
		"no mount id":  {func(c *config.Config) { c.Layout.ConfigDir = c.Layout.UsersRoot }, fail.Failed, "opencloud.yaml"},
		"no such root": {func(c *config.Config) { c.Layout.UsersRoot += "-gone" }, fail.Failed, "users-gone"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg, indexed, _ := instance(t)
			must(t, index.MarkRequired(cfg.StateDir, index.Marker{Reason: index.Absent}))
			tc.change(cfg)
			_, err := run(t, Options{Config: cfg})
			if fail.CodeOf(err) != tc.code || !strings.Contains(err.Error(), tc.words) {
				t.Errorf("got code %d: %v", fail.CodeOf(err), err)
			}
			if m, err := index.Required(cfg.StateDir); m == nil || err != nil || indexed() != "" {
				t.Errorf("the marker is gone (%v), or %q was indexed", err, indexed())
			}
		})
	}
}

func TestRunLocked(t *testing.T) {
	cfg, _, _ := instance(t)
	lock, err := guard.Acquire(cfg.StateDir, "backup")
	must(t, err)
	defer lock.Release()
	if _, err := run(t, Options{Config: cfg}); fail.CodeOf(err) != fail.Locked || !errors.Is(err, guard.ErrLocked) {
		t.Errorf("got %v", err)
	}
}

func TestClear(t *testing.T) {
	cfg, indexed, _ := instance(t)
	must(t, index.MarkRequired(cfg.StateDir, index.Marker{Reason: index.Damaged}))
	res, err := run(t, Options{Config: cfg, Clear: true})
	must(t, err)
	if m, err := index.Required(cfg.StateDir); m != nil || err != nil || res.Marker.Reason != index.Damaged || indexed() != "" {
		t.Errorf("marker %+v, %v", m, err)
	}
}
