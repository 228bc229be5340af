package snapshot

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/integration/env"
)

// pool is where the pool "tank" of inZFS is mounted.
const pool = "/run/tank"

// inZFS runs a test with a ZFS of its own: zfs-fuse, which has fixed places for its socket
// and its files, in namespaces that take all with them when they end.
func inZFS(t *testing.T, test func(t *testing.T)) {
	t.Helper()
	need(t, "unshare")
	if os.Getenv("OCBACKUP_IN_ZFS") == "" {
		_, err := os.Stat(env.Tools("zfs", "zfs"))
		env.Need(t, err)
		c := exec.CommandContext(t.Context(), "unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc",
			os.Args[0], "-test.v", "-test.run=^"+t.Name()+"$")
		c.Env = append(os.Environ(), "OCBACKUP_IN_ZFS=1")
		if out, err := c.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	for _, dir := range []string{"/run", "/var/lib"} {
		must(t, unix.Mount("tmpfs", dir, "tmpfs", 0, ""))
	}
	must(t, os.Mkdir("/var/lib/zfs", 0o755), os.Mkdir("/run/lock", 0o755))
	t.Setenv("PATH", env.Tools("zfs")+":"+os.Getenv("PATH"))
	must(t, exec.Command("zfs-fuse", "--no-daemon", "--no-kstat-mount").Start())
	env.Eventually(t, time.Minute, "the socket of zfs-fuse", func() bool {
		return exec.Command("zpool", "list").Run() == nil
	})
	sh(t, "truncate -s 128M /run/disk; zpool create -m "+pool+" tank /run/disk")
	test(t)
}

// datasets lists all datasets and snapshots.
func datasets(t *testing.T) []string {
	t.Helper()
	return strings.Fields(sh(t, "zfs list -H -t all -o name"))
}

func TestZFSViewStaysAsItWas(t *testing.T) {
	inZFS(t, func(t *testing.T) {
		sh(t, "zfs create tank/data-1.x; zfs create tank/data-1.x/child")
		top := pool + "/data-1.x"
		put(t, top+"/users/f", "before")
		put(t, top+"/users/goes", "before")
		put(t, top+"/etc/oc.yaml", "config")
		bound := filepath.Join(t.TempDir(), "var lib docker")
		bindMount(t, top+"/users", bound)
		before := datasets(t)

		r := request(t, "users", bound, "same", top+"/users", "config", top+"/etc/oc.yaml", "all", top)
		p := find(t, r)
		if d, why := p.How("all"); d != None || !strings.Contains(why, top+"/child") {
			t.Errorf("with a child dataset in it: %s, %q", d, why)
		}
		for _, root := range []string{"users", "same", "config"} {
			if d, why := p.How(root); d != ZFS {
				t.Errorf("%s: %s, %q", root, d, why)
			}
		}
		must(t, p.Rehearse(t.Context()))
		if d, why := p.How("users"); d != ZFS {
			t.Fatalf("rehearsal: %s, %q", d, why)
		}
		if got := datasets(t); !slices.Equal(got, before) {
			t.Errorf("left by the rehearsal: %v", got)
		}
		put(t, top+"/users/f", "at the freeze")
		must(t, p.Freeze(t.Context()))
		if got := datasets(t); len(got) != len(before)+1 {
			t.Errorf("no single snapshot: %v", got)
		}
		put(t, top+"/users/f", "after")
		put(t, top+"/users/comes", "after")
		must(t, os.Remove(top+"/users/goes"), p.Open(t.Context()))
		for _, root := range []string{"users", "same"} {
			view := p.View(root)
			if got := list(t, view); !slices.Equal(got, []string{"f", "goes"}) || get(t, view+"/f") != "at the freeze" {
				t.Errorf("%s: the view holds %v", root, got)
			}
			if err := os.WriteFile(view+"/f", nil, 0o600); !errors.Is(err, unix.EROFS) {
				t.Errorf("writing into the view: %v", err)
			}
		}
		if got := get(t, p.View("config")); got != "config" {
			t.Errorf("the file says %q", got)
		}
		must(t, p.Lost(t.Context()), p.Release(t.Context()))
		if got := datasets(t); !slices.Equal(got, before) {
			t.Errorf("left: %v", got)
		}
		nothingLeft(t, r)
	})
}

// What runs that died have left goes, with a record and without, opened and not, and
// nothing else.
func TestZFSLeftOvers(t *testing.T) {
	inZFS(t, func(t *testing.T) {
		r := request(t, "users", pool)
		for _, name := range append(othersNames(r), "mine") {
			sh(t, "zfs snapshot tank@"+name)
		}
		before := datasets(t)
		put(t, pool+"/f", "before")
		frozen(t, r) // and then it dies
		r.Set = otherSet
		stray := nameOf(r, 0)
		sh(t, "zfs snapshot tank@"+stray+"; zfs clone tank@"+stray+" tank/"+stray)
		removed, err := Sweep(t.Context(), SweepOptions{Instance: r.Instance, StateDir: r.StateDir, RunDir: r.RunDir, Near: []string{pool}})
		if err != nil || len(removed) != 2 {
			t.Errorf("%v, %v", removed, err)
		}
		if got := datasets(t); !slices.Equal(got, before) {
			t.Errorf("left: %v", got)
		}
		nothingLeft(t, r)
	})
}

func TestZFSKept(t *testing.T) {
	inZFS(t, func(t *testing.T) {
		put(t, pool+"/f", "before")
		r := request(t, "users", pool)
		before := datasets(t)
		must(t, frozen(t, r).Keep(t.Context(), time.Now().Add(time.Hour)))
		if got := datasets(t); len(got) != len(before)+1 {
			t.Errorf("kept: %v", got)
		}
		put(t, pool+"/f", "after")
		kept, err := Kept(r.StateDir)
		must(t, err)
		view, err := OpenKept(t.Context(), kept[0], r.RunDir)
		must(t, err)
		if got := get(t, view.Path("users")+"/f"); got != "before" {
			t.Errorf("the view says %q", got)
		}
		must(t, view.Close(t.Context()))
		expire(t, r)
		o := SweepOptions{Instance: r.Instance, StateDir: r.StateDir, RunDir: r.RunDir}
		if removed, err := Sweep(t.Context(), o); err != nil || len(removed) != 1 {
			t.Errorf("%v, %v", removed, err)
		}
		if got := datasets(t); !slices.Equal(got, before) {
			t.Errorf("left: %v", got)
		}
		nothingLeft(t, r)
	})
}

// What others do: one removes the snapshot, one needs it for something else.
func TestZFSOthers(t *testing.T) {
	inZFS(t, func(t *testing.T) {
		r := request(t, "users", pool)
		snapshot := "tank@" + nameOf(r, 0)
		p := find(t, r)
		must(t, p.Freeze(t.Context()), p.Lost(t.Context()))
		sh(t, "zpool export tank")
		must(t, p.Lost(t.Context())) // it may come back
		sh(t, "zpool import -d /run tank")
		sh(t, "zfs destroy "+snapshot)
		var lost *LostError
		if err := p.Lost(t.Context()); !errors.As(err, &lost) || lost.Why != "it was destroyed" {
			t.Errorf("%v", err)
		}
		if err := p.Open(t.Context()); err == nil {
			t.Error("it was opened")
		}
		must(t, p.Release(t.Context()))

		p = find(t, r)
		must(t, p.Freeze(t.Context()))
		sh(t, "zfs clone "+snapshot+" tank/mine")
		if err := p.Release(t.Context()); err == nil || !strings.Contains(err.Error(), "tank/mine") {
			t.Errorf("%v", err)
		}
		env.Eventually(t, time.Minute, "the clone's end", func() bool { // busy while FUSE unmounts
			return exec.Command("zfs", "destroy", "tank/mine").Run() == nil
		})
		must(t, p.Release(t.Context()))
		if got := datasets(t); !slices.Equal(got, []string{"tank"}) {
			t.Errorf("left: %v", got)
		}
	})
}

func TestZFSRefused(t *testing.T) {
	inZFS(t, func(t *testing.T) {
		r := request(t, "users", pool)
		r.Config.Driver, r.Roots[0].Users = ZFS, true
		r.Instance = strings.Repeat("x", datasetNameMax-len("tank/ocbackup--"+testSet+"-012345-0"))
		must(t, find(t, r).Rehearse(t.Context()))
		refused := func(why string) {
			t.Helper()
			if _, err := Find(t.Context(), r); fail.CodeOf(err) != fail.Usage || !strings.Contains(err.Error(), why) {
				t.Errorf("not %q but: %v", why, err)
			}
		}
		r.Instance += "x"
		refused("too long by 1")
		r.Instance = "a"
		path := os.Getenv("PATH")
		t.Setenv("PATH", "/nowhere")
		refused("install the package zfsutils-linux")
		t.Setenv("PATH", path)
		must(t, os.Mkdir("/run/elsewhere", 0o755))
		r.Roots[0].Path = "/run/elsewhere"
		refused("not on zfs")
	})
}

// The real ZFS shows its snapshots in the dataset: no clone is made, and none is removed.
func TestZFSShowsSnapshots(t *testing.T) {
	live := t.TempDir()
	v := &Volume{Driver: ZFS, Name: nameOf(request(t), 0), Source: "tank", Live: live}
	shown := filepath.Join(live, ".zfs/snapshot", v.Name)
	must(t, os.MkdirAll(shown, 0o755))
	t.Setenv("PATH", "/nowhere")
	if top, err := (zfs{}).open(t.Context(), v, t.TempDir()); err != nil || top != shown {
		t.Errorf("%s, %v", top, err)
	}
}
