package nodes

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/ocbackup/ocbackup/catalog"
)

// lostNode is a node that no link leads to.
type lostNode struct {
	i    int // in the spool
	name string
}

// living gives the node that has an id now; nil: there is none. moved tells that
// OpenCloud was about to delete it: its node has the name of a deleted one, its metadata
// not yet (reva, Tree.Delete).
func (r *record) living() (f *form, moved bool) {
	if f = r.live(); f == nil || f.node != nodeNone || f.attrs == nil {
		return f, false
	}
	for i := range r.forms {
		if t := &r.forms[i]; t.what == formTrash && t.node != nodeNone && t.attrs == nil && t.fault == "" {
			m := *f
			m.node, m.links, m.listFault, m.mtime = t.node, t.links, t.listFault, t.mtime
			return &m, true
		}
	}
	return f, false
}

// reachAll marks what the root and the trash lead to.
func (s *space) reachAll(ctx context.Context, root int) error {
	if root >= 0 {
		s.spool.all[root].flags |= reached | sound
		if err := s.reach(ctx, root, sound); err != nil {
			return err
		}
	}
	if err := s.unlinkedItems(); err != nil {
		return err
	}
	for i := range s.items {
		it := &s.items[i]
		if it.at < 0 {
			continue
		}
		e := &s.spool.all[it.at]
		if e.flags |= sound; e.flags&hasLive == 0 {
			e.flags |= reached
		}
		if e.flags&hasLinks == 0 {
			continue
		}
		rec, err := s.spool.read(it.at)
		if err != nil {
			return err
		}
		if f := rec.find(formTrash, it.deleted); f != nil {
			if err := s.reachLinks(ctx, f, sound); err != nil {
				return err
			}
		}
	}
	return nil
}

// reach marks what a folder leads to, and gives it other marks, too.
func (s *space) reach(ctx context.Context, i int, marks flag) error {
	if s.spool.all[i].flags&hasLinks == 0 {
		return nil
	}
	rec, err := s.spool.read(i)
	if err != nil {
		return err
	}
	f, _ := rec.living()
	if f == nil {
		return nil
	}
	return s.reachLinks(ctx, f, marks)
}

func (s *space) reachLinks(ctx context.Context, from *form, marks flag) error {
	var stack []int
	meet := func(f *form) {
		for i := range f.links {
			l := &f.links[i]
			if l.notLink || !isName(l.name) {
				continue
			}
			j := s.spool.find(l.to)
			if j < 0 {
				s.dangling[l.to] = true
				continue
			}
			e := &s.spool.all[j]
			if e.flags&reached != 0 {
				e.flags |= again
				continue
			}
			e.flags |= reached | marks
			if e.flags&hasLinks != 0 {
				stack = append(stack, j)
			}
		}
	}
	meet(from)
	for len(stack) > 0 {
		i := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if err := ctx.Err(); err != nil {
			return err
		}
		rec, err := s.spool.read(i)
		if err != nil {
			return err
		}
		if f, _ := rec.living(); f != nil {
			meet(f)
		}
	}
	return nil
}

// findLost finds what nothing leads to, and where it is to be listed. What is left of
// uploads and purges that were broken off is nobody's, and not listed.
func (s *space) findLost(ctx context.Context, root *form) error {
	s.lostName = ".lost"
	if root != nil {
		for slices.ContainsFunc(root.links, func(l link) bool { return l.name == s.lostName }) {
			s.lostName += "~"
		}
	}
	if err := s.markLinked(ctx); err != nil {
		return err
	}
	byParent := map[nodeID][]lostNode{}
	take := func(i int) error {
		e := &s.spool.all[i]
		if e.flags&(hasLive|hasVersion) == 0 || e.flags&reached != 0 {
			return nil
		}
		e.flags |= reached
		rec, err := s.spool.read(i)
		if err != nil {
			return err
		}
		f, _ := rec.living()
		if debris(f, e.flags) {
			return nil
		}
		n := lostNode{i: i}
		var parent nodeID
		known := f != nil && f.attrs.get(attrParentID) != ""
		if known {
			n.name, parent = f.attrs.get(attrName), s.spool.key(f.attrs.get(attrParentID))
			j := s.spool.find(parent)
			known = s.dangling[parent] || j >= 0 && s.spool.all[j].flags&sound != 0
		}
		if known {
			byParent[parent] = append(byParent[parent], n)
		} else {
			s.stray = append(s.stray, n)
		}
		return s.reach(ctx, i, 0)
	}
	// First what no folder leads to, with all below it; then folders that lie in a circle,
	// before what lies in them.
	for _, not := range []flag{linked, 0} {
		for i := range s.spool.all {
			if f := s.spool.all[i].flags; f&not != 0 || not == 0 && f&hasLinks == 0 {
				continue
			}
			if err := take(i); err != nil {
				return err
			}
		}
	}
	for i := range s.spool.all {
		if err := take(i); err != nil {
			return err
		}
	}
	for parent, nodes := range byParent {
		if err := s.place(parent, nodes); err != nil {
			return err
		}
	}
	for i := range s.stray {
		s.stray[i].name = s.strayName(s.stray[i].i)
	}
	sortLost(s.stray)
	return nil
}

