package recovery

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/ocbackup/ocbackup/atomicfile"
	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/guard"
	"github.com/ocbackup/ocbackup/opencloud"
	"github.com/ocbackup/ocbackup/opencloud/control"
	"github.com/ocbackup/ocbackup/opencloud/index"
)

// RecordName is the file in the state directory that says how to take the last
// restore back; package restore writes it.
const RecordName = "undo.json"

// Before returns the part of an exchange that is the state directory's: its reindex
// marker and its record of the restore before.
func Before(stateDir string) (*guard.Exchange, error) {
	m, err := index.Required(stateDir)
	if err != nil {
		return nil, err
	}
	x := &guard.Exchange{}
	if x.Marker, err = json.Marshal(m); err != nil {
		return nil, err
	}
	b, err := os.ReadFile(filepath.Join(stateDir, RecordName))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	x.Record = string(b)
	return x, nil
}

// TakeBack makes everything as it was before an exchange of data, however far that
// has come, and may be repeated. Before anything is moved the instance is stopped if
// it is not, and it is proven that no server has the data open; nothing is started. It
// returns whether data had to be moved.
func TakeBack(ctx context.Context, stateDir string, s Server, x *guard.Exchange, update func(string)) (bool, error) {
	if x == nil {
		return false, nil
	}
	begun, err := guard.SwapBegun(x.Swap)
	if err != nil {
		return false, err
	}
	if begun {
		if err := stop(ctx, s, x.Absent, update); err != nil {
			return false, fmt.Errorf("put the old data back: %w", err)
		}
		update("putting the old data back")
		if err := guard.UndoSwap(x.Swap); err != nil {
			return false, err
		}
	}
	for _, k := range x.Keep {
		if _, err := os.Lstat(k.From); errors.Is(err, fs.ErrNotExist) {
			continue // moved already
		}
		if err := guard.Move(k.From, k.To); err != nil {
			return begun, err
		}
	}
	if err := RemoveEmpty(x.Aside); err != nil {
		return begun, err
	}
	for path, m := range x.Stay {
		if err := m.Apply(path); err != nil {
			return begun, fmt.Errorf("owner and attributes of %s: %w", path, err)
		}
	}
	return begun, errors.Join(putMarker(stateDir, x.Marker), putRecord(stateDir, x.Record))
}

// stop makes sure that nobody has the data open. Of an instance that was absent, the
// locks alone tell if its manager can't be asked.
func stop(ctx context.Context, s Server, absent bool, update func(string)) error {
	c, err := control.New(s.Control)
	if err != nil {
		return err
	}
	st, err := c.Status(ctx)
	switch {
	case err == nil && (st.State == control.Stopped || st.State == control.Absent):
	case err != nil && absent:
	default:
		update("stopping " + c.String())
		var (
			killed *control.KilledError
			late   *control.TimeoutError
		)
		switch err := c.Stop(ctx); {
		case err == nil, errors.As(err, &killed): // killed is stopped
		case errors.As(err, &late):
			return fail.Wrap(fail.Failed, err, "", "raise stop_timeout in [control], or look why it does not stop")
		default:
			return err
		}
	}
	return fail.Wrap(fail.Failed, opencloud.LocksFree(s.Layout.LockFiles()),
		"a server is at work on the data although "+c.String()+" is not running", "stop it, or correct [control] in the configuration")
}

func putMarker(stateDir string, was json.RawMessage) error {
	var m *index.Marker
	if len(was) > 0 {
		if err := json.Unmarshal(was, &m); err != nil {
			return fmt.Errorf("put the reindex marker back: %w", err)
		}
	}
	if m == nil {
		return index.ClearRequired(stateDir)
	}
	return index.MarkRequired(stateDir, *m)
}

func putRecord(stateDir, was string) error {
	path := filepath.Join(stateDir, RecordName)
	if was != "" {
		return atomicfile.Write(path, []byte(was), 0o600)
	}
	return atomicfile.Remove(path)
}

// RemoveEmpty removes those of the trees, and of the directories in them, that hold
// nothing but directories.
func RemoveEmpty(trees []string) error {
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
			if e := os.Remove(dirs[i]); !errors.Is(e, syscall.ENOTEMPTY) && !errors.Is(e, syscall.EEXIST) {
				err = e
			}
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
