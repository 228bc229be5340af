// Package recovery brings an instance back that an ocbackup has stopped which is
// no longer there to start it: by the guard process, by ExecStopPost= of the unit,
// by the next run, by the unit at boot, or by hand. All of them do the same, in any
// order and as often as they like.
package recovery

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/guard"
	"github.com/ocbackup/ocbackup/opencloud/control"
	"github.com/ocbackup/ocbackup/progress"
)

// Did says what a recovery did.
type Did string

// What a recovery may do.
const (
	Nothing Did = "nothing" // there was no journal: nothing was left stopped
	Cleared Did = "cleared" // the instance was not running before, so it was not started
	Running Did = "running" // the instance was running already, and is ready
	Started Did = "started" // the instance was started, and is ready
)

// Outcome is what a recovery did.
type Outcome struct {
	Did      Did        `json:"did"`
	Kind     guard.Kind `json:"kind,omitempty"` // of the run that died
	Instance string     `json:"instance,omitempty"`
	Set      string     `json:"set,omitempty"`
	// Undone tells that the old data of an interrupted restore was put back.
	Undone bool `json:"undone,omitempty"`
	// Downtime is how long the instance was away, in seconds; 0 when that is not known.
	Downtime float64 `json:"downtime_s,omitempty"`
	// Left are directories of copies out of the repository that could not be removed.
	Left []string `json:"left,omitempty"`
	// Damaged is where a journal was moved that could not be understood.
	Damaged string `json:"damaged,omitempty"`
}

// String says it for people.
func (o *Outcome) String() string {
	run := "an interrupted " + string(o.Kind)
	if o.Kind == "" {
		run = "an interrupted run"
	}
	if o.Undone {
		run += ", whose old data was put back"
	}
	s := ""
	switch o.Did {
	case Nothing:
		return "nothing to do: no run was interrupted"
	case Cleared:
		s = "tidied up after " + run + "; OpenCloud was not started"
	case Running:
		s = "OpenCloud is running and ready after " + run
	case Started:
		s = "OpenCloud was started and is ready after " + run
	}
	if o.Downtime > 0 {
		s += fmt.Sprintf(" (downtime %s)", time.Duration(o.Downtime*float64(time.Second)).Round(100*time.Millisecond))
	}
	if len(o.Left) > 0 {
		s += "; left over, and of no use: " + RemoveCommand(o.Left)
	}
	if o.Damaged != "" {
		s += "; the damaged journal is now " + o.Damaged
	}
	return s
}

// HeldError says that the instance must not be started: a restore in place has
// been interrupted, so its data are half old and half new.
type HeldError struct {
	Set    string
	Reason string
}

// Error gives the reason.
func (e *HeldError) Error() string { return e.Reason }

// Unwrap returns guard.ErrHeld.
func (e *HeldError) Unwrap() error { return guard.ErrHeld }

// Options say what to recover.
type Options struct {
	StateDir string
	Report   progress.Reporter // nil: nobody is told
	// Fallback is used when the journal can't be understood; nil: there is none.
	Fallback *Server
	// Dead is a process that was killed. If it holds the lock even so (it hangs in
	// the kernel and will do nothing more), the lock is disregarded after a while.
	Dead int
}

// Recover finishes what an interrupted run has left: it puts old data back, starts
// the instance if it was running before, waits until it is ready, and clears the
// journal. Without a journal there is nothing to do. While another process
// recovers, it waits; while a run is under way, the error carries fail.Locked. An
// instance that is not back is an error that carries fail.NotBack; the journal is
// kept then.
func Recover(ctx context.Context, stateDir string, rep progress.Reporter) (*Outcome, error) {
	return Run(ctx, Options{StateDir: stateDir, Report: rep})
}

// Run is Recover with all options.
func Run(ctx context.Context, o Options) (*Outcome, error) {
	if !pending(o.StateDir) {
		return &Outcome{Did: Nothing}, nil
	}
	lock, err := o.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer lock.Release()
	j, err := guard.Read(o.StateDir)
	if err == nil && j == nil {
		return &Outcome{Did: Nothing}, nil // another process was faster
	}

	if o.Report == nil {
		o.Report = progress.Discard
	}
	step := o.Report.Step("recover")
	out, err := o.recover(ctx, step, j, err)
	if err != nil {
		err = &fail.Error{Code: fail.CodeOf(err), Step: "recover", Err: err}
		step.Fail(err)
		return nil, err
	}
	step.Done(out.String())
	return out, nil
}

