// Package doctor checks everything that a backup and a restore need, and says how
// to mend what is wrong. It changes nothing.
package doctor

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/ocbackup/ocbackup/config"
	"github.com/ocbackup/ocbackup/config/discover"
	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/opencloud/control"
	"github.com/ocbackup/ocbackup/repo"
)

// Status is how bad a finding is; a greater one is worse.
type Status int

// The statuses, in ascending order.
const (
	OK Status = iota
	Info
	Warning
	Error
)

// String gives "ok", "info", "warning" or "error".
func (s Status) String() string { return [...]string{"ok", "info", "warning", "error"}[s] }

// MarshalJSON writes the status as its name.
func (s Status) MarshalJSON() ([]byte, error) { return json.Marshal(s.String()) }

// Finding is what a check found. A check may have several.
type Finding struct {
	Status Status `json:"status"`
	Check  string `json:"check"`
	// What is what was found; Mend is what to do about it, empty where nothing is.
	What string `json:"what"`
	Mend string `json:"mend,omitempty"`

	code fail.Code // of an error: what a run would fail with
}

// Report is all that was found.
type Report struct {
	Worst    Status    `json:"worst"`
	Findings []Finding `json:"findings"`
}

// Err sums the report up as an error: nil without errors, of code fail.NotBack when
// OpenCloud may not be back after a run, else fail.Usage when one is about the
// configuration, else fail.Repository when one is about the repository, else
// fail.Failed.
func (r *Report) Err() error {
	var codes []fail.Code
	for _, f := range r.Findings {
		if f.Status == Error {
			codes = append(codes, f.code)
		}
	}
	n, code := len(codes), fail.Failed
	for _, c := range []fail.Code{fail.Repository, fail.Usage, fail.NotBack} {
		if slices.Contains(codes, c) {
			code = c
		}
	}
	switch n {
	case 0:
		return nil
	case 1:
		return fail.New(code, "1 check failed", "mend it, then run ocbackup doctor again")
	}
	return fail.New(code, fmt.Sprintf("%d checks failed", n), "mend them from the top, then run ocbackup doctor again")
}

// Check is one thing that is looked at.
type Check interface {
	// Name is one or two words.
	Name() string
	// Run looks at it. No finding means that there is nothing to look at.
	Run(ctx context.Context, s *Subject) []Finding
}

// Subject is what is being checked. Checks run one after the other, and later ones
// build on what earlier ones put here.
type Subject struct {
	Config *config.Config

	repo    *repo.Repo
	open    bool // the repository could be opened
	control control.Controller
	status  *control.Status // nil: not known
	found   *discover.Found // the instance as it is deployed; nil: not known
}

// Run makes all checks of the configuration file at path. stateDir, if set, takes
// the place of the configured one. onCheck, if not nil, is told before each check.
func Run(ctx context.Context, path, stateDir string, onCheck func(name string)) (*Report, error) {
	s := &Subject{}
	r := &Report{}
	c, err := config.Load(path)
	if err != nil {
		r.add(configuration{}.failed(err)...)
		return r, nil
	}
	if stateDir != "" {
		if c.StateDir, err = filepath.Abs(stateDir); err != nil {
			return nil, err
		}
	}
	s.Config = c
	for _, check := range Checks {
		if err := ctx.Err(); err != nil {
			return nil, context.Cause(ctx)
		}
		if onCheck != nil {
			onCheck(check.Name())
		}
		found := check.Run(ctx, s)
		for i := range found {
			found[i].Check = check.Name()
		}
		r.add(found...)
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx) // a check that was ended half-way says nothing true
	}
	return r, nil
}

// Checks lists all checks in the order in which they are made: what others build
// on comes first.
var Checks = []Check{
	configuration{},
	secrets{},
	identity{},
	stateDir{},
	clock{},
	restic{},
	repository{},
	repositoryDisk{},
	controller{},
	deployment{},
	restartPolicy{},
	serverCommands{},
	ready{},
	roots{},
	attributes{},
	snapshots{},
	searchIndex{},
	s3bucket{},
	pool{},
	poolDisk{},
	extras{},
	notProtected{},
	journal{},
	reindex{},
	timer{},
}

func (r *Report) add(fs ...Finding) {
	for _, f := range fs {
		r.Worst = max(r.Worst, f.Status)
		r.Findings = append(r.Findings, f)
	}
}

func okay(format string, args ...any) []Finding {
	return []Finding{{Status: OK, What: fmt.Sprintf(format, args...)}}
}

func info(mend, format string, args ...any) Finding {
	return Finding{Status: Info, What: fmt.Sprintf(format, args...), Mend: mend}
}

func warning(mend, format string, args ...any) Finding {
	return Finding{Status: Warning, What: fmt.Sprintf(format, args...), Mend: mend}
}

func failure(code fail.Code, mend, format string, args ...any) Finding {
	return Finding{Status: Error, What: fmt.Sprintf(format, args...), Mend: mend, code: code}
}

// failed makes a finding of an error, with the code and the hint that it carries.
func failed(err error, mend string) Finding {
	if _, _, hint := fail.Details(err); hint != "" {
		mend = hint
	}
	return failure(fail.CodeOf(err), mend, "%v", err)
}
