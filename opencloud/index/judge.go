package index

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"unicode/utf8"
)

// Dirs lists the index directories in searchDir, absolute where searchDir is: the
// one that the server uses first, then leftovers of older versions. Up to
// OpenCloud 7 it is "bleve", from 8 on "bleve-v<N>" with N rising whenever the
// server's mapping changes; an older one stays until an admin removes it.
func Dirs(searchDir string) ([]string, error) {
	entries, err := os.ReadDir(searchDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	version := func(name string) int {
		if name == "bleve" {
			return 0
		}
		digits, ok := strings.CutPrefix(name, "bleve-v")
		n, err := strconv.Atoi(digits)
		if !ok || err != nil || n < 0 {
			return -1
		}
		return n
	}
	var names []string
	for _, e := range entries {
		if version(e.Name()) >= 0 {
			names = append(names, e.Name())
		}
	}
	slices.SortFunc(names, func(a, b string) int { return version(b) - version(a) })
	for i := range names {
		names[i] = filepath.Join(searchDir, names[i])
	}
	return names, nil
}

// Judge finds out what state the search index in searchDir (which holds "bleve"
// or "bleve-v<N>") is in. It is as strict as the server's own open, which does:
// index_meta.json, root.bolt, each segment that its snapshot names, the mapping
// (services/search/pkg/bleve/index.go, NewIndex). With deep set, every segment is
// read and its checksum compared.
//
// Nothing is written, and a running server is not disturbed: when it holds the
// index the verdict is Unknown. The lock is only tried, and kept for no longer
// than it takes to read root.bolt.
func Judge(ctx context.Context, searchDir string, deep bool) Verdict {
	dirs, err := Dirs(searchDir)
	if err != nil {
		return failed(err)
	}
	if len(dirs) == 0 {
		return Verdict{State: Absent, Detail: "no search index in " + searchDir}
	}
	v := judgeDir(ctx, dirs[0], deep)
	if v.State == Damaged && inUse(filepath.Join(dirs[0], "store", "root.bolt")) {
		return busy() // started meanwhile, and a segment was merged away under us
	}
	return v
}

func judgeDir(ctx context.Context, dir string, deep bool) Verdict {
	store := filepath.Join(dir, "store")
	root, err := os.Open(filepath.Join(store, "root.bolt"))
	if err == nil {
		defer root.Close() //nolint:errcheck // only read
		if !tryLock(root) {
			return busy()
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return failed(err)
	}
	if v := judgeMeta(filepath.Join(dir, "index_meta.json")); v.State != Sound {
		return v
	}
	if root == nil {
		return Verdict{State: Damaged, Detail: filepath.Join(store, "root.bolt") + " is missing"}
	}
	s, err := readRoot(root)
	if err != nil {
		return failed(fmt.Errorf("%s: %w", root.Name(), err))
	}
	unlock(root)
	if v := s.judgeVersion(); v.State != Sound {
		return v
	}
	schema, err := schemaOf(s.mapping)
	if err != nil {
		return failed(fmt.Errorf("%s: mapping %w", root.Name(), err))
	}
	docs, err := s.checkFiles(ctx, store, deep)
	if err != nil {
		return failed(err)
	}
	if docs == 0 {
		return Verdict{State: Empty, Detail: "the index holds no document", Schema: schema}
	}
	return Verdict{State: Sound, Detail: fmt.Sprintf("%d documents in %d segments", docs, len(s.segments)), Docs: docs, Schema: schema}
}

// judgeMeta reads index_meta.json (bleve/v2 index_meta.go).
func judgeMeta(path string) Verdict {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Verdict{State: Damaged, Detail: path + " is missing"}
	}
	if err != nil {
		return failed(err)
	}
	var meta struct {
		Storage   string         `json:"storage"`
		IndexType string         `json:"index_type"`
		Config    map[string]any `json:"config"`
	}
	if err := json.Unmarshal(b, &meta); err != nil {
		return failed(fmt.Errorf("%s: %w", path, err))
	}
	if meta.Storage != "boltdb" || meta.IndexType != "scorch" {
		return Verdict{State: Schema, Detail: fmt.Sprintf("index type %q on %q, not scorch on boltdb", meta.IndexType, meta.Storage)}
	}
	return Verdict{State: Sound}
}

func readRoot(f *os.File) (*snapshot, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	b, err := openBolt(f, info.Size())
	if err != nil {
		return nil, err
	}
	return readSnapshot(b)
}

func (s *snapshot) judgeVersion() Verdict {
	switch format := fmt.Sprintf("segments of format %s %d", s.segmentType, s.segmentVersion); {
	case s.segmentType != "zap" || s.segmentVersion < oldestSegment:
		return Verdict{State: Schema, Detail: format}
	case s.segmentVersion > newestSegment:
		return Verdict{State: Unknown, Detail: format + ", which came after this ocbackup"}
	}
	return Verdict{State: Sound}
}

// checkFiles checks all segments and returns the number of documents that count.
func (s *snapshot) checkFiles(ctx context.Context, store string, deep bool) (docs uint64, err error) {
	for _, ref := range s.segments {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		path := filepath.Join(store, ref.file)
		n, err := checkSegment(ctx, path, s.segmentVersion, deep)
		if err == nil && ref.deleted > n {
			err = fmt.Errorf("holds %d documents, and %d of them are deleted", n, ref.deleted)
		}
		if err != nil {
			return 0, fmt.Errorf("segment %s: %w", path, err)
		}
		docs += n - ref.deleted
	}
	// Scorch takes the highest number of all *.zap files for its next segment, and
	// does not open an index where one has another kind of name.
	files, err := filepath.Glob(filepath.Join(store, "*.zap"))
	if err != nil {
		return 0, err
	}
	for _, f := range files {
		if _, err := strconv.ParseUint(strings.TrimSuffix(filepath.Base(f), ".zap"), 16, 64); err != nil {
			return 0, fmt.Errorf("%s does not belong there", f)
		}
	}
	return docs, nil
}

// schemaOf gives the digest of an index type and mapping. The JSON is brought into
// one order first, so that the digest depends on what it says only.
func schemaOf(mapping []byte) (string, error) {
	if !utf8.Valid(mapping) {
		return "", errors.New("is no UTF-8") // encoding/json would take it, the server would miss an analyzer
	}
	var m map[string]any
	d := json.NewDecoder(bytes.NewReader(mapping))
	d.UseNumber()
	if err := d.Decode(&m); err != nil {
		return "", fmt.Errorf("is no JSON: %w", err)
	}
	if m == nil || d.More() {
		return "", errors.New("is no JSON object")
	}
	canonical, err := json.Marshal(m)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(append([]byte("scorch\n"), canonical...))
	return hex.EncodeToString(sum[:]), nil
}

// failed is the verdict on an index that could not be read to its end.
func failed(err error) Verdict {
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return Verdict{State: Unknown, Detail: err.Error()}
	}
	return Verdict{State: Damaged, Detail: err.Error()}
}

func busy() Verdict { return Verdict{State: Unknown, Detail: "in use by a running server"} }

func inUse(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close() //nolint:errcheck // only read
	return !tryLock(f)
}

// tryLock takes the lock that a server takes on root.bolt, shared, unless one
// holds it. It never waits. Where a file system knows no locks it says yes.
func tryLock(f *os.File) bool {
	err := syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB)
	return !errors.Is(err, syscall.EWOULDBLOCK)
}

func unlock(f *os.File) { _ = syscall.Flock(int(f.Fd()), syscall.LOCK_UN) }
