package catalog

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ocbackup/ocbackup/atomicfile"
	"github.com/ocbackup/ocbackup/opencloud"
)

// Writer writes a catalog: a section for each space, in any order and several at once.
type Writer struct {
	path   string
	driver opencloud.Driver

	mu       sync.Mutex
	dir      string // of the sections' files, beside path; empty once the writer is done
	sections map[string]*Section
}

// Section is a space in a Writer. It is filled by one goroutine.
type Section struct {
	w     *Writer
	space Space  // as it will be written
	id    string // as the caller has it
	file  *os.File
	out   *bufio.Writer
	line  []byte
	last  Node // the last one that was added
	// err is what went wrong; the section can't become part of a catalog then.
	err error
}

// Create begins the catalog that Writer.Close puts at path. Until then there are only
// files with names of their own beside it.
func Create(path string, driver opencloud.Driver) (*Writer, error) {
	dir, err := os.MkdirTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return nil, err
	}
	return &Writer{path: path, driver: driver, dir: dir, sections: map[string]*Section{}}, nil
}

var errDone = errors.New("the catalog is closed already")

// Section begins a space. Its Kind and Counts are filled in. An id that is no UTF-8 is
// written with U+FFFD in place of such bytes.
func (w *Writer) Section(s Space) (*Section, error) {
	section := &Section{w: w, id: s.ID, space: s}
	section.space.Kind, section.space.ID, section.space.Counts = KindSpace, lossy(s.ID), Counts{}
	if section.space.Disabled = s.Disabled.UTC(); !hasForm(s.Disabled) {
		section.space.Disabled = time.Unix(0, 0).UTC() // it is disabled all the same
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.dir == "":
		return nil, errDone
	case s.ID == "":
		return nil, errors.New("a space without an id")
	case w.sections[section.space.ID] != nil:
		return nil, fmt.Errorf("there are two spaces %s", section.space.ID)
	}
	var err error
	if section.file, err = os.OpenFile(filepath.Join(w.dir, fmt.Sprint(len(w.sections))), os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600); err != nil {
		return nil, err
	}
	section.out = bufio.NewWriterSize(section.file, 64<<10)
	w.sections[section.space.ID] = section
	return section, nil
}

// Add adds a node. Nodes come in the order of Compare; one that does not is an error, as
// is one that is there already. Times outside the years 0 to 9999 are not written.
func (s *Section) Add(n *Node) error {
	if s.err != nil {
		return s.err
	}
	if s.out == nil {
		return errDone
	}
	s.err = s.add(n)
	return s.err
}

func (s *Section) add(n *Node) error {
	if err := n.valid(); err != nil {
		return fmt.Errorf("space %s: %s: %w", s.space.ID, n.Path, err)
	}
	if n.Space != s.id {
		return fmt.Errorf("space %s: %s is of the space %s", s.space.ID, n.Path, n.Space)
	}
	if s.last.Kind != "" {
		switch c := Compare(&s.last, n); {
		case c == 0:
			return fmt.Errorf("space %s: %q comes twice", s.space.ID, n.Path)
		case c > 0:
			return fmt.Errorf("space %s: %q comes after %q, which it belongs before", s.space.ID, n.Path, s.last.Path)
		}
	}
	s.last = *n
	written := *n
	written.Space, written.Blob = s.space.ID, lossy(n.Blob)
	s.line = appendNode(s.line[:0], n, s.space.ID, Place(s.w.driver, &s.space, &written))
	if len(s.line) > maxLine {
		return fmt.Errorf("space %s: %.100q…: %w", s.space.ID, n.Path, errTooLong)
	}
	s.space.Counts.add(n)
	_, err := s.out.Write(s.line)
	return err
}

// SetProblem sets the space's own Problem, which may show only when its nodes are read.
func (s *Section) SetProblem(p *Problem) { s.space.Problem = p }

// Close ends the section. One that could not be filled keeps its Writer from closing.
func (s *Section) Close() error {
	if s.out != nil {
		s.err = errors.Join(s.err, s.out.Flush(), s.file.Close())
		s.out, s.line, s.last = nil, nil, Node{}
	}
	return s.err
}

// Close completes the file: it is at path and on the disk when there is no error, else
// not at all. All sections are closed by then.
func (w *Writer) Close() (Summary, error) {
	w.mu.Lock()
	done, open := w.dir == "", ""
	sections := make([]*Section, 0, len(w.sections))
	for _, s := range w.sections {
		sections = append(sections, s)
		if s.out != nil {
			open = s.space.ID
		}
	}
	w.mu.Unlock()
	if done {
		return Summary{}, errDone
	}
	defer w.Abort()
	if open != "" {
		return Summary{}, fmt.Errorf("space %s is not closed", open)
	}
	slices.SortFunc(sections, func(a, b *Section) int { return strings.Compare(a.space.ID, b.space.ID) })
	out, err := os.OpenFile(filepath.Join(w.dir, "catalog"), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return Summary{}, err
	}
	t := tally{out: out, hash: sha256.New()}
	err = w.join(&t, sections)
	if err = errors.Join(err, out.Sync(), out.Close()); err != nil {
		return Summary{}, err
	}
	if err := os.Rename(out.Name(), w.path); err != nil {
		return Summary{}, err
	}
	if err := atomicfile.SyncDir(filepath.Dir(w.path)); err != nil {
		return Summary{}, errors.Join(err, os.Remove(w.path))
	}
	t.Format, t.Digest = Format, hex.EncodeToString(t.hash.Sum(nil))
	return t.Summary, nil
}

// join writes the header and the sections, each of which is removed then.
func (w *Writer) join(to *tally, sections []*Section) error {
	line, err := appendJSON(nil, Header{Format, w.driver})
	if err != nil {
		return err
	}
	if _, err := to.Write(line); err != nil {
		return err
	}
	buf := make([]byte, 256<<10)
	for _, s := range sections {
		if s.err != nil {
			return s.err
		}
		if line, err = appendSpace(line[:0], s.space); err != nil {
			return fmt.Errorf("space %s: %w", s.space.ID, err)
		}
		if _, err := to.Write(line); err != nil {
			return err
		}
		in, err := os.Open(s.file.Name())
		if err != nil {
			return err
		}
		_, err = io.CopyBuffer(to, struct{ io.Reader }{in}, buf)
		if err = errors.Join(err, in.Close(), os.Remove(in.Name())); err != nil {
			return err
		}
		to.addSpace(&s.space)
	}
	return nil
}

// Abort removes what was written, once nobody fills sections any more. After Close it
// does nothing.
func (w *Writer) Abort() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range w.sections {
		if s.out != nil {
			s.err = errDone
			s.out = nil
			_ = s.file.Close() // it is removed
		}
	}
	if w.dir != "" {
		_ = os.RemoveAll(w.dir) // what stays is in nobody's way
		w.dir = ""
	}
}

// tally sums up what is written.
type tally struct {
	Summary
	out  io.Writer
	hash hash.Hash
}

func (t *tally) Write(b []byte) (int, error) {
	n, err := t.out.Write(b)
	t.hash.Write(b[:n])
	t.Size += uint64(n)
	return n, err
}
