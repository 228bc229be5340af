package restore

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ocbackup/ocbackup/config"
	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/guard"
	"github.com/ocbackup/ocbackup/manifest"
	"github.com/ocbackup/ocbackup/opencloud"
	"github.com/ocbackup/ocbackup/opencloud/index"
	"github.com/ocbackup/ocbackup/paths"
	"github.com/ocbackup/ocbackup/recovery"
)

// The whole way: a running instance gets all of its data back, what is not part of
// the set stays, the old data is kept, and comes back with Undo.
func TestFullRestoreAndUndo(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.write("data/since/x", "not in the set")
	s.write("makes", "since")
	before := snap(t, filepath.Join(s.base, "data"))
	res, err := Run(context.Background(), s.options())
	if err != nil {
		t.Fatal(err)
	}
	// Of the data directory itself, all but the time: the server has made "since" in it.
	same(t, "data", snap(t, filepath.Join(world.orig, "data"), "thumbnails")[1:], snap(t, filepath.Join(s.base, "data"), "thumbnails", "since")[1:])
	if s.has("data/since/x") || !s.has("data/since") {
		t.Error("what is not in the set did not make way for what the server makes")
	}
	same(t, "config", snap(t, filepath.Join(world.orig, "config")), snap(t, filepath.Join(s.base, "config")))
	s.want("data/thumbnails/t2", "kept")
	s.want("deploy/conf/csp.yaml", "csp: set\n")
	s.want("deploy/notes.txt", "not part of it")
	if s.has("data/nats/new-since") {
		t.Error("a file that came after the set is still there")
	}
	s.want("log", "stop\nstart\n")
	if !res.Running || res.Reindex != ReindexNotNeeded || len(res.Aside) == 0 {
		t.Errorf("result: %+v", res)
	}
	if j, err := guard.Read(s.cfg.StateDir); j != nil || err != nil {
		t.Errorf("journal left: %v %v", j, err)
	}
	for _, l := range s.leftovers() {
		if strings.Contains(l, stagePrefix) {
			t.Errorf("staging left: %s", l)
		}
	}

	un, err := Undo(context.Background(), UndoOptions{Config: s.cfg, Yes: true, Report: s.options().Report})
	if err != nil {
		t.Fatal(err)
	}
	same(t, "data after undo", before, snap(t, filepath.Join(s.base, "data")))
	if !strings.HasSuffix(s.read("config/opencloud.yaml"), "# live\n") {
		t.Error("the old opencloud.yaml did not come back")
	}
	s.want("deploy/conf/csp.yaml", "csp: live\n")
	s.want("log", "stop\nstart\nstop\nstart\n")
	if len(un.Aside) == 0 || !paths.Exists(filepath.Join(un.Aside[0])) {
		t.Errorf("what was restored is gone: %+v", un)
	}
	if _, err := Undo(context.Background(), UndoOptions{Config: s.cfg, Yes: true, Report: s.options().Report}); fail.CodeOf(err) != fail.Usage {
		t.Errorf("a second undo: %v", err)
	}
}

func TestServerRejectsNewData(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.write("data/since/x", "not in the set")
	s.write("makes", "since")
	before := snap(t, filepath.Join(s.base, "data"))
	s.write("reject", "")
	o := s.options()
	o.Components = []opencloud.Component{opencloud.System}
	_, err := Run(context.Background(), o)
	if fail.CodeOf(err) != fail.Failed || !strings.Contains(err.Error(), "old data was put back") {
		t.Fatalf("code %d, %v", fail.CodeOf(err), err)
	}
	if _, state, _ := fail.Details(err); !strings.Contains(state, "running again, with its old data") {
		t.Errorf("state: %s", state)
	}
	same(t, "data", before, snap(t, filepath.Join(s.base, "data")))
	s.check(true)
}

