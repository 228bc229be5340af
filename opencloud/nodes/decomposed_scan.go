package nodes

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// scan reads all that lies in a space's nodes/, each directory and each file once, into
// the spool. A node has its own directory but for chance, so one task is what lies below
// two or four of its id's digits.
type scan struct {
	tree  Tree
	spool *spool
	// root is the id of the space, which is that of its root node. No other id is shorter
	// than what the levels of directories need.
	root string
	*errgroup.Group

	mu     sync.Mutex
	faults []string // what can't be read of nodes/ and trash/
}

// namer is a Tree that lists directories quicker when only names and types are wanted.
type namer interface {
	Names(ctx context.Context, dir string) ([]Entry, error)
}

func listNames(ctx context.Context, t Tree, dir string) ([]Entry, error) {
	if n, ok := t.(namer); ok {
		return n.Names(ctx, dir)
	}
	return t.List(ctx, dir)
}

// The levels of directories above a node, and how many bytes of its id each takes (reva,
// lookup.Pathify).
const idLevels, idWidth = 4, 2

// run reads nodes/ of the space in dir.
func (s *scan) run(ctx context.Context, dir string, workers int) error {
	s.Group, ctx = errgroup.WithContext(ctx)
	s.SetLimit(workers)
	err := s.level(ctx, path.Join(dir, "nodes"), "", 0)
	return errors.Join(err, s.Wait())
}

// level reads a directory that stands for the beginning of ids.
func (s *scan) level(ctx context.Context, dir, prefix string, depth int) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	entries, err := listNames(ctx, s.tree, dir)
	if err != nil {
		if depth > 0 || !errors.Is(err, fs.ErrNotExist) {
			s.fault(dir, err)
		}
		return ctx.Err()
	}
	if depth == idLevels {
		return s.leaf(ctx, dir, prefix, entries)
	}
	if at := path.Join("nodes", pathify(s.root)); strings.Count(at, "/") == depth+1 && strings.HasSuffix(dir, path.Dir(at)) {
		if err := s.shallow(ctx, dir, prefix, path.Base(at), entries); err != nil {
			return err
		}
	}
	for _, e := range entries {
		if !e.Type.IsDir() || len(e.Name) != idWidth {
			continue
		}
		down := func() error { return s.level(ctx, path.Join(dir, e.Name), prefix+e.Name, depth+1) }
		if s.TryGo(down) {
			continue
		}
		if err := down(); err != nil {
			return err
		}
	}
	return nil
}

// fault remembers what can't be read of the space.
func (s *scan) fault(path string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, fmt.Sprintf("%s: %s", path, cause(err)))
}

// shallow reads the root node where its id is too short to lie where all others do.
func (s *scan) shallow(ctx context.Context, dir, prefix, base string, entries []Entry) error {
	var own []Entry
	for _, e := range entries {
		if e.Name == base || strings.HasPrefix(e.Name, base+".") {
			own = append(own, e)
		}
	}
	return s.leaf(ctx, dir, prefix, own)
}

