package restore

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/guard"
	"github.com/ocbackup/ocbackup/opencloud"
	"github.com/ocbackup/ocbackup/paths"
	"github.com/ocbackup/ocbackup/progress"
	"github.com/ocbackup/ocbackup/recovery"
)

// undo takes the last restore of a site back.
func (s *site) undo() (*Result, error) {
	return Undo(context.Background(), UndoOptions{Config: s.cfg, Yes: true, Report: progress.Discard})
}

// managed checks what the manager was last told.
func (s *site) managed(end string) {
	s.t.Helper()
	if log := s.read("log"); !strings.HasSuffix("\n"+log, "\n"+end) || strings.Contains(strings.TrimSuffix(log, end), "stop") {
		s.t.Errorf("the manager was told %q, want %q", log, end)
	}
}

// Somebody starts OpenCloud while the data is exchanged: it is stopped before the old
// data comes back, and what it may have open is not removed before.
func TestStartedMeanwhile(t *testing.T) {
	t.Parallel()
	const window = "putting the restored data in its place"
	t.Run("and can be stopped", func(t *testing.T) {
		s := newSite(t)
		before := snap(t, filepath.Join(s.base, "data"))
		o := s.options()
		o.Components = []opencloud.Component{opencloud.System}
		o.Report = cancelAt{window, func() { s.write("running", "") }}
		_, err := Run(context.Background(), o)
		if fail.CodeOf(err) != fail.Failed || !strings.Contains(err.Error(), "somebody started OpenCloud") {
			t.Fatalf("code %d, %v", fail.CodeOf(err), err)
		}
		s.managed("stop\nstop\nstart\n")
		same(t, "data", before, snap(t, filepath.Join(s.base, "data")))
		s.check(true)
	})
	t.Run("and can not be stopped", func(t *testing.T) {
		s := newSite(t)
		o := s.options()
		o.Components = []opencloud.Component{opencloud.System}
		var server *os.File
		o.Report = cancelAt{window, func() {
			server = s.flock(filepath.Join(stagePrefix+world.set, "system/data/idm/idm.boltdb"))
		}}
		_, err := Run(context.Background(), o)
		if _, state, hint := fail.Details(err); fail.CodeOf(err) != fail.NotBack || !strings.Contains(hint, recovery.Command(s.cfg.StateDir)) {
			t.Fatalf("code %d, %v; %s; %s", fail.CodeOf(err), err, state, hint)
		}
		s.want("data/version", "set") // nothing was moved under it
		if !s.has("data/idm/idm.boltdb") {
			t.Error("the data that a server has open was removed")
		}
		_ = server.Close()
		if _, err := recovery.Recover(context.Background(), s.cfg.StateDir, progress.Discard); err != nil {
			t.Fatal(err)
		}
		s.want("data/version", "live")
		if !s.has("running") {
			t.Error("not running")
		}
	})
}

// What fails when the data is in place does not hide what was done, and how to go on.
func TestFailureAfterTheExchange(t *testing.T) {
	t.Parallel()
	t.Run("no index can be built", func(t *testing.T) {
		s := newSite(t)
		s.write("noindex", "")
		o := s.options()
		o.Components = []opencloud.Component{opencloud.Metadata, opencloud.Blobs}
		s.cfg.Path = filepath.Join(s.base, "my conf.toml")
		res, err := Run(context.Background(), o)
		if fail.CodeOf(err) != fail.Failed || res == nil {
			t.Fatalf("%+v, %v", res, err)
		}
		conf := "ocbackup --config '" + s.cfg.Path + "' "
		if !res.Running || res.Undo != conf+"restore --undo" || len(res.Aside) == 0 || res.Reindex != ReindexPending || res.ReindexBy != conf+"reindex" {
			t.Errorf("result: %+v", res)
		}
		if _, state, hint := fail.Details(err); state != "OpenCloud is running with the restored data" || hint != res.ReindexBy {
			t.Errorf("state %q, hint %q", state, hint)
		}
		for _, l := range s.leftovers() {
			if strings.Contains(l, stagePrefix) {
				t.Errorf("staging left: %s", l)
			}
		}
	})
	t.Run("a new instance does not start", func(t *testing.T) {
		s := emptySite(t)
		mustRemove(s, "ctl") // nobody can be asked whether it runs
		o := s.options()
		o.Config, o.ConfigPath = nil, filepath.Join(s.base, "etc/ocbackup.toml")
		o.Bare.Location, o.Bare.PasswordFile = world.options.Location, world.options.PasswordFile
		res, err := Run(context.Background(), o)
		if _, state, hint := fail.Details(err); fail.CodeOf(err) != fail.Failed || res == nil || res.Running ||
			!strings.Contains(state, "did not come up") || !strings.Contains(hint, "ocbackup --config "+o.ConfigPath+" reindex") {
			t.Fatalf("%+v, %v; %s; %s", res, err, state, hint)
		}
		if !strings.Contains(s.read("etc/ocbackup.toml"), s.base+"/data") {
			t.Error("no configuration was written")
		}
		s.check(false)
	})
}

