package config

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/ocbackup/ocbackup/opencloud"
)

// TestSnapshotRequest: what is there, by its real path, and without what another root holds.
func TestSnapshotRequest(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{"config", "disk/data/storage/users", "extra"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range []string{"opencloud", "disk/data/x"} {
		if err := os.WriteFile(filepath.Join(dir, f), nil, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("disk/data", filepath.Join(dir, "data")); err != nil {
		t.Fatal(err)
	}
	c := &Config{
		Name: "cloud", StateDir: "/state",
		Layout: opencloud.Layout{Driver: opencloud.Posix, ConfigDir: dir + "/config", DataDir: dir + "/data", Binary: dir + "/opencloud"},
		Extra:  []Extra{{Name: "keycloak", Path: dir + "/extra"}, {Name: "dump", Command: []string{"pg_dump"}}},
	}
	c.SetDefaults()
	got := c.SnapshotRequest()
	want := []struct {
		name, path string
		users      bool
	}{
		{"config", dir + "/config", false},
		{"system", dir + "/disk/data", false},
		{"users", dir + "/disk/data/storage/users", true},
		{"extra-keycloak", dir + "/extra", false},
	}
	if len(got.Roots) != len(want) || got.Instance != "cloud" || got.StateDir != "/state" || got.Config.Driver != "auto" {
		t.Fatalf("%+v", got)
	}
	for i, w := range want {
		if r := got.Roots[i]; r.Name != w.name || r.Path != w.path || r.Users != w.users {
			t.Errorf("%+v, want %+v", r, w)
		}
	}
	if system := got.Roots[1]; system.Filter("storage/users", true) || !system.Filter("x", false) {
		t.Error("what the root \"users\" holds counts twice")
	}
}
