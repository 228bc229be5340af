package manifest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"

	"github.com/ocbackup/ocbackup/repo"
)

// InventoryFile is the name of the inventory beside the manifest: one line of JSON
// for each object. docs/formats.md describes it.
const InventoryFile = "inventory.jsonl"

// Bucket says which S3 bucket holds the blobs of a set, where their copies are, and
// which they are.
type Bucket struct {
	Endpoint string `json:"endpoint"`
	Region   string `json:"region"`
	Name     string `json:"name"`
	Pool     Pool   `json:"pool"`
	// Objects and Bytes are what the bucket held; Digest is the SHA-256 of the inventory.
	Objects uint64 `json:"objects"`
	Bytes   uint64 `json:"bytes"`
	Digest  string `json:"digest"`
	// New and NewBytes are what this run brought into the pool.
	New      uint64 `json:"new"`
	NewBytes uint64 `json:"new_bytes"`
	// Findings are things about objects that somebody should look at.
	Findings []Finding `json:"findings,omitempty"`
}

// Pool is where the copies of a bucket's objects are.
type Pool struct {
	Location  string `json:"location"` // without secrets
	Region    string `json:"region,omitempty"`
	ID        string `json:"id"`
	Encrypted bool   `json:"encrypted,omitempty"`
	// Versioned and ObjectLock tell what the pool's own server does beside.
	Versioned  bool `json:"versioned,omitempty"`
	ObjectLock bool `json:"object_lock,omitempty"`
}

// Finding is something about one object.
type Finding struct {
	Kind string `json:"kind"` // changed, gone, lost or damaged
	Key  string `json:"key"`
	Text string `json:"text"`
}

// Inventory opens the inventory of a set. Reading it ends with an error when it is
// not the one that the manifest names.
func Inventory(ctx context.Context, r *repo.Repo, s *Set) (io.ReadCloser, error) {
	if s.Err != nil {
		return nil, fmt.Errorf("set %s: %w", s.ID, s.Err)
	}
	if s.Manifest.Bucket == nil {
		return nil, fmt.Errorf("set %s holds no bucket", s.ID)
	}
	ctx, cancel := context.WithCancel(ctx)
	pr, pw := io.Pipe()
	go func() {
		err := r.Dump(ctx, s.Snapshot, "/"+dir+"/"+InventoryFile, pw)
		if err != nil {
			err = fmt.Errorf("read the inventory of set %s: %w", s.ID, err)
		}
		pw.CloseWithError(err)
	}()
	return &inventoryReader{PipeReader: pr, set: s.ID, sum: sha256.New(), want: s.Manifest.Bucket.Digest, cancel: cancel}, nil
}

type inventoryReader struct {
	*io.PipeReader
	set, want string
	sum       hash.Hash
	cancel    context.CancelFunc
}

func (r *inventoryReader) Read(p []byte) (int, error) {
	n, err := r.PipeReader.Read(p)
	r.sum.Write(p[:n])
	if err == io.EOF && hex.EncodeToString(r.sum.Sum(nil)) != r.want { //nolint:errorlint // io.Reader gives it as it is
		return n, fmt.Errorf("the inventory of set %s is damaged: it is not the one that the manifest names", r.set)
	}
	return n, err
}

func (r *inventoryReader) Close() error {
	r.cancel()
	return r.PipeReader.Close()
}
