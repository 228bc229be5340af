package backup

import (
	"fmt"
	"slices"
	"time"

	"github.com/dustin/go-humanize/english"

	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/manifest"
)

const (
	// perFile is what restic takes for a file, whatever has changed (measured: 10.5 to
	// 11.8 s for 100,000); perRun is what it takes to start, and perByte to read.
	perFile = 120 * time.Microsecond
	perRun  = time.Second
	perByte = time.Second / (100 << 20)
	// perInode is what looking at an inode takes that has not changed.
	perInode = 10 * time.Microsecond
	// perFreeze is what snapshots take where no earlier set tells.
	perFreeze = time.Second
)

// predict says, before anything is stopped, how long the instance will probably be
// away, and refuses what would take longer than it may.
func (r *run) predict() error {
	if !r.running() {
		return nil
	}
	probably, sets := r.prediction()
	if sets == 0 {
		return nil // nothing to go by; the deadline bounds it all the same
	}
	r.down.Predicted = probably.Seconds()
	if most := r.Config.Backup.MaxDowntime; most > 0 && probably > most {
		return fail.New(fail.Deadline,
			fmt.Sprintf("OpenCloud would probably be away for %s, and max_downtime allows %s", rounded(probably), most),
			"allow it for once with --max-downtime, or raise max_downtime in [backup]; what takes so long: \"ocbackup show\"")
	}
	r.Report.Note(fmt.Sprintf("OpenCloud will be away for about %s, judging by the last %s", rounded(probably), english.PluralWord(sets, "backup", fmt.Sprint(sets, " backups"))))
	return nil
}

// prediction is how long the instance will probably be away, by so many earlier sets.
func (r *run) prediction() (probably time.Duration, sets int) {
	var around, freeze, bucket []float64
	for _, s := range r.sets {
		if s.Manifest == nil || !s.Manifest.WasRunning {
			continue
		}
		d := s.Manifest.Downtime
		around = append(around, d.Stop+d.Start+d.Ready)
		if d.Freeze > 0 {
			freeze = append(freeze, d.Freeze)
		}
		if d.Bucket > 0 { // else it left the window, or there is none
			bucket = append(bucket, d.Bucket)
		}
	}
	if len(around) == 0 {
		return 0, 0
	}
	probably = median(around, 0)
	if !r.plan.Empty() {
		probably += median(freeze, perFreeze)
	}
	pass := r.finalPassTime()
	if r.mirror != nil && !r.bucketLater() {
		pass = max(pass, median(bucket, 0))
	}
	return probably + pass, len(around)
}

// finalPassTime is how long what can't be frozen probably takes, some roots at a time.
func (r *run) finalPassTime() time.Duration {
	var sum, longest time.Duration
	for _, x := range r.inWindow() {
		t := time.Duration(x.files) * perInode
		if x.seed == nil || !r.quiet(x) {
			t = r.passTime(x)
		}
		if _, stored := r.seeded[x.Name]; !stored {
			t += time.Duration(x.changes.Bytes) * perByte
		}
		sum, longest = sum+t, max(longest, t)
	}
	return max(longest, sum/storers)
}

// passTime is how long it takes to store a root of which little has changed: sets for
// which much had to be read say nothing of that.
func (r *run) passTime(x *root) time.Duration {
	var took []float64
	for _, s := range r.sets {
		if s.Manifest == nil {
			continue
		}
		i := slices.IndexFunc(s.Manifest.Roots, func(old manifest.Root) bool {
			return old.Name == x.Name && old.Seconds > 0 && old.Added < seedBytes
		})
		if i >= 0 {
			took = append(took, s.Manifest.Roots[i].Seconds)
		}
	}
	return median(took, perRun+time.Duration(x.files)*perFile)
}

// quiet tells whether a root has not changed for so long that it probably stays so
// until it has been stored and the instance is stopped.
func (r *run) quiet(x *root) bool {
	return time.Since(x.changes.Newest) > 2*r.passTime(x)
}

// median is that of lengths of time in seconds, the lower of two; otherwise where there
// are none.
func median(seconds []float64, otherwise time.Duration) time.Duration {
	if len(seconds) == 0 {
		return otherwise
	}
	slices.Sort(seconds)
	return time.Duration(seconds[(len(seconds)-1)/2] * float64(time.Second))
}

// rounded says a length of time as the other messages do.
func rounded(d time.Duration) string {
	if d < time.Minute {
		return fmt.Sprintf("%.1f s", d.Seconds())
	}
	return d.Round(time.Second).String()
}