// check makes sure that a restore that failed has left nothing behind.
func (s *site) check(running bool) {
	s.t.Helper()
	if s.has("running") != running {
		s.t.Errorf("running: %v", !running)
	}
	if l := s.leftovers(); len(l) > 0 {
		s.t.Errorf("left behind: %v", l)
	}
	if j, err := guard.Read(s.cfg.StateDir); j != nil || err != nil {
		s.t.Errorf("journal left: %+v %v", j, err)
	}
	if m, err := index.Required(s.cfg.StateDir); m != nil || err != nil {
		s.t.Errorf("marker left: %+v %v", m, err)
	}
	if s.has("state/" + recovery.RecordName) {
		s.t.Error("undo record left")
	}
}

func TestInterrupted(t *testing.T) {
	t.Parallel()
	for _, at := range []string{"comparing system", "putting the restored data in its place"} {
		t.Run(at, func(t *testing.T) {
			s := newSite(t)
			before := snap(t, filepath.Join(s.base, "data"))
			interrupted := fail.New(fail.Interrupted, "interrupted", "")
			ctx, cancel := context.WithCancelCause(context.Background())
			o := s.options()
			o.Components = []opencloud.Component{opencloud.System, opencloud.Search}
			o.Report = cancelAt{at, func() { cancel(interrupted) }}
			_, err := Run(ctx, o)
			if fail.CodeOf(err) != fail.Interrupted {
				t.Fatalf("code %d, %v", fail.CodeOf(err), err)
			}
			same(t, "data", before, snap(t, filepath.Join(s.base, "data")))
			s.check(true)
		})
	}
}

