package commands

import (
	"fmt"
	"iter"
	"path"

	"github.com/ocbackup/ocbackup/shellword"

	"github.com/urfave/cli/v2"

	"github.com/ocbackup/ocbackup/browse"
	"github.com/ocbackup/ocbackup/catalog"
	"github.com/ocbackup/ocbackup/fail"
)

func lsCommand() *cli.Command {
	return &cli.Command{
		Name:      "ls",
		Usage:     "list the spaces, or what is in a folder, of a set",
		ArgsUsage: "[SET] [SPACE[:/path]]",
		Description: placesHelp + `
A single argument that looks like a SET is one; write "2026:/" for a space of that name.
Folders end with "/". What is printed can be pasted into another command.

EXAMPLES:
   ocbackup ls                                   the spaces of the newest set
   ocbackup ls -l Marketing:/Offers              size, time, number of old versions
   ocbackup ls 20261101 personal/alan:/          in another set
   ocbackup ls --versions Marketing:/offer.odt   its old versions, for "ocbackup get"
   ocbackup ls --trash Marketing                 what was deleted, for "ocbackup get"

` + exitCodes,
		Flags: append(repositoryFlags(),
			&cli.BoolFlag{Name: "long", Aliases: []string{"l"}, Usage: "also size, time (of the trash: when it was deleted) and number of versions"},
			&cli.BoolFlag{Name: "recursive", Aliases: []string{"R"}, Usage: "what is in folders, too"},
			&cli.BoolFlag{Name: "versions", Usage: "old versions, too"},
			&cli.BoolFlag{Name: "trash", Usage: "instead, what was deleted there and below"},
		),
		OnUsageError: onUsageError,
		BashComplete: completePlace,
		Action: func(c *cli.Context) error {
			set, place, err := browse.ParseArgs(c.Args().Slice())
			if err != nil {
				return err
			}
			l := lister{long: c.Bool("long"), recursive: c.Bool("recursive"), versions: c.Bool("versions"), trash: c.Bool("trash")}
			if place == nil {
				if l.recursive || l.versions || l.trash {
					return fail.Usagef("name a space: ocbackup ls -R SPACE; \"ocbackup find\" looks into all of them", "-R, --versions and --trash are about one space")
				}
				o, err := openSet(c, set)
				if err != nil {
					return err
				}
				defer o.catalog.Close() //nolint:errcheck // it was only read
				return o.listSpaces(l.long)
			}
			o, space, at, err := openPlace(c)
			if err != nil {
				return err
			}
			defer o.catalog.Close() //nolint:errcheck // it was only read
			l.opened = o
			return l.list(space, at)
		},
	}
}

// listing is the output of ls; docs/json.md describes it.
type listing struct {
	Set   string     `json:"set"`
	Place string     `json:"place"`
	Space string     `json:"space"`
	Path  string     `json:"path"`
	Nodes []nodeView `json:"nodes"`
}

// lister prints nodes as it gets them.
type lister struct {
	*opened
	refs *browse.Refs
	// names prints what is in the folder of this path by its names.
	names                            string
	long, recursive, versions, trash bool
	to                               *jsonList
	shown                            int
}

func (l *lister) list(space *catalog.Space, at string) error {
	spaces, err := l.catalog.Spaces()
	if err != nil {
		return l.damaged(err)
	}
	l.refs = browse.RefsOf(spaces)
	place := l.refs.Place(space.ID, at)
	var node *catalog.Node
	if !l.trash {
		if node, err = l.catalog.Lookup(space.ID, at); err != nil {
			return l.missing(err, place)
		}
		if node.Kind == catalog.KindFolder && !l.recursive && !l.versions {
			l.names = at
		}
	}
	if l.json {
		if l.to, err = startList(l.out, listing{l.set.ID, place, space.ID, at, []nodeView{}}); err != nil {
			return told(l.ctx, err)
		}
	}
	failed := l.nodes(space.ID, at, node)
	if l.to != nil {
		if err := l.to.end(nil); err != nil {
			return told(l.ctx, err)
		}
		return reported(told(l.ctx, failed))
	}
	if l.trash && l.shown == 0 && failed == nil {
		fmt.Fprintf(l.err, "The trash of set %s has nothing from %s.\n", l.set.ID, shellword.Quote(place))
	}
	return told(l.ctx, failed)
}

// nodes prints what was asked for; node is the one at the path, nil of the trash.
func (l *lister) nodes(space, at string, node *catalog.Node) error {
	switch {
	case l.trash:
		return l.each(l.catalog.Trash(space, at), func(n *catalog.Node) error {
			if !n.Item && !l.recursive || n.Kind == catalog.KindVersion && !l.versions {
				return nil
			}
			return l.show(viewNode(l.refs, n))
		})
	case node.Kind != catalog.KindFolder:
		return l.file(node)
	case l.recursive:
		w := &walker{lister: l}
		if err := l.each(l.catalog.Walk(space, at), func(n *catalog.Node) error {
			if n.Path == at {
				return nil
			}
			return w.next(n)
		}); err != nil {
			return err
		}
		return w.flush()
	}
	return l.each(l.catalog.Children(space, at), l.file)
}

// each calls fn for nodes until it fails, or the command is interrupted: told says so.
func (l *lister) each(seq iter.Seq2[*catalog.Node, error], fn func(*catalog.Node) error) error {
	for n, err := range seq {
		if err != nil {
			return l.damaged(err)
		}
		if l.ctx.Err() != nil {
			return nil
		}
		if err := fn(n); err != nil {
			return err
		}
	}
	return nil
}

// file prints a node, and its versions where they are asked for.
func (l *lister) file(n *catalog.Node) error {
	v := viewNode(l.refs, n)
	if n.Kind != catalog.KindFile || !l.versions && !l.long {
		return l.show(v)
	}
	versions, err := l.catalog.Versions(n.Space, n.Path)
	if err != nil {
		return l.damaged(err)
	}
	v.Versions = len(versions)
	if err := l.show(v); err != nil || !l.versions {
		return err
	}
	for i := range versions {
		if err := l.show(viewNode(l.refs, &versions[i])); err != nil {
			return err
		}
	}
	return nil
}

// walker prints the nodes of a walk, in which versions follow their files, so that they
// need not be looked up to be counted.
type walker struct {
	*lister
	file     *nodeView
	versions []*nodeView
}

func (w *walker) next(n *catalog.Node) error {
	v := viewNode(w.refs, n)
	if n.Kind == catalog.KindVersion {
		w.versions = append(w.versions, v)
		return nil
	}
	err := w.flush()
	w.file = v
	return err
}

func (w *walker) flush() error {
	if w.file == nil {
		return nil
	}
	w.file.Versions = len(w.versions)
	err := w.show(w.file)
	for _, v := range w.versions {
		if err == nil && w.lister.versions {
			err = w.show(v)
		}
	}
	w.file, w.versions = nil, nil
	return err
}

// show prints a node.
func (l *lister) show(v *nodeView) error {
	l.shown++
	if l.to != nil {
		return l.to.add(v)
	}
	line := v.pasted()
	if l.names != "" {
		line = shellword.Quote(path.Base(v.Path) + slash(v.Kind, v.Path))
	}
	if l.long {
		line = v.long() + line + v.remark()
	}
	_, err := fmt.Fprintln(l.out, line)
	return err
}
