package commands

import (
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/dustin/go-humanize"
	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/urfave/cli/v2"

	"github.com/ocbackup/ocbackup/config"
	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/restore"
)

func restoreCommand() *cli.Command {
	return &cli.Command{
		Name:      "restore",
		Usage:     "bring back the instance, some of it, or a copy beside it",
		ArgsUsage: "[SET]",
		Description: `SET is an id, a prefix of one, or "latest" (the default). The data is restored
beside the old while OpenCloud runs, and compared with the set. Only then OpenCloud
is stopped, for as long as a few renames take. The old data is kept; --undo brings it
back. Where the search index can't be used, it is built again.

What is kept of the set on this host in snapshots (keep_snapshots) is copied from
there, the rest comes from the repository; --from-repository uses none, nor does
--in-place.

On a bare host --repository and --password-file are enough: the rest is in the set.

Where the contents of files lie in an S3 bucket (storage driver decomposeds3), the
objects that it lacks are restored from the pool while OpenCloud runs. What the set
does not have is left there, unless --delete-extra says otherwise.

EXAMPLES:
   ocbackup restore --dry-run                       what would be done
   ocbackup restore                                 the whole instance, latest set
   ocbackup restore --yes 20261123                  without being asked
   ocbackup restore --component config              only this; of another moment than the rest
   ocbackup restore --target /srv/look              a copy; the instance is not touched
   ocbackup restore --undo                          take the last restore back
   ocbackup restore -r /srv/backup -p /root/pw --map /srv/old=/srv/new
   ocbackup restore --component blobs               only what the S3 bucket lacks

` + exitCodes,
		Flags: append(repositoryFlags(),
			componentFlag("restore only these `COMPONENTS`"),
			&cli.StringSliceFlag{Name: "map", Usage: "restore what was below OLD to below NEW: `OLD=NEW`; repeatable, the longest OLD wins"},
			&cli.StringFlag{Name: "target", Aliases: []string{"t"}, Usage: "restore below `DIR`, which is empty or new, beside the instance"},
			&cli.BoolFlag{Name: "dry-run", Aliases: []string{"n"}, Usage: "print the plan and change nothing"},
			&cli.BoolFlag{Name: "yes", Aliases: []string{"y"}, Usage: "agree to replacing what is there"},
			&cli.BoolFlag{Name: "undo", Usage: "bring back the data that the last restore has replaced"},
			&cli.BoolFlag{Name: "in-place", Usage: "overwrite the old data while OpenCloud is stopped: needs no second copy, can't be undone"},
			&cli.BoolFlag{Name: "no-start", Usage: "leave OpenCloud stopped afterwards"},
			&cli.BoolFlag{Name: "no-rollback", Usage: "keep the restored data in place even if OpenCloud does not come up with it"},
			&cli.BoolFlag{Name: "allow-version-mismatch", Usage: "let a server go on that is newer than the set"},
			&cli.BoolFlag{Name: "from-repository", Usage: "use no snapshot of the set that is kept on this host"},
			&cli.BoolFlag{Name: "keep-staging", Usage: "leave what was staged when the restore fails"},
			&cli.StringFlag{Name: "bucket-target", Usage: "restore the objects of the S3 bucket to `LOCATION`: s3:https://host/bucket, or a directory"},
			&cli.StringFlag{Name: "bucket-env-file", Usage: "`FILE` with the access keys of the bucket that is restored to"},
			&cli.StringFlag{Name: "pool", Usage: "the pool that holds the objects is at `LOCATION` now"},
			&cli.StringFlag{Name: "pool-env-file", Usage: "`FILE` with the access keys of a pool on S3"},
			&cli.StringFlag{Name: "pool-password-file", Usage: "`FILE` with the password of an encrypted pool"},
			&cli.BoolFlag{Name: "delete-extra", Usage: "last of all, delete objects of the bucket that the set does not have"},
			&cli.BoolFlag{Name: "accept-damaged-blobs", Usage: "go on without objects that the pool has lost: their files will be unreadable"},
		),
		OnUsageError: onUsageError,
		Action:       runRestore,
	}
}

