package catalog

import (
	"bytes"
	"errors"
	"hash/maphash"
	"io"
)

// side is one of the two catalogs, at a line that is not compared yet.
type side struct {
	f      *File
	c      *cursor
	line   []byte // nil at the end
	off    int64
	node   *Node // the line decoded, or nil
	last   *Node // the last line that was decoded
	w      window
	spaces map[string]*Space
}

func newSide(f *File) *side {
	return &side{f: f, c: f.from(f.first), w: window{f: f}, spaces: map[string]*Space{}}
}

func (s *side) next() (err error) {
	s.node = nil
	if s.line, s.off, err = s.c.next(); errors.Is(err, io.EOF) {
		s.line, err = nil, nil
	}
	return err
}

func (s *side) decode() error {
	if s.line == nil || s.node != nil {
		return nil
	}
	n, _, err := decode(s.line, s.last)
	if err == nil && s.last != nil && Compare(s.last, n) >= 0 {
		err = errOrder
	}
	if err != nil {
		return s.f.damage(s.off, err)
	}
	s.node, s.last = n, n
	return nil
}

// compare finds all differences. Lines of the same bytes are not even decoded.
func (d *differ) compare() error {
	if err := d.a.next(); err != nil {
		return err
	}
	if err := d.b.next(); err != nil {
		return err
	}
	for d.a.line != nil || d.b.line != nil {
		order := 0
		if !bytes.Equal(d.a.line, d.b.line) || d.a.line == nil || d.b.line == nil {
			if err := d.a.decode(); err != nil {
				return err
			}
			if err := d.b.decode(); err != nil {
				return err
			}
			switch {
			case d.a.line == nil:
				order = 1
			case d.b.line == nil:
				order = -1
			default:
				order = Compare(d.a.node, d.b.node)
			}
			d.note(order)
		}
		if order <= 0 {
			if err := d.a.next(); err != nil {
				return err
			}
		}
		if order >= 0 {
			if err := d.b.next(); err != nil {
				return err
			}
		}
	}
	return nil
}

// note keeps the difference between the current lines, if there is one that counts.
func (d *differ) note(order int) {
	var diff difference
	if order <= 0 && counts(d.a.node) {
		diff.before = d.a.off
	}
	if order >= 0 && counts(d.b.node) {
		diff.after = d.b.off
		diff.id = d.hash(d.b.node.ID)
	}
	if diff.before != 0 && diff.after != 0 {
		if !unlike(d.a.node, d.b.node) {
			return
		}
		if d.a.node.ID == d.b.node.ID || diff.id == 0 {
			diff.id = 0
			d.all = append(d.all, diff)
			return
		}
	}
	if diff.before == 0 && diff.after == 0 {
		return
	}
	if diff.before != 0 {
		if id := d.hash(d.a.node.ID); id != 0 {
			d.removed[id] = len(d.all)
		}
	}
	d.all = append(d.all, diff)
}

func (d *differ) hash(id string) uint64 {
	if id == "" {
		return 0
	}
	return max(1, maphash.String(d.seed, id))
}

// counts tells whether a node is compared: whether it is live, and no version.
func counts(n *Node) bool { return n.Trash == "" && n.Kind != KindVersion }

// unlike tells whether what is at the same path is not the same any more.
func unlike(a, b *Node) bool {
	return a.Kind != b.Kind || a.ID != b.ID && a.ID != "" && b.ID != "" || otherContent(a, b)
}

// otherContent tells whether a file changed, by the strongest that both sides know.
func otherContent(a, b *Node) bool {
	if a.Kind != KindFile || b.Kind != KindFile {
		return a.Kind != b.Kind
	}
	switch {
	case a.Size != b.Size || !a.MTime.Equal(b.MTime):
		return true
	case a.SHA1 != "" && b.SHA1 != "":
		return a.SHA1 != b.SHA1
	case a.MD5 != "" && b.MD5 != "":
		return a.MD5 != b.MD5
	}
	return a.Blob != b.Blob || a.Adler32 != b.Adler32
}

// pair finds what was moved: added here and removed there, by the same id.
func (d *differ) pair() {
	for i := range d.all {
		if d.all[i].id == 0 {
			continue
		}
		if from, ok := d.removed[d.all[i].id]; ok && !d.all[from].gone {
			d.all[i].from, d.all[from].gone = from+1, true
		}
	}
	d.removed = nil
}

// read reads a node again.
func (s *side) read(off int64) (*Node, error) {
	line, _, _, err := s.w.lineAt(off, off)
	if err != nil {
		return nil, err
	}
	n, inAt, err := decode(line, nil)
	if err != nil {
		return nil, s.f.damage(off, err)
	}
	space := s.spaces[n.Space]
	if space == nil {
		if space, _, err = s.f.space(n.Space); err != nil {
			return nil, err
		}
		s.spaces[n.Space] = space
	}
	if n.Kind == KindSpace {
		return space.root(), nil
	}
	if !inAt {
		n.At = Place(s.f.driver, space, n)
	}
	return n, nil
}
