package snapshot

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// place is what locate finds out about a root: its volume, or why there is none.
type place struct {
	volume   *Volume
	rel, why string
}

// locate returns the place of a root. The error is that of the context.
func locate(ctx context.Context, all []mount, root Root, c Config) (place, error) {
	switch {
	case c.Driver == None:
		return place{why: `snapshots are turned off: driver = "none" in [snapshot]`}, nil
	case !privileged():
		return place{why: "only root (with the capability CAP_SYS_ADMIN) can make and mount snapshots"}, nil
	}
	found := make(chan place, 1)
	err := await(ctx, func() error {
		found <- placeOf(ctx, all, root, c)
		return context.Cause(ctx)
	})
	if err != nil {
		return place{}, err
	}
	return <-found, nil
}

func placeOf(ctx context.Context, all []mount, root Root, c Config) place {
	holder, err := mountOf(all, root.Path)
	if err != nil {
		return place{why: err.Error()}
	}
	p := volumeAt(ctx, holder, root.Path, c)
	if p.volume == nil {
		return p
	}
	if why := root.inside(all, holder, p.volume.driver()); why != "" {
		return place{why: why}
	}
	return p
}

// inside tells what lies inside of a root that a snapshot would leave out: a mount, or what
// the driver knows of; "": nothing. Holder is the mount that the root lies on.
func (r Root) inside(all []mount, holder mount, d driver) (why string) {
	for _, m := range all {
		rel, ok := below(r.Path, m.Point)
		if ok && rel != "." && !holder.shows(m) && r.takes(rel, isDir(m.Point)) {
			return "another file system is mounted inside of it, at " + m.Point
		}
	}
	if d, ok := d.(insider); ok {
		return d.inside(r)
	}
	return ""
}

// volumeAt asks the drivers, the configured one or all, what a path lies on that m holds.
func volumeAt(ctx context.Context, m mount, path string, c Config) place {
	if real, err := filepath.EvalSymlinks(c.Path); err == nil {
		c.Path = real
	}
	var p place
	if _, in := below(c.Path, path); c.Driver == Command && in {
		p.volume, p.rel, p.why = command{}.find(ctx, m, path, c)
		return p
	}
	for _, d := range drivers {
		if c.Driver.explicit() && c.Driver != Command && c.Driver != d.name {
			continue
		}
		if p.volume, p.rel, p.why = d.find(ctx, m, path, c); p.volume != nil || p.why != "" {
			return p
		}
	}
	p.why = fmt.Sprintf("it lies on %s (%s), which has no snapshots that ocbackup can make", m.FS, m.Source)
	if c.Driver.explicit() && c.Driver != Command {
		p.why = fmt.Sprintf("it lies on %s (%s), not on %s", m.FS, m.Source, c.Driver)
	}
	return p
}

// explicit tells whether the admin wants this driver, whatever else there is.
func (d Driver) explicit() bool { return d != "" && d != Auto && d != None }

// insider is a driver whose volumes can have others inside that no mount tells of.
type insider interface {
	// inside tells why a root can't be frozen with the volume that it lies on alone; "": it can.
	inside(root Root) (why string)
}

// takes tells whether a path below the root belongs to it.
func (r Root) takes(rel string, isDir bool) bool {
	if r.Filter == nil {
		return true
	}
	for i, c := range rel {
		if c == '/' && !r.Filter(rel[:i], true) {
			return false
		}
	}
	return r.Filter(rel, isDir)
}

// privileged tells whether this process can mount.
func privileged() bool {
	var caps [2]unix.CapUserData
	h := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	return unix.Capget(&h, &caps[0]) == nil && caps[0].Effective&(1<<unix.CAP_SYS_ADMIN) != 0
}

func isDir(path string) bool {
	i, err := os.Stat(path)
	return err == nil && i.IsDir()
}

// shut closes what was only read, or opened for its place.
func shut(f *os.File) { _ = f.Close() }
