package schedule

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/proc"
)

// Status is what there is to say about one unit of an instance.
type Status struct {
	Unit      string `json:"unit"`
	Installed bool   `json:"installed"`
	Enabled   string `json:"enabled,omitempty"`  // systemd's word: enabled, disabled, static
	Active    string `json:"active,omitempty"`   // systemd's word: active, inactive, activating, failed
	Calendar  string `json:"calendar,omitempty"` // when a timer elapses
	// Next is when a timer elapses next, Last when it did last (at first: when it was
	// installed), or when a service was started last; nil: not since the machine was
	// started.
	Next *time.Time `json:"next,omitempty"`
	Last *time.Time `json:"last,omitempty"`
	// Result is how a service's last run ended, in systemd's words: success,
	// exit-code, signal, ...; ExitCode is what it exited with.
	Result   string `json:"result,omitempty"`
	ExitCode int    `json:"exit_code,omitempty"`
}

// Show tells what is installed in dir for an instance, and, where systemd looks at
// dir, what systemd says about it.
func Show(ctx context.Context, dir, instance string) ([]Status, error) {
	var list []Status
	for _, name := range names(instance) {
		s := Status{Unit: name}
		text, err := os.ReadFile(filepath.Join(dir, name))
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return nil, fail.Wrap(fail.Failed, err, "read unit "+name, "")
		default:
			s.Installed = true
			s.Calendar = setting(string(text), "OnCalendar")
		}
		list = append(list, s)
	}
	if filepath.Clean(dir) != DefaultDir {
		return list, nil
	}
	for i := range list {
		if !list[i].Installed {
			continue
		}
		if err := list[i].ask(ctx); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// ask has systemd tell what it knows of a unit (org.freedesktop.systemd1(5)).
func (s *Status) ask(ctx context.Context) error {
	res, err := proc.Run(ctx, proc.Cmd{
		Name: "systemctl",
		Args: []string{
			"show", "--property=UnitFileState,ActiveState,Result,ExecMainStatus,ExecMainStartTimestamp,NextElapseUSecRealtime,LastTriggerUSec",
			"--", s.Unit,
		},
		// --timestamp=unix would not do: systemd 252 has it for some of these only.
		Env: []string{"TZ=UTC", "LC_ALL=C.UTF-8"},
	})
	if err != nil {
		return fail.Wrap(fail.Failed, err, "ask systemd about "+s.Unit, "")
	}
	p := map[string]string{}
	for line := range strings.Lines(string(res.Stdout)) {
		key, value, _ := strings.Cut(strings.TrimRight(line, "\n"), "=")
		p[key] = value
	}
	s.Enabled, s.Active = p["UnitFileState"], p["ActiveState"]
	if strings.HasSuffix(s.Unit, ".timer") {
		s.Next, s.Last = timestamp(p["NextElapseUSecRealtime"]), timestamp(p["LastTriggerUSec"])
		return nil
	}
	if s.Last = timestamp(p["ExecMainStartTimestamp"]); s.Last != nil {
		s.Result = p["Result"]
		s.ExitCode, _ = strconv.Atoi(p["ExecMainStatus"])
	}
	return nil
}

// timestamp reads a time as systemctl writes it; empty or "n/a" stands for none.
func timestamp(s string) *time.Time {
	t, err := time.Parse("Mon 2006-01-02 15:04:05 MST", s)
	if err != nil {
		return nil
	}
	t = t.Local()
	return &t
}

// setting returns the value of a setting in a unit file that this package wrote.
func setting(text, key string) string {
	for line := range strings.Lines(text) {
		if v, ok := strings.CutPrefix(line, key+"="); ok {
			return strings.ReplaceAll(strings.TrimSpace(v), "%%", "%")
		}
	}
	return ""
}
