package s3mirror

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/ocbackup/ocbackup/atomicfile"
)

// index is what the pool is known to hold: a sorted file of Objects with the newest
// content of each key, so that the pool need not be listed. It is trusted only when
// the last pass ended in order; otherwise, or when it is not there, it is made anew
// from the pool's listing, with the hashes that are known (reconcile.go).
type index struct {
	sections
	dir   string
	state indexState
}

// indexState is written beside the index, after it.
type indexState struct {
	Pool       string    `json:"pool"`       // id of the pool
	Listed     int64     `json:"listed"`     // objects that the source had when it was last listed
	Reconciled time.Time `json:"reconciled"` // when the pool was last listed
	Digest     string    `json:"digest"`     // SHA-256 of the index, in hex
}

// The files of an index, in the directory "bucket" of the state directory.
const (
	indexFile     = "index.jsonl"
	stateFile     = "index.json"
	inventoryFile = "inventory.jsonl"
	workDir       = "work"   // segments of a pass that is under way, or that did not end in order
	beforeDir     = "before" // those of a pass that did not end, while a reconcile reads them
)

// openIndex opens the index of a pool. It is not sound when it has to be made anew.
func openIndex(stateDir, pool string) (ix *index, sound bool, err error) {
	ix = &index{dir: filepath.Join(stateDir, "bucket")}
	if err := os.MkdirAll(ix.dir, 0o700); err != nil {
		return nil, false, err
	}
	data, err := os.ReadFile(filepath.Join(ix.dir, stateFile))
	switch {
	case errors.Is(err, os.ErrNotExist):
		return ix, false, nil
	case err != nil:
		return nil, false, err
	}
	if json.Unmarshal(data, &ix.state) != nil || ix.state.Pool != pool {
		ix.state = indexState{} // of another pool, or damaged: nothing of it holds
		return ix, false, ix.forget()
	}
	if ix.load() != nil {
		return ix, false, nil
	}
	if ix.digest != ix.state.Digest { // cut off, say
		ix.close()
		return ix, false, nil
	}
	for _, dir := range []string{ix.work(), ix.before()} {
		if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
			return ix, false, err
		}
	}
	return ix, true, nil
}

func (ix *index) work() string   { return filepath.Join(ix.dir, workDir) }
func (ix *index) before() string { return filepath.Join(ix.dir, beforeDir) }

// distrust has the next pass make an index anew, where there is one.
func distrust(stateDir string) error {
	dir := filepath.Join(stateDir, "bucket")
	if _, err := os.Stat(filepath.Join(dir, stateFile)); stateDir == "" || err != nil {
		return nil //nolint:nilerr // there is none
	}
	return os.MkdirAll(filepath.Join(dir, workDir), 0o700)
}

// segments begins a pass: until it ends with replace, the index is not sound.
func (ix *index) segments() (segments, error) {
	if err := os.RemoveAll(ix.work()); err != nil {
		return segments{}, err
	}
	if err := os.Mkdir(ix.work(), 0o700); err != nil {
		return segments{}, err
	}
	// The pool must not get ahead of an index that counts as sound after a power failure.
	dir, err := os.Open(ix.dir)
	if err != nil {
		return segments{}, err
	}
	return segments{ix.work()}, errors.Join(dir.Sync(), dir.Close())
}

// forget throws the index away.
func (ix *index) forget() error {
	ix.close()
	return errors.Join(os.RemoveAll(ix.work()), os.RemoveAll(ix.before()), remove(filepath.Join(ix.dir, indexFile)), remove(filepath.Join(ix.dir, stateFile)))
}

// load opens the file and finds the part of each space.
func (ix *index) load() error {
	ix.close()
	opened, err := openSections(filepath.Join(ix.dir, indexFile))
	if err == nil {
		ix.sections = *opened
	}
	return err
}

// replace puts segments together to the new index, which is sound from then on.
func (ix *index) replace(s segments, spaces []string, state indexState) error {
	path := filepath.Join(ix.dir, indexFile)
	var err error
	if state.Digest, err = s.concat("index", spaces, path+".new"); err != nil {
		return err
	}
	ix.close()
	if err := remove(filepath.Join(ix.dir, stateFile)); err != nil { // the old one does not hold for the new file
		return err
	}
	if err := os.Rename(path+".new", path); err != nil {
		return err
	}
	data, err := json.Marshal(state)
	if err != nil {
		return err
	}
	if err := atomicfile.Write(filepath.Join(ix.dir, stateFile), data, 0o600); err != nil {
		return err
	}
	ix.state = state
	if err := os.RemoveAll(s.dir); err != nil {
		return err
	}
	return ix.load()
}

// concat writes the segments of a kind, in the order of spaces, to a file that is on
// disk when it returns, and gives its SHA-256. A segment that does not exist is empty.
func (s segments) concat(kind string, spaces []string, path string) (digest string, err error) {
	out, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	sum := sha256.New()
	w := io.MultiWriter(out, sum)
	for _, space := range spaces {
		in, err := os.Open(s.file(kind, space))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return "", err
		}
		_, err = io.Copy(w, in)
		_ = in.Close()
		if err != nil {
			return "", err
		}
	}
	return hex.EncodeToString(sum.Sum(nil)), out.Sync()
}

// remove removes a file that may not be there.
func remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
