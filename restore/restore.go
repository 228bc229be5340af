// Package restore is the way back: a whole instance, some of its components, or a
// copy beside it. The ordered steps are in this file; each subject is a file of its
// own.
//
// A restore keeps the server away no longer than a few renames take, and can be
// undone at any moment: new data is staged beside the old while the server runs,
// compared with the census of the set, and only then exchanged with the old, which
// is kept.
package restore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize/english"

	"github.com/ocbackup/ocbackup/config"
	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/guard"
	"github.com/ocbackup/ocbackup/manifest"
	"github.com/ocbackup/ocbackup/opencloud/control"
	"github.com/ocbackup/ocbackup/opencloud/index"
	"github.com/ocbackup/ocbackup/paths"
	"github.com/ocbackup/ocbackup/progress"
	"github.com/ocbackup/ocbackup/recovery"
	"github.com/ocbackup/ocbackup/snapshot"
)

// step is one step of a restore: it returns its one-line summary.
type step struct {
	name string
	do   func(context.Context, progress.Step) (string, error)
	// needed tells whether there is anything to do; nil: there is.
	needed func() bool
}

// mendStep may fail without the steps after it being left out.
const mendStep = "mend"

// Run restores. When it fails before the new data is in place, the old is as it
// was before, and the instance runs again if it ran; otherwise the error says so
// with fail.NotBack. When it fails after that, the result comes with the error: the
// data is restored, and how to go on is in the result.
func Run(ctx context.Context, o Options) (*Result, error) {
	r := &run{Options: o, started: time.Now(), maps: newMapper(o.Maps)}
	r.res = &Result{Started: r.started, DryRun: o.DryRun, Mode: r.mode(), Reindex: ReindexNotNeeded}
	defer r.close()

	steps := []step{
		{"prepare", r.prepare, nil}, // whatever could fail later fails here, with nothing stopped
	}
	switch {
	case o.DryRun:
	case o.Target != "":
		steps = append(steps,
			step{"restore", r.beside, nil}, // below the target; the instance is not touched
		)
	case o.InPlace:
		steps = append(steps,
			step{"bucket", r.fillBucket, r.hasBucket}, // while the instance runs: the objects that the bucket lacks
			step{"cold", r.coldInPlace, r.hasRoots},   // the instance away: overwritten, compared, started, ready
		)
	default:
		steps = append(steps,
			step{"stage", r.stage, r.hasRoots},        // while the instance runs: the data beside its place
			step{"check", r.check, r.hasRoots},        // what was staged, before anything is stopped
			step{"bucket", r.fillBucket, r.hasBucket}, // the objects that the bucket lacks
			step{"cold", r.cold, r.hasRoots},          // the instance away: exchanged, started, ready
		)
	}
	if !o.DryRun && o.Target == "" {
		steps = append(steps,
			step{mendStep, r.mendBucket, r.hasBucket},  // objects that the server has deleted before it was stopped
			step{"reindex", r.reindex, r.hasRoots},     // where the restored index can't be used
			step{"delete", r.deleteExtra, r.hasBucket}, // objects that the set does not have, if asked for
		)
	}
	for _, s := range steps {
		if s.needed != nil && !s.needed() {
			continue
		}
		rep := o.Report.Step(s.name)
		summary, err := s.do(ctx, rep)
		if err != nil {
			rep.Fail(err)
			err = r.failure(ctx, s.name, err)
			if s.name == mendStep && r.done {
				r.unmended = err // no reason to leave the server without its search
				continue
			}
			if !r.done {
				return nil, err
			}
			return r.finish(), errors.Join(r.unmended, err)
		}
		if summary == "" {
			rep.Skip("nothing to do")
			continue
		}
		rep.Done(summary)
	}
	return r.finish(), r.unmended
}

// finish ends a restore whose data is in place.
func (r *run) finish() *Result {
	r.tidy()
	r.res.Seconds = time.Since(r.started).Seconds()
	return r.res
}

// run is what the steps of one restore hand on to each other.
type run struct {
	Options
	started time.Time
	maps    mapper
	res     *Result

	// prepare
	set      *manifest.Set
	cfg      *config.Config // of the instance as it is after the restore
	lock     *guard.Lock
	held     *guard.Journal // of a restore in place that was not completed, or of a run after which the instance does not start
	undoable bool           // what gave way is an OpenCloud that can be gone back to
	ailing   bool           // the instance does not start with the data it has
	ctl      control.Controller
	before   control.Status // the instance as it was found
	mounts   mounts
	items    []*item
	groups   []*group
	keep     []string       // paths in the midst of the targets that stay
	other    bool           // the installed server has another version than the set
	local    *snapshot.View // what is kept of the set on this host; nil: nothing, or it is not used

	// bucket
	bucket   *bucketPart // nil: there is none, or it is not wanted
	temp     []string    // temporary directories
	unmended error       // of the step "mend"

	// stage, check
	made         []string // directories that were made for the staging, outermost first
	stages       []string // staging directories
	reindexWhy   string   // why the search index must be built again; empty: it need not
	reindexState index.State

	// cold
	plan      *plan
	fresh     map[string]guard.Meta // what the directories that stay take on
	exchanged *guard.Exchange       // all that taking it back takes
	journaled bool                  // there is a journal of this run
	stopped   bool                  // a stop was asked for
	done      bool                  // the new data is in place for good
	back      bool                  // the instance is in the state it is to be in
	unready   bool                  // a new instance that did not come up
	hold      bool                  // a restore in place has begun to write
}

