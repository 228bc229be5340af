package catalog

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"

	"github.com/ocbackup/ocbackup/opencloud"
)

// File is a catalog that is read. All methods may be called from several goroutines,
// and none holds more than a few lines in memory. What a file has that no Writer
// writes is a *DamageError where it is met; only All and Check meet all there may be.
type File struct {
	path   string
	file   *os.File
	size   int64
	first  int64 // where the line after the header begins
	driver opencloud.Driver
}

// DamageError tells that a catalog is not as a Writer writes it.
type DamageError struct {
	Path string // of the file
	Line int64  // counted from 1
	Err  error
}

func (e *DamageError) Error() string {
	return fmt.Sprintf("the catalog %s is damaged: line %d: %v", e.Path, e.Line, e.Err)
}

// Unwrap returns what is wrong with the line.
func (e *DamageError) Unwrap() error { return e.Err }

var (
	errTorn  = errors.New("the line is torn: the file ends in it")
	errShort = errors.New("the file ends before its size")
)

// Open opens a catalog. It refuses one of another format than Format.
func Open(path string) (*File, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	f := &File{path: path, file: file}
	if err := f.open(); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return f, nil
}

func (f *File) open() error {
	info, err := f.file.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a file", f.path)
	}
	f.size = info.Size()
	c := f.from(0)
	line, _, err := c.next()
	if errors.Is(err, io.EOF) {
		err = f.damage(0, errTorn)
	}
	if err != nil {
		return err
	}
	var h Header
	switch err := json.Unmarshal(line, &h); {
	case err != nil:
		return f.damage(0, fmt.Errorf("no header of a catalog: %w", err))
	case h.Format == 0:
		return f.damage(0, errors.New("no header of a catalog"))
	case h.Format != Format:
		return fmt.Errorf("the catalog %s is of format %d; this version of ocbackup reads format %d", f.path, h.Format, Format)
	case h.Driver != opencloud.Posix && h.Driver != opencloud.Decomposed && h.Driver != opencloud.DecomposedS3:
		return fmt.Errorf("the catalog %s is of the storage driver %.40q, which this version of ocbackup does not know", f.path, h.Driver)
	}
	f.driver, f.first = h.Driver, c.off()
	var last [1]byte
	if _, err := f.file.ReadAt(last[:], f.size-1); err != nil {
		return err
	}
	if last[0] != '\n' {
		return f.damage(f.size-1, errTorn)
	}
	return nil
}

// Close closes the file.
func (f *File) Close() error { return f.file.Close() }

// Driver is the storage driver that the nodes are of.
func (f *File) Driver() opencloud.Driver { return f.driver }

// damage tells what is wrong with the line that has the byte at off.
func (f *File) damage(off int64, err error) error {
	e := &DamageError{Path: f.path, Line: 1, Err: err}
	buf := make([]byte, 64<<10)
	for at := int64(0); at < off; {
		n, err := f.file.ReadAt(buf[:min(int64(len(buf)), off-at)], at)
		if n == 0 && err != nil {
			break
		}
		e.Line += int64(bytes.Count(buf[:n], []byte{'\n'}))
		at += int64(n)
	}
	return e
}

// cursor reads lines one after the other.
type cursor struct {
	f    *File
	buf  []byte    // what was read and not yet given
	pos  int       // of the next line in buf
	at   int64     // where buf begins in the file
	size int       // how much is read at a time: it grows, since most look at a few lines only
	tee  hash.Hash // gets all that is read, if it is not nil
}

const (
	minRead = 16 << 10
	maxRead = 256 << 10
)

// from returns a cursor at the line that begins at off.
func (f *File) from(off int64) *cursor { return &cursor{f: f, at: off, size: minRead} }

// off is where the next line begins.
func (c *cursor) off() int64 { return c.at + int64(c.pos) }

// seek moves to the line that begins at off.
func (c *cursor) seek(off int64) {
	if off >= c.at && off <= c.at+int64(len(c.buf)) {
		c.pos = int(off - c.at)
		return
	}
	c.buf, c.pos, c.at, c.size = c.buf[:0], 0, off, minRead
}

// next returns the next line without its end, and where it begins; at the end of the
// file io.EOF. The line is good until the next call.
func (c *cursor) next() (line []byte, off int64, err error) {
	searched := c.pos
	for {
		if i := bytes.IndexByte(c.buf[searched:], '\n'); i >= 0 {
			off, line = c.off(), c.buf[c.pos:searched+i]
			c.pos = searched + i + 1
			if len(line) >= maxLine {
				return nil, off, c.f.damage(off, errTooLong)
			}
			return line, off, nil
		}
		left := len(c.buf) - c.pos
		if left >= maxLine {
			return nil, c.off(), c.f.damage(c.off(), errTooLong)
		}
		if c.at+int64(len(c.buf)) >= c.f.size {
			if left == 0 {
				return nil, c.f.size, io.EOF
			}
			return nil, c.off(), c.f.damage(c.off(), errTorn)
		}
		if err := c.fill(); err != nil {
			return nil, c.off(), err
		}
		searched = c.pos + left
	}
}

// fill reads on, and drops what was given.
func (c *cursor) fill() error {
	left := len(c.buf) - c.pos
	end := c.at + int64(len(c.buf))
	if want := left + c.size; cap(c.buf) < want {
		grown := make([]byte, left, want)
		copy(grown, c.buf[c.pos:])
		c.buf = grown
	} else {
		c.buf = c.buf[:copy(c.buf[:left], c.buf[c.pos:])]
	}
	c.at, c.pos = end-int64(left), 0
	n, err := c.f.file.ReadAt(c.buf[left:left+int(min(int64(c.size), c.f.size-end))], end)
	c.buf = c.buf[:left+n]
	c.size = min(c.size*2, maxRead)
	if n == 0 {
		if err == nil || errors.Is(err, io.EOF) {
			err = c.f.damage(end, errShort)
		}
		return err
	}
	if c.tee != nil {
		c.tee.Write(c.buf[left:])
	}
	return nil
}
