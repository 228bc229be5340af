package s3mirror

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
	"unicode/utf8"
)

// spaceOf is the space that a key belongs to: its first path element. Keys without
// a slash belong to the space "".
func spaceOf(key string) string {
	space, _, ok := strings.Cut(key, "/")
	if !ok {
		return ""
	}
	return space
}

// compare orders keys: by space, then by key, in bytes. The objects of a space stay
// together this way, whatever its name.
func compare(a, b string) int {
	return cmp.Or(strings.Compare(spaceOf(a), spaceOf(b)), strings.Compare(a, b))
}

// encode appends an object's line.
func encode(buf []byte, o *Object) ([]byte, error) {
	line, err := json.Marshal(o)
	if err != nil {
		return buf, fmt.Errorf("encode %s: %w", o.Key, err)
	}
	return append(append(buf, line...), '\n'), nil
}

// writeObjects writes a file of objects: those that f gives to the function that it gets.
func writeObjects(path string, f func(write func(*Object) error) error) error {
	out, err := os.Create(path)
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(out, 64<<10)
	var line []byte
	err = f(func(o *Object) (err error) {
		if line, err = encode(line[:0], o); err == nil {
			_, err = w.Write(line)
		}
		return err
	})
	return errors.Join(err, w.Flush(), out.Close())
}

// reader reads the lines of an inventory, and makes sure of their order.
type reader struct {
	r     *bufio.Reader
	name  string // for errors
	at    *Object
	line  int
	err   error
	order func(a, b *Object) int
}

// byKey orders objects as inventories do.
func byKey(a, b *Object) int { return compare(a.Key, b.Key) }

// newReader reads from r; name is what errors call it.
func newReader(r io.Reader, name string) *reader {
	return &reader{r: bufio.NewReaderSize(r, 64<<10), name: name, order: byKey}
}

// next goes to the next object, which then is at. It gives false at the end and on
// an error, which then is err.
func (r *reader) next() bool {
	if r.err != nil {
		return false
	}
	data, err := r.r.ReadBytes('\n')
	if errors.Is(err, io.EOF) && len(bytes.TrimSpace(data)) == 0 {
		r.at, r.err = nil, io.EOF
		return false
	}
	r.line++
	var o Object
	switch {
	case err != nil && !errors.Is(err, io.EOF):
		r.err = fmt.Errorf("read %s: %w", r.name, err)
	case errors.Is(err, io.EOF):
		r.err = fmt.Errorf("%s line %d: it is cut off", r.name, r.line)
	default:
		if err := json.Unmarshal(data, &o); err != nil {
			r.err = fmt.Errorf("%s line %d: it is no object: %w", r.name, r.line, err)
		} else if o.Key == "" || o.Size < 0 {
			r.err = fmt.Errorf("%s line %d: it is no object", r.name, r.line)
		} else if r.at != nil && r.order(r.at, &o) >= 0 {
			r.err = fmt.Errorf("%s line %d: %q is out of order", r.name, r.line, o.Key)
		}
	}
	if r.err != nil {
		r.at = nil
		return false
	}
	r.at = &o
	return true
}

// failed is the error that ended reading; nil at the end.
func (r *reader) failed() error {
	if errors.Is(r.err, io.EOF) {
		return nil
	}
	return r.err
}

// join walks two sorted readers side by side and calls f with the objects that
// both have, or with nil for the one that has none.
func join(left, right *reader, f func(l, r *Object) error) error {
	l, r := left.next(), right.next()
	for l || r {
		c := 0
		switch {
		case !l:
			c = 1
		case !r:
			c = -1
		default:
			c = left.order(left.at, right.at)
		}
		var a, b *Object
		if c <= 0 {
			a = left.at
		}
		if c >= 0 {
			b = right.at
		}
		if err := f(a, b); err != nil {
			return err
		}
		if a != nil {
			l = left.next()
		}
		if b != nil {
			r = right.next()
		}
		if err := errors.Join(left.failed(), right.failed()); err != nil {
			return err
		}
	}
	return errors.Join(left.failed(), right.failed())
}

// plain tells whether a key is one that every file system and every server can hold as
// it is: encrypted, too, and where capitals are no other letters. OpenCloud's own always
// are.
func plain(key string) bool {
	if len(key) > 500 || strings.HasSuffix(key, partialSuffix) {
		return false
	}
	for part := range strings.SplitSeq(key, "/") {
		if part == "" || strings.HasSuffix(part, ".") || len(part) > 100 {
			return false
		}
		for _, c := range []byte(part) {
			if (c < 'a' || c > 'z') && (c < '0' || c > '9') && !strings.ContainsRune("._-", rune(c)) {
				return false
			}
		}
	}
	return true
}

// isPath tells whether a key is a path below a directory, written as short as it can
// be. OpenCloud's all are.
func isPath(key string) bool {
	return path.Clean(key) == key && key != "." && filepath.IsLocal(key) && utf8.ValidString(key) && !strings.ContainsRune(key, 0)
}

// place is where an object goes whose key can't be a name; empty for the others.
func place(key string) string {
	if plain(key) {
		return ""
	}
	return oddDir + "/" + digestOf(key)
}
