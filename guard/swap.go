package guard

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/ocbackup/ocbackup/atomicfile"
)

// Swap does the steps of a plan in their order, each on disk before the next
// begins, and those that were done already not again. Nothing is ever
// overwritten. The paths of a step must be on one file system.
//
// How far the plan has come is told by which of its paths exist, so a plan after
// whose steps the same paths exist as before (an exchange) is refused. What has come
// up at a From since is no obstacle where the step has a Spare.
func Swap(steps []Rename) error {
	done, err := progress(steps)
	if err != nil {
		return err
	}
	for _, s := range steps[done:] {
		if err := Move(s.From, s.To); err != nil {
			return err
		}
	}
	return nil
}

// UndoSwap undoes what has been done of a plan, the last step first, under the
// same rules as Swap. What has come up at a From since is moved to the step's Spare.
// Directories above a From or a Spare are made. Either function may be repeated after
// it was interrupted.
func UndoSwap(steps []Rename) error {
	done, err := progress(steps)
	if err != nil {
		return err
	}
	for i := done - 1; i >= 0; i-- {
		if err := makeWay(steps[i]); err != nil {
			return err
		}
		if err := Move(steps[i].To, steps[i].From); err != nil {
			return err
		}
	}
	return nil
}

// makeWay makes room for what goes back to where a step took it from.
func makeWay(s Rename) error {
	if err := os.MkdirAll(filepath.Dir(s.From), 0o700); err != nil {
		return err
	}
	taken, err := exists(s.From)
	if err != nil || !taken || s.Spare == "" {
		return err // the move refuses to overwrite
	}
	spare := s.Spare
	for n := 2; ; n++ {
		used, err := exists(spare)
		if err != nil {
			return err
		}
		if !used {
			break
		}
		spare = fmt.Sprintf("%s-%d", s.Spare, n) // it has come up more than once
	}
	if err := os.MkdirAll(filepath.Dir(spare), 0o700); err != nil {
		return err
	}
	return Move(s.From, spare)
}

// SwapBegun tells whether any step of a plan has been done.
func SwapBegun(steps []Rename) (bool, error) {
	done, err := progress(steps)
	return done > 0, err
}

// SwapDone tells whether all steps of a plan have been done.
func SwapDone(steps []Rename) (bool, error) {
	done, err := progress(steps)
	return done == len(steps), err
}

// progress returns how many steps of a plan have been done.
func progress(steps []Rename) (int, error) {
	is := map[string]bool{}
	for _, s := range steps {
		for _, p := range []string{s.From, s.To} {
			if _, known := is[p]; known {
				continue
			}
			there, err := exists(p)
			if err != nil {
				return 0, err
			}
			is[p] = there
		}
	}
	found := -1
	for n := range len(steps) + 1 {
		if !matches(steps, n, is) {
			continue
		}
		if found >= 0 {
			return 0, fmt.Errorf("which of the %d renames have been done can't be told: they form a circle", len(steps))
		}
		found = n
	}
	if found < 0 {
		return 0, &SwapError{steps, is}
	}
	return found, nil
}

// matches reports whether the paths that exist are those that exist after n steps.
func matches(steps []Rename, n int, is map[string]bool) bool {
	want := map[string]bool{}
	for i := len(steps) - 1; i >= n; i-- { // before the steps to come ...
		want[steps[i].From], want[steps[i].To] = true, false
	}
	free := map[string]bool{}     // where something may have come up again
	for _, s := range steps[:n] { // ... and after those that were done
		want[s.From], want[s.To] = false, true
		free[s.From] = s.Spare != ""
	}
	for p, there := range is {
		if want[p] != there && !free[p] {
			return false
		}
	}
	return true
}

// SwapError says that the paths of a plan are in no state that the plan leads to:
// someone else has moved, made or removed one of them.
type SwapError struct {
	Steps []Rename
	is    map[string]bool
}

// Error lists the renames and which paths exist.
func (e *SwapError) Error() string {
	s := "the directories to be renamed are not as they were left:"
	for _, r := range e.Steps {
		s += fmt.Sprintf("\n%s (%s) -> %s (%s)", r.From, presence(e.is[r.From]), r.To, presence(e.is[r.To]))
	}
	return s
}

func presence(there bool) string {
	if there {
		return "exists"
	}
	return "does not exist"
}

func exists(path string) (bool, error) {
	_, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// Move renames one path, never onto another, and has the rename on disk when it returns.
func Move(from, to string) error {
	err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) {
		// The file system does not know the flag. Nobody else works here: the lock is
		// held and the instance is stopped.
		if _, err := os.Lstat(to); err == nil {
			return &os.LinkError{Op: "rename", Old: from, New: to, Err: fs.ErrExist}
		}
		err = unix.Rename(from, to)
	}
	if err != nil {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
	}
	for _, dir := range []string{filepath.Dir(from), filepath.Dir(to)} {
		if err := atomicfile.SyncDir(dir); err != nil {
			return fmt.Errorf("rename %s to %s: %w", from, to, err)
		}
	}
	return nil
}
