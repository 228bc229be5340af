package nodes

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/ocbackup/ocbackup/catalog"
	"github.com/ocbackup/ocbackup/opencloud"
)

var posixTrees = []string{"opencloud-posix", "opencloud-4.0-posix"}

// TestPosixRecorded compares with what was put into real servers over HTTP: all of it is
// found, by its path, with its content where the catalog says.
func TestPosixRecorded(t *testing.T) {
	for _, name := range posixTrees {
		t.Run(name, func(t *testing.T) {
			root := recorded(t, name)
			res := readTree(t, Options{Tree: Disk(root), Driver: opencloud.Posix})
			if p := res.problems(); p != nil {
				t.Errorf("problems in a sound tree: %q\n%s", p, res.texts())
			}
			w := want{t: t, res: res, sum: func(n *catalog.Node) string { return sumFile(t, filepath.Join(root, n.At)) }}
			w.compare(filepath.Join(root, "../expected.tsv"))
			for _, n := range res.nodes {
				if n.Kind == catalog.KindFolder {
					continue
				}
				if !HoldsBlob(opencloud.Posix, n.At) {
					t.Errorf("%s: HoldsBlob is false", n.At)
				}
				if sum, err := os.ReadFile(filepath.Join(root, n.At)); err != nil || int64(len(sum)) != n.Size {
					t.Errorf("%s: %d bytes, %v; want %d", n.At, len(sum), err, n.Size)
				}
				if n.Size > 0 && (len(n.SHA1) != 40 || len(n.MD5) != 32 || len(n.Adler32) != 8) {
					t.Errorf("%s: checksums %q %q %q", n.At, n.SHA1, n.MD5, n.Adler32)
				}
			}
		})
	}
}

func sumFile(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Error(err)
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// want compares a catalog with expected.tsv.
type want struct {
	t   *testing.T
	res *result
	sum func(*catalog.Node) string // of a node's content
}

func (w want) compare(file string) {
	f, err := os.Open(file)
	must(w.t, err)
	defer f.Close()
	files, spaces := 0, map[string]bool{}
	for s := bufio.NewScanner(f); s.Scan(); {
		col := strings.Split(s.Text(), "\t")
		switch col[0] {
		case "FILE":
			files++
			id, path, _ := strings.Cut(strings.TrimPrefix(col[2], "spaces/"), "/")
			path, err := url.PathUnescape(path)
			must(w.t, err)
			_, id, _ = strings.Cut(id, "$")
			spaces[id] = true
			w.file(id, "/"+path, "", col[3])
		case "VERS":
			_, id, _ := strings.Cut(col[2], "!")
			w.versions(id, col[3], col[4])
		case "TRASH":
			_, id, _ := strings.Cut(col[2], "$")
			if len(col) > 4 && col[4] != "" {
				w.file(id, "", col[3], col[4])
			}
		case "TRASHDIR":
			_, id, _ := strings.Cut(col[2], "$")
			for _, name := range col[4:] {
				w.file(id, "", col[3]+"/"+name, "")
			}
		case "SPACE", "DISABLED":
			_, id, _ := strings.Cut(col[3], "$")
			spaces[id] = true
			i := slices.IndexFunc(w.res.spaces, func(s catalog.Space) bool { return s.ID == id })
			if i < 0 {
				w.t.Errorf("no space %s", id)
			} else if s := w.res.spaces[i]; s.Name != col[2] || s.Type != "project" || s.Disabled.IsZero() != (col[0] == "SPACE") {
				w.t.Errorf("got %+v, want project %s, %s", s, col[2], col[0])
			}
		}
	}
	if files == 0 {
		w.t.Fatal("expected.tsv names no files")
	}
	for _, s := range w.res.spaces {
		if !spaces[s.ID] && (s.Type != "personal" || s.Counts.Files > 0) {
			w.t.Errorf("a space that nobody made: %+v", s)
		}
	}
}

// file looks for a live file by its path, or for one in the trash by the end of it.
func (w want) file(space, path, trashed, sum string) {
	for i := range w.res.nodes {
		n := &w.res.nodes[i]
		live := trashed == "" && n.Trash == "" && n.Path == path
		deleted := trashed != "" && n.Trash != "" && strings.HasSuffix(n.Path, "/"+trashed) && !n.Deleted.IsZero()
		if n.Kind == catalog.KindFile && n.Space == space && (live || deleted) {
			if got := w.sum(n); sum != "" && got != sum {
				w.t.Errorf("%s: sha256 %s, want %s", n.Path, got, sum)
			}
			return
		}
	}
	w.t.Errorf("no file %s%s in space %s", path, trashed, space)
}

// versions compares the versions of a file: how many there are, and that one of them has
// the digest that was noted.
func (w want) versions(id, count, sum string) {
	var sums []string
	for i := range w.res.nodes {
		if n := &w.res.nodes[i]; n.Kind == catalog.KindVersion && n.ID == id {
			sums = append(sums, w.sum(n))
		}
	}
	slices.Sort(sums)
	if len(slices.Compact(sums)) != len(sums) || count != strconv.Itoa(len(sums)) || !slices.Contains(sums, sum) {
		w.t.Errorf("file %s has the versions %q, want %s with %s", id, sums, count, sum)
	}
}

// failing is a Tree in which some paths can't be read.
type failing struct {
	Tree
	list, attrs map[string]bool
}

func (f failing) List(ctx context.Context, dir string) ([]Entry, error) {
	if f.list[dir] {
		return nil, &fs.PathError{Op: "open", Path: dir, Err: fs.ErrPermission}
	}
	return f.Tree.List(ctx, dir)
}

func (f failing) Attrs(ctx context.Context, path string, want func(string) bool) (map[string][]byte, error) {
	if f.attrs[path] {
		return nil, &fs.PathError{Op: "llistxattr", Path: path, Err: fs.ErrPermission}
	}
	return f.Tree.Attrs(ctx, path, want)
}
