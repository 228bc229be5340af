package commands

import (
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// flagsFirst brings flags to where urfave/cli looks for them, so that people may
// write them anywhere: "restore latest --yes", "list --json". The flags of a command
// go before its arguments (what comes after would be taken for a set's name), those
// of ocbackup itself before the command. What follows "--" stays as it is.
func flagsFirst(app *cli.App, args []string) []string {
	if len(args) == 0 {
		return args
	}
	flags, commands := app.Flags, app.Commands
	var global, local, positional []string
	rest := args[1:]
	for len(rest) > 0 {
		a := rest[0]
		rest = rest[1:]
		if a == "--" {
			positional = append(append([]string{"--"}, positional...), rest...)
			break
		}
		if len(a) > 1 && a[0] == '-' {
			own := &local
			known, valued := lookUp(flags, a)
			if !known {
				if known, valued = lookUp(app.Flags, a); known {
					own = &global
				}
			}
			*own = append(*own, a)
			if valued && len(rest) > 0 {
				*own = append(*own, rest[0])
				rest = rest[1:]
			}
			continue
		}
		i := slices.IndexFunc(commands, func(c *cli.Command) bool { return c.HasName(a) })
		if i < 0 || len(positional) > 0 {
			positional = append(positional, a)
			continue
		}
		local = append(local, a)
		flags, commands = commands[i].Flags, commands[i].Subcommands
	}
	return slices.Concat(args[:1], global, local, positional)
}

// lookUp tells whether flag a is one of flags, and whether the argument after it
// belongs to it.
func lookUp(flags []cli.Flag, a string) (known, valued bool) {
	name, _, inline := strings.Cut(strings.TrimLeft(a, "-"), "=")
	for _, f := range flags {
		if slices.Contains(f.Names(), name) {
			v, ok := f.(cli.DocGenerationFlag)
			return true, ok && v.TakesValue() && !inline
		}
	}
	return false, false
}
