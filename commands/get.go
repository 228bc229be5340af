package commands

import (
	"context"
	"fmt"
	"io"
	"path/filepath"

	"github.com/ocbackup/ocbackup/shellword"

	"github.com/dustin/go-humanize"
	"github.com/dustin/go-humanize/english"
	"github.com/urfave/cli/v2"

	"github.com/ocbackup/ocbackup/browse"
	"github.com/ocbackup/ocbackup/extract"
	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/manifest"
	"github.com/ocbackup/ocbackup/s3mirror"
)

func getCommand() *cli.Command {
	return &cli.Command{
		Name:      "get",
		Usage:     "get a file, a folder or a space out of a set",
		ArgsUsage: "[SET] SPACE[:/path]",
		Description: placesHelp + `

OpenCloud may run or not: it is not touched. What is got goes into DIR under its own
name, with its own times, folders with all that is in them (without old versions and
trash). Every file is compared with the size and hash of OpenCloud's metadata; one that
differs is not put in place but named, and the exit code is 4. What could not be written
for other reasons is named, and the exit code is 3. A name that is there already is an
error before anything is written.

DIR is made where it is missing, closed to others. Run by root, everything gets the owner
of DIR (where it is made: of the directory that it is made in). "--to -" writes one file
to standard output; whether it was sound is known at its end, by the exit code.

--upload puts it back into the running server, where it was or into --upload-to FOLDER of
the same space, as a user who may write there. What is there already is an error; with
--overwrite the server keeps what a file was before as a version.

Contents in an S3 bucket (storage driver decomposeds3) come from the pool. On a bare host
--repository and --password-file are enough, with --pool-... where the pool has keys.

EXAMPLES:
   ocbackup get 'Marketing:/Offers/May 2026.odt' --to /tmp/may
   ocbackup get 20261101 Marketing:/Offers --to /srv/look      of another set
   ocbackup get personal/alan --to /srv/alan                   all of a space
   ocbackup get Marketing:/offer.odt --version 1 --to .        what it was before
   ocbackup get Marketing:/offer.odt --trash --to .            after it was deleted
   ocbackup get Marketing:/list.csv --to - | head
   ocbackup get Marketing:/Offers --trash --upload https://cloud.example.com --user alan --app-password-file pw

` + exitCodes,
		Flags: append(repositoryFlags(),
			&cli.StringFlag{Name: "to", Aliases: []string{"t"}, Usage: "put it into `DIR`; \"-\" is standard output"},
			&cli.BoolFlag{Name: "overwrite", Usage: "replace files that have the same names"},
			&cli.StringFlag{Name: "version", Usage: "an older `VERSION` of the file: 1 is the newest of them; or a key, or the beginning of one"},
			&cli.BoolFlag{Name: "trash", Usage: "what was deleted from there; the last, where there are several"},
			&cli.StringFlag{Name: "item", Usage: "with --trash: the item of this `KEY`"},
			&cli.StringFlag{Name: "upload", Usage: "put it back into the server at `URL`"},
			&cli.StringFlag{Name: "upload-to", Usage: "with --upload: into `FOLDER` of the space"},
			&cli.StringFlag{Name: "user", Usage: "with --upload: `NAME` of the user"},
			&cli.StringFlag{Name: "app-password-file", Usage: "with --upload: `FILE` with an app password of the user"},
			&cli.StringFlag{Name: "token-file", Usage: "with --upload: `FILE` with a bearer token, instead of user and password"},
			&cli.StringFlag{Name: "ca-file", Usage: "with --upload: `FILE` with the certificate authorities to trust"},
			&cli.BoolFlag{Name: "insecure", Usage: "with --upload: trust any certificate"},
			&cli.StringFlag{Name: "pool", Usage: "the pool that holds the contents is at `LOCATION` now"},
			&cli.StringFlag{Name: "pool-env-file", Usage: "`FILE` with the access keys of a pool on S3"},
			&cli.StringFlag{Name: "pool-password-file", Usage: "`FILE` with the password of an encrypted pool"},
		),
		OnUsageError: onUsageError,
		BashComplete: completePlace,
		Action:       runGet,
	}
}

func runGet(c *cli.Context) error {
	o := extract.Options{
		Version: c.String("version"), Trash: c.Bool("trash"), Item: c.String("item"), To: c.String("to"), Overwrite: c.Bool("overwrite"),
	}
	if err := getTarget(c, &o); err != nil {
		return err
	}
	early := beginGet(c, o)
	defer early.Close()
	p, space, path, err := openPlace(c)
	if err != nil {
		return err
	}
	o.Early = early
	defer p.catalog.Close() //nolint:errcheck // it was only read
	o.Repo, o.Set, o.Catalog, o.Space, o.Path, o.Report = p.repo, p.set, p.catalog, *space, path, p.rep
	o.Pool = func(ctx context.Context) (*s3mirror.Pool, error) { return p.poolFor(ctx, c) }
	if o.Stdout != nil {
		o.Stdout = p.out
	}
	res, err := extract.Run(c.Context, o)
	if o.Stdout != nil {
		return told(c.Context, err)
	}
	return p.printResult(res, err)
}

