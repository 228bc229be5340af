// Package fail gives every failure of ocbackup the same shape: an exit code
// that never changes its meaning, and the four answers an admin needs: what
// failed, why, what state things are in now, and what to do next.
package fail

import (
	"errors"
	"fmt"
	"strings"
)

// Code is a process exit code. The numbers are a contract with scripts and
// monitoring; docs/exit-codes.md lists them.
type Code int

// The exit codes. See docs/exit-codes.md.
const (
	OK           Code = 0   // done; for backup: committed
	Failed       Code = 1   // failed; nothing committed; the instance is as it was before
	Usage        Code = 2   // usage or configuration
	Incomplete   Code = 3   // something could not be read; nothing committed; instance running
	Inconsistent Code = 4   // committed but inconsistent, or verify found damage
	NotBack      Code = 5   // the instance is not back: look now
	Locked       Code = 6   // another run holds the lock
	Deadline     Code = 7   // deadline exceeded; the instance was brought back
	Repository   Code = 8   // repository or pool cannot be reached, opened or is locked
	Interrupted  Code = 130 // interrupted; the instance is as it was before
)

// Error is a failure as a person (and --json) gets to see it. The zero Code is
// read as Failed.
type Error struct {
	Code  Code
	Step  string // the step that failed: prepare, hot, cold, store, ...; may be empty
	What  string // what failed, on what: "read root metadata (/srv/oc/storage/users)"
	State string // what state things are in now: "OpenCloud is running; nothing was committed"
	Hint  string // what to do next; one command where there is one
	Err   error  // why: the cause, in the child's own words where a child failed
}

// Error says what failed and why, on one line where the cause has one line.
func (e *Error) Error() string {
	switch {
	case e.Err == nil:
		return e.What
	case e.What == "":
		return e.Err.Error()
	}
	return e.What + ": " + e.Err.Error()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// New returns an Error with a code, what failed, and what to do next.
func New(code Code, what, hint string) *Error {
	return &Error{Code: code, What: what, Hint: hint}
}

// Wrap returns err as an Error with a code, what failed, and what to do next.
// A nil err gives nil. A hint that err already carries is kept when hint is empty.
func Wrap(code Code, err error, what, hint string) error {
	if err == nil {
		return nil
	}
	return &Error{Code: code, What: what, Hint: hint, Err: err}
}

// Usagef returns a usage or configuration error.
func Usagef(hint, format string, args ...any) *Error {
	return New(Usage, fmt.Sprintf(format, args...), hint)
}

// CodeOf returns the exit code that err stands for: OK for nil, the code that
// outranks the others among all Errors in err's tree (NotBack first), Failed
// when no Error is in it.
func CodeOf(err error) Code {
	if err == nil {
		return OK
	}
	var worst Code
	walk(err, func(e *Error) {
		c := e.Code
		if c == OK {
			c = Failed
		}
		if rank(c) > rank(worst) {
			worst = c
		}
	})
	if worst == OK {
		return Failed
	}
	return worst
}

// Details returns the outermost Step, State and the innermost non-empty Hint
// that err's tree carries, for rendering.
func Details(err error) (step, state, hint string) {
	walk(err, func(e *Error) {
		if step == "" {
			step = e.Step
		}
		if state == "" {
			state = e.State
		}
		if e.Hint != "" && (hint == "" || rank(e.Code) >= rank(CodeOf(err))) {
			hint = e.Hint
		}
	})
	return step, state, strings.TrimSpace(hint)
}

// rank orders codes by how much they matter when several apply: a failed
// restart outranks every other result.
func rank(c Code) int {
	switch c {
	case OK:
		return 0
	case Failed:
		return 1
	case NotBack:
		return 100
	case Interrupted:
		return 50
	case Deadline:
		return 40
	default:
		return 10
	}
}

// walk calls f for every Error in err's tree, outermost first.
func walk(err error, f func(*Error)) {
	for err != nil {
		if e, ok := err.(*Error); ok { //nolint:errorlint // the tree is walked by hand
			f(e)
		}
		switch u := err.(type) { //nolint:errorlint // the tree is walked by hand
		case interface{ Unwrap() []error }:
			for _, e := range u.Unwrap() {
				walk(e, f)
			}
			return
		default:
			err = errors.Unwrap(err)
		}
	}
}
