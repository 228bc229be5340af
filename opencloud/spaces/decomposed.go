package spaces

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/vmihailenco/msgpack/v5"
)

// listDecomposed lists spaces/<first two of the id>/<rest of the id>. The root
// node of a space has the space's id (reva, pkg/storage/pkg/decomposedfs/lookup).
func listDecomposed(root string) ([]Space, error) {
	top := filepath.Join(root, "spaces")
	prefixes, err := os.ReadDir(top)
	if errors.Is(err, fs.ErrNotExist) {
		// A server without a single space has not made it yet. A root that is not there is another matter.
		_, err = os.Stat(root)
		return nil, err
	}
	if err != nil {
		return nil, err
	}
	var list []Space
	for _, p := range prefixes {
		if !p.IsDir() {
			continue
		}
		dir := filepath.Join(top, p.Name())
		rests, err := os.ReadDir(dir)
		if err != nil {
			list = append(list, Space{Root: dir, Err: err})
			continue
		}
		for _, r := range rests {
			if r.IsDir() {
				list = append(list, readDecomposed(filepath.Join(dir, r.Name()), p.Name()+r.Name()))
			}
		}
	}
	return list, nil
}

func readDecomposed(dir, id string) Space {
	node := filepath.Join(dir, "nodes", pathify(id))
	attrs, err := readNode(node)
	if err == nil && len(attrs[attrSpaceType]) == 0 {
		err = fmt.Errorf("%s: the root node of space %s has no %s", dir, id, attrSpaceType)
	}
	if err != nil {
		return Space{Root: node, Err: err}
	}
	attrs[attrSpaceID] = []byte(id)
	return fromAttrs(node, attrs)
}

// readNode reads the metadata of a node: a MessagePack map in a file beside it
// (reva, metadata/messagepack_backend.go), or extended attributes
// (OC_DECOMPOSEDFS_METADATA_BACKEND=xattrs).
func readNode(node string) (map[string][]byte, error) {
	file := node + ".mpk"
	b, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		attrs, xerr := readXattrs(node, attrSpaceName, attrSpaceType, attrDTime)
		if xerr == nil && len(attrs) > 0 {
			return attrs, nil
		}
		return nil, fmt.Errorf("metadata of the root node: %w", err)
	}
	if err != nil {
		return nil, err
	}
	attrs := map[string][]byte{}
	if err := msgpack.Unmarshal(b, &attrs); err != nil {
		return nil, fmt.Errorf("%s: malformed: %w", file, err)
	}
	return attrs, nil
}

// pathify gives the path of a node below nodes/: aa/bb/cc/dd/<rest>.
func pathify(id string) string {
	const depth, width = 4, 2
	path := ""
	for i := 0; i < depth && len(id) > width; i++ {
		path, id = filepath.Join(path, id[:width]), id[width:]
	}
	return filepath.Join(path, id)
}
