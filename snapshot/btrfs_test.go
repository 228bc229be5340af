package snapshot

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/ocbackup/ocbackup/fail"
)

// What a root's place on a btrfs can look like: each is frozen, read and released.
func TestBtrfsPlaces(t *testing.T) {
	need(t, "btrfs")
	for _, tc := range []struct {
		name string
		make func(t *testing.T, top, device string) (root string)
	}{
		{"a directory at the top level", func(_ *testing.T, top, _ string) string { return filepath.Join(top, "data") }},
		{"the top level itself", func(_ *testing.T, top, _ string) string { return top }},
		{"a subvolume that is a plain directory", func(t *testing.T, top, _ string) string {
			sh(t, "btrfs subvolume create "+top+"/vol")
			return filepath.Join(top, "vol")
		}},
		{"a directory deep in a nested subvolume", func(t *testing.T, top, _ string) string {
			sh(t, "btrfs subvolume create "+top+"/vol; mkdir "+top+"/vol/a; btrfs subvolume create "+top+"/vol/a/inner")
			return filepath.Join(top, "vol/a/inner/x/y")
		}},
		{"mounted with subvol=", func(t *testing.T, top, device string) string {
			sh(t, "btrfs subvolume create "+top+"/@data")
			dir := filepath.Join(t.TempDir(), "srv")
			mountDevice(t, device, "btrfs", dir, "subvol=@data")
			return filepath.Join(dir, "data")
		}},
		{"mounted read-only here, but not there", func(t *testing.T, top, device string) string {
			sh(t, "btrfs subvolume create "+top+"/@data; echo -n before >"+top+"/@data/f")
			dir := filepath.Join(t.TempDir(), "srv")
			mountDevice(t, device, "btrfs", dir, "subvol=@data", "ro")
			return dir
		}},
		{"a Docker volume on a bind mount", func(t *testing.T, top, _ string) string {
			put(t, top+"/docker/volumes/x/_data/f", "")
			dir := filepath.Join(t.TempDir(), "var lib docker")
			bindMount(t, top+"/docker", dir)
			return filepath.Join(dir, "volumes/x/_data")
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			top, device := loopFS(t, "btrfs", 128*megabytes)
			root := tc.make(t, top, device)
			if _, err := os.Stat(root + "/f"); err != nil || strings.Contains(root, "docker") {
				put(t, root+"/f", "before")
			}
			before := inode(t, top)
			r := request(t, "users", root)
			other := r
			other.Set = otherSet
			frozen(t, other) // one that is kept, say
			p := frozen(t, r)
			if d, why := p.How("users"); d != Btrfs {
				t.Fatalf("how: %s, %s", d, why)
			}
			view := p.View("users")
			if filepath.Base(view) != filepath.Base(root) {
				t.Errorf("the view %s has another name than %s", view, root)
			}
			if got := get(t, view+"/f"); got != "before" {
				t.Errorf("content %q", got)
			}
			// restic takes a file for unchanged by these.
			if live, seen := inode(t, root+"/f"), inode(t, view+"/f"); live.Ino != seen.Ino || live.Ctim != seen.Ctim || live.Mtim != seen.Mtim {
				t.Errorf("live %+v, in the view %+v", live, seen)
			}
			snapshots := top + "/" + btrfsDir
			if ro := sh(t, "btrfs property get "+snapshots+"/"+nameOf(r, 0)+" ro"); ro != "ro=true\n" {
				t.Errorf("the snapshot: %s", ro)
			}
			if i, err := os.Stat(snapshots); err != nil || i.Mode().Perm() != 0o700 {
				t.Errorf("their directory: %v, %v", i, err)
			}
			if live := p.rec.Volumes[0].Live; !strings.HasPrefix(root, live) || inode(t, live).Ino != 256 && !isMountPoint(t, live) {
				t.Errorf("%s is said to be mounted at %s", root, live)
			}
			if err := os.WriteFile(view+"/f", nil, 0o600); !errors.Is(err, unix.EROFS) {
				t.Errorf("the view can be written to: %v", err)
			}
			if names := list(t, view); slices.Contains(names, btrfsDir) {
				t.Errorf("the view shows what is not the admin's: %v", names)
			}
			if i := inode(t, view); root == top && i.Mtim != before.Mtim {
				t.Errorf("the view's own time is %v, and was %v", i.Mtim, before.Mtim)
			}
			must(t, p.Release(t.Context()))
			_, err := Sweep(t.Context(), SweepOptions{StateDir: r.StateDir, RunDir: r.RunDir})
			must(t, err)
			nothingLeft(t, r, top)
			if now := inode(t, top); now.Mtim != before.Mtim {
				t.Errorf("the top level's time is %v, and was %v", now.Mtim, before.Mtim)
			}
			if slices.Contains(list(t, top), btrfsDir) {
				t.Error("the empty directory is still there")
			}
		})
	}
}

