package commands

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ocbackup/ocbackup/manifest"
)

// downtimes are sets of one instance that was away for so long.
func downtimes(seconds ...float64) (sets []setView) {
	for i, s := range seconds {
		sets = append(sets, setView{Set: fmt.Sprint(i), Instance: "cloud", Downtime: s, Parts: &manifest.Downtime{Total: s}})
	}
	return sets
}

func TestTrend(t *testing.T) {
	for _, x := range []struct {
		name string
		sets []setView
		want string // sets median least most last
	}{
		{"none", nil, ""},
		{"one", downtimes(2), "1 2 2 2 2"},
		{"even number", downtimes(4, 1, 3, 2), "4 2.5 1 4 2"},
		{"odd number", downtimes(4, 1, 3), "3 3 1 4 3"},
		{"the last ten", downtimes(99, 99, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10), "10 5.5 1 10 10"},
		{"stopped before", append(downtimes(2), setView{Instance: "cloud"}), "1 2 2 2 2"},
		{"damaged, of no instance", append([]setView{{State: setDamaged}}, downtimes(2)...), "1 2 2 2 2"},
		{"two instances", append(downtimes(2), setView{Instance: "other", Downtime: 9, Parts: &manifest.Downtime{}}), ""},
	} {
		got := ""
		if tr := trendOf(x.sets); tr != nil {
			got = fmt.Sprint(tr.Sets, tr.Median, tr.Least, tr.Most, tr.Last)
		}
		if got != x.want {
			t.Errorf("%s: got %q, want %q", x.name, got, x.want)
		}
	}
}

func TestPrintTrend(t *testing.T) {
	var b bytes.Buffer
	printTrend(&b, downtimes(7))
	if b.Len() > 0 {
		t.Errorf("one set is no trend: %s", &b)
	}
	sets := downtimes(9.1, 7.7, 6.9, 7.2)
	sets[3].Parts = &manifest.Downtime{Stop: 3.1, Freeze: 0.2, Bucket: 1.2, Start: 0.3, Ready: 2.4}
	printTrend(&b, sets)
	if want := "\nDowntime of the last 4 sets: 7.5 s median (6.9 s to 9.1 s), last 7.2 s\n" +
		"The last: stop 3.1 s, freeze 0.2 s, bucket 1.2 s, start 0.3 s, ready 2.4 s\n"; b.String() != want {
		t.Errorf("got %q, want %q", b.String(), want)
	}
	if got := trendOf(downtimes(3, 0.1, 6, 5.9)).bars(); got != "▅▁██" {
		t.Errorf("got %s", got)
	}
}

// TestPrintSets: all that is told of a set fits on 100 columns.
func TestPrintSets(t *testing.T) {
	now := time.Date(2026, 11, 23, 20, 0, 0, 0, time.UTC)
	set := setView{
		Set: "20261123T021500Z-7f3a", Frozen: now.Add(-18 * time.Hour), OpenCloud: "4.0.0-rc.3", Driver: "posix",
		Bytes: 118 << 30, Added: 1300 << 20, Downtime: 7.74, Search: "sound", Taken: "btrfs, final pass", State: setComplete,
	}
	var b bytes.Buffer
	printSets(&b, []setView{set}, now)
	if strings.Contains(b.String(), "*") {
		t.Errorf("no snapshots are kept:\n%s", &b)
	}
	set.Local = now.Add(time.Hour)
	b.Reset()
	printSets(&b, []setView{set}, now)
	for _, want := range []string{"TAKEN", "btrfs, final *", "7.7 s", "* Its snapshots are still on this host"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, &b)
		}
	}
	for line := range strings.Lines(b.String()) {
		if len(line) > 101 {
			t.Errorf("%d columns: %s", len(line)-1, line)
		}
	}
}

// TestPrintSet: the parts of the downtime, and how each root was taken.
func TestPrintSet(t *testing.T) {
	s := &manifest.Set{ID: "20261123T021500Z-7f3a", Manifest: &manifest.Manifest{
		Taken: "btrfs, final pass", WasRunning: true, Full: true,
		Downtime: manifest.Downtime{Total: 7.7, Stop: 3.1, Freeze: 0.2, Store: 0.1, Start: 1, Ready: 3.3, Predicted: 8.2},
		Roots:    []manifest.Root{{Taken: manifest.TakenFinal}, {Taken: "btrfs"}},
	}}
	until := time.Date(2026, 11, 24, 2, 15, 0, 0, time.Local)
	var b bytes.Buffer
	printSet(&b, s, map[string]time.Time{s.ID: until})
	for _, want := range []string{
		"7.7 s: stop 3.1 s, freeze 0.2 s, store 0.1 s, start 1.0 s, ready 3.3 s\n", "predicted: 8.2 s\n",
		"its snapshots, until 2026-11-24 02:15:00 at least", "TAKEN", " final pass ", " btrfs ",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, &b)
		}
	}
	b.Reset()
	s.Manifest.Downtime.Freeze, s.Manifest.Downtime.Predicted = 0, 0
	printSet(&b, s, nil)
	for _, none := range []string{"freeze", "predicted", "on this host"} {
		if strings.Contains(b.String(), none) {
			t.Errorf("%q in\n%s", none, &b)
		}
	}
}
