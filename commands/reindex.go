package commands

import (
	"fmt"
	"io"

	"github.com/urfave/cli/v2"

	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/opencloud/index"
	"github.com/ocbackup/ocbackup/reindex"
)

func reindexCommand() *cli.Command {
	return &cli.Command{
		Name:  "reindex",
		Usage: "have OpenCloud build its search index again, space by space",
		Description: `OpenCloud stays up meanwhile. A restore does this by itself where it is needed, and
leaves a marker until every space is done; with such a marker this command goes on
where the restore, or an earlier run, stopped. Without one it indexes all spaces.
Disabled spaces can't be indexed and are skipped.

EXAMPLES:
   ocbackup reindex                  all spaces, or what a restore has left to do
   ocbackup reindex --force          all spaces, also those that are done already
   ocbackup reindex --space ID       this space only

` + exitCodes,
		Flags: []cli.Flag{
			&cli.StringSliceFlag{Name: "space", Usage: "index only the space with this `ID`; may be repeated"},
			&cli.BoolFlag{Name: "force", Usage: "take spaces again that an earlier run got done"},
			&cli.BoolFlag{Name: "clear", Usage: "index nothing, and remove the marker: the index is known to be complete"},
		},
		OnUsageError: onUsageError,
		Action: func(c *cli.Context) error {
			if c.NArg() > 0 {
				return fail.Usagef("see \"ocbackup reindex --help\"", "reindex takes no arguments; use --space")
			}
			if c.Bool("clear") && (c.Bool("force") || c.IsSet("space")) {
				return fail.Usagef("see \"ocbackup reindex --help\"", "--clear goes with neither --space nor --force")
			}
			e, err := setup(c)
			if err != nil {
				return err
			}
			res, err := reindex.Run(c.Context, reindex.Options{
				Config: e.cfg, Spaces: c.StringSlice("space"), Force: c.Bool("force"), Clear: c.Bool("clear"), Report: e.rep,
			})
			switch {
			case err != nil && (res == nil || len(res.Failed) == 0): // it did not come to indexing
			case e.json:
				if jerr := e.printJSON(res); err == nil {
					return jerr
				}
				return &reportedError{err}
			case c.Bool("clear"):
				printCleared(e.out, res)
			default:
				printReindex(e.out, res)
			}
			return err
		},
	}
}

func printReindex(w io.Writer, r *reindex.Result) {
	if r.Marker != nil {
		fmt.Fprintf(w, "Required since %s: %s\n", r.Marker.Since.Local().Format("2006-01-02 15:04"), markerReason(r.Marker))
	}
	for _, s := range r.Skipped {
		fmt.Fprintf(w, "Skipped: %s (%s): %s\n", s.Name, s.ID, s.Reason)
	}
	if len(r.Failed) > 0 {
		return // the error names them, and says how to go on
	}
	if r.Incremental && r.Marker == nil {
		fmt.Fprintln(w, "This version of OpenCloud indexes only what it finds new or changed.")
	}
	if r.Required {
		fmt.Fprintln(w, "There are spaces left to do: ocbackup reindex")
	}
	fmt.Fprintln(w, reindex.Summary(r)+".")
}

func printCleared(w io.Writer, r *reindex.Result) {
	if r.Marker == nil {
		fmt.Fprintln(w, "There was no marker.")
		return
	}
	fmt.Fprintln(w, "The marker is removed. It said: "+markerReason(r.Marker))
}

func markerReason(m *index.Marker) string {
	s := "the search index was " + string(m.Reason)
	if m.Detail != "" {
		s += " (" + m.Detail + ")"
	}
	if m.Set != "" {
		s += ", set " + m.Set
	}
	return s
}
