package commands

import (
	"fmt"
	"io"
	"time"

	"github.com/ocbackup/ocbackup/shellword"

	"github.com/dustin/go-humanize"
	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/urfave/cli/v2"

	"github.com/ocbackup/ocbackup/browse"
	"github.com/ocbackup/ocbackup/catalog"
	"github.com/ocbackup/ocbackup/fail"
)

func spacesCommand() *cli.Command {
	return &cli.Command{
		Name:      "spaces",
		Usage:     "list the spaces in a set",
		ArgsUsage: "[SET]",
		Description: `SET is an id, the beginning of one, or "latest" (the default). FILES and SIZE are what
users see; VERSIONS and TRASH are further files. Any of NAME, ALIAS and ID names a space
where a command takes SPACE:/path, unless several spaces have it.

EXAMPLES:
   ocbackup spaces
   ocbackup spaces 20261123
   ocbackup --json spaces | jq -r '.spaces[] | select(.disabled) | .name'

` + exitCodes,
		Flags:        repositoryFlags(),
		OnUsageError: onUsageError,
		BashComplete: completeSet,
		Action: func(c *cli.Context) error {
			if c.NArg() > 1 {
				return fail.Usagef("see \"ocbackup spaces --help\"", "spaces takes one SET")
			}
			o, err := openSet(c, c.Args().First())
			if err != nil {
				return err
			}
			defer o.catalog.Close() //nolint:errcheck // it was only read
			return o.listSpaces(true)
		},
	}
}

// spacesView is the output of spaces, and of ls without a space; docs/json.md
// describes it.
type spacesView struct {
	Set    string      `json:"set"`
	Spaces []spaceView `json:"spaces"`
}

type spaceView struct {
	ID       string    `json:"id"`
	Name     string    `json:"name"`
	Type     string    `json:"type"`
	Alias    string    `json:"alias,omitempty"`
	Owner    string    `json:"owner,omitempty"`
	Disabled time.Time `json:"disabled,omitzero"`
	// Place is SPACE:/, which commands take as it is.
	Place string `json:"place"`
	catalog.Counts
	Problem *catalog.Problem `json:"problem,omitempty"`
}

// listSpaces prints all spaces: as a table, or each as what can be pasted.
func (o *opened) listSpaces(long bool) error {
	spaces, err := o.catalog.Spaces()
	if err != nil {
		return o.damaged(err)
	}
	refs := browse.RefsOf(spaces)
	v := spacesView{o.set.ID, []spaceView{}}
	for i := range spaces {
		s := &spaces[i]
		v.Spaces = append(v.Spaces, spaceView{s.ID, s.Name, s.Type, s.Alias, s.Owner, s.Disabled, refs.Place(s.ID, "/"), s.Counts, s.Problem})
	}
	switch {
	case o.json:
		return reported(told(o.ctx, o.printJSON(v)))
	case long:
		printSpaces(o.out, v.Spaces)
	default:
		for _, s := range v.Spaces {
			if _, err := fmt.Fprintln(o.out, shellword.Quote(s.Place)); err != nil {
				return told(o.ctx, err)
			}
		}
	}
	return nil
}

func printSpaces(w io.Writer, spaces []spaceView) {
	t := newTable(w)
	t.AppendHeader(table.Row{"NAME", "TYPE", "ALIAS", "FILES", "SIZE", "VERSIONS", "TRASH", "OWNER", "ID", ""})
	for i := range spaces {
		s := &spaces[i]
		n, owner, remark := s.Counts, s.Owner, ""
		if owner == s.ID {
			owner = "" // of a project
		}
		switch {
		case s.Problem != nil:
			remark = s.Problem.Class + ": " + shellword.Visible(s.Problem.Text)
		case !s.Disabled.IsZero():
			remark = "disabled " + clock(s.Disabled)
		case n.Problems > 0:
			remark = humanize.Comma(int64(n.Problems)) + " with problems"
		}
		t.AppendRow(table.Row{
			shellword.Visible(s.Name), s.Type, shellword.Visible(s.Alias), humanize.Comma(int64(n.Files)), humanize.IBytes(n.Bytes),
			amount(n.Versions, n.VersionBytes), amount(n.Trash, n.TrashBytes), owner, s.ID, remark,
		})
	}
	t.Render()
}

// amount shows a number of files and their size; nothing of none.
func amount(n, bytes uint64) string {
	if n == 0 {
		return ""
	}
	return humanize.Comma(int64(n)) + ", " + humanize.IBytes(bytes)
}
