package opencloud

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pkg/xattr"
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

// HasXattrs tells whether anything below root that the filter takes carries attributes of
// users (user.*). It looks no further than the first. A tree that has none yet, because it
// holds nothing but the driver's indexes and locks, counts as one that has them. The tree
// may be in use.
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
		switch {
		case err != nil:
			return err
		case rel != "." && !filter(rel, d.IsDir()), rel == "indexes":
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		case hasUserXattr(path):
			found = true
			return fs.SkipAll
		}
		files = files || d.Type().IsRegular() && filepath.Ext(path) != ".mlock"
		return nil
	})
	return found || !files, err
}

func hasUserXattr(path string) bool {
	names, err := xattr.LList(path)
	return err == nil && slices.ContainsFunc(names, func(n string) bool { return strings.HasPrefix(n, "user.") })
}
