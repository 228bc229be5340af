package s3mirror

import (
	"bufio"
	"errors"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// scratch is a directory for temporary files, so that memory does not grow with the
// number of objects. Its owner holds a lock on it; what a killed process has left is
// known by having none.
type scratch struct {
	dir  string
	lock *os.File
}

const scratchPrefix = "ocbackup-tmp-"

// newScratch makes one in the state directory, else where the system wants such files.
func newScratch(stateDir string) (*scratch, error) {
	base := os.TempDir()
	if stateDir != "" {
		base = filepath.Join(stateDir, "bucket")
		if err := os.MkdirAll(base, 0o700); err != nil {
			return nil, err
		}
		left, err := filepath.Glob(filepath.Join(base, scratchPrefix+"*"))
		if err != nil {
			return nil, err
		}
		for _, dir := range left {
			if s, err := lockScratch(dir); err == nil {
				s.close()
			}
		}
	}
	for {
		dir, err := os.MkdirTemp(base, scratchPrefix)
		if err != nil {
			return nil, err
		}
		// Another process may have taken it for a left-over before it was locked.
		if s, err := lockScratch(dir); err == nil {
			if _, err := os.Stat(dir); err == nil {
				return s, nil
			}
			s.close()
		}
	}
}

func lockScratch(dir string) (*scratch, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &scratch{dir, f}, nil
}

func (s *scratch) file(name string) string { return filepath.Join(s.dir, name) }

// close removes the directory with all that is in it.
func (s *scratch) close() {
	_ = os.RemoveAll(s.dir) // what is left over goes with the next run
	_ = s.lock.Close()
}

// recordFile writes objects to a file, one a line, and counts them.
type recordFile struct {
	file           *os.File
	w              *bufio.Writer
	line           []byte
	objects, bytes uint64
}

func createRecords(path string) (*recordFile, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	return &recordFile{file: f, w: bufio.NewWriterSize(f, 32<<10)}, nil
}

func (r *recordFile) add(o *Object) (err error) {
	r.objects++
	r.bytes += uint64(o.Size)
	if r.line, err = encode(r.line[:0], o); err != nil {
		return err
	}
	_, err = r.w.Write(r.line)
	return err
}

func (r *recordFile) close() error { return errors.Join(r.w.Flush(), r.file.Close()) }

// eachRecord calls f with every object of a file; one that does not exist has none.
func eachRecord(path string, f func(*Object) error) error {
	in, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer in.Close() //nolint:errcheck // it was only read
	r := newReader(in, path)
	for r.next() {
		if err := f(r.at); err != nil {
			return err
		}
	}
	return r.failed()
}
