package catalog

import (
	"errors"
	"io"
	"iter"
)

var (
	errStop    = errors.New("nobody wants more")
	errOrder   = errors.New("the line is not in order")
	errNoSpace = errors.New("its space has no line")
)

// reader reads nodes one after the other.
type reader struct {
	*cursor
	space *Space // that the last line was of
	last  *Node
	// onSpace is told of the line of each space.
	onSpace func(*Space)
}

// read returns a reader of the lines from off on, the first of which is of s, or (nil) of
// no space yet.
func (f *File) read(off int64, s *Space) *reader {
	return &reader{cursor: f.from(off), space: s}
}

// next returns the next node, spaces left out, with all that it has; at the end io.EOF.
// Every line is held against the one before it.
func (r *reader) next() (*Node, error) {
	for {
		line, off, err := r.cursor.next()
		if err != nil {
			return nil, err
		}
		n, inAt, err := decode(line, r.last)
		if err == nil && r.last != nil && Compare(r.last, n) >= 0 {
			err = errOrder
		}
		if err != nil {
			return nil, r.f.damage(off, err)
		}
		r.last = n
		if n.Kind == KindSpace {
			if r.space, err = r.f.spaceLine(line, off); err != nil {
				return nil, err
			}
			if r.onSpace != nil {
				r.onSpace(r.space)
			}
			continue
		}
		if r.space == nil || r.space.ID != n.Space {
			return nil, r.f.damage(off, errNoSpace)
		}
		if !inAt {
			n.At = Place(r.f.driver, r.space, n)
		}
		return n, nil
	}
}

// skip goes past all lines from here on that pass.
func (r *reader) skip(pass func(*Node) bool) error {
	off, err := r.f.seek(r.off(), pass)
	if err == nil {
		r.cursor.seek(off)
	}
	return err
}

// while gives nodes as long as they are wanted.
func (r *reader) while(yield func(*Node, error) bool, want func(*Node) bool) {
	for {
		n, err := r.next()
		if errors.Is(err, io.EOF) || err == nil && !want(n) || !yield(n, err) || err != nil {
			return
		}
	}
}

// All gives all nodes, without the spaces themselves. It holds every line against the
// one before it: a file that it reads to the end is in order.
func (f *File) All() iter.Seq2[*Node, error] {
	return func(yield func(*Node, error) bool) {
		f.read(f.first, nil).while(yield, func(*Node) bool { return true })
	}
}

// Find gives all nodes, also versions and trash, whose paths match. It reads no more
// than the path of the others, and so is the quick way to a few of very many.
func (f *File) Find(match func(path string) bool) iter.Seq2[*Node, error] {
	return func(yield func(*Node, error) bool) { f.findFrom(f.first, "", match, yield) }
}

// FindIn is Find in one space. The error of one that is not there is fs.ErrNotExist.
func (f *File) FindIn(space string, match func(path string) bool) iter.Seq2[*Node, error] {
	return func(yield func(*Node, error) bool) {
		s, _, err := f.space(space)
		if err != nil {
			yield(nil, err)
			return
		}
		off, err := f.seek(f.first, func(n *Node) bool { return n.Space < s.ID })
		if err != nil {
			yield(nil, err)
			return
		}
		f.findFrom(off, s.ID, match, yield)
	}
}

// findFrom is Find from off on, up to the end of the space only, if it is not empty.
func (f *File) findFrom(off int64, only string, match func(path string) bool, yield func(*Node, error) bool) {
	c := f.from(off)
	var space *Space
	var path string
	matches := false // the path does
	for {
		line, off, err := c.next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			yield(nil, err)
			return
		}
		// Versions and parts of the trash have the path of the line before.
		if s, p, ok := quickPath(line); ok && space != nil && string(s) == space.ID {
			if string(p) != path {
				path = string(p)
				matches = match(path)
			}
			if !matches {
				continue
			}
		}
		n, inAt, err := decode(line, nil)
		if err == nil && n.Kind == KindSpace {
			space, err = decodeSpace(line)
		}
		if err == nil && (space == nil || n.Space != space.ID) {
			err = errNoSpace
		}
		if err != nil {
			yield(nil, f.damage(off, err))
			return
		}
		if only != "" && n.Space != only {
			return
		}
		if n.Kind == KindSpace {
			continue
		}
		if n.Path != path {
			path = n.Path
			matches = match(path)
		}
		if !matches {
			continue
		}
		if !inAt {
			n.At = Place(f.driver, space, n)
		}
		if !yield(n, nil) {
			return
		}
	}
}