func runRestore(c *cli.Context) error {
	if c.NArg() > 1 {
		return fail.Usagef("see \"ocbackup restore --help\"", "restore takes one SET")
	}
	if c.Bool("undo") {
		return runUndo(c)
	}
	o := restore.Options{
		Set: c.Args().First(), Target: c.String("target"), InPlace: c.Bool("in-place"), Yes: c.Bool("yes"),
		NoStart: c.Bool("no-start"), NoRollback: c.Bool("no-rollback"), DryRun: c.Bool("dry-run"),
		AllowVersionMismatch: c.Bool("allow-version-mismatch"), KeepStaging: c.Bool("keep-staging"), FromRepository: c.Bool("from-repository"),
		StateDir: c.String("state-dir"), DeleteExtra: c.Bool("delete-extra"), AcceptDamagedBlobs: c.Bool("accept-damaged-blobs"),
	}
	if err := restoreBucketOptions(c, &o); err != nil {
		return err
	}
	var err error
	if o.Components, err = parseComponents(c.StringSlice("component")); err != nil {
		return err
	}
	for _, s := range c.StringSlice("map") {
		m, err := restore.ParseMapping(s)
		if err != nil {
			return err
		}
		o.Maps = append(o.Maps, m)
	}
	if o.Target != "" {
		if o.Target, err = filepath.Abs(o.Target); err != nil {
			return err
		}
	}
	e, r, err := openRepository(c)
	if err != nil {
		return err
	}
	o.Repo, o.Config, o.Report, o.Confirm = r, e.cfg, e.rep, e.confirm
	if e.cfg == nil {
		if o.Bare, err = bareRepository(c); err != nil {
			return err
		}
		o.ConfigPath = config.DefaultPath
	}
	res, err := restore.Run(c.Context, o)
	return e.printRestored(res, err)
}

// restoreBucketOptions reads where bucket and pool are. What is a path becomes an absolute one.
func restoreBucketOptions(c *cli.Context, o *restore.Options) error {
	for _, f := range []struct {
		name string
		to   *string
	}{
		{"bucket-target", &o.BucketTarget},
		{"bucket-env-file", &o.BucketEnvFile},
		{"pool", &o.PoolAt},
		{"pool-env-file", &o.PoolEnvFile},
		{"pool-password-file", &o.PoolPasswordFile},
	} {
		*f.to = c.String(f.name)
		if *f.to == "" || !strings.HasSuffix(f.name, "-file") && isRemote(*f.to) {
			continue
		}
		var err error
		if *f.to, err = filepath.Abs(*f.to); err != nil {
			return err
		}
	}
	return nil
}

// isRemote tells whether a location is not a path.
func isRemote(location string) bool {
	kind, _, found := strings.Cut(location, ":")
	return found && !strings.Contains(kind, "/")
}

// printRestored prints the result of a restore, also of one that failed after the
// restored data was in place.
func (e *env) printRestored(res *restore.Result, err error) error {
	switch {
	case res == nil:
		return err
	case !e.json:
		printRestore(e.out, res, err == nil)
		return err
	}
	if jerr := e.printJSON(res); err == nil {
		return jerr
	}
	return &reportedError{err}
}

// bareRepository is what the configuration that is written back says of the repository.
func bareRepository(c *cli.Context) (config.Repository, error) {
	rep := config.Repository{Location: c.String("repository"), PasswordFile: c.String("password-file"), Restic: c.String("restic")}
	paths := []*string{&rep.PasswordFile}
	if _, local := config.LocalPath(rep.Location); local {
		paths = append(paths, &rep.Location)
	}
	for _, p := range paths {
		if *p == "" {
			continue
		}
		abs, err := filepath.Abs(*p)
		if err != nil {
			return rep, err
		}
		*p = abs
	}
	return rep, nil
}

func runUndo(c *cli.Context) error {
	e, err := setup(c)
	if err != nil {
		return err
	}
	res, err := restore.Undo(c.Context, restore.UndoOptions{
		Config: e.cfg, Yes: c.Bool("yes"), Confirm: e.confirm, NoStart: c.Bool("no-start"), DryRun: c.Bool("dry-run"), Report: e.rep,
		StateDir: c.String("state-dir"),
	})
	return e.printRestored(res, err)
}

