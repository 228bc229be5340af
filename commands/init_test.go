package commands

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestInitTellsFreezing: how each root is frozen, or why not, is told at once.
func TestInitTellsFreezing(t *testing.T) {
	dir := t.TempDir()
	for _, d := range []string{"config", "data/storage/users/projects"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "config/opencloud.yaml"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	run := func(flags ...string) string {
		t.Helper()
		var out, errOut bytes.Buffer
		app := newApp(&out, &errOut)
		args := append(append([]string{"ocbackup"}, flags...), "init", "--dry-run", "--output", dir+"/ocbackup.toml",
			"--config-dir", dir+"/config", "--data-dir", dir+"/data", "--driver", "posix", "--repository", dir+"/repository")
		if err := app.RunContext(t.Context(), flagsFirst(app, args)); err != nil {
			t.Fatalf("%v\n%s", err, &errOut)
		}
		return out.String()
	}
	var v struct{ Freeze []string }
	if err := json.Unmarshal([]byte(run("--json")), &v); err != nil || len(v.Freeze) == 0 {
		t.Fatal(err, v)
	}
	// All three lie on one file system, whatever that can.
	if len(v.Freeze) != 1 || !strings.HasPrefix(v.Freeze[0], "config, system, users") {
		t.Errorf("%q", v.Freeze)
	}
	if text := run(); !strings.Contains(text, "freeze") || !strings.Contains(text, v.Freeze[0]) {
		t.Errorf("%q is not told:\n%s", v.Freeze[0], text)
	}
}
