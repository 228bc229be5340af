package nodes

import (
	"context"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/vmihailenco/msgpack/v5"

	"github.com/ocbackup/ocbackup/opencloud"
)

// memTree is a Tree in memory. It remembers what was asked for that is outside of it.
type memTree struct {
	mu      sync.Mutex
	entries map[string]map[string]*memFile
	outside []string
	// broken are paths that can't be read.
	broken map[string]bool
}

type memFile struct {
	kind fs.FileMode
	data string // or where a link leads
}

func newMemTree() *memTree {
	return &memTree{entries: map[string]map[string]*memFile{".": {}}}
}

// put puts something into the tree, whatever its name is, and the directories above it.
func (m *memTree) put(dir, name string, f *memFile) {
	if m.entries[dir] == nil {
		m.entries[dir] = map[string]*memFile{}
		if dir != "." {
			m.put(path.Dir(dir), path.Base(dir), &memFile{kind: fs.ModeDir})
		}
	}
	m.entries[dir][name] = f
}

func (m *memTree) file(p, data string) {
	m.put(path.Dir(p), path.Base(p), &memFile{data: data})
}

func (m *memTree) link(dir, name, to string) {
	m.put(dir, name, &memFile{kind: fs.ModeSymlink, data: to})
}

func (m *memTree) at(op, p string) (*memFile, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if p != "." && !filepath.IsLocal(p) {
		m.outside = append(m.outside, p)
	}
	if m.broken[p] {
		return nil, &fs.PathError{Op: op, Path: p, Err: fs.ErrPermission}
	}
	i := strings.LastIndexByte(p, '/')
	dir := "."
	if i >= 0 {
		dir = p[:i]
	}
	if f := m.entries[dir][p[i+1:]]; f != nil {
		return f, nil
	}
	if m.entries[p] != nil {
		return &memFile{kind: fs.ModeDir}, nil
	}
	return nil, &fs.PathError{Op: op, Path: p, Err: fs.ErrNotExist}
}

func (m *memTree) List(_ context.Context, dir string) ([]Entry, error) {
	if _, err := m.at("list", dir); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	var list []Entry
	for name, f := range m.entries[dir] {
		list = append(list, Entry{Name: name, Type: f.kind, Size: int64(len(f.data))})
	}
	slices.SortFunc(list, func(a, b Entry) int { return strings.Compare(a.Name, b.Name) })
	return list, nil
}

func (m *memTree) Attrs(_ context.Context, p string, _ func(string) bool) (map[string][]byte, error) {
	_, err := m.at("attrs", p)
	return nil, err
}

func (m *memTree) Read(_ context.Context, p string, limit int64) ([]byte, error) {
	f, err := m.at("read", p)
	if err == nil && (f.kind != 0 || int64(len(f.data)) > limit) {
		err = &fs.PathError{Op: "read", Path: p, Err: fs.ErrInvalid}
	}
	if err != nil {
		return nil, err
	}
	return []byte(f.data), nil
}

func (m *memTree) Link(_ context.Context, p string) (string, error) {
	f, err := m.at("link", p)
	if err == nil && f.kind != fs.ModeSymlink {
		err = &fs.PathError{Op: "link", Path: p, Err: fs.ErrInvalid}
	}
	if err != nil {
		return "", err
	}
	return f.data, nil
}

func mpkOf(tb testing.TB, m map[string]string) string {
	tb.Helper()
	all := map[string][]byte{}
	for k, v := range m {
		all[attrPrefix+k] = []byte(v)
	}
	b, err := msgpack.Marshal(all)
	must(tb, err)
	return string(b)
}

