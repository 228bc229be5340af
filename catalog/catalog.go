// Package catalog is the list of all nodes of a set, by the names that users know:
// spaces, folders, files, versions and trash. It is a file of JSON lines, sorted so
// that a folder's tree is one stretch of it, that lines which did not change stay the
// same bytes in the same place, and that anything in it is found by bisection.
// docs/formats.md describes it.
package catalog

import (
	"cmp"
	"strings"
	"time"

	"github.com/ocbackup/ocbackup/opencloud"
)

// Format is the format of the file that this version writes. Readers refuse others.
const Format = 1

// Kind is what a line of the catalog describes.
type Kind string

// The kinds of lines. The first line of the file is of none: it is the header.
const (
	KindSpace   Kind = "space" // the first line of a space, and its root folder
	KindFolder  Kind = "folder"
	KindFile    Kind = "file"
	KindVersion Kind = "version" // an older content of the file before it
)

// Header is the first line of a catalog.
type Header struct {
	Format int              `json:"catalog"`
	Driver opencloud.Driver `json:"driver"`
}

// Space is the first line of a space.
type Space struct {
	Kind Kind   `json:"kind"` // KindSpace
	ID   string `json:"space"`
	Name string `json:"name"`
	Type string `json:"type"` // personal, project
	// Alias is OpenCloud's path-like name of the space: personal/alan, project/offers.
	Alias string `json:"alias,omitempty"`
	// Owner is the user id of the owner: of a project, the id of the space itself.
	Owner string `json:"owner,omitempty"`
	// Disabled is when the space was disabled; zero: it is not.
	Disabled time.Time `json:"disabled,omitzero"`
	// Dir is the directory of the space below the users root: what paths in it begin with
	// on driver posix.
	Dir     string   `json:"dir"`
	Counts  Counts   `json:"counts"` // without the space itself
	Problem *Problem `json:"problem,omitempty"`
}

// Counts sum nodes up.
type Counts struct {
	Folders      uint64 `json:"folders"`
	Files        uint64 `json:"files"`
	Bytes        uint64 `json:"bytes"` // of files
	Versions     uint64 `json:"versions"`
	VersionBytes uint64 `json:"version_bytes"`
	Trash        uint64 `json:"trash"` // folders, files and versions in the trash, which are not in the others
	TrashBytes   uint64 `json:"trash_bytes"`
	Pending      uint64 `json:"pending"`  // files among Files that OpenCloud was still processing
	Problems     uint64 `json:"problems"` // nodes, also in the trash, that have one
}

// Node is a folder, a file or a version.
type Node struct {
	Kind  Kind   `json:"kind"`
	Space string `json:"space"`
	// Path begins with "/" and is below the space's root, as users see it; of what is in
	// the trash, where it was when it was deleted. It is what Raw decodes to where the name
	// is no UTF-8: the file then has it in both forms.
	Path string `json:"path"`
	// ID is the node's id; of a version, that of its file. Empty: it has lost it.
	ID    string    `json:"id,omitempty"`
	Size  int64     `json:"size"` // bytes, by the metadata; 0 of folders
	MTime time.Time `json:"mtime,omitzero"`
	// Blob is the id of the content; empty of folders and of empty files.
	Blob string `json:"blob,omitempty"`
	// The hashes of the content by the metadata, in hex; empty: not known.
	SHA1    string `json:"sha1,omitempty"`
	MD5     string `json:"md5,omitempty"`
	Adler32 string `json:"adler32,omitempty"`
	// Version tells versions of a file apart: OpenCloud's own key, a time.
	Version string `json:"version,omitempty"`
	// Trash is the key of the trash item that this is, or is a part of; Deleted when it
	// was deleted.
	Trash   string    `json:"trash,omitempty"`
	Deleted time.Time `json:"deleted,omitzero"`
	// Item tells that this is the trash item itself, not something in it.
	Item bool `json:"item,omitempty"`
	// Pending is the id of the upload that OpenCloud was still processing.
	Pending string `json:"pending,omitempty"`
	// At is where the content lies: a path below the users root, or (decomposeds3) the key
	// in the bucket. Empty where there is none. The file leaves it out where it follows
	// from the rest; a reader always gives it.
	At      string   `json:"at,omitempty"`
	Problem *Problem `json:"problem,omitempty"`
}

// Problem is what is wrong with a node itself, whatever the backup holds of its content.
type Problem struct {
	// Class is one of the certificate's: unreadable (its metadata, or what is in it, can't
	// be read), broken (it is not where or what the rest of the tree says).
	Class string `json:"class"`
	// Fatal tells that users' data can't be reached by OpenCloud because of it.
	Fatal bool   `json:"fatal,omitempty"`
	Text  string `json:"text"`
}

// Summary is what a manifest says of a set's catalog.
type Summary struct {
	Format int    `json:"format"`
	Spaces uint64 `json:"spaces"`
	Counts
	// Digest is the SHA-256 of the file, in hex, Size its bytes.
	Digest string `json:"digest"`
	Size   uint64 `json:"size"`
}

// Nodes is how many nodes there are in all, the spaces' roots among them.
func (s Summary) Nodes() uint64 { return s.Spaces + s.Folders + s.Files + s.Versions + s.Trash }

// Compare orders nodes as the file has them: by space; what is in the trash after what
// is not; by path, a folder before what is in it and that before its next sibling; by
// trash item; a file before its versions, the newest of them first.
func Compare(a, b *Node) int {
	return cmp.Or(
		strings.Compare(a.Space, b.Space),
		compareBool(a.Trash != "", b.Trash != ""),
		ComparePaths(a.Path, b.Path),
		strings.Compare(a.Trash, b.Trash),
		compareBool(a.Kind == KindVersion, b.Kind == KindVersion),
		strings.Compare(b.Version, a.Version),
	)
}

// ComparePaths orders paths as a walk meets them: in bytes, "/" before all else.
func ComparePaths(a, b string) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] == b[i] {
			continue
		}
		switch {
		case a[i] == '/':
			return -1
		case b[i] == '/':
			return 1
		}
		return cmp.Compare(a[i], b[i])
	}
	return cmp.Compare(len(a), len(b))
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}
