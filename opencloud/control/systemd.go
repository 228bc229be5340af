package control

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/proc"
)

// systemd controls an instance that is a system unit.
type systemd struct{ cfg Config }

func newSystemd(cfg Config) (Controller, error) {
	if err := checkName("unit", cfg.Unit, unitName); err != nil {
		return nil, err
	}
	return &systemd{cfg}, checkAlso(cfg, cfg.Unit, unitName)
}

func (s *systemd) String() string { return "systemd unit " + s.cfg.Unit }

// systemctl runs systemctl and returns what it printed.
func systemctl(ctx context.Context, args ...string) (string, error) {
	res, err := proc.Run(ctx, proc.Cmd{
		Name: "systemctl", Args: args,
		Env: []string{"LC_ALL=C.UTF-8", "SYSTEMD_COLORS=0", "SYSTEMD_PAGER="},
	})
	if err != nil {
		return "", err
	}
	return string(res.Stdout), nil
}

// unit is what systemd says about a unit (org.freedesktop.systemd1(5)).
type unit map[string]string

// shown are the properties that a unit is asked for.
const shown = "Id,LoadState,ActiveState,SubState,Result,MainPID,InvocationID,ActiveEnterTimestampMonotonic,ControlGroup," +
	"RequiredBy,RequisiteOf,BoundBy,ConsistsOf,PropagatesStopTo"

// stopsAlong are the properties that list which units are stopped with a unit:
// the reverse of Requires=, Requisite=, BindsTo= and PartOf=, and StopPropagatedFrom=.
var stopsAlong = []string{"RequiredBy", "RequisiteOf", "BoundBy", "ConsistsOf", "PropagatesStopTo"}

// restartable are the kinds of units that may be started again alone. A target is
// not: it would pull in what the admin has stopped. Mounts are none of our business.
var restartable = []string{".service", ".socket", ".timer", ".path"}

// show asks for units, in the given order. A unit that does not exist is one
// with the LoadState "not-found".
func (s *systemd) show(ctx context.Context, names ...string) ([]unit, error) {
	return s.ask(ctx, shown, names...)
}

// ask is show for other properties.
func (s *systemd) ask(ctx context.Context, properties string, names ...string) ([]unit, error) {
	out, err := systemctl(ctx, append([]string{"show", "--no-pager", "--property=" + properties, "--"}, names...)...)
	if err != nil {
		return nil, fmt.Errorf("ask systemd about %s: %w", strings.Join(names, ", "), err)
	}
	var units []unit
	for block := range strings.SplitSeq(strings.TrimSpace(out), "\n\n") {
		u := unit{}
		for line := range strings.Lines(block) {
			key, value, _ := strings.Cut(strings.TrimRight(line, "\n"), "=")
			u[key] = value
		}
		units = append(units, u)
	}
	if len(units) != len(names) {
		return nil, fmt.Errorf("ask systemd about %s: %d answers to %d questions", strings.Join(names, ", "), len(units), len(names))
	}
	return units, nil
}

// state reads the unit's state. A unit whose processes outlived it is still on
// its way out.
func (u unit) state() (State, string) {
	detail := fmt.Sprintf("%s (%s)", u["ActiveState"], u["SubState"])
	loaded := u["LoadState"] == "loaded"
	if !loaded {
		detail = u["LoadState"] + ", " + detail
	}
	switch u["ActiveState"] {
	case "active", "reloading", "refreshing":
		return Running, detail
	case "inactive", "failed":
		if left := cgroupProcesses(u["ControlGroup"]); len(left) > 0 {
			return Changing, fmt.Sprintf("%s, processes left: %s", detail, join(left))
		}
		if u["ActiveState"] == "failed" {
			detail += ", " + u["Result"]
		}
		if !loaded {
			return Absent, detail
		}
		return Stopped, detail
	}
	return Changing, detail
}

// stamp is made of the start's id and time. systemd forgets both, and the unit
// with them, when nothing refers to a stopped unit.
func (u unit) stamp() string {
	if u["InvocationID"] == "" {
		return ""
	}
	return u["InvocationID"] + "@" + u["ActiveEnterTimestampMonotonic"]
}

// active tells whether the unit runs, or is on its way up or down.
func (u unit) active() bool {
	state, _ := u.state()
	return state == Running || state == Changing
}

// dependents finds what systemd stops along with those of units that are active,
// and would not start again with them: the nearest come first. ocbackup's own units
// are left out.
func (s *systemd) dependents(ctx context.Context, units []unit) ([]unit, error) {
	seen := map[string]bool{}
	for _, u := range units {
		seen[u["Id"]] = true
	}
	var found []unit
	for {
		var names []string
		for _, u := range units {
			for _, property := range stopsAlong {
				for name := range strings.FieldsSeq(u[property]) {
					if u.active() && !seen[name] && !strings.HasPrefix(name, "ocbackup-") {
						seen[name] = true
						names = append(names, name)
					}
				}
			}
		}
		if len(names) == 0 {
			return found, nil
		}
		var err error
		if units, err = s.show(ctx, names...); err != nil {
			return nil, err
		}
		for _, u := range units {
			if u.active() && slices.Contains(restartable, path.Ext(u["Id"])) {
				found = append(found, u)
			}
		}
	}
}

