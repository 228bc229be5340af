package spaces

import (
	"archive/tar"
	"bufio"
	"compress/gzip"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pkg/xattr"

	"github.com/ocbackup/ocbackup/opencloud"
)

// unpack extracts configuration and storage root of a recorded instance, with
// extended attributes and links, and returns its layout.
func unpack(t *testing.T, name string, driver opencloud.Driver) (dir string, l opencloud.Layout) {
	t.Helper()
	t.Setenv(mountIDEnv, "")
	f, err := os.Open(filepath.Join("../../integration/testdata", name+".tar.gz"))
	if errors.Is(err, fs.ErrNotExist) {
		t.Skipf("the recorded instance %s is not there", name)
	}
	must(t, err)
	defer f.Close()
	z, err := gzip.NewReader(f)
	must(t, err)
	dir = t.TempDir()
	if driver == opencloud.Posix && opencloud.XattrSupport(dir) != nil {
		t.Skipf("%s takes no user extended attributes; set TMPDIR to a directory that does", dir)
	}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		must(t, err)
		_, rel, _ := strings.Cut(h.Name, "/")
		if rel != "expected.tsv" && !strings.HasPrefix("data/storage/users/", rel) &&
			!strings.HasPrefix(rel, "data/storage/users/") && !strings.HasPrefix(rel, "config/") {
			continue
		}
		path := filepath.Join(dir, rel)
		switch h.Typeflag {
		case tar.TypeDir:
			must(t, os.MkdirAll(path, 0o700))
		case tar.TypeReg:
			b, err := io.ReadAll(r)
			must(t, err)
			must(t, os.WriteFile(path, b, 0o600))
		case tar.TypeSymlink:
			must(t, os.Symlink(h.Linkname, path))
		}
		for k, v := range h.PAXRecords {
			if attr, ok := strings.CutPrefix(k, "SCHILY.xattr."); ok {
				must(t, xattr.LSet(path, attr, []byte(v)))
			}
		}
	}
	data := filepath.Join(dir, "data")
	return dir, opencloud.Layout{
		Driver: driver, ConfigDir: filepath.Join(dir, "config"), DataDir: data,
		UsersRoot: filepath.Join(data, "storage/users"), SearchDir: filepath.Join(data, "search"),
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestListRecorded compares with what was put into real servers over HTTP.
func TestListRecorded(t *testing.T) {
	for name, tc := range map[string]struct {
		driver   opencloud.Driver
		personal []string
	}{
		"opencloud-posix":          {opencloud.Posix, []string{"Admin", "Alan Turing", "Carol fx"}},
		"opencloud-4.0-posix":      {opencloud.Posix, []string{"Admin", "Alan Turing", "Carol fx", "Many 14 fx"}},
		"opencloud-decomposed":     {opencloud.Decomposed, []string{"Admin", "Alan Turing", "Carol fx"}},
		"opencloud-4.0-decomposed": {opencloud.Decomposed, []string{"Admin", "Alan Turing", "Carol fx", "Many 14 fx"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir, l := unpack(t, name, tc.driver)
			list, err := List(l)
			must(t, err)
			got := map[string]Space{}
			var personal []string
			for _, s := range list {
				if s.Err != nil {
					t.Errorf("%s: %v", s.Root, s.Err)
				}
				if _, err := os.Stat(s.Root); err != nil {
					t.Error(err)
				}
				if s.Type == "personal" {
					personal = append(personal, s.Name)
				}
				got[s.ID] = s
			}
			if !slices.Equal(personal, tc.personal) {
				t.Errorf("personal spaces %q, want %q", personal, tc.personal)
			}
			want := recorded(t, dir)
			projects := 0
			for id, w := range want {
				g, ok := got[id]
				if !ok {
					t.Errorf("space %s (%s) is not listed", id, w.Name)
				}
				if w.Type == "project" {
					projects++
					if g.Name != w.Name || g.Type != w.Type || g.Disabled != w.Disabled {
						t.Errorf("space %s: got %+v, want %+v", id, g, w)
					}
				}
			}
			if len(list) != projects+len(personal) {
				t.Errorf("%d spaces, want %d projects and %d personal ones", len(list), projects, len(personal))
			}
		})
	}
}

// recorded reads expected.tsv: project spaces by their lines, others by the
// files in them.
func recorded(t *testing.T, dir string) map[string]Space {
	t.Helper()
	f, err := os.Open(filepath.Join(dir, "expected.tsv"))
	must(t, err)
	defer f.Close()
	want := map[string]Space{}
	for s := bufio.NewScanner(f); s.Scan(); {
		col := strings.Split(s.Text(), "\t")
		switch col[0] {
		case "SPACE", "DISABLED":
			want[col[3]] = Space{Name: col[2], Type: "project", Disabled: col[0] == "DISABLED"}
		case "FILE":
			id := strings.Split(col[2], "/")[1]
			if _, ok := want[id]; !ok {
				want[id] = Space{}
			}
		}
	}
	if len(want) < 2 {
		t.Fatal("expected.tsv names no spaces")
	}
	return want
}

func errorsOf(list []Space) (roots []string) {
	for _, s := range list {
		if s.Err != nil {
			roots = append(roots, s.Root)
		}
	}
	return roots
}

func TestPosixLostAttributes(t *testing.T) {
	_, l := unpack(t, "opencloud-4.0-posix", opencloud.Posix)
	list, err := List(l)
	must(t, err)
	root := list[0].Root
	must(t, xattr.LRemove(root, attrSpaceID))
	damaged, err := List(l)
	must(t, err)
	if got := errorsOf(damaged); !slices.Equal(got, []string{root}) || len(damaged) != len(list) {
		t.Errorf("errors for %q among %d spaces, want one for %q among %d", got, len(damaged), root, len(list))
	}
	// All attributes lost, as by a copy without them.
	must(t, xattr.LRemove(root, attrID))
	damaged, err = List(l)
	must(t, err)
	if got := errorsOf(damaged); !slices.Equal(got, []string{root}) {
		t.Errorf("errors for %q, want one for %q", got, root)
	}
}

// TestPosixNoAttributesAtAll: the tree of an early server, which keeps next to
// nothing of its own inside spaces, copied without attributes.
func TestPosixNoAttributesAtAll(t *testing.T) {
	_, l := unpack(t, "opencloud-posix", opencloud.Posix)
	must(t, filepath.WalkDir(l.UsersRoot, func(path string, _ fs.DirEntry, err error) error {
		must(t, err)
		names, err := xattr.LList(path)
		must(t, err)
		for _, name := range names {
			must(t, xattr.LRemove(path, name))
		}
		return nil
	}))
	list, err := List(l)
	must(t, err)
	var want []string
	for _, s := range []string{"projects/*", "users/admin", "users/carol-fx"} { // users/alan is an empty directory
		m, err := filepath.Glob(filepath.Join(l.UsersRoot, s))
		must(t, err)
		want = append(want, m...)
	}
	if got := errorsOf(list); !slices.Equal(got, want) || len(list) != len(want) {
		t.Errorf("errors for %q, want %q", got, want)
	}
}

func TestPosixOtherTemplates(t *testing.T) {
	_, l := unpack(t, "opencloud-4.0-posix", opencloud.Posix)
	list, err := List(l)
	must(t, err)
	deep := filepath.Join(l.UsersRoot, "org/a/al")
	must(t, os.MkdirAll(deep, 0o700))
	must(t, os.MkdirAll(filepath.Join(l.UsersRoot, "org/empty"), 0o700))
	must(t, os.Rename(list[0].Root, filepath.Join(deep, "alan")))
	moved, err := List(l)
	must(t, err)
	if len(moved) != len(list) || moved[0].ID != list[0].ID || moved[0].Root != filepath.Join(deep, "alan") {
		t.Errorf("got %+v", moved)
	}
	if got := errorsOf(moved); got != nil {
		t.Errorf("errors for %q", got)
	}
}

func TestDecomposedDamage(t *testing.T) {
	for name, damage := range map[string]func(file string) error{
		"missing": os.Remove,
		"garbage": func(file string) error { return os.WriteFile(file, []byte("\x81garbage"), 0o600) },
		"empty":   func(file string) error { return os.WriteFile(file, nil, 0o600) },
		"a map without a type": func(file string) error {
			return os.WriteFile(file, []byte("\x80"), 0o600)
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, l := unpack(t, "opencloud-4.0-decomposed", opencloud.Decomposed)
			list, err := List(l)
			must(t, err)
			must(t, damage(list[1].Root+".mpk"))
			damaged, err := List(l)
			must(t, err)
			if got := errorsOf(damaged); !slices.Equal(got, []string{list[1].Root}) || len(damaged) != len(list) {
				t.Errorf("errors for %q, want one for %q", got, list[1].Root)
			}
		})
	}
}

