// Package index judges OpenCloud's search index (bleve, scorch) and has it built
// again. A damaged index keeps the whole of OpenCloud 4.0 from starting, so a
// restored index is judged before the server starts.
package index

// State is what an index is found to be.
type State string

// The states of an index. All but Sound and Unknown call for a reindex after a restore.
const (
	Sound    State = "sound"
	Absent   State = "absent"
	Empty    State = "empty"    // there, but without a single document
	Damaged  State = "damaged"  // the server would not start with it, or would lose documents
	Schema   State = "schema"   // made by another kind or version of index
	External State = "external" // kept outside OpenCloud (OpenSearch)
	// Unknown: not judged. The component was not part of the run, a server has the
	// index open, it may not be read, or it is of a format that came after this ocbackup.
	Unknown State = "unknown"
)

// Verdict is the state of an index and why.
type Verdict struct {
	State  State  `json:"state"`
	Detail string `json:"detail,omitempty"`
	Docs   uint64 `json:"docs,omitempty"`
	// Schema identifies the index's type and document mapping: a SHA-256 in hex. It
	// is the same for every index that the same server version makes.
	Schema string `json:"schema,omitempty"`
}

// NeedsReindex tells whether an index in this state must be built again.
func (v Verdict) NeedsReindex() bool { return v.State != Sound && v.State != Unknown }
