package catalog

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ocbackup/ocbackup/opencloud"
)

// Every field, with every odd name in every place that takes one, comes back as it was.
func TestRoundTrip(t *testing.T) {
	for _, driver := range []opencloud.Driver{opencloud.Posix, opencloud.Decomposed, opencloud.DecomposedS3} {
		space := Space{
			ID: spaceA, Name: "Marketing \"&\"\u2028", Type: "project", Alias: "project/marketing", Owner: spaceA,
			Disabled: at(5).In(time.FixedZone("", 7200)), Dir: "projects/\xffdir", Problem: &Problem{Class: "unreadable", Text: "x"},
		}
		var nodes []Node
		for i, name := range oddNames {
			file := Node{
				Kind: KindFile, Space: spaceA, Path: "/" + name, ID: "id" + fmt.Sprint(i), Size: int64(i) << 50, MTime: at(i),
				Blob: "0123456789abcdef" + fmt.Sprint(i), SHA1: "aa", MD5: "bb", Adler32: "cc", Pending: "p", At: "odd/" + name,
			}
			version, item := file, file
			version.Kind, version.Version = KindVersion, "v"+name
			item.Trash, item.Deleted, item.Item, item.Problem = "t"+name, at(i), true, &Problem{Class: "broken", Fatal: true, Text: "\"\\\n"}
			nodes = append(nodes, file, version, item)
		}
		bare := Node{Kind: KindFolder, Space: spaceA, Path: "/bare", Size: -1}
		empty := Node{Kind: KindFile, Space: spaceA, Path: "/empty name/", MTime: time.Date(-5, 1, 1, 0, 0, 0, 0, time.UTC)}
		nodes = append(nodes, bare, empty)
		f := written(t, driver, []Space{space}, nodes)
		nodes[len(nodes)-1].MTime = time.Time{} // which has no form

		slices.SortFunc(nodes, func(a, b Node) int { return Compare(&a, &b) })
		got := collect(t, f.All())
		if len(got) != len(nodes) {
			t.Fatalf("%d nodes, want %d", len(got), len(nodes))
		}
		for i, n := range got {
			if !reflect.DeepEqual(*n, nodes[i]) {
				t.Errorf("%s: got\n%+v, want\n%+v", driver, *n, nodes[i])
			}
		}
		spaces, err := f.Spaces()
		space.Disabled = at(5)
		space.Kind, space.Counts = KindSpace, spaces[0].Counts
		if err != nil || len(spaces) != 1 || !reflect.DeepEqual(spaces[0], space) || f.Driver() != driver {
			t.Errorf("got %+v, %v", spaces, err)
		}
	}
}

// Where a content lies is in the file only where it doesn't follow.
func TestPlaceIsLeftOut(t *testing.T) {
	const blob = "f2a1c3d4-0000-4000-8000-000000000001"
	for driver, want := range map[opencloud.Driver]string{
		opencloud.Posix:        "users/einstein/a/\xff",
		opencloud.Decomposed:   "spaces/11/111111-aaaa-4aaa-8aaa-000000000001/blobs/f2/a1/c3/d4/-0000-4000-8000-000000000001",
		opencloud.DecomposedS3: spaceA + "/f2/a1/c3/d4/-0000-4000-8000-000000000001",
	} {
		space := Space{ID: spaceA, Name: "Einstein", Type: "personal", Dir: "users/einstein"}
		node := Node{Kind: KindFile, Space: spaceA, Path: "/a/\xff", Blob: blob, Size: 3}
		if at := Place(driver, &space, &node); at != want {
			t.Errorf("%s: %q, want %q", driver, at, want)
		}
		elsewhere, nowhere := node, node
		node.At, elsewhere.Path, nowhere.Path, elsewhere.At = want, "/b", "/c", "else/where"
		path, _ := write(t, driver, []Space{space}, []Node{node, elsewhere, nowhere})
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(string(content), `"at":`); n != 2 {
			t.Errorf("%s: %d lines with at, want those of two nodes that are not in their place", driver, n)
		}
		got := collect(t, open(t, path).All())
		if got[0].At != want || got[1].At != "else/where" || got[2].At != "" {
			t.Errorf("%s: %q, %q, %q", driver, got[0].At, got[1].At, got[2].At)
		}
	}
}