// printResult prints what get has done, and returns the command's error.
func (e *env) printResult(res *extract.Result, err error) error {
	switch {
	case res == nil:
		return err
	case !e.json:
		printGot(e.out, res, err == nil)
		return err
	}
	if jerr := e.printJSON(res); err == nil {
		return jerr
	}
	return reported(err)
}

// beginGet begins to read what is probably meant, by what is known here of the sets, while
// the repository is asked for them. It is nil where nothing is known.
func beginGet(c *cli.Context, o extract.Options) *extract.Early {
	ref, place, err := browse.ParseArgs(c.Args().Slice())
	if err != nil || place == nil {
		return nil
	}
	e, r, err := openRepository(c)
	if err != nil {
		return nil
	}
	set, err := manifest.Pick(manifest.CachedSets(e.cacheDir()), ref, r.Host())
	if err != nil {
		return nil
	}
	f := manifest.CachedCatalog(set, e.cacheDir())
	if f == nil {
		return nil
	}
	defer f.Close() //nolint:errcheck // it was only read
	if o.Space, err = f.Resolve(place.Space); err != nil {
		return nil
	}
	o.Repo, o.Set, o.Catalog, o.Path = r, set, f, place.Path
	return extract.Begin(c.Context, o)
}

// getTarget reads where it goes.
func getTarget(c *cli.Context, o *extract.Options) error {
	hint := "--to DIR, or --upload URL; see \"ocbackup get --help\""
	switch {
	case c.String("upload") != "" && o.To != "":
		return fail.Usagef(hint, "--to and --upload can't go together")
	case c.String("upload") != "":
		o.Upload = &extract.Upload{
			URL: c.String("upload"), User: c.String("user"), PasswordFile: c.String("app-password-file"), TokenFile: c.String("token-file"),
			CAFile: c.String("ca-file"), Insecure: c.Bool("insecure"), Folder: c.String("upload-to"),
		}
		return nil
	}
	for _, f := range []string{"upload-to", "user", "app-password-file", "token-file", "ca-file", "insecure"} {
		if c.IsSet(f) {
			return fail.Usagef(hint, "--%s has no meaning without --upload", f)
		}
	}
	switch o.To {
	case "":
		return fail.Usagef(hint, "get needs to be told where to")
	case "-":
		if c.Bool("json") {
			return fail.Usagef("--to DIR", "--json and \"--to -\" can't go together: both are standard output")
		}
		o.To, o.Stdout = "", io.Discard // replaced by what the command writes to
	}
	return nil
}

// poolFor opens the pool of the set. What is a path becomes an absolute one.
func (o *opened) poolFor(ctx context.Context, c *cli.Context) (*s3mirror.Pool, error) {
	p := extract.PoolOptions{
		Config: o.cfg, Set: o.set, Location: c.String("pool"), EnvFile: c.String("pool-env-file"), PasswordFile: c.String("pool-password-file"), Note: o.rep.Note,
	}
	for _, f := range []*string{&p.Location, &p.EnvFile, &p.PasswordFile} {
		if *f == "" || f == &p.Location && isRemote(*f) {
			continue
		}
		var err error
		if *f, err = filepath.Abs(*f); err != nil {
			return nil, err
		}
	}
	return extract.OpenPool(ctx, p)
}

// printGot prints what get has done; complete is false when an error tells the rest.
func printGot(w io.Writer, r *extract.Result, complete bool) {
	for _, s := range r.Skipped {
		fmt.Fprintf(w, "not brought: %s: %s: %s\n", shellword.Quote(s.Path), s.Class, shellword.Visible(s.Reason))
	}
	if r.More > 0 {
		fmt.Fprintf(w, "not brought: %s more\n", humanize.Comma(int64(r.More)))
	}
	what := counted(r.Files, "file")
	if r.Folders > 0 {
		what += ", " + counted(r.Folders, "folder")
	}
	checked := ", all compared with the metadata's hashes"
	if n := r.Files - r.Checked; n > 0 {
		checked = fmt.Sprintf(", %s of them without: the metadata has no hash to compare with", humanize.Comma(int64(n)))
	}
	if r.Files == 0 {
		checked = ""
	}
	fmt.Fprintf(w, "%s (%s)%s\n", what, humanize.IBytes(r.Bytes), checked)
	if complete {
		fmt.Fprintln(w, shellword.Quote(r.To))
	}
}

func counted(n uint64, what string) string {
	return humanize.Comma(int64(n)) + " " + english.PluralWord(int(n), what, "")
}
