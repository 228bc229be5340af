package commands

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/dustin/go-humanize/english"
	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/urfave/cli/v2"

	"github.com/ocbackup/ocbackup/bucket"
	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/progress"
	"github.com/ocbackup/ocbackup/s3mirror"
)

func bucketCommand() *cli.Command {
	return &cli.Command{
		Name:  "bucket",
		Usage: "look after the pool that the S3 bucket is backed up to (driver decomposeds3)",
		Description: `Each object of the bucket is in the pool once, for as long as a set needs it.
"ocbackup backup" fills the pool, "ocbackup restore" brings a set's objects back.

EXAMPLES:
   ocbackup bucket status                   what the pool holds, and for which sets
   ocbackup bucket reconcile                list the pool, and copy what it has lost
   ocbackup bucket expire --dry-run         what no set needs any more

` + exitCodes,
		Subcommands:  []*cli.Command{bucketStatusCommand(), bucketReconcileCommand(), bucketExpireCommand()},
		OnUsageError: onUsageError,
		Action: func(c *cli.Context) error {
			if c.NArg() > 0 {
				return fail.Usagef("see \"ocbackup bucket --help\"", "there is no command \"bucket %s\"", c.Args().First())
			}
			return cli.ShowSubcommandHelp(c)
		},
	}
}

func bucketStatusCommand() *cli.Command {
	return &cli.Command{
		Name:  "status",
		Usage: "show what the pool holds, and for which sets",
		Description: `Lists the pool and reads the inventories of all sets. Nothing is changed. Objects that a
set needs and the pool does not have are exit code 4.

EXAMPLES:
   ocbackup bucket status
   ocbackup --json bucket status | jq .unreferenced_bytes

` + exitCodes,
		OnUsageError: onUsageError,
		Action: func(c *cli.Context) error {
			e, o, step, err := bucketOptions(c, "status")
			if err != nil {
				return err
			}
			s, err := bucket.ReadStatus(c.Context, o)
			if err != nil {
				step.Fail(err)
				return err
			}
			step.Skip("")
			if e.json {
				err = e.printJSON(s)
			} else {
				printBucketStatus(e.out, s)
			}
			if err == nil && len(s.Lost) > 0 {
				err = &reportedError{fail.New(fail.Inconsistent, fmt.Sprintf("the pool lacks %s that sets need", english.Plural(len(s.Lost), "object", "")),
					"\"ocbackup bucket reconcile\" copies again what the bucket still has; for the rest see docs/restore-runbook.md, \"Damage in the pool\"")}
			}
			return err
		},
	}
}

func bucketReconcileCommand() *cli.Command {
	return &cli.Command{
		Name:  "reconcile",
		Usage: "list the pool, and copy again what it has lost",
		Description: `A backup knows from the last one what the pool holds. This looks: the pool is listed, what
is not as it was stored is put aside, and what the bucket still has is copied again.
OpenCloud is not stopped. It is done by itself every reconcile_every ([pool]).

EXAMPLES:
   ocbackup bucket reconcile
   ocbackup bucket reconcile --read-data            read every object too, and compare its hashes

` + exitCodes,
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "read-data", Usage: "read every object of the pool, and compare its hashes"},
		},
		OnUsageError: onUsageError,
		Action: func(c *cli.Context) error {
			e, o, step, err := bucketOptions(c, "reconcile")
			if err != nil {
				return err
			}
			res, failed := bucket.Reconcile(c.Context, o, c.Bool("read-data"))
			if failed != nil {
				step.Fail(failed)
			} else {
				step.Skip("")
			}
			if res == nil {
				return failed
			}
			if e.json {
				err = e.printJSON(res)
			} else {
				printReconciled(e.out, res, failed == nil)
			}
			if failed != nil {
				return &reportedError{failed}
			}
			if err == nil && len(res.Lost) > 0 {
				err = &reportedError{fail.New(fail.Inconsistent, fmt.Sprintf("%s that sets need could not be copied again", english.Plural(len(res.Lost), "object", "")),
					"the bucket no longer has them as they were; see docs/restore-runbook.md, \"Damage in the pool\"")}
			}
			return err
		},
	}
}

func bucketExpireCommand() *cli.Command {
	return &cli.Command{
		Name:  "expire",
		Usage: "delete from the pool what no set needs",
		Description: `An object that no set in the repository names is deleted once it has been so for the grace
period ([pool] grace), counted from the first "expire" that has seen it. All sets are
read first; while one can't be read in full, nothing is deleted.

EXAMPLES:
   ocbackup bucket expire --dry-run         what would be deleted, and what waits
   ocbackup bucket expire

` + exitCodes,
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "dry-run", Aliases: []string{"n"}, Usage: "show it, and change nothing"},
		},
		OnUsageError: onUsageError,
		Action: func(c *cli.Context) error {
			e, o, step, err := bucketOptions(c, "expire")
			if err != nil {
				return err
			}
			dry := c.Bool("dry-run")
			x, err := bucket.Expire(c.Context, o, dry)
			if err != nil {
				step.Fail(err)
				return err
			}
			step.Skip("")
			if e.json {
				err = e.printJSON(x)
			} else {
				printExpired(e.out, x, dry)
			}
			if err == nil && x.Refused > 0 && x.Deleted == 0 {
				err = &reportedError{fail.New(fail.Failed, "the pool's server lets nothing be deleted",
					"give the pool's keys the right to delete; with object lock, wait until the objects' time is over")}
			}
			return err
		},
	}
}

