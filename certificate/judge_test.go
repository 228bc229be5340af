package certificate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ocbackup/ocbackup/catalog"
	"github.com/ocbackup/ocbackup/opencloud"
)

const (
	spaceID = "aa11bb22-0000-4000-8000-000000000001"
	sha1A   = "da39a3ee5e6b4b0d3255bfef95601890afd80709"
	sha1B   = "ba39a3ee5e6b4b0d3255bfef95601890afd80709"
	md5A    = "d41d8cd98f00b204e9800998ecf8427e"
	md5B    = "b41d8cd98f00b204e9800998ecf8427e"
)

var then = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

// newCatalog writes a catalog of one posix space, Marketing, whose files lie in mkt/.
func newCatalog(t testing.TB, space *catalog.Problem, nodes ...*catalog.Node) *catalog.File {
	t.Helper()
	p := filepath.Join(t.TempDir(), "catalog.jsonl")
	w, err := catalog.Create(p, opencloud.Posix)
	check(t, err)
	s, err := w.Section(catalog.Space{Kind: catalog.KindSpace, ID: spaceID, Name: "Marketing", Type: "project", Dir: "mkt", Problem: space})
	check(t, err)
	for _, n := range nodes {
		n.Space = spaceID
	}
	slices.SortFunc(nodes, catalog.Compare)
	for _, n := range nodes {
		check(t, s.Add(n))
	}
	check(t, s.Close())
	_, err = w.Close()
	check(t, err)
	f, err := catalog.Open(p)
	check(t, err)
	t.Cleanup(func() { f.Close() })
	return f
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func holdings(t testing.TB) *Holdings {
	h := NewHoldings(t.TempDir())
	t.Cleanup(func() { check(t, h.Close()) })
	return h
}

// file is a file of 10 bytes in the space.
func file(path string) *catalog.Node {
	return &catalog.Node{Kind: catalog.KindFile, Path: path, ID: "id" + path, Size: 10, MTime: then, Blob: "blob" + path, At: "mkt" + path}
}

func with(n *catalog.Node, change func(*catalog.Node)) *catalog.Node {
	change(n)
	return n
}

// TestClasses judges one node at a time.
func TestClasses(t *testing.T) {
	broken := func(fatal bool) *catalog.Problem {
		return &catalog.Problem{Class: "broken", Fatal: fatal, Text: "its name link leads elsewhere"}
	}
	add := func(size int64, x Hashes) func(*Holdings) { return func(h *Holdings) { h.Add("mkt/f", size, x) } }
	nothing := func(*Holdings) {}
	f := func(change func(*catalog.Node)) *catalog.Node { return with(file("/f"), change) }
	plain := func(*catalog.Node) {}
	for name, c := range map[string]struct {
		node  *catalog.Node
		held  func(*Holdings)
		class Class
		fatal bool
		text  string // empty: in order
	}{
		"size":             {f(plain), add(10, Hashes{}), OKSize, false, ""},
		"size not known":   {f(plain), add(-1, Hashes{}), OKSize, false, ""},
		"sha1":             {f(func(n *catalog.Node) { n.SHA1 = sha1A }), add(10, Hashes{SHA1: sha1A}), OKHash, false, ""},
		"sha1 in capitals": {f(func(n *catalog.Node) { n.SHA1 = strings.ToUpper(sha1A) }), add(10, Hashes{SHA1: sha1A}), OKHash, false, ""},
		"md5":              {f(func(n *catalog.Node) { n.MD5 = md5A }), add(10, Hashes{MD5: md5A}), OKHash, false, ""},
		"sha1 beats md5": {
			f(func(n *catalog.Node) { n.SHA1, n.MD5 = sha1A, md5A }),
			add(10, Hashes{SHA1: sha1A, MD5: md5B}), OKHash, false, "",
		},
		"sha1 beats md5, wrong": {
			f(func(n *catalog.Node) { n.SHA1, n.MD5 = sha1A, md5A }),
			add(10, Hashes{SHA1: sha1B, MD5: md5A}), HashMismatch, true, "the SHA-1 of its content is " + sha1B,
		},
		"md5 where the backup has no sha1": {
			f(func(n *catalog.Node) { n.SHA1, n.MD5 = sha1A, md5A }),
			add(10, Hashes{MD5: md5B}), HashMismatch, true, "the MD5",
		},
		"different kinds of hashes": {f(func(n *catalog.Node) { n.SHA1 = sha1A }), add(10, Hashes{MD5: md5A}), OKSize, false, ""},
		"a hash that is none":       {f(func(n *catalog.Node) { n.SHA1 = sha1A }), add(10, Hashes{SHA1: "abc"}), OKSize, false, ""},
		"wrong hash, read just now": {
			f(func(n *catalog.Node) { n.SHA1 = sha1A }), func(h *Holdings) {
				h.Add("mkt/f", 10, Hashes{SHA1: sha1A})
				h.Read("mkt/f", Hashes{SHA1: sha1B})
			}, HashMismatch, true, sha1B,
		},
		"right hash, read just now": {
			f(func(n *catalog.Node) { n.SHA1 = sha1A }), func(h *Holdings) {
				h.Add("mkt/f", 10, Hashes{})
				h.Read("mkt/f", Hashes{SHA1: sha1A})
			}, OKHash, false, "",
		},
		"missing":                 {f(plain), nothing, Missing, true, "does not hold"},
		"elsewhere":               {f(plain), func(h *Holdings) { h.Add("mkt/g", 10, Hashes{}) }, Missing, true, "does not hold"},
		"shorter":                 {f(plain), add(9, Hashes{}), SizeMismatch, true, "9 bytes, its metadata says 10"},
		"longer":                  {f(plain), add(11, Hashes{}), SizeMismatch, true, "11 bytes"},
		"emptied":                 {f(plain), add(0, Hashes{}), SizeMismatch, true, "0 bytes"},
		"size and hash are wrong": {f(func(n *catalog.Node) { n.SHA1 = sha1A }), add(9, Hashes{SHA1: sha1B}), SizeMismatch, true, ""},
		"two of different sizes": {f(plain), func(h *Holdings) {
			h.Add("mkt/f", 10, Hashes{})
			h.Add("mkt/f", 9, Hashes{})
		}, SizeMismatch, true, "two contents"},
		"the same twice": {f(plain), func(h *Holdings) {
			h.Add("mkt/f", 10, Hashes{})
			h.Add("mkt/f", 10, Hashes{})
		}, OKSize, false, ""},
		"can't be read": {f(plain), func(h *Holdings) {
			h.Add("mkt/f", 10, Hashes{})
			h.Fail("mkt/f", errors.New("ciphertext verification failed"))
		}, Unreadable, true, "ciphertext verification failed"},
		"can't be read, not even listed": {f(plain), func(h *Holdings) {
			h.Fail("mkt/f", errors.New("ciphertext verification failed"))
		}, Unreadable, true, "ciphertext verification failed"},
		"listed after it failed": {f(plain), func(h *Holdings) {
			h.Fail("mkt/f", errors.New("ciphertext verification failed"))
			h.Add("mkt/f", 10, Hashes{})
		}, Unreadable, true, "ciphertext verification failed"},
		"names no content":     {f(func(n *catalog.Node) { n.Blob, n.At = "", "" }), nothing, Missing, true, "names no content"},
		"folder":               {&catalog.Node{Kind: catalog.KindFolder, Path: "/d", ID: "d"}, nothing, OKSize, false, ""},
		"empty file":           {f(func(n *catalog.Node) { n.Size, n.Blob = 0, "" }), nothing, OKSize, false, ""},
		"empty file, is there": {f(func(n *catalog.Node) { n.Size, n.Blob = 0, "" }), add(0, Hashes{}), OKSize, false, ""},
		"pending":              {f(func(n *catalog.Node) { n.Pending = "u1" }), nothing, Pending, false, "u1"},
		"pending, odd":         {f(func(n *catalog.Node) { n.Pending = "u1" }), add(3, Hashes{}), Pending, false, "u1"},
		"pending, there":       {f(func(n *catalog.Node) { n.Pending = "u1" }), add(10, Hashes{}), Pending, false, "u1"},
		"pending, broken":      {f(func(n *catalog.Node) { n.Pending, n.Problem = "u1", broken(true) }), nothing, Broken, true, "name link"},
		"version, missing": {
			&catalog.Node{Kind: catalog.KindVersion, Path: "/f", ID: "f", Version: "2026", Size: 10, Blob: "b", At: "v/f"},
			add(10, Hashes{}), Missing, true, "does not hold",
		},
		"names no content, and why": {
			&catalog.Node{Kind: catalog.KindVersion, Path: "/f", ID: "f", Version: "2026", Size: 10, Problem: broken(false)},
			nothing, Broken, false, "its name link leads elsewhere",
		},
		"trash, missing": {f(func(n *catalog.Node) { n.Trash, n.Deleted, n.Item, n.At = "k1", then, true, "t/f" }), add(10, Hashes{}), Missing, true, "does not hold"},
		"trash":          {f(func(n *catalog.Node) { n.Trash, n.Deleted, n.Item, n.At = "k1", then, true, "mkt/f" }), add(10, Hashes{}), OKSize, false, ""},
		"broken":         {f(func(n *catalog.Node) { n.Problem = broken(false) }), add(10, Hashes{}), Broken, false, "name link"},
		"broken, fatal":  {f(func(n *catalog.Node) { n.Problem = broken(true) }), add(10, Hashes{}), Broken, true, "name link"},
		"broken and missing": {
			f(func(n *catalog.Node) { n.Problem = broken(false) }), nothing, Missing, true,
			"the backup does not hold its content; its name link leads elsewhere",
		},
		"unreadable folder": {&catalog.Node{Kind: catalog.KindFolder, Path: "/d", ID: "d", Problem: &catalog.Problem{Class: "unreadable", Fatal: true, Text: "permission denied"}}, nothing, Unreadable, true, "permission denied"},
		"unreadable metadata": {
			f(func(n *catalog.Node) {
				n.Size, n.Blob, n.At = 0, "", ""
				n.Problem = &catalog.Problem{Class: "unreadable", Fatal: true, Text: "bad msgpack"}
			}), nothing, Unreadable, true, "bad msgpack",
		},
		"edited on disk": {
			// The catalog has the size on disk then (package nodes).
			f(func(n *catalog.Node) {
				n.Size = 11
				n.Problem = &catalog.Problem{Class: "broken", Text: "it was changed on disk"}
			}), add(11, Hashes{}), Broken, false, "changed on disk",
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := holdings(t)
			c.held(h)
			cert, err := Judge(t.Context(), "S", newCatalog(t, nil, c.node), h, Options{Catalog: "dig"})
			check(t, err)
			got := cert.Classes[c.class]
			if c.class == OKSize {
				got.Count-- // the space
			}
			size := uint64(c.node.Size)
			if got != (Tally{1, size}) || cert.Nodes != 2 || cert.Spaces != 1 || cert.Catalog != "dig" || cert.Set != "S" {
				t.Errorf("%+v", cert)
			}
			ok := (c.class == OKHash || c.class == OKSize) && c.text == ""
			var found []Finding
			for _, f := range cert.Findings {
				if f.Class != Orphan {
					found = append(found, f)
				}
			}
			if ok {
				if len(found) != 0 || !cert.Sound() {
					t.Errorf("findings of a node in order: %+v", cert)
				}
				return
			}
			if len(found) != 1 || cert.Sound() == c.fatal {
				t.Fatalf("%+v", cert)
			}
			want := Finding{
				Class: c.class, Fatal: c.fatal, Space: spaceID, SpaceName: "Marketing", Path: c.node.Path, Kind: c.node.Kind,
				Version: c.node.Version, Trash: c.node.Trash, Node: c.node.ID, Blob: c.node.Blob, At: c.node.At, Text: found[0].Text,
			}
			if want.At == "" {
				want.At = found[0].At // a catalog may know it where this test does not
			}
			if !reflect.DeepEqual(found[0], want) || !strings.Contains(found[0].Text, c.text) {
				t.Errorf("%+v, want %q in %+v", found[0], c.text, want)
			}
		})
	}
}

