package backup

import (
	"context"

	"github.com/ocbackup/ocbackup/opencloud"
	"github.com/ocbackup/ocbackup/snapshot"
)

// Plan is what a run would do.
type Plan struct {
	Instance   string                `json:"instance"`
	Driver     opencloud.Driver      `json:"driver"`
	Control    string                `json:"control"`
	State      string                `json:"state"` // of the instance now
	Repository string                `json:"repository"`
	Sets       int                   `json:"sets"`
	Full       bool                  `json:"full"`
	Components []opencloud.Component `json:"components"`
	Roots      []PlannedRoot         `json:"roots"`
	Bucket     *PlannedBucket        `json:"bucket,omitempty"`
	// Predicted is how long OpenCloud will probably be away, in seconds, by earlier sets; 0
	// without any.
	Predicted float64 `json:"predicted_s,omitempty"`
	// TooLong tells that this is longer than max_downtime allows: a run would refuse.
	TooLong bool `json:"too_long,omitempty"`
	// NotProtected names what discovery saw and the set would not hold.
	NotProtected []string `json:"not_protected,omitempty"`
	Warnings     []string `json:"warnings,omitempty"`
}

// PlannedBucket is the S3 bucket that a run would copy.
type PlannedBucket struct {
	Source string `json:"source"`
	Pool   string `json:"pool"`
	New    bool   `json:"new"` // the pool would be made
}

// PlannedRoot is a root that a run would store.
type PlannedRoot struct {
	opencloud.Root
	Command []string `json:"command,omitempty"`
	Absent  bool     `json:"absent,omitempty"`
	When    string   `json:"when"`  // hot, cold, or frozen: in the hot pass, on the stopped tree, from a snapshot
	First   bool     `json:"first"` // nothing to compare with yet: all of it is read
	// Freeze is the driver that makes a snapshot of what the root lies on. Without one
	// it is read on the stopped tree, and Unfrozen says why.
	Freeze   snapshot.Driver `json:"freeze,omitempty"`
	Unfrozen string          `json:"unfrozen,omitempty"`
}

// DryRun prepares a run, tells what it would do, and changes nothing.
func DryRun(ctx context.Context, o Options) (*Plan, error) {
	r := newRun(o)
	step := o.Report.Step("prepare")
	summary, err := r.prepare(ctx, step)
	if err != nil {
		step.Fail(err)
		return nil, r.failure("prepare", err)
	}
	step.Done(summary)
	p := &Plan{
		Instance: r.Config.Name, Driver: r.Config.Layout.Driver, Control: r.ctl.String(), State: string(r.before.State),
		Repository: r.Repo.Location(), Sets: len(r.history.sets), Full: r.full(), Components: r.components(),
		NotProtected: r.notes, Warnings: r.warnings,
	}
	if r.running() {
		probably, _ := r.prediction()
		most := r.Config.Backup.MaxDowntime
		p.Predicted, p.TooLong = probably.Seconds(), most > 0 && probably > most
	}
	if m := r.mirror; m != nil {
		p.Bucket = &PlannedBucket{Source: m.source.String(), Pool: m.pool.Location(), New: m.info.New}
	}
	for _, x := range r.roots {
		when := "cold"
		if x.hotRoot() {
			when = "hot"
		}
		planned := PlannedRoot{Root: x.Root, Command: x.command, Absent: x.absent, When: when, First: x.parent == "", Unfrozen: x.unfrozen}
		if x.freezes() {
			planned.When, planned.Freeze = "frozen", x.driver
		}
		p.Roots = append(p.Roots, planned)
	}
	return p, nil
}
