package catalog

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ocbackup/ocbackup/opencloud"
)

// stored writes a small catalog and returns its lines, too.
func stored(t testing.TB) (lines [][]byte, sum Summary) {
	t.Helper()
	var nodes []Node
	for i := range 6 {
		nodes = append(nodes, Node{Kind: KindFile, Space: spaceA, Path: fmt.Sprintf("/file %d", i), ID: fmt.Sprint(i), Size: 10, MTime: at(i)})
	}
	nodes = append(nodes, Node{Kind: KindFolder, Space: spaceB, Path: "/folder"}, Node{Kind: KindFile, Space: spaceB, Path: "/gone", Trash: "k", Item: true})
	path, sum := write(t, opencloud.Posix, []Space{{ID: spaceA, Name: "A", Dir: "a"}, {ID: spaceB, Name: "B", Dir: "b"}}, nodes)
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines = bytes.SplitAfter(content, []byte("\n"))
	return lines[:len(lines)-1], sum
}

// summaryOf is what a manifest says that was made of a file as it is, but for its counts.
func summaryOf(content []byte, sum Summary) Summary {
	digest := sha256.Sum256(content)
	sum.Size, sum.Digest = uint64(len(content)), hex.EncodeToString(digest[:])
	return sum
}

// No byte of the file can change and Check not tell.
func TestCheckFindsEveryFlippedByte(t *testing.T) {
	lines, sum := stored(t)
	content := bytes.Join(lines, nil)
	path := tamper(t, content)
	if err := check(path, sum); err != nil {
		t.Fatal(err)
	}
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	put := func(i int, b byte) {
		if _, err := file.WriteAt([]byte{b}, int64(i)); err != nil {
			t.Fatal(err)
		}
	}
	for i, was := range content {
		for _, other := range []byte{was ^ 0x01, was ^ 0x80, '\n', '"', ' '} {
			if other == was {
				continue
			}
			put(i, other)
			if err := check(path, sum); err == nil {
				t.Fatalf("byte %d (%q) became %q", i, was, other)
			}
		}
		put(i, was)
	}
	for end := len(content) - 1; end >= 0; end-- {
		if err := file.Truncate(int64(end)); err != nil {
			t.Fatal(err)
		}
		if err := check(path, sum); err == nil {
			t.Fatalf("cut after %d bytes", end)
		}
	}
}

// check opens and checks a catalog.
func check(path string, sum Summary) error {
	f, err := Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Check(sum)
}

// Files that no Writer wrote are refused, with the number of the line, also where the
// digest is that of the file.
func TestDamageNamesTheLine(t *testing.T) {
	lines, sum := stored(t)
	long := []byte(strings.Replace(string(lines[4]), `"id":"2"`, `"id":"`+strings.Repeat("x", maxLine)+`"`, 1))
	orphan := []byte(strings.Replace(string(lines[9]), spaceB, "no such space", 1))
	for name, tc := range map[string]struct {
		lines [][]byte
		line  int64
	}{
		"torn at the end":         {slices.Concat(lines[:len(lines)-1], [][]byte{lines[len(lines)-1][:40]}), int64(len(lines))},
		"a line without its end":  {slices.Concat(lines[:3], [][]byte{bytes.TrimSuffix(lines[3], []byte("\n"))}, lines[4:]), 4},
		"a line torn in between":  {slices.Concat(lines[:4], [][]byte{append(bytes.Clone(lines[4][:50]), '\n')}, lines[5:]), 5},
		"swapped":                 {slices.Concat(lines[:3], [][]byte{lines[4], lines[3]}, lines[5:]), 5},
		"twice":                   {slices.Concat(lines[:4], lines[3:]), 5},
		"an empty line":           {slices.Concat(lines[:4], [][]byte{[]byte("\n")}, lines[4:]), 5},
		"more than 1 MiB":         {slices.Concat(lines[:4], [][]byte{long}, lines[5:]), 5},
		"a node before any space": {slices.Concat(lines[:1], lines[2:]), 2},
		"a node of no space":      {slices.Concat(lines, [][]byte{orphan}), int64(len(lines) + 1)},
		"a space twice":           {slices.Concat(lines[:2], lines[1:]), 3},
		"the header twice":        {slices.Concat(lines[:1], lines), 2},
	} {
		t.Run(name, func(t *testing.T) {
			content := bytes.Join(tc.lines, nil)
			err := check(tamper(t, content), summaryOf(content, sum))
			var damage *DamageError
			if !errors.As(err, &damage) || damage.Line != tc.line {
				t.Fatalf("%v, want line %d", err, tc.line)
			}
			f, err := Open(tamper(t, content))
			if err != nil {
				return
			}
			defer f.Close()
			err = nil
			for _, e := range f.All() {
				err = e
			}
			if !errors.As(err, &damage) || damage.Line != tc.line || !strings.Contains(err.Error(), fmt.Sprint("line ", tc.line)) {
				t.Errorf("All: %v, want line %d", err, tc.line)
			}
		})
	}
}

