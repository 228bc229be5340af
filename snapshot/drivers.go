package snapshot

import (
	"cmp"
	"context"
	"strings"
)

// driver is one way of freezing. Its methods may hang with the storage below them: the
// callers never wait longer than their context.
type driver interface {
	// find returns the volume (without a Name) that path lies on, and path relative to what
	// open returns. m is the mount that holds path. Without a volume, why tells why there is
	// none; "" means that it is another driver's file system. It only reads.
	find(ctx context.Context, m mount, path string, c Config) (v *Volume, rel, why string)
	// check tells what would keep create from working, as far as that can be seen without
	// making a snapshot: tools, rights, space.
	check(ctx context.Context, v *Volume) error
	// create freezes. It is what the server stands still for.
	create(ctx context.Context, v *Volume) error
	// open makes the snapshot readable, mounted read-only at dir (an empty directory) or
	// where the driver has it, and returns the directory that paths of roots are joined to.
	open(ctx context.Context, v *Volume, dir string) (top string, err error)
	// close undoes open. It is also called where open failed, and after a reboot. What is
	// still mounted at dir afterwards is unmounted by the caller.
	close(ctx context.Context, v *Volume, dir string) error
	// destroy removes the snapshot. That there is none is no error.
	destroy(ctx context.Context, v *Volume) error
	// lost tells why the snapshot can't be read any more, or soon not, in words for an admin;
	// "" while it is sound, or nothing is known of it. It changes nothing.
	lost(ctx context.Context, v *Volume) (why string)
	// list returns the snapshots beside v whose names parseName takes, whosever they are.
	list(ctx context.Context, v *Volume) ([]Volume, error)
}

// drivers are asked in this order what a root lies on.
var drivers = []struct {
	name Driver
	driver
}{
	{Btrfs, btrfs{}},
	{ZFS, zfs{}},
	{LVM, lvm{}},
}

// Volume is what one snapshot is of. It is kept in the record.
type Volume struct {
	Driver  Driver  `json:"driver"`
	Name    string  `json:"name"`              // of the snapshot
	Source  string  `json:"source"`            // btrfs: device; zfs: dataset; lvm: vg/lv; command: Config.Path
	Live    string  `json:"live"`              // where it is mounted, or the subvolume's directory
	ID      string  `json:"id,omitempty"`      // btrfs: UUID of the file system
	Sub     string  `json:"sub,omitempty"`     // btrfs: path of the subvolume below the top level
	FS      string  `json:"fs,omitempty"`      // lvm: type of the file system
	Thin    bool    `json:"thin,omitempty"`    // lvm
	Size    string  `json:"size,omitempty"`    // lvm: of a classic snapshot, as configured
	Command *Config `json:"command,omitempty"` // command: as it was configured
}

// String names the snapshot for people.
func (v Volume) String() string { return string(v.Driver) + " snapshot " + v.Name + " of " + v.Live }

// key is the same for what one snapshot is of.
func (v Volume) key() string {
	return strings.Join([]string{string(v.Driver), cmp.Or(v.ID, v.Source), v.Sub}, "\x00")
}

// driver returns the driver of v, nil where there is none of that name.
func (v Volume) driver() driver {
	if v.Driver == Command {
		return command{}
	}
	for _, d := range drivers {
		if d.name == v.Driver {
			return d.driver
		}
	}
	return nil
}
