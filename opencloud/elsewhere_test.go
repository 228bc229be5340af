package opencloud

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/ocbackup/ocbackup/integration/env"
)

// Recorded trees: only that of decomposeds3 has its contents elsewhere.
func TestBlobsElsewhere(t *testing.T) {
	for fixture, want := range map[string]bool{
		"opencloud-4.0-decomposeds3": true, "opencloud-decomposeds3": true,
		"opencloud-4.0-decomposed": false, "opencloud-decomposed": false, "opencloud-4.0-posix": false,
	} {
		dir := t.TempDir()
		env.ExtractFixture(t, fixture, dir)
		if got := BlobsElsewhere(filepath.Join(dir, "data/storage/users")); got != want {
			t.Errorf("%s: %t", fixture, got)
		}
	}
	empty := t.TempDir()
	if err := os.MkdirAll(filepath.Join(empty, "spaces/aa/bb/nodes"), 0o700); err != nil {
		t.Fatal(err)
	}
	if BlobsElsewhere(empty) {
		t.Error("a tree without files tells nothing")
	}
}
