package opencloud

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// BlobsElsewhere tells whether a decomposed storage root names contents of files and
// holds none: those of the driver decomposeds3 are in a bucket. A root without files
// tells nothing.
func BlobsElsewhere(usersRoot string) bool {
	dirs, err := filepath.Glob(filepath.Join(Glob(usersRoot), blobsGlob))
	if err != nil || len(dirs) > 0 {
		return false
	}
	found := errors.New("found")
	left := 20000 // names; enough to meet a file in any real tree
	err = filepath.WalkDir(filepath.Join(usersRoot, "spaces"), func(path string, d fs.DirEntry, err error) error {
		if left--; err != nil || left < 0 {
			return fs.SkipAll
		}
		if d.IsDir() || !strings.HasSuffix(path, ".mpk") {
			return nil
		}
		// The names of attributes stand in the msgpack file as they are; folders have no
		// blob, and empty files have one of size "0".
		b, err := os.ReadFile(path)
		if i := bytes.Index(b, []byte("user.oc.blobsize")); err == nil && i >= 0 && !emptyBlob(b[i+len("user.oc.blobsize"):]) {
			return found
		}
		return nil
	})
	return errors.Is(err, found)
}

// emptyBlob tells whether a msgpack value (bin 8: type, length, content) is "0".
func emptyBlob(value []byte) bool { return len(value) < 3 || value[1] == 1 && value[2] == '0' }
