package snapshot

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ocbackup/ocbackup/fail"
)

// copies is a driver for what is mounted in certain places, whose snapshots are copies in dir,
// and one that fails where a file system hardly can be made to.
type copies struct {
	dir    string
	points []string
	grown  int
	busy   error                  // destroy can't
	change func(top string) error // done to what open shows
}

func (d *copies) find(_ context.Context, m mount, path string, _ Config) (*Volume, string, string) {
	if !slices.Contains(d.points, m.Point) {
		return nil, "", ""
	}
	rel, _ := below(m.Point, path)
	return &Volume{Driver: "copies", Source: m.Point, Live: m.Point}, rel, ""
}

func (d *copies) check(context.Context, *Volume) error { return nil }

func (d *copies) create(_ context.Context, v *Volume) error {
	return os.CopyFS(filepath.Join(d.dir, v.Name), os.DirFS(v.Live))
}

func (d *copies) open(_ context.Context, v *Volume, _ string) (string, error) {
	top := filepath.Join(d.dir, v.Name)
	return top, d.change(top)
}

func (d *copies) close(context.Context, *Volume, string) error { return nil }

func (d *copies) destroy(_ context.Context, v *Volume) error {
	if d.busy != nil {
		return d.busy
	}
	return os.RemoveAll(filepath.Join(d.dir, v.Name))
}

func (d *copies) grow(context.Context, *Volume)                   { d.grown++ }
func (d *copies) lost(context.Context, *Volume) string            { return "" }
func (d *copies) list(context.Context, *Volume) ([]Volume, error) { return nil, nil }

// withCopies puts the driver into the table, and makes a tmpfs for it.
func withCopies(t *testing.T) (d *copies, root string) {
	t.Helper()
	need(t)
	d = &copies{dir: t.TempDir(), change: func(string) error { return nil }}
	before := drivers
	drivers = append(drivers[:len(drivers):len(drivers)], struct {
		name Driver
		driver
	}{"copies", d})
	t.Cleanup(func() { drivers = before })
	return d, d.root(t)
}

// root returns the path of a root on a tmpfs of its own.
func (d *copies) root(t *testing.T) string {
	dir := t.TempDir()
	sh(t, "mount -t tmpfs none "+dir)
	t.Cleanup(func() { must(t, unmount(context.Background(), dir)) })
	put(t, dir+"/srv/users/f", "1")
	d.points = append(d.points, dir)
	return dir + "/srv/users"
}

// A snapshot that the rehearsal could not remove is not made again over it, and not forgotten.
func TestRehearsalThatCantBeUndone(t *testing.T) {
	d, root := withCopies(t)
	d.busy = errors.New("still in use")
	d.change = func(string) error { return errors.New("can't be shown") }
	r := request(t, "users", root)
	p := find(t, r)
	must(t, p.Rehearse(t.Context()))
	if how, why := p.How("users"); how != None || !strings.Contains(why, "still in use") || !strings.Contains(why, "can't be shown") {
		t.Errorf("%s, %s", how, why)
	}
	must(t, p.Freeze(t.Context()), p.Open(t.Context()))
	if err := p.Release(t.Context()); err == nil || fail.CodeOf(err) != fail.Failed || !strings.Contains(err.Error(), root[:len(root)-len("/srv/users")]) {
		t.Errorf("release: %v", err)
	}
	o := SweepOptions{Instance: r.Instance, StateDir: r.StateDir, RunDir: r.RunDir}
	if removed, err := Sweep(t.Context(), o); err == nil || len(removed) > 0 {
		t.Errorf("swept %q, %v", removed, err)
	}
	d.busy = nil
	if removed, err := Sweep(t.Context(), o); err != nil || len(removed) != 1 {
		t.Errorf("swept %q, %v", removed, err)
	}
	nothingLeft(t, r)
	if left := list(t, d.dir); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// A snapshot that shows another thing than the root is found out: in the rehearsal by the
// inode, and where somebody put a symbolic link on the way.
func TestSomethingElse(t *testing.T) {
	d, root := withCopies(t)
	p := find(t, request(t, "users", root))
	must(t, p.Rehearse(t.Context())) // a copy has other inodes
	if how, why := p.How("users"); how != None || !strings.Contains(why, "something else") {
		t.Errorf("%s, %s", how, why)
	}

	d.change = func(top string) error {
		return errors.Join(os.Rename(top+"/srv", top+"/away"), os.Symlink("away", top+"/srv"))
	}
	p = find(t, request(t, "users", root))
	must(t, p.Freeze(t.Context()))
	if err := p.Open(t.Context()); err == nil || !strings.Contains(err.Error(), "symbolic link") {
		t.Errorf("open: %v", err)
	}
	must(t, p.Release(t.Context()))
}

// Of what the rehearsal could not remove, nothing is kept: neither where other roots are, nor
// where none is left.
func TestKeepOnlyWhatIsUsed(t *testing.T) {
	d, bad := withCopies(t)
	good, _ := loopFS(t, "btrfs", 128*megabytes)
	put(t, good+"/search/f", "2")
	for _, roots := range [][]string{{"users", bad}, {"users", bad, "search", good + "/search"}} {
		r := request(t, roots...)
		p := find(t, r)
		d.busy = errors.New("still in use")
		d.change = func(string) error { return errors.New("can't be shown") }
		must(t, p.Rehearse(t.Context()), p.Freeze(t.Context()), p.Open(t.Context()))
		if err := p.Keep(t.Context(), time.Now().Add(time.Hour)); err == nil || !strings.Contains(err.Error(), "still in use") {
			t.Errorf("keep: %v", err)
		}
		d.busy = nil
		must(t, p.Keep(t.Context(), time.Now().Add(time.Hour)))
		if left := list(t, d.dir); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
		kept, err := Kept(r.StateDir)
		must(t, err)
		if len(roots) == 2 && len(kept) > 0 || len(roots) > 2 && (len(kept) != 1 || len(kept[0].Volumes) != 1 || kept[0].Volumes[0].Driver != Btrfs) {
			t.Errorf("kept of %v: %+v", roots, kept)
		}
		if len(kept) > 0 {
			expire(t, r)
			_, err = Sweep(t.Context(), SweepOptions{StateDir: r.StateDir, RunDir: r.RunDir})
			must(t, err)
		}
		nothingLeft(t, r, good)
	}
}

// What is still in memory is on the disk before the rehearsal begins, which then is quick.
func TestRehearseWritesFirst(t *testing.T) {
	d, _ := withCopies(t)
	dir, _ := loopFS(t, "ext4", 16*megabytes)
	d.points = []string{dir}
	const content = "what no disk has seen yet"
	put(t, dir+"/users/f", content)
	var onDisk bool
	d.change = func(string) error {
		onDisk = strings.Contains(get(t, filepath.Dir(dir)+"/image"), content)
		return nil
	}
	must(t, find(t, request(t, "users", dir+"/users")).Rehearse(t.Context()))
	if !onDisk {
		t.Error("it was not")
	}
}

// Snapshots get more room while they are watched. To ask for one changes nothing.
func TestOnlyWatchGrows(t *testing.T) {
	d, root := withCopies(t)
	p := find(t, request(t, "users", root))
	must(t, p.Freeze(t.Context()), p.Lost(t.Context()), p.rec.Lost(t.Context()))
	if d.grown > 0 {
		t.Error("Lost has grown it")
	}
	must(t, p.watchOnce(t.Context()))
	if d.grown != 1 {
		t.Errorf("grown %d times", d.grown)
	}
}