// A file that is in order but has other nodes than it or its manifest says is no good.
func TestCheckCounts(t *testing.T) {
	lines, sum := stored(t)
	for name, changed := range map[string][][]byte{
		"a node less":       slices.Concat(lines[:4], lines[5:]),
		"the last one less": lines[:len(lines)-1],
		"a space less":      lines[:8],
		"another size":      slices.Concat(lines[:4], [][]byte{bytes.Replace(lines[4], []byte(`"size":10`), []byte(`"size":11`), 1)}, lines[5:]),
		"nothing":           lines[:1],
	} {
		content := bytes.Join(changed, nil)
		if err := check(tamper(t, content), summaryOf(content, sum)); err == nil {
			t.Errorf("%s: fine", name)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	for name, tc := range map[string]struct{ content, want string }{
		"nothing":        {"", "torn"},
		"another format": {`{"catalog":2,"driver":"posix"}` + "\n", "format 2"},
		"no format":      {`{"driver":"posix"}` + "\n", "header"},
		"another driver": {`{"catalog":1,"driver":"tape"}` + "\n", "tape"},
		"something else": {"kind,space,path\n", "header"},
		"no line":        {`{"catalog":1,"driver":"posix"}`, "torn"},
		"a long line":    {strings.Repeat("x", 3*maxLine), "1 MiB"},
	} {
		if f, err := Open(tamper(t, []byte(tc.content))); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, %v", name, f, err)
		}
	}
	if _, err := Open(t.TempDir()); err == nil {
		t.Error("a directory was opened")
	}
	if _, err := Open(filepath.Join(t.TempDir(), "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("none: %v", err)
	}
}

// A file that is cut while it is read ends in an error.
func TestCutWhileOpen(t *testing.T) {
	live, _ := randomTree(rand.New(rand.NewPCG(13, 14)), spaceA, 2000)
	path, sum := write(t, opencloud.Posix, []Space{{ID: spaceA}}, live)
	f := open(t, path)
	if err := os.Truncate(path, int64(sum.Size/3)); err != nil {
		t.Fatal(err)
	}
	if f.Check(sum) == nil {
		t.Error("checked")
	}
	if _, err := f.Lookup(spaceA, "/~~~~"); err == nil || errors.Is(err, os.ErrNotExist) {
		t.Errorf("looked up: %v", err)
	}
}

// FuzzOpen: whatever is in the file, nothing panics, and all ends.
func FuzzOpen(f *testing.F) {
	lines, sum := stored(f)
	f.Add(bytes.Join(lines, nil))
	f.Add(bytes.Join(slices.Concat(lines[:3], lines[5:], lines[3:5]), nil))
	f.Add(bytes.Join(lines, nil)[:700])
	path := filepath.Join(f.TempDir(), "catalog.jsonl")
	f.Fuzz(func(t *testing.T, content []byte) {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := Open(path)
		if err != nil {
			return
		}
		defer c.Close()
		nodes := bytes.Count(content, []byte("\n"))
		budget := func(what string) func() {
			steps := 0
			return func() {
				if steps++; steps > nodes {
					t.Fatalf("%s gave more nodes than there are lines", what)
				}
			}
		}
		sound := c.Check(sum) == nil
		sane := budget("All")
		var seen []Node
		for n, err := range c.All() {
			if sane(); err != nil {
				break
			}
			seen = append(seen, *n)
		}
		if sound && len(seen) == 0 {
			t.Fatal("a sound catalog without nodes")
		}
		_, _ = c.Spaces()
		_, _ = c.Resolve("A")
		for _, path := range []string{"/", "/file 3", "/folder", "/gone"} {
			for _, space := range []string{spaceA, spaceB, "x"} {
				_, _ = c.Lookup(space, path)
				_, _ = c.Versions(space, path)
				for what, seq := range map[string]func(func(*Node, error) bool){"Children": c.Children(space, path), "Walk": c.Walk(space, path), "Trash": c.Trash(space, path)} {
					sane := budget(what)
					for range seq {
						sane()
					}
				}
			}
		}
		sane = budget("Find")
		for range c.Find(func(path string) bool { return len(path)%2 == 0 }) {
			sane()
		}
		for range Diff(c, c) {
			t.Fatal("something differs from itself")
		}
	})
}
