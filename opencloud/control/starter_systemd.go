package control

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ocbackup/ocbackup/proc"
)

// startShown are the properties that tell of a start.
const startShown = "Id,ActiveState,SubState,MainPID,NRestarts,Restart,InactiveExitTimestamp,InactiveExitTimestampMonotonic," +
	"TriggeredBy,UpheldBy,WantedBy,RequiredBy,BoundBy"

// journalLines is how many lines of the journal are told.
const journalLines = 4

// starter tells of each start of the units since then, of what systemd knows that
// starts them, and what its journal says. It is not known who asked systemd for one.
func (s *systemd) starter(ctx context.Context, since time.Time) []string {
	names := append([]string{s.cfg.Unit}, s.cfg.AlsoStop...)
	if st, err := s.Status(ctx); err == nil {
		names = append(names, st.Also...)
	}
	slices.Sort(names)
	units, err := s.ask(ctx, startShown, slices.Compact(names)...)
	if err != nil {
		return nil
	}
	begin := monotonic(since)
	var lines []string
	for _, u := range units {
		if u.began() < begin && u["SubState"] != "auto-restart" {
			continue
		}
		lines = append(lines, u.start())
		tells := func(what string, is func(unit) bool, properties ...string) {
			if names := s.related(ctx, u, is, properties...); len(names) > 0 {
				lines = append(lines, what+": "+strings.Join(names, ", "))
			}
		}
		tells("these units start it by themselves", unit.active, "TriggeredBy", "UpheldBy")
		tells("these units were started since, and start it along", func(o unit) bool { return o.began() >= begin },
			"WantedBy", "RequiredBy", "BoundBy")
		for _, l := range journal(ctx, u["Id"], since) {
			lines = append(lines, "journal: "+l)
		}
	}
	return lines
}

// began is when the unit began to start last, in microseconds of the monotonic clock.
func (u unit) began() int64 {
	n, _ := strconv.ParseInt(u["InactiveExitTimestampMonotonic"], 10, 64)
	return n
}

// start says how the unit was started last.
func (u unit) start() string {
	line := "systemd was told to start " + u["Id"]
	if n, _ := strconv.Atoi(u["NRestarts"]); n > 0 || u["SubState"] == "auto-restart" {
		line = fmt.Sprintf("systemd started %s again by itself (Restart=%s, %d times so far)", u["Id"], u["Restart"], n)
	}
	if at := u["InactiveExitTimestamp"]; at != "" {
		line += ", " + at
	}
	if pid := u["MainPID"]; pid != "" && pid != "0" {
		line += " (process " + pid + ")"
	}
	return line
}

// related lists the units that properties of a unit name, where they are as wanted,
// without ocbackup's own.
func (s *systemd) related(ctx context.Context, u unit, is func(unit) bool, properties ...string) (names []string) {
	var all []string
	for _, p := range properties {
		for name := range strings.FieldsSeq(u[p]) {
			if !strings.HasPrefix(name, "ocbackup-") {
				all = append(all, name)
			}
		}
	}
	if len(all) == 0 {
		return nil
	}
	units, _ := s.ask(ctx, startShown, all...) // none in the case of an error
	for _, o := range units {
		if is(o) && !slices.Contains(names, o["Id"]) {
			names = append(names, o["Id"])
		}
	}
	return names
}

// monotonic is a moment on the clock that systemd counts in, in microseconds.
func monotonic(at time.Time) int64 {
	var now unix.Timespec
	if unix.ClockGettime(unix.CLOCK_MONOTONIC, &now) != nil {
		return 0
	}
	return (now.Nano() - time.Since(at).Nanoseconds()) / 1000
}

// journal is what systemd itself says of a unit, and sudo of a systemctl on it. The
// server's own lines are left out: it is not known what they have.
func journal(ctx context.Context, id string, since time.Time) (lines []string) {
	out, err := proc.Output(ctx, "journalctl", "--quiet", "--no-pager", "--output=short", "--since=@"+strconv.FormatInt(since.Unix(), 10),
		"_PID=1", "UNIT="+id, "+", "_COMM=sudo")
	if err != nil {
		return nil
	}
	name := strings.TrimSuffix(id, ".service")
	for line := range strings.Lines(out) {
		line = strings.TrimSpace(line)
		if before, after, ok := strings.Cut(line, "sudo["); ok {
			if !strings.Contains(after, "systemctl") || !strings.Contains(after, name) {
				continue
			}
			// Not the command as a whole: there may be passwords in its variables.
			who, _, _ := strings.Cut(after, " : ")
			line = before + "sudo[" + who + ", systemctl"
		}
		lines = append(lines, line)
	}
	return lines[max(0, len(lines)-journalLines):]
}
