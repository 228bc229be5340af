package commands

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/urfave/cli/v2"

	"github.com/ocbackup/ocbackup/backup"
	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/opencloud"
)

func backupCommand() *cli.Command {
	return &cli.Command{
		Name:  "backup",
		Usage: "make a set: stop OpenCloud for seconds, store all of it, start it again",
		Description: `Everything that could fail is looked at first, with OpenCloud running. Then it is
stopped, proven stopped, stored, and started again, whatever happens in between. The
set exists only when its manifest is stored, as the last thing.

EXAMPLES:
   ocbackup backup                                  a full set
   ocbackup backup --dry-run                        what would be done
   ocbackup backup --component config,system        a part; the result is not a full set
   ocbackup backup --max-downtime 2h                although it takes longer than usual
   ocbackup --json backup > result.json             for scripts (docs/json.md)

` + exitCodes,
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "dry-run", Aliases: []string{"n"}, Usage: "print the plan and change nothing"},
			componentFlag("back up only these `COMPONENTS`"),
			&cli.DurationFlag{Name: "max-downtime", Usage: "for this run, the most that OpenCloud may be away, such as 10m; 0: no limit", DefaultText: "max_downtime in [backup]"},
			&cli.BoolFlag{Name: "new-pool", Usage: "begin another pool for the S3 bucket than that of the last backup"},
			&cli.BoolFlag{Name: "accept-empty-bucket", Usage: "go on although the S3 bucket, which had objects at the last backup, has none"},
		},
		OnUsageError: onUsageError,
		Action: func(c *cli.Context) error {
			e, err := setup(c)
			if err != nil {
				return err
			}
			if c.IsSet("max-downtime") {
				if e.cfg.Backup.MaxDowntime = c.Duration("max-downtime"); e.cfg.Backup.MaxDowntime < 0 {
					return fail.Usagef("see \"ocbackup backup --help\"", "--max-downtime can't be negative")
				}
			}
			components, err := parseComponents(c.StringSlice("component"))
			if err != nil {
				return err
			}
			r, err := e.repo()
			if err != nil {
				return err
			}
			o := backup.Options{Config: e.cfg, Repo: r, Version: Version, Components: components, AcceptEmptyBucket: c.Bool("accept-empty-bucket"), NewPool: c.Bool("new-pool"), Report: e.rep}
			if c.Bool("dry-run") {
				plan, err := backup.DryRun(c.Context, o)
				if err != nil {
					return err
				}
				if e.json {
					return e.printJSON(plan)
				}
				printPlan(e.out, plan)
				return nil
			}
			res, err := backup.Run(c.Context, o)
			if res == nil {
				return err
			}
			if e.json {
				return errors.Join(reported(err), e.printJSON(res))
			}
			printBackup(e.out, res)
			return reported(err)
		},
	}
}

// componentFlag is the --component of several commands.
func componentFlag(usage string) cli.Flag {
	return &cli.StringSliceFlag{Name: "component", Usage: usage + ", of " + strings.Join(componentNames(), ", ")}
}

func componentNames() []string {
	var names []string
	for _, c := range opencloud.Components {
		names = append(names, string(c))
	}
	return append(names, string(opencloud.Extra))
}

// parseComponents reads --component: repeated, or separated by commas.
func parseComponents(args []string) ([]opencloud.Component, error) {
	var out []opencloud.Component
	for _, a := range args {
		if !slices.Contains(componentNames(), a) {
			return nil, fail.Usagef("use some of "+strings.Join(componentNames(), ", "), "--component: there is no component %q", a)
		}
		if c := opencloud.Component(a); !slices.Contains(out, c) {
			out = append(out, c)
		}
	}
	return out, nil
}

