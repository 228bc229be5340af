package commands

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/ocbackup/ocbackup/shellword"

	"github.com/dustin/go-humanize"
	"github.com/urfave/cli/v2"

	"github.com/ocbackup/ocbackup/browse"
	"github.com/ocbackup/ocbackup/catalog"
	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/manifest"
	"github.com/ocbackup/ocbackup/repo"
)

// placesHelp is part of the help text of every command that takes a place in a set.
const placesHelp = `SET is an id, the beginning of one, or "latest" (the default). SPACE is a name, an alias
(personal/alan), an id or the beginning of an id; "ocbackup spaces" lists them.
Quote what has spaces in it: 'Marketing Team:/Offers/May 2026.odt'.`

// opened is a set that a command looks into.
type opened struct {
	*env
	repo    *repo.Repo
	sets    []manifest.Set // all that the repository holds
	set     *manifest.Set
	catalog *catalog.File
}

// openSet opens the repository, the set that ref names ("" is the latest), and its
// catalog. The caller closes the catalog.
func openSet(c *cli.Context, ref string) (*opened, error) {
	e, r, err := openRepository(c)
	if err != nil {
		return nil, err
	}
	sets, err := readSets(c, e, r)
	if err != nil {
		return nil, err
	}
	set, err := manifest.Pick(sets, ref, r.Host())
	if err != nil {
		return nil, err
	}
	for _, id := range manifest.PassedOver(sets, ref) {
		e.rep.Note("Set " + id + " is newer, but data of users is missing in it (ocbackup show --findings " + id + "); name it to look into it.")
	}
	o := &opened{env: e, repo: r, sets: sets, set: set}
	o.catalog, err = o.open(set)
	return o, err
}

// open opens the catalog of a set, telling how far it is where it has to come from the
// repository.
func (o *opened) open(set *manifest.Set) (*catalog.File, error) {
	step := quiet(o.env).Step("read")
	f, err := manifest.OpenCatalog(o.ctx, o.repo, set, o.cacheDir(), func(done, total uint64) {
		step.Update(fmt.Sprintf("the catalog of set %s: %s of %s", set.ID, humanize.IBytes(done), humanize.IBytes(total)))
	})
	step.Skip("")
	if fail.CodeOf(err) == fail.Failed {
		err = o.repo.Failure(err, "open set "+set.ID)
	}
	return f, err
}

// openPlace opens the set that the arguments [SET] SPACE[:/path] name, and finds the
// space. What is at the path, if anything, is for the caller to find out. The caller
// closes the catalog.
func openPlace(c *cli.Context) (*opened, *catalog.Space, string, error) {
	ref, place, err := browse.ParseArgs(c.Args().Slice())
	if err != nil {
		return nil, nil, "", err
	}
	if place == nil {
		return nil, nil, "", fail.Usagef(fmt.Sprintf("see \"ocbackup %s --help\"; \"ocbackup spaces\" lists the spaces", c.Command.Name),
			"%s needs to be told where: SPACE:/path", c.Command.Name)
	}
	o, err := openSet(c, ref)
	if err != nil {
		return nil, nil, "", err
	}
	space, err := o.space(place.Space)
	if err != nil {
		_ = o.catalog.Close()
		return nil, nil, "", err
	}
	return o, &space, place.Path, nil
}

// space finds a space in the set by its name, alias or id. The error is a fail.Usage
// that tells which there are.
func (o *opened) space(ref string) (catalog.Space, error) {
	space, err := o.catalog.Resolve(ref)
	if err = spaceFailure(err, o.set.ID); fail.CodeOf(err) == fail.Usage {
		err = fail.Wrap(fail.Usage, err, "set "+o.set.ID, "")
	}
	return space, o.damaged(err)
}

// spaceFailure says what to do about a space that is not to be found in a set ("" is
// the newest). Other errors stay as they are.
func spaceFailure(err error, set string) error {
	var (
		unknown   *catalog.NotFoundError
		ambiguous *catalog.AmbiguousError
	)
	switch {
	case errors.As(err, &unknown):
		return fail.Wrap(fail.Usage, err, "", "\""+strings.TrimSpace("ocbackup spaces "+set)+"\" lists the spaces; a place in one is written SPACE:/path")
	case errors.As(err, &ambiguous):
		return fail.Wrap(fail.Usage, err, "", "name it by its alias or id")
	}
	return err
}

// damaged says what to do about a catalog that can't be read. A copy of it in the cache
// is removed, so that the next command reads it from the repository.
func (o *opened) damaged(err error) error {
	if err == nil || fail.CodeOf(err) != fail.Failed {
		return err
	}
	hint := "\"ocbackup verify\" tells what is damaged; other sets may be sound: \"ocbackup list\""
	if manifest.DropCatalog(o.set, o.cacheDir()) {
		hint = "run it again: the copy in the cache is removed, and will be read from the repository"
	}
	return fail.Wrap(fail.Inconsistent, err, "read the catalog of set "+o.set.ID, hint)
}

// missing says of what was not found in the set where else it may be.
func (o *opened) missing(err error, place string) error {
	if !errors.Is(err, fs.ErrNotExist) {
		return o.damaged(err)
	}
	q := shellword.Quote(place)
	return fail.Usagef(strings.Join([]string{
		"ocbackup history " + q + "   (other sets, versions, trash)",
		"ocbackup find NAME   (other places)",
	}, "\n"), "set %s has no %s", o.set.ID, q)
}
