package snapshot

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func TestParseMounts(t *testing.T) {
	got, err := parseMounts(strings.NewReader(`36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue
40 1 0:36 /@data /srv/a\040b\011c\134d rw shared:1 master:2 - btrfs /dev/mapper/v\040g rw,ro=no,subvol=/@data
41 40 0:40 / / ro - tmpfs  ro
42 40 0:41 / /x rw - zfs pool/ds rw,xattr`))
	must(t, err)
	want := []mount{
		{36, "98:0", "/mnt1", "/mnt2", "rw,noatime", "ext3", "/dev/root", "rw,errors=continue"},
		{40, "0:36", "/@data", "/srv/a b\tc\\d", "rw", "btrfs", "/dev/mapper/v g", "rw,ro=no,subvol=/@data"},
		{41, "0:40", "/", "/", "ro", "tmpfs", "", "ro"},
		{42, "0:41", "/", "/x", "rw", "zfs", "pool/ds", "rw,xattr"},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v", got)
	}
	if got[1].readOnly() || !got[2].readOnly() {
		t.Error("read-only is told of the wrong one")
	}
	for _, bad := range []string{"x", "36 35 98:0 /mnt1 /mnt2 rw,noatime", "a 35 98:0 / / rw - ext3 /dev/root rw", "36 35 98:0 / / rw - ext3"} {
		if _, err := parseMounts(strings.NewReader(bad)); err == nil || !strings.Contains(err.Error(), bad) {
			t.Errorf("%q: %v", bad, err)
		}
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
	for _, tc := range []struct {
		name, instance, set string
		ours                bool
	}{
		{makeName("cloud.example.com", testSet, 12), "cloud.example.com", testSet, true},
		{makeName("a-b", testSet, 0), "a-b", testSet, true},
		{"ocbackup-a-" + testSet, "", "", false},
		{"ocbackup--" + testSet + "-0", "", "", false},
		{"ocbackup-a-" + testSet + "-0x", "", "", false},
		{"x-ocbackup-a-" + testSet + "-0", "", "", false},
		{"ocbackup-a-20261123-7f3a-0", "", "", false},
	} {
		if i, s, ours := parseName(tc.name); i != tc.instance || s != tc.set || ours != tc.ours {
			t.Errorf("%s: %q %q %t", tc.name, i, s, ours)
		}
	}
}
