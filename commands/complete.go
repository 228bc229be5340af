package commands

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/ocbackup/ocbackup/shellword"

	"github.com/urfave/cli/v2"

	"github.com/ocbackup/ocbackup/browse"
	"github.com/ocbackup/ocbackup/catalog"
	"github.com/ocbackup/ocbackup/manifest"
)

// completions is how many candidates are offered at the most.
const completions = 1000

// completeCommand is what bash runs for "complete -C": the line is in the environment,
// and candidates are printed, one a line.
func completeCommand() *cli.Command {
	return &cli.Command{
		Name: "complete", Usage: "tell bash how a command line may go on", Hidden: true, SkipFlagParsing: true,
		Action: func(c *cli.Context) error {
			line := os.Getenv("COMP_LINE")
			if at, err := strconv.Atoi(os.Getenv("COMP_POINT")); err == nil && at >= 0 && at < len(line) {
				line = line[:at]
			}
			printCompletions(c.Context, c.App.Writer, browse.ParseLine(line))
			return nil
		},
	}
}

// candidate is what the word at the cursor may become; a whole one is not gone on with.
type candidate struct {
	text  string
	whole bool
}

// offers collects candidates, in the context of a command that completes.
type offers struct {
	current string
	list    []candidate
}

type offersKey struct{}

func printCompletions(ctx context.Context, w io.Writer, line browse.Line) {
	if len(line.Words) == 0 {
		return
	}
	o := &offers{current: line.Current}
	app := newApp(io.Discard, io.Discard)
	cmd, other := commandOf(app, line.Words[1:])
	switch {
	case other: // the names of files, which is what bash offers in place of nothing
	case strings.HasPrefix(line.Current, "-"):
		flags := app.Flags
		if cmd != nil {
			flags = slices.Concat(cmd.Flags, app.Flags)
		}
		for _, f := range flags {
			if v, ok := f.(cli.VisibleFlag); ok && v.IsVisible() {
				o.add("--"+f.Names()[0], true)
			}
		}
	case cmd == nil || len(cmd.Subcommands) > 0 && line.Words[len(line.Words)-1] == cmd.Name:
		commands := app.Commands
		if cmd != nil {
			commands = cmd.Subcommands
		}
		for _, c := range commands {
			if !c.Hidden {
				o.add(c.Name, true)
			}
		}
	case cmd.BashComplete != nil:
		args := append(flagsFirst(app, line.Words), "--generate-bash-completion")
		_ = app.RunContext(context.WithValue(ctx, offersKey{}, o), args) // it then only completes
	}
	var out bytes.Buffer
	for _, c := range o.list {
		if text, ok := line.Complete(c.text, c.whole); ok {
			fmt.Fprintln(&out, text)
		}
	}
	_, _ = w.Write(out.Bytes())
}

// commandOf finds the command among words, nil for none; other tells that what comes
// next is nothing that is known here: the value of a flag, or of no command.
func commandOf(app *cli.App, words []string) (cmd *cli.Command, other bool) {
	flags, commands := app.Flags, app.Commands
	for i := 0; i < len(words); i++ {
		a := words[i]
		if len(a) > 1 && a[0] == '-' {
			known, valued := lookUp(flags, a)
			if !known {
				_, valued = lookUp(app.Flags, a)
			}
			if valued {
				if i++; i == len(words) {
					return cmd, true
				}
			}
			continue
		}
		at := slices.IndexFunc(commands, func(c *cli.Command) bool { return c.HasName(a) })
		if at < 0 {
			return cmd, cmd == nil
		}
		cmd = commands[at]
		flags, commands = cmd.Flags, cmd.Subcommands
	}
	return cmd, false
}

func (o *offers) add(text string, whole bool) bool {
	if strings.HasPrefix(text, o.current) {
		o.list = append(o.list, candidate{text, whole})
	}
	return len(o.list) < completions
}

// collect runs a completion: for the hidden command, or (where bash has urfave's own
// script, which tells nothing of the word at the cursor) to be printed.
func collect(c *cli.Context, fn func(o *offers, sets []manifest.Set, cacheDir string)) {
	o, ours := c.Context.Value(offersKey{}).(*offers)
	if !ours {
		o = &offers{}
	}
	// Only what the cache has: completing must not wait for a repository.
	e, err := setupBare(c)
	if err != nil || e.cfg == nil {
		return
	}
	if loc := c.String("repository"); loc != "" && loc != e.cfg.Repository.Location {
		return
	}
	sets := manifest.CachedSets(e.cacheDir())
	sets = slices.DeleteFunc(sets, func(s manifest.Set) bool { return s.Manifest.Instance != e.cfg.Name })
	fn(o, sets, e.cacheDir())
	if !ours {
		for _, cand := range o.list {
			fmt.Fprintln(c.App.Writer, shellword.Quote(cand.text))
		}
	}
}

// completeSet offers sets.
func completeSet(c *cli.Context) {
	collect(c, func(o *offers, sets []manifest.Set, _ string) { o.sets(sets) })
}

// completePlace offers sets, and places in the set that is named or the newest.
func completePlace(c *cli.Context) {
	collect(c, func(o *offers, sets []manifest.Set, cacheDir string) {
		if c.NArg() > 1 {
			return
		}
		o.places(sets, c.Args().First(), cacheDir)
		if c.NArg() == 0 {
			o.sets(sets)
		}
	})
}

// completePlaceOnly offers places in the newest set.
func completePlaceOnly(c *cli.Context) {
	collect(c, func(o *offers, sets []manifest.Set, cacheDir string) {
		if c.NArg() == 0 {
			o.places(sets, manifest.Latest, cacheDir)
		}
	})
}

func (o *offers) sets(sets []manifest.Set) {
	o.add(manifest.Latest, true)
	for i := len(sets) - 1; i >= 0 && o.add(sets[i].ID, true); i-- {
	}
}

// places offers spaces, or what is in the folder that the word at the cursor names.
func (o *offers) places(sets []manifest.Set, ref, cacheDir string) {
	set, err := manifest.Pick(sets, ref, "")
	if err != nil {
		return
	}
	f := manifest.CachedCatalog(set, cacheDir)
	if f == nil {
		return
	}
	defer f.Close() //nolint:errcheck // it was only read
	name, at, inSpace := strings.Cut(o.current, ":/")
	if !inSpace {
		spaces, err := f.Spaces()
		if err != nil {
			return
		}
		refs := browse.RefsOf(spaces)
		for i := range spaces {
			if !o.add(refs.Place(spaces[i].ID, "/"), false) {
				return
			}
		}
		return
	}
	space, err := f.Resolve(name)
	if err != nil {
		return
	}
	dir := path.Clean("/" + at[:strings.LastIndex(at, "/")+1])
	for n, err := range f.Children(space.ID, dir) {
		if err != nil || !o.add(name+":"+n.Path+slash(n.Kind, n.Path), n.Kind != catalog.KindFolder) {
			return
		}
	}
}
