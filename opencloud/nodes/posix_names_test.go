package nodes

import (
	"context"
	"encoding/binary"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/vmihailenco/msgpack/v5"

	"github.com/ocbackup/ocbackup/catalog"
	"github.com/ocbackup/ocbackup/opencloud"
)

// TestPosixNames: a name may be any bytes.
func TestPosixNames(t *testing.T) {
	d := tree{t, recorded(t, "opencloud-4.0-posix")}
	for i, name := range []string{"line\nbreak", "no \xff\xfe UTF-8", strings.Repeat("ü", 127) + "x", "100%25 \"quoted\" \\", " ", "...", ".oc-nodes", "~"} {
		file := posixAdmin + "/extra-fx/" + name
		d.copy(manyFile, file)
		d.set(file, attrName, name)
		d.set(file, attrID, "00000000-0000-4000-8000-00000000000"+strconv.Itoa(i))
		d.strip(file, attrOffloaded)
		res := readTree(t, Options{Tree: Disk(d.root), Driver: opencloud.Posix})
		n := res.node(t, "/extra-fx/"+name)
		if n.At != file || n.Size != 15 || n.Problem != nil || res.problems() != nil {
			t.Errorf("%q: got %+v, %q", name, n, res.texts())
		}
		// The same in the trash.
		d.rename(file, inTrash)
		d.write(trashNote, "[Trash Info]\nPath=extra-fx/"+name+"\nDeletionDate=2026-11-23T04:13:04")
		res = readTree(t, Options{Tree: Disk(d.root), Driver: opencloud.Posix})
		at := slices.IndexFunc(res.nodes, func(n catalog.Node) bool { return n.Trash != "" && n.Path == "/extra-fx/"+name })
		if at < 0 || res.nodes[at].At != inTrash || res.problems() != nil {
			t.Errorf("%q in the trash: %q", name, res.texts())
		}
	}
}

