package catalog

import (
	"bytes"
	"fmt"
	"iter"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/ocbackup/ocbackup/opencloud"
)

const (
	spaceA = "11111111-aaaa-4aaa-8aaa-000000000001"
	spaceB = "22222222-bbbb-4bbb-8bbb-000000000002"
)

// oddNames are names that a disk may have and few programs expect.
var oddNames = []string{
	"line\nbreak", "tab\tbell\x07", `quo"te`, `back\slash`, "\xff\xfe", "half \xe2\x82", "zero\x00", "..", ".", " ", "-", "~", "\u2028", "\ufffd", "<&>",
	"\xed\xa0\x80", string(bytes.Repeat([]byte("é"), 127)), string(bytes.Repeat([]byte{0xff}, 255)), "\x7f", "a", "a b", "a-b", "A", "ä", "😀",
}

// at returns times that a second and its parts are told apart in.
func at(seconds int) time.Time {
	return time.Date(2026, 11, 1, 2, 3, seconds, 123456789, time.UTC)
}

// write writes a catalog of these spaces and nodes, which come in any order.
func write(t testing.TB, driver opencloud.Driver, spaces []Space, nodes []Node) (string, Summary) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "catalog.jsonl")
	w, err := Create(path, driver)
	if err != nil {
		t.Fatal(err)
	}
	nodes = slices.Clone(nodes)
	slices.SortFunc(nodes, func(a, b Node) int { return Compare(&a, &b) })
	for _, s := range spaces {
		section, err := w.Section(s)
		if err != nil {
			t.Fatal(err)
		}
		for i := range nodes {
			if nodes[i].Space != s.ID {
				continue
			}
			if err := section.Add(&nodes[i]); err != nil {
				t.Fatal(err)
			}
		}
		if err := section.Close(); err != nil {
			t.Fatal(err)
		}
	}
	sum, err := w.Close()
	if err != nil {
		t.Fatal(err)
	}
	return path, sum
}

// open opens a catalog until the test ends.
func open(t testing.TB, path string) *File {
	t.Helper()
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func written(t testing.TB, driver opencloud.Driver, spaces []Space, nodes []Node) *File {
	t.Helper()
	path, _ := write(t, driver, spaces, nodes)
	return open(t, path)
}

// collect takes all that an iterator gives.
func collect[T any](t testing.TB, seq iter.Seq2[T, error]) []T {
	t.Helper()
	var all []T
	for v, err := range seq {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, v)
	}
	return all
}

// randomTree makes a space's nodes: folders, files, versions and trash with odd names,
// live ones in the order of a walk.
func randomTree(r *rand.Rand, space string, size int) (live, trash []Node) {
	id := 0
	fill := func(n Node) Node {
		id++
		n.Space, n.ID = space, fmt.Sprintf("%08x-%s", id, space[9:])
		if n.Kind != KindFolder {
			n.Size, n.MTime, n.Blob = r.Int64N(1<<40), at(r.IntN(1000)), fmt.Sprintf("%08x-0000-4000-8000-%012x", r.Uint32(), id)
			n.SHA1, n.MD5, n.Adler32 = fmt.Sprintf("%040x", r.Uint64()), fmt.Sprintf("%032x", r.Uint64()), fmt.Sprintf("%08x", r.Uint32())
		}
		if r.IntN(20) == 0 {
			n.Problem = &Problem{Class: "broken", Fatal: r.IntN(2) == 0, Text: oddNames[r.IntN(5)]}
		}
		return n
	}
	var walk func(dir string, size int)
	walk = func(dir string, size int) {
		names := map[string]bool{}
		for range 1 + r.IntN(8) {
			name := oddNames[r.IntN(len(oddNames))]
			if r.IntN(2) == 0 {
				name = fmt.Sprintf("%s%d", name[:min(len(name), 200)], r.IntN(100))
			}
			names[name] = true
		}
		for i, name := range slices.Sorted(func(yield func(string) bool) {
			for n := range names {
				if !yield(n) {
					return
				}
			}
		}) {
			path := dir + "/" + name
			if each := (size - len(names)) / len(names); each > 0 && i%2 == 0 {
				live = append(live, fill(Node{Kind: KindFolder, Path: path}))
				walk(path, each)
				continue
			}
			file := fill(Node{Kind: KindFile, Path: path})
			if r.IntN(10) == 0 {
				file.Pending = "upload"
			}
			live = append(live, file)
			for v := r.IntN(3); v > 0; v-- {
				version := fill(Node{Kind: KindVersion, Path: path, Version: fmt.Sprintf("2026-10-0%dT00:00:00Z", v)})
				live = append(live, version)
			}
		}
	}
	walk("", size)
	for key := range 1 + size/20 {
		of := live[r.IntN(len(live))]
		item := fill(Node{Kind: KindFile, Path: of.Path, Trash: fmt.Sprintf("key%d", key), Deleted: at(key), Item: true})
		if key%3 == 0 {
			item.Kind, item.Size, item.Blob = KindFolder, 0, ""
			inside := fill(Node{Kind: KindFile, Path: of.Path + "/in\xffside", Trash: item.Trash, Deleted: item.Deleted})
			trash = append(trash, inside)
		}
		trash = append(trash, item)
	}
	return live, trash
}

// tamper writes a catalog that no Writer wrote.
func tamper(t testing.TB, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "catalog.jsonl")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
