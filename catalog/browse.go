package catalog

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"strings"
)

// Spaces returns all spaces, in the order of their ids, without reading what is between
// them.
func (f *File) Spaces() ([]Space, error) {
	var all []Space
	c := f.from(f.first)
	for {
		line, off, err := c.next()
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
		s, err := f.spaceLine(line, off)
		if err != nil {
			return nil, err
		}
		if len(all) > 0 && all[len(all)-1].ID >= s.ID {
			return nil, f.damage(off, errOrder)
		}
		all = append(all, *s)
		next, err := f.seek(c.off(), func(n *Node) bool { return n.Space == s.ID })
		if err != nil {
			return nil, err
		}
		c.seek(next)
	}
}

// spaceLine decodes the first line of a space.
func (f *File) spaceLine(line []byte, off int64) (*Space, error) {
	s, err := decodeSpace(line)
	if err == nil && s.Kind != KindSpace {
		err = errNoSpace
	}
	if err != nil {
		return nil, f.damage(off, err)
	}
	return s, nil
}

// space finds a space by its id, and where its first node begins.
func (f *File) space(id string) (s *Space, off int64, err error) {
	if off, err = f.seek(f.first, func(n *Node) bool { return n.Space < id }); err != nil {
		return nil, 0, err
	}
	c := f.from(off)
	line, off, err := c.next()
	if errors.Is(err, io.EOF) {
		return nil, 0, missing(id, "")
	}
	if err != nil {
		return nil, 0, err
	}
	n, _, err := decode(line, nil)
	if err != nil {
		return nil, 0, f.damage(off, err)
	}
	if n.Space != id {
		return nil, 0, missing(id, "")
	}
	if s, err = f.spaceLine(line, off); err != nil {
		return nil, 0, err
	}
	return s, c.off(), nil
}

func missing(space, path string) error {
	if path == "" {
		return fmt.Errorf("space %s: %w", space, fs.ErrNotExist)
	}
	return fmt.Errorf("%q in space %s: %w", path, space, fs.ErrNotExist)
}

// root is a space as the folder that it is for users.
func (s *Space) root() *Node {
	return &Node{Kind: KindFolder, Space: s.ID, Path: "/", ID: s.ID, Problem: s.Problem}
}

// find finds a live node; then the cursor is at the line after it.
func (f *File) find(space, path string) (*Node, *reader, error) {
	s, off, err := f.space(space)
	if err != nil {
		return nil, nil, err
	}
	if path == "/" || path == "" {
		return s.root(), f.read(off, s), nil
	}
	off, err = f.seek(off, func(n *Node) bool { return n.Space == space && n.Trash == "" && ComparePaths(n.Path, path) < 0 })
	if err != nil {
		return nil, nil, err
	}
	r := f.read(off, s)
	n, err := r.next()
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, nil, err
	}
	if errors.Is(err, io.EOF) || n.Space != space || n.Trash != "" || n.Path != path || n.Kind == KindVersion {
		return nil, nil, missing(space, path)
	}
	return n, r, nil
}

// Lookup finds the live folder or file at a path; "/" is the space itself, as a
// folder. The error of one that is not there is fs.ErrNotExist.
func (f *File) Lookup(space, path string) (*Node, error) {
	n, _, err := f.find(space, path)
	return n, err
}

// Versions lists the older contents of a live file, the newest first.
func (f *File) Versions(space, path string) ([]Node, error) {
	_, r, err := f.find(space, path)
	if err != nil {
		return nil, err
	}
	var all []Node
	for {
		n, err := r.next()
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		if errors.Is(err, io.EOF) || n.Kind != KindVersion || n.Path != path || n.Space != space || n.Trash != "" {
			return all, nil
		}
		all = append(all, *n)
	}
}

// below is what paths in a folder begin with.
func below(path string) string {
	if path == "/" {
		return path
	}
	return path + "/"
}

// Children lists what is directly in a live folder, without versions. It does not read
// what is deeper. What is in no folder of the catalog is not listed. The error of a
// folder that is not there is fs.ErrNotExist; a file has no children.
func (f *File) Children(space, path string) iter.Seq2[*Node, error] {
	return func(yield func(*Node, error) bool) {
		n, r, err := f.find(space, path)
		if err != nil {
			yield(nil, err)
			return
		}
		if n.Kind != KindFolder {
			return
		}
		prefix := below(n.Path)
		deeper := 0
		for {
			n, err := r.next()
			if errors.Is(err, io.EOF) || err == nil && (n.Space != space || n.Trash != "" || !strings.HasPrefix(n.Path, prefix)) {
				return
			}
			if err != nil {
				yield(nil, err)
				return
			}
			name := n.Path[len(prefix):]
			slash := strings.IndexByte(name, '/')
			if slash < 0 {
				if deeper = 0; n.Kind != KindVersion && !yield(n, nil) {
					return
				}
				continue
			}
			// A small folder is read over, a large one jumped over.
			if deeper++; deeper < 32 {
				continue
			}
			deeper = 0
			child := n.Path[:len(prefix)+slash+1]
			if err := r.skip(func(n *Node) bool { return n.Space == space && n.Trash == "" && strings.HasPrefix(n.Path, child) }); err != nil {
				yield(nil, err)
				return
			}
		}
	}
}

// Walk gives a live folder or file and all below it, with versions, in the order of
// Compare. The error of one that is not there is fs.ErrNotExist.
func (f *File) Walk(space, path string) iter.Seq2[*Node, error] {
	return func(yield func(*Node, error) bool) {
		n, r, err := f.find(space, path)
		if err != nil {
			yield(nil, err)
			return
		}
		if !yield(n, nil) {
			return
		}
		path, prefix := n.Path, below(n.Path)
		r.while(yield, func(n *Node) bool {
			return n.Space == space && n.Trash == "" && (n.Path == path || strings.HasPrefix(n.Path, prefix))
		})
	}
}

// Trash gives what was at a path or below it when it was deleted, with versions; "/"
// is all of the space's trash. The error of a space that is not there is
// fs.ErrNotExist; where nothing was, nothing is given.
func (f *File) Trash(space, path string) iter.Seq2[*Node, error] {
	if path == "" {
		path = "/"
	}
	return func(yield func(*Node, error) bool) {
		s, off, err := f.space(space)
		if err == nil {
			off, err = f.seek(off, func(n *Node) bool {
				return n.Space == space && (n.Trash == "" || ComparePaths(n.Path, path) < 0)
			})
		}
		if err != nil {
			yield(nil, err)
			return
		}
		prefix := below(path)
		f.read(off, s).while(yield, func(n *Node) bool {
			return n.Space == space && (n.Path == path || strings.HasPrefix(n.Path, prefix))
		})
	}
}
