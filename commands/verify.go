package commands

import (
	"context"
	"fmt"
	"io"
	"regexp"

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
		Description: `Holds the manifest of a set (the newest, unless SET names one) against what the
repository has, and has restic check the repository's structure. With --read-data a
part of all data is read and checked too. OpenCloud is not touched. Damage found is
exit code 4.

EXAMPLES:
   ocbackup verify                          the newest set
   ocbackup verify --all                    every set
   ocbackup verify --read-data 3/10         and the third tenth of all data

` + exitCodes,
		Flags: append(repositoryFlags(),
			&cli.BoolFlag{Name: "all", Usage: "verify every set"},
			&cli.StringFlag{Name: "read-data", Usage: "read and check this `PART` of the data too: n/t, or x%"},
		),
		OnUsageError: onUsageError,
		Action: func(c *cli.Context) error {
			if c.NArg() > 1 || c.Bool("all") && c.NArg() > 0 {
				return fail.Usagef("see \"ocbackup verify --help\"", "verify takes one SET, or --all")
			}
			part := c.String("read-data")
			if part != "" && !readData.MatchString(part) {
				return fail.Usagef("use for example 1/10, or 5%", "--read-data: %q is no part", part)
			}
			e, r, err := openRepository(c)
			if err != nil {
				return err
			}
			rep, err := verify.Run(c.Context, verify.Options{
				Repo: r, Set: c.Args().First(), All: c.Bool("all"), ReadData: part, Report: e.rep, Pool: e.poolOf,
			})
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
				hint := "keep the sets that are sound, make a new one with \"ocbackup backup\", and see docs/restore-runbook.md, \"Damage\""
				if len(rep.Pool) > 0 {
					hint = "\"ocbackup bucket reconcile\" copies again what the bucket still has; see docs/restore-runbook.md, \"Damage in the pool\""
				}
				err = &reportedError{fail.New(fail.Inconsistent, "damage was found", hint)}
			}
			return err
		},
	}
}

var readData = regexp.MustCompile(`^([1-9][0-9]*/[1-9][0-9]*|[0-9.]+%)$`)

func printVerify(w io.Writer, rep *verify.Report) {
	for _, s := range rep.Sets {
		verdict := "sound"
		switch {
		case len(s.Findings) > 0:
			verdict = "DAMAGED"
		case len(rep.Pool) > 0 && s.Objects > 0:
			verdict = "see its pool"
		}
		fmt.Fprintf(w, "%s  %s  %s files, %s\n", s.Set, verdict, humanize.Comma(int64(s.Files)), humanize.IBytes(s.Bytes))
		for _, f := range s.Findings {
			fmt.Fprintln(w, "  - "+f)
		}
	}
	for _, f := range rep.Pool {
		fmt.Fprintln(w, "pool: "+bucket.String(f))
	}
	for _, f := range rep.Repository {
		fmt.Fprintln(w, "repository: "+f)
	}
}

// poolOf opens the pool of a set: the configured one, or on a bare host the one that
// the manifest names.
func (e *env) poolOf(ctx context.Context, m *manifest.Manifest) (*s3mirror.Pool, error) {
	return bucket.OpenPool(ctx, bucket.ForSet(e.cfg, m))
}
