package snapshot

import (
	"encoding/json"
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
		dropped = "20261105T000000Z-0000"
		newer   = "20261106T000000Z-0000" // of a later version of ocbackup
	)
	top, _ := loopFS(t, "btrfs", 128*megabytes)
	put(t, top+"/users/f", "1")
	r := request(t, "users", top+"/users")
	plans := map[string]*Plan{}
	for _, set := range []string{dead, lostSet, kept, over, dropped, newer} {
		plans[set] = after(t, r, "a", set)
	}
	after(t, r, "a-b", "20261107T000000Z-0000")
	later := time.Now().Add(time.Hour)
	must(t, plans[kept].Keep(t.Context(), later), plans[dropped].Keep(t.Context(), later), plans[over].Keep(t.Context(), time.Now().Add(-time.Hour)))
	must(t, os.Remove(recordFile(r.StateDir, lostSet)))
	must(t, os.WriteFile(recordFile(r.StateDir, newer), []byte(`{"format":2}`), 0o600))
	other := []string{"ocbackup-a", "ocbackup-a-" + dead, "ocbackup-a-" + dead + "-x", "ocbackup-aa-" + dead + "-0", "mine"}
	for _, n := range other {
		sh(t, "btrfs subvolume create "+top+"/"+btrfsDir+"/"+n)
	}
	sh(t, "btrfs subvolume create "+top+"/ocbackup-a-"+dead+"-0")

	o := SweepOptions{
		Instance: "a", StateDir: r.StateDir, RunDir: r.RunDir, Near: []string{top + "/users", top, "/no/such/path"},
		Drop: func(rec Record) bool { return rec.Set == dropped },
	}
	removed, err := Sweep(t.Context(), o)
	if err == nil || !strings.Contains(err.Error(), newer) || !strings.Contains(err.Error(), "format 2") {
		t.Errorf("a record that can't be read: %v", err)
	}
	if len(removed) != 4 || !strings.Contains(removed[0], "btrfs snapshot ocbackup-a-"+dead+"-0 of "+top) {
		t.Errorf("removed: %q", removed)
	}
	want := append(other, "ocbackup-a-"+kept+"-0", "ocbackup-a-"+newer+"-0", "ocbackup-a-b-20261107T000000Z-0000-0")
	slices.Sort(want)
	if got := list(t, top+"/"+btrfsDir); !slices.Equal(got, want) {
		t.Errorf("there are %q, want %q", got, want)
	}
	if _, err := os.Stat(top + "/ocbackup-a-" + dead + "-0"); err != nil {
		t.Errorf("what lies elsewhere: %v", err)
	}
	all, err := mounts()
	must(t, err)
	for _, m := range all {
		if rel, in := below(filepath.Join(r.RunDir, "a"), m.Point); in && !strings.HasPrefix(rel, newer) {
			t.Errorf("still mounted: %s", m.Point)
		}
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
	o := SweepOptions{Instance: instance, StateDir: r.StateDir, RunDir: r.RunDir}
	if removed, err := Sweep(t.Context(), o); err == nil || !strings.Contains(err.Error(), "not mounted") || len(removed) != 0 {
		t.Errorf("before it is mounted: %q, %v", removed, err)
	}
	sh(t, "mount "+device+" "+top+"; btrfs subvolume delete "+top+"/"+btrfsDir+"/*"+testSet+"*")
	if removed, err := Sweep(t.Context(), o); err != nil || len(removed) != 2 {
		t.Errorf("removed %q, %v", removed, err)
	}
	nothingLeft(t, r, top)
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
		all[0].Driver("users") != Btrfs || all[0].Driver("config") != None || all[0].Roots["users"].Path != top+"/users" {
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
	sh(t, "btrfs subvolume delete "+top+"/"+btrfsDir+"/*")
	if _, err := OpenKept(t.Context(), all[0], r.RunDir); err == nil || !strings.Contains(err.Error(), testSet) {
		t.Errorf("one that somebody removed: %v", err)
	}
	o.Drop = func(Record) bool { return true }
	_, err = Sweep(t.Context(), o)
	must(t, err)
	nothingLeft(t, r, top)
}