func TestPlace(t *testing.T) {
	space := Space{ID: spaceA, Dir: "users/einstein"}
	for _, tc := range []struct {
		driver opencloud.Driver
		node   Node
		want   string
	}{
		{opencloud.Posix, Node{Kind: KindFile, Path: "/a", Blob: "b"}, "users/einstein/a"},
		{opencloud.Posix, Node{Kind: KindFile, Path: "/a", Blob: "b", Trash: "k"}, ""},
		{opencloud.Posix, Node{Kind: KindVersion, Path: "/a", Blob: "b", Version: "v"}, ""},
		{opencloud.Posix, Node{Kind: KindFolder, Path: "/a"}, ""},
		{opencloud.DecomposedS3, Node{Kind: KindFile, Path: "/a", Blob: "abcdefghi"}, spaceA + "/ab/cd/ef/gh/i"},
		{opencloud.DecomposedS3, Node{Kind: KindFile, Path: "/a", Blob: "abcd"}, spaceA + "/ab/cd"},
		{opencloud.DecomposedS3, Node{Kind: KindFile, Path: "/a", Blob: "abc", Trash: "k"}, spaceA + "/ab/c"},
		{opencloud.DecomposedS3, Node{Kind: KindVersion, Path: "/a", Blob: "ab"}, spaceA + "/ab"},
		{opencloud.DecomposedS3, Node{Kind: KindFile, Path: "/a"}, ""},
	} {
		tc.node.Space = spaceA
		if got := Place(tc.driver, &space, &tc.node); got != tc.want {
			t.Errorf("%s, %+v: %q, want %q", tc.driver, tc.node, got, tc.want)
		}
	}
}

func TestCounts(t *testing.T) {
	problem := &Problem{Class: "broken", Text: "x"}
	_, sum := write(t, opencloud.Posix, []Space{{ID: spaceA, Problem: problem}}, []Node{
		{Kind: KindFolder, Space: spaceA, Path: "/d", Size: 4096, Problem: problem},
		{Kind: KindFile, Space: spaceA, Path: "/f", Size: 1, Pending: "p"},
		{Kind: KindFile, Space: spaceA, Path: "/g", Size: -1},
		{Kind: KindVersion, Space: spaceA, Path: "/f", Size: 10, Version: "v", Pending: "p"},
		{Kind: KindFile, Space: spaceA, Path: "/f", Size: 100, Trash: "k", Problem: problem},
		{Kind: KindVersion, Space: spaceA, Path: "/f", Size: 1000, Trash: "k", Version: "v"},
		{Kind: KindFolder, Space: spaceA, Path: "/h", Size: 4096, Trash: "k"},
	})
	want := Counts{Folders: 1, Files: 2, Bytes: 1, Versions: 1, VersionBytes: 10, Trash: 3, TrashBytes: 1100, Pending: 1, Problems: 3}
	if sum.Counts != want || sum.Spaces != 1 || sum.Nodes() != 8 {
		t.Errorf("got %+v, want %+v", sum, want)
	}
}

// An id is not to lead anywhere else.
func TestPlaceStaysInside(t *testing.T) {
	for _, id := range []string{"../../../x", "........", "..", "/", "a/../../b", "", "ab/.", "//x", "......../../../../../../../x"} {
		for _, driver := range []opencloud.Driver{opencloud.Decomposed, opencloud.DecomposedS3, opencloud.Posix} {
			for _, n := range []Node{{Space: spaceA, Blob: id}, {Space: id, Blob: "blob-id"}, {Kind: KindFile, Path: "/" + id}} {
				at := Place(driver, &Space{Dir: "dir"}, &n)
				if at != "" && (filepath.Clean(at) != at || !filepath.IsLocal(at)) {
					t.Errorf("%s, %+v: %q", driver, n, at)
				}
			}
		}
	}
}

// A walk in the order of names in bytes gives the order of the file.
func TestWalkOrderIsAccepted(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 20 {
		w, err := Create(filepath.Join(t.TempDir(), "c"), opencloud.Posix)
		if err != nil {
			t.Fatal(err)
		}
		s, err := w.Section(Space{ID: spaceA})
		if err != nil {
			t.Fatal(err)
		}
		live, _ := randomTree(r, spaceA, 200)
		latest := slices.Clone(live) // versions come the newest first: randomTree makes them so
		for i := range latest {
			if err := s.Add(&latest[i]); err != nil {
				t.Fatal(err)
			}
		}
		w.Abort()
	}
}

