package restore

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/guard"
	"github.com/ocbackup/ocbackup/progress"
	"github.com/ocbackup/ocbackup/recovery"
)

// lose takes the instance's data away, as a disk that died does.
func (s *site) lose() {
	s.t.Helper()
	for _, dir := range []string{"config", "data"} {
		if err := os.RemoveAll(filepath.Join(s.base, dir)); err != nil {
			s.t.Fatal(err)
		}
	}
	mustRemove(s, "running")
}

// A backup died, and then the data: the server can't be brought back as the journal
// says, and a restore is what mends it.
func TestRestoreMendsWhatCannotBeRecovered(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	server, err := json.Marshal(recovery.Server{Layout: s.cfg.Layout, Control: s.cfg.Control, Ready: s.cfg.Ready})
	if err != nil {
		t.Fatal(err)
	}
	s.lose()
	if err := guard.Write(s.cfg.StateDir, guard.Journal{Kind: guard.Backup, Instance: "test", Set: "x", Written: time.Now(), WasRunning: true, Server: server}); err != nil {
		t.Fatal(err)
	}
	if _, err := recovery.Recover(context.Background(), s.cfg.StateDir, progress.Discard); fail.CodeOf(err) != fail.NotBack {
		t.Fatalf("the server starts without data? %v", err)
	}
	res, err := Run(context.Background(), s.options())
	if err != nil || !res.Running || !s.has("running") {
		t.Fatalf("%+v, %v", res, err)
	}
	s.want("data/version", "set")
	if j, err := guard.Read(s.cfg.StateDir); j != nil || err != nil {
		t.Errorf("a journal is left: %+v, %v", j, err)
	}
}

// After a disaster there is nothing to go back to: an undo would take the only data
// away that there is.
func TestUndoAfterALoss(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.lose()
	res, err := Run(context.Background(), s.options())
	if err != nil {
		t.Fatal(err)
	}
	if res.Undo != "" {
		t.Errorf("an undo is offered: %s", res.Undo)
	}
	if _, err := s.undo(); fail.CodeOf(err) != fail.Usage || !strings.Contains(err.Error(), "no OpenCloud to go back to") {
		t.Errorf("undo: %v", err)
	}
	s.want("data/version", "set")
	if !s.has("running") {
		t.Error("not running")
	}
}

// A dry run of an undo changes nothing, agreed to or not.
func TestUndoDryRun(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	if _, err := Run(context.Background(), s.options()); err != nil {
		t.Fatal(err)
	}
	before := s.read("log")
	res, err := Undo(context.Background(), UndoOptions{Config: s.cfg, Yes: true, DryRun: true, Report: progress.Discard})
	if err != nil || !res.DryRun {
		t.Fatalf("%+v, %v", res, err)
	}
	s.want("data/version", "set")
	if s.read("log") != before {
		t.Error("the server was stopped or started")
	}
	if _, err := s.undo(); err != nil {
		t.Errorf("the undo itself: %v", err)
	}
	s.want("data/version", "live")
}

// A cache of ids that names the old path would make the server take the restored
// files for copies of those there.
func TestMappedStorageGoesWithoutTheIDCache(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	cache := "data/nats/jetstream/$G/streams/" + idCache
	if !s.has(cache) {
		t.Fatal("the recorded instance has no such cache")
	}
	if _, err := Run(context.Background(), s.options()); err != nil {
		t.Fatal(err)
	}
	if s.has(cache) {
		t.Error("the cache is there")
	}
	if !s.has("data/nats/jetstream/$G/streams/main-queue") {
		t.Error("the rest of nats is not")
	}
}
