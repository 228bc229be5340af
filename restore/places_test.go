package restore

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/ocbackup/ocbackup/config"
	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/opencloud"
	"github.com/ocbackup/ocbackup/opencloud/control"
	"github.com/ocbackup/ocbackup/opencloud/readiness"
)

// bind mounts a directory of the site onto itself, for as long as the test runs.
func (s *site) bind(rel string) {
	p := filepath.Join(s.base, rel)
	if err := syscall.Mount(p, p, "", syscall.MS_BIND, ""); err != nil {
		s.t.Skipf("nothing can be mounted here: %v", err)
	}
	s.t.Cleanup(func() {
		if err := syscall.Unmount(p, syscall.MNT_DETACH); err != nil {
			s.t.Errorf("unmount %s: %v", p, err)
		}
	})
}

// A data directory that is a mount point stays; what is in it is exchanged, the old
// data is kept inside, and comes back.
func TestDataDirectoryIsMountPoint(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.bind("data")
	if err := os.Chmod(filepath.Join(s.base, "data"), 0o700); err != nil {
		t.Fatal(err)
	}
	before := snap(t, filepath.Join(s.base, "data"))
	o := s.options()
	withoutBinary(&o)
	res, err := Run(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	inside := filepath.Join(s.base, "data", asidePrefix)
	if !strings.Contains(res.Delete, inside) {
		t.Errorf("the old data is not in the mount: %s", res.Delete)
	}
	names, _ := filepath.Glob(inside + "*")
	skip := []string{"thumbnails"}
	for _, n := range names {
		skip = append(skip, filepath.Base(n))
	}
	// Of the mount point itself, all but the time: the staging was in it.
	same(t, "data", snap(t, filepath.Join(world.orig, "data"), skip...)[1:], snap(t, filepath.Join(s.base, "data"), skip...)[1:])
	if st, err := os.Stat(filepath.Join(s.base, "data")); err != nil || st.Mode().Perm() != 0o755 {
		t.Errorf("mode of the mount point: %v %v", st.Mode(), err)
	}
	if _, err := Undo(context.Background(), UndoOptions{Config: s.cfg, Yes: true, Report: o.Report}); err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(filepath.Join(s.base, "data")); err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("mode of the mount point after undo: %v %v", st.Mode(), err)
	}
	names, _ = filepath.Glob(filepath.Join(s.base, "data", asidePrefix) + "*")
	skip = nil
	for _, n := range names {
		skip = append(skip, filepath.Base(n))
	}
	same(t, "data after undo", before[1:], snap(t, filepath.Join(s.base, "data"), skip...)[1:])
}

func TestMountPointsThatAreRefused(t *testing.T) {
	t.Parallel()
	for rel, says := range map[string]string{
		"data/storage/users":    "OpenCloud would take it for its own",
		"data/storage/metadata": "is a mount point inside root system",
	} {
		t.Run(rel, func(t *testing.T) {
			s := newSite(t)
			s.bind(rel)
			_, err := Run(context.Background(), s.options())
			if fail.CodeOf(err) != fail.Usage || !strings.Contains(err.Error(), says) {
				t.Fatalf("code %d: %v", fail.CodeOf(err), err)
			}
			if _, _, hint := fail.Details(err); !strings.Contains(hint, "--in-place") {
				t.Errorf("hint: %s", hint)
			}
			s.check(true)
		})
	}
}

