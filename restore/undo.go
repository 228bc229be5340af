package restore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/ocbackup/ocbackup/atomicfile"
	"github.com/ocbackup/ocbackup/config"
	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/guard"
	"github.com/ocbackup/ocbackup/opencloud"
	"github.com/ocbackup/ocbackup/opencloud/control"
	"github.com/ocbackup/ocbackup/opencloud/index"
	"github.com/ocbackup/ocbackup/paths"
	"github.com/ocbackup/ocbackup/progress"
	"github.com/ocbackup/ocbackup/recovery"
)

// undoFormat is the format of the record that this version reads and writes.
const undoFormat = 1

// undoRecord says how to bring back what a restore has replaced.
type undoRecord struct {
	Format   int             `json:"format"`
	Set      string          `json:"set"`
	Instance string          `json:"instance"`
	Time     time.Time       `json:"time"`
	Server   recovery.Server `json:"server"`
	// ObjectsDeleted is how many objects the restore deleted from the bucket, or was
	// about to: they do not come back.
	ObjectsDeleted uint64 `json:"objects_deleted,omitempty"`
	guard.Exchange
}

// saveUndo writes the record of this restore, unless nothing was in its way: then
// there is nothing to bring back.
func (r *run) saveUndo() error {
	if len(r.exchanged.Aside) == 0 {
		return nil
	}
	rec := undoRecord{
		Format: undoFormat, Set: r.set.ID, Instance: r.cfg.Name, Time: time.Now().UTC(), Server: r.server(), Exchange: *r.exchanged,
	}
	r.undoable = rec.worthIt() == nil
	rec.Record = "" // what has been taken back can't be taken back again
	b, err := json.MarshalIndent(rec, "", "  ")
	if err != nil {
		return err
	}
	return atomicfile.Write(filepath.Join(r.stateDir(), recovery.RecordName), append(b, '\n'), 0o600)
}

