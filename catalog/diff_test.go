package catalog

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/ocbackup/ocbackup/opencloud"
)

// node makes a node from "ID /path" (a folder if the path ends with "/") and a hash.
func node(id, path, sha1 string) Node {
	n := Node{Kind: KindFile, Space: spaceA, Path: path, ID: id, SHA1: sha1, MTime: at(1)}
	if strings.HasSuffix(path, "/") {
		n.Kind, n.Path, n.SHA1 = KindFolder, strings.TrimSuffix(path, "/"), ""
	}
	return n
}

func changes(t *testing.T, a, b *File) []string {
	t.Helper()
	var got []string
	for _, c := range collect(t, Diff(a, b)) {
		line := string(c.Kind)
		if c.Before != nil {
			line += " " + c.Before.Path
		}
		if c.Before != nil && c.After != nil {
			line += " ->"
		}
		if c.After != nil {
			line += " " + c.After.Path
		}
		got = append(got, line)
	}
	return got
}

func TestDiff(t *testing.T) {
	later := node("1", "/f", "aa")
	later.MTime = at(2)
	touched := node("d", "/d/", "")
	touched.MTime = at(9)
	noHash, version, trash := node("1", "/f", ""), node("1", "/f", "zz"), node("9", "/gone", "zz")
	version.Kind, version.Version, trash.Trash, trash.Item = KindVersion, "v", "k", true
	for name, tc := range map[string]struct {
		before, after []Node
		want          []string
	}{
		"nothing":        {[]Node{node("1", "/f", "aa")}, []Node{node("1", "/f", "aa")}, nil},
		"added":          {nil, []Node{node("1", "/f", "aa")}, []string{"added /f"}},
		"removed":        {[]Node{node("1", "/f", "aa")}, nil, []string{"removed /f"}},
		"changed":        {[]Node{node("1", "/f", "aa")}, []Node{node("1", "/f", "bb")}, []string{"changed /f -> /f"}},
		"other time":     {[]Node{node("1", "/f", "aa")}, []Node{later}, []string{"changed /f -> /f"}},
		"folder's time":  {[]Node{node("d", "/d/", "")}, []Node{touched}, nil},
		"hash not known": {[]Node{node("1", "/f", "aa")}, []Node{noHash}, nil},
		"versions":       {[]Node{node("1", "/f", "aa")}, []Node{node("1", "/f", "aa"), version}, nil},
		"trash":          {[]Node{trash}, nil, nil},
		"to the trash":   {[]Node{node("9", "/gone", "zz")}, []Node{trash}, []string{"removed /gone"}},
		"renamed":        {[]Node{node("1", "/a", "aa")}, []Node{node("1", "/b", "aa")}, []string{"moved /a -> /b"}},
		"moved back":     {[]Node{node("1", "/z", "aa")}, []Node{node("1", "/b", "bb")}, []string{"moved /z -> /b"}},
		"replaced":       {[]Node{node("1", "/a", "aa")}, []Node{node("2", "/a", "aa")}, []string{"changed /a -> /a"}},
		"swapped": {
			[]Node{node("1", "/a", "aa"), node("2", "/b", "bb")},
			[]Node{node("2", "/a", "bb"), node("1", "/b", "aa")},
			[]string{"moved /b -> /a", "moved /a -> /b"},
		},
		"moved, another in its place": {
			[]Node{node("1", "/a", "aa")},
			[]Node{node("2", "/a", "aa"), node("1", "/b", "aa")},
			[]string{"added /a", "moved /a -> /b"},
		},
		"moved over another": {
			[]Node{node("1", "/a", "aa"), node("2", "/b", "bb")},
			[]Node{node("1", "/b", "aa")},
			[]string{"removed /b", "moved /a -> /b"},
		},
		"a folder with all in it": {
			[]Node{node("d", "/d/", ""), node("1", "/d/a", "aa"), node("e", "/d/e/", ""), node("2", "/d/e/b", "bb"), node("3", "/d/gone", "cc"), node("4", "/d/old", "dd")},
			[]Node{node("d", "/z/", ""), node("1", "/z/a", "aa"), node("e", "/z/e/", ""), node("2", "/z/e/b", "changed"), node("4", "/z/new", "dd"), node("5", "/z/plus", "ee")},
			[]string{"removed /d/gone", "moved /d -> /z", "changed /d/e/b -> /z/e/b", "moved /d/old -> /z/new", "added /z/plus"},
		},
		"a folder into a moved one": {
			[]Node{node("d", "/d/", ""), node("1", "/d/x", "aa"), node("e", "/e/", ""), node("2", "/e/b", "bb")},
			[]Node{node("d", "/z/", ""), node("e", "/z/e/", ""), node("2", "/z/e/b", "bb"), node("1", "/z/x", "aa")},
			[]string{"moved /d -> /z", "moved /e -> /z/e"},
		},
		"file to folder": {[]Node{node("1", "/a", "aa")}, []Node{node("2", "/a/", "")}, []string{"changed /a -> /a"}},
		"without ids":    {[]Node{node("", "/a", "aa")}, []Node{node("", "/b", "aa")}, []string{"removed /a", "added /b"}},
		"an id twice": {
			[]Node{node("1", "/a", "aa"), node("1", "/b", "aa")},
			[]Node{node("1", "/c", "aa")},
			[]string{"removed /a", "moved /b -> /c"},
		},
		"an id twice afterwards": {
			[]Node{node("1", "/a", "aa")},
			[]Node{node("1", "/b", "aa"), node("1", "/c", "aa")},
			[]string{"moved /a -> /b", "added /c"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			a := written(t, opencloud.Posix, []Space{{ID: spaceA, Name: "before"}}, tc.before)
			b := written(t, opencloud.Posix, []Space{{ID: spaceA, Name: "after"}}, tc.after)
			if got := changes(t, a, b); !reflect.DeepEqual(got, tc.want) {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

// A space is the folder "/", and what is in it comes or goes with it.
func TestDiffOfSpaces(t *testing.T) {
	inB := node("1", "/f", "aa")
	inB.Space = spaceB
	a := written(t, opencloud.Posix, []Space{{ID: spaceA}}, []Node{node("1", "/f", "aa")})
	b := written(t, opencloud.Posix, []Space{{ID: spaceB, Dir: "b"}}, []Node{inB})
	if got, want := changes(t, a, b), []string{"removed /", "added /", "moved /f -> /f"}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	all := collect(t, Diff(a, b))
	if c := all[1]; c.After.Space != spaceB || c.After.Kind != KindFolder {
		t.Errorf("%+v", c.After)
	}
	if at := all[2].After.At; at != "" {
		t.Errorf("at %q: it has none", at)
	}
}

// On random trees, all that differs is told, and nothing else: what is left after taking
// the changes back is what was before.
func TestDiffTellsAll(t *testing.T) {
	r := rand.New(rand.NewPCG(21, 22))
	for range 20 {
		before, trash := randomTree(r, spaceA, 300)
		var after []Node
		for i, n := range before {
			switch r.IntN(12) {
			case 0:
				continue
			case 1:
				n.SHA1 = "other"
			case 2:
				if n.Kind == KindFile {
					n.Path = fmt.Sprintf("/moved %d", i)
				}
			case 3:
				if n.Kind == KindFile {
					after = append(after, node(fmt.Sprint("new", i), fmt.Sprintf("/new %d", i), "aa"))
				}
			}
			after = append(after, n)
		}
		// A version goes where its file went only on a real server: here it may stay.
		live := func(nodes []Node) map[string]Node {
			m := map[string]Node{}
			for _, n := range nodes {
				if n.Kind != KindVersion {
					m[n.Path] = n
				}
			}
			return m
		}
		a := written(t, opencloud.Decomposed, []Space{{ID: spaceA}}, slices.Concat(before, trash))
		b := written(t, opencloud.Decomposed, []Space{{ID: spaceA}}, after)
		left := live(after)
		all := collect(t, Diff(a, b))
		for _, c := range all {
			if c.After != nil {
				delete(left, c.After.Path)
			}
		}
		for _, c := range all {
			if c.Before != nil {
				left[c.Before.Path] = *c.Before
			}
		}
		want := live(before)
		if len(left) != len(want) {
			t.Fatalf("%d nodes, want %d", len(left), len(want))
		}
		for path, n := range want {
			if got := left[path]; got.ID != n.ID || n.Kind == KindFile && got.SHA1 != n.SHA1 {
				t.Fatalf("%q: %+v, want %+v", path, got, n)
			}
		}
	}
}
