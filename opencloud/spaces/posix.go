package spaces

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pkg/xattr"

	"github.com/ocbackup/ocbackup/opencloud"
)

// posixDepth is how many levels below the storage root a space root may lie. The
// defaults are users/<id> and projects/<id>; admins choose other templates
// (STORAGE_USERS_POSIX_PERSONAL_SPACE_PATH_TEMPLATE and ..._GENERAL_...).
const posixDepth = 6

// posixOwn are the directories in which the posix driver keeps its own things:
// beside spaces, and inside each.
var posixOwn = struct{ beside, inside []string }{
	beside: []string{"indexes", "uploads"},
	inside: []string{".oc-nodes", ".oc-tmp", ".Trash"},
}

// listPosix walks the storage root until it meets directories that are space
// roots: those with a user.oc.space.id.
func listPosix(root string) ([]Space, error) {
	if err := opencloud.XattrSupport(root); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(root)
	if err != nil {
		return nil, err
	}
	var list []Space
	for _, e := range entries {
		if e.IsDir() && !slices.Contains(posixOwn.beside, e.Name()) {
			list = walkPosix(list, filepath.Join(root, e.Name()), 1)
		}
	}
	return list, nil
}

func walkPosix(list []Space, dir string, depth int) []Space {
	attrs, err := readXattrs(dir, attrSpaceID, attrSpaceName, attrSpaceType, attrDTime, attrID, attrParentID)
	if err != nil {
		return append(list, Space{Root: dir, Err: err})
	}
	if len(attrs[attrSpaceID]) > 0 {
		return append(list, fromAttrs(dir, attrs))
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return append(list, Space{Root: dir, Err: err})
	}
	// A directory on the way to space roots has no metadata, and neither files nor
	// anything of the driver's in it. One that has was a space root.
	traces := len(attrs[attrID]) > 0 || len(attrs[attrParentID]) > 0
	for _, e := range entries {
		if e.IsDir() {
			traces = traces || slices.Contains(posixOwn.inside, e.Name())
		} else {
			traces = traces || !strings.HasSuffix(e.Name(), ".mlock") // early servers put locks beside what they lock
		}
	}
	if traces {
		return append(list, Space{Root: dir, Err: fmt.Errorf("%s: has lost its extended attribute %s", dir, attrSpaceID)})
	}
	if depth == posixDepth {
		return list
	}
	for _, e := range entries {
		if e.IsDir() && !strings.HasPrefix(e.Name(), ".oc-") {
			list = walkPosix(list, filepath.Join(dir, e.Name()), depth+1)
		}
	}
	return list
}

// readXattrs reads those of the named extended attributes that path has. Symbolic
// links are not followed.
func readXattrs(path string, names ...string) (map[string][]byte, error) {
	attrs := map[string][]byte{}
	for _, name := range names {
		v, err := xattr.LGet(path, name)
		switch {
		case err == nil:
			attrs[name] = v
		case errors.Is(err, xattr.ENOATTR):
		case errors.Is(err, fs.ErrNotExist):
			return nil, fmt.Errorf("%s: %w", path, fs.ErrNotExist)
		default:
			return nil, fmt.Errorf("%s: %w", path, err)
		}
	}
	return attrs, nil
}
