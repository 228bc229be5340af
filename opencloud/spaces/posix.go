package spaces

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/pkg/xattr"

	"github.com/ocbackup/ocbackup/opencloud"
	"github.com/ocbackup/ocbackup/opencloud/nodes"
)

// listPosix lists the directories that are space roots, or were.
func listPosix(root string) ([]Space, error) {
	if err := opencloud.XattrSupport(root); err != nil {
		return nil, err
	}
	roots, err := nodes.PosixRoots(context.Background(), nodes.Disk(root))
	if err != nil {
		return nil, err
	}
	list := make([]Space, 0, len(roots))
	for _, r := range roots {
		dir := filepath.Join(root, r.Dir)
		if r.Err != nil {
			list = append(list, Space{Root: dir, Err: fmt.Errorf("%s: %w", dir, r.Err)})
			continue
		}
		list = append(list, Space{ID: r.ID, Type: r.Type, Name: r.Name, Root: dir, Disabled: !r.Disabled.IsZero()})
	}
	return list, nil
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