func TestDecomposedXattrBackend(t *testing.T) {
	_, l := unpack(t, "opencloud-4.0-decomposed", opencloud.Decomposed)
	if opencloud.XattrSupport(l.UsersRoot) != nil {
		t.Skip("no user extended attributes here")
	}
	list, err := List(l)
	must(t, err)
	for _, s := range list {
		attrs, err := readNode(s.Root)
		must(t, err)
		for k, v := range attrs {
			must(t, xattr.LSet(s.Root, k, v))
		}
		must(t, os.Remove(s.Root+".mpk"))
	}
	again, err := List(l)
	must(t, err)
	if !slices.Equal(again, list) {
		t.Errorf("got  %+v\nwant %+v", again, list)
	}
}

func TestStorageRootMissing(t *testing.T) {
	for _, driver := range []opencloud.Driver{opencloud.Posix, opencloud.Decomposed, opencloud.DecomposedS3} {
		t.Setenv(mountIDEnv, "s")
		l := opencloud.Layout{Driver: driver, UsersRoot: filepath.Join(t.TempDir(), "none")}
		if list, err := List(l); err == nil {
			t.Errorf("%s: got %v", driver, list)
		}
	}
}

func TestStorageID(t *testing.T) {
	for name, tc := range map[string]struct {
		env, own, all string
		want          string // empty: an error
	}{
		"environment":  {env: "e", own: "mount_id: o", all: "storage_users: {mount_id: a}", want: "e"},
		"service file": {own: "mount_id: o", all: "storage_users: {mount_id: a}", want: "o"},
		"storage":      {all: "storage_users: {mount_id: a}\ngateway: {storage_registry: {storage_users_mount_id: g}}", want: "a"},
		"gateway":      {all: "gateway: {storage_registry: {storage_users_mount_id: g}}", want: "g"},
		"nowhere":      {all: "token_manager: {jwt_secret: hush}"},
		"no file":      {},
		"no YAML":      {all: "a: [hush"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv(mountIDEnv, tc.env)
			dir := t.TempDir()
			for file, text := range map[string]string{"storage-users.yaml": tc.own, "opencloud.yaml": tc.all} {
				if text != "" {
					must(t, os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600))
				}
			}
			id, err := StorageID(opencloud.Layout{ConfigDir: dir})
			if id != tc.want || (err == nil) != (tc.want != "") {
				t.Errorf("got %q, %v", id, err)
			}
			if err != nil && strings.Contains(err.Error(), "hush") {
				t.Errorf("the error tells a secret: %v", err)
			}
		})
	}
}

func TestPathify(t *testing.T) {
	for id, want := range map[string]string{
		"9b424d94-1333-409e-9526-9c907356f652": "9b/42/4d/94/-1333-409e-9526-9c907356f652",
		"aabb":                                 "aa/bb",
		"aabbc":                                "aa/bb/c",
		"a":                                    "a",
	} {
		if got := pathify(id); got != want {
			t.Errorf("pathify(%q) = %q, want %q", id, got, want)
		}
	}
}
