// Package manifest holds the records of a set, and how they are stored in and
// read from the repository.
package manifest

import (
	"time"

	"github.com/ocbackup/ocbackup/catalog"
	"github.com/ocbackup/ocbackup/census"
	"github.com/ocbackup/ocbackup/certificate"
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

	// Taken says how the set was made one of a single moment: the ways of its roots,
	// joined by ", ".
	Taken    string   `json:"taken"`
	Downtime Downtime `json:"downtime"`
	// WasRunning tells whether the instance ran before the backup.
	WasRunning bool `json:"was_running"`

	// Bucket is set where the blobs lie in an S3 bucket, and the set holds them.
	Bucket *Bucket `json:"bucket,omitempty"`

	// Catalog is what the set's catalog lists; nil of a set without the metadata.
	Catalog *catalog.Summary `json:"catalog,omitempty"`
	// Certificate is the outcome of joining that with the blobs; nil where the set does
	// not hold both.
	Certificate *Proof `json:"certificate,omitempty"`
	// AcceptLost is accept_lost of the configuration, when the certificate was made.
	AcceptLost []string `json:"accept_lost,omitempty"`

	Search       index.Verdict `json:"search"`
	NotProtected []string      `json:"not_protected,omitempty"`
}

// Image is the container image that the instance ran from.
type Image struct {
	Ref    string `json:"ref"`
	Digest string `json:"digest"`
}

// Proof sums the certificate of a set up: the whole of it, with all findings, is the
// file certificate.json beside the manifest.
type Proof struct {
	// Nodes is how many were joined; Classes says how they fared.
	Nodes   uint64                                  `json:"nodes"`
	Classes map[certificate.Class]certificate.Tally `json:"classes"`
	// Findings is how many things are not in order, orphans not counted; Fatal how many
	// of them mean that data of a user is lost.
	Findings uint64 `json:"findings"`
	Fatal    uint64 `json:"fatal"`
	// Accepted is how many losses the configuration accepts.
	Accepted uint64 `json:"accepted,omitempty"`
}

// ProofOf sums a certificate up.
func ProofOf(c *certificate.Certificate) *Proof {
	p := &Proof{Nodes: c.Nodes, Classes: c.Classes, Fatal: c.Fatal, Accepted: c.Accepted, Findings: c.More}
	for _, f := range c.Findings {
		if f.Class != certificate.Orphan {
			p.Findings++
		}
	}
	return p
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
	// Taken is how the root was read: from the snapshot of a driver (btrfs, zfs, lvm,
	// command), in the final pass on the stopped tree, in the hot pass (and nothing has
	// changed until the instance was stopped), or while it ran.
	Taken string `json:"taken,omitempty"`
	// Seconds is how long storing it took.
	Seconds float64 `json:"seconds,omitempty"`
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
	// Freeze is how long file-system snapshots took, Store how long the final pass on what
	// has none took after that: both 0 where there was nothing to do.
	Freeze float64 `json:"freeze_s,omitempty"`
	Store  float64 `json:"store_s"`
	// Bucket is the part of Store in which the S3 bucket was listed and its new objects
	// copied, beside the rest; BucketAlone is the part that only this took.
	Bucket      float64 `json:"bucket_s,omitempty"`
	BucketAlone float64 `json:"bucket_alone_s,omitempty"`
	Start       float64 `json:"start_s"`
	Ready       float64 `json:"ready_s"`
	// Predicted is the Total that was predicted before the stop; 0: it was not.
	Predicted float64 `json:"predicted_s,omitempty"`
}

// The ways of reading a root, beside the snapshot drivers.
const (
	TakenFinal = "final pass" // on the stopped tree
	TakenHot   = "hot pass"   // before the stop, and it has not changed until then
	TakenLive  = "running"    // while the instance ran: its binary or image
)
