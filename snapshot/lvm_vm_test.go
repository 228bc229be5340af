package snapshot

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ocbackup/ocbackup/fail"
)

// volumeGroup makes a volume group on a disk of so many MiB. Tests with one need the device
// mapper, and so a machine of their own.
func volumeGroup(t *testing.T, name, mib string) {
	t.Helper()
	if os.Getenv("OCBACKUP_VM") == "" {
		t.Skip("runs in a virtual machine: make test-vm")
	}
	disk := filepath.Join(t.TempDir(), "disk")
	device := strings.TrimSpace(sh(t, "truncate -s "+mib+"M "+disk+"; losetup --find --show "+disk))
	t.Cleanup(func() { sh(t, "losetup -d "+device) })
	sh(t, "vgcreate -q "+name+" "+device)
	t.Cleanup(func() { sh(t, "vgremove -q -ff -y "+name) })
}

// kinds of logical volumes: all that is asked of one is asked of the other.
var kinds = []string{"classic", "thin"}

// newLogicalVolume makes and mounts one: a classic one, or a thin one with a pool of 100 MiB.
func newLogicalVolume(t *testing.T, kind, fs, vg, lv string) (dir string) {
	t.Helper()
	size := "64M"
	if fs == "xfs" {
		size = "304M" // mkfs.xfs wants 300
	}
	if kind == "thin" {
		sh(t, "lvcreate -q --type thin-pool --size 100M --name pool "+vg)
		sh(t, "lvcreate -q --virtualsize "+size+" --thinpool pool --name "+lv+" "+vg)
	} else {
		sh(t, "lvcreate -q --size "+size+" --name "+lv+" "+vg)
	}
	mkfs := map[string]string{"ext4": "mkfs.ext4 -E lazy_itable_init=0", "xfs": "mkfs.xfs"}[fs] // nothing writes later
	sh(t, mkfs+" -q /dev/"+vg+"/"+lv)
	dir = filepath.Join(t.TempDir(), "mnt")
	mountDevice(t, "/dev/"+vg+"/"+lv, fs, dir)
	return dir
}

// volumeNames are those of a group, in order.
func volumeNames(t *testing.T, vg string) []string {
	t.Helper()
	names := strings.Fields(sh(t, "lvs --noheadings -o lv_name "+vg))
	slices.Sort(names)
	return names
}

// noSnapshots fails if there is a snapshot of ours in the group.
func noSnapshots(t *testing.T, vg string) {
	t.Helper()
	if names := volumeNames(t, vg); strings.Contains(strings.Join(names, " "), "ocbackup") {
		t.Errorf("left: %v", names)
	}
}

// write writes n times 100 KiB, all of which the disk gets to see.
func write(t *testing.T, path string, n int) {
	t.Helper()
	sh(t, fmt.Sprintf("dd status=none if=/dev/urandom of=%s bs=100K iflag=fullblock conv=fsync count=%d", path, n))
}

// The view shows what was there at the freeze, also what no disk had seen yet, whatever
// becomes of the live tree.
func TestLVMViewStaysAsItWas(t *testing.T) {
	for _, kind := range kinds {
		for _, fs := range []string{"ext4", "xfs"} {
			t.Run(kind+" "+fs, func(t *testing.T) {
				volumeGroup(t, "vg", "600")
				top := newLogicalVolume(t, kind, fs, "vg", "data")
				root := filepath.Join(top, "users")
				put(t, root+"/f", "before")
				put(t, root+"/goes", "before")
				r := request(t, "users", root)
				p := find(t, r)
				if d, why := p.How("users"); d != LVM {
					t.Fatalf("%s: %s", d, why)
				}
				must(t, p.Rehearse(t.Context()))
				noSnapshots(t, "vg")

				put(t, root+"/f", "at the freeze")
				must(t, unix.Setxattr(root+"/f", "user.oc", []byte("at the freeze"), 0))
				open, err := os.Create(root + "/open and removed") // only a journal knows it then
				must(t, err, os.Remove(open.Name()))
				defer open.Close()
				must(t, p.Freeze(t.Context()))
				put(t, root+"/f", "after")
				put(t, root+"/comes", "after")
				must(t, unix.Setxattr(root+"/f", "user.oc", []byte("after"), 0), os.Remove(root+"/goes"))
				sh(t, "sync -f "+top)
				must(t, p.Open(t.Context()))

				view := p.View("users")
				if got := list(t, view); !slices.Equal(got, []string{"f", "goes"}) {
					t.Errorf("the view holds %v", got)
				}
				attr := make([]byte, 100)
				n, err := unix.Getxattr(view+"/f", "user.oc", attr)
				if got := get(t, view+"/f"); err != nil || got != "at the freeze" || string(attr[:n]) != got {
					t.Errorf("the view says %q, %q, %v", got, attr[:n], err)
				}
				if err := os.WriteFile(view+"/f", nil, 0o600); !errors.Is(err, unix.EROFS) {
					t.Errorf("writing into the view: %v", err)
				}
				must(t, p.Lost(t.Context()), p.Release(t.Context()))
				noSnapshots(t, "vg")
				nothingLeft(t, r)
				if got := get(t, root+"/f"); got != "after" {
					t.Errorf("the live tree says %q", got)
				}
			})
		}
	}
}