func TestOrphans(t *testing.T) {
	h := holdings(t)
	h.Add("mkt/f", 10, Hashes{})
	h.Add("mkt/empty", 0, Hashes{})
	h.Add("mkt/pending", 3, Hashes{})
	h.Add("mkt/shared", 10, Hashes{})
	h.Add("mkt/broken", 10, Hashes{})
	h.Add("mkt/.lock", 1, Hashes{})
	for i := range 30 {
		h.Add(fmt.Sprintf("mkt/orphan%02d", i), 100, Hashes{})
	}
	shared := func(p string) *catalog.Node {
		return with(file(p), func(n *catalog.Node) { n.Trash, n.At = "k"+p[1:], "mkt/shared" })
	}
	c := newCatalog(
		t, nil, file("/f"), shared("/a"), shared("/b"),
		with(file("/empty"), func(n *catalog.Node) { n.Size, n.Blob = 0, "" }),
		with(file("/pending"), func(n *catalog.Node) { n.Pending = "u1" }),
		with(file("/broken"), func(n *catalog.Node) { n.Problem = &catalog.Problem{Class: "broken", Fatal: true, Text: "no"} }),
	)
	maybe := func(at string) bool { return !strings.HasSuffix(at, ".lock") }
	cert, err := Judge(t.Context(), "S", c, h, Options{MaybeBlob: maybe})
	check(t, err)
	if cert.Classes[Orphan] != (Tally{30, 3000}) || cert.Fatal != 1 || cert.More != 0 || cert.Nodes != 7 {
		t.Errorf("%+v", cert)
	}
	var listed []string
	for _, f := range cert.Findings {
		if f.Class == Orphan {
			listed = append(listed, f.At)
			if f.Fatal || f.Space != "" || f.Text == "" {
				t.Errorf("%+v", f)
			}
		}
	}
	if len(listed) != 20 || listed[0] != "mkt/orphan00" || listed[19] != "mkt/orphan19" {
		t.Errorf("listed: %q", listed)
	}
	if s := cert.Findings[len(cert.Findings)-1].String(); s != "mkt/orphan19: orphan: no node has this content" {
		t.Error(s)
	}
}

