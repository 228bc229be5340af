package config

import (
	"context"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ocbackup/ocbackup/opencloud"
	"github.com/ocbackup/ocbackup/snapshot"
)

// SnapshotRequest is for looking at what could be frozen, and at what is left of it: it is
// for no set. It names what of the layout and the extras is there; the binary is stored
// while the instance runs.
func (c *Config) SnapshotRequest() snapshot.Request {
	r := snapshot.Request{Config: c.Snapshot, Instance: c.Name, StateDir: c.StateDir}
	roots := c.Layout.Roots()
	for _, e := range c.Extra {
		if e.Path != "" {
			roots = append(roots, opencloud.Root{Name: "extra-" + e.Name, Path: e.Path})
		}
	}
	for _, x := range roots {
		real, err := filepath.EvalSymlinks(x.Path)
		if err != nil || x.Has(opencloud.Binary) {
			continue
		}
		r.Roots = append(r.Roots, SnapshotRoot(x, real))
	}
	return r
}

// SnapshotRoot is a root, at its path without symbolic links, as it is to be frozen.
func SnapshotRoot(x opencloud.Root, real string) snapshot.Root {
	return snapshot.Root{Name: x.Name, Path: real, Filter: x.Filter(), Users: x.Has(opencloud.Metadata) || x.Has(opencloud.Blobs)}
}

// Freezing is what several roots have in common when it comes to freezing them.
type Freezing struct {
	Roots  []string        // their names
	Users  bool            // one of them holds users' files
	Driver snapshot.Driver // None: they can't be frozen
	Why    string          // not, in words
}

// String says it for people.
func (f Freezing) String() string {
	roots := strings.Join(f.Roots, ", ")
	if f.Driver != snapshot.None {
		return roots + " by " + string(f.Driver)
	}
	return roots + ": read while OpenCloud is stopped: " + f.Why
}

// Freezing finds out how the roots can be frozen, as snapshot.Find does: first those
// that can.
func (c *Config) Freezing(ctx context.Context) ([]Freezing, error) {
	req := c.SnapshotRequest()
	plan, err := snapshot.Find(ctx, req)
	if err != nil {
		return nil, err
	}
	var out []Freezing
	for _, r := range req.Roots {
		driver, why := plan.How(r.Name)
		i := slices.IndexFunc(out, func(f Freezing) bool { return f.Driver == driver && f.Why == why })
		if i < 0 {
			i, out = len(out), append(out, Freezing{Driver: driver, Why: why})
		}
		out[i].Roots, out[i].Users = append(out[i].Roots, r.Name), out[i].Users || r.Users
	}
	slices.SortStableFunc(out, func(a, b Freezing) int { return strings.Compare(a.Why, b.Why) })
	return out, nil
}
