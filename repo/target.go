package repo

import (
	"slices"
	"strings"
	"syscall"
)

// TargetHint is what to do when a restore fails at the place that takes the data.
const TargetHint = "see that there is room where the data goes to, and that it can be written there; then run it again"

// targetFaults are how the kernel says that a place does not take the data.
var targetFaults = []syscall.Errno{
	syscall.ENOSPC, syscall.EDQUOT, syscall.EPERM, syscall.EACCES, syscall.EROFS, syscall.EFBIG, syscall.ENAMETOOLONG, syscall.ENOTSUP,
}

// atTarget tells whether all of the errors come from where the data goes to. Those of
// the repository name the file that restic loads (internal/repository).
func (e *RestoreError) atTarget() bool {
	return !slices.ContainsFunc(e.Items, func(i Item) bool {
		return strings.Contains(i.Err, "Load(<") || damageText.MatchString(i.Err) ||
			!slices.ContainsFunc(targetFaults, func(n syscall.Errno) bool { return strings.HasSuffix(i.Err, n.Error()) })
	})
}
