package commands

import (
	"fmt"
	"io"

	"github.com/dustin/go-humanize"
	"github.com/urfave/cli/v2"

	"github.com/ocbackup/ocbackup/browse"
	"github.com/ocbackup/ocbackup/catalog"
	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/manifest"
)

func diffCommand() *cli.Command {
	return &cli.Command{
		Name:      "diff",
		Usage:     "show which files and folders differ between two sets",
		ArgsUsage: "SET [SET]",
		Description: `What became of the first set until the second, which is the newest by default:

   + added    - removed    ~ changed    > moved or renamed

Only what users saw is compared, not old versions and the trash. Space names are those of
the set that the line is about: of the first for what was removed, else of the second.

EXAMPLES:
   ocbackup diff 20261101                       from then until the newest set
   ocbackup diff 20261101 20261108 --space Marketing
   ocbackup --json diff 20261101 | jq .summary

` + exitCodes,
		Flags: append(repositoryFlags(),
			&cli.StringFlag{Name: "space", Usage: "only in this `SPACE`"},
		),
		OnUsageError: onUsageError,
		BashComplete: completeSet,
		Action: func(c *cli.Context) error {
			if c.NArg() < 1 || c.NArg() > 2 {
				return fail.Usagef("see \"ocbackup diff --help\"; \"ocbackup list\" lists the sets", "diff takes one SET or two")
			}
			e, r, err := openRepository(c)
			if err != nil {
				return err
			}
			sets, err := readSets(c, e, r)
			if err != nil {
				return err
			}
			d := &differ{env: e, space: c.String("space")}
			for i, side := range []*opened{&d.from, &d.to} {
				*side = opened{env: e, repo: r, sets: sets}
				if side.set, err = manifest.Pick(sets, c.Args().Get(i), r.Host()); err != nil {
					return err
				}
			}
			for _, side := range []*opened{&d.from, &d.to} {
				if side.catalog, err = side.open(side.set); err != nil {
					return err
				}
				defer side.catalog.Close() //nolint:errcheck // it was only read
			}
			return d.run()
		},
	}
}

// diffView is what the output of diff begins with, diffEnd what it ends with;
// docs/json.md describes them.
type diffView struct {
	From    string       `json:"from"`
	To      string       `json:"to"`
	Changes []changeView `json:"changes"`
}

type diffEnd struct {
	Summary diffSummary `json:"summary"`
}

// diffSummary counts; bytes are of files that were added, changed (their new size) and
// removed.
type diffSummary struct {
	Added        uint64 `json:"added"`
	AddedBytes   uint64 `json:"added_bytes"`
	Removed      uint64 `json:"removed"`
	RemovedBytes uint64 `json:"removed_bytes"`
	Changed      uint64 `json:"changed"`
	ChangedBytes uint64 `json:"changed_bytes"`
	Moved        uint64 `json:"moved"`
	// SpacesAdded and SpacesRemoved are ids of spaces that only one of the sets has.
	SpacesAdded   []string `json:"spaces_added,omitempty"`
	SpacesRemoved []string `json:"spaces_removed,omitempty"`
}

// changeView is one change.
type changeView struct {
	Change catalog.ChangeKind `json:"change"`
	Before *nodeView          `json:"before,omitempty"`
	After  *nodeView          `json:"after,omitempty"`
}

type differ struct {
	*env
	from, to opened
	space    string
	summary  diffSummary
	list     *jsonList
}

