// Package manifest holds the records of a set, and how they are stored in and
// read from the repository.
package manifest

import (
	"time"

	"github.com/ocbackup/ocbackup/census"
	"github.com/ocbackup/ocbackup/opencloud"
	"github.com/ocbackup/ocbackup/opencloud/control"
	"github.com/ocbackup/ocbackup/opencloud/index"
)

// Format is the manifest format that this version writes. Readers refuse others
// and ignore fields that they do not know. docs/formats.md describes it.
const Format = 1

// Manifest commits a set: it is written last, so that a set without one does not
// exist.
type Manifest struct {
	Format    int       `json:"format"`
	Set       string    `json:"set"`
	Instance  string    `json:"instance"`
	Host      string    `json:"host"`      // the host name of the machine that was backed up
	Started   time.Time `json:"started"`   // of the run
	Frozen    time.Time `json:"frozen"`    // the moment whose state the set holds: the instance was proven stopped
	Committed time.Time `json:"committed"` // of the manifest

	Tool      string           `json:"tool"`   // ocbackup's version
	Restic    string           `json:"restic"` // restic's version
	OpenCloud string           `json:"opencloud"`
	Image     *Image           `json:"image,omitempty"`
	Layout    opencloud.Layout `json:"layout"`
	Control   control.Config   `json:"control"`
	// UnitEnabled tells that a systemd unit was enabled to start at boot.
	UnitEnabled bool `json:"unit_enabled,omitempty"`

	Roots []Root `json:"roots"`
	// Components are those that this set holds; Full tells whether they are all
	// that the instance has, so that the instance can be restored from it.
	Components []opencloud.Component `json:"components"`
	Full       bool                  `json:"full"`

	Taken    string   `json:"taken"` // how the frozen view was made: "final pass", or a snapshot driver
	Downtime Downtime `json:"downtime"`
	// WasRunning tells whether the instance ran before the backup.
	WasRunning bool `json:"was_running"`

	// Bucket is set where the blobs lie in an S3 bucket, and the set holds them.
	Bucket *Bucket `json:"bucket,omitempty"`

	Search       index.Verdict `json:"search"`
	NotProtected []string      `json:"not_protected,omitempty"`
}

// Image is the container image that the instance ran from.
type Image struct {
	Ref    string `json:"ref"`
	Digest string `json:"digest"`
}

// Root is one root as it was stored.
type Root struct {
	opencloud.Root
	// Real is where the root was read: Path with symbolic links resolved.
	Real string `json:"real"`
	// Command is set for what is a command's output, not a path: the container image,
	// or an extra of the admin's.
	Command []string `json:"command,omitempty"`
	// Snapshot is the restic snapshot; empty for an optional root that was absent.
	Snapshot string `json:"snapshot,omitempty"`
	// Entry is the name of the root in the snapshot (the base name of Real).
	Entry string `json:"entry,omitempty"`
	Dir   bool   `json:"dir"`
	// Files and Bytes are all that the snapshot holds; Added is what storing it added to
	// the repository, in bytes, compressed.
	Files uint64 `json:"files"`
	Bytes uint64 `json:"bytes"`
	Added uint64 `json:"added"`
	// Census is the sum over the root's owners, modes and extended attributes, to be
	// compared with after a restore.
	Census *census.Sum `json:"census,omitempty"`
}

// Downtime is how long the instance was away, in seconds. Total runs from the
// moment the stop was asked for until the instance answered again; the parts add
// up to it.
type Downtime struct {
	Total float64 `json:"total_s"`
	Stop  float64 `json:"stop_s"`
	Store float64 `json:"store_s"` // the final pass on the stopped tree
	// Bucket is the part of Store in which the S3 bucket was listed and its new objects
	// copied, beside the rest; BucketAlone is the part that only this took.
	Bucket      float64 `json:"bucket_s,omitempty"`
	BucketAlone float64 `json:"bucket_alone_s,omitempty"`
	Start       float64 `json:"start_s"`
	Ready       float64 `json:"ready_s"`
}
