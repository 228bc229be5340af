package commands

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/urfave/cli/v2"

	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/schedule"
	"github.com/ocbackup/ocbackup/verify"
)

func scheduleCommand() *cli.Command {
	dest := &cli.StringFlag{Name: "dest", Value: schedule.DefaultDir, Usage: "`DIR` of the units; systemd is told only of its own"}
	return &cli.Command{
		Name:  "schedule",
		Usage: "have systemd make backups: every night, with recovery at boot and checks",
		Description: `Units for systemd: a backup with its timer, a check of what is stored with its timer,
and the recovery of what an interrupted run has left, at boot. Their sandbox and what
of it is left open is explained in the units and in docs/scheduling.md.

EXAMPLES:
   ocbackup schedule install                                  every night at 02:15, a check on Sundays
   ocbackup schedule install --backup "Mon..Fri 03:00" --check off
   ocbackup schedule print                                    look at them first
   ocbackup schedule show                                     next runs, last results

` + exitCodes,
		HideHelpCommand: true,
		OnUsageError:    onUsageError,
		Action: func(c *cli.Context) error {
			if c.Args().Present() {
				return fail.Usagef("use print, install, show or remove", "schedule: there is no command %q", c.Args().First())
			}
			return cli.ShowSubcommandHelp(c)
		},
		Subcommands: []*cli.Command{
			{
				Name: "print", Usage: "print the units, and change nothing",
				Flags: planFlags(), OnUsageError: onUsageError,
				Action: func(c *cli.Context) error {
					e, plan, err := schedulePlan(c)
					if err != nil {
						return err
					}
					if e.json {
						return e.printJSON(plan)
					}
					for i, u := range plan.Units {
						fmt.Fprintf(e.out, "%s# %s\n%s", strings.Repeat("\n", min(i, 1)), filepath.Join(schedule.DefaultDir, u.Name), u.Text)
					}
					for _, w := range plan.Warnings {
						e.rep.Note("Warning: " + w)
					}
					return nil
				},
			},
			{
				Name: "install", Usage: "write the units and start the timers; may be repeated",
				Flags: append(planFlags(), dest), OnUsageError: onUsageError,
				Action: func(c *cli.Context) error {
					e, plan, err := schedulePlan(c)
					if err != nil {
						return err
					}
					res, err := schedule.Install(c.Context, c.String("dest"), e.cfg.Name, plan)
					if err != nil {
						return err
					}
					return e.printScheduled(res)
				},
			},
			{
				Name: "show", Usage: "show what is scheduled: next runs, last results",
				Flags: []cli.Flag{dest}, OnUsageError: onUsageError,
				Action: func(c *cli.Context) error {
					e, err := setup(c)
					if err != nil {
						return err
					}
					list, err := schedule.Show(c.Context, c.String("dest"), e.cfg.Name)
					if err != nil {
						return err
					}
					if e.json {
						return e.printJSON(struct {
							Units []schedule.Status `json:"units"`
						}{list})
					}
					printSchedule(e.out, list)
					return nil
				},
			},
			{
				Name: "remove", Usage: "stop the timers and remove the units; a backup under way goes on",
				Flags: []cli.Flag{dest}, OnUsageError: onUsageError,
				Action: func(c *cli.Context) error {
					e, err := setup(c)
					if err != nil {
						return err
					}
					res, err := schedule.Remove(c.Context, c.String("dest"), e.cfg.Name)
					if err != nil {
						return err
					}
					return e.printScheduled(res)
				},
			},
		},
	}
}

func planFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "backup", Value: schedule.DefaultBackup, Usage: "`WHEN` to back up, as a calendar event of systemd.time(7), or \"off\""},
		&cli.StringFlag{Name: "check", Value: schedule.DefaultCheck, Usage: "`WHEN` to verify what is stored, in the same form, or \"off\""},
		&cli.StringFlag{Name: "read-data", Usage: "have each verification read this `PART` of the data too: next/10 reads all of it in ten runs"},
		&cli.DurationFlag{Name: "randomized-delay", Value: schedule.DefaultDelay, Usage: "start up to `TIME` later, so that many machines do not start at once"},
		&cli.StringFlag{Name: "memory-max", Usage: "memory `LIMIT` of a backup: 2G, 50%"},
		&cli.StringFlag{Name: "cpu-quota", Usage: "CPU `LIMIT` of a backup: 100% is one CPU"},
		&cli.IntFlag{Name: "io-weight", Usage: "I/O `WEIGHT` of a backup, 1 to 10000; others have 100"},
		&cli.IntFlag{Name: "nice", Value: schedule.DefaultNice, Usage: "`PRIORITY` of a backup, -20 to 19"},
		&cli.StringFlag{Name: "on-failure", Usage: "`UNIT` that is started when a backup, a check or a recovery fails"},
	}
}

func schedulePlan(c *cli.Context) (*env, *schedule.Plan, error) {
	e, err := setup(c)
	if err != nil {
		return nil, nil, err
	}
	for _, flag := range []string{"backup", "check"} {
		if err := schedule.CheckCalendar(c.Context, flag, c.String(flag)); err != nil {
			return nil, nil, err
		}
	}
	if part := c.String("read-data"); part != "" {
		if _, err := verify.ParsePart(part); err != nil {
			return nil, nil, err
		}
	}
	program, err := os.Executable()
	if err != nil {
		return nil, nil, fail.Wrap(fail.Failed, err, "find ocbackup's own path", "")
	}
	if e.cfg.Path, err = filepath.Abs(e.cfg.Path); err != nil {
		return nil, nil, err
	}
	plan, err := schedule.Render(schedule.Options{
		Config: e.cfg, Program: program,
		Backup: c.String("backup"), Check: c.String("check"), ReadData: c.String("read-data"), RandomizedDelay: c.Duration("randomized-delay"),
		OnFailure: c.String("on-failure"),
		MemoryMax: c.String("memory-max"), CPUQuota: c.String("cpu-quota"), IOWeight: c.Int("io-weight"), Nice: c.Int("nice"),
	})
	return e, plan, err
}

func (e *env) printScheduled(r *schedule.Result) error {
	if e.json {
		return e.printJSON(r)
	}
	for _, x := range []struct {
		what  string
		units []string
	}{{"written", r.Written}, {"unchanged", r.Unchanged}, {"removed", r.Removed}} {
		for _, u := range x.units {
			fmt.Fprintf(e.out, "%-10s %s\n", x.what, filepath.Join(r.Dir, u))
		}
	}
	for _, w := range r.Warnings {
		e.rep.Note("Warning: " + w)
	}
	switch {
	case len(r.Written)+len(r.Unchanged)+len(r.Removed) == 0:
		fmt.Fprintln(e.out, "Nothing was installed.")
	case !r.Active:
		fmt.Fprintln(e.out, "systemd was not told: it does not look into "+r.Dir+".")
	case len(r.Written)+len(r.Unchanged) > 0:
		fmt.Fprintln(e.out, `The timers run; "ocbackup schedule show" tells the next runs and the last results.`)
	}
	return nil
}

func printSchedule(w io.Writer, list []schedule.Status) {
	t := newTable(w)
	t.AppendHeader(table.Row{"UNIT", "STATE", "WHEN", "NEXT", "LAST", "RESULT"})
	moment := func(at *time.Time) string {
		if at == nil {
			return "-"
		}
		return at.Format("2006-01-02 15:04") + " (" + humanize.Time(*at) + ")"
	}
	for _, s := range list {
		state := "not installed"
		if s.Installed {
			state = strings.Trim(s.Enabled+", "+s.Active, ", ")
		}
		result := s.Result
		if s.ExitCode != 0 {
			result = fmt.Sprintf("%s, exit code %d", s.Result, s.ExitCode)
		}
		t.AppendRow(table.Row{s.Unit, state, s.Calendar, moment(s.Next), moment(s.Last), result})
	}
	t.Render()
}
