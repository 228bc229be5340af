package commands

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/ocbackup/ocbackup/config"
	"github.com/ocbackup/ocbackup/guard"
	"github.com/ocbackup/ocbackup/paths"
	"github.com/ocbackup/ocbackup/recovery"
	"github.com/ocbackup/ocbackup/snapshot"
)

func recoverCommand() *cli.Command {
	return &cli.Command{
		Name:  "recover",
		Usage: "finish what an interrupted run has left: start OpenCloud again, put old data back, remove snapshots",
		Description: `A run that stops OpenCloud writes a journal first and removes it when OpenCloud is
back. Where a journal has been left, recover puts back what a restore had moved
aside, starts OpenCloud if it was running before, and waits until it can be used.
Then it removes snapshots of file systems that a run has left. It may be run at any
time, as often as you like; where nothing was left it does nothing.

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
				r := recovered{StateDir: o.StateDir, Outcome: out}
				if r.Removed, err = sweep(c.Context, o, cfg, out); err != nil {
					r.Warnings = append(r.Warnings, "left-over snapshots could not be removed: "+err.Error())
				}
				done = append(done, r)
			}
			if err := errors.Join(errs...); err != nil {
				if len(done) > 0 && !e.json {
					printRecovered(e.out, done)
				}
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
	Removed  []string `json:"removed,omitempty"` // left-over snapshots of file systems
	Warnings []string `json:"warnings,omitempty"`
}

// sweepTimeout is how long removing snapshots may take.
const sweepTimeout = 2 * time.Minute

// sweep removes the snapshots that runs of an instance have left, and kept ones whose
// time is over. While another run is at work, that is left to it. Without a
// configuration, the journal says whose they are, else the default state directory.
func sweep(ctx context.Context, o recovery.Options, cfg *config.Config, out *recovery.Outcome) ([]string, error) {
	s := snapshot.SweepOptions{StateDir: o.StateDir, Instance: cmp.Or(out.Instance, filepath.Base(o.StateDir))}
	if o.Fallback != nil {
		s.Instance = cfg.Name
		for _, r := range cfg.SnapshotRequest().Roots {
			s.Near = append(s.Near, r.Path)
		}
	}
	if os.Geteuid() != 0 || !paths.IsDir(o.StateDir) {
		return nil, nil // only root can make any
	}
	lock, err := guard.Acquire(o.StateDir, "recover")
	if errors.Is(err, guard.ErrLocked) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer lock.Release()
	ctx, cancel := context.WithTimeout(ctx, sweepTimeout)
	defer cancel()
	return snapshot.Sweep(ctx, s)
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
	// The configuration may be another instance's.
	one := func(dir string) recovery.Options {
		o := recovery.Options{StateDir: dir}
		if cfg != nil && cfg.StateDir == dir {
			o.Fallback = fallback
		}
		return o
	}
	switch dir := c.String("state-dir"); {
	case dir != "":
		return []recovery.Options{one(paths.Absolute(dir))}, nil
	case cfg != nil && !c.Bool("all"):
		return []recovery.Options{one(cfg.StateDir)}, nil
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
		all = append(all, one(dir))
	}
	return all, nil
}

func printRecovered(w io.Writer, done []recovered) {
	if len(done) == 0 {
		fmt.Fprintln(w, &recovery.Outcome{Did: recovery.Nothing})
	}
	for _, r := range done {
		if r.Did != recovery.Nothing || len(r.Removed) == 0 {
			if r.Instance != "" {
				fmt.Fprint(w, r.Instance+": ")
			}
			fmt.Fprintln(w, r.Outcome)
		}
		for _, s := range r.Removed {
			fmt.Fprintln(w, "Removed: "+s)
		}
		for _, s := range r.Warnings {
			fmt.Fprintln(w, "Warning: "+s)
		}
	}
}
