package nodes

import (
	"path"
	"strings"
)

// judgeParent judges a node whose parent, by its metadata, is not the folder it lies in.
// OpenCloud looks for permissions from parent to parent: it refuses the node when one of
// them is not there, and never ends when they go round in a circle (reva,
// decomposedfs/node/permissions.go, assemblePermissions). Otherwise the node was moved
// behind OpenCloud's back.
func (s *posixSpace) judgeParent(it *posixItem) {
	if it.node.Trash != "" {
		it.wrong.add(broken, false, "takes %s for its parent, which is not the folder it lies in", it.parent)
		return
	}
	if s.parents == nil {
		s.parents = map[string]string{}
		s.findParents(s.root.Dir, true)
	}
	id, met := it.parent, map[string]bool{it.node.ID: true}
	for ; id != s.rootID && id != ""; id = s.parents[id] {
		if _, ok := s.parents[id]; !ok {
			it.wrong.add(broken, true, "takes %s for its parent, which is not there (by way of %s): OpenCloud does not show it", id, it.parent)
			return
		}
		if met[id] {
			it.wrong.add(broken, true, "takes %s for its parent, and that lies in itself: OpenCloud can't open it", it.parent)
			return
		}
		met[id] = true
	}
	it.wrong.add(broken, false, "takes %s for its parent, which is not the folder it lies in: it was moved behind OpenCloud's back", it.parent)
}

// findParents remembers which parents the folders of the space name. What can't be read is
// told where the walk comes to it.
func (s *posixSpace) findParents(dir string, top bool) {
	entries, _ := s.Tree.List(s.ctx, dir)
	for _, e := range entries {
		if !e.Type.IsDir() || top && posixInternal(e.Name) || s.ctx.Err() != nil {
			continue
		}
		sub := path.Join(dir, e.Name)
		a, _ := s.Tree.Attrs(s.ctx, sub, func(name string) bool { return name == attrID || name == attrParentID })
		if id := attrs(a).get(attrID); id != "" {
			s.parents[id] = attrs(a).get(attrParentID)
		}
		s.findParents(sub, false)
	}
}

// judgeVersions looks for versions of no file. They are debris where an admin removed their
// file from the disk; where files have lost their ids they are users' data.
func (s *posixSpace) judgeVersions(wrong *troubles) {
	if n := s.strayVersions(s.shelf.dir, ""); n > 0 {
		wrong.add(broken, true, "%d files have lost their ids, and %d versions in %s belong to no file: OpenCloud does not show them", s.lost, n, posixMetadata)
	}
}

func (s *posixSpace) strayVersions(dir, id string) (n int) {
	entries, _ := s.Tree.List(s.ctx, dir)
	for _, e := range entries {
		rest, _, version := strings.Cut(e.Name, revision)
		switch {
		case s.ctx.Err() != nil:
			return n
		case e.Type.IsDir() && !version && e.Name != "locks":
			n += s.strayVersions(path.Join(dir, e.Name), id+e.Name)
		case e.Type.IsRegular() && version && !posixLock(e.Name):
			if _, ok := s.ids[s.hash(id+rest)]; !ok {
				n++
			}
		}
	}
	return n
}
