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
	// Swap is the plan by which a restore puts new data in the place of the old, to
	// be undone when the restore died before it was done.
	Swap []Rename `json:"swap,omitempty"`
	// Hold tells why the instance must not be started as it is: a restore in place
	// that has not been completed. Empty: nothing holds it.
	Hold string `json:"hold,omitempty"`
}

// Kind says what kind of run a journal belongs to.
type Kind string

// The kinds of runs that stop an instance.
const (
	Backup  Kind = "backup"
	Restore Kind = "restore"
)

// Rename is one step of a swap: From is moved to To.
type Rename struct {
	From string `json:"from"`
	To   string `json:"to"`
}

// ErrLocked says that another run works on the instance; it is wrapped in a
// *LockedError that says who.
var ErrLocked = errors.New("another run is under way")