// TestLossyNames joins with a list in which bytes that are no UTF-8 are U+FFFD.
func TestLossyNames(t *testing.T) {
	nodes := func() []*catalog.Node {
		return []*catalog.Node{file("/caf\xe9"), with(file("/caf\xe8"), func(n *catalog.Node) { n.Size = 20 }), file("/real\uFFFD"), file("/plain"), file("/caf\xc3")}
	}
	list := []struct {
		at   string
		size int64
	}{{"mkt/caf\uFFFD", 10}, {"mkt/caf\uFFFD", 20}, {"mkt/real\uFFFD", 10}, {"mkt/plain", 10}, {"mkt/caf\uFFFD", 10}}
	judge := func(skip int) *Certificate {
		h := holdings(t)
		for i, l := range list {
			if i != skip {
				h.AddLossy(l.at, l.size, Hashes{})
			}
		}
		cert, err := Judge(t.Context(), "S", newCatalog(t, nil, nodes()...), h, Options{})
		check(t, err)
		return cert
	}
	if cert := judge(-1); !cert.Sound() || cert.Classes[OKSize].Count != 6 || cert.Classes[Orphan].Count != 0 {
		t.Errorf("all there: %+v", cert)
	}
	for i, l := range list {
		cert := judge(i)
		if cert.Fatal != 1 || cert.Classes[Missing].Count != 1 || cert.Classes[Orphan].Count != 0 {
			t.Errorf("without %+v: %+v", l, cert)
		}
	}
	// One content of several nodes.
	h := holdings(t)
	h.AddLossy("mkt/caf\uFFFD", 10, Hashes{})
	var same []*catalog.Node
	for _, key := range []string{"k1", "k2"} {
		same = append(same, with(file("/caf\xe9"), func(n *catalog.Node) { n.Trash = key }))
	}
	cert, err := Judge(t.Context(), "S", newCatalog(t, nil, same...), h, Options{})
	check(t, err)
	if !cert.Sound() {
		t.Errorf("%+v", cert)
	}
	// True bytes on both sides, and a failure by true bytes.
	h = holdings(t)
	for _, n := range nodes() {
		h.Add("mkt"+n.Path, n.Size, Hashes{})
	}
	h.Fail("mkt/caf\xe8", errors.New("damaged"))
	cert, err = Judge(t.Context(), "S", newCatalog(t, nil, nodes()...), h, Options{})
	check(t, err)
	if cert.Fatal != 1 || cert.Findings[0].Path != "/caf\xe8" || cert.Findings[0].Class != Unreadable {
		t.Errorf("%+v", cert)
	}
	if s := cert.Findings[0].String(); s != `$'Marketing:/caf\xe8': unreadable: its content can't be read: damaged` {
		t.Error(s)
	}
}

