package doctor

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/ocbackup/ocbackup/config"
	"github.com/ocbackup/ocbackup/opencloud"
	"github.com/ocbackup/ocbackup/snapshot"
)

// snapshots looks what of the data can be frozen, and what snapshots there are.
type snapshots struct{}

func (snapshots) Name() string { return "snapshots" }

func (snapshots) Run(ctx context.Context, s *Subject) []Finding {
	return append(freezing(ctx, s.Config), made(ctx, s.Config)...)
}

// freezing tells how each root is frozen, or why it can't be.
func freezing(ctx context.Context, c *config.Config) []Finding {
	if c.Snapshot.Driver == snapshot.None {
		return []Finding{info("remove driver from [snapshot]", "turned off: OpenCloud is away while its files are read")}
	}
	found, err := c.Freezing(ctx)
	if err != nil {
		return []Finding{failed(err, "")}
	}
	var out []Finding
	for _, f := range found {
		switch {
		case f.Driver != snapshot.None:
			out = append(out, okay("%s", f)...)
		case f.Users:
			out = append(out, info("for seconds of downtime see \"Downtime\" in docs/operations.md", "%s", f))
		default:
			out = append(out, info("", "%s", f))
		}
	}
	return out
}

// made tells of snapshots that are kept, and of those that a run has left.
func made(ctx context.Context, c *config.Config) []Finding {
	var out []Finding
	kept, err := snapshot.Kept(c.StateDir)
	if err != nil {
		out = append(out, failed(fmt.Errorf("what is known of snapshots: %w", err), "see which there are, and remove what is in the way from "+c.StateDir))
	}
	for _, r := range kept {
		until := "are kept until " + r.Until.Local().Format(time.DateTime)
		var lost *snapshot.LostError
		switch {
		case time.Now().After(r.Until):
			until = "are removed by the next backup"
		case errors.As(r.Lost(ctx), &lost):
			out = append(out, warning("nothing: the next backup removes them", "those of set %s were kept: %v", r.Set, lost))
			continue
		}
		out = append(out, okay("those of set %s, made %s, %s", r.Set, strings.TrimSpace(humanize.Time(r.Created)), until)...)
	}
	left, err := snapshot.Left(c.StateDir)
	if err != nil || len(left) == 0 || opencloud.LocksFree([]string{filepath.Join(c.StateDir, "lock")}) != nil {
		return out // it was said already, or a run that is at work needs them
	}
	for _, r := range left {
		out = append(out, warning("ocbackup recover (the next backup does it, too)", "a run has left those of set %s", r.Set))
	}
	return out
}
