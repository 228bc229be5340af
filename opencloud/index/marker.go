package index

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/ocbackup/ocbackup/atomicfile"
)

// markerFile is the marker's name in an instance's state directory.
const markerFile = "reindex-required.json"

// Marker says that the search index must be built again, and how far that is. It
// is on disk from before the server starts with an index that needs it until every
// space has been indexed.
type Marker struct {
	Set    string    `json:"set,omitempty"` // the set that was restored
	Reason State     `json:"reason"`
	Detail string    `json:"detail,omitempty"`
	Since  time.Time `json:"since"`
	// Done lists the ids of the spaces that have been indexed since.
	Done []string `json:"done,omitempty"`
	// Begun lists the ids of the spaces whose indexing was begun and not seen to end.
	Begun []string `json:"begun,omitempty"`
}

// MarkRequired writes the marker into the state directory dir, in one step and
// onto the disk: after a power loss either the old or the new one is there.
func MarkRequired(dir string, m Marker) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("write the reindex marker: %w", err)
		}
	}()
	b, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return atomicfile.Write(filepath.Join(dir, markerFile), append(b, '\n'), 0o600)
}

// Required returns the marker in the state directory dir, nil when there is none. A
// damaged marker is a marker: of Reason Unknown, with nothing done.
func Required(dir string) (*Marker, error) {
	path := filepath.Join(dir, markerFile)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the reindex marker: %w", err)
	}
	m := &Marker{}
	if err := json.Unmarshal(b, m); err != nil {
		m = &Marker{Reason: Unknown, Detail: fmt.Sprintf("%s is damaged: %v", path, err)}
		if info, err := os.Stat(path); err == nil {
			m.Since = info.ModTime()
		}
	}
	return m, nil
}

// ClearRequired removes the marker from the state directory dir, for good. That
// there is none is no error.
func ClearRequired(dir string) error {
	if err := atomicfile.Remove(filepath.Join(dir, markerFile)); err != nil {
		return fmt.Errorf("clear the reindex marker: %w", err)
	}
	return nil
}

// begin notes that a space's indexing begins.
func (m *Marker) begin(id string) {
	if !slices.Contains(m.Begun, id) {
		m.Begun = append(m.Begun, id)
	}
}

// undo forgets that a space's indexing was begun: the server never got to it.
func (m *Marker) undo(id string) {
	m.Begun = slices.DeleteFunc(m.Begun, func(s string) bool { return s == id })
}

// finish notes that a space has been indexed.
func (m *Marker) finish(id string) {
	m.undo(id)
	if !slices.Contains(m.Done, id) {
		m.Done = append(m.Done, id)
	}
}

// restart forgets what was begun and done, of the given spaces or, without any, of all.
func (m *Marker) restart(only []string) {
	forget := func(id string) bool { return len(only) == 0 || slices.Contains(only, id) }
	m.Done, m.Begun = slices.DeleteFunc(m.Done, forget), slices.DeleteFunc(m.Begun, forget)
}
