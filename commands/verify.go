package commands

import (
	"context"
	"fmt"
	"io"

	"github.com/dustin/go-humanize"
	"github.com/urfave/cli/v2"

	"github.com/ocbackup/ocbackup/bucket"
	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/manifest"
	"github.com/ocbackup/ocbackup/s3mirror"
	"github.com/ocbackup/ocbackup/verify"
)

func verifyCommand() *cli.Command {
	return &cli.Command{
		Name:      "verify",
		Usage:     "find out whether sets can be restored",
		ArgsUsage: "[SET]",
		Description: `Holds a set (the newest, unless SET names one) against what the repository and the
pool have of it: its snapshots, its catalog, and for every file, version and trash
item the content that its metadata name, as the set's certificate did when it was
made. What is lost is named by its path. restic checks the repository's structure.

--read-data n/t also reads a part of all data, and holds contents and objects of the
pool against the hashes in the metadata: t runs with n from 1 to t read everything.
next/t takes the part that was read longest ago. x% has restic read that much of the
repository's packs, at random, and nothing else.

OpenCloud is not touched. Damage found is exit code 4; --json lists up to 1,000 files.

EXAMPLES:
   ocbackup verify                          the newest set
   ocbackup verify --all                    every set
   ocbackup verify --read-data 3/10         and the third tenth of all data
   ocbackup verify --read-data next/30      once a day: everything within a month

` + exitCodes,
		Flags: append(repositoryFlags(),
			&cli.BoolFlag{Name: "all", Usage: "verify every set"},
			&cli.StringFlag{Name: "read-data", Usage: "read and check this `PART` of the data too: n/t, next/t, or x%"},
		),
		OnUsageError: onUsageError,
		Action: func(c *cli.Context) error {
			if c.NArg() > 1 || c.Bool("all") && c.NArg() > 0 {
				return fail.Usagef("see \"ocbackup verify --help\"", "verify takes one SET, or --all")
			}
			part, err := verify.ParsePart(c.String("read-data"))
			if err != nil {
				return err
			}
			e, r, err := openRepository(c)
			if err != nil {
				return err
			}
			o := verify.Options{Repo: r, Set: c.Args().First(), All: c.Bool("all"), Part: part, Report: e.rep, Pool: e.poolOf}
			if e.cfg != nil {
				o.StateDir = e.cfg.StateDir
			}
			rep, err := verify.Run(c.Context, o)
			if rep == nil {
				return err
			}
			incomplete := err
			if e.json {
				err = e.printJSON(rep)
			} else {
				printVerify(e.out, rep)
			}
			if incomplete != nil {
				return &reportedError{incomplete}
			}
			if err == nil && !rep.Sound {
				what, hint := "damage was found", "keep the sets that are sound, make a new one with \"ocbackup backup\", and see docs/restore-runbook.md, \"Damage\""
				if len(rep.Pool) > 0 {
					hint = "\"ocbackup bucket reconcile\" copies again what the bucket still has; see docs/restore-runbook.md, \"Damage in the pool\""
				}
				if unharmed(rep) {
					what, hint = "data of users is missing, which OpenCloud had lost when the set was made; what was stored is sound", "see docs/proof.md, \"What is found\""
				}
				err = &reportedError{fail.New(fail.Inconsistent, what, hint)}
			}
			return err
		},
	}
}

// unharmed tells whether nothing that was stored is damaged.
func unharmed(rep *verify.Report) bool {
	for i := range rep.Sets {
		if s := &rep.Sets[i]; !s.Sound() && !s.Unharmed() {
			return false
		}
	}
	return len(rep.Pool) == 0 && len(rep.Repository) == 0
}

// shown is how many findings of a kind the screen takes.
const shown = 20

func printVerify(w io.Writer, rep *verify.Report) {
	for i := range rep.Sets {
		s := &rep.Sets[i]
		verdict := "sound"
		switch {
		case s.Unharmed():
			verdict = setInconsistent
		case !s.Sound():
			verdict = "DAMAGED"
		case len(rep.Pool) > 0 && s.Objects > 0:
			verdict = "see its pool"
		case s.Certificate != nil && s.Uncertified != "":
			verdict = "not proven"
		}
		fmt.Fprintf(w, "%s  %s  %s files, %s\n", s.Set, verdict, humanize.Comma(int64(s.Files)), humanize.IBytes(s.Bytes))
		printSome(w, "  - ", s.Findings, 0)
		if s.Uncertified != "" {
			fmt.Fprintln(w, "  not proven: "+s.Uncertified)
		}
		if c := s.Certificate; c != nil {
			fmt.Fprintln(w, "  "+c.Line())
			var lost []string
			for _, f := range c.Findings {
				if f.Fatal {
					lost = append(lost, f.String())
				}
			}
			printSome(w, "  - ", lost, c.Fatal-uint64(len(lost)))
		}
		if s.Read > 0 {
			fmt.Fprintf(w, "  read and compared: %s contents, %s\n", humanize.Comma(int64(s.Read)), humanize.IBytes(s.ReadBytes))
		}
	}
	var pool []string
	for _, f := range rep.Pool {
		pool = append(pool, bucket.String(f))
	}
	printSome(w, "pool: ", pool, 0)
	printSome(w, "repository: ", rep.Repository, 0)
}

// printSome prints the first lines, and how many there are beside those, with more that
// nothing lists.
func printSome(w io.Writer, before string, lines []string, more uint64) {
	for i, l := range lines {
		if i == shown {
			more += uint64(len(lines) - shown)
			break
		}
		fmt.Fprintln(w, before+l)
	}
	if more > 0 {
		fmt.Fprintf(w, "%s... and %s more\n", before, humanize.Comma(int64(more)))
	}
}

// poolOf opens the pool of a set: the configured one, or on a bare host the one that
// the manifest names.
func (e *env) poolOf(ctx context.Context, m *manifest.Manifest) (*s3mirror.Pool, error) {
	return bucket.OpenPool(ctx, bucket.ForSet(e.cfg, m))
}
