package nodes

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/ocbackup/ocbackup/catalog"
)

// deletedItem is something that was deleted.
type deletedItem struct {
	// key is the id that the node had; of one without a link, that with the time.
	key     string
	id      nodeID
	deleted string // the time, as it is in the name of the node
	at      int    // in the spool; -1: it is not there
	flaw    string // of the link
	lost    bool   // there is no link
	path    string // where it was
}

func (it *deletedItem) time() time.Time { return parseTime(it.deleted) }

// readTrash reads the links of the space's trash, in which they lie by the id's digits.
// What can't be read is told with the directories of nodes that can't.
func (s *space) readTrash(ctx context.Context, told *scan) error {
	var level func(dir, prefix string, depth int) error
	level = func(dir, prefix string, depth int) error {
		entries, err := listNames(ctx, s.r.Tree, dir)
		if err := ctx.Err(); err != nil {
			return err
		}
		if err != nil {
			if !errors.Is(err, fs.ErrNotExist) {
				told.fault(dir, err)
			}
			return nil
		}
		for _, e := range entries {
			at := dir + "/" + e.Name
			switch {
			case e.Type.IsDir() && depth < idLevels:
				if err := level(at, prefix+e.Name, depth+1); err != nil {
					return err
				}
			case e.Type&fs.ModeSymlink != 0:
				to, err := s.r.Tree.Link(ctx, at)
				if err != nil {
					told.fault(at, err)
					continue
				}
				s.items = append(s.items, newItem(s.spool, prefix+e.Name, to))
			}
		}
		return ctx.Err()
	}
	return level(s.dir+"/trash", "", 0)
}

// newItem reads a link as reva does (readTrashLink); it is not followed.
func newItem(sp *spool, id, to string) deletedItem {
	it := deletedItem{key: id, id: sp.key(id), at: -1}
	target, ok := strings.CutPrefix(to, "../../../../../nodes/")
	node, deleted, cut := strings.Cut(strings.ReplaceAll(target, "/", ""), trashMark)
	if it.deleted = deleted; !ok || !cut || node != id {
		it.flaw = fmt.Sprintf("its link in the trash leads to %s, which is no deleted node of its id", short(to))
		it.deleted = ""
		return it
	}
	it.at = sp.find(it.id)
	return it
}

// unlinkedItems completes the trash by deleted nodes that no link leads to, and takes
// what is none of it any more out.
func (s *space) unlinkedItems() error {
	known := map[string]bool{}
	for i := range s.items {
		if it := &s.items[i]; it.flaw == "" {
			known[it.key+trashMark+it.deleted] = true
		}
	}
	for i := range s.spool.all {
		if s.spool.all[i].flags&hasTrash == 0 {
			continue
		}
		rec, err := s.spool.read(i)
		if err != nil {
			return err
		}
		_, moved := rec.living()
		for j := range rec.forms {
			f := &rec.forms[j]
			key := s.spool.name(s.spool.all[i].id) + trashMark + f.suffix
			// A purge takes the metadata away first, and a node without is nobody's; metadata
			// without a node is what is left of a restore.
			if f.what != formTrash || known[key] || moved || f.node == nodeNone ||
				f.attrs == nil && f.fault == "" && len(f.links) == 0 {
				continue
			}
			s.items = append(s.items, deletedItem{key: key, id: s.spool.all[i].id, deleted: f.suffix, at: i, lost: true})
		}
	}
	var err error
	s.items = slices.DeleteFunc(s.items, func(it deletedItem) bool {
		gone, e := s.gone(&it)
		err = errors.Join(err, e)
		return gone
	})
	return err
}

// gone tells whether a link in the trash is one that OpenCloud had not removed yet, or
// made too early: its node is live (reva, Tree.Delete, RestoreRecycleItemFunc).
func (s *space) gone(it *deletedItem) (bool, error) {
	if it.at < 0 || it.lost {
		return false, nil
	}
	rec, err := s.spool.read(it.at)
	if err != nil {
		return false, err
	}
	f, moved := rec.living()
	return moved || rec.find(formTrash, it.deleted) == nil && f != nil, nil
}