// A root can be a file, also one that is mounted by itself.
func TestBtrfsFile(t *testing.T) {
	need(t, "btrfs")
	top, _ := loopFS(t, "btrfs", 128*megabytes)
	put(t, top+"/etc/config.yaml", "a: 1")
	must(t, os.Link(top+"/etc/config.yaml", top+"/other-name"))
	mounted := filepath.Join(t.TempDir(), "server.yaml")
	must(t, os.WriteFile(mounted, nil, 0o600))
	sh(t, "mount --bind "+top+"/etc/config.yaml "+mounted)
	t.Cleanup(func() { must(t, unmount(context.Background(), mounted)) })

	p := frozen(t, request(t, "config", top+"/etc/config.yaml", "mounted", mounted))
	put(t, top+"/etc/config.yaml", "a: 2")
	for root, name := range map[string]string{"config": "config.yaml", "mounted": "server.yaml"} {
		view := p.View(root)
		if filepath.Base(view) != name || get(t, view) != "a: 1" {
			t.Errorf("%s: %s", view, get(t, view))
		}
	}
}

// Roots on one subvolume share a snapshot, others are frozen beside.
func TestVolumes(t *testing.T) {
	need(t, "btrfs")
	one, device := loopFS(t, "btrfs", 128*megabytes)
	two, _ := loopFS(t, "btrfs", 128*megabytes)
	sh(t, "btrfs subvolume create "+one+"/vol")
	again := filepath.Join(t.TempDir(), "again")
	mountDevice(t, device, "btrfs", again)
	roots := []string{"system", one + "/system", "config", again + "/config", "users", one + "/vol/users", "search", two + "/search"}
	for i := 1; i < len(roots); i += 2 {
		put(t, roots[i]+"/f", roots[i])
	}
	ext4, _ := loopFS(t, "ext4", 16*megabytes)
	put(t, ext4+"/f", "")
	r := request(t, append(roots, "deployment", ext4)...)
	p := frozen(t, r)
	if n := strings.Count(sh(t, "btrfs subvolume list "+one+"; btrfs subvolume list "+two), "/ocbackup-"); n != 3 {
		t.Errorf("%d snapshots, 3 are wanted", n)
	}
	for i := 0; i < len(roots); i += 2 {
		if got := get(t, p.View(roots[i])+"/f"); got != roots[i+1] {
			t.Errorf("%s shows %s", roots[i], got)
		}
	}
	if d, why := p.How("deployment"); d != None || !strings.Contains(why, "ext4") || p.View("deployment") != "" {
		t.Errorf("ext4: %s, %s", d, why)
	}
	if p.Empty() {
		t.Error("the plan is empty")
	}
	must(t, p.Release(t.Context()))
	nothingLeft(t, r, one, two)
}

