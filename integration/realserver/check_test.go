package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pkg/xattr"

	"github.com/ocbackup/ocbackup/integration/env"
	"github.com/ocbackup/ocbackup/integration/objects"
)

func TestMain(m *testing.M) { os.Exit(env.Main(m)) }

// The check finds nothing to say about trees of real servers but that the writer
// was not there, and tells of every damage that is added.
func TestCheck(t *testing.T) {
	type damage struct {
		file string
		do   func(path string) error
		want string
	}
	for driver, list := range map[string][]damage{
		"posix": {
			{"users/users/*/big-*", func(p string) error { return os.Truncate(p, 100) }, "1 inconsistencies"},
			{"users/users/*/.oc-nodes/*/*/*/*/*.REV.*Z", func(p string) error { return os.Truncate(p, 1) }, "2 inconsistencies"},
			{"users/users/*/.oc-nodes/*/*/*/*/*.mpk", os.Remove, "3 inconsistencies"},
			{"metadata/spaces/*/*/blobs/*/*/*/*/*", os.Remove, "4 inconsistencies"},
			{"users/users/*/*.txt", func(p string) error { return xattr.LRemove(p, "user.oc.id") }, "1 nodes lost"},
		},
		"decomposed": {
			{"users/spaces/*/*/blobs/*/*/*/*/*", func(p string) error { return os.WriteFile(p, nil, 0o600) }, "1 inconsistencies"},
			{"users/spaces/*/*/nodes/*/*/*/*/*.mpk", os.Remove, "1 nodes lost"},
		},
		"decomposeds3": {
			{"../../bucket/*/*/*/*/*/*", os.Remove, "1 inconsistencies"},
			{"../../bucket/*/*/*/*/*/*", func(p string) error { return os.Truncate(p, 1) }, "2 inconsistencies"},
			{"metadata/spaces/*/*/blobs/*/*/*/*/*", os.Remove, "3 inconsistencies"},
			{"users/spaces/*/*/nodes/*/*/*/*/*.mpk", os.Remove, "1 nodes lost"},
		},
	} {
		t.Run(driver, func(t *testing.T) {
			tree := env.Fixture(t, "opencloud-4.0-"+driver)
			i := &instance{data: tree.Data, driver: driver}
			wants := func(want string) {
				t.Helper()
				if err := i.check(objects.Dir(tree.Bucket)); err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("%v, want %s", err, want)
				}
			}
			wants("the writer never ran")
			for _, d := range list {
				files, _ := filepath.Glob(filepath.Join(tree.Data, "storage", d.file))
				if len(files) == 0 {
					t.Fatalf("no %s", d.file)
				}
				if err := d.do(files[0]); err != nil {
					t.Fatal(err)
				}
				wants(d.want)
			}
		})
	}
}

// Uploads follow each other: one that is missing among newer ones is noticed.
func TestOrder(t *testing.T) {
	for _, row := range []struct {
		newest, missing uint64
		want            int
	}{{5, 0, 0}, {20, 0, 0}, {20, 18, 1}, {20, 13, 1}} {
		k := &checker{slots: map[int]uint64{}}
		for seq := uint64(1); seq <= row.newest; seq++ {
			if seq != row.missing {
				k.slots[int(seq%slots)] = seq
			}
		}
		if k.order(); len(k.bad) != row.want {
			t.Errorf("%+v: %v", row, k.bad)
		}
	}
}