// TestPosixTrashMerged: items that were in the same place come in the catalog's order, each
// with its own.
func TestPosixTrashMerged(t *testing.T) {
	d := tree{t, recorded(t, "opencloud-4.0-posix")}
	for i, key := range []string{"b", "a", "c"} {
		item := posixAdmin + "/.Trash/files/" + key + ".trashitem"
		d.copy(dirInTrash, item)
		d.write(item+"/sub/only-"+key, "x")
		d.write(posixAdmin+"/.Trash/info/"+key+".trashinfo", "[Trash Info]\nPath=extra-fx/gone-fx\nDeletionDate=2026-01-0"+string(rune('1'+i))+"T00:00:00")
	}
	d.copy(inTrash, posixAdmin+"/.Trash/files/f.trashitem")
	d.write(posixAdmin+"/.Trash/info/f.trashinfo", "[Trash Info]\nPath=extra-fx/gone-fx/sub\nDeletionDate=2026-01-01T00:00:00")
	d.remove(inTrash)
	d.remove(trashNote)
	res := readTree(t, Options{Tree: Disk(d.root), Driver: opencloud.Posix})
	var got []string
	for _, n := range res.nodes {
		if n.Trash != "" && strings.HasPrefix(n.Path, "/extra-fx/gone-fx") && len(n.Trash) == 1 {
			got = append(got, strings.TrimPrefix(n.Path, "/extra-fx/gone-fx")+"="+n.Trash)
		}
	}
	want := []string{
		"=a", "=b", "=c", "/c1-fx.txt=a", "/c1-fx.txt=b", "/c1-fx.txt=c", "/sub=a", "/sub=b", "/sub=c", "/sub=f",
		"/sub/c2-fx.txt=a", "/sub/c2-fx.txt=b", "/sub/c2-fx.txt=c", "/sub/only-a=a", "/sub/only-b=b", "/sub/only-c=c",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestTrashInfo(t *testing.T) {
	for text, want := range map[string][2]string{
		"[Trash Info]\nPath=a/b\nDeletionDate=2026-01-02T03:04:05":                   {"/a/b", "2026-01-02T03:04:05"},
		"[Trash Info]\nPath=a/b\nDeletionDate=2026-01-02T03:04:05\n":                 {"/a/b", "2026-01-02T03:04:05"},
		"[Trash Info]\nDeletionDate=2026-01-02T03:04:05\nPath=a%20b":                 {"/a%20b", "2026-01-02T03:04:05"},
		"[Trash Info]\nPath=a\nDeletionDate=x\nDeletionDate=2026-01-02T03:04:05":     {"/a\nDeletionDate=x", "2026-01-02T03:04:05"},
		"[Trash Info]\nPath=a\nb\nDeletionDate=2026-01-02T03:04:05":                  {"/a\nb", "2026-01-02T03:04:05"},
		"[Trash Info]\nPath=a/../../b\nDeletionDate=2026-01-02T03:04:05":             {"", "2026-01-02T03:04:05"},
		"[Trash Info]\nPath=\nDeletionDate=2026-01-02T03:04:05":                      {"", "2026-01-02T03:04:05"},
		"[Trash Info]\nPath=/a\xff/\nDeletionDate= 2026-01-02T03:04:05 \nOther=line": {"/a\xff", "2026-01-02T03:04:05"},
		"": {"", ""},
	} {
		if p, date := parseTrashInfo([]byte(text)); p != want[0] || date != want[1] {
			t.Errorf("%q: got %q, %q", text, p, date)
		}
	}
}

// TestTrashDate: the zone is that of the server, which the time of the file tells.
func TestTrashDate(t *testing.T) {
	written := time.Date(2026, 11, 23, 4, 13, 4, 533969400, time.UTC)
	for date, want := range map[string]string{
		"2026-11-23T04:13:04": "2026-11-23T04:13:04Z",
		"2026-11-23T05:13:04": "2026-11-23T04:13:04Z", // Europe/Berlin
		"2026-11-23T09:43:03": "2026-11-23T04:13:03Z", // Asia/Kolkata
		"2026-11-22T20:13:04": "2026-11-23T04:13:04Z", // America/Los_Angeles
		"2026-11-23T04:20:04": "2026-11-23T04:20:04Z", // no zone: the file was written anew
		"2026-10-23T05:13:04": "2026-10-23T05:13:04Z",
	} {
		if got, err := trashDate(date, written); err != nil || got.Format(time.RFC3339) != want {
			t.Errorf("%s: got %s, %v, want %s", date, got.Format(time.RFC3339), err, want)
		}
	}
}

func FuzzTrashInfo(f *testing.F) {
	f.Add([]byte("[Trash Info]\nPath=a/b\nDeletionDate=2026-01-02T03:04:05"), int64(0))
	f.Add([]byte("DeletionDate=2026-01-02T03:04:05\nPath=../b"), int64(1<<62))
	f.Fuzz(func(t *testing.T, b []byte, written int64) {
		p, date := parseTrashInfo(b)
		if p != "" && (p[0] != '/' || path.Clean(p) != p || strings.ContainsRune(p, 0)) {
			t.Errorf("%q is a path", p)
		}
		if at, err := trashDate(date, time.Unix(0, written)); err == nil && at.IsZero() && !strings.HasPrefix(date, "0") {
			t.Errorf("%q is no time", date)
		}
	})
}

// FuzzMsgpack: nothing is taken that OpenCloud would not take, nor otherwise.
func FuzzMsgpack(f *testing.F) {
	for _, m := range []map[string][]byte{{}, {attrName: []byte("name"), attrBlobSize: []byte("12")}} {
		b, err := msgpack.Marshal(m)
		must(f, err)
		f.Add(b)
	}
	f.Add([]byte("\xdf\xff\xff\xff\xff"))
	f.Add([]byte("\x81\xa1a\xc6\x7f\xe8\x03\xe0")) // reserves two gigabytes in a decoder that believes it
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := decodeMetadata(b)
		if err != nil {
			return
		}
		want := map[string][]byte{}
		if err := msgpack.Unmarshal(b, &want); err != nil {
			t.Fatalf("taken, which OpenCloud refuses: %v", err)
		}
		for k, v := range want {
			if string(got[k]) != string(v) {
				t.Errorf("%q is %q, want %q", k, got[k], v)
			}
		}
	})
}

// bytesTree is a Tree that bytes describe: a path that it has no entry for is refused, so
// that a reader that leaves the tree is found out.
type bytesTree struct {
	t     *testing.T
	nodes map[string]*bytesNode
}

type bytesNode struct {
	Entry
	attrs   map[string][]byte
	content []byte
	list    []Entry
}