// leaf reads the nodes that lie in a directory.
func (s *scan) leaf(ctx context.Context, dir, prefix string, entries []Entry) error {
	records := map[string]*record{}
	var bases []string
	for _, e := range entries {
		name, meta := strings.CutSuffix(e.Name, ".mpk")
		if name == "" || strings.HasPrefix(name, ".") || !meta && locks(name) {
			continue // temporary files of OpenCloud and locks
		}
		base, what, suffix := splitForm(name)
		r := records[base]
		if r == nil {
			r = new(record)
			records[base] = r
			bases = append(bases, base)
		}
		f := r.find(what, suffix)
		if f == nil {
			r.forms = append(r.forms, form{what: what, suffix: suffix})
			f = &r.forms[len(r.forms)-1]
		}
		if meta {
			a, err := readMpk(ctx, s.tree, path.Join(dir, e.Name))
			if f.attrs = a; err != nil {
				f.fault = cause(err)
			} else if a == nil {
				f.fault = "it is empty"
			}
			continue
		}
		switch f.node = nodeOther; {
		case e.Type.IsDir():
			f.node = nodeFolder
		case e.Type.IsRegular():
			f.node = nodeFile
		}
	}
	var times map[string]time.Time
	for _, base := range bases {
		r := records[base]
		// Metadata of a version without its node is what OpenCloud leaves of a version that
		// was purged, or restored (reva, Tree.removeNode, Decomposedfs.DeleteRevision).
		r.forms = slices.DeleteFunc(r.forms, func(f form) bool { return f.what == formVersion && f.node == nodeNone })
		if len(r.forms) == 0 {
			continue
		}
		for i := range r.forms {
			if err := s.complete(ctx, dir, base, &r.forms[i], &times); err != nil {
				return err
			}
		}
		if err := s.spool.add(s.spool.key(prefix+base), r); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// complete reads of a form what is not in its .mpk.
func (s *scan) complete(ctx context.Context, dir, base string, f *form, times *map[string]time.Time) error {
	name := base
	switch f.what {
	case formVersion:
		name += revisionMark + f.suffix
	case formTrash:
		name += trashMark + f.suffix
	}
	if f.node == nodeNone {
		return nil
	}
	if f.attrs == nil && f.fault == "" {
		a, err := readXattrs(ctx, s.tree, path.Join(dir, name))
		if f.attrs = a; err != nil {
			f.fault = cause(err)
		}
	}
	if f.node == nodeFolder && f.what != formVersion {
		s.links(ctx, path.Join(dir, name), f)
	}
	if f.attrs.has(attrMTime) || f.attrs.has(attrTreeMTime) {
		return nil
	}
	if *times == nil {
		*times = map[string]time.Time{}
		list, err := s.tree.List(ctx, dir)
		if err != nil {
			return nil // only a time is missing
		}
		for _, e := range list {
			(*times)[e.Name] = e.MTime
		}
	}
	f.mtime = (*times)[name]
	return nil
}

// links reads the name links of a folder.
func (s *scan) links(ctx context.Context, dir string, f *form) {
	entries, err := listNames(ctx, s.tree, dir)
	if err != nil {
		f.listFault = cause(err)
		return
	}
	f.links = make([]link, 0, len(entries))
	for i, e := range entries {
		if i > 0 && e.Name == entries[i-1].Name {
			continue
		}
		l := link{name: e.Name}
		if e.Type&fs.ModeSymlink == 0 {
			l.notLink, l.odd = true, kindOf(e.Type)
			f.links = append(f.links, l)
			continue
		}
		to, err := s.tree.Link(ctx, dir+"/"+e.Name)
		if err != nil {
			l.notLink, l.odd = true, "a link that can't be read: "+cause(err)
			f.links = append(f.links, l)
			continue
		}
		// As reva does (node.ReadChildNodeFromLink): the id is the digits; nothing is followed.
		id := strings.ReplaceAll(strings.TrimLeft(to, "/."), "/", "")
		if l.to = s.spool.key(id); to != "../../../../../"+pathify(id) {
			l.odd = to
		}
		f.links = append(f.links, l)
	}
}

// What comes between an id and what tells a version or a deleted node (reva, node.go).
const (
	revisionMark = ".REV."
	trashMark    = ".T."
)

// splitForm tells what the name of a node on disk stands for.
func splitForm(name string) (base string, what byte, suffix string) {
	if base, suffix, ok := strings.Cut(name, revisionMark); ok {
		return base, formVersion, suffix
	}
	if base, suffix, ok := strings.Cut(name, trashMark); ok {
		return base, formTrash, suffix
	}
	return name, formLive, ""
}

// locks tells whether a file is one of OpenCloud's locks.
func locks(name string) bool {
	return strings.HasSuffix(name, ".mlock") || strings.HasSuffix(name, ".lock") || strings.HasSuffix(name, ".flock")
}

func kindOf(t fs.FileMode) string {
	switch {
	case t.IsDir():
		return "a directory"
	case t.IsRegular():
		return "a file"
	}
	return "something else"
}

// cause is what an error of a Tree says, without the path that the text around it names.
func cause(err error) string {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err.Error()
	}
	return err.Error()
}
