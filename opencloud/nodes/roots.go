package nodes

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/ocbackup/ocbackup/catalog"
)

// Root is the root of a space on driver posix.
type Root struct {
	// Space is what its attributes say. Only Dir is sure where Err tells that the root can't
	// be read, or is none for OpenCloud any more; the id may be the directory then.
	catalog.Space
	Err error

	attrs  attrs
	known  bool // the id is the space's
	unread bool // Err comes of reading
	copied bool // Err comes of another root with that id
}

// posixDepth is how many levels below the users root a space root may lie. The defaults
// are users/<id> and projects/<id>; admins choose other templates
// (STORAGE_USERS_POSIX_PERSONAL_SPACE_PATH_TEMPLATE and ..._GENERAL_...).
const posixDepth = 6

// PosixRoots lists the spaces of driver posix: directories that have a user.oc.space.id, and
// those that had one and have lost it. They are in the order of their directories, and
// each has an id of its own. The error says that the users root can't be listed.
func PosixRoots(ctx context.Context, t Tree) ([]Root, error) {
	f, err := findRoots(ctx, t)
	if err != nil {
		return nil, err
	}
	return f.list, nil
}

func findRoots(ctx context.Context, t Tree) (*rootFinder, error) {
	defer release(t)
	entries, err := t.List(ctx, ".")
	if err != nil {
		return nil, err
	}
	f := &rootFinder{ctx: ctx, tree: t}
	for _, e := range entries {
		if !posixTop(e.Name) {
			f.look(e, e.Name, 1)
		}
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	f.judgeStrays()
	f.unique()
	return f, nil
}

type rootFinder struct {
	ctx    context.Context
	tree   Tree
	list   []Root
	strays []Root // directories with files in them that show no trace of the driver
	links  []string
}

// look looks at something where roots may lie. Links are not followed.
func (f *rootFinder) look(e Entry, at string, depth int) {
	switch {
	case e.Type.IsDir():
		f.find(at, depth)
	case e.Type&fs.ModeSymlink != 0:
		f.links = append(f.links, at)
	}
}

func (f *rootFinder) find(dir string, depth int) {
	if f.ctx.Err() != nil {
		return
	}
	a, err := f.tree.Attrs(f.ctx, dir, wantSpace)
	// A user may be called .alan; in .snapshots and the like are spaces that are none.
	if strings.HasPrefix(path.Base(dir), ".") && attrs(a).get(attrSpaceID) == "" {
		return
	}
	if err != nil {
		f.lost(dir, a, true, errors.New("can't be read: "+cause(err)))
		return
	}
	if attrs(a).get(attrSpaceID) != "" {
		f.list = append(f.list, Root{Space: attrs(a).space(dir), attrs: a, known: true})
		return
	}
	entries, err := f.tree.List(f.ctx, dir)
	if err != nil {
		f.lost(dir, a, true, errors.New("can't be read: "+cause(err)))
		return
	}
	// A directory on the way to space roots has no metadata and nothing of the driver's in
	// it. One that has was a space root.
	traces, files := attrs(a).has(attrID) || attrs(a).has(attrParentID), false
	for _, e := range entries {
		traces = traces || e.Type.IsDir() && posixInternal(e.Name)
		files = files || !e.Type.IsDir() && !posixLock(e.Name) // early servers put locks beside what they lock
	}
	if traces {
		f.lost(dir, a, false, errLost)
		return
	}
	before := len(f.list)
	for _, e := range entries {
		if depth < posixDepth {
			f.look(e, path.Join(dir, e.Name), depth+1)
		}
	}
	if files && len(f.list) == before {
		f.strays = append(f.strays, Root{Space: attrs(a).space(dir), attrs: a})
	}
}

var errLost = fmt.Errorf("has lost its extended attribute %s", attrSpaceID)

// judgeStrays tells spaces that have lost all attributes from files of others, such as
// lost+found: they lie where the default templates put spaces, or where there are, or
// were, others.
func (f *rootFinder) judgeStrays() {
	beside := []string{"users", "projects"}
	for _, r := range f.list {
		beside = append(beside, path.Dir(r.Dir))
	}
	for _, s := range f.strays {
		if slices.Contains(beside, path.Dir(s.Dir)) {
			f.lost(s.Dir, s.attrs, false, errLost)
		}
	}
}

// lost adds a root that can't be read, or is none for OpenCloud any more. The id of the
// node is that of the space.
func (f *rootFinder) lost(dir string, a attrs, unread bool, err error) {
	s := a.space(dir)
	s.ID = a.get(attrID)
	f.list = append(f.list, Root{Space: s, Err: err, attrs: a, unread: unread})
}

// unique gives each root an id of its own, also in the form in which the catalog has those
// that are no UTF-8. A copy of a space has that of the first: the one that knows it keeps it.
func (f *rootFinder) unique() {
	form := func(id string) string { return string([]rune(id)) }
	owner := map[string]int{}
	for i, r := range f.list {
		if first, ok := owner[form(r.ID)]; r.ID != "" && (!ok || r.known && !f.list[first].known) {
			owner[form(r.ID)] = i
		}
	}
	for i := range f.list {
		r := &f.list[i]
		first, ok := owner[form(r.ID)]
		switch {
		case ok && first == i:
			continue
		case ok && r.Err == nil:
			r.Err = fmt.Errorf("has the id of the space in %s: a copy of it?", f.list[first].Dir)
			r.copied = true
		}
		r.ID, r.known = r.Dir, false
		for _, taken := owner[form(r.ID)]; taken; _, taken = owner[form(r.ID)] {
			r.ID += "~"
		}
		owner[form(r.ID)] = i
	}
	slices.SortFunc(f.list, func(a, b Root) int { return strings.Compare(a.Dir, b.Dir) })
}

// posixInternal tells whether the driver keeps a directory of that name in each space.
func posixInternal(name string) bool {
	return name == posixMetadata || name == posixTemp || name == posixTrash
}