// What changes after the freeze is not in the view.
func TestViewStaysAsItWas(t *testing.T) {
	need(t, "setfattr")
	top, _ := loopFS(t, "btrfs", 128*megabytes)
	root := top + "/users"
	for _, f := range []string{"changed", "removed", "renamed", "sub/deep"} {
		put(t, filepath.Join(root, f), "before")
	}
	sh(t, "setfattr -n user.oc.id -v 1 "+root+"/changed")
	p := frozen(t, request(t, "users", root))
	before := sh(t, "cd "+p.View("users")+"; find . -printf '%p %i %m %s %T@ %C@\n' | sort; getfattr -Rd . ; find . -type f -exec cat {} +")
	sh(t, "cd "+root+"; echo after >changed; setfattr -n user.oc.id -v 2 changed; rm removed; mv renamed other; rm -r sub; echo new >new")
	after := sh(t, "cd "+p.View("users")+"; find . -printf '%p %i %m %s %T@ %C@\n' | sort; getfattr -Rd . ; find . -type f -exec cat {} +")
	if before != after || !strings.Contains(before, `user.oc.id="1"`) {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
}

// What can't be frozen is told why, in words that name the place.
func TestRefused(t *testing.T) {
	need(t, "btrfs")
	top, _ := loopFS(t, "btrfs", 128*megabytes)
	sh(t, "cd "+top+"; btrfs subvolume create nested; btrfs subvolume create nested/deeper; mkdir nested/mounts nested/mounts/tmp; btrfs subvolume create beside")
	sh(t, "mount -t tmpfs none "+top+"/nested/mounts/tmp")
	t.Cleanup(func() { must(t, unmount(context.Background(), top+"/nested/mounts/tmp")) })
	xfs, _ := loopFS(t, "xfs", 300*megabytes)
	ro, roDevice := loopFS(t, "btrfs", 128*megabytes)
	must(t, os.Mkdir(ro+"/data", 0o755))
	sh(t, "mount -o remount,ro "+ro)
	without := func(left ...string) func(string, bool) bool {
		return func(rel string, _ bool) bool { return !slices.Contains(left, rel) }
	}
	put(t, top+"/bound/a/f", "")
	put(t, top+"/bound/b/f", "")
	bindMount(t, top+"/bound", top+"/bound") // as systemd does
	bindMount(t, top+"/bound/a", top+"/bound/a")
	put(t, top+"/crossed/b/f", "")
	bindMount(t, top+"/bound/a", top+"/crossed/b")
	for _, tc := range []struct {
		name   string
		root   Root
		driver Driver
		want   []string // in why; nil: it can be frozen
		fails  bool     // Find does
	}{
		{"a subvolume inside", Root{Path: top + "/nested", Filter: without("mounts")}, Auto, []string{"subvolume", top + "/nested/deeper"}, false},
		{"one that does not belong to it", Root{Path: top + "/nested", Filter: without("mounts", "deeper")}, Auto, nil, false},
		{"a mount inside", Root{Path: top + "/nested", Filter: without("deeper")}, Auto, []string{"mounted inside", top + "/nested/mounts/tmp"}, false},
		{"one that does not belong to it", Root{Path: top + "/nested", Filter: without("deeper", "mounts/tmp")}, Auto, nil, false},
		{"directories mounted onto themselves", Root{Path: top + "/bound"}, Auto, nil, false},
		{"another directory of the same file system mounted inside", Root{Path: top + "/crossed"}, Auto, []string{"mounted inside", top + "/crossed/b"}, false},
		{"a subvolume beside", Root{Path: top + "/beside"}, Auto, nil, false},
		{"a root that is not there", Root{Path: top + "/none"}, Auto, []string{"no such file"}, false},
		{"read-only", Root{Path: ro + "/data"}, Auto, []string{"btrfs", roDevice, "read-only"}, false},
		{"xfs", Root{Path: xfs}, Auto, []string{"xfs"}, false},
		{"turned off", Root{Path: top + "/beside"}, None, []string{"turned off"}, false},
		{"turned off, with users' files", Root{Path: top + "/beside", Users: true}, None, []string{"turned off"}, false},
		{"not what the admin wants", Root{Path: xfs, Users: true}, Btrfs, []string{"xfs", "not on btrfs"}, true},
		{"not what the admin wants for users' files", Root{Path: xfs}, Btrfs, []string{"not on btrfs"}, false},
		{"what the admin wants", Root{Path: top + "/beside", Users: true}, Btrfs, nil, false},
		{"another one than the admin wants", Root{Path: top + "/beside", Users: true}, LVM, []string{"btrfs", "not on lvm"}, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := request(t)
			tc.root.Name = "users"
			r.Roots, r.Config.Driver = []Root{tc.root}, tc.driver
			p, err := Find(t.Context(), r)
			if (err != nil) != tc.fails {
				t.Fatal(err)
			}
			why := ""
			if err != nil {
				if why = err.Error(); fail.CodeOf(err) != fail.Usage {
					t.Errorf("exit code %d", fail.CodeOf(err))
				}
			} else {
				var d Driver
				if d, why = p.How("users"); (d == None) != (tc.want != nil) || p.Empty() != (tc.want != nil) {
					t.Errorf("%s: %s", d, why)
				}
			}
			for _, w := range tc.want {
				if !strings.Contains(why, w) {
					t.Errorf("%q is not in: %s", w, why)
				}
			}
			if _, err := Sweep(t.Context(), SweepOptions{Instance: instance, StateDir: r.StateDir, RunDir: r.RunDir, Near: []string{tc.root.Path}}); err != nil {
				t.Errorf("sweep: %v", err)
			}
			nothingLeft(t, r, top)
		})
	}
}

