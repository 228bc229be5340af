package catalog

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/ocbackup/ocbackup/opencloud"
)

// Lookup, Children, Walk, Versions, Trash and Find agree with a naive look at all nodes,
// on random trees with odd names.
func TestBrowseAgreesWithAScan(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 12))
	for round := range 4 {
		var nodes []Node
		spaces := []Space{{ID: spaceA, Name: "A"}, {ID: spaceB, Name: "B"}, {ID: "empty"}}
		for _, s := range []string{spaceA, spaceB} {
			live, trash := randomTree(r, s, 40<<round)
			nodes = slices.Concat(nodes, live, trash)
		}
		f := written(t, opencloud.Decomposed, spaces, nodes)
		nodes = nil
		for _, n := range collect(t, f.All()) {
			nodes = append(nodes, *n)
		}
		for _, of := range nodes {
			space, path := of.Space, of.Path
			if got, want := values(collect(t, f.Trash(space, path))), pick(nodes, func(n *Node) bool {
				return n.Space == space && n.Trash != "" && (n.Path == path || strings.HasPrefix(n.Path, path+"/"))
			}); !reflect.DeepEqual(got, want) {
				t.Fatalf("trash of %q: %d nodes, want %d", path, len(got), len(want))
			}
			if of.Trash != "" || of.Kind == KindVersion {
				continue
			}
			if n, err := f.Lookup(space, path); err != nil || !reflect.DeepEqual(*n, of) {
				t.Fatalf("%q: %+v, %v", path, n, err)
			}
			if _, err := f.Lookup(space, path+"\x00"); !errors.Is(err, fs.ErrNotExist) {
				t.Fatalf("what is not there: %v", err)
			}
			same(t, f, nodes, space, path)
		}
		for _, s := range spaces {
			same(t, f, nodes, s.ID, "/")
			for _, part := range []string{"a", "\n", "\xff", "/", "no such name"} {
				match := func(path string) bool { return strings.Contains(path, part) }
				got := values(collect(t, f.FindIn(s.ID, match)))
				if want := pick(nodes, func(n *Node) bool { return n.Space == s.ID && match(n.Path) }); !reflect.DeepEqual(got, want) {
					t.Fatalf("find %q in %s: %d nodes, want %d", part, s.ID, len(got), len(want))
				}
				got = values(collect(t, f.Find(match)))
				if want := pick(nodes, func(n *Node) bool { return match(n.Path) }); !reflect.DeepEqual(got, want) {
					t.Fatalf("find %q: %d nodes, want %d", part, len(got), len(want))
				}
			}
		}
	}
}

// same holds what is below a path against the list of all nodes.
func same(t *testing.T, f *File, nodes []Node, space, path string) {
	t.Helper()
	prefix := path + "/"
	if path == "/" {
		prefix = path
	}
	live := func(n *Node) bool { return n.Space == space && n.Trash == "" }
	children := pick(nodes, func(n *Node) bool {
		return live(n) && n.Kind != KindVersion && strings.HasPrefix(n.Path, prefix) && !strings.Contains(n.Path[len(prefix):], "/")
	})
	if got := values(collect(t, f.Children(space, path))); !reflect.DeepEqual(got, children) {
		t.Fatalf("children of %q: %d, want %d", path, len(got), len(children))
	}
	walk := pick(nodes, func(n *Node) bool { return live(n) && (n.Path == path || strings.HasPrefix(n.Path, prefix)) })
	got := values(collect(t, f.Walk(space, path)))
	if path == "/" {
		if got[0].Kind != KindFolder || got[0].Path != "/" || got[0].Space != space {
			t.Fatalf("root %+v", got[0])
		}
		if got = got[1:]; len(got) == 0 {
			got = nil
		}
	}
	if !reflect.DeepEqual(got, walk) {
		t.Fatalf("walk of %q: %d, want %d", path, len(got), len(walk))
	}
	versions := pick(nodes, func(n *Node) bool { return live(n) && n.Kind == KindVersion && n.Path == path })
	if got, err := f.Versions(space, path); err != nil || !reflect.DeepEqual(got, versions) {
		t.Fatalf("versions of %q: %+v, %v", path, got, err)
	}
}

