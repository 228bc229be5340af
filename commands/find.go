package commands

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/ocbackup/ocbackup/browse"
	"github.com/ocbackup/ocbackup/catalog"
	"github.com/ocbackup/ocbackup/fail"
)

func findCommand() *cli.Command {
	return &cli.Command{
		Name:      "find",
		Usage:     "find files and folders in a set by their names",
		ArgsUsage: "[SET] PATTERN",
		Description: `PATTERN is a part of the name; with * ? [ or { in it, it is all of the name. With a "/" it
is about the path: from the space's root when it begins with one, else from any folder;
"**" stands for any number of folders. Upper and lower case are the same.

Each hit is printed when it is found, as SPACE:/path that can be pasted into another
command. That there is none is no failure: a note on standard error says so, and
the exit code is 0.

EXAMPLES:
   ocbackup find offer                            what has "offer" in its name
   ocbackup find '*.odt' --space Marketing        in one space
   ocbackup find 'Offers/**/*2026*' --versions    below any folder Offers, old versions too
   ocbackup find 20261101 offer --trash           in another set, in the trash too
   ocbackup --json find offer | jq -r '.nodes[].place'

` + exitCodes,
		Flags: append(repositoryFlags(),
			&cli.StringFlag{Name: "space", Usage: "only in this `SPACE`"},
			&cli.BoolFlag{Name: "long", Aliases: []string{"l"}, Usage: "also size and time (of the trash: when it was deleted)"},
			&cli.BoolFlag{Name: "versions", Usage: "old versions, too"},
			&cli.BoolFlag{Name: "trash", Usage: "in the trash, too"},
			&cli.BoolFlag{Name: "case", Usage: "upper and lower case differ"},
		),
		OnUsageError: onUsageError,
		BashComplete: completeSet,
		Action: func(c *cli.Context) error {
			if c.NArg() < 1 || c.NArg() > 2 {
				return fail.Usagef("quote what has spaces in it; see \"ocbackup find --help\"", "find takes a SET, or none, and one PATTERN")
			}
			set, pattern := "", c.Args().First()
			if c.NArg() == 2 {
				set, pattern = pattern, c.Args().Get(1)
			}
			match, err := browse.Matcher(pattern, c.Bool("case"))
			if err != nil {
				return err
			}
			o, err := openSet(c, set)
			if err != nil {
				return err
			}
			defer o.catalog.Close() //nolint:errcheck // it was only read
			l := &lister{opened: o, long: c.Bool("long"), versions: c.Bool("versions"), trash: c.Bool("trash")}
			return l.find(pattern, c.String("space"), match)
		},
	}
}

// foundView is the output of find; docs/json.md describes it.
type foundView struct {
	Set     string     `json:"set"`
	Pattern string     `json:"pattern"`
	Nodes   []nodeView `json:"nodes"`
}

func (l *lister) find(pattern, in string, match func(path string) bool) error {
	spaces, err := l.catalog.Spaces()
	if err != nil {
		return l.damaged(err)
	}
	l.refs = browse.RefsOf(spaces)
	var space catalog.Space
	if in != "" {
		if space, err = l.space(in); err != nil {
			return err
		}
	}
	if l.json {
		if l.to, err = startList(l.out, foundView{l.set.ID, pattern, []nodeView{}}); err != nil {
			return told(l.ctx, err)
		}
	}
	failed := l.hits(space.ID, match)
	if l.to != nil {
		if err := l.to.end(nil); err != nil {
			return told(l.ctx, err)
		}
		return reported(told(l.ctx, failed))
	}
	if l.shown == 0 && failed == nil && l.ctx.Err() == nil {
		fmt.Fprintf(l.err, "Nothing found in set %s.\n", l.set.ID)
	}
	return told(l.ctx, failed)
}

// hits prints what matches, in one space or ("") in all.
func (l *lister) hits(space string, match func(path string) bool) error {
	// An interrupted search takes the next path, so as to come back at once.
	taken := func(path string) bool { return l.ctx.Err() != nil || match(path) }
	seq := l.catalog.Find(taken)
	if space != "" {
		seq = l.catalog.FindIn(space, taken)
	}
	return l.each(seq, func(n *catalog.Node) error {
		if n.Kind == catalog.KindVersion && !l.versions || n.Trash != "" && !l.trash {
			return nil
		}
		return l.show(viewNode(l.refs, n))
	})
}
