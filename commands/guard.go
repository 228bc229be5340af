package commands

import (
	"context"
	"fmt"
	"os"

	"github.com/rs/zerolog"
	"github.com/urfave/cli/v2"

	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/guard"
	"github.com/ocbackup/ocbackup/progress"
	"github.com/ocbackup/ocbackup/recovery"
)

// guardCommand is the guard process that a run starts beside itself (guard.Arm). It
// is no command for people.
func guardCommand() *cli.Command {
	return &cli.Command{
		Name:         "guard",
		Hidden:       true,
		Usage:        "watch over a run, and start OpenCloud again when it dies",
		Flags:        []cli.Flag{&cli.StringFlag{Name: "state-dir", Required: true}},
		OnUsageError: onUsageError,
		Action: func(c *cli.Context) error {
			dir, main := c.String("state-dir"), os.Getppid()
			log := zerolog.New(os.Stderr).With().Timestamp().Logger()
			// No signal ends it: what else would bring OpenCloud back?
			ctx := context.WithoutCancel(c.Context)
			return guard.Serve(ctx, dir, os.Stdin, os.Stdout, func(ctx context.Context) error {
				out, err := recovery.Run(ctx, recovery.Options{StateDir: dir, Report: progress.Log(log), Dead: main})
				if err != nil {
					return fail.Wrap(fail.CodeOf(err), err, "guard", "")
				}
				fmt.Fprintln(os.Stderr, "guard:", out)
				return nil
			})
		},
	}
}