// FuzzReadDecomposed reads a small tree of which the metadata, the links and their names
// are anything. Nothing may make the reader panic, hang, or look or point outside of the
// tree; and what it writes is a catalog that is in order.
func FuzzReadDecomposed(f *testing.F) {
	file := mpkOf(f, map[string]string{"type": "1", "name": "plan.odt", "parentid": docsID, "blobid": planID, "blobsize": "5", "trash.origin": "/a/b"})
	folder := mpkOf(f, map[string]string{"type": "2", "name": "docs", "parentid": testSpace, "id": docsID})
	to := func(id string) string { return "../../../../../" + pathify(id) }
	f.Add(file, folder, file, "docs", to(docsID), "plan.odt", to(planID), "../../../../../nodes/"+pathify(goneID)+".T."+goneTime, planREV, planID)
	f.Add(file, folder, folder, "..", "../../../../../../etc", "a/b", to(docsID), "../../../../../../../../etc/passwd", "", "x")
	f.Add("", "\xdf\xff\xff\xff\xff", "\x80", "", "", "\xff\n", to(testSpace), "..........nodes", ".1", "..")
	f.Add(mpkOf(f, map[string]string{"parentid": planID, "blobid": "../../../x", "blobsize": "9223372036854775807"}), folder, "\xc0", "docs", to(planID), "docs", to(docsID), "nodes/x.T.", "\x00", "")
	f.Fuzz(func(t *testing.T, mpk1, mpk2, mpk3, name1, link1, name2, link2, trash, version, odd string) {
		m := newMemTree()
		nodes := spaceDir(testSpace) + "/nodes/"
		at := func(id string) string { return nodes + pathify(id) }
		m.put(at(testSpace), ".keep", &memFile{kind: fs.ModeSymlink, data: link1})
		m.file(at(testSpace)+".mpk", mpkOf(t, map[string]string{"type": "2", "name": "Fuzz", "id": testSpace}))
		m.file(at(planID), "")
		m.file(at(planID)+".mpk", mpk1)
		m.file(at(docsID)+".mpk", mpk2)
		m.link(at(docsID), name2, link2)
		m.link(at(testSpace), name1, link1)
		m.link(at(testSpace), "docs", to(docsID))
		m.link(at(goneID)+".T."+goneTime, name1, link2)
		m.file(at(goneID)+".T."+goneTime+".mpk", mpk3)
		m.link(spaceDir(testSpace)+"/trash/"+path.Dir(pathify(goneID)), path.Base(pathify(goneID)), trash)
		m.link(spaceDir(testSpace)+"/trash/"+path.Dir(pathify(planID)), name2, trash)
		if isName(version) {
			m.file(at(planID)+".REV."+version, "")
			m.file(at(planID)+".REV."+version+".mpk", mpk3)
		}
		if isName(odd) {
			m.file(nodes+"ab/cd/ef/01/"+odd, "")
			m.file(nodes+"ab/cd/ef/01/"+odd+".mpk", mpk1)
		}
		m.file("indexes/by-type/project.mpk", mpk2)
		driver := opencloud.Decomposed
		if len(odd)%2 == 1 {
			driver = opencloud.DecomposedS3
		}
		for _, n := range readListing(t, m, driver).nodes {
			if n.At != "" && (!filepath.IsLocal(n.At) || path.Clean(n.At) != n.At) ||
				n.At != "" && driver == opencloud.Decomposed && !strings.HasPrefix(n.At, spaceDir(n.Space)+"/blobs/") {
				t.Errorf("%q points outside of the space: %q", n.Path, n.At)
			}
			if !isPath(n.Path) {
				t.Errorf("path %q", n.Path)
			}
		}
		if len(m.outside) > 0 {
			t.Errorf("asked for what is outside of the tree: %q", m.outside)
		}
	})
}

// Names that no file system has are told of, and not followed.
func TestReadDecomposedImpossibleNames(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"..", ".", "", "a/b", "nul\x00"} {
		m := newMemTree()
		at := func(id string) string { return spaceDir(testSpace) + "/nodes/" + pathify(id) }
		m.file(at(testSpace)+".mpk", mpkOf(t, map[string]string{"type": "2", "name": "Odd", "id": testSpace}))
		m.link(at(testSpace), "docs", "../../../../../"+pathify(docsID))
		m.file(at(docsID)+".mpk", mpkOf(t, map[string]string{"type": "2", "name": "docs", "parentid": testSpace}))
		m.link(at(docsID), name, "../../../../../"+pathify(planID))
		m.file(at(planID), "")
		m.file(at(planID)+".mpk", mpkOf(t, map[string]string{"type": "1", "name": name, "parentid": docsID, "blobid": planID, "blobsize": "5"}))
		got := readListing(t, m, opencloud.DecomposedS3).problems()
		want := []string{
			fmt.Sprintf("/.lost/%s: broken fatal: no folder leads to it", planID),
			"/.lost: broken: no folder",
			fmt.Sprintf("/docs: broken fatal: in it is a link with the impossible name %q", name),
		}
		for _, w := range want {
			if !slices.ContainsFunc(got, func(p string) bool { return strings.HasPrefix(p, w) }) {
				t.Errorf("name %q: not told: %s\n%s", name, w, strings.Join(got, "\n"))
			}
		}
	}
}

