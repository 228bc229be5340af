package nodes

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/pkg/xattr"

	"github.com/ocbackup/ocbackup/catalog"
	"github.com/ocbackup/ocbackup/opencloud"
)

// Everything that was put into a real server over HTTP is in the catalog, under the names
// that users gave, and At leads to the bytes that were put in.
func TestReadDecomposedRecorded(t *testing.T) {
	for _, c := range []struct {
		name   string
		driver opencloud.Driver
	}{
		{"opencloud-decomposed", opencloud.Decomposed},
		{"opencloud-decomposeds3", opencloud.DecomposedS3},
		{"opencloud-4.0-decomposed", opencloud.Decomposed},
		{"opencloud-4.0-decomposeds3", opencloud.DecomposedS3},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			users := recorded(t, c.name)
			dir := filepath.Dir(users)
			blobs := users
			if c.driver == opencloud.DecomposedS3 {
				blobs = filepath.Join(dir, "bucket")
			}
			l := readListing(t, Disk(users), c.driver)
			if p := l.problems(); len(p) > 0 {
				t.Errorf("a sound tree has problems:\n%s", strings.Join(p, "\n"))
			}
			r := &recordedCheck{t: t, l: l, blobs: blobs}
			f, err := os.Open(filepath.Join(dir, "expected.tsv"))
			must(t, err)
			defer f.Close()
			checked := 0
			for s := bufio.NewScanner(f); s.Scan(); {
				if r.line(strings.Split(s.Text(), "\t")) {
					checked++
				}
			}
			if checked < 20 {
				t.Errorf("only %d lines of expected.tsv were compared", checked)
			}
			r.all()
		})
	}
}

type recordedCheck struct {
	t     *testing.T
	l     *listing
	blobs string
}