// trash brings all deleted nodes into the catalog. They are in the order of the paths
// that they had, and items may lie in each other by these: only such are sorted in
// memory.
func (s *space) trash(ctx context.Context) error {
	for i := range s.items {
		if err := s.locate(&s.items[i]); err != nil {
			return err
		}
	}
	slices.SortFunc(s.items, func(a, b deletedItem) int {
		if c := catalog.ComparePaths(a.path, b.path); c != 0 {
			return c
		}
		return strings.Compare(a.key, b.key)
	})
	for from := 0; from < len(s.items); {
		top := s.items[from].path
		to := from + 1
		for to < len(s.items) && (s.items[to].path == top || strings.HasPrefix(s.items[to].path, strings.TrimSuffix(top, "/")+"/")) {
			to++
		}
		if err := s.cluster(ctx, s.items[from:to]); err != nil {
			return err
		}
		from = to
	}
	return nil
}

// cluster visits items whose paths lie below that of the first.
func (s *space) cluster(ctx context.Context, items []deletedItem) error {
	add := func(n *catalog.Node) error { return s.r.add(s.section, n) }
	if len(items) == 1 {
		return s.item(ctx, &items[0], add)
	}
	var all []*catalog.Node
	for i := range items {
		err := s.item(ctx, &items[i], func(n *catalog.Node) error { all = append(all, n); return nil })
		if err != nil {
			return err
		}
	}
	slices.SortStableFunc(all, catalog.Compare)
	for _, n := range all {
		if err := add(n); err != nil {
			return err
		}
	}
	return nil
}

// locate tells where an item was. Where that can't be told, it is listed by its id.
func (s *space) locate(it *deletedItem) error {
	name := s.spool.name(it.id)
	if !isName(name) || len(name) > maxName {
		name = fmt.Sprintf("%x", it.id)
	}
	it.path = "/" + s.lostName + "/" + name
	if it.at < 0 {
		return nil
	}
	rec, err := s.spool.read(it.at)
	if err != nil {
		return err
	}
	f := rec.find(formTrash, it.deleted)
	if f == nil {
		return nil
	}
	if origin := f.attrs.get(attrTrash); isPath(origin) {
		it.path = origin
	} else if name := f.attrs.get(attrName); isName(name) && len(name) <= maxName {
		it.path = "/" + name // where OpenCloud restores it to then
	}
	return nil
}

// isPath tells whether a path is one that a node can have.
func isPath(p string) bool {
	rest, ok := strings.CutPrefix(p, "/")
	if !ok || len(p) > maxPath {
		return false
	}
	for e := range strings.SplitSeq(rest, "/") {
		if !isName(e) {
			return false
		}
	}
	return true
}

// item visits something that was deleted, and what is in it.
func (s *space) item(ctx context.Context, it *deletedItem, visit func(*catalog.Node) error) error {
	w := &walk{space: s, ctx: ctx, visit: visit, item: it}
	id := s.spool.name(it.id)
	var rec *record
	var f *form
	if it.at >= 0 {
		var err error
		if rec, err = s.spool.read(it.at); err != nil {
			return err
		}
		f = rec.find(formTrash, it.deleted)
	}
	if f == nil {
		n := w.new(catalog.KindFile, id, it.path)
		n.Item = true
		if n.Problem = problem(broken, false, "its node is gone: a purge of the trash was broken off, or it is lost"); it.flaw != "" {
			n.Problem = problem(broken, false, "%s", it.flaw)
		}
		return visit(n)
	}
	n := w.node(id, f, it.path, false)
	n.Item = true
	if f.attrs != nil && !isPath(f.attrs.get(attrTrash)) {
		n.Problem = worse(n.Problem, problem(broken, false, "its metadata does not say where it was: OpenCloud restores it to the root of the space"))
	}
	if it.lost {
		n.Problem = worse(n.Problem, problem(broken, true, "no link in the trash leads to it: OpenCloud does not list it"))
	}
	if rec.live() != nil {
		rec = &record{forms: []form{*f}} // the versions are those of the node that is live again
	}
	return w.subtree(it.id, rec, f, n)
}
