package guard

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestJournal(t *testing.T) {
	dir := t.TempDir()
	if j, err := Read(dir); j != nil || err != nil {
		t.Fatalf("without a journal: %v, %v", j, err)
	}
	want := Journal{
		Format: 1, Kind: Restore, Instance: "cloud.example.com", Set: "20261123T021500Z-7f3a", PID: 17, BootID: "b",
		Written: time.Unix(1e9, 5).UTC(), Deadline: time.Unix(2e9, 0).UTC(), WasRunning: true, Also: []string{"keycloak"},
		Server: json.RawMessage(`{"control":{}}`), Exchange: &Exchange{Swap: []Rename{{From: "/a", To: "/b"}}}, Hold: "h",
	}
	must(t, Write(dir, want))
	got, err := Read(dir)
	must(t, err)
	got.Server = json.RawMessage(strings.Join(strings.Fields(string(got.Server)), ""))
	if !reflect.DeepEqual(*got, want) {
		t.Errorf("got  %+v\nwant %+v", *got, want)
	}
	st, err := os.Stat(filepath.Join(dir, JournalName))
	must(t, err)
	if st.Mode().Perm() != 0o600 {
		t.Errorf("mode is %v", st.Mode())
	}
	must(t, Clear(dir))
	must(t, Clear(dir))
	if j, err := Read(dir); j != nil || err != nil {
		t.Errorf("after Clear: %v, %v", j, err)
	}
}

func TestJournalFillsIn(t *testing.T) {
	dir := t.TempDir()
	must(t, Write(dir, Journal{Kind: Backup}))
	j, err := Read(dir)
	must(t, err)
	if j.Format != 1 || j.PID != os.Getpid() || j.BootID == "" || time.Since(j.Written) > time.Minute {
		t.Errorf("got %+v", j)
	}
}

// TestJournalThatCannotBeWritten: the old one stays as it is.
func TestJournalThatCannotBeWritten(t *testing.T) {
	dir := t.TempDir()
	must(t, Write(dir, Journal{Kind: Backup, Set: "first"}))
	// No file can be opened, be it by root.
	var limit unix.Rlimit
	must(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &limit))
	must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Max: limit.Max}))
	err := Write(dir, Journal{Kind: Backup, Set: "second"})
	must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &limit))
	if err == nil {
		t.Fatal("no error")
	}
	j, err := Read(dir)
	must(t, err)
	if j.Set != "first" {
		t.Errorf("got %+v", j)
	}
}

func TestDamagedJournal(t *testing.T) {
	for name, text := range map[string]string{
		"empty":          "",
		"cut off":        `{"format": 1, "kind": "back`,
		"zeroes":         "\x00\x00\x00\x00",
		"other format":   `{"format": 2, "kind": "backup"}`,
		"unknown kind":   `{"format": 1, "kind": "prune"}`,
		"something else": `[]`,
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, JournalName)
			must(t, os.WriteFile(path, []byte(text), 0o600))
			j, err := Read(dir)
			var damaged *DamagedError
			if j != nil || !errors.As(err, &damaged) || damaged.Path != path {
				t.Errorf("got %v, %v", j, err)
			}
		})
	}
}
