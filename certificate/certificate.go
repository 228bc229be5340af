// Package certificate proves a set: every node of its catalog is joined with the blob
// that the backup holds for it. It knows nothing of how the backup holds them.
package certificate

import (
	"time"

	"github.com/ocbackup/ocbackup/catalog"
)

// Format is the format of certificate.json that this version writes.
const Format = 1

// FileName is the name of the certificate beside the manifest.
const FileName = "certificate.json"

// Class says how a node fared. Nodes without content (folders, empty files) are
// counted as ok-size.
type Class string

// The classes. docs/formats.md describes them.
const (
	OKHash       Class = "ok-hash"        // the backup knows a hash of the blob, and it is the metadata's
	OKSize       Class = "ok-size"        // its size is the metadata's; no hash is known without reading it
	Pending      Class = "pending-upload" // OpenCloud was still processing the upload
	Missing      Class = "missing"        // the backup does not hold the blob
	SizeMismatch Class = "size-mismatch"
	HashMismatch Class = "hash-mismatch"
	Unreadable   Class = "unreadable" // the node's metadata, or the blob, can't be read
	Broken       Class = "broken"     // the node is not where or what the rest of the tree says
	Orphan       Class = "orphan"     // a blob of no node: normal debris
)

// Certificate is the proof of a set, or why there is none.
type Certificate struct {
	Format int       `json:"format"`
	Set    string    `json:"set"`
	Judged time.Time `json:"judged"`
	// Catalog is the digest of the catalog that was joined.
	Catalog string          `json:"catalog"`
	Nodes   uint64          `json:"nodes"`
	Spaces  uint64          `json:"spaces"`
	Classes map[Class]Tally `json:"classes"`
	// Fatal is how many findings mean that data of a user is lost.
	Fatal uint64 `json:"fatal"`
	// Accepted is how many findings would be fatal, and are losses that the configuration
	// accepts (accept_lost).
	Accepted uint64 `json:"accepted,omitempty"`
	// Findings lists what is not in order, fatal ones first, by space and path; More is how
	// many there are beyond those.
	Findings []Finding `json:"findings,omitempty"`
	More     uint64    `json:"more,omitempty"`
}

// Tally counts nodes (or, of orphans, blobs) of a class.
type Tally struct {
	Count uint64 `json:"count"`
	Bytes uint64 `json:"bytes"`
}

// Finding is one thing that is not in order.
type Finding struct {
	Class Class `json:"class"`
	Fatal bool  `json:"fatal,omitempty"`
	// Accepted tells that it would be fatal, and is accepted.
	Accepted bool `json:"accepted,omitempty"`
	// Space is the id of the space, SpaceName its name, Path the path in it; empty of a
	// blob that belongs to no node.
	Space     string       `json:"space,omitempty"`
	SpaceName string       `json:"space_name,omitempty"`
	Path      string       `json:"path,omitempty"`
	Kind      catalog.Kind `json:"kind,omitempty"`
	Version   string       `json:"version,omitempty"`
	Trash     string       `json:"trash,omitempty"`
	Node      string       `json:"id,omitempty"`
	Blob      string       `json:"blob,omitempty"`
	At        string       `json:"at,omitempty"`
	Text      string       `json:"text"`
}

// Sound tells whether no data of a user is lost.
func (c *Certificate) Sound() bool { return c.Fatal == 0 }