// What does not belong where it is added is refused, and no catalog comes of it.
func TestAddRefuses(t *testing.T) {
	file := func(path string) Node { return Node{Kind: KindFile, Space: spaceA, Path: path} }
	version := Node{Kind: KindVersion, Space: spaceA, Path: "/m", Version: "2"}
	newer := Node{Kind: KindVersion, Space: spaceA, Path: "/m", Version: "3"}
	trash := Node{Kind: KindFile, Space: spaceA, Path: "/a", Trash: "k"}
	huge := file("/z")
	huge.Problem = &Problem{Text: strings.Repeat("x", maxLine)}
	for name, tc := range map[string]struct {
		nodes []Node
		want  string
	}{
		"twice":                        {[]Node{file("/m"), file("/m")}, "twice"},
		"before":                       {[]Node{file("/m"), file("/b")}, "before"},
		"a folder after what is in it": {[]Node{file("/m/x"), {Kind: KindFolder, Space: spaceA, Path: "/m"}}, "before"},
		"an older version first":       {[]Node{file("/m"), version, newer}, "before"},
		"live after trash":             {[]Node{trash, file("/m")}, "before"},
		"another space":                {[]Node{{Kind: KindFile, Space: spaceB, Path: "/x"}}, spaceB},
		"no path":                      {[]Node{file("")}, "path"},
		"the root":                     {[]Node{file("/")}, "path"},
		"no kind":                      {[]Node{{Space: spaceA, Path: "/x"}}, "kind"},
		"too long":                     {[]Node{huge}, "1 MiB"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "catalog.jsonl")
			w, err := Create(path, opencloud.Posix)
			if err != nil {
				t.Fatal(err)
			}
			s, err := w.Section(Space{ID: spaceA})
			if err != nil {
				t.Fatal(err)
			}
			for i := range tc.nodes {
				err = s.Add(&tc.nodes[i])
				if last := i == len(tc.nodes)-1; last != (err != nil) {
					t.Fatalf("node %d: %v", i, err)
				}
			}
			if !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%v does not say %q", err, tc.want)
			}
			ok := file("/zz")
			if s.Add(&ok) == nil || s.Close() == nil {
				t.Error("the section goes on")
			}
			if _, err := w.Close(); err == nil {
				t.Error("a catalog came of it")
			}
			if left, _ := os.ReadDir(filepath.Dir(path)); len(left) != 0 {
				t.Errorf("left: %v", left)
			}
		})
	}
}

// Sections may be filled at once, and come out in the order of ids.
func TestConcurrentSections(t *testing.T) {
	path := filepath.Join(t.TempDir(), "catalog.jsonl")
	w, err := Create(path, opencloud.Decomposed)
	if err != nil {
		t.Fatal(err)
	}
	var group errgroup.Group
	const spaces, files = 20, 300
	for i := range spaces {
		group.Go(func() error {
			id := fmt.Sprintf("space-%02d", (i*7)%spaces)
			s, err := w.Section(Space{ID: id, Name: id})
			if err != nil {
				return err
			}
			for j := range files {
				n := Node{Kind: KindFile, Space: id, Path: fmt.Sprintf("/%05d", j), Size: int64(j)}
				if err := s.Add(&n); err != nil {
					return err
				}
			}
			if i == 3 {
				s.SetProblem(&Problem{Class: "broken", Text: "as a whole"})
			}
			return s.Close()
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	sum, err := w.Close()
	if err != nil {
		t.Fatal(err)
	}
	if sum.Spaces != spaces || sum.Files != spaces*files || sum.Bytes != spaces*files*(files-1)/2 || sum.Problems != 1 || sum.Nodes() != spaces+spaces*files {
		t.Errorf("summary %+v", sum)
	}
	f := open(t, path)
	if err := f.Check(sum); err != nil {
		t.Error(err)
	}
	list, err := f.Spaces()
	if err != nil || len(list) != spaces || !slices.IsSortedFunc(list, func(a, b Space) int { return strings.Compare(a.ID, b.ID) }) {
		t.Errorf("spaces %+v, %v", list, err)
	}
	if _, err := w.Section(Space{ID: "late"}); err == nil {
		t.Error("a section of a closed catalog")
	}
}

func TestSectionTwice(t *testing.T) {
	dir := t.TempDir()
	w, err := Create(filepath.Join(dir, "c"), opencloud.Posix)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Section(Space{ID: spaceA}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Section(Space{ID: spaceA}); err == nil || !strings.Contains(err.Error(), spaceA) {
		t.Errorf("a second section of a space: %v", err)
	}
	if _, err := w.Close(); err == nil || !strings.Contains(err.Error(), "not closed") {
		t.Errorf("closed with an open section: %v", err)
	}
	w.Abort()
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

// The same nodes make the same bytes, whatever the order of the sections: that is what
// deduplicates.
func TestSameNodesSameBytes(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	live, trash := randomTree(r, spaceA, 100)
	other, _ := randomTree(r, spaceB, 100)
	nodes := slices.Concat(live, trash, other)
	a, b := Space{ID: spaceA, Name: "A", Dir: "a"}, Space{ID: spaceB, Name: "B", Dir: "b"}
	_, first := write(t, opencloud.Posix, []Space{a, b}, nodes)
	_, second := write(t, opencloud.Posix, []Space{b, a}, nodes)
	if first != second || first.Digest == "" {
		t.Errorf("%+v, %+v", first, second)
	}
}