func (r *recordedCheck) sum(n *catalog.Node) string {
	r.t.Helper()
	var data []byte
	if n.At != "" {
		var err error
		if data, err = os.ReadFile(filepath.Join(r.blobs, n.At)); err != nil {
			r.t.Error(err)
		}
	}
	if int64(len(data)) != n.Size {
		r.t.Errorf("%s: %d bytes at %s, %d by the catalog", n.Path, len(data), n.At, n.Size)
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// spaceOf gives the space of storageid$spaceid!nodeid, and the node.
func spaceOf(ref string) (space, node string) {
	_, space, _ = strings.Cut(ref, "$")
	space, node, _ = strings.Cut(space, "!")
	return space, node
}

// line compares a line of expected.tsv, if it is of a kind that the catalog tells of.
func (r *recordedCheck) line(f []string) bool {
	r.t.Helper()
	switch f[0] {
	case "FILE":
		head, path, _ := strings.Cut(strings.TrimPrefix(f[2], "spaces/"), "/")
		space, _ := spaceOf(head)
		path, err := url.PathUnescape(path)
		must(r.t, err)
		n := r.l.find(space, "/"+path)
		if n == nil || n.Kind != catalog.KindFile {
			r.t.Errorf("%s is not in the catalog", path)
			return true
		}
		if got := r.sum(n); got != f[3] {
			r.t.Errorf("%s has the content %s, not %s", path, got, f[3])
		}
	case "VERS":
		_, id := spaceOf(f[2])
		want, err := strconv.Atoi(f[3])
		must(r.t, err)
		var sums []string
		for _, n := range r.l.nodes {
			if n.ID == id && n.Kind == catalog.KindVersion {
				sums = append(sums, r.sum(n))
			}
		}
		if len(sums) != want || !slices.Contains(sums, f[4]) {
			r.t.Errorf("versions %v of %s, not %d with %s", sums, id, want, f[4])
		}
	case "TRASH", "TRASHDIR":
		space, _ := spaceOf(f[2])
		var n *catalog.Node
		for _, m := range r.l.nodes {
			if m.Space == space && m.Item && strings.HasSuffix(m.Path, "/"+f[3]) {
				n = m
			}
		}
		if n == nil || !n.Item || n.Deleted.IsZero() {
			r.t.Errorf("%s is not in the trash: %+v", f[3], n)
			return true
		}
		if f[0] == "TRASH" && len(f) > 4 {
			if got := r.sum(n); got != f[4] {
				r.t.Errorf("%s in the trash has the content %s, not %s", f[3], got, f[4])
			}
		}
		if f[0] == "TRASHDIR" {
			for _, name := range f[4:] {
				in := r.l.trash(space, n.Path+"/"+name)
				if in == nil || in.Item || in.Trash != n.Trash || in.Size == 0 {
					r.t.Errorf("%s of %s is not in the trash: %+v", name, f[3], in)
					continue
				}
				r.sum(in)
			}
		}
	case "SPACE", "DISABLED":
		space, _ := spaceOf(f[3])
		s, there := r.l.spaces[space]
		if !there || s.Name != f[2] || s.Type != "project" || s.Disabled.IsZero() != (f[0] == "SPACE") {
			r.t.Errorf("space %q is %+v", f[2], s)
		}
	default:
		return false
	}
	return true
}

// all checks what no line tells of: personal spaces, and that each content is there and
// hashed.
func (r *recordedCheck) all() {
	r.t.Helper()
	personal := map[string]string{}
	for _, s := range r.l.spaces {
		if s.Type == "personal" {
			personal[s.Alias] = s.Owner
		}
		if s.Dir != spaceDir(s.ID) {
			r.t.Errorf("space %s is in %s", s.ID, s.Dir)
		}
	}
	for _, alias := range []string{"personal/admin", "personal/alan", "personal/carol-fx"} {
		if personal[alias] == "" {
			r.t.Errorf("no space of alias %s with an owner: %v", alias, personal)
		}
	}
	for _, n := range r.l.nodes {
		if n.Kind == catalog.KindFolder {
			if n.MTime.IsZero() || n.ID == "" {
				r.t.Errorf("folder %s: %+v", n.Path, n)
			}
			continue
		}
		if r.sum(n); n.MTime.IsZero() || n.ID == "" || n.Size > 0 && (n.SHA1 == "" || n.MD5 == "" || n.Adler32 == "") {
			r.t.Errorf("file %s: %+v", n.Path, n)
		}
	}
}

// A sound tree, made by hand: what it holds, in the words of the catalog.
func TestReadDecomposedTree(t *testing.T) {
	b := build(t)
	l := b.read()
	if p := l.problems(); len(p) > 0 {
		t.Errorf("problems: %v", p)
	}
	var got []string
	for _, n := range l.nodes {
		got = append(got, strings.Join([]string{string(n.Kind), n.Path, n.ID, n.Version, n.Trash}, " "))
	}
	want := []string{
		"folder /docs " + docsID + "  ",
		"folder /docs/deep " + deepID + "  ",
		"file /docs/plan.odt " + planID + "  ",
		"version /docs/plan.odt " + planID + " " + planREV + " ",
		"file /empty.txt " + emptyID + "  ",
		"file /note.txt " + noteID + "  ",
		"folder /gone " + goneID + "  " + goneID,
		"file /gone/inner.txt " + innerID + "  " + goneID,
	}
	if !slices.Equal(got, want) {
		t.Errorf("nodes\n%s\nnot\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	b.contents(l)
	s := l.spaces[testSpace]
	if s.Name != "Marketing" || s.Alias != "project/marketing" || s.Type != "project" || s.Counts.Files != 3 || s.Counts.Trash != 2 {
		t.Errorf("space %+v", s)
	}
	if n := l.trash(testSpace, "/gone"); n.Deleted.Format("2006-01-02T15:04:05.0Z07:00") != goneTime {
		t.Errorf("deleted %v", n.Deleted)
	}
}

// What was deleted from within something that was deleted later lies among its nodes, in
// the order of paths; versions of what is in the trash are there, too.
func TestReadDecomposedTrash(t *testing.T) {
	t.Parallel()
	const (
		first  = "99999999-0000-4000-8000-000000000001"
		second = "99999999-0000-4000-8000-000000000002"
	)
	b := build(t)
	b.file(first, goneID+".T."+goneTime, "early.txt", "early")
	b.version(first, planREV, "earlier")
	b.trash(first, goneID+".T."+goneTime, "early.txt", "/gone/early.txt")
	b.file(second, testSpace, "gone", "a file of the same name")
	b.trash(second, testSpace, "gone", "/gone")
	l := b.read()
	var got []string
	for _, n := range l.nodes {
		if n.Trash != "" {
			got = append(got, strings.Join([]string{string(n.Kind), n.Path, n.Trash[:1] + n.Trash[len(n.Trash)-1:], strconv.FormatBool(n.Item)}, " "))
		}
	}
	want := []string{
		"folder /gone 55 true",
		"file /gone 92 true",
		"file /gone/early.txt 91 true",
		"version /gone/early.txt 91 false",
		"file /gone/inner.txt 55 false",
	}
	if !slices.Equal(got, want) {
		t.Errorf("trash\n%s\nnot\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if p := l.problems(); len(p) > 0 {
		t.Errorf("problems: %v", p)
	}
	b.contents(l)
}

// While uploads are under way, new content may not be there yet: of a file, and of the
// version that a file became which was overwritten meanwhile.
func TestReadDecomposedPending(t *testing.T) {
	t.Parallel()
	b := build(t)
	b.mpk(b.node(planID), map[string]string{"nodestatus": "processing:u2", "blobid": "u2"})
	b.mpk(b.node(planID)+".REV."+planREV, map[string]string{"blobid": "u1"})
	b.version(planID, "2026-10-01T10:00:00Z.1", "the oldest plan")
	b.mpk(b.node(noteID), map[string]string{"nodestatus": "processing:"})
	must(t, os.MkdirAll(filepath.Join(b.root, "uploads"), 0o700))
	b.write(filepath.Join(b.root, "uploads/u1.info"), "{}")
	l := b.read()
	if n := l.find(testSpace, "/docs/plan.odt"); n.Pending != "u2" || n.Problem != nil {
		t.Errorf("the file is %+v", n)
	}
	v := l.versions(planID)
	if len(v) != 2 || v[0].Pending != "u1" || v[1].Pending != "" || v[1].Version != "2026-10-01T10:00:00Z.1" || v[1].MTime.IsZero() {
		t.Errorf("the versions are %+v", v)
	}
	if n := l.find(testSpace, "/note.txt"); n.Pending == "" || l.spaces[testSpace].Counts.Pending != 2 {
		t.Errorf("an upload that is not named: %+v, %+v", n, l.spaces[testSpace].Counts)
	}
}

// Older trees have the metadata on the nodes themselves.
func TestReadDecomposedXattrs(t *testing.T) {
	b := build(t)
	if opencloud.XattrSupport(b.root) != nil {
		t.Skipf("%s takes no user extended attributes; set TMPDIR to a directory that does", b.root)
	}
	want := b.read()
	err := filepath.WalkDir(filepath.Join(b.dir(), "nodes"), func(p string, _ os.DirEntry, err error) error {
		node, ok := strings.CutSuffix(p, ".mpk")
		if err != nil || !ok {
			return err
		}
		data, err := os.ReadFile(p)
		must(t, err)
		m, err := decodeMetadata(data)
		must(t, err)
		for k, v := range m {
			must(t, xattr.LSet(node, k, v))
		}
		return os.Remove(p)
	})
	must(t, err)
	got := b.read()
	if p := got.problems(); len(p) > 0 {
		t.Errorf("problems: %v", p)
	}
	if len(got.nodes) != len(want.nodes) || len(got.nodes) < 8 {
		t.Fatalf("%d nodes, with .mpk %d", len(got.nodes), len(want.nodes))
	}
	for i, n := range got.nodes {
		n.MTime, want.nodes[i].MTime = n.MTime.Truncate(0), want.nodes[i].MTime.Truncate(0)
		if *n != *want.nodes[i] {
			t.Errorf("%+v, with .mpk %+v", n, want.nodes[i])
		}
	}
	must(t, xattr.LRemove(b.node(planID), attrBlobID))
	must(t, xattr.LRemove(b.node(noteID), attrName))
	l := b.read()
	for path, text := range map[string]string{"/docs/plan.odt": "does not name its content", "/note.txt": "has no name"} {
		if n := l.find(testSpace, path); n.Problem == nil || !n.Problem.Fatal || !strings.Contains(n.Problem.Text, text) {
			t.Errorf("%s has lost an attribute: %+v", path, n.Problem)
		}
	}
}