// printRestore prints what a restore did, or would do; complete is false when it did
// not get all of it done.
func printRestore(w io.Writer, r *restore.Result, complete bool) {
	if len(r.Roots) > 0 {
		fmt.Fprintln(w)
		t := newTable(w)
		t.AppendHeader(table.Row{"ROOT", "TO", "FILES", "SIZE", "FROM"})
		for _, x := range r.Roots {
			t.AppendRow(table.Row{x.Name, x.Path, humanize.Comma(int64(x.Files)), humanize.IBytes(x.Bytes), x.Origin()})
		}
		t.Render()
	}
	if r.DryRun {
		for _, x := range r.Replaced {
			kept := "overwritten"
			if x.Aside != "" {
				kept = "kept in " + x.Aside
			}
			fmt.Fprintf(w, "Replaced: %s (root %s), %s\n", x, x.Root, kept)
		}
		if r.Reindex == restore.ReindexWould {
			fmt.Fprintln(w, "The search index would be built again: "+r.ReindexWhy+".")
		}
	}
	if r.Bucket != nil {
		fmt.Fprintln(w, bucketLine(r))
	}
	for _, s := range r.Not {
		fmt.Fprintln(w, "Not restored: "+s)
	}
	switch {
	case r.DryRun:
		fmt.Fprintln(w, "\nDry run: nothing was stopped, nothing was changed.")
		return
	case r.Mode == restore.ModeUndo && len(r.Aside) > 0:
		fmt.Fprintf(w, "\nWhat was restored is kept. To do away with it: %s\n", r.Delete)
	case len(r.Aside) > 0 && r.Undo == "":
		fmt.Fprintf(w, "\nWhat was there is kept. To do away with it: %s\n", r.Delete)
	case len(r.Aside) > 0:
		fmt.Fprintf(w, "\nThe old data is kept. To bring it back:     %s\n", r.Undo)
		fmt.Fprintf(w, "                      To do away with it:    %s\n", r.Delete)
	}
	if r.Reindex == restore.ReindexPending {
		fmt.Fprintln(w, "The search index must still be built again: "+r.ReindexBy)
	}
	if !complete {
		return // the error says how things stand
	}
	away := ""
	switch {
	case r.Mode == restore.ModeBeside, r.Mode == restore.ModeBucket:
	case r.Running && !r.WasRunning:
		away = " OpenCloud is running."
	case r.Running:
		away = fmt.Sprintf(" OpenCloud is running; it was away for %s.", seconds(r.Downtime))
	default:
		away = " OpenCloud is not running."
	}
	fmt.Fprintf(w, "Done in %s.%s\n", seconds(r.Seconds), away)
}

// bucketLine says what became of the bucket.
func bucketLine(r *restore.Result) string {
	b := r.Bucket
	were := "restored"
	if r.DryRun {
		were = "would be restored"
	}
	s := fmt.Sprintf("Objects: %s of %s (%s) %s to %s", humanize.Comma(int64(b.Restored)), humanize.Comma(int64(b.Objects)),
		humanize.IBytes(b.RestoredBytes), were, b.Destination)
	if b.Differing > 0 {
		s += fmt.Sprintf(", %s of them over other content", humanize.Comma(int64(b.Differing)))
	}
	switch {
	case b.Deleted > 0:
		s += fmt.Sprintf("; %s deleted that the set does not have (%s)", humanize.Comma(int64(b.Deleted)), humanize.IBytes(b.DeletedBytes))
	case b.Extra > 0:
		s += fmt.Sprintf("; %s there that the set does not have (%s)", humanize.Comma(int64(b.Extra)), humanize.IBytes(b.ExtraBytes))
	}
	if n := len(b.Findings); n > 0 {
		s += fmt.Sprintf("; NOT RESTORED: %s", humanize.Comma(int64(n)))
	}
	return s
}