func (d *differ) run() error {
	before, err := d.from.catalog.Spaces()
	if err != nil {
		return d.from.damaged(err)
	}
	after, err := d.to.catalog.Spaces()
	if err != nil {
		return d.to.damaged(err)
	}
	only := ""
	if d.space != "" {
		space, err := d.to.space(d.space)
		if err != nil { // it may be gone since
			var fromErr error
			if space, fromErr = d.from.space(d.space); fromErr != nil {
				return err
			}
		}
		only = space.ID
	}
	if d.json {
		if d.list, err = startList(d.out, diffView{d.from.set.ID, d.to.set.ID, []changeView{}}); err != nil {
			return told(d.ctx, err)
		}
	}
	failed := d.changes(browse.RefsOf(before), browse.RefsOf(after), only)
	if d.list != nil {
		if err := d.list.end(diffEnd{d.summary}); err != nil {
			return told(d.ctx, err)
		}
		return reported(told(d.ctx, failed))
	}
	if failed == nil && d.ctx.Err() == nil {
		_, failed = fmt.Fprintln(d.out, d.summary.line(d.from.set.ID, d.to.set.ID))
	}
	return told(d.ctx, failed)
}

func (d *differ) changes(before, after *browse.Refs, only string) error {
	for c, err := range catalog.Diff(d.from.catalog, d.to.catalog) {
		if err != nil {
			return d.to.damaged(err)
		}
		if d.ctx.Err() != nil {
			return nil // told says why
		}
		if only != "" && (c.Before == nil || c.Before.Space != only) && (c.After == nil || c.After.Space != only) {
			continue
		}
		v := changeView{Change: c.Kind}
		if c.Before != nil {
			v.Before = viewNode(before, c.Before)
		}
		if c.After != nil {
			v.After = viewNode(after, c.After)
		}
		if err := d.show(v); err != nil {
			return err
		}
	}
	return nil
}

func (d *differ) show(v changeView) error {
	s := &d.summary
	mark, place, remark := "", "", ""
	switch v.Change {
	case catalog.Added:
		mark, place, remark = "+", v.After.pasted(), size(v.After)
		count(v.After, &s.Added, &s.AddedBytes, &s.SpacesAdded)
	case catalog.Removed:
		mark, place, remark = "-", v.Before.pasted(), size(v.Before)
		count(v.Before, &s.Removed, &s.RemovedBytes, &s.SpacesRemoved)
	case catalog.Changed:
		mark, place, remark = "~", v.After.pasted(), resized(v)
		count(v.After, &s.Changed, &s.ChangedBytes, nil)
	case catalog.Moved:
		mark, place, remark = ">", v.After.pasted(), "from "+v.Before.pasted()
		s.Moved++
	}
	if d.list != nil {
		return d.list.add(v)
	}
	if remark != "" {
		remark = "   # " + remark
	}
	_, err := io.WriteString(d.out, mark+" "+place+remark+"\n")
	return err
}

// count counts a node; spaces are counted apart.
func count(v *nodeView, n, bytes *uint64, spaces *[]string) {
	if v.Path == "/" && spaces != nil {
		*spaces = append(*spaces, v.Space)
		return
	}
	*n++
	*bytes += uint64(max(v.Size, 0))
}

func size(v *nodeView) string {
	if v.Path == "/" {
		return "a space"
	}
	if v.Kind == catalog.KindFolder {
		return ""
	}
	return humanize.IBytes(uint64(max(v.Size, 0)))
}

func resized(v changeView) string {
	if a, b := size(v.Before), size(v.After); a != b {
		return a + ", now " + b
	}
	return size(v.After)
}

func (s *diffSummary) line(from, to string) string {
	if s.Added+s.Removed+s.Changed+s.Moved == 0 && len(s.SpacesAdded)+len(s.SpacesRemoved) == 0 {
		return fmt.Sprintf("Nothing differs between %s and %s.", from, to)
	}
	n := func(v uint64) string { return humanize.Comma(int64(v)) }
	return fmt.Sprintf("%s to %s: %s added (%s), %s removed (%s), %s changed (%s), %s moved.", from, to,
		n(s.Added), humanize.IBytes(s.AddedBytes), n(s.Removed), humanize.IBytes(s.RemovedBytes), n(s.Changed), humanize.IBytes(s.ChangedBytes), n(s.Moved))
}
