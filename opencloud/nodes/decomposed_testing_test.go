package nodes

import (
	"crypto/sha1"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/vmihailenco/msgpack/v5"

	"github.com/ocbackup/ocbackup/catalog"
	"github.com/ocbackup/ocbackup/opencloud"
)

// listing is a catalog that was read.
type listing struct {
	spaces map[string]catalog.Space
	nodes  []*catalog.Node
}

// readListing reads a users root into a catalog, and that.
func readListing(tb testing.TB, tree Tree, driver opencloud.Driver) *listing {
	tb.Helper()
	dir := tb.TempDir()
	res := readTree(tb, Options{Tree: tree, Driver: driver, TempDir: dir})
	l := &listing{spaces: map[string]catalog.Space{}}
	for _, s := range res.spaces {
		l.spaces[s.ID] = s
	}
	for i := range res.nodes {
		l.nodes = append(l.nodes, &res.nodes[i])
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		tb.Errorf("left behind: %v, %v", left, err)
	}
	return l
}

// find gives the live file or folder at a path.
func (l *listing) find(space, path string) *catalog.Node {
	for _, n := range l.nodes {
		if n.Space == space && n.Path == path && n.Trash == "" && n.Kind != catalog.KindVersion {
			return n
		}
	}
	return nil
}

// versions counts the versions of a node.
func (l *listing) versions(id string) (all []*catalog.Node) {
	for _, n := range l.nodes {
		if n.ID == id && n.Kind == catalog.KindVersion {
			all = append(all, n)
		}
	}
	return all
}

// trash gives what was deleted at a path.
func (l *listing) trash(space, path string) *catalog.Node {
	for _, n := range l.nodes {
		if n.Space == space && n.Path == path && n.Trash != "" && n.Kind != catalog.KindVersion {
			return n
		}
	}
	return nil
}

// problems tells of all that is wrong, a line each: path, class, whether it is fatal.
func (l *listing) problems() []string {
	var all []string
	line := func(path string, p *catalog.Problem) {
		if p != nil {
			fatal := ""
			if p.Fatal {
				fatal = " fatal"
			}
			all = append(all, fmt.Sprintf("%s: %s%s: %s", path, p.Class, fatal, p.Text))
		}
	}
	for _, s := range l.spaces {
		line("space "+s.Name, s.Problem)
	}
	for _, n := range l.nodes {
		path := n.Path
		if n.Kind == catalog.KindVersion {
			path += " version " + n.Version
		}
		if n.Trash != "" {
			path = "trash " + path
		}
		line(path, n.Problem)
	}
	return all
}

// built is a small space of driver decomposed on disk, with the ids of its nodes.
type built struct {
	tb   testing.TB
	root string // the users root
}

const (
	testSpace = "11111111-0000-4000-8000-000000000001"
	docsID    = "22222222-0000-4000-8000-000000000002"
	planID    = "33333333-0000-4000-8000-000000000003"
	noteID    = "44444444-0000-4000-8000-000000000004"
	goneID    = "55555555-0000-4000-8000-000000000005"
	innerID   = "66666666-0000-4000-8000-000000000006"
	deepID    = "77777777-0000-4000-8000-000000000007"
	emptyID   = "88888888-0000-4000-8000-000000000008"
	planREV   = "2026-11-01T10:00:00.5Z"
	goneTime  = "2026-11-02T10:00:00.5Z"
)

// build makes the space: /docs, /docs/plan.odt with a version, /docs/deep, /note.txt,
// /empty.txt, and in the trash /gone with /gone/inner.txt.
func build(tb testing.TB) *built {
	tb.Helper()
	b := &built{tb: tb, root: tb.TempDir()}
	b.folder(testSpace, "", "Marketing", map[string]string{
		"space.name": "Marketing", "space.type": "project", "space.alias": "project/marketing", "owner.id": testSpace, "id": testSpace,
	})
	b.folder(docsID, testSpace, "docs", nil)
	b.folder(deepID, docsID, "deep", nil)
	b.file(planID, docsID, "plan.odt", "the plan")
	b.version(planID, planREV, "the old plan")
	b.file(noteID, testSpace, "note.txt", "a note")
	b.file(emptyID, testSpace, "empty.txt", "")
	b.folder(goneID, testSpace, "gone", nil)
	b.file(innerID, goneID, "inner.txt", "inner")
	b.trash(goneID, testSpace, "gone", "/gone")
	b.index(map[string]string{testSpace: "x"})
	return b
}

