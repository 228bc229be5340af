package snapshot

import (
	"crypto/sha256"
	"fmt"
	"path/filepath"
	"regexp"
)

// snapshotName is what a snapshot of ours is called. The instance may have hyphens of its
// own: whoever asks compares the whole of it.
var snapshotName = regexp.MustCompile(`^ocbackup-(.+)-(\d{8}T\d{6}Z-[0-9a-f]{4})-([0-9a-f]{6})-(\d+)$`)

// owner is whose a snapshot is. Instances with other state directories have other records
// and locks, also those of the same name: nothing is known here of what they are at.
type owner struct {
	instance string
	state    string // the first 6 hex digits of the SHA-256 of the absolute state directory
}

func ownerOf(instance, stateDir string) owner {
	if abs, err := filepath.Abs(stateDir); err == nil {
		stateDir = abs
	}
	return owner{instance, fmt.Sprintf("%x", sha256.Sum256([]byte(stateDir)))[:6]}
}

// makeName names the snapshot of the nth volume of a set.
func makeName(whose owner, set string, n int) string {
	return fmt.Sprintf("ocbackup-%s-%s-%s-%d", whose.instance, set, whose.state, n)
}

// parseName returns whose snapshot it is; false: it is none of ours.
func parseName(name string) (whose owner, set string, ours bool) {
	m := snapshotName.FindStringSubmatch(name)
	if m == nil {
		return owner{}, "", false
	}
	return owner{m[1], m[3]}, m[2], true
}
