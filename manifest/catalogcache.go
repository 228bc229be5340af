package manifest

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/ocbackup/ocbackup/catalog"
)

// cacheLimit is how many bytes of catalogs a cache keeps, those that were used last.
const cacheLimit = 2 << 30

// abandoned is the age from which a file that was being written belongs to nobody.
const abandoned = 24 * time.Hour

// catalogPath is where a cache has a catalog: by its digest, so that sets between
// which nothing changed share one.
func catalogPath(cacheDir string, want *catalog.Summary) string {
	return filepath.Join(cacheDir, "catalogs", want.Digest+".jsonl")
}

// openCached opens a catalog in the cache, which counts as its use. Its digest was
// checked when it arrived; one that is not what it was is removed.
func openCached(cacheDir string, want *catalog.Summary) *catalog.File {
	if cacheDir == "" || !isDigest(want.Digest) {
		return nil
	}
	path := catalogPath(cacheDir, want)
	st, err := os.Stat(path)
	if err != nil {
		return nil
	}
	var f *catalog.File
	if uint64(st.Size()) == want.Size {
		f, err = catalog.Open(path)
	}
	if f == nil || err != nil {
		_ = os.Remove(path)
		return nil
	}
	now := time.Now()
	_ = os.Chtimes(path, now, now)
	return f
}

// DropCatalog removes the catalog of a set from the cache, and reports whether it was
// there: one that turned out to be damaged is to be read from the repository again.
func DropCatalog(s *Set, cacheDir string) bool {
	if cacheDir == "" || s.Manifest == nil || s.Manifest.Catalog == nil || !isDigest(s.Manifest.Catalog.Digest) {
		return false
	}
	return os.Remove(catalogPath(cacheDir, s.Manifest.Catalog)) == nil
}

// newCached creates a file for a catalog that is to become cached; nil where it can't.
func newCached(cacheDir string, want *catalog.Summary) (tmp *os.File, cached string) {
	if cacheDir == "" || !isDigest(want.Digest) {
		return nil, ""
	}
	cached = catalogPath(cacheDir, want)
	if os.MkdirAll(filepath.Dir(cached), 0o700) != nil {
		return nil, ""
	}
	tmp, err := os.CreateTemp(filepath.Dir(cached), ".*.tmp")
	if err != nil {
		return nil, ""
	}
	return tmp, cached
}

// isDigest keeps a manifest from naming files elsewhere.
func isDigest(s string) bool {
	return len(s) == 64 && strings.Trim(s, "0123456789abcdef") == ""
}

// evict removes the catalogs that were not used for longest until the others take up
// limit bytes at the most, and what was left behind half written. keep stays. It is
// housekeeping: failing to is no error.
func evict(dir, keep string, limit int64) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	var files []os.FileInfo
	for _, e := range entries {
		st, err := e.Info()
		if err != nil || !st.Mode().IsRegular() {
			continue
		}
		switch {
		case strings.HasSuffix(st.Name(), ".tmp"):
			if time.Since(st.ModTime()) > abandoned {
				_ = os.Remove(filepath.Join(dir, st.Name()))
			}
		case st.Name() == keep:
			limit -= st.Size()
		case strings.HasSuffix(st.Name(), ".jsonl"):
			files = append(files, st)
		}
	}
	slices.SortFunc(files, func(a, b os.FileInfo) int { return b.ModTime().Compare(a.ModTime()) })
	for _, st := range files {
		if limit -= st.Size(); limit < 0 {
			_ = os.Remove(filepath.Join(dir, st.Name()))
		}
	}
}

// KeepCatalog puts a catalog that was made here into the cache, so that it need not be
// read from the repository. The file at path stays, and must not be written to after.
func KeepCatalog(cacheDir, path string, s *catalog.Summary) error {
	tmp, cached := newCached(cacheDir, s)
	if tmp == nil {
		return nil // OpenCatalog does without a cache, too
	}
	_ = tmp.Close()
	defer os.Remove(tmp.Name()) //nolint:errcheck // it has another name by now
	if err := os.Remove(tmp.Name()); err != nil {
		return err
	}
	if err := linkOrCopy(path, tmp.Name()); err != nil {
		return err
	}
	if err := os.Rename(tmp.Name(), cached); err != nil {
		return err
	}
	now := time.Now()
	_ = os.Chtimes(cached, now, now)
	evict(filepath.Dir(cached), filepath.Base(cached), cacheLimit)
	return nil
}
