package backup

import (
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/ocbackup/ocbackup/catalog"
	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/opencloud"
	"github.com/ocbackup/ocbackup/repo"
	"github.com/ocbackup/ocbackup/s3mirror"
)

// The bucket is not listed once more for the sake of an upload that OpenCloud was still
// processing: its object comes when it will.
func TestNeededObjects(t *testing.T) {
	path := filepath.Join(t.TempDir(), "catalog.jsonl")
	w, err := catalog.Create(path, opencloud.DecomposedS3)
	if err != nil {
		t.Fatal(err)
	}
	s, err := w.Section(catalog.Space{ID: "s", Name: "s", Dir: "spaces/s"})
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []catalog.Node{
		{Kind: catalog.KindFile, Space: "s", Path: "/arriving", Size: 1, Blob: "11111111-1", Pending: "11111111-1"},
		{Kind: catalog.KindFile, Space: "s", Path: "/empty"},
		{Kind: catalog.KindFile, Space: "s", Path: "/there", Size: 1, Blob: "22222222-2"},
	} {
		n.At = catalog.Place(opencloud.DecomposedS3, nil, &n)
		if err := s.Add(&n); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Close(); err != nil {
		t.Fatal(err)
	}
	r := newRun(Options{})
	if r.proof.file, err = catalog.Open(path); err != nil {
		t.Fatal(err)
	}
	defer r.closeProof()
	needed, err := r.neededObjects()
	if err != nil {
		t.Fatal(err)
	}
	for key, found := range map[string]bool{"s/11/11/11/11/-1": true, "s/22/22/22/22/-2": false} {
		if got, ok := needed[hashed(key)]; !ok || got != found {
			t.Errorf("%s: %v, %v", key, got, ok)
		}
	}
	if len(needed) != 2 {
		t.Errorf("%d objects are needed", len(needed))
	}
}

// The metadata's own files are no orphans in the bucket's place, and take no memory.
func TestMayBeContent(t *testing.T) {
	const mpk, blob = "spaces/aa/bb/nodes/11/22/33/44/-5.mpk", "spaces/aa/bb/blobs/11/22/33/44/-5"
	for _, row := range []struct {
		driver opencloud.Driver
		at     string
		want   bool
	}{
		{opencloud.Decomposed, blob, true},
		{opencloud.Decomposed, mpk, false},
		{opencloud.DecomposedS3, mpk, false},
		{opencloud.Posix, "users/alan/docs/.oc-tmp/of a user", true},
	} {
		if got := mayBeContent(row.driver, row.at); got != row.want {
			t.Errorf("%s, %s: %v", row.driver, row.at, got)
		}
	}
}

// A full disk here is no fault of the repository.
func TestStoredFailure(t *testing.T) {
	r := newRun(Options{Repo: repo.New(repo.Options{Location: "/srv/backup"})})
	r.proof.dir = "/var/lib/ocbackup/prove"
	users := &root{Root: opencloud.Root{Name: "users"}}
	for code, err := range map[fail.Code]error{
		fail.Failed:     fmt.Errorf("list: %w", &fs.PathError{Op: "write", Path: r.proof.dir + "/spool", Err: unix.ENOSPC}),
		fail.Repository: &fs.PathError{Op: "write", Path: "/srv/backup/locks/x", Err: unix.ENOSPC},
	} {
		if got := r.storedFailure(users, err); fail.CodeOf(got) != code || !strings.Contains(got.Error(), "root users") {
			t.Errorf("%v is %v of code %d, want %d", err, got, fail.CodeOf(got), code)
		}
	}
}

// A bucket that is listed twice after the moment has all that both listings showed.
func TestTogether(t *testing.T) {
	found := []s3mirror.Finding{{Kind: s3mirror.Damaged, Key: "s/1"}, {Kind: s3mirror.Skipped, Key: "s/2"}}
	first := together(nil, &s3mirror.Copied{New: 2, NewBytes: 20, Findings: found[:1]})
	got := together(first, &s3mirror.Copied{New: 1, NewBytes: 5, Listed: 7, Findings: found[1:]})
	if got.New != 3 || got.NewBytes != 25 || got.Listed != 7 || !slices.Equal(got.Findings, found) {
		t.Errorf("%+v", got)
	}
}
