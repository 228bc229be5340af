package snapshot

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// after is a set's plan, as it is when the run died: frozen, opened, forgotten.
func after(t *testing.T, r Request, instance, set string) *Plan {
	t.Helper()
	r.Instance, r.Set = instance, set
	p := frozen(t, r)
	return p
}

// Sweep removes what runs that died have left, and nothing else.
func TestSweep(t *testing.T) {
	need(t, "btrfs")
	const (
		dead    = "20261101T000000Z-0000"
		lostSet = "20261102T000000Z-0000" // its record is lost
		kept    = "20261103T000000Z-0000"
		over    = "20261104T000000Z-0000"
		gone    = "20261105T000000Z-0000" // was kept, and somebody has removed it
		newer   = "20261106T000000Z-0000" // of a later version of ocbackup
	)
	top, _ := loopFS(t, "btrfs", 128*megabytes)
	put(t, top+"/users/f", "1")
	r := request(t, "users", top+"/users")
	plans := map[string]*Plan{}
	for _, set := range []string{dead, lostSet, kept, over, gone, newer} {
		plans[set] = after(t, r, "a", set)
	}
	after(t, r, "a-b", "20261107T000000Z-0000")
	elsewhere := r // another state directory: a run is at work there
	elsewhere.StateDir = t.TempDir()
	other := after(t, elsewhere, "a", "20261108T000000Z-0000")
	name := func(instance, set string) string { return makeName(ownerOf(instance, r.StateDir), set, 0) }
	later := time.Now().Add(time.Hour)
	must(t, plans[kept].Keep(t.Context(), later), plans[gone].Keep(t.Context(), later), plans[over].Keep(t.Context(), time.Now().Add(-time.Hour)))
	sh(t, "btrfs subvolume delete "+top+"/"+btrfsDir+"/"+name("a", gone))
	must(t, os.Remove(recordFile(r.StateDir, lostSet)))
	must(t, os.WriteFile(recordFile(r.StateDir, newer), []byte(`{"format":2}`), 0o600))
	mine := []string{"ocbackup-a", "ocbackup-a-" + dead, name("a", dead) + "-x", name("aa", dead), "mine"}
	for _, n := range mine {
		sh(t, "btrfs subvolume create "+top+"/"+btrfsDir+"/"+n)
	}
	sh(t, "btrfs subvolume create "+top+"/"+name("a", dead))

	o := SweepOptions{
		Instance: "a", StateDir: r.StateDir, RunDir: r.RunDir, Near: []string{top + "/users", top, "/no/such/path"},
	}
	removed, err := Sweep(t.Context(), o)
	if err == nil || !strings.Contains(err.Error(), newer) || !strings.Contains(err.Error(), "format 2") {
		t.Errorf("a record that can't be read: %v", err)
	}
	if len(removed) != 4 || !strings.Contains(removed[0], "btrfs snapshot "+name("a", dead)+" of "+top) {
		t.Errorf("removed: %q", removed)
	}
	if all := strings.Join(removed, "\n"); !strings.Contains(all, name("a", gone)+" of "+top+" (") || !strings.Contains(all, "somebody has removed it") {
		t.Errorf("not told why one that was kept is removed: %q", removed)
	}
	want := append(mine, name("a", kept), name("a", newer), name("a-b", "20261107T000000Z-0000"), other.rec.Volumes[0].Name)
	slices.Sort(want)
	if got := list(t, top+"/"+btrfsDir); !slices.Equal(got, want) {
		t.Errorf("there are %q, want %q", got, want)
	}
	if _, err := os.Stat(top + "/" + name("a", dead)); err != nil {
		t.Errorf("what lies elsewhere: %v", err)
	}
	all, err := mounts()
	must(t, err)
	for _, m := range all {
		if rel, in := below(filepath.Join(r.RunDir, "a"), m.Point); in && !strings.HasPrefix(rel, newer) && !strings.HasPrefix(rel, other.rec.Set) {
			t.Errorf("still mounted: %s", m.Point)
		}
	}
	if got := get(t, other.View("users")+"/f"); got != "1" {
		t.Errorf("with another state directory: %q", got)
	}

	again, _ := Sweep(t.Context(), o)
	if len(again) > 0 {
		t.Errorf("swept again: %q", again)
	}
}

// After a power loss there are no mounts, and what was made last may be there or not.
func TestSweepAfterReboot(t *testing.T) {
	need(t, "btrfs")
	top, device := loopFS(t, "btrfs", 128*megabytes)
	put(t, top+"/users/f", "1")
	r := request(t, "users", top+"/users")
	after(t, r, instance, testSet)
	p := after(t, r, instance, otherSet)
	must(t, p.rec.view(r.RunDir).Close(t.Context()), clearMounts(t.Context(), r.RunDir))
	sh(t, "umount "+top)
	sh(t, "mount "+device+" "+top+"; btrfs subvolume delete "+top+"/"+btrfsDir+"/*"+testSet+"*")
	o := SweepOptions{Instance: instance, StateDir: r.StateDir, RunDir: r.RunDir}
	if removed, err := Sweep(t.Context(), o); err != nil || len(removed) != 2 {
		t.Errorf("removed %q, %v", removed, err)
	}
	nothingLeft(t, r, top)
}