func TestManyFindings(t *testing.T) {
	h := holdings(t)
	h.Add("mkt/orphan", 1, Hashes{})
	var nodes []*catalog.Node
	for i := range 1500 {
		nodes = append(nodes, with(file(fmt.Sprintf("/%04d", i)), func(n *catalog.Node) {
			if i%3 != 0 {
				n.Pending = "u" // not fatal
			}
		}))
	}
	space := &catalog.Problem{Class: "broken", Text: "it has no name"}
	cert, err := Judge(t.Context(), "S", newCatalog(t, space, nodes...), h, Options{})
	check(t, err)
	if cert.Fatal != 500 || len(cert.Findings) != 1000 || cert.More != 501 || cert.Classes[Pending].Count != 1000 || cert.Classes[Broken].Count != 1 {
		t.Errorf("fatal %d, listed %d, more %d, %v", cert.Fatal, len(cert.Findings), cert.More, cert.Classes)
	}
	for i, f := range cert.Findings {
		if f.Fatal != (i < 500) || i > 0 && i < 500 && f.Path <= cert.Findings[i-1].Path {
			t.Fatalf("finding %d: %+v", i, f)
		}
	}
	if f := cert.Findings[500]; f.Kind != catalog.KindSpace || f.Path != "/" || f.SpaceName != "Marketing" || f.Class != Broken {
		t.Errorf("first of the others: %+v", f)
	}
	if l := cert.Line(); l != "500 of 1,501 nodes have lost data: 500 missing; 1,000 uploads still being processed" {
		t.Error(l)
	}
	if cert.Fatal = 5000; !strings.Contains(cert.Line(), "lost data: missing;") {
		t.Errorf("not all are listed: %s", cert.Line())
	}
	b, err := json.Marshal(cert)
	check(t, err)
	var back Certificate
	check(t, json.Unmarshal(b, &back))
	if !reflect.DeepEqual(&back, cert) {
		t.Error("the file does not bring the certificate back")
	}
}

