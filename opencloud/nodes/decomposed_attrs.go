package nodes

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"io/fs"
	"strconv"
)

// attrTreeMTime is when something in a folder was changed: what OpenCloud shows as the
// time of a folder.
const attrTreeMTime = attrPrefix + "tmtime"

// kept are the attributes that are read of decomposed nodes, in the order in which the
// temporary file numbers them.
var kept = []string{
	attrID, attrParentID, attrName, attrType, attrBlobID, attrBlobSize, attrMTime, attrTreeMTime, attrStatus,
	attrSHA1, attrMD5, attrAdler32, attrTrash, attrSpaceID, attrOwnerID, attrSpaceName, attrSpaceType, attrSpaceAlias, attrDTime,
}

var keptAt = func() map[string]byte {
	at := make(map[string]byte, len(kept))
	for i, name := range kept {
		at[name] = byte(i)
	}
	return at
}()

func wantDecomposed(name string) bool {
	_, ok := keptAt[name]
	return ok
}

// readMpk reads a node's metadata from the file beside it.
func readMpk(ctx context.Context, t Tree, path string) (attrs, error) {
	data, err := t.Read(ctx, path, maxMetadata)
	if err != nil {
		return nil, err
	}
	if len(data) == 0 {
		return nil, errors.New("the file is empty")
	}
	return decodeMetadata(data)
}

// readXattrs reads the metadata of a node of an older tree, which has it on the node
// itself (OC_DECOMPOSEDFS_METADATA_BACKEND=xattrs). nil: there is none.
func readXattrs(ctx context.Context, t Tree, path string) (attrs, error) {
	a, err := t.Attrs(ctx, path, wantDecomposed)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(a) == 0 {
		return nil, nil
	}
	return a, err
}

// emptySHA1 is the checksum of no content.
var emptySHA1, _ = hex.DecodeString("da39a3ee5e6b4b0d3255bfef95601890afd80709")

// hasContent tells whether the attributes speak of content.
func (a attrs) hasContent() bool {
	size, err := strconv.ParseInt(a.get(attrBlobSize), 10, 64)
	return err == nil && size > 0 || len(a[attrSHA1]) > 0 && !bytes.Equal(a[attrSHA1], emptySHA1)
}