// Dots and hyphens in all names, roots on a bind mount and beside it, and a single file:
// all with one snapshot.
func TestLVMPlaces(t *testing.T) {
	volumeGroup(t, "vg-a.b", "200")
	top := newLogicalVolume(t, "classic", "ext4", "vg-a.b", "data-1.x")
	put(t, top+"/docker/volumes/x/_data/f", "users")
	put(t, top+"/meta/f", "metadata")
	put(t, top+"/etc/oc.yaml", "config")
	bound := filepath.Join(t.TempDir(), "var lib docker")
	bindMount(t, top+"/docker", bound)

	r := request(t, "users", bound+"/volumes/x/_data", "metadata", top+"/meta", "config", top+"/etc/oc.yaml", "all", top)
	r.Instance = "a-b.c"
	p := frozen(t, r)
	if names := volumeNames(t, "vg-a.b"); !slices.Equal(names, []string{"data-1.x", nameOf(r, 0)}) {
		t.Errorf("%v", names)
	}
	for root, file := range map[string]string{"users": "/f", "metadata": "/f", "config": "", "all": "/docker/volumes/x/_data/f"} {
		if got := get(t, p.View(root)+file); got != strings.Replace(root, "all", "users", 1) {
			t.Errorf("%s: %q", root, got)
		}
	}
	must(t, p.Release(t.Context()))
	noSnapshots(t, "vg-a.b")
	nothingLeft(t, r)
}

// The longest name that the device mapper takes works, and one longer is refused before
// lvcreate breaks down over it.
func TestLVMNameTooLong(t *testing.T) {
	volumeGroup(t, "vg-a.b", "200")
	top := newLogicalVolume(t, "classic", "ext4", "vg-a.b", "data")
	r := request(t, "users", top)
	// The longest of the names that dmsetup ls shows.
	without := len("vg--a.b-ocbackup----" + strings.ReplaceAll(testSet, "-", "--") + "--012345--0-cow")
	r.Instance = strings.Repeat("x", 127-without)
	p := frozen(t, r)
	if d, why := p.How("users"); d != LVM {
		t.Errorf("127 characters: %s", why)
	}
	must(t, p.Release(t.Context()))
	r.Instance += "x"
	if d, why := find(t, r).How("users"); d != None || !strings.Contains(why, "too long by 1") {
		t.Errorf("128 characters: %s, %q", d, why)
	}
}