// newBytesTree reads records: depth, type, name, attributes. Depth says how many of the
// directories before it are left.
func newBytesTree(t *testing.T, b []byte) bytesTree {
	m := bytesTree{t: t, nodes: map[string]*bytesNode{".": {Entry: Entry{Type: fs.ModeDir}}}}
	take := func() string {
		if len(b) == 0 {
			return ""
		}
		n := min(int(b[0]), len(b)-1)
		s := string(b[1 : 1+n])
		b = b[1+n:]
		return s
	}
	names := []string{
		"users", "admin", posixMetadata, posixTrash, posixTemp, "files", "info", "k.trashitem", "k.trashinfo", "aa", "bb", "cc", "dd",
		"-id.REV.2026-01-01T00:00:00Z", "-id.mpk", "a", "b.mlock",
	}
	attrs := []string{attrID, attrParentID, attrName, attrType, attrBlobSize, attrMTime, attrOffloaded, attrSpaceID, attrSpaceType, attrSHA1, attrStatus, attrDTime}
	values := []string{"aabbccdd-id", "1", "2", "../../../../etc", "......../x", "2026-01-01T00:00:00Z", "space", "", "processing:1"}
	pick := func(from []string) string {
		s := take()
		if len(s) == 1 {
			return from[int(s[0])%len(from)]
		}
		return s
	}
	at := []string{"."}
	for len(b) > 3 {
		up, kind := int(b[0])%4, b[1]
		b = b[2:]
		at = at[:max(1, len(at)-up)]
		name := pick(names)
		if !validPath(name) || strings.Contains(name, "/") {
			continue
		}
		dir := at[len(at)-1]
		p := path.Join(dir, name)
		if m.nodes[p] != nil {
			continue
		}
		n := &bytesNode{Entry: Entry{Name: name, MTime: time.Unix(int64(kind), 0).UTC()}, attrs: map[string][]byte{}}
		switch kind % 8 {
		case 0, 1, 2:
			n.content = []byte(take())
			n.Size = int64(len(n.content))
		case 3:
			n.Type = fs.ModeSymlink
		default:
			n.Type = fs.ModeDir
			at = append(at, p)
		}
		for range kind / 8 % 8 {
			n.attrs[pick(attrs)] = []byte(pick(values))
		}
		m.nodes[p] = n
		parent := m.nodes[dir]
		parent.list = append(parent.list, n.Entry)
	}
	for _, n := range m.nodes {
		slices.SortFunc(n.list, func(a, b Entry) int { return strings.Compare(a.Name, b.Name) })
	}
	return m
}

func (m bytesTree) find(p string) (*bytesNode, error) {
	if p != "." && (!validPath(p) || path.Clean(p) != p) {
		m.t.Errorf("%q is asked for, which is no path in the tree", p)
	}
	if n := m.nodes[p]; n != nil {
		return n, nil
	}
	return nil, &fs.PathError{Op: "open", Path: p, Err: fs.ErrNotExist}
}

func (m bytesTree) List(_ context.Context, dir string) ([]Entry, error) {
	n, err := m.find(dir)
	if err == nil && !n.Type.IsDir() {
		err = &fs.PathError{Op: "list", Path: dir, Err: fs.ErrInvalid}
	}
	if err != nil {
		return nil, err
	}
	return slices.Clone(n.list), nil
}

func (m bytesTree) Attrs(_ context.Context, p string, want func(string) bool) (map[string][]byte, error) {
	n, err := m.find(p)
	if err != nil {
		return nil, err
	}
	got := map[string][]byte{}
	for k, v := range n.attrs {
		if strings.HasPrefix(k, attrPrefix) && want(k) {
			got[k] = v
		}
	}
	return got, nil
}

func (m bytesTree) Read(_ context.Context, p string, limit int64) ([]byte, error) {
	n, err := m.find(p)
	if err != nil {
		return nil, err
	}
	if int64(len(n.content)) > limit || !n.Type.IsRegular() {
		return nil, &fs.PathError{Op: "read", Path: p, Err: fs.ErrInvalid}
	}
	return n.content, nil
}

func (m bytesTree) Link(_ context.Context, p string) (string, error) {
	_, err := m.find(p)
	return "../../..", err
}

// spec makes bytes for newBytesTree.
func spec(up, kind byte, words ...string) (b []byte) {
	b = append(b, up, kind)
	for _, w := range words {
		b = append(append(b, byte(len(w))), w...)
	}
	return b
}

// FuzzReadPosix: whatever a tree is like, it is read to its end, into a sound catalog, and
// nothing outside of it.
func FuzzReadPosix(f *testing.F) {
	one := func(n byte) string { return string([]byte{n}) }
	f.Add(slices.Concat(
		spec(0, 4, one(0)), // users
		spec(0, 4+8*4, one(1), one(7), one(6), one(0), one(6), one(2), one(6), one(8), one(6)),
		spec(0, 8*3, one(15), "content", one(0), one(0), one(1), one(6), one(4), one(1)),
		spec(0, 4, one(2)), spec(0, 4, one(9)), spec(0, 4, one(10)), spec(0, 4, one(11)), spec(0, 4, one(12)),
		spec(0, 0, one(13), "old"),
	))
	f.Add(binary.BigEndian.AppendUint64(nil, 1<<40))
	f.Fuzz(func(t *testing.T, b []byte) {
		m := newBytesTree(t, b)
		res, err := tryTree(t, Options{Tree: m, Driver: opencloud.Posix, Workers: 2})
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range res.nodes {
			if n.At == "" {
				continue
			}
			if lies := m.nodes[n.At]; lies == nil || !lies.Type.IsRegular() {
				t.Errorf("%s lies at %q, where no file is", n.Path, n.At)
			}
		}
	})
}
