package guard

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/ocbackup/ocbackup/atomicfile"
)

// JournalName is the journal's file in the state directory; units test for it.
const JournalName = "journal.json"

// format is the journal format that this version reads and writes.
const format = 1

// DamagedError says that there is a journal, so that an instance may be stopped,
// but that it can't be understood.
type DamagedError struct {
	Path string
	Err  error
}

// Error names the file.
func (e *DamagedError) Error() string { return fmt.Sprintf("journal %s is damaged: %v", e.Path, e.Err) }

// Unwrap returns what is wrong with it.
func (e *DamagedError) Unwrap() error { return e.Err }

// Write puts a journal on disk, in the place of the one that may be there. When it
// returns nil the journal survives a power loss; when it does not, the old one is
// still there. Format, PID, BootID and Written are filled in where they are zero.
func Write(dir string, j Journal) error {
	j.Format = format
	if j.PID == 0 {
		j.PID = os.Getpid()
	}
	if j.BootID == "" {
		j.BootID = BootID()
	}
	if j.Written.IsZero() {
		j.Written = time.Now().UTC()
	}
	b, err := json.MarshalIndent(j, "", "  ")
	if err != nil {
		return fmt.Errorf("write journal: %w", err)
	}
	if err := atomicfile.Write(filepath.Join(dir, JournalName), append(b, '\n'), 0o600); err != nil {
		return fmt.Errorf("write journal: %w", err)
	}
	return nil
}

// Read returns the journal in a state directory: nil, nil when there is none, a
// *DamagedError when it can't be understood. Fields that this version does not
// know are ignored.
func Read(dir string) (*Journal, error) {
	path := filepath.Join(dir, JournalName)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read journal: %w", err)
	}
	var j Journal
	if err := json.Unmarshal(b, &j); err != nil {
		return nil, &DamagedError{path, err}
	}
	if j.Format != format {
		return nil, &DamagedError{path, fmt.Errorf("format %d is not known to this version, which knows %d", j.Format, format)}
	}
	if j.Kind != Backup && j.Kind != Restore {
		return nil, &DamagedError{path, fmt.Errorf("unknown kind %q", j.Kind)}
	}
	return &j, nil
}

// Clear removes the journal: the instance is back. That there is none is no error.
func Clear(dir string) error {
	if err := atomicfile.Remove(filepath.Join(dir, JournalName)); err != nil {
		return fmt.Errorf("clear journal: %w", err)
	}
	return nil
}

// BootID identifies the time since the machine was started last (proc(5),
// /proc/sys/kernel/random/boot_id); empty when it can't be read.
func BootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// SetAside renames a damaged journal, so that it can be looked at and is no journal
// any more. It returns its new path.
func SetAside(dir string) (string, error) {
	path := filepath.Join(dir, JournalName)
	aside := path + ".damaged"
	if err := os.Rename(path, aside); err != nil {
		return "", fmt.Errorf("set the damaged journal aside: %w", err)
	}
	if err := atomicfile.SyncDir(dir); err != nil {
		return "", fmt.Errorf("set the damaged journal aside: %w", err)
	}
	return aside, nil
}
