package nodes

import (
	"strings"

	"github.com/ocbackup/ocbackup/opencloud"
)

// revision stands in names between a node's id and the version.
const revision = ".REV."

// HoldsBlob tells whether what lies at rel, below the users root or as the key of an
// object, may be the content of a node. All else is the driver's own: metadata, locks,
// indexes, uploads that are not done.
func HoldsBlob(driver opencloud.Driver, rel string) bool {
	steps := strings.Split(rel, "/")
	last := steps[len(steps)-1]
	switch driver {
	case opencloud.Posix:
		if posixTop(steps[0]) || posixLock(last) {
			return false
		}
		for i, step := range steps {
			switch {
			case step == posixTemp:
				return false
			case step == posixMetadata:
				return strings.Contains(last, revision)
			case step == posixTrash && i+1 < len(steps):
				return steps[i+1] != "info"
			}
		}
		return true
	case opencloud.Decomposed: // spaces/aa/<rest>/blobs/aa/bb/cc/dd/-rest
		return len(steps) > 4 && steps[0] == "spaces" && steps[3] == "blobs"
	case opencloud.DecomposedS3: // <space>/aa/bb/cc/dd/-rest
		return len(steps) > 1
	}
	return false
}

// Directories that the posix driver keeps in each space.
const (
	posixMetadata = ".oc-nodes" // revisions, metadata that is too much for attributes, locks
	posixTemp     = ".oc-tmp"
	posixTrash    = ".Trash"
)

// posixTop tells whether the driver keeps something of its own at name, beside the
// directories of spaces (reva, pkg/storage/fs/posix/ignore).
func posixTop(name string) bool {
	switch name {
	case "indexes", "uploads", "changes", ".migrations", ".migrations.lock":
		return true
	}
	return strings.HasPrefix(name, "posixfs-xattr-check-")
}

// posixLock tells whether a name is that of a lock, wherever it lies.
func posixLock(name string) bool {
	return strings.HasSuffix(name, ".mlock") || strings.HasSuffix(name, ".flock")
}