// What comes to lie inside of a root between Find and Freeze is found, before anything is made.
func TestFreezeLooksAgain(t *testing.T) {
	need(t, "btrfs")
	for _, tc := range []struct{ name, change, refused string }{
		{"a subvolume", "btrfs subvolume create ROOT/sub/new", "sub/new"},
		{"a mount", "mkdir ROOT/sub/new; mount -t tmpfs none ROOT/sub/new", "sub/new"},
		{"a subvolume that does not belong to it", "btrfs subvolume create ROOT/not", ""},
		{"a directory", "mkdir ROOT/sub/new", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			top, _ := loopFS(t, "btrfs", 128*megabytes)
			root := top + "/users"
			put(t, root+"/sub/f", "")
			r := request(t, "config", top+"/config", "users", root)
			must(t, os.Mkdir(top+"/config", 0o755))
			r.Roots[1].Filter = func(rel string, _ bool) bool { return rel != "not" }
			p := find(t, r)
			must(t, p.Rehearse(t.Context()))
			sh(t, strings.ReplaceAll(tc.change, "ROOT", root))
			t.Cleanup(func() { must(t, unmount(context.Background(), root+"/sub/new")) })
			err := p.Freeze(t.Context())
			made := strings.Contains(sh(t, "btrfs subvolume list "+top), nameOf(r, 0))
			if tc.refused == "" {
				if err != nil || !made {
					t.Errorf("made: %t, %v", made, err)
				}
				return
			}
			if made || fail.CodeOf(err) != fail.Failed || !strings.Contains(err.Error(), "users ("+root+")") || !strings.Contains(err.Error(), root+"/"+tc.refused) {
				t.Errorf("made: %t, %v", made, err)
			}
			if _, _, hint := fail.Details(err); hint == "" {
				t.Error("no hint")
			}
		})
	}
}

// Without the right to mount nothing can be frozen, which is no failure.
func TestNotPrivileged(t *testing.T) {
	if root := os.Getenv("TEST_UNPRIVILEGED_ROOT"); root != "" {
		p, err := Find(t.Context(), request(t, "users", root))
		must(t, err)
		if _, why := p.How("users"); !strings.Contains(why, "root") {
			t.Errorf("why: %s", why)
		}
		if _, err := Sweep(t.Context(), SweepOptions{Instance: instance, StateDir: t.TempDir(), RunDir: t.TempDir(), Near: []string{root}}); err != nil {
			t.Error(err)
		}
		return
	}
	need(t, "setpriv")
	top, _ := loopFS(t, "btrfs", 128*megabytes)
	cmd := exec.Command("setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin", os.Args[0], "-test.run=^TestNotPrivileged$", "-test.v")
	cmd.Env = append(os.Environ(), "TEST_UNPRIVILEGED_ROOT="+top)
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS") {
		t.Errorf("%v\n%s", err, out)
	}
}

// A rehearsal leaves nothing, and takes out of the plan what could not be frozen.
func TestRehearse(t *testing.T) {
	need(t, "btrfs")
	good, _ := loopFS(t, "btrfs", 128*megabytes)
	full := fullBtrfs(t)
	must(t, os.Mkdir(good+"/users", 0o755))
	for _, tc := range []struct {
		name   string
		driver Driver
		users  bool // the full one holds users' files
		fails  bool
	}{
		{"auto", Auto, true, false},
		{"btrfs", Btrfs, false, false},
		{"btrfs, and users' files", Btrfs, true, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := request(t, "users", good+"/users", "search", full+"/search")
			r.Roots[1].Users, r.Config.Driver = tc.users, tc.driver
			p := find(t, r)
			if err := p.Rehearse(t.Context()); (err != nil) != tc.fails || tc.fails && fail.CodeOf(err) != fail.Failed {
				t.Fatal(err)
			}
			if d, why := p.How("search"); d != None || !strings.Contains(why, "no space left") {
				t.Errorf("search: %s, %s", d, why)
			}
			if d, why := p.How("users"); d != Btrfs {
				t.Errorf("users: %s, %s", d, why)
			}
			for _, dir := range []string{good, full} {
				if all := sh(t, "btrfs subvolume list "+dir); all != "" {
					t.Errorf("left: %s", all)
				}
			}
			if !tc.fails {
				must(t, p.Freeze(t.Context()), p.Open(t.Context()))
				list(t, p.View("users"))
			}
			must(t, p.Release(t.Context()))
			nothingLeft(t, r, good, full)
		})
	}
}