// A classic snapshot that fills up.
func TestLVMOverflow(t *testing.T) {
	freeze := func(t *testing.T) (p *Plan, top string) {
		volumeGroup(t, "vg", "200")
		top = newLogicalVolume(t, "classic", "ext4", "vg", "data")
		put(t, top+"/f", "before")
		r := request(t, "users", top)
		r.Config.LVMSize = "8m"
		return frozen(t, r), top
	}
	state := func(t *testing.T) string {
		return sh(t, "lvs --noheadings -o lv_size,lv_attr --select origin=data vg")
	}

	t.Run("room in the volume group", func(t *testing.T) {
		p, top := freeze(t)
		for i := range 3 {
			write(t, top+"/"+strings.Repeat("x", i+1), 68)
			before := state(t)
			must(t, p.Lost(t.Context()))
			if s := state(t); s != before {
				t.Errorf("to look has changed it: %s", s)
			}
			must(t, p.watchOnce(t.Context()))
		}
		if s := state(t); strings.Contains(s, " 8.00m") || !strings.Contains(s, "swi-a") {
			t.Errorf("not extended: %s", s)
		}
		if got := get(t, p.View("users")+"/f"); got != "before" {
			t.Errorf("the view says %q", got)
		}
	})
	t.Run("none", func(t *testing.T) {
		p, top := freeze(t)
		sh(t, "lvcreate -q --extents 100%FREE --name rest vg")
		write(t, top+"/big", 60)
		must(t, p.watchOnce(t.Context()))
		var err error
		for i := 0; err == nil && i < 50; i++ {
			write(t, top+"/"+strings.Repeat("x", i+1), 1)
			err = p.watchOnce(t.Context())
		}
		var lost *LostError
		if !errors.As(err, &lost) || lost.Volume != top || !strings.Contains(lost.Why, "% of which are taken up") {
			t.Errorf("%v", err)
		}
		if s := state(t); !strings.Contains(s, "swi-a") {
			t.Errorf("told too late: %s", s)
		}
		must(t, p.Release(t.Context()))
		if names := volumeNames(t, "vg"); !slices.Equal(names, []string{"data", "rest"}) {
			t.Errorf("left: %v", names)
		}
	})
	t.Run("all the room that it can need", func(t *testing.T) {
		volumeGroup(t, "vg", "400")
		top := newLogicalVolume(t, "classic", "ext4", "vg", "data")
		sh(t, "lvextend -q --size 128M vg/data")
		r := request(t, "users", top)
		r.Config.LVMSize = "200m"
		p := frozen(t, r)
		sh(t, "umount "+top+"; dd status=none if=/dev/zero of=/dev/vg/data bs=1M count=128 conv=fsync")
		if data := sh(t, "lvs --noheadings -o data_percent --select origin=data vg"); strings.TrimSpace(data) < "95" {
			t.Errorf("only %s %% are taken up", data)
		}
		must(t, p.Lost(t.Context()))
	})
	t.Run("too fast", func(t *testing.T) {
		p, top := freeze(t)
		write(t, top+"/big", 200)
		var lost *LostError
		if err := p.Watch(t.Context()); !errors.As(err, &lost) || !strings.Contains(lost.Why, "8.0 MiB of changes, and there were more") {
			t.Errorf("%v", err)
		}
		must(t, p.Release(t.Context()))
		noSnapshots(t, "vg")
	})
}

// A thin pool that fills up: the snapshot goes before the server's writes fail, and there is
// no new one.
func TestLVMThinPoolFull(t *testing.T) {
	volumeGroup(t, "vg", "300")
	top := newLogicalVolume(t, "thin", "xfs", "vg", "data")
	r := request(t, "users", top)
	p := frozen(t, r)
	write(t, top+"/big", 100)
	must(t, p.Lost(t.Context()))
	var err error
	for i := 0; err == nil && i < 50; i++ {
		write(t, top+"/"+strings.Repeat("x", i+1), 10)
		err = p.Lost(t.Context())
	}
	var lost *LostError
	if !errors.As(err, &lost) || !strings.Contains(lost.Why, "thin pool vg/pool is full: 9") {
		t.Errorf("%v", err)
	}
	write(t, top+"/still", 10)
	must(t, p.Release(t.Context()))
	noSnapshots(t, "vg")
	// The snapshot has taken something with it: the pool is filled again.
	d, why := find(t, r).How("users")
	for i := 0; d == LVM && i < 10; i++ {
		write(t, top+"/"+strings.Repeat("y", i+1), 10)
		d, why = find(t, r).How("users")
	}
	if d != None || !strings.Contains(why, "make room") {
		t.Errorf("%s, %q", d, why)
	}
}

// No room for a classic snapshot: told before anything is made, and where it has gone only
// after that, by the freeze.
func TestLVMNoRoom(t *testing.T) {
	volumeGroup(t, "vg", "200")
	r := request(t, "users", newLogicalVolume(t, "classic", "ext4", "vg", "data"))
	r.Roots[0].Users = true
	p := find(t, r)
	must(t, p.Rehearse(t.Context()))
	sh(t, "lvcreate -q --extents 100%FREE --name rest vg; lvreduce -q -f --size -8m vg/rest") // 20 % are 12.8 MiB
	if err := p.Freeze(t.Context()); err == nil || !strings.Contains(err.Error(), "insufficient free space") {
		t.Errorf("freeze: %v", err)
	}
	must(t, p.Release(t.Context()))
	noSnapshots(t, "vg")

	if d, why := find(t, r).How("users"); d != None || !strings.Contains(why, "insufficient free space") {
		t.Errorf("find: %s, %q", d, why)
	}
	r.Config.Driver = LVM
	if _, err := Find(t.Context(), r); fail.CodeOf(err) != fail.Usage || !strings.Contains(err.Error(), "insufficient free space") {
		t.Errorf("find of the driver lvm: %v", err)
	}
	r.Config.LVMSize = "4m"
	must(t, find(t, r).Rehearse(t.Context()))
	r.Config.LVMSize = "4 loaves"
	if _, err := Find(t.Context(), r); fail.CodeOf(err) != fail.Usage || !strings.Contains(err.Error(), "4 loaves") {
		t.Errorf("no size: %v", err)
	}
}

