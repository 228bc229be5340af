// Package guard sees to it that an instance that was stopped comes back up,
// whatever dies: a journal on disk that says what was stopped and how to bring it
// back, a lock so that one run at a time works on an instance, and a guard process
// that acts when the main process is gone.
package guard

import (
	"encoding/json"
	"errors"
	"time"
)

// Journal is the record of a run that has stopped, or is about to stop, an
// instance. It is on disk (fsynced) before the stop and removed once the instance
// is back.
type Journal struct {
	Format   int    `json:"format"` // 1
	Kind     Kind   `json:"kind"`
	Instance string `json:"instance"`
	Set      string `json:"set"`
	PID      int    `json:"pid"`
	BootID   string `json:"boot_id"`
	// Written is when the journal was first written: right before the stop is asked
	// for, so that downtime is counted from here when the run dies.
	Written time.Time `json:"written"`
	// Deadline is when the instance must be back at the latest; zero: none. A main
	// process that has not disarmed the guard until a while after it is killed.
	Deadline time.Time `json:"deadline,omitzero"`
	// WasRunning tells whether the instance is to be started again.
	WasRunning bool `json:"was_running"`
	// Also are the further services that were running and are to be started again.
	Also []string `json:"also,omitempty"`
	// Server is all that bringing the instance back needs (control, readiness), as
	// package recovery writes and reads it.
	Server json.RawMessage `json:"server"`
	// Exchange is how a restore puts new data in the place of the old, to be taken
	// back when the run died before it was done. Nil: there is nothing to take back.
	Exchange *Exchange `json:"exchange,omitempty"`
	// Staging lists directories with nothing in them but copies out of the repository.
	// They are removed once the instance is back.
	Staging []string `json:"staging,omitempty"`
	// Hold tells why the instance must not be started as it is: a restore in place
	// that has not been completed. Empty: nothing holds it. Again is the command that
	// completes it.
	Hold  string `json:"hold,omitempty"`
	Again string `json:"again,omitempty"`
}

// Kind says what kind of run a journal belongs to.
type Kind string

// The kinds of runs that stop an instance.
const (
	Backup  Kind = "backup"
	Restore Kind = "restore"
)

// Exchange is an exchange of data, with all that taking it back takes.
type Exchange struct {
	// Swap is the plan by which the data is moved.
	Swap []Rename `json:"swap,omitempty"`
	// Stay are the directories in its midst that are not moved, with the metadata that
	// they had before.
	Stay map[string]Meta `json:"stay,omitempty"`
	// Aside lists the directories that take the old data. What of them is empty goes
	// when the old data is back.
	Aside []string `json:"aside,omitempty"`
	// Marker is the reindex marker as it was before, null when there was none, as
	// package recovery writes and reads it.
	Marker json.RawMessage `json:"marker,omitempty"`
	// Record is what the record of the restore before said (undo.json in the state
	// directory); empty: there was none.
	Record string `json:"record,omitempty"`
	// Keep are renames that follow when the old data is back: what was in its place
	// goes where no later restore takes it for its own staging.
	Keep []Rename `json:"keep,omitempty"`
	// Absent tells that there was no instance before, so that there may be nobody who
	// could be asked whether it is stopped.
	Absent bool `json:"absent,omitempty"`
}

// Rename is one step of a swap: From is moved to To.
type Rename struct {
	From string `json:"from"`
	To   string `json:"to"`
	// Spare is set where no other step of the plan fills From again, so that somebody
	// else may: a server makes directories anew that it misses. It is where that goes
	// when the step is undone.
	Spare string `json:"spare,omitempty"`
}

// ErrLocked says that another run works on the instance; it is wrapped in a
// *LockedError that says who.
var ErrLocked = errors.New("another run is under way")

// ErrHeld says that an instance must not be started, and that only a person can
// change that (Journal.Hold).
var ErrHeld = errors.New("the instance must not be started")