// recover acts on a journal, or on the error that came of reading it.
func (o Options) recover(ctx context.Context, step progress.Step, j *guard.Journal, err error) (*Outcome, error) {
	var s Server
	if err == nil {
		if bad := json.Unmarshal(j.Server, &s); bad != nil {
			err = &guard.DamagedError{Path: filepath.Join(o.StateDir, guard.JournalName), Err: fmt.Errorf("server: %w", bad)}
		}
	}
	var damaged *guard.DamagedError
	switch {
	case errors.As(err, &damaged):
		return o.withoutJournal(ctx, step, damaged)
	case err != nil:
		return nil, &fail.Error{
			Code: fail.NotBack, Err: err, State: "it is not known whether OpenCloud runs",
			Hint: "look whether OpenCloud runs, and start it if it does not",
		}
	}

	out := &Outcome{Did: Cleared, Kind: j.Kind, Instance: j.Instance, Set: j.Set}
	if out.Undone, err = TakeBack(ctx, o.StateDir, s, j.Exchange, step.Update); err != nil {
		return nil, o.notBack(ctx, s, err)
	}
	if j.Hold != "" {
		return nil, o.held(ctx, step, s, j)
	}
	if j.WasRunning {
		before, err := bring(ctx, s, j.Also, step.Update)
		if err != nil {
			return nil, o.notBack(ctx, s, err)
		}
		out.Did = Running
		if before != control.Running || out.Undone {
			out.Did, out.Downtime = Started, time.Since(j.Written).Seconds()
		}
	}
	out.Left = discard(step, j.Staging)
	if err := guard.Clear(o.StateDir); err != nil {
		return nil, fail.Wrap(fail.Failed, err, "tidy up after "+string(j.Kind), "check the state directory ("+o.StateDir+")")
	}
	return out, nil
}

// held leaves the instance stopped. The journal stays, but for an exchange that has
// been taken back: the next restore makes another.
func (o Options) held(ctx context.Context, step progress.Step, s Server, j *guard.Journal) error {
	if j.Exchange != nil || len(j.Staging) > 0 {
		rest := *j
		rest.Exchange, rest.Staging = nil, discard(step, j.Staging)
		if err := guard.Write(o.StateDir, rest); err != nil {
			return o.notBack(ctx, s, err)
		}
	}
	again := j.Again
	if again == "" {
		again = "ocbackup restore --in-place " + j.Set
	}
	return &fail.Error{
		Code: fail.NotBack, Err: &HeldError{j.Set, j.Hold},
		State: "OpenCloud is stopped, its data are half restored; it is not started like that",
		Hint:  again,
	}
}

// discard removes copies out of the repository, and returns what is left of them.
func discard(step progress.Step, staging []string) (left []string) {
	for _, dir := range staging {
		step.Update("removing " + dir)
		if err := os.RemoveAll(dir); err != nil {
			left = append(left, dir)
		}
	}
	return left
}

// ofRestore finds the kind of run in the remains of a journal.
var ofRestore = regexp.MustCompile(`"kind"\s*:\s*"restore"`)

// withoutJournal starts the instance as it is configured, since what the journal
// said is lost. It does not when the journal may have been that of a restore, or
// when data are missing: with those, a start does harm.
func (o Options) withoutJournal(ctx context.Context, step progress.Step, damaged *guard.DamagedError) (*Outcome, error) {
	refuse := func(why, hint string) error {
		return &fail.Error{Code: fail.NotBack, What: why, Err: damaged, State: "it is not known whether OpenCloud runs", Hint: hint}
	}
	byHand := "see that OpenCloud's data are complete, start it, then remove " + damaged.Path
	if o.Fallback == nil {
		return nil, refuse("bring OpenCloud back", "ocbackup --config FILE recover; or "+byHand)
	}
	if b, err := os.ReadFile(damaged.Path); err != nil || ofRestore.Match(b) {
		return nil, refuse("bring OpenCloud back after a restore", byHand)
	}
	l := o.Fallback.Layout
	for _, dir := range []string{l.ConfigDir, l.DataDir, l.UsersRoot} {
		if dir == "" {
			continue
		}
		if _, err := os.Stat(dir); err != nil {
			return nil, refuse("bring OpenCloud back: "+err.Error(), byHand)
		}
	}
	before, err := bring(ctx, *o.Fallback, o.Fallback.Control.AlsoStop, step.Update)
	if err != nil {
		return nil, o.notBack(ctx, *o.Fallback, err)
	}
	out := &Outcome{Did: Started}
	if before == control.Running {
		out.Did = Running
	}
	if out.Damaged, err = guard.SetAside(o.StateDir); err != nil {
		return nil, err
	}
	return out, nil
}

// notBack is the failure to bring the instance back. The journal stays.
func (o Options) notBack(ctx context.Context, s Server, err error) error {
	s.StateDir = o.StateDir
	return NotBack(ctx, s, err)
}

// pending tells whether there is a journal, good or bad.
func pending(dir string) bool {
	_, err := os.Lstat(filepath.Join(dir, guard.JournalName))
	return !errors.Is(err, fs.ErrNotExist)
}

// Pending lists the state directories below base in which a journal has been left.
func Pending(base string) ([]string, error) {
	entries, err := os.ReadDir(base)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var dirs []string
	for _, e := range entries {
		if dir := filepath.Join(base, e.Name()); e.IsDir() && pending(dir) {
			dirs = append(dirs, dir)
		}
	}
	return dirs, err
}
