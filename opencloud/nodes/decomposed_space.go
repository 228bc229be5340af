package nodes

import (
	"cmp"
	"context"
	"fmt"
	"strings"

	"github.com/ocbackup/ocbackup/catalog"
)

// space is one space on its way into the catalog: all that lies in it is read into the
// spool, then the tree is put together from its root.
type space struct {
	r       *reader
	spool   *spool
	id, dir string
	index   typeIndex
	uploads map[string]bool

	section *catalog.Section
	items   []deletedItem
	// dangling are ids that links lead to and that are not there.
	dangling map[nodeID]bool
	// lost is what no link leads to: by the folder in which it was, where that can be told.
	lost map[nodeID][]lostNode
	// lostName is the name, in the root, of the folder in which all else is listed that is
	// lost: no user has that name there.
	lostName string
	stray    []lostNode
	// places are the paths of nodes to which more than one link leads.
	places map[nodeID]string
}

// run reads the space.
func (s *space) run(ctx context.Context) error {
	s.spool.reset()
	scan := &scan{tree: s.r.Tree, spool: s.spool, root: s.id}
	if err := scan.run(ctx, s.dir, s.r.Workers); err != nil {
		return fmt.Errorf("read the nodes of space %s: %w", s.id, err)
	}
	if err := s.spool.done(); err != nil {
		return fmt.Errorf("read the nodes of space %s: %w", s.id, err)
	}
	if err := s.readTrash(ctx, scan); err != nil {
		return fmt.Errorf("read the trash of space %s: %w", s.id, err)
	}
	root, i, err := s.root()
	if err != nil {
		return err
	}
	sp, purged := s.describe(root, scan.faults)
	if sp == nil {
		return nil
	}
	if s.section, err = s.r.to.Section(*sp); err != nil {
		return err
	}
	if !purged {
		if err := s.assemble(ctx, root, i); err != nil {
			return fmt.Errorf("read the nodes of space %s: %w", s.id, err)
		}
	}
	return s.section.Close()
}

// root finds the root node; what is nil if there is nothing of it.
func (s *space) root() (*form, int, error) {
	i := s.spool.find(s.spool.key(s.id))
	if i < 0 {
		return nil, i, nil
	}
	rec, err := s.spool.read(i)
	if err != nil {
		return nil, i, err
	}
	return rec.live(), i, nil
}

// describe makes the space's own line. purged: OpenCloud was removing the space, and what
// is left is nobody's any more; the line is nil where that is nothing at all.
func (s *space) describe(root *form, faults []string) (sp *catalog.Space, purged bool) {
	var a attrs
	if root != nil {
		a = root.attrs
	}
	d := a.space(s.dir)
	sp = &d
	sp.ID = s.id // reva goes by the path, too
	sp.Name = cmp.Or(sp.Name, a.get(attrName), s.id)
	kind, listed := s.index.spaces[s.id]
	sp.Type = cmp.Or(sp.Type, kind)
	listed = listed || !s.index.known
	switch {
	case root == nil && len(s.spool.all) == 0 && len(faults) == 0 && !listed:
		return nil, true
	case !listed && len(faults) == 0 && (root == nil || a == nil && root.fault == ""):
		sp.Problem = problem(broken, false, "OpenCloud was removing this space and has not ended it: it is in no index and has lost the metadata of its root")
		return sp, true
	}
	tell := func(class string, fatal bool, format string, args ...any) {
		sp.Problem = worse(sp.Problem, problem(class, fatal, format, args...))
	}
	at := s.dir + "/nodes/" + pathify(s.id)
	switch {
	case root == nil:
		tell(broken, true, "the root node of the space is not there: %s", at)
	case root.fault != "":
		tell(unreadable, true, "the metadata of the space can't be read: %s.mpk: %s", at, root.fault)
	case root.attrs == nil:
		tell(unreadable, true, "the metadata of the space is missing: %s.mpk", at)
	case root.node != nodeFolder:
		tell(broken, true, "the root node of the space is no directory: %s", at)
	}
	if root != nil && root.listFault != "" {
		tell(unreadable, true, "the root of the space can't be listed: %s: %s", at, root.listFault)
	}
	if root != nil && root.attrs != nil {
		if id := a.get(attrID); id != "" && id != s.id {
			tell(broken, true, "the metadata of the space is that of another node, %s", short(id))
		}
		if !listed { // with nothing in it, its making was broken off (CreateStorageSpace)
			tell(broken, sp.Disabled.IsZero() && len(s.spool.all) > 1, "the space is in no index (indexes/by-type): OpenCloud does not list it")
		}
	}
	if s.index.fault != "" {
		tell(unreadable, false, indexUnreadable, s.index.fault)
	}
	if len(faults) > 0 {
		const some = 3
		more := ""
		if len(faults) > some {
			more = fmt.Sprintf(" and %d more", len(faults)-some)
			faults = faults[:some]
		}
		tell(unreadable, true, "parts of the space can't be read: %s%s", strings.Join(faults, ", "), more)
	}
	return sp, false
}

// assemble brings the space's nodes into the catalog.
func (s *space) assemble(ctx context.Context, root *form, i int) error {
	s.dangling, s.lost, s.places, s.stray = map[nodeID]bool{}, map[nodeID][]lostNode{}, map[nodeID]string{}, nil
	if err := s.reachAll(ctx, i); err != nil {
		return err
	}
	if err := s.findLost(ctx, root); err != nil {
		return err
	}
	w := &walk{space: s, ctx: ctx, visit: func(n *catalog.Node) error { return s.r.add(s.section, n) }}
	if root == nil {
		root = &form{}
	}
	if i >= 0 {
		s.spool.all[i].flags |= written
	}
	if err := w.children(s.spool.key(s.id), root, "/"); err != nil {
		return err
	}
	return s.trash(ctx)
}

// worse joins what is wrong with one node: the class of what is fatal counts.
func worse(a, b *catalog.Problem) *catalog.Problem {
	switch {
	case a == nil:
		return b
	case b == nil:
		return a
	case b.Fatal && !a.Fatal:
		a, b = b, a
	}
	return &catalog.Problem{Class: a.Class, Fatal: a.Fatal, Text: a.Text + "; " + b.Text}
}
