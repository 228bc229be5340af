package snapshot

import (
	"fmt"
	"regexp"
)

// snapshotName is what a snapshot of ours is called. The instance may have hyphens of its
// own: whoever asks compares the whole of it.
var snapshotName = regexp.MustCompile(`^ocbackup-(.+)-(\d{8}T\d{6}Z-[0-9a-f]{4})-(\d+)$`)

// setID is the id of a set.
var setID = regexp.MustCompile(`^\d{8}T\d{6}Z-[0-9a-f]{4}$`)

// makeName names the snapshot of the nth volume of a set.
func makeName(instance, set string, n int) string {
	return fmt.Sprintf("ocbackup-%s-%s-%d", instance, set, n)
}

// parseName returns whose snapshot it is; false: it is none of ours.
func parseName(name string) (instance, set string, ours bool) {
	m := snapshotName.FindStringSubmatch(name)
	if m == nil {
		return "", "", false
	}
	return m[1], m[2], true
}