// TestManyBlobs is more than the first table has room for.
func TestManyBlobs(t *testing.T) {
	h := holdings(t)
	at := func(i int) string { return fmt.Sprintf("spaces/ab/blobs/%x", i*i) }
	const n = 10_000
	for i := range n {
		h.Add(at(i), int64(i), Hashes{MD5: fmt.Sprintf("%032x", i)})
	}
	for i := range n {
		e, ok := h.take(at(i), 0)
		if !ok || h.entry(e).size != int64(i) || h.hash(h.entry(e)).md5[15] != byte(i) {
			t.Fatalf("%s: %v", at(i), ok)
		}
	}
	if _, ok := h.take(at(n), 0); ok || h.Len() != n {
		t.Errorf("%d blobs, or one that is not there", h.Len())
	}
	i := 0
	check(t, h.each(func(p string, _ uint32) {
		if p != at(i) {
			t.Fatalf("place %d is %s", i, p)
		}
		i++
	}))
}

func TestLine(t *testing.T) {
	h := holdings(t)
	h.Add("mkt/f", 10, Hashes{})
	cert, err := Judge(t.Context(), "S", newCatalog(t, nil, file("/f")), h, Options{})
	check(t, err)
	if l := cert.Line(); l != "2 nodes in 1 space, every blob present" {
		t.Error(l)
	}
}

func TestEndedByContext(t *testing.T) {
	c, cancel := context.WithCancelCause(t.Context())
	why := errors.New("the deadline")
	cancel(why)
	if _, err := Judge(c, "S", newCatalog(t, nil, file("/f")), holdings(t), Options{}); !errors.Is(err, why) {
		t.Error(err)
	}
}

func TestNoRoomForPlaces(t *testing.T) {
	h := NewHoldings(filepath.Join(t.TempDir(), "gone"))
	h.Add("mkt/f", 10, Hashes{})
	if _, err := Judge(t.Context(), "S", newCatalog(t, nil, file("/f")), h, Options{}); err == nil || !strings.Contains(err.Error(), "temporary file") {
		t.Error(err)
	}
}