func (b *built) index(spaces map[string]string) {
	b.tb.Helper()
	data, err := msgpack.Marshal(spaces)
	must(b.tb, err)
	must(b.tb, os.MkdirAll(filepath.Join(b.root, "indexes/by-type"), 0o700))
	must(b.tb, os.WriteFile(filepath.Join(b.root, "indexes/by-type/project.mpk"), data, 0o600))
}

func (b *built) dir() string { return filepath.Join(b.root, spaceDir(testSpace)) }

// node is where a node lies.
func (b *built) node(id string) string { return filepath.Join(b.dir(), "nodes", pathify(id)) }

func (b *built) link(parent, name, id string) {
	b.tb.Helper()
	must(b.tb, os.Symlink("../../../../../"+pathify(id), filepath.Join(b.node(parent), name)))
}

// mpk writes metadata, over what there is.
func (b *built) mpk(node string, set map[string]string) {
	b.tb.Helper()
	m := map[string][]byte{}
	if old, err := os.ReadFile(node + ".mpk"); err == nil {
		must(b.tb, msgpack.Unmarshal(old, &m))
	}
	for k, v := range set {
		if m[attrPrefix+k] = []byte(v); v == "-" {
			delete(m, attrPrefix+k)
		}
	}
	data, err := msgpack.Marshal(m)
	must(b.tb, err)
	must(b.tb, os.WriteFile(node+".mpk", data, 0o600))
}

func (b *built) folder(id, parent, name string, more map[string]string) {
	b.tb.Helper()
	must(b.tb, os.MkdirAll(b.node(id), 0o700))
	if b.mpk(b.node(id), map[string]string{"type": "2", "name": name}); parent != "" {
		b.mpk(b.node(id), map[string]string{"parentid": parent, "tmtime": "2026-10-01T10:00:00Z"})
		b.link(parent, name, id)
	}
	b.mpk(b.node(id), more)
}

// content writes a blob and gives the attributes that tell of it.
func (b *built) content(blob, content string) map[string]string {
	b.tb.Helper()
	sum := sha1.Sum([]byte(content))
	m := map[string]string{"type": "1", "blobid": blob, "blobsize": fmt.Sprint(len(content)), "cs.sha1": string(sum[:])}
	if content == "" {
		m["blobid"] = ""
		return m
	}
	p := filepath.Join(b.dir(), "blobs", pathify(blob))
	must(b.tb, os.MkdirAll(filepath.Dir(p), 0o700))
	must(b.tb, os.WriteFile(p, []byte(content), 0o600))
	return m
}

func (b *built) file(id, parent, name, content string) {
	b.tb.Helper()
	must(b.tb, os.MkdirAll(filepath.Dir(b.node(id)), 0o700))
	must(b.tb, os.WriteFile(b.node(id), nil, 0o600))
	b.mpk(b.node(id), b.content("b"+id[1:], content))
	b.mpk(b.node(id), map[string]string{"id": id, "name": name, "parentid": parent, "mtime": "2026-10-01T10:00:00.25Z"})
	b.link(parent, name, id)
}

func (b *built) version(id, key, content string) {
	b.tb.Helper()
	p := b.node(id) + ".REV." + key
	must(b.tb, os.WriteFile(p, nil, 0o600))
	b.mpk(p, b.content("a"+id[1:], content))
}

// trash deletes a node as OpenCloud does.
func (b *built) trash(id, parent, name, origin string) {
	b.tb.Helper()
	b.mpk(b.node(id), map[string]string{"trash.origin": origin})
	l := filepath.Join(b.dir(), "trash", pathify(id))
	must(b.tb, os.MkdirAll(filepath.Dir(l), 0o700))
	must(b.tb, os.Symlink("../../../../../nodes/"+pathify(id)+".T."+goneTime, l))
	must(b.tb, os.Rename(b.node(id), b.node(id)+".T."+goneTime))
	must(b.tb, os.Rename(b.node(id)+".mpk", b.node(id)+".T."+goneTime+".mpk"))
	must(b.tb, os.Remove(filepath.Join(b.node(parent), name)))
}

func (b *built) read() *listing {
	b.tb.Helper()
	return readListing(b.tb, Disk(b.root), opencloud.Decomposed)
}

// contents checks that all contents that the catalog names are those on disk.
func (b *built) contents(l *listing) {
	b.tb.Helper()
	for _, n := range l.nodes {
		if n.At == "" {
			continue
		}
		data, err := os.ReadFile(filepath.Join(b.root, n.At))
		must(b.tb, err)
		if sum := sha1.Sum(data); fmt.Sprintf("%x", sum) != n.SHA1 && n.SHA1 != "" || int64(len(data)) != n.Size {
			b.tb.Errorf("%s: content at %s is another", n.Path, n.At)
		}
	}
}
