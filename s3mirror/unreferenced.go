package s3mirror

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/ocbackup/ocbackup/atomicfile"
)

// The files of an Expire, in the directory "bucket" of the state directory: what was
// seen unreferenced, and since when; and the journal, what is being deleted. Both begin
// with a header.
const (
	unreferencedFile = "unreferenced.jsonl"
	journalFile      = "expire.jsonl"
)

// entriesHeader says which pool a file of entries is about.
type entriesHeader struct {
	Pool string `json:"pool"` // id
}

// entryWriter writes a file of entries.
type entryWriter struct {
	file           *os.File
	w              *bufio.Writer
	json           *json.Encoder
	objects, bytes uint64
}

func createEntries(path, pool string) (*entryWriter, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	w := &entryWriter{file: f, w: bufio.NewWriterSize(f, 32<<10)}
	w.json = json.NewEncoder(w.w)
	w.json.SetEscapeHTML(false)
	return w, w.json.Encode(entriesHeader{pool})
}

func (w *entryWriter) add(e *entry) error {
	w.objects++
	w.bytes += uint64(e.Size)
	return w.json.Encode(e)
}

// close writes the file to disk.
func (w *entryWriter) close() error {
	return errors.Join(w.w.Flush(), w.file.Sync(), w.file.Close())
}

// install puts a closed file in the place where it counts.
func (w *entryWriter) install(path string) error {
	if err := os.Rename(w.file.Name(), path); err != nil {
		return err
	}
	return atomicfile.SyncDir(filepath.Dir(path))
}

// savedEntries is a file of entries that was found.
type savedEntries struct {
	path   string // "" when there is none that holds
	newest time.Time
}

// findEntries looks for a pool's file of entries. One that is damaged, or another
// pool's, does not hold.
func findEntries(path, pool string) (savedEntries, error) {
	s := savedEntries{path: path}
	next, done, err := s.open(pool)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, errNotHolding) {
		return savedEntries{}, nil
	}
	if err != nil {
		return savedEntries{}, err
	}
	defer done()
	for {
		e, err := next()
		switch {
		case errors.Is(err, io.EOF):
			return s, nil
		case err != nil || e.Since.IsZero():
			return savedEntries{}, nil
		}
		if e.Since.After(s.newest) {
			s.newest = e.Since
		}
	}
}

var errNotHolding = errors.New("it is another pool's")

// open gives the entries of the file.
func (s savedEntries) open(pool string) (next entries, done func(), err error) {
	if s.path == "" {
		return entriesOf(nil), func() {}, nil
	}
	f, err := os.Open(s.path)
	if err != nil {
		return nil, nil, err
	}
	in := json.NewDecoder(bufio.NewReaderSize(f, 64<<10))
	var h entriesHeader
	if err := in.Decode(&h); err != nil || h.Pool != pool {
		return nil, nil, errors.Join(errNotHolding, f.Close())
	}
	next = func() (*entry, error) {
		var e entry
		if err := in.Decode(&e); err != nil {
			return nil, err
		}
		return &e, nil
	}
	return next.ordered(s.path), func() { _ = f.Close() }, nil
}
