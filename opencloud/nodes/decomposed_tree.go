package nodes

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/ocbackup/ocbackup/catalog"
)

const (
	// maxName is how long a name in a directory can be.
	maxName = 255
	// maxPath is how long a path in the catalog becomes: users can't make one of this length.
	maxPath = 64 << 10
)

// walk puts a tree together through the links in it, in the order of the catalog.
type walk struct {
	*space
	ctx   context.Context
	visit func(*catalog.Node) error
	// item is the trash item whose tree it is; nil: of the space's root.
	item *deletedItem
}

// child is a name in a folder: a link, a node that has lost its link, or the folder of
// what is lost.
type child struct {
	name string
	link *link
	lost int
}

// children visits what is in a folder of that id, whose path ends with "/".
func (w *walk) children(id nodeID, f *form, at string) error {
	if err := w.ctx.Err(); err != nil {
		return err
	}
	list := make([]child, 0, len(f.links))
	purging := false
	for i := range f.links {
		l := &f.links[i]
		if isName(l.name) {
			list = append(list, child{name: l.name, link: l, lost: -1})
		}
		purging = purging || w.item != nil && !l.notLink && w.spool.find(l.to) < 0
	}
	for _, n := range w.lost[id] {
		list = append(list, child{name: n.name, lost: n.i})
	}
	root := at == "/" && w.item == nil
	if root && len(w.stray) > 0 {
		list = append(list, child{name: w.lostName, lost: -1})
	}
	slices.SortFunc(list, func(a, b child) int { return strings.Compare(a.name, b.name) })
	for i, c := range list {
		if i > 0 && c.name == list[i-1].name {
			continue // no file system has two
		}
		var err error
		p := at + c.name
		switch {
		case c.link != nil:
			err = w.follow(id, c.link, p, purging)
		case c.lost >= 0:
			err = w.lostNode(c.lost, p)
		default:
			if err = w.visit(w.lostFolder(p)); err == nil {
				err = w.strays(p + "/")
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// strays visits what is in the folder of what is lost.
func (w *walk) strays(at string) error {
	for _, n := range w.stray {
		if err := w.lostNode(n.i, at+n.name); err != nil {
			return err
		}
	}
	return nil
}

// new makes a node of this walk.
func (w *walk) new(kind catalog.Kind, id, p string) *catalog.Node {
	n := &catalog.Node{Kind: kind, Space: w.id, Path: p, ID: id}
	if w.item != nil {
		n.Trash, n.Deleted = w.item.key, w.item.time()
	}
	return n
}

// follow visits what a link in a folder leads to.
func (w *walk) follow(folder nodeID, l *link, p string, purging bool) error {
	if l.notLink {
		n := w.new(catalog.KindFile, "", p)
		n.Problem = problem(broken, true, "in the node of its folder is %s where a link must be: OpenCloud can't list the folder because of it", l.odd)
		return w.visit(n)
	}
	i := w.spool.find(l.to)
	if i < 0 {
		return w.nowhere(l, p)
	}
	e := &w.spool.all[i]
	rec, err := w.spool.read(i)
	if err != nil {
		return err
	}
	f, moved := rec.living()
	if f == nil {
		return w.notLive(l, rec, p)
	}
	if e.flags&written != 0 {
		return w.second(l, f, p)
	}
	e.flags |= written
	if e.flags&again != 0 {
		w.places[l.to] = p
	}
	n := w.node(w.spool.name(l.to), f, p, purging)
	w.compare(n, f, w.spool.name(folder), l)
	if moved {
		n.Problem = worse(n.Problem, problem(broken, f.node == nodeFolder, "OpenCloud was about to delete it when it was broken off"))
	}
	return w.subtree(l.to, rec, f, n)
}

// nowhere tells of a link that leads to nothing. What says that it was in that folder is
// listed below.
func (w *walk) nowhere(l *link, p string) error {
	id := w.spool.name(l.to)
	n := w.new(catalog.KindFile, id, p)
	switch {
	case l.odd != "":
		n.ID = ""
		n.Problem = problem(broken, true, "its link leads to %s, which is no node", short(l.odd))
	case w.item != nil:
		// Of a deleted folder, what is in it goes first: a purge was broken off (removeNode).
		n.Problem = problem(broken, false, "its node %s is gone: a purge of the trash was broken off, or it is lost", id)
	default:
		n.Problem = problem(broken, true, "its node is not there: %s", w.at(id))
	}
	if len(w.lost[l.to]) == 0 {
		return w.visit(n)
	}
	n.Kind = catalog.KindFolder
	if err := w.visit(n); err != nil {
		return err
	}
	return w.children(l.to, &form{}, p+"/")
}

// notLive tells of a link to an id of which there is no node now, but another form.
func (w *walk) notLive(l *link, rec *record, p string) error {
	id := w.spool.name(l.to)
	n := w.new(catalog.KindFile, id, p)
	for i := range rec.forms {
		if f := &rec.forms[i]; f.what == formTrash && f.attrs != nil && f.node != nodeNone {
			if f.node == nodeFolder {
				n.Kind = catalog.KindFolder
			}
			n.Problem = problem(broken, false, "it is in the trash, and OpenCloud was broken off before it took the name away")
			return w.visit(n)
		}
	}
	n.Problem = problem(broken, true, "its node is not there: %s", w.at(id))
	return w.subtree(l.to, rec, &form{}, n)
}

// second tells of a link to what is listed elsewhere. It is not followed.
func (w *walk) second(l *link, f *form, p string) error {
	n := w.node(w.spool.name(l.to), f, p, false)
	first := w.places[l.to]
	switch {
	case w.spool.name(l.to) == w.id:
		first = "/"
	case first == "":
		first = "another path"
	}
	text := "its node is also that of %s"
	if n.Kind == catalog.KindFolder {
		text = "its node is also that of %s, where what is in it is listed"
	}
	n.Problem = problem(broken, false, text, short(first))
	return w.visit(n)
}

// lostNode visits a node that has lost its link.
func (w *walk) lostNode(i int, p string) error {
	e := &w.spool.all[i]
	if e.flags&written != 0 {
		return nil
	}
	e.flags |= written
	if e.flags&again != 0 {
		w.places[e.id] = p
	}
	rec, err := w.spool.read(i)
	if err != nil {
		return err
	}
	id := w.spool.name(e.id)
	f, _ := rec.living()
	if f == nil {
		n := w.new(catalog.KindFile, id, p)
		n.Problem = problem(broken, true, "these are versions of a file that is not there: %s", w.at(id))
		return w.subtree(e.id, rec, &form{}, n)
	}
	n := w.node(id, f, p, false)
	n.Problem = worse(n.Problem, problem(broken, true, "no folder leads to it: its link is lost"))
	return w.subtree(e.id, rec, f, n)
}

// subtree visits a node, its versions and what is in it.
func (w *walk) subtree(id nodeID, rec *record, f *form, n *catalog.Node) error {
	folder := n.Kind == catalog.KindFolder
	below := folder && (len(f.links) > 0 || len(w.lost[id]) > 0)
	if below && len(n.Path)+maxName >= maxPath {
		below = false
		n.Problem = worse(n.Problem, problem(unreadable, true, "what is in it lies too deep to be listed"))
	}
	for i := range f.links {
		if l := &f.links[i]; !isName(l.name) {
			n.Problem = worse(n.Problem, problem(broken, true, "in it is a link with the impossible name %s, which is not followed", short(l.name)))
		}
	}
	if err := w.visit(n); err != nil {
		return err
	}
	if !folder {
		return w.versions(rec, n)
	}
	if below {
		return w.children(id, f, n.Path+"/")
	}
	return nil
}

// versions visits the older contents of a file, the newest first.
func (w *walk) versions(rec *record, of *catalog.Node) error {
	var forms []*form
	for i := range rec.forms {
		if f := &rec.forms[i]; f.what == formVersion {
			forms = append(forms, f)
		}
	}
	slices.SortFunc(forms, func(a, b *form) int { return strings.Compare(b.suffix, a.suffix) })
	for _, f := range forms {
		if err := w.visit(w.version(of, f)); err != nil {
			return err
		}
	}
	return nil
}

// at is where the node of an id lies, for people to find it.
func (s *space) at(id string) string { return s.dir + "/nodes/" + pathify(id) }

// parseTime reads the time that is the key of a version or of a deleted node. Of two
// versions of the same time, one has a number after it (reva, Tree.CreateRevision).
func parseTime(s string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		if z := strings.IndexByte(s, 'Z'); z >= 0 {
			t, err = time.Parse(time.RFC3339Nano, s[:z+1])
		}
	}
	if err != nil {
		return time.Time{}
	}
	return t.UTC()
}
