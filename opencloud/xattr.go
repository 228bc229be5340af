package opencloud

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

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

// HasXattrs tells whether any file below root that the filter takes carries extended
// attributes. It looks no further than the first; a tree without files counts as one
// that has them. The tree may be in use.
func HasXattrs(root string, filter func(rel string, isDir bool) bool) (bool, error) {
	files, found := false, false
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		switch {
		case rel != "." && !filter(rel, d.IsDir()):
			if d.IsDir() {
				return fs.SkipDir
			}
		case d.Type().IsRegular():
			files = true
			if n, err := unix.Llistxattr(path, nil); err == nil && n > 0 {
				found = true
				return fs.SkipAll
			}
		}
		return nil
	})
	return found || !files, err
}