func TestLVMWithoutPrograms(t *testing.T) {
	volumeGroup(t, "vg", "100")
	r := request(t, "users", newLogicalVolume(t, "classic", "ext4", "vg", "data"))
	path := os.Getenv("PATH")
	t.Setenv("PATH", "/nowhere")
	_, why := find(t, r).How("users")
	t.Setenv("PATH", path)
	if !strings.Contains(why, "install the package lvm2") {
		t.Errorf("%q", why)
	}
}

// What runs that died have left goes, with a record and without, and nothing else.
func TestLVMLeftOvers(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			volumeGroup(t, "vg", "300")
			top := newLogicalVolume(t, kind, "ext4", "vg", "data")
			put(t, top+"/f", "before")
			size := ""
			if kind == "classic" {
				size = " --size 8m"
			}
			r := request(t, "users", top)
			others := append(othersNames(r), "mine")
			dead := r
			dead.Set = otherSet
			stray := nameOf(dead, 0)
			for _, name := range append(others, stray) {
				sh(t, "lvcreate -q --snapshot --name "+name+size+" vg/data")
			}
			before := volumeNames(t, "vg")
			before = slices.DeleteFunc(before, func(n string) bool { return n == stray })
			frozen(t, r) // and then it dies
			removed, err := Sweep(t.Context(), SweepOptions{Instance: r.Instance, StateDir: r.StateDir, RunDir: r.RunDir, Near: []string{top}})
			if err != nil || len(removed) != 2 {
				t.Errorf("%v, %v", removed, err)
			}
			if after := volumeNames(t, "vg"); !slices.Equal(after, before) {
				t.Errorf("left are %v, not %v", after, before)
			}
			nothingLeft(t, r)
		})
	}
}

// A kept snapshot can be read later, also after a boot, which does not activate thin ones.
func TestLVMKept(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			volumeGroup(t, "vg", "600")
			top := newLogicalVolume(t, kind, "xfs", "vg", "data")
			put(t, top+"/f", "before")
			r := request(t, "users", top)
			must(t, frozen(t, r).Keep(t.Context(), time.Now().Add(time.Hour)))
			put(t, top+"/f", "after")
			if kind == "thin" {
				sh(t, "lvchange -q --activate n vg/"+nameOf(r, 0))
			}
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
			noSnapshots(t, "vg")
			nothingLeft(t, r)
		})
	}
}

// Somebody else removes the snapshot.
func TestLVMRemoved(t *testing.T) {
	volumeGroup(t, "vg", "200")
	r := request(t, "users", newLogicalVolume(t, "classic", "ext4", "vg", "data"))
	p := find(t, r)
	must(t, p.Freeze(t.Context()), p.Lost(t.Context()))
	sh(t, "lvremove -q -f vg/"+nameOf(r, 0))
	var lost *LostError
	if err := p.Lost(t.Context()); !errors.As(err, &lost) || lost.Why != "it was removed" {
		t.Errorf("%v", err)
	}
	if err := p.Open(t.Context()); err == nil {
		t.Error("it was opened")
	}
	must(t, p.Release(t.Context()))
}

// A process that is in the snapshot keeps it, in another mount namespace as well.
func TestLVMHeld(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			volumeGroup(t, "vg", "300")
			r := request(t, "users", newLogicalVolume(t, kind, "ext4", "vg", "data"))
			p := frozen(t, r)
			holder := exec.CommandContext(t.Context(), "unshare", "--mount", "sh", "-c", "cd "+p.View("users")+"; echo; exec sleep 1000")
			out, err := holder.StdoutPipe()
			must(t, err, holder.Start())
			if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
				t.Fatal(err)
			}
			if err := p.Release(t.Context()); err == nil || !strings.Contains(err.Error(), "in use") {
				t.Errorf("held: %v", err)
			}
			must(t, holder.Process.Kill())
			_ = holder.Wait()
			must(t, p.Release(t.Context()))
			noSnapshots(t, "vg")
			nothingLeft(t, r)
		})
	}
}
