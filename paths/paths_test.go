package paths

import (
	"os"
	"path/filepath"
	"testing"
)

func TestBelow(t *testing.T) {
	for _, c := range []struct {
		dir, p, rel   string
		below, within bool
	}{
		{"/a", "/a/b/c", "b/c", true, true},
		{"/a/", "/a/b", "b", true, true},
		{"/a", "/a", "", false, true},
		{"/a", "/a/", "", false, true},
		{"/a", "/ab", "", false, false},
		{"/a/b", "/a", "", false, false},
		{"/a", "/a/../b", "", false, false},
		{"/", "/a", "a", true, true},
		{"/", "/", "", false, true},
		{"", "/a", "", false, false},
		{"/a", "", "", false, false},
	} {
		if rel, ok := Below(c.dir, c.p); rel != c.rel || ok != c.below {
			t.Errorf("%q below %q: %q, %v", c.p, c.dir, rel, ok)
		}
		if got := Within(c.dir, c.p); got != c.within {
			t.Errorf("%q within %q: %v", c.p, c.dir, got)
		}
	}
}

func TestOnDisk(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	at := func(p string) string { return filepath.Join(dir, p) }
	if err := os.Mkdir(at("d"), 0o700); err != nil {
		t.Fatal(err)
	}
	for link, to := range map[string]string{"link": "d", "lost": "nowhere"} {
		if err := os.Symlink(to, at(link)); err != nil {
			t.Fatal(err)
		}
	}
	if !Exists(at("lost")) || Exists(at("no")) {
		t.Error("Exists")
	}
	if !IsDir(at("link")) || IsDir(at("lost")) {
		t.Error("IsDir")
	}
	if got := Existing(at("link/x/y")); got != at("link") {
		t.Errorf("Existing: %s", got)
	}
	for p, want := range map[string]string{"link/x/y": "d/x/y", "d": "d", "link": "d", "lost/x": "lost/x"} {
		if got := Resolve(at(p)); got != at(want) {
			t.Errorf("Resolve %s: %s", p, got)
		}
	}
	if Absolute("") != "" || Absolute("/a") != "/a" || !filepath.IsAbs(Absolute("a")) {
		t.Error("Absolute")
	}
}
