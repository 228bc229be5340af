package snapshot

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/ocbackup/ocbackup/fail"
)

// storage is a directory whose "snapshots" are copies that scripts of the admin's make.
func storage(t *testing.T) (r Request, base string) {
	t.Helper()
	need(t)
	base = t.TempDir()
	put(t, base+"/live/users/f", "1")
	put(t, base+"/live/search/f", "2")
	r = request(t, "users", base+"/live/users", "search", base+"/live/search")
	r.Roots[0].Users = true
	r.Config = Config{
		Driver: Command, Path: base + "/live", MountPoint: base + "/snap/{name}",
		Create:  []string{"sh", "-ec", `test -n "$OCBACKUP_SNAPSHOT"; mkdir -p "$2"; cp -a "$1" "$2/$OCBACKUP_SNAPSHOT"; echo "$OCBACKUP_SET {name}" >>` + base + "/made", "", base + "/live", base + "/snap"},
		Destroy: []string{"sh", "-ec", `rm -rf "$1"; test "$OCBACKUP_SNAPSHOT" = "$2"; echo "$OCBACKUP_SET {name}" >>` + base + "/destroyed", "", base + "/snap/{name}", "{name}"},
	}
	return r, base
}

func TestCommand(t *testing.T) {
	r, base := storage(t)
	p := find(t, r)
	must(t, p.Rehearse(t.Context()))
	once := testSet + " " + nameOf(r, 0) + "\n" // both roots lie in one
	if made, destroyed := get(t, base+"/made"), get(t, base+"/destroyed"); made != once || destroyed != once {
		t.Errorf("in the rehearsal: made %q, destroyed %q", made, destroyed)
	}
	must(t, p.Freeze(t.Context()), p.Open(t.Context()))
	put(t, base+"/live/users/f", "changed")
	if d, why := p.How("users"); d != Command || why != "" {
		t.Errorf("how: %s, %s", d, why)
	}
	if got := get(t, p.View("users")+"/f") + get(t, p.View("search")+"/f"); got != "12" {
		t.Errorf("the views show %s", got)
	}
	if err := os.WriteFile(p.View("users")+"/f", nil, 0o600); !errors.Is(err, unix.EROFS) {
		t.Errorf("the view can be written to: %v", err)
	}
	must(t, p.Lost(t.Context()), p.Release(t.Context()))
	if made, destroyed := get(t, base+"/made"), get(t, base+"/destroyed"); made != once+once || destroyed != once+once {
		t.Errorf("made %q, destroyed %q", made, destroyed)
	}
	nothingLeft(t, r)
	if left := list(t, base+"/snap"); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// What commands can do wrong is told in their words, and undone.
func TestCommandFails(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(c *Config, base string)
		want   string
	}{
		{"it fails", func(c *Config, _ string) { c.Create = []string{"sh", "-c", "echo array is offline >&2; exit 3"} }, "array is offline"},
		{"it makes no mount point", func(c *Config, _ string) { c.Create = []string{"true"} }, "no such file"},
		{"the mount point is empty", func(c *Config, base string) { c.Create = []string{"mkdir", "-p", base + "/snap/{name}"} }, "is empty"},
		{"the mount point is a file", func(c *Config, base string) {
			c.Create = []string{"sh", "-c", "mkdir " + base + "/snap; echo >" + base + "/snap/{name}"}
		}, "no directory"},
		{"the mount point shows the live files", func(c *Config, base string) {
			c.Create = []string{"sh", "-c", "mkdir " + base + "/snap; ln -s " + base + "/live " + base + "/snap/{name}"}
		}, "live files"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r, base := storage(t)
			tc.change(&r.Config, base)
			p := find(t, r)
			r.Roots[0].Users = true
			if err := find(t, r).Rehearse(t.Context()); fail.CodeOf(err) != fail.Failed || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("rehearsal: %v", err)
			}
			if err := p.Freeze(t.Context()); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("freeze: %v", err)
			}
			must(t, p.Release(t.Context()))
			if get(t, base+"/destroyed") == "" {
				t.Error("nothing was undone")
			}
			nothingLeft(t, r)
		})
	}
}

// What lies elsewhere than the commands' path is frozen as with auto.
func TestCommandElsewhere(t *testing.T) {
	r, base := storage(t)
	top, _ := loopFS(t, "btrfs", 128*megabytes)
	r.Roots = append(r.Roots, Root{Name: "deployment", Path: top}, Root{Name: "extra", Path: base})
	link := filepath.Join(t.TempDir(), "link")
	must(t, os.Symlink(base, link))
	r.Config.Path = link + "/live"
	p := frozen(t, r)
	for root, want := range map[string]Driver{"users": Command, "search": Command, "deployment": Btrfs, "extra": None} {
		if d, _ := p.How(root); d != want {
			t.Errorf("%s: %s", root, d)
		}
	}
	r.Roots[2].Users = true
	if _, err := Find(t.Context(), r); fail.CodeOf(err) != fail.Usage || !strings.Contains(err.Error(), "path") {
		t.Errorf("users' files that the commands do not freeze: %v", err)
	}
	r.Roots[3].Users = true
	if _, err := Find(t.Context(), r); fail.CodeOf(err) != fail.Usage || !strings.Contains(err.Error(), base) {
		t.Errorf("users' files elsewhere: %v", err)
	}
	r.Config.Destroy = []string{"no-such-program"}
	if _, err := Find(t.Context(), r); fail.CodeOf(err) != fail.Usage || !strings.Contains(err.Error(), "no-such-program") {
		t.Errorf("a program that is missing: %v", err)
	}
}

// The mount point that went away while it was read, and a destroy that fails once.
func TestCommandLost(t *testing.T) {
	r, base := storage(t)
	r.Config.Destroy = []string{"sh", "-c", "test -e " + base + "/ok || { echo still busy; echo in use >&2; exit 1; }; rm -rf " + base + "/snap"}
	put(t, base+"/ok", "")
	p := frozen(t, r)
	must(t, os.RemoveAll(base+"/snap"), os.Remove(base+"/ok"))
	var lost *LostError
	if err := p.Lost(t.Context()); !errors.As(err, &lost) || !strings.Contains(lost.Why, "mount_point") {
		t.Errorf("lost: %v", err)
	}
	if err := p.Release(t.Context()); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("release: %v", err)
	}
	put(t, base+"/ok", "")
	// The next run knows the commands from the record, also when they are configured no more.
	removed, err := Sweep(t.Context(), SweepOptions{Instance: r.Instance, StateDir: r.StateDir, RunDir: r.RunDir, Near: []string{base + "/live"}})
	if err != nil || len(removed) != 1 {
		t.Errorf("swept %q: %v", removed, err)
	}
	nothingLeft(t, r)
}