// What can't be read of a tree is told, and what can is listed.
func TestReadDecomposedUnreadable(t *testing.T) {
	t.Parallel()
	dir := spaceDir(testSpace)
	at := func(id string) string { return dir + "/nodes/" + pathify(id) }
	for _, c := range []struct{ path, want string }{
		{at(docsID), "/docs: unreadable fatal: it can't be listed"},
		{at(testSpace), "space Odd: unreadable fatal: the root of the space can't be listed"},
		{path.Dir(at(planID)), "space Odd: unreadable fatal: parts of the space can't be read: " + path.Dir(at(planID))},
		{dir + "/trash", "space Odd: unreadable fatal: parts of the space can't be read: " + dir + "/trash"},
		{at(planID) + ".mpk", "/docs/plan.odt: unreadable fatal: its metadata can't be read"},
		{at(docsID) + "/plan.odt", "/docs/plan.odt: broken fatal: in the node of its folder is a link that can't be read"},
	} {
		m := newMemTree()
		m.broken = map[string]bool{c.path: true}
		m.file(at(testSpace)+".mpk", mpkOf(t, map[string]string{"type": "2", "name": "Odd", "id": testSpace}))
		m.link(at(testSpace), "docs", "../../../../../"+pathify(docsID))
		m.file(at(docsID)+".mpk", mpkOf(t, map[string]string{"type": "2", "name": "docs", "parentid": testSpace}))
		m.link(at(docsID), "plan.odt", "../../../../../"+pathify(planID))
		m.file(at(planID), "")
		m.file(at(planID)+".mpk", mpkOf(t, map[string]string{"type": "1", "name": "plan.odt", "parentid": docsID, "blobid": planID, "blobsize": "5"}))
		m.link(dir+"/trash/aa", "x", "y")
		got := readListing(t, m, opencloud.DecomposedS3).problems()
		if !slices.ContainsFunc(got, func(p string) bool { return strings.HasPrefix(p, c.want) }) {
			t.Errorf("%s can't be read: not told: %s\n%s", c.path, c.want, strings.Join(got, "\n"))
		}
	}
}

// A space whose id is no UUID, be it short, and nodes of such ids.
func TestReadDecomposedOtherIDs(t *testing.T) {
	t.Parallel()
	for _, id := range []string{"einstein", "abc", "john.doe@example.com", strings.Repeat("u", 80), "ABCDEF01-0000-4000-8000-000000000001"} {
		m := newMemTree()
		at := func(node string) string { return spaceDir(id) + "/nodes/" + pathify(node) }
		m.file(at(id)+".mpk", mpkOf(t, map[string]string{"type": "2", "name": "Albert", "space.type": "personal", "id": id}))
		m.link(at(id), "note", "../../../../../"+pathify("some-node-id"))
		m.file(at("some-node-id"), "")
		m.file(at("some-node-id")+".mpk", mpkOf(t, map[string]string{"type": "1", "name": "note", "parentid": id, "blobid": "someblobid", "blobsize": "5"}))
		l := readListing(t, m, opencloud.Decomposed)
		n := l.find(id, "/note")
		if n == nil || n.ID != "some-node-id" || n.At != spaceDir(id)+"/blobs/so/me/bl/ob/id" || l.spaces[id].Name != "Albert" {
			t.Errorf("space %s: %+v", id, n)
		}
		if p := l.problems(); len(p) > 0 {
			t.Errorf("space %s: %v", id, p)
		}
	}
}

// A tree that is deeper than paths can tell ends at a problem.
func TestReadDecomposedDeep(t *testing.T) {
	t.Parallel()
	m := newMemTree()
	at := func(node string) string { return spaceDir(testSpace) + "/nodes/" + pathify(node) }
	m.file(at(testSpace)+".mpk", mpkOf(t, map[string]string{"type": "2", "name": "Deep", "id": testSpace}))
	parent := testSpace
	const levels = 300 // of 256 bytes each
	name := strings.Repeat("d", maxName)
	for i := range levels {
		id := fmt.Sprintf("%08d-0000-4000-8000-000000000000", i)
		m.link(at(parent), name, "../../../../../"+pathify(id))
		m.file(at(id)+".mpk", mpkOf(t, map[string]string{"type": "2", "name": name, "parentid": parent}))
		parent = id
	}
	l := readListing(t, m, opencloud.Decomposed)
	last := l.nodes[len(l.nodes)-1]
	if p := l.problems(); len(p) != 1 || last.Problem == nil || !last.Problem.Fatal || len(l.nodes) < 200 {
		t.Errorf("%d nodes, %d problems", len(l.nodes), len(p))
	}
}