func sortLost(nodes []lostNode) {
	slices.SortFunc(nodes, func(a, b lostNode) int { return strings.Compare(a.name, b.name) })
}

// markLinked marks what folders hold that nothing leads to.
func (s *space) markLinked(ctx context.Context) error {
	for i := range s.spool.all {
		const wanted = hasLive | hasLinks
		if e := &s.spool.all[i]; e.flags&(wanted|reached) != wanted {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		rec, err := s.spool.read(i)
		if err != nil {
			return err
		}
		f, _ := rec.living()
		if f == nil {
			continue
		}
		for j := range f.links {
			l := &f.links[j]
			if l.notLink || !isName(l.name) {
				continue
			}
			if k := s.spool.find(l.to); k >= 0 && s.spool.all[k].flags&reached == 0 {
				s.spool.all[k].flags |= linked
			}
		}
	}
	return nil
}

// debris tells whether a node that nothing leads to is what OpenCloud itself leaves
// behind: metadata without a node of an upload that was taken back (PurgeNode) or a
// folder that was overwritten by a move; a node without metadata of an upload that was
// refused (InitNewNode) or a purge that was broken off (removeNode); a node with no
// content whose making was broken off before it got its link (CreateDir, TouchFile); and
// uploads that are not done.
func debris(f *form, flags flag) bool {
	switch {
	case f == nil:
		return flags&hasVersion == 0
	case f.fault != "" || f.listFault != "" || len(f.links) > 0:
		return false
	case f.node == nodeNone:
		return true
	case f.attrs == nil:
		return flags&hasVersion == 0
	case f.node == nodeFolder:
		return true
	case flags&hasVersion != 0:
		return false
	}
	return strings.HasPrefix(f.attrs.get(attrStatus), processing) || f.attrs.get(attrBlobID) == "" && !f.attrs.hasContent()
}

// place gives lost nodes their old names in the folder that they say they were in, but
// where another node has that name now.
func (s *space) place(parent nodeID, nodes []lostNode) error {
	taken := map[string]bool{}
	if s.spool.name(parent) == s.id {
		taken[s.lostName] = true
	}
	if i := s.spool.find(parent); i >= 0 {
		rec, err := s.spool.read(i)
		if err != nil {
			return err
		}
		for j := range rec.forms {
			for k := range rec.forms[j].links {
				taken[rec.forms[j].links[k].name] = true
			}
		}
	}
	slices.SortFunc(nodes, func(a, b lostNode) int { return a.i - b.i })
	for _, n := range nodes {
		if taken[n.name] || !isName(n.name) || len(n.name) > maxName {
			s.stray = append(s.stray, n)
			continue
		}
		taken[n.name] = true
		s.lost[parent] = append(s.lost[parent], n)
	}
	sortLost(s.lost[parent])
	return nil
}

// strayName is the name of a lost node in the folder of what is lost: its id.
func (s *space) strayName(i int) string {
	key := s.spool.all[i].id
	if id := s.spool.name(key); isName(id) && len(id) <= maxName {
		return id
	}
	return fmt.Sprintf("%x", key)
}

// lostFolder is the folder of what is lost, which is none of OpenCloud's.
func (s *space) lostFolder(p string) *catalog.Node {
	return &catalog.Node{
		Kind: catalog.KindFolder, Space: s.id, Path: p,
		Problem: problem(broken, false, "no folder of OpenCloud's: what no folder leads to any more is listed here by its id"),
	}
}