func values(nodes []*Node) []Node { return pick(nodes, func(**Node) bool { return true }) }

// pick copies the nodes that are wanted; nil if there is none.
func pick[T Node | *Node](all []T, want func(*T) bool) (picked []Node) {
	for i := range all {
		if !want(&all[i]) {
			continue
		}
		switch n := any(all[i]).(type) {
		case Node:
			picked = append(picked, n)
		case *Node:
			picked = append(picked, *n)
		}
	}
	return picked
}

// Versions come the newest first.
func TestVersionsNewestFirst(t *testing.T) {
	nodes := []Node{{Kind: KindFile, Space: spaceA, Path: "/a"}}
	for _, v := range []string{"2026-01-01T00:00:00Z", "2026-03-01T00:00:00Z", "2026-02-01T00:00:00Z"} {
		nodes = append(nodes, Node{Kind: KindVersion, Space: spaceA, Path: "/a", Version: v})
	}
	f := written(t, opencloud.Posix, []Space{{ID: spaceA}}, nodes)
	got, err := f.Versions(spaceA, "/a")
	if err != nil || len(got) != 3 || got[0].Version[:7] != "2026-03" || got[2].Version[:7] != "2026-01" {
		t.Errorf("%+v, %v", got, err)
	}
}

// Large folders are jumped over, and what comes after them is still there.
func TestChildrenBesideLargeFolders(t *testing.T) {
	var nodes []Node
	for i := range 30 {
		folder := fmt.Sprintf("/folder %02d", i)
		nodes = append(nodes, Node{Kind: KindFolder, Space: spaceA, Path: folder}, Node{Kind: KindFile, Space: spaceA, Path: folder + "-file"})
		for j := range i * i * 3 {
			nodes = append(nodes, Node{Kind: KindFile, Space: spaceA, Path: fmt.Sprintf("%s/%05d/x", folder, j), At: strings.Repeat("y", j%500)})
		}
	}
	f := written(t, opencloud.Posix, []Space{{ID: spaceA}}, nodes)
	got := collect(t, f.Children(spaceA, "/"))
	if len(got) != 60 {
		t.Fatalf("%d children", len(got))
	}
	for i, n := range got {
		if want := fmt.Sprintf("/folder %02d%s", i/2, strings.Repeat("-file", i%2)); n.Path != want {
			t.Errorf("%s, want %s", n.Path, want)
		}
	}
	if got := collect(t, f.Children(spaceA, "/folder 03-file")); len(got) != 0 {
		t.Errorf("children of a file: %d", len(got))
	}
}

func TestBrowseWhatIsNotThere(t *testing.T) {
	f := written(t, opencloud.Posix, []Space{{ID: spaceB}}, nil)
	for name, err := range map[string]error{
		"lookup":          second(f.Lookup(spaceB, "/x")),
		"space before":    second(f.Lookup(spaceA, "/")),
		"space after":     second(f.Lookup("z", "/")),
		"versions":        second(f.Versions(spaceB, "/x")),
		"children":        first(f.Children(spaceB, "/x")),
		"walk":            first(f.Walk(spaceA, "/")),
		"trash of no one": first(f.Trash(spaceA, "/")),
		"find in no one":  first(f.FindIn(spaceA, func(string) bool { return true })),
	} {
		if !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := first(f.Trash(spaceB, "/x")); err != nil {
		t.Errorf("no trash at a path: %v", err)
	}
	if n, err := f.Lookup(spaceB, "/"); err != nil || n.Kind != KindFolder {
		t.Errorf("an empty space: %+v, %v", n, err)
	}
}

func second[T any](_ T, err error) error { return err }

func first[T any](seq func(func(T, error) bool)) (err error) {
	seq(func(_ T, e error) bool {
		err = e
		return false
	})
	return err
}
