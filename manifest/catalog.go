package manifest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"syscall"

	"github.com/ocbackup/ocbackup/catalog"
	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/repo"
)

// CatalogFile is the name of the catalog beside the manifest. docs/formats.md
// describes it.
const CatalogFile = "catalog.jsonl"

// OpenCatalog opens the catalog of a set. It is kept in cacheDir ("" for none: then in
// a temporary file that goes with the catalog.File), so that the repository is read
// once only. onProgress, which may be nil, is told the bytes read so far and in all. A
// set that has no catalog is a fail.Usage; a catalog that is not the one that the
// manifest names is a fail.Inconsistent; other errors are the repository's.
func OpenCatalog(ctx context.Context, r *repo.Repo, s *Set, cacheDir string, onProgress func(done, total uint64)) (*catalog.File, error) {
	if err := hasCatalog(s); err != nil {
		return nil, err
	}
	want := s.Manifest.Catalog
	if f := openCached(cacheDir, want); f != nil {
		return f, nil
	}
	f, err := fetchCatalog(cacheDir, want, onProgress, func(w io.Writer) error {
		return r.Dump(ctx, s.Snapshot, "/"+dir+"/"+CatalogFile, w)
	})
	var local syscall.Errno // of the cache or a temporary file, and not what the repository says
	switch {
	case errors.As(err, &local):
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, errOtherCatalog):
		err = fail.Wrap(fail.Inconsistent, err, "", "\"ocbackup verify\" tells what is damaged; other sets may be sound: \"ocbackup list\"")
	case err != nil && ctx.Err() != nil:
		err = errors.Join(context.Cause(ctx), err)
	}
	if err != nil {
		return nil, fmt.Errorf("read the catalog of set %s: %w", s.ID, err)
	}
	return f, nil
}

// CachedCatalog is OpenCatalog without the repository: nil when the catalog is not in
// cacheDir.
func CachedCatalog(s *Set, cacheDir string) *catalog.File {
	if hasCatalog(s) != nil {
		return nil
	}
	return openCached(cacheDir, s.Manifest.Catalog)
}

// CachedSets returns the sets whose manifests are in cacheDir, oldest first, without
// asking the repository: some may be gone from it, others missing here.
func CachedSets(cacheDir string) []Set {
	if cacheDir == "" {
		return nil
	}
	paths, err := filepath.Glob(filepath.Join(cacheDir, "manifests", "*.json"))
	if err != nil {
		return nil
	}
	var sets []Set
	for _, p := range paths {
		data, err := os.ReadFile(p)
		if err != nil {
			continue
		}
		if m, err := Decode(data); err == nil {
			sets = append(sets, Set{ID: m.Set, Snapshot: filepath.Base(p[:len(p)-len(".json")]), Manifest: m})
		}
	}
	sort.Slice(sets, func(i, j int) bool { return sets[i].ID < sets[j].ID })
	return sets
}

func hasCatalog(s *Set) error {
	switch {
	case s.Err != nil:
		return fail.Wrap(fail.Inconsistent, s.Err, "set "+s.ID, "other sets may be sound: \"ocbackup list\"; \"ocbackup verify\" tells more")
	case s.Manifest.Catalog == nil:
		return fail.Usagef("name another set (\"ocbackup list\"), or restore it beside the server: ocbackup restore "+s.ID+" --target DIR",
			"set %s has no catalog: it was made by an earlier version of ocbackup, or without the metadata", s.ID)
	case s.Manifest.Catalog.Format != catalog.Format:
		return fail.Usagef("use a newer version of ocbackup", "the catalog of set %s has format %d; this version of ocbackup reads format %d", s.ID, s.Manifest.Catalog.Format, catalog.Format)
	}
	return nil
}

// errOtherCatalog says that what came from the repository is not the catalog that the
// manifest names.
var errOtherCatalog = errors.New("it is damaged: it is not the one that the manifest names")

// fetchCatalog brings a catalog into the cache, or into a temporary file where there is
// none or it can't be written, and opens it.
func fetchCatalog(cacheDir string, want *catalog.Summary, onProgress func(done, total uint64), dump func(io.Writer) error) (_ *catalog.File, err error) {
	tmp, cached := newCached(cacheDir, want)
	if tmp == nil {
		if tmp, err = os.CreateTemp("", "ocbackup-catalog-"); err != nil {
			return nil, err
		}
	}
	defer os.Remove(tmp.Name()) //nolint:errcheck // it has another name by now, or an open file that outlives it
	arrived := &arrival{to: tmp, sum: sha256.New(), want: want.Size, on: onProgress}
	err = dump(arrived)
	if errors.Is(err, errOtherCatalog) || arrived.over {
		err = errOtherCatalog
	}
	if err == nil && (arrived.done != want.Size || hex.EncodeToString(arrived.sum.Sum(nil)) != want.Digest) {
		err = errOtherCatalog
	}
	if err == nil && cached != "" {
		err = tmp.Sync()
	}
	if err = errors.Join(err, tmp.Close()); err != nil {
		return nil, err
	}
	f, err := catalog.Open(tmp.Name())
	if err != nil {
		return nil, err
	}
	if cached != "" && os.Rename(tmp.Name(), cached) == nil {
		evict(filepath.Dir(cached), filepath.Base(cached), cacheLimit)
	}
	return f, nil
}

// arrival takes a catalog as it comes, and no more of it than there should be.
type arrival struct {
	to         io.Writer
	sum        hash.Hash
	done, want uint64
	over       bool
	on         func(done, total uint64)
}

func (a *arrival) Write(p []byte) (int, error) {
	if a.done+uint64(len(p)) > a.want {
		a.over = true
		return 0, errOtherCatalog
	}
	n, err := a.to.Write(p)
	a.sum.Write(p[:n])
	a.done += uint64(n)
	if a.on != nil {
		a.on(a.done, a.want)
	}
	return n, err
}