// An undo that can't begin leaves things as they were.
func TestUndoThatCannotBegin(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	o := s.options()
	o.Components = []opencloud.Component{opencloud.System}
	if _, err := Run(context.Background(), o); err != nil {
		t.Fatal(err)
	}
	server := s.flock("data/idm/idm.boltdb")
	_, err := s.undo()
	if _, state, _ := fail.Details(err); fail.CodeOf(err) != fail.Failed || !strings.Contains(state, "running with the restored data") {
		t.Fatalf("code %d, %v; %s", fail.CodeOf(err), err, state)
	}
	s.want("data/version", "set")
	s.managed("stop\nstart\nstop\nstart\n")
	if j, err := guard.Read(s.cfg.StateDir); !s.has("running") || j != nil || err != nil {
		t.Errorf("running: %v, journal: %+v %v", s.has("running"), j, err)
	}
	_ = server.Close()
	if _, err := s.undo(); err != nil {
		t.Fatal(err)
	}
	s.want("data/version", "live")
}

// An undo that dies after its renames is completed by recovery: what was restored,
// with all changes since, is kept under a name that no restore takes for its own.
func TestUndoThatDied(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	o := s.options()
	o.Components = []opencloud.Component{opencloud.System}
	if _, err := Run(context.Background(), o); err != nil {
		t.Fatal(err)
	}
	s.write("data/version", "changed since")
	rec, err := readUndo(s.cfg.StateDir)
	if err != nil {
		t.Fatal(err)
	}
	u := &undo{rec: rec}
	x := rec.Exchange
	x.Keep = u.keep(rec.Time)
	if err := guard.UndoSwap(x.Swap); err != nil {
		t.Fatal(err)
	}
	r := &run{Options: o, cfg: s.cfg}
	j := guard.Journal{Kind: guard.Restore, WasRunning: true, Exchange: &x}
	if err := r.write(j); err != nil {
		t.Fatal(err)
	}
	if _, err := recovery.Recover(context.Background(), s.cfg.StateDir, progress.Discard); err != nil {
		t.Fatal(err)
	}
	s.want("data/version", "live")
	kept, err := filepath.Glob(filepath.Join(s.base, asidePrefix+"*-undone-*/system/data/version"))
	if err != nil || len(kept) != 1 {
		t.Fatalf("kept: %v %v", kept, err)
	}
	if b, err := os.ReadFile(kept[0]); string(b) != "changed since" {
		t.Errorf("%q %v", b, err)
	}
	if s.has("state/" + recovery.RecordName) {
		t.Error("the record is still there")
	}
}

// afterStep is a Reporter that does something whenever a step has ended.
type afterStep struct {
	cancelAt
	do func()
}

func (a afterStep) Step(string) progress.Step { return a }
func (a afterStep) Done(string)               { a.do() }

func TestUndoSeesWhatAnotherRunLeft(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	o := s.options()
	o.Components = []opencloud.Component{opencloud.System}
	if _, err := Run(context.Background(), o); err != nil {
		t.Fatal(err)
	}
	r := &run{Options: o, cfg: s.cfg}
	leave := func() {
		if err := r.write(guard.Journal{Kind: guard.Backup, Set: "another"}); err != nil {
			t.Error(err)
		}
	}
	leave()
	rep := afterStep{cancelAt{"no such text", nil}, leave}
	_, err := Undo(context.Background(), UndoOptions{Config: s.cfg, Yes: true, Report: rep})
	if j, _ := guard.Read(s.cfg.StateDir); fail.CodeOf(err) != fail.Locked || j == nil || j.Set != "another" {
		t.Errorf("%v; journal %+v", err, j)
	}
	s.want("data/version", "set")
}

// A restore that died while it staged leaves a copy of the data behind, which the
// next recovery removes. A running instance is not touched.
func TestStagingIsAnnounced(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	o := s.options()
	o.Components = []opencloud.Component{opencloud.System}
	var j *guard.Journal
	o.Report = cancelAt{"staging system", func() {
		if j == nil {
			j, _ = guard.Read(s.cfg.StateDir)
		}
	}}
	if _, err := Run(context.Background(), o); err != nil {
		t.Fatal(err)
	}
	if j == nil || j.WasRunning || j.Exchange != nil || len(j.Staging) != 1 {
		t.Fatalf("journal: %+v", j)
	}
	log := s.read("log")
	if err := errors.Join(os.Mkdir(j.Staging[0], 0o700), guard.Write(s.cfg.StateDir, *j)); err != nil {
		t.Fatal(err)
	}
	out, err := recovery.Recover(context.Background(), s.cfg.StateDir, progress.Discard)
	if err != nil || out.Did != recovery.Cleared || paths.Exists(j.Staging[0]) {
		t.Errorf("%+v %v", out, err)
	}
	s.want("log", log)
}

func TestCommand(t *testing.T) {
	for want, c := range map[string][2]string{
		"ocbackup restore --undo":                                          {"/etc/ocbackup/ocbackup.toml", ""},
		"ocbackup --config '/a b.toml' restore --undo":                     {"/a b.toml", ""},
		"ocbackup --config /c.toml --state-dir '/it'\\''s' restore --undo": {"/c.toml", "/it's"},
	} {
		if got := command(c[0], c[1], "restore", "--undo"); got != want {
			t.Errorf("%s\nwant %s", got, want)
		}
	}
}

func TestAtTarget(t *testing.T) {
	err := atTarget(&fs.PathError{Op: "mkdir", Path: "/x", Err: os.ErrPermission}, "stage")
	if _, _, hint := fail.Details(err); fail.CodeOf(err) != fail.Failed || hint == "" {
		t.Errorf("%v, %q", err, hint)
	}
	if err := atTarget(fail.New(fail.Repository, "gone", ""), "stage"); fail.CodeOf(err) != fail.Repository {
		t.Error(err)
	}
}
