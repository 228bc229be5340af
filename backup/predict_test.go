package backup

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/ocbackup/ocbackup/census"
	"github.com/ocbackup/ocbackup/config"
	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/manifest"
	"github.com/ocbackup/ocbackup/opencloud"
	"github.com/ocbackup/ocbackup/opencloud/control"
	"github.com/ocbackup/ocbackup/progress"
	"github.com/ocbackup/ocbackup/repo"
	"github.com/ocbackup/ocbackup/snapshot"
)

// predicting is a run that is about to stop an instance with the given roots, after
// sets that took 3, 4 and 5 s to stop and start.
func predicting(roots ...*root) *run {
	r := newRun(Options{Config: &config.Config{}, Report: progress.Discard})
	r.before.State = control.Running
	r.plan = &snapshot.Plan{}
	for _, s := range []float64{3, 5, 4} {
		m := &manifest.Manifest{WasRunning: true, Downtime: manifest.Downtime{Stop: 1, Start: 1, Ready: s - 2, Total: 100}}
		if s == 5 { // the first: all had to be read
			m.Roots = []manifest.Root{{Root: opencloud.Root{Name: "users"}, Seconds: 7200, Added: 300 << 30}}
			r.sets = append(r.sets, manifest.Set{Manifest: m})
			continue
		}
		m.Roots = []manifest.Root{
			{Root: opencloud.Root{Name: "users"}, Seconds: 10 * s},
			{Root: opencloud.Root{Name: "config"}, Seconds: 1},
		}
		r.sets = append(r.sets, manifest.Set{Manifest: m})
	}
	for _, x := range roots {
		x.real, x.dir = "/srv/"+x.Name, true
	}
	r.roots = roots
	return r
}

func users(files, changed uint64, quiet time.Duration) *root {
	return &root{
		Root:    opencloud.Root{Name: "users", Components: []opencloud.Component{opencloud.Metadata, opencloud.Blobs}},
		parent:  "an old snapshot",
		files:   files,
		changes: census.Changes{Bytes: changed, Newest: time.Now().Add(-quiet)},
	}
}

func TestPrediction(t *testing.T) {
	seeded := users(100_000, 0, time.Hour)
	seeded.seed = &repo.Summary{}
	busy := users(100_000, 0, time.Second)
	busy.seed = &repo.Summary{}
	frozen := users(100_000, 0, 0)
	frozen.driver = snapshot.Btrfs
	unknown := users(100_000, 0, time.Second)
	unknown.Name = "new"
	for _, row := range []struct {
		name string
		root *root
		want time.Duration
	}{
		{"a pass as long as those before", users(100_000, 0, time.Second), 4*time.Second + 30*time.Second},
		{"a gigabyte to read", users(100_000, 100<<20*10, time.Second), 4*time.Second + 40*time.Second},
		{"stored before, and quiet", seeded, 4*time.Second + time.Second},
		{"stored before, and busy", busy, 4*time.Second + 30*time.Second},
		{"frozen", frozen, 4 * time.Second},
		{"never stored", unknown, 4*time.Second + 13*time.Second},
	} {
		got, sets := predicting(row.root).prediction()
		if sets != 3 || (got-row.want).Abs() > time.Second {
			t.Errorf("%s: %s by %d sets, want about %s by 3", row.name, got, sets, row.want)
		}
	}
	if got, sets := newRun(Options{}).prediction(); got != 0 || sets != 0 {
		t.Errorf("without any set: %s by %d", got, sets)
	}
}

// Sets whose bucket was copied outside the window say nothing of how long that takes in it.
func TestPredictionOfBucket(t *testing.T) {
	seeded := users(0, 0, time.Hour)
	seeded.seed = &repo.Summary{}
	r := predicting(seeded)
	r.mirror = &mirror{}
	for i, s := range []float64{0, 0, 20} {
		r.sets[i].Manifest.Bucket, r.sets[i].Manifest.Downtime.Bucket = &manifest.Bucket{}, s
	}
	if got, _ := r.prediction(); got != 24*time.Second {
		t.Errorf("in the window: %s, want 4 s and 20 s", got)
	}
	seeded.driver = snapshot.Btrfs
	if got, _ := r.prediction(); got != 4*time.Second {
		t.Errorf("outside of it: %s, want 4 s", got)
	}
}

func TestPredictionIsHeldAgainstTheLimit(t *testing.T) {
	r := predicting(users(100_000, 0, time.Second))
	r.Config.Backup.MaxDowntime = 35 * time.Second
	if err := r.predict(); err != nil || r.down.Predicted < 30 {
		t.Errorf("34 s of 35: %v, and %.0f s are recorded", err, r.down.Predicted)
	}
	r.Config.Backup.MaxDowntime = 30 * time.Second
	err := r.predict()
	var f *fail.Error
	if !errors.As(err, &f) || f.Code != fail.Deadline || !strings.Contains(f.What, "34.0 s") || !strings.Contains(f.Hint, "--max-downtime") {
		t.Errorf("34 s of 30: %v", err)
	}
	r.before.State = control.Stopped
	if err := r.predict(); err != nil {
		t.Errorf("an instance that is not running is not away: %v", err)
	}
}

func TestNeedsSeed(t *testing.T) {
	first := users(10, 0, time.Second)
	first.parent = ""
	frozen := users(10, 0, time.Hour)
	frozen.driver = snapshot.LVM
	for _, row := range []struct {
		name, seed string
		root       *root
		want       bool
	}{
		{"never stored", "auto", first, true},
		{"nothing new, and at work", "auto", users(10, 1<<20, time.Second), false},
		{"much new", "auto", users(10, 100<<20, time.Second), true},
		{"quiet", "auto", users(10, 1<<20, time.Hour), true},
		{"quiet, but never wanted", "never", users(10, 1<<20, time.Hour), false},
		{"always wanted", "always", users(10, 0, time.Second), true},
		{"frozen", "always", frozen, false},
	} {
		r := predicting(row.root)
		r.Config.Backup.Seed = row.seed
		if got := r.needsSeed(row.root); got != row.want {
			t.Errorf("%s: %v", row.name, got)
		}
	}
}
