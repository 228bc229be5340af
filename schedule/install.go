package schedule

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ocbackup/ocbackup/atomicfile"
	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/proc"
)

// DefaultDir is where units of the machine's admin lie (systemd.unit(5)).
const DefaultDir = "/etc/systemd/system"

// Result is what an installation or removal changed.
type Result struct {
	Dir       string   `json:"dir"`
	Written   []string `json:"written,omitempty"`   // new, or with another text
	Unchanged []string `json:"unchanged,omitempty"` // there already, as it should be
	Removed   []string `json:"removed,omitempty"`
	// Active tells whether systemd was told; it is not when the units were only
	// written to another directory than its own.
	Active   bool     `json:"active"`
	Warnings []string `json:"warnings,omitempty"`
}

// Install writes the units of a plan to dir, removes those of the instance that are
// not part of it, and has systemd start the timers. It may be repeated. With another
// dir than DefaultDir, systemd is not told.
func Install(ctx context.Context, dir, instance string, plan *Plan) (*Result, error) {
	res := &Result{Dir: dir, Active: filepath.Clean(dir) == DefaultDir, Warnings: plan.Warnings}
	if err := res.needSystemd(ctx); err != nil {
		return nil, err
	}
	if plan.pool != "" {
		if err := os.MkdirAll(plan.pool, 0o700); err != nil {
			return nil, fail.Wrap(fail.Failed, err, "make the directory of the pool", "mount its disk, or correct location in [pool]")
		}
	}
	keep := map[string]bool{}
	for _, u := range plan.Units {
		keep[u.Name] = true
		changed, err := write(filepath.Join(dir, u.Name), u.Text)
		if err != nil {
			return nil, fail.Wrap(fail.Failed, err, "write unit "+u.Name, "")
		}
		if changed {
			res.Written = append(res.Written, u.Name)
		} else {
			res.Unchanged = append(res.Unchanged, u.Name)
		}
	}
	stale := slices.DeleteFunc(names(instance), func(n string) bool { return keep[n] })
	if err := res.remove(ctx, stale); err != nil {
		return nil, err
	}
	if !res.Active {
		return res, nil
	}
	if err := systemctl(ctx, "daemon-reload"); err != nil {
		return nil, err
	}
	for _, u := range plan.Units {
		if !u.enabled() {
			continue
		}
		if err := systemctl(ctx, "enable", "--", u.Name); err != nil {
			return nil, err
		}
		if !u.timer() {
			continue
		}
		// A timer that runs goes on with its old times until it is started again.
		verb := "start"
		if slices.Contains(res.Written, u.Name) {
			verb = "restart"
		}
		if err := systemctl(ctx, verb, "--", u.Name); err != nil {
			return nil, err
		}
	}
	return res, nil
}

// Remove stops the timers of an instance and removes its units from dir. A backup
// that is under way is not stopped.
func Remove(ctx context.Context, dir, instance string) (*Result, error) {
	res := &Result{Dir: dir, Active: filepath.Clean(dir) == DefaultDir}
	if err := res.needSystemd(ctx); err != nil {
		return nil, err
	}
	if err := res.remove(ctx, names(instance)); err != nil {
		return nil, err
	}
	if res.Active && len(res.Removed) > 0 {
		return res, systemctl(ctx, "daemon-reload")
	}
	return res, nil
}

// remove disables and deletes those of the units that are there.
func (r *Result) remove(ctx context.Context, units []string) error {
	for _, name := range units {
		path := filepath.Join(r.Dir, name)
		text, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil && r.Active && (Unit{name, string(text)}).enabled() {
			args := []string{"disable", "--", name}
			if strings.HasSuffix(name, ".timer") {
				args = []string{"disable", "--now", "--", name}
			}
			if err := systemctl(ctx, args...); err != nil {
				return err
			}
		}
		if err := os.Remove(path); err != nil {
			return fail.Wrap(fail.Failed, err, "remove unit "+name, "")
		}
		r.Removed = append(r.Removed, name)
	}
	return nil
}

// needSystemd makes sure that there is a systemd to be told, before anything is changed.
func (r *Result) needSystemd(ctx context.Context) error {
	if !r.Active {
		return nil
	}
	_, err := proc.Run(ctx, proc.Cmd{Name: "systemctl", Args: []string{"show", "--property=Version"}})
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return err
	}
	return fail.Wrap(fail.Failed, err, "schedule with systemd",
		"is this machine run by systemd, and are you root? For another scheduler see \"ocbackup schedule print\"")
}

// CheckCalendar has systemd read the calendar event that a flag gives. Without
// systemd-analyze nothing is checked.
func CheckCalendar(ctx context.Context, flag, event string) error {
	if event == Off {
		return nil
	}
	_, err := proc.Run(ctx, proc.Cmd{Name: "systemd-analyze", Args: []string{"calendar", "--", event}})
	var exit *proc.ExitError
	if errors.As(err, &exit) {
		return fail.Wrap(fail.Usage, err, "--"+flag, `give a calendar event of systemd.time(7), such as "*-*-* 02:15", or "off"`)
	}
	var none *proc.NotFoundError
	if errors.As(err, &none) {
		return nil
	}
	return err
}

// write puts a unit file in its place in one step; false when it is there already.
func write(path, text string) (changed bool, err error) {
	old, err := os.ReadFile(path)
	if err == nil && bytes.Equal(old, []byte(text)) {
		return false, nil
	}
	return true, atomicfile.Write(path, []byte(text), 0o644)
}

// systemctl tells systemd something.
func systemctl(ctx context.Context, args ...string) error {
	_, err := proc.Run(ctx, proc.Cmd{Name: "systemctl", Args: args})
	return fail.Wrap(fail.Failed, err, "tell systemd: "+strings.Join(args, " "), "")
}