func printPlan(w io.Writer, p *backup.Plan) {
	fmt.Fprintf(w, "%s: driver %s, %s (%s)\n", p.Instance, p.Driver, p.Control, p.State)
	fmt.Fprintf(w, "repository %s, %d sets\n\n", p.Repository, p.Sets)
	t := newTable(w)
	t.AppendHeader(table.Row{"ROOT", "COMPONENTS", "WHEN", "WHAT"})
	for _, r := range p.Roots {
		what := r.Path
		switch {
		case len(r.Command) > 0:
			what = "output of " + strings.Join(r.Command, " ")
		case r.Absent:
			what += " (not there; left out)"
		case r.First:
			what += " (first time: read in full)"
		}
		how := r.When
		if r.When == "frozen" {
			how += " by " + string(r.Freeze)
		}
		t.AppendRow(table.Row{r.Name, joinComponents(r.Components), how, what})
	}
	t.Render()
	printUnfrozen(w, p.Roots)
	if p.Predicted > 0 {
		fmt.Fprintf(w, "\nOpenCloud would be away for about %s.\n", seconds(p.Predicted))
	}
	if p.TooLong {
		fmt.Fprintln(w, "That is longer than max_downtime allows: a backup would end before the stop, with exit code 7.")
	}
	if b := p.Bucket; b != nil {
		first := ""
		if b.New {
			first = " (first time: all of it is copied)"
		}
		fmt.Fprintf(w, "\n%s, to the pool %s%s\n", b.Source, b.Pool, first)
	}
	if !p.Full {
		fmt.Fprintln(w, "\nThis would not be a full set: an instance can't be restored from it alone.")
	}
	printNotProtected(w, p.NotProtected)
	fmt.Fprintln(w, "\nDry run: nothing was stopped, nothing was stored.")
}

// printUnfrozen says which roots are read while OpenCloud is stopped, and why.
func printUnfrozen(w io.Writer, roots []backup.PlannedRoot) {
	var reasons []string
	names := map[string][]string{}
	for _, r := range roots {
		if r.Unfrozen == "" {
			continue
		}
		if names[r.Unfrozen] == nil {
			reasons = append(reasons, r.Unfrozen)
		}
		names[r.Unfrozen] = append(names[r.Unfrozen], r.Name)
	}
	for _, why := range reasons {
		fmt.Fprintf(w, "\nNo snapshot of %s: %s.\n", strings.Join(names[why], ", "), why)
	}
}

func printBackup(w io.Writer, r *backup.Result) {
	if !r.Full {
		fmt.Fprintf(w, "\nThis is not a full set: it holds %s only.\n", joinComponents(r.Components))
	}
	printNotProtected(w, r.NotProtected)
	fmt.Fprintf(w, "\nSet %s: %s in %s files, %s new. Search index %s.\n", r.Set, humanize.IBytes(r.Bytes),
		humanize.Comma(int64(r.Files)), humanize.IBytes(r.Added), r.Search.State)
	if b := r.Bucket; b != nil {
		fmt.Fprintf(w, "Bucket %s: %s, %s new, in the pool %s.\n", b.Name, objects(b.Objects, b.Bytes), humanize.IBytes(b.NewBytes), b.Pool.Location)
	}
	if p := r.Certificate; p != nil {
		fmt.Fprintf(w, "Proven: %s.\n", proven(p))
	}
	away := "OpenCloud was not running and was left so."
	if r.WasRunning {
		away = fmt.Sprintf("OpenCloud was away for %s.", seconds(r.Downtime.Total))
	}
	fmt.Fprintf(w, "Done in %s. %s\n", seconds(r.Seconds), away)
}

func printNotProtected(w io.Writer, notProtected []string) {
	for _, s := range notProtected {
		fmt.Fprintln(w, "Not protected: "+s)
	}
}

func joinComponents(cs []opencloud.Component) string {
	var s []string
	for _, c := range cs {
		s = append(s, string(c))
	}
	return strings.Join(s, ", ")
}

// seconds shows a length of time the way people say it.
func seconds(s float64) string {
	switch d := time.Duration(s * float64(time.Second)); {
	case d < time.Minute:
		return fmt.Sprintf("%.1f s", s)
	case d < time.Hour:
		return fmt.Sprintf("%d min %d s", int(d.Minutes()), int(d.Seconds())%60)
	default:
		return fmt.Sprintf("%d h %d min", int(d.Hours()), int(d.Minutes())%60)
	}
}

// newTable returns a table in the one style that all commands print.
func newTable(w io.Writer) table.Writer {
	t := table.NewWriter()
	t.SetOutputMirror(w)
	style := table.StyleLight
	style.Options = table.OptionsNoBordersAndSeparators
	style.Box.PaddingLeft, style.Box.PaddingRight = "", "  "
	t.SetStyle(style)
	t.SuppressTrailingSpaces()
	return t
}
