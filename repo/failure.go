package repo

import (
	"context"
	"errors"
	"strings"

	"github.com/ocbackup/ocbackup/fail"
)

// Failure turns an error of this package into what a person is told: what failed,
// the exit code that the error stands for, and what to do next. A nil error gives
// nil; an error whose cause is the end of the context keeps that cause's code.
func (r *Repo) Failure(err error, what string) error {
	if err == nil {
		return nil
	}
	var (
		incomplete *IncompleteError
		missing    *NotInstalledError
		old        *TooOldError
		damage     *RestoreError
	)
	code, hint := fail.Repository, "check the repository: "+r.Location()
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return &fail.Error{Code: fail.CodeOf(err), What: what, Err: err}
	case errors.As(err, &incomplete):
		code, hint = fail.Incomplete, "make these readable for the user that runs ocbackup, or remove them; then run it again"
	case errors.As(err, &missing):
		code, hint = fail.Usage, "install restic "+MinVersion.String()+" or newer, or name the program with restic = \"/path/to/restic\" in [repository]"
	case errors.As(err, &old):
		code, hint = fail.Usage, "install a newer restic, or name one with restic = \"/path/to/restic\" in [repository]"
	case errors.Is(err, ErrNoPassword):
		code, hint = fail.Usage, "set password_file or password_command in [repository]"
	case errors.Is(err, ErrExists):
		code, hint = fail.Usage, "use it with its own password, or choose another location"
	case errors.As(err, &damage) && damage.atTarget():
		code, hint = fail.Failed, TargetHint
	case errors.As(err, &damage), errors.Is(err, ErrDamaged):
		code, hint = fail.Inconsistent, "\"ocbackup verify\" tells what is damaged; other sets may be sound"
	case errors.Is(err, ErrWrongPassword):
		hint = "check password_file (or password_command) in [repository]: it does not open " + r.Location()
	case errors.Is(err, ErrNoRepository):
		hint = "is its disk mounted? else correct location in [repository]; a new one is created with \"ocbackup init\": " + r.Location()
	case errors.Is(err, ErrLocked):
		hint = "wait until the other restic is done; a lock of a process that is gone is removed by itself on the same machine, on another with \"restic unlock\""
	case strings.Contains(err.Error(), "no space left on device"):
		hint = "make room in the repository, and for restic's cache and temporary files (cache_dir and temp_dir in [repository])"
	}
	return &fail.Error{Code: code, What: what, Hint: hint, Err: err}
}

// Host is the host name that snapshots of this instance carry.
func (r *Repo) Host() string { return r.opt.Host }
