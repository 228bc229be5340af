package commands

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ocbackup/ocbackup/guard"
	"github.com/ocbackup/ocbackup/paths"
	"github.com/ocbackup/ocbackup/snapshot"
)

// instance is one that no other test has: what is mounted of its snapshots is looked for.
const instance = "recover-test"

// leftOver makes a state directory with the record of a snapshot that was made by
// commands; destroy removes it.
func leftOver(t *testing.T, until time.Time, destroy ...string) (stateDir string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: nobody else removes snapshots")
	}
	t.Setenv("OCBACKUP_CONFIG", filepath.Join(t.TempDir(), "none.toml"))
	const set = "20261123T021500Z-7f3a"
	stateDir = filepath.Join(t.TempDir(), instance)
	name := "ocbackup-" + instance + "-" + set + "-0"
	b, err := json.Marshal(snapshot.Record{
		Format: 1, Set: set, Instance: instance, Created: time.Now(), Until: until,
		Volumes: []snapshot.Volume{{
			Driver: snapshot.Command, Name: name, Source: "/srv", Live: "/srv",
			Command: &snapshot.Config{Driver: snapshot.Command, Path: "/srv", MountPoint: t.TempDir(), Create: []string{"false"}, Destroy: destroy},
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(stateDir+"/snapshots", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(stateDir+"/snapshots/"+set+".json", b, 0o600); err != nil {
		t.Fatal(err)
	}
	return stateDir
}

// recoverIn runs "ocbackup recover" and returns what it prints. It never fails for the
// sake of snapshots.
func recoverIn(t *testing.T, stateDir string, flags ...string) string {
	t.Helper()
	var out, errOut bytes.Buffer
	app := newApp(&out, &errOut)
	args := append([]string{"ocbackup", "--state-dir", stateDir}, append(flags, "recover")...)
	if err := app.RunContext(t.Context(), flagsFirst(app, args)); err != nil {
		t.Fatalf("%v\n%s%s", err, &out, &errOut)
	}
	return out.String()
}

func TestRecoverSweeps(t *testing.T) {
	marker := filepath.Join(t.TempDir(), "destroyed-")
	dir := leftOver(t, time.Time{}, "touch", marker+"{name}")
	text := recoverIn(t, dir)
	if want := "Removed: command snapshot ocbackup-recover-test-20261123T021500Z-7f3a-0 of /srv\n"; text != want {
		t.Errorf("got %q, want %q", text, want)
	}
	if !paths.Exists(marker + "ocbackup-recover-test-20261123T021500Z-7f3a-0") {
		t.Error("it was not removed")
	}
	if text := recoverIn(t, dir); text != "nothing to do: no run was interrupted\n" {
		t.Errorf("again: %s", text)
	}
}

func TestRecoverSweepsJSON(t *testing.T) {
	dir := leftOver(t, time.Time{}, "false")
	var res struct{ Instances []recovered }
	if err := json.Unmarshal([]byte(recoverIn(t, dir, "--json")), &res); err != nil || len(res.Instances) != 1 {
		t.Fatal(err, res)
	}
	r := res.Instances[0]
	if len(r.Removed) > 0 || len(r.Warnings) != 1 || !strings.Contains(r.Warnings[0], "could not be removed") {
		t.Errorf("it can't be removed: %+v", r)
	}
}

// TestRecoverLeaves: what is kept, and what a run that is at work needs.
func TestRecoverLeaves(t *testing.T) {
	if text := recoverIn(t, leftOver(t, time.Now().Add(time.Hour), "true")); strings.Contains(text, "Removed") {
		t.Errorf("kept: %s", text)
	}
	dir := leftOver(t, time.Time{}, "true")
	lock, err := guard.Acquire(dir, "backup")
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Release()
	if text := recoverIn(t, dir); text != "nothing to do: no run was interrupted\n" {
		t.Errorf("in use: %s", text)
	}
	if never := filepath.Join(t.TempDir(), "state"); !strings.Contains(recoverIn(t, never), "nothing to do") || paths.Exists(never) {
		t.Error("a state directory was made")
	}
}
