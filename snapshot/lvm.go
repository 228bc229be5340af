package snapshot

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/dustin/go-humanize"
)

// lvm makes snapshots of logical volumes, with the programs of lvm2.
//
// Thin ones take up space in their pool as the volume changes. Classic ones have a space of
// their own, and are invalid from the moment at which it is full.
type lvm struct{}

const (
	// lvmSize is Config.LVMSize where it is empty.
	lvmSize = "20%ORIGIN"
	// extendAt is how full, in percent, a classic snapshot is when it gets more space.
	extendAt = 80
	// fullAt is how full, in percent, a snapshot or a thin pool is given up: a classic
	// snapshot is about to become invalid, and a pool to fail the writes of the server.
	fullAt = 95
	// deviceNameMax is DM_NAME_LEN of linux/dm-ioctl.h without the final zero.
	deviceNameMax = 127
)

func (lvm) find(ctx context.Context, m mount, path string, c Config) (v *Volume, rel, why string) {
	uuid, _ := os.ReadFile("/sys/dev/block/" + m.Device + "/dm/uuid")
	if !strings.HasPrefix(string(uuid), "LVM-") {
		return nil, "", ""
	}
	major, minor, _ := strings.Cut(m.Device, ":")
	all, err := logicalVolumes(ctx, "lv_kernel_major="+major+" && lv_kernel_minor="+minor)
	if err == nil && len(all) != 1 {
		err = fmt.Errorf("lvs lists %d of the number %s", len(all), m.Device)
	}
	if err != nil {
		return nil, "", fmt.Sprintf("the logical volume %s can't be looked at: %v", m.Source, err)
	}
	o := all[0]
	v = &Volume{Driver: LVM, Source: o.VG + "/" + o.Name, Live: m.Point, FS: m.FS, Thin: o.Type == "thin"}
	if !v.Thin {
		v.Size = snapshotSize(cmp.Or(c.LVMSize, lvmSize), o.Size)
	}
	inMount, _ := below(m.Point, path)
	rel, _ = below("/", filepath.Join(m.Root, inMount))
	return v, rel, ""
}

// snapshotSize returns what is asked for as lvcreate takes it. A share of the origin becomes
// a size: of a share, lvcreate silently makes as much as there happens to be room for.
func snapshotSize(want string, origin uint64) string {
	share, ok := strings.CutSuffix(strings.ToUpper(want), "%ORIGIN")
	if percent, err := strconv.ParseUint(share, 10, 64); ok && err == nil {
		return fmt.Sprintf("%dk", origin/100*percent>>10)
	}
	return want
}

func (lvm) check(ctx context.Context, v *Volume) error {
	// The device with the changes of a classic snapshot has the longest name.
	if n := len(v.deviceName(v.Name) + "-cow"); n > deviceNameMax {
		return fmt.Errorf("the name of the snapshot would be too long by %d for the device mapper: "+
			"give the instance or the volume group a shorter one (a hyphen counts twice)", n-deviceNameMax)
	}
	if v.Thin {
		all, err := logicalVolumes(ctx, inGroup(v.group()))
		if err != nil {
			return err
		}
		if why := poolFull(all, named(all, v.origin())); why != "" {
			return fmt.Errorf("%s: make room in it", why)
		}
	}
	// It writes nothing, and tells of sizes that are none and of a lack of room.
	return v.lvcreate(ctx, "--test")
}

func (lvm) create(ctx context.Context, v *Volume) error { return v.lvcreate(ctx) }

func (v *Volume) lvcreate(ctx context.Context, options ...string) error {
	args := append(options, "--snapshot", "--quiet", "--name", v.Name)
	switch {
	case v.Thin: // a size would make it a classic one
	case strings.Contains(v.Size, "%"):
		args = append(args, "--extents", v.Size)
	default:
		args = append(args, "--size", v.Size)
	}
	_, err := runLVM(ctx, "lvcreate", append(args, v.Source)...)
	return err
}

