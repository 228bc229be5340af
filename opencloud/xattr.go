package opencloud

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// XattrSupport returns an error when the file system of path does not take user
// extended attributes: the posix driver keeps all its metadata in them. Nothing is
// written.
func XattrSupport(path string) error {
	_, err := unix.Lgetxattr(path, "user.ocbackup.probe", nil)
	if err == nil || errors.Is(err, unix.ENODATA) {
		return nil
	}
	return fmt.Errorf("%s: the file system takes no user extended attributes, in which OpenCloud keeps its metadata: %w", path, err)
}
