// Package reindex has a running OpenCloud build its search index again, by hand:
// after a restore that could not finish it, or because an admin wants it.
package reindex

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ocbackup/ocbackup/config"
	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/guard"
	"github.com/ocbackup/ocbackup/opencloud/control"
	"github.com/ocbackup/ocbackup/opencloud/index"
	"github.com/ocbackup/ocbackup/opencloud/readiness"
	"github.com/ocbackup/ocbackup/opencloud/spaces"
	"github.com/ocbackup/ocbackup/progress"
)

// retryAfter is how long spaces that failed are left alone before they are tried
// once more: as long as a service of a server that has just started takes to register.
const retryAfter = 5 * time.Second

// Options says what is to be done.
type Options struct {
	Config *config.Config
	// Spaces limits the run to these: ids, with or without the storage's part; empty: all.
	Spaces []string
	// Force takes spaces as not yet indexed that an earlier run got done.
	Force bool
	// Clear only removes the marker: the admin knows that the index is complete.
	Clear  bool
	Report progress.Reporter

	retryAfter time.Duration // for tests; zero: retryAfter
}

// Result is what was done.
type Result struct {
	index.Report
	// Marker is the marker as it was found, nil when nothing required a reindex.
	Marker *index.Marker `json:"marker,omitempty"`
}

// Run has all spaces indexed, or with a marker those that are left to do. Nothing
// is stopped. The error is a fail.Error: fail.Locked when another run holds the
// instance, fail.Failed when the server is not ready or some spaces failed; the
// Result is then there, too.
func Run(ctx context.Context, o Options) (*Result, error) {
	dir := o.Config.StateDir
	// A backup that begins meanwhile would stop the server amid a space.
	lock, err := guard.Acquire(dir, "reindex")
	if err != nil {
		return nil, err
	}
	defer lock.Release()
	res := &Result{Report: index.Report{Indexed: []index.Outcome{}, Skipped: []index.Outcome{}, Failed: []index.Outcome{}}}
	if res.Marker, err = index.Required(dir); err != nil {
		return nil, fail.Wrap(fail.Failed, err, "", "check the state directory ("+dir+")")
	}
	if o.Clear {
		return res, index.ClearRequired(dir)
	}
	step := o.Report.Step("reindex")
	if err := rebuild(ctx, o, res, step); err != nil {
		step.Fail(err)
		return res, err
	}
	step.Done(Summary(res))
	return res, nil
}

// Summary is the result in one line.
func Summary(r *Result) string {
	return fmt.Sprintf("%s indexed, %d skipped", count(len(r.Indexed)), len(r.Skipped))
}

func rebuild(ctx context.Context, o Options, res *Result, step progress.Step) error {
	res.Required = res.Marker != nil
	ctl, err := control.New(o.Config.Control)
	if err != nil {
		return err
	}
	step.Update("is OpenCloud ready?")
	if err := ready(ctx, o.Config, ctl); err != nil {
		return err
	}
	list, err := spaces.List(o.Config.Layout)
	if err != nil {
		return fail.Wrap(fail.Failed, err, "find out which spaces there are", "check [layout] in the configuration file")
	}
	if len(list) == 0 {
		res.Required = false
		return index.ClearRequired(o.Config.StateDir)
	}
	only, err := choose(list, o.Spaces)
	if err != nil {
		return err
	}
	report, err := index.Rebuild(ctx, index.RebuildOptions{
		Exec: ctl.Exec, Spaces: list, Only: only, Dir: o.Config.StateDir, Restart: o.Force, RetryAfter: cmp.Or(o.retryAfter, retryAfter),
		OnSpace: func(done, total int, name string) {
			step.Update(fmt.Sprintf("%s, %d of %d spaces done", name, done, total))
		},
	})
	if report != nil {
		res.Report = *report
	}
	switch {
	case errors.Is(err, control.ErrNoExec):
		return noExec()
	case err != nil:
		return fail.Wrap(fail.Failed, err, "build the search index again", "ocbackup reindex")
	}
	if err := res.Err(); err != nil {
		return &fail.Error{Code: fail.Failed, Err: err, State: "OpenCloud is running; " + count(len(res.Indexed)) + " indexed", Hint: hint(o.Config, res)}
	}
	return nil
}

// ready makes sure that there is a server that can be told something.
func ready(ctx context.Context, cfg *config.Config, ctl control.Controller) error {
	if cfg.Control.Type == "none" {
		return noExec()
	}
	s, err := ctl.Status(ctx)
	if err != nil {
		return fail.Wrap(fail.Failed, err, "find out whether OpenCloud is running", "ocbackup doctor")
	}
	if s.State != control.Running {
		return fail.New(fail.Failed, fmt.Sprintf("%s is %s, and only a running server can build its search index", ctl, s.State), "start OpenCloud, then run this command again")
	}
	if err := readiness.Check(ctx, cfg.Ready, cfg.Layout, s.PID); err != nil {
		return fail.Wrap(fail.Failed, err, "OpenCloud is running, but not ready", "ocbackup doctor")
	}
	return nil
}

func noExec() error {
	return fail.Wrap(fail.Usage, control.ErrNoExec, "build the search index again",
		"or have the server do it, space by space: opencloud search index --space ID; then: ocbackup reindex --clear")
}

// choose finds the full ids of the spaces that were asked for.
func choose(list []spaces.Space, wanted []string) (only []string, err error) {
	for _, w := range wanted {
		i := slices.IndexFunc(list, func(s spaces.Space) bool {
			_, own, _ := strings.Cut(s.ID, "$")
			return w != "" && (s.ID == w || own == w)
		})
		if i < 0 {
			return nil, fail.Usagef("these are there:\n"+names(list), "there is no space %q", w)
		}
		only = append(only, list[i].ID)
	}
	return only, nil
}

// names lists spaces for a person to choose from.
func names(list []spaces.Space) string {
	const most = 20
	var lines []string
	for _, s := range list {
		if s.Err == nil && len(lines) < most {
			lines = append(lines, s.ID+"  "+s.Type+" "+s.Name)
		}
	}
	if more := len(list) - len(lines); more > 0 {
		lines = append(lines, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(lines, "\n")
}

// hint says how to go on when some spaces failed.
func hint(cfg *config.Config, res *Result) string {
	if !res.Incremental {
		return "ocbackup reindex"
	}
	dir := cfg.Layout.SearchDir
	if dirs, err := index.Dirs(dir); err == nil && len(dirs) > 0 {
		dir = dirs[0]
	}
	return "ocbackup reindex\nwhere a space may be half indexed: stop OpenCloud, move " + dir + " away, start OpenCloud,\nthen: ocbackup reindex --force"
}

func count(n int) string {
	if n == 1 {
		return "1 space"
	}
	return fmt.Sprintf("%d spaces", n)
}