func (r *run) mode() string {
	switch {
	case r.Target != "":
		return ModeBeside
	case r.onlyBucket():
		return ModeBucket
	case r.InPlace:
		return ModeInPlace
	}
	return ModeStaged
}

func (r *run) stateDir() string { return r.cfg.StateDir }

func (r *run) cacheDir() string {
	switch {
	case r.cfg != nil && r.cfg.StateDir != "":
		return filepath.Join(r.cfg.StateDir, "cache")
	case r.StateDir != "":
		return filepath.Join(r.StateDir, "cache")
	}
	return ""
}

// running tells whether the instance ran when it was found.
func (r *run) running() bool {
	return r.before.State == control.Running || r.held != nil && r.held.WasRunning
}

// server is all that bringing the instance back needs.
func (r *run) server() recovery.Server { return recovery.ServerOf(r.cfg) }

// command is a command of ocbackup's for the instance, as it can be copied.
func (r *run) command(words ...string) string {
	path := r.ConfigPath
	if r.Config != nil {
		path = r.Config.Path
	}
	return command(path, r.StateDir, words...)
}

// command is a command of ocbackup's with the options that it needs: those that say
// what is not in its usual place.
func command(configPath, stateDir string, words ...string) string {
	args := []string{"ocbackup"}
	if configPath != "" && configPath != config.DefaultPath {
		args = append(args, "--config", configPath)
	}
	if stateDir != "" {
		args = append(args, "--state-dir", stateDir)
	}
	args = append(args, words...)
	for i := range args {
		args[i] = recovery.Quote(args[i])
	}
	return strings.Join(args, " ")
}

// note tells something that is worth a line of its own, now and in the summary.
func (r *run) note(text string) {
	r.res.Notes = append(r.res.Notes, text)
	r.Report.Note(text)
}

// failure adds to an error what state things are in.
func (r *run) failure(ctx context.Context, name string, err error) error {
	code := fail.CodeOf(err)
	if cause := context.Cause(ctx); cause != nil && code == fail.Failed {
		err = errors.Join(cause, err)
		code = fail.CodeOf(err)
	}
	return &fail.Error{Code: code, Step: name, State: r.state(), Err: err}
}

// state says what state things are in.
func (r *run) state() string {
	switch {
	case r.onlyBucket() && r.done:
		return "the objects are in " + r.bucket.name + "; OpenCloud was not touched"
	case r.hold:
		return "OPENCLOUD IS STOPPED, and its data are half restored; it is not started like that"
	case r.stopped && !r.back && r.done:
		return "OPENCLOUD IS NOT BACK; the restored data is in place"
	case r.stopped && !r.back:
		return "OPENCLOUD IS NOT BACK"
	case r.unready:
		return "the restored data is in place; OpenCloud did not come up with it"
	case r.done && r.res.Running:
		return "OpenCloud is running with the restored data"
	case r.done:
		return "the restored data is in place; OpenCloud is stopped"
	case r.ailing && !r.stopped:
		return "nothing was changed" + r.saveObjects() + "; OpenCloud does not start, as before"
	case r.held != nil:
		return "OpenCloud is stopped: an earlier restore in place was not completed"
	case r.stopped && r.running():
		return "OpenCloud is running again, with its old data"
	case r.stopped:
		return "OpenCloud is stopped, as it was before, with its old data"
	}
	return "nothing was stopped or changed" + r.saveObjects()
}

// saveObjects says what a restore that failed before the stop has done all the same.
func (r *run) saveObjects() string {
	if r.bucket == nil || !r.bucket.touched || r.Target != "" {
		return ""
	}
	s := ", save for objects that were added to " + r.bucket.name
	if n := r.bucket.diff.Differing; n > 0 {
		s += fmt.Sprintf(" or overwritten there (%s had another content than in the set)", english.Plural(int(n), "object", ""))
	}
	return s
}

// close gives back what the run holds. What was staged stays while it is needed to
// bring the old data back.
func (r *run) close() {
	undone := !r.done && (r.back || !r.stopped)
	switch {
	case undone && r.KeepStaging:
		r.stages = slices.DeleteFunc(r.stages, func(d string) bool { return !paths.Exists(d) })
		if len(r.stages) == 0 {
			break
		}
		r.note("What was staged is kept; to do away with it: " + recovery.RemoveCommand(r.stages))
	case undone:
		r.unstage()
	}
	if undone && r.plan != nil {
		if err := recovery.RemoveEmpty(r.asides()); err != nil {
			r.note("A directory for old data could not be removed: " + err.Error())
		}
	}
	if undone && r.journaled {
		if err := r.forget(); err != nil {
			r.note(err.Error() + "; to tidy up: " + recovery.Command(r.stateDir()))
		}
	}
	if r.bucket != nil {
		r.bucket.close()
	}
	for _, dir := range r.temp {
		if err := os.RemoveAll(dir); err != nil {
			r.note("A temporary directory could not be removed: " + err.Error())
		}
	}
	r.closeLocal(context.Background())
	r.lock.Release()
}