func (lvm) open(ctx context.Context, v *Volume, dir string) (string, error) {
	if v.Thin {
		// A thin snapshot is not activated by itself, neither now nor at the next boot.
		if _, err := runLVM(ctx, "lvchange", "--activate", "y", "--ignoreactivationskip", v.group()+"/"+v.Name); err != nil {
			return "", err
		}
	}
	options := ""
	if v.FS == "xfs" {
		options = "nouuid" // the server's own file system, mounted as well, has the same
	}
	// A journal that is not empty is replayed: the snapshot can be written to, the mount can't.
	return dir, mountAt("/dev/mapper/"+v.deviceName(v.Name), dir, v.FS, options)
}

func (lvm) close(ctx context.Context, _ *Volume, dir string) error { return unmount(ctx, dir) }

func (lvm) destroy(ctx context.Context, v *Volume) error {
	if _, _, ours := parseName(v.Name); !ours {
		return fmt.Errorf("%s/%s is none of ocbackup's snapshots", v.group(), v.Name)
	}
	_, err := runLVM(ctx, "lvremove", "--force", "--quiet", v.group()+"/"+v.Name)
	if err == nil {
		return nil
	}
	if all, lvsErr := logicalVolumes(ctx, inGroup(v.group())); lvsErr == nil && named(all, v.Name) == nil {
		return nil
	}
	return err
}

func (lvm) lost(ctx context.Context, v *Volume) (why string) {
	all, err := logicalVolumes(ctx, inGroup(v.group()))
	if err != nil {
		return "" // nothing is known
	}
	s, origin := named(all, v.Name), named(all, v.origin())
	switch {
	case len(all) == 0:
		return "" // the volume group is not there
	case s == nil:
		return "it was removed"
	case v.Thin:
		return poolFull(all, s)
	case s.invalid():
		return fmt.Sprintf("it had room for %s of changes, and there were more", humanize.IBytes(s.Size))
	case s.Data < fullAt || origin != nil && s.Size > origin.Size: // no more than the origin can change
		return ""
	}
	return fmt.Sprintf("it has room for %s of changes, %.0f %% of which are taken up", humanize.IBytes(s.Size), s.Data)
}

// grow extends a classic snapshot as long as the volume group has room.
func (lvm) grow(ctx context.Context, v *Volume) {
	all, err := logicalVolumes(ctx, inGroup(v.group()))
	if s := named(all, v.Name); err == nil && s != nil && !v.Thin && !s.invalid() && s.Data >= extendAt {
		_ = s.extend(ctx)
	}
}

// poolFull tells that the pool of a thin volume will soon fail all writes to it.
func poolFull(all []logicalVolume, thin *logicalVolume) string {
	if thin == nil {
		return ""
	}
	pool := named(all, thin.Pool)
	if pool == nil || pool.Health == "" && max(pool.Data, pool.Metadata) < fullAt {
		return ""
	}
	return fmt.Sprintf("the thin pool %s/%s is full: %.0f %% of its data and %.0f %% of its metadata are taken up",
		pool.VG, pool.Name, pool.Data, pool.Metadata)
}

func (lvm) list(ctx context.Context, v *Volume) ([]Volume, error) {
	all, err := logicalVolumes(ctx, inGroup(v.group()))
	var found []Volume
	for _, s := range all {
		if _, _, ours := parseName(s.Name); ours && s.Origin == v.origin() {
			w := *v
			w.Name = s.Name
			w.Thin = s.Type == "thin"
			found = append(found, w)
		}
	}
	return found, err
}

func (v *Volume) group() string  { return filepath.Dir(v.Source) }
func (v *Volume) origin() string { return filepath.Base(v.Source) }

// deviceName returns what the device mapper calls a logical volume beside v: hyphens in its
// name and its group's are doubled.
func (v *Volume) deviceName(name string) string {
	double := func(s string) string { return strings.ReplaceAll(s, "-", "--") }
	return double(v.group()) + "-" + double(name)
}
