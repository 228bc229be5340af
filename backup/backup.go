// Package backup is the backup pipeline: the ordered steps of a run, read top to
// bottom in this file; each step is a file of its own.
package backup

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/ocbackup/ocbackup/catalog"
	"github.com/ocbackup/ocbackup/config"
	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/fault"
	"github.com/ocbackup/ocbackup/guard"
	"github.com/ocbackup/ocbackup/manifest"
	"github.com/ocbackup/ocbackup/opencloud"
	"github.com/ocbackup/ocbackup/opencloud/control"
	"github.com/ocbackup/ocbackup/opencloud/index"
	"github.com/ocbackup/ocbackup/progress"
	"github.com/ocbackup/ocbackup/recovery"
	"github.com/ocbackup/ocbackup/repo"
	"github.com/ocbackup/ocbackup/snapshot"
)

// Options say what a run is to do.
type Options struct {
	Config *config.Config
	Repo   *repo.Repo
	// Version is ocbackup's own version, for the manifest.
	Version string
	// Components limits the run; empty: all. The result of a limited run is not a
	// full set.
	Components []opencloud.Component
	// AcceptEmptyBucket takes an S3 bucket without objects for what it is, although it
	// had some at the last backup.
	AcceptEmptyBucket bool
	// NewPool begins another pool than that of the last backup.
	NewPool bool
	Report  progress.Reporter
}

// Result is what a run has done.
type Result struct {
	Set        string                `json:"set"`
	Instance   string                `json:"instance"`
	Full       bool                  `json:"full"`
	Components []opencloud.Component `json:"components"`
	OpenCloud  string                `json:"opencloud"`
	Driver     opencloud.Driver      `json:"driver"`
	Started    time.Time             `json:"started"`
	Seconds    float64               `json:"seconds"`
	WasRunning bool                  `json:"was_running"`
	Downtime   manifest.Downtime     `json:"downtime"`
	Files      uint64                `json:"files"`
	Bytes      uint64                `json:"bytes"`
	Added      uint64                `json:"added"` // bytes in the repository, compressed
	// Bucket is what the set holds of the S3 bucket, where the blobs lie in one.
	Bucket *manifest.Bucket `json:"bucket,omitempty"`
	// Catalog counts the nodes that the set holds, Certificate says how they fared; nil
	// where the set does not hold what it takes.
	Catalog     *catalog.Summary `json:"catalog,omitempty"`
	Certificate *manifest.Proof  `json:"certificate,omitempty"`
	Search      index.Verdict    `json:"search"`
	// Kept is the time until which snapshots of the set are kept on this host; zero: none are.
	Kept time.Time `json:"kept,omitzero"`
	// NotProtected names what discovery saw and this set does not hold.
	NotProtected []string `json:"not_protected,omitempty"`
	// Warnings are things that went well enough, but that somebody should look at.
	Warnings []string `json:"warnings,omitempty"`
}

// Run makes a backup. Whatever happens, the instance is afterwards in the state in
// which it was found, or the error says otherwise with fail.NotBack. Where data of users
// is missing in the set, the error, fail.Inconsistent, comes with the result.
func Run(ctx context.Context, o Options) (*Result, error) {
	lock, err := begin(ctx, o)
	if err != nil {
		return nil, err
	}
	defer lock.Release()

	r := newRun(o)
	defer func() { r.thaw(ctx, 0) }()
	defer r.closeProof()
	o.Report.Note(fmt.Sprintf("%s: OpenCloud with storage driver %s", o.Config.Name, o.Config.Layout.Driver))
	for _, s := range []struct {
		name string
		do   func(context.Context, progress.Step) (string, error)
	}{
		{"prepare", r.prepare},   // whatever could fail later fails here, with nothing stopped
		{"hot", r.hot},           // while the instance runs: all that need not wait for the stop
		{"cold", r.cold},         // the instance away: stopped, proven so, frozen, started, ready
		{"store", r.storeFrozen}, // from the snapshots; what has none was stored in the window
		{"prove", r.prove},       // every node's blob is in what was stored, or the set says which are not
		{"commit", r.commit},     // the manifest, last: only now does the set exist
		{"tidy", r.tidy},         // what this and earlier runs left behind
	} {
		step := o.Report.Step(s.name)
		err := fault.Point(s.name + ".begin")
		summary := ""
		if err == nil {
			summary, err = s.do(ctx, step)
		}
		if err != nil {
			step.Fail(err)
			return nil, r.failure(s.name, err)
		}
		if summary == "" {
			step.Skip("")
			continue
		}
		step.Done(summary)
	}
	return r.result(), r.inconsistent()
}

