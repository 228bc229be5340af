package commands

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/ocbackup/ocbackup/shellword"

	"github.com/dustin/go-humanize"
	"github.com/urfave/cli/v2"

	"github.com/ocbackup/ocbackup/browse"
	"github.com/ocbackup/ocbackup/catalog"
	"github.com/ocbackup/ocbackup/certificate"
	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/manifest"
)

func historyCommand() *cli.Command {
	return &cli.Command{
		Name:      "history",
		Usage:     "show all that the sets have of one file: contents, versions, trash",
		ArgsUsage: "SPACE:/path",
		Description: `Looks at one path in all sets of the instance, and shows every content that it has had
once: in which sets, whether as what users saw, as an old version or in the trash, and
the call that brings it back. The space is followed by its id, so that it may have been
renamed; a file that was moved has another path: see "ocbackup find".

The first time, the catalog of every set is read from the repository; --last looks at
the newest sets only.

EXAMPLES:
   ocbackup history Marketing:/Offers/offer.odt
   ocbackup history --last 7 'personal/alan:/May 2026.odt'
   ocbackup --json history Marketing:/offer.odt | jq '.contents[0]'

` + exitCodes,
		Flags: append(repositoryFlags(),
			&cli.IntFlag{Name: "last", Usage: "look at the newest `N` sets only"},
		),
		OnUsageError: onUsageError,
		BashComplete: completePlaceOnly,
		Action: func(c *cli.Context) error {
			if c.NArg() != 1 {
				return fail.Usagef("quote what has spaces in it; see \"ocbackup history --help\"", "history takes one SPACE:/path")
			}
			place, err := browse.ParsePlace(c.Args().First())
			if err != nil {
				return err
			}
			if c.IsSet("last") && c.Int("last") < 1 {
				return fail.Usagef("for example --last 7", "--last: %d is no number of sets", c.Int("last"))
			}
			e, r, err := openRepository(c)
			if err != nil {
				return err
			}
			sets, err := readSets(c, e, r)
			if err != nil {
				return err
			}
			var several *manifest.InstancesError
			if _, err := manifest.Pick(sets, manifest.Latest, r.Host()); errors.As(err, &several) || len(sets) == 0 {
				return err
			}
			if n := c.Int("last"); n > 0 {
				sets = sets[max(0, len(sets)-n):]
			}
			o := &opened{env: e, repo: r, sets: sets}
			trail, err := browse.History(c.Context, sets, place, browse.Sources{Open: o.open, Certificate: func(s *manifest.Set) (*certificate.Certificate, error) {
				return manifest.ReadCertificate(c.Context, r, s)
			}})
			if err != nil {
				return spaceFailure(err, "")
			}
			return e.printTrail(trail)
		},
	}
}

func (e *env) printTrail(t *browse.Trail) error {
	var err error
	if len(t.Contents) == 0 && !e.json {
		fmt.Fprintf(e.err, "None of %d sets has %s.\n", t.Searched, shellword.Quote(t.Place))
	}
	if e.json {
		err = e.printJSON(t)
	} else {
		err = writeTrail(e.out, t)
		for _, s := range t.Skipped {
			fmt.Fprintf(e.err, "Not looked into: %s: %s\n", s.Set, s.Reason)
		}
	}
	if err == nil && t.Damage != nil {
		return reported(t.Damage)
	}
	return reported(told(e.ctx, err))
}

// writeTrail prints each content in two lines: what and where it is, and how to get it.
func writeTrail(w io.Writer, t *browse.Trail) error {
	for _, c := range t.Contents {
		what := "folder"
		if c.Kind != catalog.KindFolder {
			what = humanize.IBytes(uint64(max(c.Size, 0)))
		}
		since := ""
		if c.Sets > 1 {
			since = fmt.Sprintf(", in %d sets from %s on", c.Sets, c.First)
		}
		where := c.Where
		switch c.Where {
		case browse.Current:
			if c.Last != t.Newest && c.Lost != t.Newest {
				where = "current then, not in newer sets"
			}
		case browse.Trash:
			where = "in the trash"
			if !c.Deleted.IsZero() {
				where += ", deleted " + clock(c.Deleted)
			}
		case browse.Version:
			where = "old version"
		}
		if c.Lost != "" {
			where += since + "; LOST in " + c.Lost
			since = ""
		}
		if c.Last == "" {
			if _, err := fmt.Fprintf(w, "%s  %9s  %16s  %s: no set has its content\n", c.Lost, what, clock(c.MTime), where); err != nil {
				return err
			}
			continue
		}
		words := make([]string, len(c.Get))
		for i, a := range c.Get {
			words[i] = shellword.Quote(a)
		}
		if _, err := fmt.Fprintf(w, "%s  %9s  %16s  %s%s\n    ocbackup get %s --to DIR\n", c.Last, what, clock(c.MTime), where, since, strings.Join(words, " ")); err != nil {
			return err
		}
	}
	return nil
}
