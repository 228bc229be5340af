// Package snapshot freezes file systems: it takes a snapshot of what a root lies on,
// makes it readable, and removes it again. Each way of freezing is a driver in a file
// of its own: btrfs, ZFS, LVM, and commands of the admin's.
//
// A backup goes Find, Rehearse, Sync, Freeze, Open, View, and Release or Keep. What a
// run that died has left goes with Sweep.
package snapshot

import "time"

// Driver is a way of freezing a file system.
type Driver string

// The drivers.
const (
	Auto    Driver = "auto" // whichever the file system of a root can
	Btrfs   Driver = "btrfs"
	ZFS     Driver = "zfs"
	LVM     Driver = "lvm"
	Command Driver = "command" // commands of the admin's, for what is below Config.Path
	None    Driver = "none"
)

// Config is the table [snapshot] of the configuration.
type Config struct {
	// Driver is Auto where it is empty. Any other but None must be able to freeze what
	// holds the users' files, or there is no backup.
	Driver Driver `toml:"driver,omitempty" json:"driver,omitempty"`
	// Keep is how long the snapshots of a committed set are kept on this host; 0: not at all.
	Keep time.Duration `toml:"keep_snapshots,omitempty" json:"keep_snapshots,omitempty"`
	// LVMSize is how much a classic LVM snapshot can take up: a size for lvcreate --size
	// ("10g"), or a share of the volume for lvcreate --extents ("20%ORIGIN").
	LVMSize string `toml:"lvm_size,omitempty" json:"lvm_size,omitempty"`

	// The rest is for Command. "{name}" in MountPoint and in the arguments stands for the
	// snapshot's name.

	// Path is the directory that the commands make snapshots of; it and all below it is
	// found at MountPoint after Create has run.
	Path       string `toml:"path,omitempty" json:"path,omitempty"`
	MountPoint string `toml:"mount_point,omitempty" json:"mount_point,omitempty"`
	// Create makes a snapshot and mounts it; it returns when both is done. Destroy unmounts
	// and removes it, and succeeds when there is none of that name.
	Create  []string `toml:"create,omitempty" json:"create,omitempty"`
	Destroy []string `toml:"destroy,omitempty" json:"destroy,omitempty"`
}

// DefaultRunDir is where snapshots are mounted, each below the instance and the set.
const DefaultRunDir = "/run/ocbackup"

// Root is a tree or a file that is to be frozen.
type Root struct {
	Name   string                            // unique; a name for a directory
	Path   string                            // absolute, symbolic links resolved
	Filter func(rel string, isDir bool) bool // what below Path belongs to it; nil: all
	Users  bool                              // holds users' files: must be frozen if Config.Driver is neither Auto nor None
}

// Request says what is to be frozen, and for whom.
type Request struct {
	Config   Config
	Instance string // name of the instance
	Set      string // id of the set: 20261123T021500Z-7f3a
	StateDir string // records are kept in StateDir/snapshots/<set>.json
	RunDir   string // "" is DefaultRunDir
	Roots    []Root
}