func (s *systemd) Status(ctx context.Context) (Status, error) {
	units, err := s.show(ctx, append([]string{s.cfg.Unit}, s.cfg.AlsoStop...)...)
	if err != nil {
		return Status{}, err
	}
	along, err := s.dependents(ctx, units)
	if err != nil {
		return Status{}, err
	}
	var st Status
	st.State, st.Detail = units[0].state()
	st.Stamp = units[0].stamp()
	st.PID, _ = strconv.Atoi(units[0]["MainPID"])
	for i, u := range units[1:] {
		if u.active() {
			st.Also = append(st.Also, s.cfg.AlsoStop[i])
		}
	}
	for _, u := range along {
		st.Also = append(st.Also, u["Id"])
	}
	return st, nil
}

func (s *systemd) Stop(ctx context.Context) error {
	names := append(append([]string{}, s.cfg.AlsoStop...), s.cfg.Unit)
	units, err := s.show(ctx, names...)
	if err != nil {
		return err
	}
	along, err := s.dependents(ctx, units)
	if err != nil {
		return err
	}
	for _, u := range along {
		units, names = append([]unit{u}, units...), append([]string{u["Id"]}, names...)
	}
	for i, u := range units {
		if _, detail := u.state(); u.active() && u["LoadState"] != "loaded" {
			return fail.Wrap(fail.Failed, fmt.Errorf("it is %s: it could not be started again", detail),
				"stop systemd unit "+names[i], "systemctl unmask "+names[i]+", or mend its unit file and run systemctl daemon-reload")
		}
	}
	for i, u := range units {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := s.stop(ctx, names[i], u); err != nil {
			return err
		}
	}
	return nil
}

// stop stops one unit and waits until none of its processes is left.
func (s *systemd) stop(parent context.Context, name string, before unit) error {
	if state, _ := before.state(); state == Stopped || state == Absent {
		return nil
	}
	what := "systemd unit " + name
	ctx, cancel := seeThrough(parent, s.cfg.StopTimeout)
	defer cancel()
	// The name of the control group is gone from the unit once it is stopped.
	group := before["ControlGroup"]
	var last unit
	_, err := systemctl(ctx, "stop", "--no-ask-password", "--", name)
	if err == nil {
		err = await(ctx, func(ctx context.Context) (bool, error) {
			units, err := s.show(ctx, name)
			if err != nil {
				return false, err
			}
			last = units[0]
			state, _ := last.state()
			return (state == Stopped || state == Absent) && len(cgroupProcesses(group)) == 0, nil
		})
	}
	switch {
	case timedOut(context.WithoutCancel(parent), ctx):
		detail := s.lastWord(ctx, name)
		if left := cgroupProcesses(group); len(left) > 0 && !strings.Contains(detail, "processes left") {
			detail += ", processes left: " + join(left)
		}
		return &TimeoutError{Op: "stop", What: what, After: s.cfg.StopTimeout, Detail: detail}
	case err != nil:
		return fmt.Errorf("stop %s: %w", what, err)
	case last["Result"] == "timeout":
		_, detail := last.state()
		return &KilledError{What: what, Detail: detail + "; see its TimeoutStopSec="}
	}
	return nil
}

func (s *systemd) Start(ctx context.Context, also []string) error {
	var errs []error
	// A unit that does not start must not keep the others down.
	for _, name := range append([]string{s.cfg.Unit}, also...) {
		errs = append(errs, s.start(ctx, name))
	}
	return errors.Join(errs...)
}

// start starts one unit and waits until it runs.
func (s *systemd) start(parent context.Context, name string) error {
	what := "systemd unit " + name
	ctx, cancel := context.WithTimeout(parent, s.cfg.StartTimeout)
	defer cancel()
	units, err := s.show(ctx, name)
	if err == nil {
		if state, _ := units[0].state(); state == Running {
			return nil
		}
		if units[0]["ActiveState"] == "failed" {
			// This clears systemd's count of starts, too, which could forbid this one.
			_, err = systemctl(ctx, "reset-failed", "--", name)
		}
	}
	if err == nil {
		// A stop that is under way is waited for by systemd.
		_, err = systemctl(ctx, "start", "--no-ask-password", "--", name)
	}
	if err == nil {
		err = await(ctx, func(ctx context.Context) (bool, error) {
			units, err := s.show(ctx, name)
			if err != nil {
				return false, err
			}
			state, detail := units[0].state()
			if state == Stopped {
				err = fmt.Errorf("it ended right away: %s", detail)
			}
			return state == Running, err
		})
	}
	switch {
	case err == nil:
		return nil
	case timedOut(parent, ctx):
		return &TimeoutError{Op: "start", What: what, After: s.cfg.StartTimeout, Detail: s.lastWord(ctx, name)}
	}
	return fail.Wrap(fail.Failed, err, "start "+what, "journalctl -n 50 -u "+name)
}

// lastWord is what systemd says of a unit when the time is over.
func (s *systemd) lastWord(ctx context.Context, name string) string {
	return lastWord(ctx, func(ctx context.Context) (Status, error) {
		units, err := s.show(ctx, name)
		if err != nil {
			return Status{}, err
		}
		_, detail := units[0].state()
		return Status{Detail: detail}, nil
	})
}

func (s *systemd) Image(context.Context) (Image, error) { return Image{}, nil }

func join(pids []int) string {
	words := make([]string, len(pids))
	for i, p := range pids {
		words[i] = strconv.Itoa(p)
	}
	return strings.Join(words, ", ")
}