// bucketOptions opens what the commands of a pool work with, and a step to show
// their progress.
func bucketOptions(c *cli.Context, name string) (*env, bucket.Options, progress.Step, error) {
	if c.NArg() > 0 {
		return nil, bucket.Options{}, nil, fail.Usagef(fmt.Sprintf("see %q", "ocbackup bucket "+name+" --help"), "bucket %s takes no arguments", name)
	}
	e, err := setup(c)
	if err != nil {
		return nil, bucket.Options{}, nil, err
	}
	r, err := e.repo()
	if err != nil {
		return nil, bucket.Options{}, nil, err
	}
	step := e.rep.Step(name)
	step.Update("reading the sets")
	return e, bucket.Options{
		Config: e.cfg, Repo: r, Note: e.rep.Note,
		OnProgress: func(p s3mirror.Progress) { step.Update(bucket.Progress(p)) },
	}, step, nil
}

func printBucketStatus(w io.Writer, s *bucket.Status) {
	line := func(k, format string, args ...any) { fmt.Fprintf(w, "%-14s %s\n", k, fmt.Sprintf(format, args...)) }
	line("bucket", "%s", s.Bucket)
	line("pool", "%s, since %s%s", s.Pool, s.Info.Created.Local().Format(time.DateOnly), s.Info.Features())
	line("holds", "%s", objects(s.Held, s.HeldBytes))
	line("needed", "%s, by %s", objects(s.Objects, s.Bytes), english.Plural(len(s.Sets), "set", ""))
	line("unreferenced", "%s%s", objects(s.Unreferenced, s.UnreferencedBytes), whenSome(s.Unreferenced,
		fmt.Sprintf("; \"ocbackup bucket expire\" deletes them after %s", days(s.Grace))))
	if len(s.Lost) == 0 {
		line("lost", "none")
	}
	for i, f := range s.Lost {
		if i == 10 {
			line("", "and %d more (--json lists all)", len(s.Lost)-i)
			break
		}
		line("LOST", "%s: %s", f.Key, f.Text)
	}
	if len(s.Elsewhere) > 0 {
		line("elsewhere", "%s have their objects in another pool: %s", english.Plural(len(s.Elsewhere), "set", ""), strings.Join(s.Elsewhere, ", "))
	}
	if len(s.Sets) == 0 {
		return
	}
	fmt.Fprintln(w)
	t := newTable(w)
	t.AppendHeader(table.Row{"SET", "OBJECTS", "SIZE", "ONLY THIS SET", "SIZE"})
	for _, x := range s.Sets {
		t.AppendRow(table.Row{x.Set, humanize.Comma(int64(x.Objects)), humanize.IBytes(x.Bytes), humanize.Comma(int64(x.Only)), humanize.IBytes(x.OnlyBytes)})
	}
	t.Render()
}

func printReconciled(w io.Writer, r *bucket.Reconciled, complete bool) {
	fmt.Fprintf(w, "The pool held %s.\n", objects(r.Objects, r.Bytes))
	if r.Read > 0 {
		fmt.Fprintf(w, "Read and compared: %s.\n", objects(r.Read, r.ReadBytes))
	}
	for i, f := range r.Findings {
		if i == 10 {
			fmt.Fprintf(w, "  and %d more (--json lists all)\n", len(r.Findings)-i)
			break
		}
		fmt.Fprintf(w, "  %s: %s: %s\n", f.Kind, f.Key, f.Text)
	}
	if r.Copied > 0 {
		fmt.Fprintf(w, "Copied from the bucket: %s.\n", objects(r.Copied, r.CopiedBytes))
	}
	for i, f := range r.Lost {
		if i == 10 {
			fmt.Fprintf(w, "  and %d more (--json lists all)\n", len(r.Lost)-i)
			break
		}
		fmt.Fprintf(w, "  still %s: %s: %s\n", f.Kind, f.Key, f.Text)
	}
	if len(r.Findings)+len(r.Lost) == 0 && complete {
		fmt.Fprintln(w, "Everything is there as it was stored.")
	}
}

func printExpired(w io.Writer, x *s3mirror.Expired, dry bool) {
	done := "Deleted"
	if dry {
		done = "Would delete"
	}
	if x.Resumed {
		fmt.Fprintln(w, "An expiry that was interrupted was gone on with.")
	}
	fmt.Fprintf(w, "No set needs %s.\n", objects(x.Unreferenced, x.UnreferencedBytes))
	fmt.Fprintf(w, "%s %s.\n", done, objects(x.Deleted, x.DeletedBytes))
	if x.Refused > 0 {
		fmt.Fprintf(w, "%s could not be deleted, the first: %s\n", english.Plural(int(x.Refused), "object", ""), x.Findings[0].Text)
	}
	if x.Uploads > 0 {
		fmt.Fprintf(w, "Aborted %s that had been interrupted.\n", english.Plural(int(x.Uploads), "upload", ""))
	}
	if x.Waiting > 0 {
		fmt.Fprintf(w, "%s wait for the end of the grace period", objects(x.Waiting, x.WaitingBytes))
		if !x.Next.IsZero() {
			fmt.Fprintf(w, "; the first are due on %s", x.Next.Local().Format(time.DateOnly))
		}
		fmt.Fprintln(w, ".")
	}
	if dry {
		fmt.Fprintln(w, "\nDry run: nothing was deleted.")
	}
}

// objects says how many objects there are, and how large.
func objects(n, bytes uint64) string {
	return fmt.Sprintf("%s (%s)", english.Plural(int(n), "object", ""), humanize.IBytes(bytes))
}

// days says how long a number of seconds is, in days where it is whole days.
func days(s float64) string {
	d := time.Duration(s * float64(time.Second))
	if d >= 24*time.Hour && d%(24*time.Hour) == 0 {
		return english.Plural(int(d/(24*time.Hour)), "day", "")
	}
	return d.String()
}

func whenSome(n uint64, s string) string {
	if n == 0 {
		return ""
	}
	return s
}
