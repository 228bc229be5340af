package catalog

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ocbackup/ocbackup/opencloud"
)

// million writes a catalog of 1,000,000 nodes as a busy server has them: 50 spaces of
// 200 folders of 100 nodes, every tenth a version.
func million(b *testing.B, path, sha1 string) Summary {
	b.Helper()
	w, err := Create(path, opencloud.Posix)
	if err != nil {
		b.Fatal(err)
	}
	for space := range 50 {
		id := fmt.Sprintf("%08x-1111-4222-8333-444444444444", space)
		s, err := w.Section(Space{ID: id, Name: fmt.Sprintf("Space %d", space), Type: "project", Dir: "projects/" + id})
		if err != nil {
			b.Fatal(err)
		}
		add := func(n Node) {
			if err := s.Add(&n); err != nil {
				b.Fatal(err)
			}
		}
		for folder := range 200 {
			dir := fmt.Sprintf("/Department %03d", folder)
			add(Node{Kind: KindFolder, Space: id, Path: dir, ID: fmt.Sprintf("%08x-%04x-4000-8000-000000000000", space, folder), MTime: at(folder)})
			for file := range 90 {
				n := Node{
					Kind: KindFile, Space: id, Path: fmt.Sprintf("%s/Quarterly report of the %03d-th kind.odt", dir, file), Size: int64(file) << 10, MTime: at(file),
					ID:   fmt.Sprintf("%08x-%04x-4000-8000-%012x", space, folder, file+1),
					Blob: fmt.Sprintf("%08x-%04x-4000-9000-%012x", space, folder, file), SHA1: sha1, MD5: strings.Repeat("3c", 16), Adler32: "0badcafe",
				}
				n.At = "projects/" + id + n.Path
				add(n)
				if file%10 == 0 {
					n.Kind, n.Version = KindVersion, "2026-11-01T02:03:04.123456789Z"
					n.At = "projects/" + id + "/.oc-nodes/" + n.Blob
					add(n)
				}
			}
		}
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
	}
	sum, err := w.Close()
	if err != nil {
		b.Fatal(err)
	}
	return sum
}

// BenchmarkMillion tells what a catalog of a million nodes costs.
func BenchmarkMillion(b *testing.B) {
	path := filepath.Join(b.TempDir(), "catalog.jsonl")
	hash := strings.Repeat("a1b2", 10)
	sum := million(b, path, hash)
	f, err := Open(path)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	const space = "00000021-1111-4222-8333-444444444444"
	b.Run("write", func(b *testing.B) {
		b.SetBytes(int64(sum.Size))
		for b.Loop() {
			million(b, filepath.Join(b.TempDir(), "again"), hash)
		}
	})
	b.Run("scan", func(b *testing.B) {
		b.SetBytes(int64(sum.Size))
		for b.Loop() {
			nodes := uint64(0)
			for _, err := range f.All() {
				if nodes++; err != nil {
					b.Fatal(err)
				}
			}
			if nodes+sum.Spaces != sum.Nodes() {
				b.Fatalf("%d nodes", nodes)
			}
		}
	})
	b.Run("check", func(b *testing.B) {
		b.SetBytes(int64(sum.Size))
		for b.Loop() {
			if err := f.Check(sum); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("find", func(b *testing.B) {
		b.SetBytes(int64(sum.Size))
		for b.Loop() {
			found := 0
			for range f.Find(func(path string) bool { return strings.HasSuffix(path, "042-th kind.odt") }) {
				found++
			}
			if found != 50*200 {
				b.Fatal(found)
			}
		}
	})
	b.Run("diff", func(b *testing.B) {
		for b.Loop() {
			for range Diff(f, f) {
				b.Fatal("differs")
			}
		}
	})
	b.Run("spaces", func(b *testing.B) {
		for b.Loop() {
			if s, err := f.Spaces(); err != nil || len(s) != 50 {
				b.Fatal(err)
			}
		}
	})
	b.Run("lookup", func(b *testing.B) {
		for b.Loop() {
			if _, err := f.Lookup(space, "/Department 123/Quarterly report of the 045-th kind.odt"); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("children", func(b *testing.B) {
		for b.Loop() {
			n := 0
			for range f.Children(space, "/") {
				n++
			}
			if n != 200 {
				b.Fatal(n)
			}
		}
	})
}

// BenchmarkDiffOfAll tells what it costs when every file changed.
func BenchmarkDiffOfAll(b *testing.B) {
	files := make([]*File, 2)
	for i, hash := range []string{"aa", "bb"} {
		path := filepath.Join(b.TempDir(), "catalog.jsonl")
		million(b, path, hash)
		f, err := Open(path)
		if err != nil {
			b.Fatal(err)
		}
		defer f.Close()
		files[i] = f
	}
	b.ReportAllocs()
	for b.Loop() {
		n := 0
		for range Diff(files[0], files[1]) {
			n++
		}
		if n != 50*200*90 {
			b.Fatal(n)
		}
	}
}
