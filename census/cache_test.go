package census

import (
	"context"
	"os"
	"path/filepath"
	"testing"
)

// A Count that trusts what an earlier one saved gives the same sum as one that
// reads everything, and sees what changed in between.
func TestSavedCensus(t *testing.T) {
	root := makeTree(t)
	first, _ := count(t, root, nil)
	age(t)
	res, err := Count(context.Background(), root, nil, 2)
	must(t, err)
	known := res.Known
	file := filepath.Join(t.TempDir(), "census")
	must(t, known.Save(file))
	loaded, err := Load(file)
	must(t, err)
	if len(loaded.inodes) == 0 || len(loaded.inodes) != len(known.inodes) || loaded.inodes[0] != known.inodes[0] {
		t.Fatalf("loaded %d inodes, saved %d", len(loaded.inodes), len(known.inodes))
	}
	again, err := loaded.Count(context.Background(), root, nil, 2)
	must(t, err)
	if again.Sum != first {
		t.Errorf("trusting what was saved: %+v, want %+v", again.Sum, first)
	}
	if n := len(again.Known.inodes); n != len(known.inodes) {
		t.Errorf("%d inodes are handed on, want %d", n, len(known.inodes))
	}
	setxattr(t, root+"/a", "user.oc.id", "another")
	fresh, _ := count(t, root, nil)
	again, err = loaded.Count(context.Background(), root, nil, 2)
	must(t, err)
	if again.Sum != fresh || again.Sum == first {
		t.Errorf("after a change: %+v, want %+v", again.Sum, fresh)
	}
}

func TestLoadRefusesDamage(t *testing.T) {
	file := filepath.Join(t.TempDir(), "census")
	k := &Known{inodes: []inode{{ino: 1, ctime: 2, hash: digest{3, 4}, xattrs: 5}}}
	must(t, k.Save(file))
	good, err := os.ReadFile(file)
	must(t, err)
	for n := range good {
		bad := append([]byte{}, good...)
		bad[n] ^= 1
		must(t, os.WriteFile(file, bad, 0o600))
		if _, err := Load(file); err == nil {
			t.Errorf("byte %d changed: no error", n)
		}
	}
	must(t, os.WriteFile(file, good[:len(good)-1], 0o600))
	if _, err := Load(file); err == nil {
		t.Error("cut off: no error")
	}
}