// A file system that is not mounted any more is in the way of nobody. If it comes back, what
// is left on it is found by name; and what is kept on it is kept.
func TestSweepNotMounted(t *testing.T) {
	need(t, "btrfs")
	top, device := loopFS(t, "btrfs", 128*megabytes)
	put(t, top+"/users/f", "1")
	r := request(t, "users", top+"/users")
	dead := after(t, r, instance, testSet)
	kept := after(t, r, instance, otherSet)
	must(t, kept.Keep(t.Context(), time.Now().Add(time.Hour)))
	must(t, dead.rec.view(r.RunDir).Close(t.Context()))
	sh(t, "umount "+top)
	o := SweepOptions{Instance: instance, StateDir: r.StateDir, RunDir: r.RunDir, Near: []string{top + "/users"}}
	if removed, err := Sweep(t.Context(), o); err != nil || len(removed) != 1 {
		t.Errorf("before it is mounted: %q, %v", removed, err)
	}
	if found, err := (btrfs{}).list(t.Context(), &dead.rec.Volumes[0]); err != nil || len(found) > 0 {
		t.Errorf("%v, %v", found, err)
	}
	sh(t, "mount "+device+" "+top)
	if removed, err := Sweep(t.Context(), o); err != nil || len(removed) != 1 || !strings.Contains(removed[0], testSet) {
		t.Errorf("found by name: %q, %v", removed, err)
	}
	if got := list(t, top+"/"+btrfsDir); !slices.Equal(got, []string{kept.rec.Volumes[0].Name}) {
		t.Errorf("there are %q", got)
	}
}

// A kept snapshot can be read, until its time is over.
func TestKept(t *testing.T) {
	need(t, "btrfs")
	top, _ := loopFS(t, "btrfs", 128*megabytes)
	put(t, top+"/users/f", "1")
	ext4, _ := loopFS(t, "ext4", 16*megabytes)
	r := request(t, "users", top+"/users", "config", ext4)
	p := frozen(t, r)
	until := time.Now().Add(time.Hour).Truncate(time.Second)
	must(t, p.Keep(t.Context(), until), p.Release(t.Context()))
	put(t, top+"/users/f", "2")

	if data := get(t, recordFile(r.StateDir, r.Set)); !json.Valid([]byte(data)) || !strings.Contains(data, `"format": 1`) {
		t.Errorf("the record: %s", data)
	}
	all, err := Kept(r.StateDir)
	must(t, err)
	if len(all) != 1 || all[0].Set != r.Set || all[0].Instance != r.Instance || !all[0].Until.Equal(until) ||
		len(all[0].Roots) != 1 || all[0].Roots["users"].Driver != Btrfs || all[0].Roots["users"].Path != top+"/users" {
		t.Fatalf("kept: %+v", all)
	}
	for range 2 { // the second time with what one that died has left
		v, err := OpenKept(t.Context(), all[0], r.RunDir)
		must(t, err)
		if got := get(t, v.Path("users")+"/f"); got != "1" {
			t.Errorf("kept: %s", got)
		}
		if v.Path("config") != "" {
			t.Errorf("config: %s", v.Path("config"))
		}
	}
	v, err := OpenKept(t.Context(), all[0], r.RunDir)
	must(t, err)
	must(t, v.Close(t.Context()), v.Close(t.Context()))

	o := SweepOptions{Instance: instance, StateDir: r.StateDir, RunDir: r.RunDir, Near: []string{top}}
	if removed, err := Sweep(t.Context(), o); err != nil || len(removed) > 0 {
		t.Errorf("swept before its time is over: %q, %v", removed, err)
	}
	must(t, all[0].Lost(t.Context()))
	sh(t, "btrfs subvolume delete "+top+"/"+btrfsDir+"/*")
	var lost *LostError
	if err := all[0].Lost(t.Context()); !errors.As(err, &lost) || lost.Volume != top {
		t.Errorf("lost: %v", err)
	}
	if _, err := OpenKept(t.Context(), all[0], r.RunDir); err == nil || !strings.Contains(err.Error(), testSet) {
		t.Errorf("one that somebody removed: %v", err)
	}
	if removed, err := Sweep(t.Context(), o); err != nil || len(removed) != 1 {
		t.Errorf("swept, since it is lost: %q, %v", removed, err)
	}
	nothingLeft(t, r, top)
}