func TestInPlace(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	o := s.options()
	o.InPlace = true
	o.Components = []opencloud.Component{opencloud.Config, opencloud.System}
	s.write("data/since/deep/x", "not in the set")
	// Another content of the same size and time.
	version := filepath.Join(s.base, "data/version")
	st, err := os.Stat(filepath.Join(world.orig, "data/version"))
	if err == nil {
		s.write("data/version", "sat")
		err = os.Chtimes(version, st.ModTime(), st.ModTime())
	}
	if err != nil {
		t.Fatal(err)
	}
	s.cfg.StateDir = filepath.Join(s.base, "data/since/own/state")
	s.write("data/since/own/state/mine", "to be left alone")

	// Interrupted while data is written: nobody starts it until it is complete.
	ctx, cancel := context.WithCancelCause(context.Background())
	broken := o
	broken.Report = cancelAt{"restoring system", func() { cancel(fail.New(fail.Interrupted, "interrupted", "")) }}
	_, err = Run(ctx, broken)
	if fail.CodeOf(err) != fail.NotBack || s.has("running") {
		t.Fatalf("code %d, %v", fail.CodeOf(err), err)
	}
	if j, err := guard.Read(s.cfg.StateDir); j == nil || j.Hold == "" {
		t.Fatalf("no journal holds it: %+v %v", j, err)
	}
	// A run that is refused must not make anybody forget it.
	refused := o
	refused.Set = "none"
	if _, err := Run(context.Background(), refused); err == nil {
		t.Fatal("an unknown set was restored")
	}
	if j, err := guard.Read(s.cfg.StateDir); j == nil || j.Hold == "" {
		t.Fatalf("no journal holds it any more: %+v %v", j, err)
	}

	res, err := Run(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	skip := []string{"thumbnails", "storage/users", "search", "since"}
	s.want("data/since/own/state/mine", "to be left alone")
	same(t, "data", snap(t, filepath.Join(world.orig, "data"), skip...), snap(t, filepath.Join(s.base, "data"), skip...))
	same(t, "users", snap(t, filepath.Join(world.orig, "data/storage/users")), snap(t, filepath.Join(s.base, "data/storage/users")))
	s.want("data/thumbnails/t2", "kept")
	s.want("deploy/notes.txt", "not part of it")
	if !res.Running {
		t.Error("not running")
	}
	s.check(true)
}

// Data restored without its search index: the old index would name files that are
// gone, so it makes way, and is built again.
func TestStaleIndexIsRebuilt(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	o := s.options()
	o.Components = []opencloud.Component{opencloud.Metadata, opencloud.Blobs}
	res, err := Run(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	if res.Reindex != ReindexDone || s.has("data/search/bleve/index_meta.json") {
		t.Errorf("reindex %s, old index there: %v", res.Reindex, s.has("data/search/bleve/index_meta.json"))
	}
	s.want("data/search/bleve/made", "anew\n")
	if !strings.Contains(s.read("log"), "exec search index --space") {
		t.Errorf("log: %s", s.read("log"))
	}
	if m, err := index.Required(s.cfg.StateDir); m != nil || err != nil {
		t.Errorf("marker left: %+v %v", m, err)
	}
	s.want("data/version", "live")
	s.want("data/nats/new-since", "x")
	un, err := Undo(context.Background(), UndoOptions{Config: s.cfg, Yes: true, Report: o.Report})
	if err != nil {
		t.Fatal(err)
	}
	if !s.has("data/search/bleve/index_meta.json") || s.has("data/search/bleve/made") {
		t.Error("the old index did not come back")
	}
	kept, err := filepath.Glob(filepath.Join(s.base, "data/search", asidePrefix+"*-undone-*/search/bleve/made"))
	if err != nil || len(kept) != 1 || !strings.Contains(un.Delete, filepath.Join(s.base, "data/search", asidePrefix)) {
		t.Errorf("the index that was made since is not kept: %v %v; %s", kept, err, un.Delete)
	}
}

func TestBareHost(t *testing.T) {
	t.Parallel()
	s := emptySite(t)
	o := s.options()
	o.Config, o.Yes = nil, false
	o.ConfigPath = filepath.Join(s.base, "etc/ocbackup.toml")
	o.Bare.Location, o.Bare.PasswordFile = world.options.Location, world.options.PasswordFile
	res, err := Run(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	same(t, "data", snap(t, filepath.Join(world.orig, "data"), "thumbnails"), snap(t, filepath.Join(s.base, "data")))
	s.want("log", "start\n")
	if !res.Running || len(res.Aside) > 0 || res.Undo != "" {
		t.Errorf("result: %+v", res)
	}
	toml := s.read("etc/ocbackup.toml")
	if !strings.Contains(toml, s.base+"/data") || !strings.Contains(toml, world.options.Location) || strings.Contains(toml, world.orig) {
		t.Errorf("configuration written back:\n%s", toml)
	}
	s.check(true)
}

func TestBeside(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	o := s.options()
	o.Maps = nil
	o.Target = filepath.Join(s.base, "copy")
	if _, err := Run(context.Background(), o); err != nil {
		t.Fatal(err)
	}
	same(t, "data", snap(t, filepath.Join(world.orig, "data"), "thumbnails"), snap(t, filepath.Join(o.Target, world.orig, "data")))
	s.want("data/version", "live")
	if s.has("log") {
		t.Errorf("the instance was touched: %s", s.read("log"))
	}
	if _, err := Run(context.Background(), o); fail.CodeOf(err) != fail.Usage || !strings.Contains(err.Error(), "not empty") {
		t.Errorf("into a directory that is not empty: %v", err)
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(*site, *Options)
		code   fail.Code
		says   string
	}{
		"unknown set": {func(_ *site, o *Options) { o.Set = "2001" }, fail.Usage, "no set"},
		"not agreed":  {func(_ *site, o *Options) { o.Yes = false }, fail.Usage, "replaces what is there now"},
		"older server": {func(s *site, o *Options) {
			s.write("installed", "3.9.0")
			o.AllowVersionMismatch = true
			withoutBinary(o)
		}, fail.Usage, "installed server is 3.9.0, the set was taken from 4.0.0"},
		"newer server": {func(s *site, o *Options) { s.write("installed", "4.1.0"); withoutBinary(o) }, fail.Usage, "installed server is 4.1.0"},
		"other places": {func(_ *site, o *Options) { o.Maps = nil }, fail.Usage, "the data directory of the set is"},
		"no config": {func(s *site, o *Options) {
			mustRemove(s, "config")
			o.Components = []opencloud.Component{opencloud.System}
		}, fail.Usage, "no "},
		"locked": {func(s *site, _ *Options) { s.hold() }, fail.Locked, "another run"},
		"server at work": {func(s *site, o *Options) {
			s.flock("data/idm/idm.boltdb")
			o.Components = []opencloud.Component{opencloud.Config}
		}, fail.Failed, "a server is at work"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			o := s.options()
			c.change(s, &o)
			_, err := Run(context.Background(), o)
			if fail.CodeOf(err) != c.code || !strings.Contains(err.Error(), c.says) {
				t.Errorf("code %d: %v", fail.CodeOf(err), err)
			}
			s.want("data/version", "live")
			s.check(true)
		})
	}
}

func TestSetsThatAreRefused(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*run)
		says   string
	}{
		"not full": {func(r *run) {
			r.set.Manifest.Full, r.set.Manifest.Components = false, []opencloud.Component{"config", "system"}
		}, "not a full set: it holds config, system only"},
		"bucket":         {func(r *run) { r.set.Manifest.Layout.Driver, r.cfg.Layout.Driver = "decomposeds3", "" }, "holds no S3 bucket"},
		"another driver": {func(r *run) { r.cfg.Layout.Driver = opencloud.Decomposed }, "taken with storage driver posix"},
	} {
		t.Run(name, func(t *testing.T) {
			m := &manifest.Manifest{Set: "20261123T021500Z-7f3a", Full: true, Layout: opencloud.Layout{Driver: opencloud.Posix}}
			r := &run{set: &manifest.Set{ID: m.Set, Manifest: m}, cfg: &config.Config{Layout: m.Layout}, res: &Result{Full: true}}
			if err := r.checkSet(m); err != nil {
				t.Fatalf("a good set: %v", err)
			}
			c.change(r)
			if err := r.checkSet(m); fail.CodeOf(err) != fail.Usage || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestFileSystem(t *testing.T) {
	at := t.TempDir()
	if err := (&fileSystem{at: at, bytes: 1 << 60}).room(false, false); fail.CodeOf(err) != fail.Usage || !strings.Contains(err.Error(), "not enough room") {
		t.Errorf("%v", err)
	}
	if err := (&fileSystem{at: at, bytes: 10}).room(false, false); err != nil {
		t.Error(err)
	}
	if err := (&fileSystem{at: "/proc", xattrs: true}).probe(); err == nil {
		t.Error("/proc is said to take files")
	}
	if left, _ := os.ReadDir(at); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// An instance that was stopped is started after a restore, unless told otherwise.
func TestStoppedInstance(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	mustRemove(s, "running")
	o := s.options()
	o.Components = []opencloud.Component{opencloud.Config}

	plan := o
	plan.DryRun = true
	s.whileHeld(func() {
		res, err := Run(context.Background(), plan)
		if err != nil || len(res.Replaced) != 2 || len(res.Roots) != 2 {
			t.Errorf("dry run: %+v %v", res, err)
		}
	})
	s.want("deploy/conf/csp.yaml", "csp: live\n")
	s.check(false)

	o.NoStart = true
	if res, err := Run(context.Background(), o); err != nil || res.Running || s.has("running") {
		t.Fatalf("%+v %v", res, err)
	}
	s.want("deploy/conf/csp.yaml", "csp: set\n")
	o.NoStart = false
	if res, err := Run(context.Background(), o); err != nil || !res.Running || !s.has("running") {
		t.Fatalf("%+v %v", res, err)
	}
}

func withoutBinary(o *Options) {
	o.Components = []opencloud.Component{opencloud.Config, opencloud.System, opencloud.Metadata, opencloud.Blobs, opencloud.Search}
}

func mustRemove(s *site, rel string) {
	if err := os.RemoveAll(filepath.Join(s.base, rel)); err != nil {
		s.t.Fatal(err)
	}
}

// hold takes the instance's lock for as long as the test runs.
func (s *site) hold() { s.t.Cleanup(s.lock().Release) }

// whileHeld does something while somebody else holds the instance's lock.
func (s *site) whileHeld(do func()) {
	l := s.lock()
	defer l.Release()
	do()
}

func (s *site) lock() *guard.Lock {
	l, err := guard.Acquire(s.cfg.StateDir, "backup")
	if err != nil {
		s.t.Fatal(err)
	}
	return l
}
