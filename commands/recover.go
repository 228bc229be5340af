package commands

import (
	"errors"
	"fmt"
	"io"

	"github.com/urfave/cli/v2"

	"github.com/ocbackup/ocbackup/config"
	"github.com/ocbackup/ocbackup/recovery"
)

func recoverCommand() *cli.Command {
	return &cli.Command{
		Name:  "recover",
		Usage: "finish what an interrupted run has left: start OpenCloud again, put old data back",
		Description: `A run that stops OpenCloud writes a journal first and removes it when OpenCloud is
back. Where a journal has been left, recover puts back what a restore had moved
aside, starts OpenCloud if it was running before, and waits until it can be used. It
may be run at any time, as often as you like; without a journal it does nothing.

The units of "ocbackup schedule" run it after each backup and at boot. It needs no
configuration file: without one that can be read it looks in ` + config.DefaultStateDir + `.

EXAMPLES:
   ocbackup recover                                 the configured instance
   ocbackup recover --all                           all instances of this machine
   ocbackup --state-dir DIR recover                 the one whose state is in DIR

` + exitCodes,
		Flags:        []cli.Flag{&cli.BoolFlag{Name: "all", Usage: "all instances with a journal in " + config.DefaultStateDir}},
		OnUsageError: onUsageError,
		Action: func(c *cli.Context) error {
			cfg, cfgErr := config.Load(c.String("config"))
			e, err := newEnv(c, cfg)
			if err != nil {
				return err
			}
			todo, err := interrupted(c, cfg, cfgErr)
			if err != nil {
				return err
			}
			if cfgErr != nil && len(todo) > 0 {
				e.rep.Note("going on without the configuration: " + cfgErr.Error())
			}
			done := []recovered{}
			var errs []error
			for _, o := range todo {
				o.Report = e.rep
				out, err := recovery.Run(c.Context, o)
				if err != nil {
					errs = append(errs, err)
					continue
				}
				done = append(done, recovered{o.StateDir, out})
			}
			if err := errors.Join(errs...); err != nil {
				return err
			}
			if e.json {
				return e.printJSON(struct {
					Instances []recovered `json:"instances"`
				}{done})
			}
			printRecovered(e.out, done)
			return nil
		},
	}
}

// recovered is what was done for one instance; docs/json.md describes it.
type recovered struct {
	StateDir string `json:"state_dir"`
	*recovery.Outcome
}

// interrupted finds out which instances to look at. A configuration that can't be
// read is no reason to leave OpenCloud stopped, unless nothing else says where to
// look.
func interrupted(c *cli.Context, cfg *config.Config, cfgErr error) ([]recovery.Options, error) {
	var fallback *recovery.Server
	if cfg != nil {
		server := recovery.ServerOf(cfg)
		fallback = &server
	}
	one := func(dir string) []recovery.Options {
		return []recovery.Options{{StateDir: dir, Fallback: fallback}}
	}
	switch dir := c.String("state-dir"); {
	case dir != "":
		return one(dir), nil
	case cfg != nil && !c.Bool("all"):
		return one(cfg.StateDir), nil
	}
	dirs, err := recovery.Pending(config.DefaultStateDir)
	if err != nil {
		return nil, err
	}
	if len(dirs) == 0 && c.IsSet("config") && cfgErr != nil {
		return nil, cfgErr
	}
	var all []recovery.Options
	for _, dir := range dirs {
		o := recovery.Options{StateDir: dir}
		if cfg != nil && cfg.StateDir == dir {
			o.Fallback = fallback
		}
		all = append(all, o)
	}
	return all, nil
}

func printRecovered(w io.Writer, done []recovered) {
	if len(done) == 0 {
		fmt.Fprintln(w, &recovery.Outcome{Did: recovery.Nothing})
	}
	for _, r := range done {
		if r.Instance != "" {
			fmt.Fprint(w, r.Instance+": ")
		}
		fmt.Fprintln(w, r.Outcome)
	}
}
