package commands

import (
	"fmt"
	"io"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
	"github.com/urfave/cli/v2"

	"github.com/ocbackup/ocbackup/doctor"
	"github.com/ocbackup/ocbackup/fail"
)

func doctorCommand() *cli.Command {
	return &cli.Command{
		Name:  "doctor",
		Usage: "check every prerequisite, and say how to mend what is wrong",
		Description: `Looks at the configuration, secrets, restic and the repository, the instance and who
runs it, its data, what an interrupted run left, and whether backups are scheduled.
Nothing is changed. Warnings do not count as failure; with errors the exit code is 2 for
the configuration, else 8 for the repository, else 1.

EXAMPLES:
   ocbackup doctor
   ocbackup doctor --problems          only what is not ok
   ocbackup --json doctor | jq '.findings[] | select(.status == "error")'

` + exitCodes,
		Flags:        []cli.Flag{&cli.BoolFlag{Name: "problems", Usage: "show only what is not ok"}},
		OnUsageError: onUsageError,
		Action: func(c *cli.Context) error {
			if c.NArg() > 0 {
				return fail.Usagef("see \"ocbackup doctor --help\"", "doctor takes no arguments")
			}
			e, err := newEnv(c, nil)
			if err != nil {
				return err
			}
			step := quiet(e).Step("doctor")
			rep, err := doctor.Run(c.Context, c.String("config"), c.String("state-dir"), step.Update)
			if err != nil {
				step.Fail(err)
				return err
			}
			step.Skip("")
			if e.json {
				if err := e.printJSON(rep); err != nil || rep.Err() == nil {
					return err
				}
				return &reportedError{rep.Err()}
			}
			printDoctor(e.out, rep, c.Bool("problems"), e.tty)
			return rep.Err()
		},
	}
}

func printDoctor(w io.Writer, rep *doctor.Report, problems, tty bool) {
	t := table.NewWriter()
	t.SetOutputMirror(w)
	t.SetStyle(table.StyleLight)
	t.Style().Options = table.OptionsNoBordersAndSeparators
	t.Style().Format.Header = text.FormatUpper
	t.SuppressTrailingSpaces()
	// A console may be 80 columns wide: the two long columns share what the short ones leave.
	rest := max(terminalWidth(w)-30, 40)
	t.SetColumnConfigs([]table.ColumnConfig{{Number: 3, WidthMax: rest * 4 / 7, WidthMaxEnforcer: text.WrapSoft}, {Number: 4, WidthMax: rest * 3 / 7, WidthMaxEnforcer: text.WrapSoft}})
	t.AppendHeader(table.Row{"status", "check", "what", "how to mend"})
	count := map[doctor.Status]int{}
	for _, f := range rep.Findings {
		count[f.Status]++
		if problems && f.Status == doctor.OK {
			continue
		}
		t.AppendRow(table.Row{statusText(f.Status, tty), f.Check, f.What, f.Mend})
	}
	if t.Length() > 0 {
		t.Render()
	}
	var parts []string
	for _, s := range []doctor.Status{doctor.Error, doctor.Warning, doctor.Info, doctor.OK} {
		if n := count[s]; n > 0 {
			name := s.String()
			if n > 1 && s >= doctor.Warning {
				name += "s"
			}
			parts = append(parts, fmt.Sprintf("%d %s", n, name))
		}
	}
	fmt.Fprintf(w, "\n%s\n", strings.Join(parts, ", "))
}

// statusText makes errors and warnings stand out on a terminal.
func statusText(s doctor.Status, tty bool) string {
	switch {
	case tty && s == doctor.Error:
		return text.FgRed.Sprint(strings.ToUpper(s.String()))
	case tty && s == doctor.Warning:
		return text.FgYellow.Sprint(s)
	case s == doctor.Error:
		return strings.ToUpper(s.String())
	}
	return s.String()
}
