package snapshot

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func TestReadOnly(t *testing.T) {
	for super, want := range map[string]bool{"rw,ro=no,subvol=/@data": false, "ro": true, "errors=continue,ro": true, "rw": false} {
		if got := (mount{Super: super}).readOnly(); got != want {
			t.Errorf("%s: %t", super, got)
		}
	}
}

// A name with blanks is read as it is.
func TestMounts(t *testing.T) {
	need(t)
	dir := filepath.Join(t.TempDir(), "a b\tc\\d")
	must(t, os.Mkdir(dir, 0o755))
	must(t, unix.Mount("what it is", dir, "tmpfs", unix.MS_RDONLY, ""))
	t.Cleanup(func() { must(t, unix.Unmount(dir, 0)) })
	all, err := mounts()
	must(t, err)
	m := all[len(all)-1]
	if m.Point != dir || m.Source != "what it is" || m.FS != "tmpfs" || m.Root != "/" || !m.readOnly() {
		t.Errorf("got %+v", m)
	}
}

// The mount that holds a path is the one that can be seen, not the one with the longest
// mount point.
func TestMountOf(t *testing.T) {
	need(t)
	dir := t.TempDir()
	for _, m := range []string{"a", "a/b", "a/b", "a"} {
		must(t, os.MkdirAll(filepath.Join(dir, m), 0o755))
		sh(t, "mount -t tmpfs "+m+" "+filepath.Join(dir, m))
		t.Cleanup(func() { sh(t, "umount "+filepath.Join(dir, m)) })
	}
	must(t, os.MkdirAll(dir+"/a/b/c", 0o755))
	all, err := mounts()
	must(t, err)
	m, err := mountOf(all, dir+"/a/b/c")
	if err != nil || m.Point != dir+"/a" || m.FS != "tmpfs" {
		t.Errorf("%+v, %v", m, err)
	}
	if _, err := mountOf(all, dir+"/none"); !os.IsNotExist(err) {
		t.Errorf("what is not there: %v", err)
	}
}

func TestNames(t *testing.T) {
	here := ownerOf("a", "/var/lib/ocbackup/a")
	if name := makeName(here, testSet, 12); name != "ocbackup-a-"+testSet+"-4107c7-12" {
		t.Errorf("the name %s", name)
	}
	if ownerOf("a", "/var/lib/ocbackup/../ocbackup/a/") != here || ownerOf("a", "/srv/ocbackup/a") == here {
		t.Error("another path of the same directory, or another directory")
	}
	for _, tc := range []struct {
		name, instance string
		ours           bool
	}{
		{makeName(ownerOf("cloud.example.com", "/x"), testSet, 12), "cloud.example.com", true},
		{makeName(ownerOf("a-b", "/x"), testSet, 0), "a-b", true},
		{"ocbackup-a-" + testSet + "-0", "", false},
		{"ocbackup-a-" + testSet + "-0123ab", "", false},
		{"ocbackup--" + testSet + "-0123ab-0", "", false},
		{"ocbackup-a-" + testSet + "-0123ab-0x", "", false},
		{"x-ocbackup-a-" + testSet + "-0123ab-0", "", false},
		{"ocbackup-a-20261123-7f3a-0123ab-0", "", false},
	} {
		if whose, set, ours := parseName(tc.name); whose.instance != tc.instance || ours && set != testSet || ours != tc.ours {
			t.Errorf("%s: %+v %q %t", tc.name, whose, set, ours)
		}
	}
}
