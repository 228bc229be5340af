package nodes

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/pkg/xattr"

	"github.com/ocbackup/ocbackup/catalog"
	"github.com/ocbackup/ocbackup/opencloud"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// archived is an entry of a recorded instance's archive: of its users root, of its bucket,
// or expected.tsv.
type archived struct {
	*tar.Header
	path    string
	content []byte
}

// archive reads a recorded instance, once a process.
func archive(t testing.TB, name string) []archived {
	t.Helper()
	archives.Lock()
	defer archives.Unlock()
	if list := archives.byName[name]; list != nil {
		return list
	}
	f, err := os.Open(filepath.Join("../../integration/testdata", name+".tar.gz"))
	if errors.Is(err, fs.ErrNotExist) {
		t.Skipf("the recorded instance %s is not there", name)
	}
	must(t, err)
	defer f.Close()
	z, err := gzip.NewReader(f)
	must(t, err)
	var list []archived
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			archives.byName[name] = list
			return list
		}
		must(t, err)
		_, path, _ := strings.Cut(h.Name, "/")
		if rel, ok := strings.CutPrefix(path, "data/storage/users"); ok {
			path = "users" + rel
		} else if path != "expected.tsv" && !strings.HasPrefix(path, "bucket") {
			continue
		}
		b, err := io.ReadAll(r)
		must(t, err)
		list = append(list, archived{h, path, b})
	}
}

var archives = struct {
	sync.Mutex
	byName map[string][]archived
}{byName: map[string][]archived{}}

// recorded unpacks the users root of a recorded instance, and expected.tsv beside it, with
// attributes, links and times. It returns the users root.
func recorded(t testing.TB, name string) string {
	t.Helper()
	dir := t.TempDir()
	if strings.HasSuffix(name, "-posix") && opencloud.XattrSupport(dir) != nil {
		t.Skipf("%s takes no user extended attributes; set TMPDIR to a directory that does", dir)
	}
	list := archive(t, name)
	for _, e := range list {
		path := filepath.Join(dir, e.path)
		must(t, os.MkdirAll(filepath.Dir(path), 0o700))
		switch e.Typeflag {
		case tar.TypeDir:
			must(t, os.MkdirAll(path, 0o700))
		case tar.TypeReg:
			must(t, os.WriteFile(path, e.content, 0o600))
			must(t, os.Chtimes(path, e.ModTime, e.ModTime))
		case tar.TypeSymlink:
			must(t, os.Symlink(e.Linkname, path))
			continue
		}
		for k, v := range e.PAXRecords {
			if attr, ok := strings.CutPrefix(k, "SCHILY.xattr."); ok {
				must(t, xattr.LSet(path, attr, []byte(v)))
			}
		}
	}
	for _, e := range slices.Backward(list) {
		if e.Typeflag == tar.TypeDir {
			must(t, os.Chtimes(filepath.Join(dir, e.path), e.ModTime, e.ModTime))
		}
	}
	return filepath.Join(dir, "users")
}

// result is a catalog that was read.
type result struct {
	spaces []catalog.Space
	nodes  []catalog.Node
}

// readTree reads a tree into a catalog, and that.
func readTree(t testing.TB, o Options) *result {
	t.Helper()
	res, err := tryTree(t, o)
	must(t, err)
	return res
}

func tryTree(t testing.TB, o Options) (*result, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "catalog.jsonl")
	w, err := catalog.Create(file, o.Driver)
	must(t, err)
	defer w.Abort()
	if err := Read(context.Background(), o, w); err != nil {
		return nil, err
	}
	sum, err := w.Close()
	must(t, err)
	f, err := catalog.Open(file)
	must(t, err)
	defer f.Close()
	must(t, f.Check(sum))
	res := &result{}
	res.spaces, err = f.Spaces()
	must(t, err)
	for n, err := range f.All() {
		must(t, err)
		res.nodes = append(res.nodes, *n)
	}
	return res, nil
}

// problems lists all that is wrong, a line each: space or path, class, "fatal".
func (r *result) problems() []string {
	var list []string
	add := func(where string, p *catalog.Problem) {
		if p != nil {
			fatal := ""
			if p.Fatal {
				fatal = " fatal"
			}
			list = append(list, fmt.Sprintf("%s %s%s", where, p.Class, fatal))
		}
	}
	for _, s := range r.spaces {
		add(s.Name, s.Problem)
	}
	for _, n := range r.nodes {
		where := n.Path
		if n.Trash != "" {
			where = "trash:" + where
		}
		if n.Version != "" {
			where += "@" + n.Version
		}
		add(where, n.Problem)
	}
	return list
}

// texts are the words of all problems.
func (r *result) texts() string {
	var b strings.Builder
	for _, s := range r.spaces {
		if s.Problem != nil {
			fmt.Fprintln(&b, s.Name, s.Problem.Text)
		}
	}
	for _, n := range r.nodes {
		if n.Problem != nil {
			fmt.Fprintln(&b, n.Path, n.Problem.Text)
		}
	}
	return b.String()
}