// begin finishes what an interrupted run has left, and takes the instance's lock.
func begin(ctx context.Context, o Options) (*guard.Lock, error) {
	server := recovery.ServerOf(o.Config)
	for {
		if _, err := recovery.Run(ctx, recovery.Options{StateDir: o.Config.StateDir, Report: o.Report, Fallback: &server}); err != nil {
			return nil, atStep("prepare", err)
		}
		lock, err := guard.Acquire(o.Config.StateDir, "backup")
		if err != nil {
			return nil, err
		}
		// A run that died in between has left its journal, and its guard waits for us.
		if j, err := guard.Read(o.Config.StateDir); err == nil && j == nil {
			return lock, nil
		}
		lock.Release()
	}
}

// run is what the steps of one run hand on to each other.
type run struct {
	Options
	set     string
	started time.Time

	// prepare
	restic  repo.Version
	ctl     control.Controller
	before  control.Status // the instance as it was found
	roots   []*root
	last    *manifest.Manifest // of the newest committed set, nil when there is none
	history history            // what the repository holds of this instance
	sets    []manifest.Set     // as far back as the newest that holds the bucket, oldest first
	mirror  *mirror            // nil: the blobs are in directories, or not wanted
	notes   []string           // not protected
	plan    *snapshot.Plan     // of freezing
	thawed  bool               // its snapshots were removed, or kept
	kept    time.Time          // until then

	// hot
	version string
	counted uint64 // bytes in what is being stored, as far as that is known
	image   *control.Image
	seeds   []string          // snapshots that were stored before the stop
	seeded  map[string]uint64 // what the seed of a root added to the repository

	// cold
	proven   time.Time // nobody may have started the instance since
	frozen   time.Time
	down     manifest.Downtime
	verdict  index.Verdict
	back     bool       // the instance is in the state in which it was found
	stopped  bool       // a stop was asked for
	pushing  sync.Mutex // guards pushed
	pushed   map[string]stored
	warnings []string

	proof     proof
	committed bool
}

func newRun(o Options) *run {
	now := time.Now()
	return &run{Options: o, started: now, set: manifest.NewSetID(now), pushed: map[string]stored{}, seeded: map[string]uint64{}}
}

// stored is what came of storing one root.
type stored struct {
	snapshot     string
	files, bytes uint64
	added        uint64
	took         time.Duration
	taken        string
}

// running tells whether the instance ran when it was found.
func (r *run) running() bool { return r.before.State == control.Running }

// failure adds to an error what state things are in.
func (r *run) failure(step string, err error) error {
	state := "OpenCloud was not touched; nothing was committed"
	switch {
	case r.committed:
		state = "OpenCloud is running; set " + r.set + " is committed"
	case r.stopped && !r.back:
		state = "OPENCLOUD IS NOT BACK; nothing was committed"
	case r.stopped && r.running():
		state = fmt.Sprintf("OpenCloud is running again (it was away for %.1f s); nothing was committed", r.down.Total)
	case r.stopped:
		state = "OpenCloud is stopped, as it was before; nothing was committed"
	}
	return &fail.Error{Code: fail.CodeOf(err), Step: step, State: state, Err: err}
}

func atStep(step string, err error) error {
	return &fail.Error{Code: fail.CodeOf(err), Step: step, Err: err}
}

// result sums the run up.
func (r *run) result() *Result {
	res := &Result{
		Set: r.set, Instance: r.Config.Name, Full: r.full(), Components: r.components(),
		OpenCloud: r.version, Driver: r.Config.Layout.Driver,
		Started: r.started, Seconds: time.Since(r.started).Seconds(),
		WasRunning: r.running(), Downtime: r.down, Bucket: r.bucketRecord(), Search: r.verdict, Kept: r.kept,
		Catalog: r.proof.summary, Certificate: r.proof.sum(),
		NotProtected: r.notes, Warnings: r.warnings,
	}
	for _, s := range r.pushed {
		res.Files += s.files
		res.Bytes += s.bytes
		res.Added += s.added
	}
	return res
}
