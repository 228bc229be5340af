// Package s3mirror copies the S3 bucket of OpenCloud's storage driver decomposeds3
// into a pool, and brings any past state of it back. It is the only package that
// imports rclone, whose Go API promises no stability.
//
// A pool holds every object once, under its own key. Copying never overwrites and
// never deletes. Which objects belong to which set is in the sets' inventories;
// what no retained set names is deleted by Expire, after a grace period.
package s3mirror

import (
	"context"
	"io"
	"time"
)

// Bucket is an S3 bucket and how it is reached.
type Bucket struct {
	Endpoint string // URL: https://host[:port]
	Region   string
	Name     string
	Keys     Keys
	CAFile   string // the certificate authorities to trust, PEM; empty: the system's
}

// Keys are what an S3 server asks for. They never reach a log or an error.
type Keys struct {
	Access, Secret, Session string
}

// Target says where a pool is.
type Target struct {
	// Location is a directory's absolute path, s3:https://host/bucket[/prefix],
	// sftp:[user@]host:/path or sftp://[user@]host[:port]//path, or rclone:REMOTE:path.
	Location string
	Keys     Keys   // of an S3 target
	Region   string // of an S3 target; empty: us-east-1
	CAFile   string
	// RcloneConfig is the rclone.conf that defines REMOTE; empty: rclone's default.
	RcloneConfig string
	// Password encrypts names and contents on this side (rclone's crypt format); empty:
	// they are stored in clear.
	Password string
}

// Settings say how objects are moved. The zero value holds the defaults.
type Settings struct {
	Transfers int // objects copied at a time; default 16, over SFTP 4
	Checkers  int // spaces listed at a time; default 8
	LimitKiB  int // KiB a second, in each direction; 0: no limit. It is the process's: the last one that was given counts
	// Timeout is how long a server may be silent before that is an error; default 1 min.
	Timeout time.Duration
	// StateDir holds the index of what the pool is known to hold, the record of
	// unreferenced objects, and temporary files.
	StateDir string
	// Log is told what is worth a line in the log; may be nil.
	Log func(text string)
}

// Progress is how far a copy is. Totals grow while listings are under way.
type Progress struct {
	Listed         int64 // objects seen in the source
	Objects, Bytes int64 // copied
	// TotalObjects and TotalBytes are what there is to copy, as far as is known.
	TotalObjects, TotalBytes int64
	Rate                     float64       // bytes a second
	ETA                      time.Duration // 0: not known
}

// Object is one object as an inventory records it: one line of JSON.
type Object struct {
	// Key is the object's key, as rclone writes it (which differs from the key itself
	// only in characters that rclone encodes; OpenCloud uses none of them).
	Key      string    `json:"key"`
	Size     int64     `json:"size"`
	Modified time.Time `json:"modified"` // Last-Modified in the source; zero of what was only seen in the pool
	// Tag is the source's entity tag where it is not the MD5 of the content: of an object
	// that was uploaded in parts, or an encrypting server's.
	Tag string `json:"etag,omitempty"`
	// MD5 and SHA1 are hashes of the content, in hex. They were taken while copying;
	// of an object that the server copied itself there is only the MD5, if any.
	MD5  string `json:"md5,omitempty"`
	SHA1 string `json:"sha1,omitempty"`
	// Version is the version id that the pool's own versioned bucket gave it.
	Version string `json:"version,omitempty"`
	// At is where the pool holds it, relative to the pool's root, when that is not
	// blobs/KEY.
	At string `json:"at,omitempty"`
}

// Path is where the pool holds the object, relative to the pool's root.
func (o *Object) Path() string {
	if o.At != "" {
		return o.At
	}
	return blobsDir + "/" + o.Key
}

// LastInventory opens the inventory of the last committed set; nil, nil when there
// is none.
type LastInventory func(context.Context) (io.ReadCloser, error)

// Inventory is the list of the objects that belong to one set: a file of Objects,
// one JSON object a line, sorted by Less.
type Inventory struct {
	Path    string `json:"-"`
	Objects uint64 `json:"objects"`
	Bytes   uint64 `json:"bytes"`
	Digest  string `json:"digest"` // SHA-256 of the file, in hex
}

// Finding is something about an object that somebody should look at.
type Finding struct {
	// Kind is one of the Finding constants.
	Kind string `json:"kind"`
	Key  string `json:"key"`
	Text string `json:"text"`
}

// The kinds of findings.
const (
	// Changed: the object has other content than before under the same key. Both are kept.
	Changed = "changed"
	// Gone: the object was listed, and gone when it was to be copied.
	Gone = "gone"
	// Lost: the pool no longer holds an object that it has held.
	Lost = "lost"
	// Skipped: the bucket lists something under a key that ends with a slash (other
	// programs mark folders like this), is no path (a//b, a/../b), or is no text. It is
	// not copied. Keys that begin with "/", "./" or "../" are one finding, of what they begin with.
	Skipped = "skipped"
	// Damaged: the pool's object has another size or other content than it was stored with.
	Damaged = "damaged"
)

// Owner is whom a pool belongs to.
type Owner struct {
	Instance   string // name of the instance
	Repository string // id of the restic repository whose sets refer to the pool
}
