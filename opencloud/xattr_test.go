package opencloud

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func TestHasXattrs(t *testing.T) {
	root := t.TempDir()
	all := func(string, bool) bool { return true }
	has := func(filter func(string, bool) bool) bool {
		t.Helper()
		ok, err := HasXattrs(root, filter)
		if err != nil {
			t.Fatal(err)
		}
		return ok
	}
	if !has(all) {
		t.Error("a tree without files has lost nothing")
	}
	write := func(name string) {
		t.Helper()
		path := filepath.Join(root, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, nil, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	write("indexes/by-type/project.mpk")
	write("users/x/.oc-nodes/locks/y.mlock")
	if !has(all) {
		t.Error("a fresh storage has lost nothing")
	}
	for _, name := range []string{"a", "d/b", "d/e/c"} {
		write(name)
	}
	if has(all) {
		t.Error("no file has any")
	}
	set := func(name, attr string) {
		t.Helper()
		if err := unix.Setxattr(filepath.Join(root, name), attr, []byte("x"), 0); err != nil {
			t.Skipf("no extended attributes here: %v", err)
		}
	}
	set("a", "security.label")
	if has(all) {
		t.Error("that is none of OpenCloud's")
	}
	set("d/e", "user.oc.id")
	if !has(all) {
		t.Error("the last directory has one")
	}
	if has(func(rel string, _ bool) bool { return rel != "d/e" }) {
		t.Error("that file does not belong to the root")
	}
	if _, err := HasXattrs(filepath.Join(root, "missing"), all); err != nil {
		t.Errorf("what vanishes is no error: %v", err)
	}
}