// Metadata and blobs of the decomposed driver share their directories.
func TestDecomposed(t *testing.T) {
	t.Parallel()
	r := theWorld(t)
	base := filepath.Join(world.base, "decomposed")
	s := &site{t: t, base: base, repo: r, cfg: &config.Config{
		Name: "test", StateDir: filepath.Join(base, "state"),
		Layout: opencloud.Layout{
			Driver: opencloud.Decomposed, ConfigDir: filepath.Join(base, "etc"), DataDir: filepath.Join(base, "data"),
			UsersRoot: filepath.Join(base, "data/users"), SearchDir: filepath.Join(base, "data/search"),
		},
		Control:    control.Config{Type: "none"},
		Ready:      readiness.Config{Off: true},
		Repository: config.Repository{Location: "/nowhere"},
	}}
	// The data directory is a symbolic link, as on hosts with a disk for it.
	if err := os.MkdirAll(filepath.Join(base, "disk/data"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(base, "disk/data"), filepath.Join(base, "data")); err != nil {
		t.Fatal(err)
	}
	for f, text := range map[string]string{
		"etc/opencloud.yaml":                        "a: b",
		"data/idm/x":                                "idm",
		"data/users/indexes/i":                      "set",
		"data/users/spaces/aa/one/nodes/n":          "set",
		"data/users/spaces/aa/one/blobs/b1":         "b1",
		"data/users/spaces/aa/without-blobs/nodes/": "",
	} {
		if strings.HasSuffix(f, "/") {
			if err := os.MkdirAll(filepath.Join(base, f), 0o750); err != nil {
				t.Fatal(err)
			}
			continue
		}
		s.write(f, text)
	}
	users := filepath.Join(base, "data/users")
	of := snap(t, users)
	set, err := storeSet(context.Background(), r, s.cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	change := func() {
		s.write("data/users/spaces/aa/one/nodes/n", "live")
		s.write("data/users/spaces/aa/one/blobs/b2", "b2")
		s.write("data/users/spaces/cc/new/nodes/n", "live")
		s.write("data/users/spaces/cc/new/blobs/b3", "b3")
	}
	o := s.options()
	o.Set, o.Maps = set, nil

	t.Run("in place", func(t *testing.T) {
		s.t = t
		change()
		o := o
		o.InPlace = true
		// The set has no search index, and here its directory is a mount point.
		s.write("data/search/bleve/x", "live")
		s.bind("disk/data/search")
		if _, err := Run(context.Background(), o); err != nil {
			t.Fatal(err)
		}
		if !s.has("data/search") || s.has("data/search/bleve") {
			t.Error("the mount point was not emptied")
		}
		same(t, "users", of, snap(t, users))
	})
	t.Run("staged", func(t *testing.T) {
		s.t = t
		change()
		if _, err := Run(context.Background(), o); err != nil {
			t.Fatal(err)
		}
		same(t, "users", of, snap(t, users))
	})
	t.Run("metadata alone", func(t *testing.T) {
		s.t = t
		change()
		o := o
		o.Components = []opencloud.Component{opencloud.Metadata}
		if _, err := Run(context.Background(), o); err != nil {
			t.Fatal(err)
		}
		s.want("data/users/spaces/aa/one/nodes/n", "set")
		s.want("data/users/spaces/aa/one/blobs/b2", "b2")
		s.want("data/users/spaces/cc/new/blobs/b3", "b3")
		if s.has("data/users/spaces/cc/new/nodes") {
			t.Error("a space that the set does not have kept its metadata")
		}
	})
	t.Run("blobs alone", func(t *testing.T) {
		s.t = t
		o := o
		o.Components = []opencloud.Component{opencloud.Blobs}
		s.write("data/users/spaces/aa/one/nodes/n", "live")
		if _, err := Run(context.Background(), o); err != nil {
			t.Fatal(err)
		}
		s.want("data/users/spaces/aa/one/nodes/n", "live")
		if s.has("data/users/spaces/aa/one/blobs/b2") || !s.has("data/users/spaces/aa/one/blobs/b1") {
			t.Error("the blobs are not those of the set")
		}
		o.InPlace = true
		if _, err := Run(context.Background(), o); fail.CodeOf(err) != fail.Usage {
			t.Errorf("in place: %v", err)
		}
	})
	t.Run("on an empty host", func(t *testing.T) {
		s.t = t
		for _, rel := range []string{"data", "disk", "etc", "state"} {
			mustRemove(s, rel)
		}
		if _, err := Run(context.Background(), o); err != nil {
			t.Fatal(err)
		}
		if to, err := os.Readlink(filepath.Join(base, "data")); err != nil || to != filepath.Join(base, "disk/data") {
			t.Errorf("the data directory is no link to its disk: %s %v", to, err)
		}
		same(t, "users", of, snap(t, users))
	})
}