// UndoOptions say which restore to undo.
type UndoOptions struct {
	Config *config.Config
	// Yes agrees to it; without it, Confirm is asked.
	Yes     bool
	Confirm func(question, word string) (bool, error)
	NoStart bool
	// DryRun only tells what would be moved.
	DryRun bool
	// StateDir is that of the configuration, if it was given separately.
	StateDir string
	Report   progress.Reporter
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
	if err != nil {
		return nil, err
	}
	defer lock.Release()
	if j, err := guard.Read(dir); err != nil || j != nil {
		return nil, fail.Wrap(fail.Locked, errors.Join(errors.New("another run has just left the instance in the midst of its work"), err), "",
			recovery.Command(dir)+", then this command again")
	}
	rec, err := readUndo(dir)
	if err != nil {
		return nil, err
	}
	if err := rec.worthIt(); err != nil {
		return nil, err
	}
	if o.DryRun {
		res := &Result{Set: rec.Set, Instance: rec.Instance, Mode: ModeUndo, DryRun: true, Started: started, Reindex: ReindexNotNeeded}
		for _, s := range rec.Swap {
			o.Report.Note("would move " + s.To + " back to " + s.From)
		}
		return res, nil
	}
	if err := o.agree(rec); err != nil {
		return nil, err
	}
	u := &undo{UndoOptions: o, rec: rec, dir: dir, lock: lock}
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
	path := filepath.Join(dir, recovery.RecordName)
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

// worthIt refuses an undo that would leave no OpenCloud: the restore came after the
// data had been lost.
func (rec *undoRecord) worthIt() error {
	l := rec.Server.Layout
	for _, p := range []string{filepath.Join(l.ConfigDir, opencloud.ConfigFile), l.UsersRoot} {
		if l.ConfigDir != "" && !paths.Exists(rec.before(p)) {
			return fail.Usagef("choose another set: \"ocbackup list\"; what the restore replaced is in "+strings.Join(rec.Aside, ", "),
				"there is no OpenCloud to go back to: before the restore of set %s, %s was not there", rec.Set, p)
		}
	}
	return nil
}

// before returns where that is now which was at p before the restore; "" when
// nothing was.
func (rec *undoRecord) before(p string) string {
	placed := false
	for _, s := range rec.Swap {
		if paths.Within(s.From, p) { // moved aside, or a folder above it was
			rel, err := filepath.Rel(s.From, p)
			if err == nil {
				return filepath.Join(s.To, rel)
			}
		}
		placed = placed || paths.Within(s.To, p)
	}
	if placed {
		return ""
	}
	return p
}

func (o UndoOptions) agree(rec *undoRecord) error {
	if o.Yes {
		return nil
	}
	question := fmt.Sprintf("This takes back the restore of set %s (%s). What OpenCloud was given since is no longer seen in it.",
		rec.Set, rec.Time.Local().Format(time.DateTime))
	if rec.ObjectsDeleted > 0 {
		question += fmt.Sprintf("\nThe restore deleted objects from the bucket (%s): files that were uploaded since the set was made will be unreadable.",
			humanize.Comma(int64(rec.ObjectsDeleted)))
	}
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
	lock  *guard.Lock
	state string
}

func (u *undo) run(ctx context.Context, step progress.Step, res *Result) error {
	u.state = "nothing was stopped or changed"
	u.rec.Server.StateDir = u.dir
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
	x := u.rec.Exchange
	x.Keep = u.keep(res.Started)
	// An undo that dies is completed by recovery, which does the same.
	j := guard.Journal{
		Kind: guard.Restore, Instance: u.rec.Instance, Set: u.rec.Set, WasRunning: !u.NoStart && u.rec.Server.Control.Type != "none",
		Also: before.Also, Server: server, Exchange: &x,
	}
	if err := guard.Write(u.dir, j); err != nil {
		return err
	}
	g, err := guard.Arm(u.dir)
	if err != nil {
		return errors.Join(err, guard.Clear(u.dir))
	}
	asked := time.Now()
	ctx = context.WithoutCancel(ctx)
	u.state = "OPENCLOUD IS NOT BACK"
	_, err = recovery.TakeBack(ctx, u.dir, u.rec.Server, &x, step.Update)
	switch {
	case err != nil:
		err = u.mend(ctx, step, res, j, before.State == control.Running, err)
	case j.WasRunning:
		if _, err = recovery.Start(ctx, u.rec.Server, before.Also, step.Update); err == nil {
			res.Running = true
			err = guard.Clear(u.dir)
		}
	default:
		err = guard.Clear(u.dir)
	}
	if err = errors.Join(err, g.Disarm()); err != nil {
		return err
	}
	res.WasRunning = before.State == control.Running
	res.Downtime = time.Since(asked).Seconds()
	u.state = "the old data is back"
	return u.tell(res, x)
}

// mend makes the best of an undo that failed: what has begun to move is seen through
// by recovery, and else what was running is started as it is.
func (u *undo) mend(ctx context.Context, step progress.Step, res *Result, j guard.Journal, running bool, cause error) error {
	if untouched, err := guard.SwapDone(u.rec.Swap); err != nil || !untouched {
		u.lock.Release()
		out, err := recovery.Recover(ctx, u.dir, u.Report)
		if err != nil {
			return errors.Join(err, cause)
		}
		res.Running = out.Did == recovery.Started || out.Did == recovery.Running
		return nil
	}
	j.Exchange, j.WasRunning = nil, running
	if err := guard.Write(u.dir, j); err != nil {
		return fail.Wrap(fail.NotBack, errors.Join(err, cause), "", recovery.Command(u.dir))
	}
	if running {
		if _, err := recovery.Start(ctx, u.rec.Server, j.Also, step.Update); err != nil {
			return errors.Join(err, cause)
		}
		u.state = "nothing was undone; OpenCloud is running with the restored data"
	} else {
		u.state = "nothing was undone; OpenCloud is stopped, as it was before"
	}
	return errors.Join(fail.Wrap(fail.Failed, cause, "", ""), guard.Clear(u.dir))
}

// keep says where the data of the restore goes: to a name that no later restore
// takes for its own staging.
func (u *undo) keep(now time.Time) []guard.Rename {
	var out []guard.Rename
	name := asidePrefix + u.rec.Set + "-undone-" + now.UTC().Format("20060102T150405Z")
	for _, s := range u.rec.Swap {
		for _, p := range []string{s.From, s.Spare} {
			dir := p
			for dir != "/" && dir != "." && !strings.HasPrefix(filepath.Base(dir), stagePrefix) {
				dir = filepath.Dir(dir)
			}
			k := guard.Rename{From: dir, To: filepath.Join(filepath.Dir(dir), name)}
			if strings.HasPrefix(filepath.Base(dir), stagePrefix) && !slices.Contains(out, k) {
				out = append(out, k)
			}
		}
	}
	return out
}

// tell says where the data of the restore lies now, and what is to be done.
func (u *undo) tell(res *Result, x guard.Exchange) error {
	for _, k := range x.Keep {
		if paths.Exists(k.To) {
			res.Aside = append(res.Aside, k.To)
		}
	}
	if len(res.Aside) > 0 {
		res.Delete = recovery.RemoveCommand(res.Aside)
	}
	if u.rec.Server.Layout.Driver == opencloud.DecomposedS3 {
		text := "The bucket is no part of an undo: objects that the restore added stay, and what OpenCloud has deleted from it since stays deleted."
		if u.rec.ObjectsDeleted > 0 {
			text = "The bucket is no part of an undo: files whose objects the restore deleted are unreadable now."
		}
		res.Notes = append(res.Notes, text)
		u.Report.Note(text)
	}
	m, err := index.Required(u.dir)
	if m != nil {
		res.Reindex, res.ReindexWhy, res.ReindexBy = ReindexPending, m.Detail, command(u.Config.Path, u.StateDir, "reindex")
	}
	return err
}
