package restore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/ocbackup/ocbackup/config"
	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/guard"
	"github.com/ocbackup/ocbackup/opencloud"
	"github.com/ocbackup/ocbackup/opencloud/control"
	"github.com/ocbackup/ocbackup/opencloud/index"
	"github.com/ocbackup/ocbackup/progress"
	"github.com/ocbackup/ocbackup/recovery"
)

// undoFile is the record of the last restore in the state directory.
const undoFile = "undo.json"

// undoFormat is the format of the record that this version reads and writes.
const undoFormat = 1

// undoRecord says how to bring back what a restore has replaced.
type undoRecord struct {
	Format   int             `json:"format"`
	Set      string          `json:"set"`
	Instance string          `json:"instance"`
	Time     time.Time       `json:"time"`
	Server   recovery.Server `json:"server"`
	Swap     []guard.Rename  `json:"swap"`
	// Stay are the directories that were not renamed, with what they had before.
	Stay  map[string]meta `json:"stay,omitempty"`
	Aside []string        `json:"aside"`
	// Marker is the reindex marker that was set before, nil when there was none.
	Marker *index.Marker `json:"marker,omitempty"`
}

// saveUndo writes the record of this restore, unless nothing was in its way: then
// there is nothing to bring back.
func (r *run) saveUndo() error {
	aside := r.asides()
	if len(aside) == 0 {
		return nil
	}
	rec := undoRecord{
		Format: undoFormat, Set: r.set.ID, Instance: r.cfg.Name, Time: time.Now().UTC(), Server: r.server(),
		Swap: r.plan.Steps, Stay: r.old, Aside: aside, Marker: r.marker,
	}
	b, err := json.MarshalIndent(rec, "", "  ")
	if err != nil {
		return err
	}
	path := filepath.Join(r.stateDir(), undoFile)
	if r.undone, err = os.ReadFile(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	r.undoSaved = true
	return writeFile(path, append(b, '\n'))
}

// dropUndo takes the record back, and puts that of the restore before in its place.
func (r *run) dropUndo() error {
	if !r.undoSaved {
		return nil
	}
	path := filepath.Join(r.stateDir(), undoFile)
	if r.undone != nil {
		return writeFile(path, r.undone)
	}
	return os.Remove(path)
}

// writeFile writes a file in one step and onto the disk.
func writeFile(path string, b []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

// UndoOptions say which restore to undo.
type UndoOptions struct {
	Config *config.Config
	// Yes agrees to it; without it, Confirm is asked.
	Yes     bool
	Confirm func(question, word string) (bool, error)
	NoStart bool
	Report  progress.Reporter
}

// Undo brings back the data that the last restore has replaced. What was restored
// is kept, and named in the result.
func Undo(ctx context.Context, o UndoOptions) (*Result, error) {
	started := time.Now()
	dir := o.Config.StateDir
	if _, err := recovery.Recover(ctx, dir, o.Report); err != nil {
		return nil, err
	}
	lock, err := guard.Acquire(dir, "restore --undo")
	if errors.Is(err, guard.ErrLocked) {
		return nil, fail.Wrap(fail.Locked, err, "another run holds the lock", "wait until it is done")
	}
	if err != nil {
		return nil, fail.Wrap(fail.Failed, err, "take the lock", "check the state directory ("+dir+")")
	}
	defer lock.Release()
	rec, err := readUndo(dir)
	if err != nil {
		return nil, err
	}
	if err := o.agree(rec); err != nil {
		return nil, err
	}
	u := &undo{UndoOptions: o, rec: rec, dir: dir}
	step := o.Report.Step("undo")
	res := &Result{Set: rec.Set, Instance: rec.Instance, Mode: ModeUndo, Started: started, Reindex: ReindexNotNeeded}
	if err := u.run(ctx, step, res); err != nil {
		step.Fail(err)
		return nil, &fail.Error{Code: fail.CodeOf(err), Step: "undo", State: u.state, Err: err}
	}
	step.Done(fmt.Sprintf("the data from before the restore of set %s is back", rec.Set))
	res.Seconds = time.Since(started).Seconds()
	return res, nil
}

func readUndo(dir string) (*undoRecord, error) {
	path := filepath.Join(dir, undoFile)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fail.Usagef("", "there is no restore to undo: %s does not exist", path)
	}
	if err != nil {
		return nil, err
	}
	rec := &undoRecord{}
	if err := json.Unmarshal(b, rec); err != nil {
		return nil, fail.Wrap(fail.Failed, err, path+" is damaged", "")
	}
	if rec.Format != undoFormat {
		return nil, fail.Usagef("use the version of ocbackup that restored", "%s has format %d; this version reads format %d", path, rec.Format, undoFormat)
	}
	begun, err := guard.SwapBegun(rec.Swap)
	if err == nil && !begun {
		err = errors.New("the old data is in its place already")
	}
	if err != nil {
		return nil, fail.Wrap(fail.Usage, err, "the restore of set "+rec.Set+" can't be undone any more", "")
	}
	return rec, nil
}

func (o UndoOptions) agree(rec *undoRecord) error {
	if o.Yes {
		return nil
	}
	question := fmt.Sprintf("This takes back the restore of set %s (%s). What OpenCloud was given since is no longer seen in it.",
		rec.Set, rec.Time.Local().Format(time.DateTime))
	if o.Confirm != nil {
		ok, err := o.Confirm(question, "undo")
		if err != nil || ok {
			return err
		}
	}
	return fail.New(fail.Usage, question, "agree with --yes")
}

// undo is one run of Undo.
type undo struct {
	UndoOptions
	rec   *undoRecord
	dir   string
	state string
}

func (u *undo) run(ctx context.Context, step progress.Step, res *Result) error {
	u.state = "nothing was stopped or changed"
	ctl, err := control.New(u.rec.Server.Control)
	if err != nil {
		return err
	}
	before, err := ctl.Status(ctx)
	if err != nil {
		return fail.Wrap(fail.Failed, err, "ask for the state of "+ctl.String(), "see \"ocbackup doctor\"")
	}
	server, err := json.Marshal(u.rec.Server)
	if err != nil {
		return err
	}
	for _, s := range u.rec.Swap { // the places that the restored data goes back to
		if err := os.MkdirAll(filepath.Dir(s.From), 0o700); err != nil {
			return err
		}
	}
	// An undo that dies is completed by recovery: it undoes the swap, as this does.
	j := guard.Journal{
		Kind: guard.Restore, Instance: u.rec.Instance, Set: u.rec.Set, WasRunning: !u.NoStart && u.rec.Server.Control.Type != "none",
		Also: before.Also, Server: server, Swap: u.rec.Swap,
	}
	if err := guard.Write(u.dir, j); err != nil {
		return err
	}
	g, err := guard.Arm(u.dir)
	if err != nil {
		return errors.Join(err, guard.Clear(u.dir))
	}
	asked := time.Now()
	u.state = "OPENCLOUD IS NOT BACK"
	err = u.exchange(context.WithoutCancel(ctx), step, ctl)
	if err == nil && j.WasRunning {
		step.Update("starting OpenCloud")
		_, err = recovery.Start(context.WithoutCancel(ctx), u.rec.Server, before.Also, step.Update)
		res.Running = err == nil
	}
	if err != nil {
		if fail.CodeOf(err) == fail.Failed {
			err = fail.Wrap(fail.NotBack, err, "", "mend what it says, then run \"ocbackup recover\"")
		}
		return errors.Join(err, g.Disarm())
	}
	res.Downtime = time.Since(asked).Seconds()
	u.state = "the old data is back"
	u.tell(res)
	return errors.Join(guard.Clear(u.dir), g.Disarm(), os.Remove(filepath.Join(u.dir, undoFile)))
}

// exchange stops the instance and puts the old data in its place.
func (u *undo) exchange(ctx context.Context, step progress.Step, ctl control.Controller) error {
	step.Update("stopping " + ctl.String())
	var killed *control.KilledError
	if err := ctl.Stop(ctx); err != nil && !errors.As(err, &killed) {
		return err
	}
	if err := opencloud.LocksFree(u.rec.Server.Layout.LockFiles()); err != nil {
		return err
	}
	step.Update("putting the old data in its place")
	if err := guard.UndoSwap(u.rec.Swap); err != nil {
		return err
	}
	for path, m := range u.rec.Stay {
		if err := m.apply(path); err != nil {
			return fmt.Errorf("owner and attributes of %s: %w", path, err)
		}
	}
	if u.rec.Marker == nil {
		return index.ClearRequired(u.dir)
	}
	return index.MarkRequired(u.dir, *u.rec.Marker)
}

// tell says where the data of the restore lies now: under a name that no later
// restore takes for its own.
func (u *undo) tell(res *Result) {
	stamp := res.Started.UTC().Format("20060102T150405Z")
	seen := map[string]bool{}
	for _, s := range u.rec.Swap {
		dir := s.From
		for dir != "/" && !strings.HasPrefix(filepath.Base(dir), stagePrefix) {
			dir = filepath.Dir(dir)
		}
		if dir == "/" || seen[dir] {
			continue
		}
		seen[dir] = true
		kept := filepath.Join(filepath.Dir(dir), asidePrefix+u.rec.Set+"-undone-"+stamp)
		if err := os.Rename(dir, kept); err != nil {
			u.note(res, err.Error())
			kept = dir
		}
		res.Aside = append(res.Aside, kept)
	}
	if len(res.Aside) > 0 {
		res.Delete = "rm -rf " + strings.Join(res.Aside, " ")
	}
	if err := removeEmpty(u.rec.Aside); err != nil {
		u.note(res, err.Error())
	}
	if u.rec.Marker != nil {
		res.Reindex, res.ReindexWhy = ReindexPending, u.rec.Marker.Detail
	}
}

// removeEmpty removes trees that hold nothing but directories.
func removeEmpty(trees []string) error {
	var errs []error
	for _, t := range trees {
		var dirs []string
		err := filepath.WalkDir(t, func(path string, d fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err == nil && d.IsDir() {
				dirs = append(dirs, path)
			}
			return err
		})
		for i := len(dirs) - 1; i >= 0 && err == nil; i-- {
			if e := os.Remove(dirs[i]); e != nil && !isNotEmpty(e) {
				err = e
			}
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// note tells something that is worth a line of its own.
func (u *undo) note(res *Result, text string) {
	res.Notes = append(res.Notes, text)
	u.Report.Note(text)
}
