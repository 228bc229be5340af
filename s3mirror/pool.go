package s3mirror

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/rclone/rclone/fs"
	"github.com/rclone/rclone/fs/fspath"
	"github.com/rclone/rclone/fs/object"

	"github.com/ocbackup/ocbackup/fail"
)

// What a pool consists of, relative to its root. With encryption all but the marker
// lies below encryptedDir, under encrypted names.
const (
	markerFile   = "ocbackup-pool.json"
	blobsDir     = "blobs"          // KEY: the object that was first seen under this key
	changedDir   = "changed"        // KEY.MD5: what was seen later under the same key
	oddDir       = "odd"            // SHA-256 of a key that not every target can hold as a name
	damagedDir   = "damaged"        // KEY.TIME: objects that no longer were what was stored
	probeFile    = "ocbackup-probe" // is written, and removed again, to see that it can be
	checkFile    = "check"          // holds the pool's id: only the right password finds it
	encryptedDir = "encrypted"
)

// poolFormat is the format of pools that this version makes.
const poolFormat = 1

// marker is the file that makes a directory a pool, so that two instances can't mix.
type marker struct {
	Format    int       `json:"format"`
	ID        string    `json:"id"`
	Instance  string    `json:"instance"`
	Created   time.Time `json:"created"`
	Encrypted bool      `json:"encrypted"`
	// Repositories are the ids of the restic repositories whose sets refer to the pool.
	Repositories []string `json:"repositories"`
}

// Info is what is known of a pool.
type Info struct {
	ID         string    `json:"id"`
	Created    time.Time `json:"created"`
	Encrypted  bool      `json:"encrypted"`
	Versioned  bool      `json:"versioned"`   // the target keeps old versions by itself
	ObjectLock bool      `json:"object_lock"` // the target keeps objects from being deleted
	// New: it does not exist yet; Create makes it.
	New bool `json:"new,omitempty"`
	// Repositories are the restic repositories whose sets refer to it.
	Repositories []string `json:"repositories"`
}

// Features says in words what a pool is, and what its server does beside; empty, or
// with a comma before it.
func (i Info) Features() string {
	s := ""
	if i.Encrypted {
		s += ", encrypted"
	}
	if i.Versioned {
		s += ", on a bucket that keeps old versions"
	}
	if i.ObjectLock {
		s += ", with object lock"
	}
	return s
}

// Pool is an open pool.
type Pool struct {
	Settings
	ctx  context.Context // rclone's configuration
	at   location
	t    Target
	base fs.Fs  // its root
	data fs.Fs  // where objects go: base, or an encrypting layer on it
	api  *s3API // of an S3 target that is not encrypted, nil otherwise
	raw  *s3API // of any S3 target
	info Info
}

// OpenPool opens a pool. Nothing is written, and nothing but SFTP is asked.
func OpenPool(ctx context.Context, t Target, s Settings) (*Pool, error) {
	at, err := parseLocation(t.Location)
	if err != nil {
		return nil, err
	}
	p := &Pool{Settings: s.withDefaults(at.kind == "sftp"), at: at, t: t}
	if _, err := trust(t.CAFile); err != nil {
		return nil, err // rclone would end the process
	}
	if at.kind == "s3" {
		if p.raw, err = newS3API(at.asBucket(t), at.path, p.Timeout); err != nil {
			return nil, err
		}
		p.api = p.raw
	}
	p.ctx = configure(ctx, p.Settings, t.CAFile)
	if p.base, err = at.open(p.ctx, t); err != nil {
		return nil, p.fail(err, "open")
	}
	p.data = p.base
	if t.Password == "" {
		return p, nil
	}
	inner := at
	if inner.path = path.Join(at.path, encryptedDir); at.kind == "rclone" {
		inner.path = fspath.JoinRootPath(at.path, encryptedDir)
	}
	base, err := inner.open(p.ctx, t)
	if err != nil {
		return nil, p.fail(err, "open")
	}
	p.data, err = encrypted(p.ctx, base, t.Password)
	p.api = nil
	return p, p.fail(err, "open")
}

// with returns a context that ends with ctx and carries the pool's configuration.
func (p *Pool) with(ctx context.Context) context.Context { return fs.CopyConfig(ctx, p.ctx) }

// Location is where the pool is, without secrets.
func (p *Pool) Location() string { return p.t.Location }

// Local is the directory of a pool in a directory; empty for others.
func (p *Pool) Local() string {
	if p.at.kind == "local" {
		return p.at.path
	}
	return ""
}

// fail gives an error of the pool's its code and what to do next.
func (p *Pool) fail(err error, what string) error {
	var told *fail.Error
	if p.at.kind == "sftp" && !errors.As(err, &told) && (errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)) {
		// What ssh has to say goes nowhere.
		return fail.Wrap(fail.Repository, err, what+" (pool "+p.Location()+")",
			fmt.Sprintf("see, as root, what this says: %s true", strings.Join(p.at.ssh(), " ")))
	}
	return failure(err, what+" (pool "+p.Location()+")", "the pool's keys (env_file in [pool])")
}

// Check sees that the pool is there, is the owner's, and can be opened with the
// password. A target without a marker that is empty is a new pool: Info.New.
func (p *Pool) Check(ctx context.Context, owner Owner) (Info, error) {
	ctx = p.with(ctx)
	if p.raw != nil {
		if err := p.raw.check(ctx); err != nil {
			return Info{}, p.fail(err, "look into the bucket "+p.at.bucket)
		}
	}
	m, err := p.marker(ctx)
	if err != nil {
		return Info{}, err
	}
	if m == nil {
		if err := p.empty(ctx); err != nil {
			return Info{}, err
		}
		p.info = Info{New: true, Encrypted: p.t.Password != ""}
	} else {
		if err := p.accept(ctx, m, owner); err != nil {
			return Info{}, err
		}
		p.info = Info{ID: m.ID, Created: m.Created, Encrypted: m.Encrypted, Repositories: m.Repositories}
	}
	if p.raw != nil {
		p.info.Versioned, p.info.ObjectLock = p.raw.versioned(ctx), p.raw.locked(ctx)
	}
	return p.info, nil
}

// marker reads the marker; nil when there is none.
func (p *Pool) marker(ctx context.Context) (*marker, error) {
	data, err := read(ctx, p.base, markerFile)
	if missing(err) {
		return nil, nil
	}
	if err != nil {
		return nil, p.fail(err, "read "+markerFile)
	}
	var m marker
	if err := json.Unmarshal(data, &m); err != nil || m.ID == "" {
		return nil, fail.New(fail.Repository, fmt.Sprintf("%s in the pool %s is damaged", markerFile, p.Location()),
			"look at it; a pool's content is not touched while its marker can't be read")
	}
	if m.Format != poolFormat {
		return nil, fail.New(fail.Repository, fmt.Sprintf("the pool %s has format %d; this version of ocbackup knows format %d", p.Location(), m.Format, poolFormat),
			"use the version of ocbackup that made it")
	}
	return &m, nil
}

// accept refuses a pool that is not the owner's, or not to be opened like this.
func (p *Pool) accept(ctx context.Context, m *marker, owner Owner) error {
	switch {
	case owner.Instance != "" && m.Instance != owner.Instance:
		return fail.Usagef("give each instance a pool of its own: location in [pool]",
			"the pool %s belongs to the instance %q, not to %q", p.Location(), m.Instance, owner.Instance)
	case m.Encrypted && p.t.Password == "":
		return fail.Usagef("name the file with its password: password_file in [pool]", "the pool %s is encrypted", p.Location())
	case !m.Encrypted && p.t.Password != "":
		return fail.Usagef("remove password_file from [pool], or choose another location for an encrypted pool", "the pool %s is not encrypted", p.Location())
	case !m.Encrypted:
		return nil
	}
	id, err := read(ctx, p.data, checkFile)
	switch {
	case missing(err) || err == nil && string(id) != m.ID:
		return fail.New(fail.Repository, "the password does not open the pool "+p.Location(), "check password_file in [pool]")
	case err != nil:
		return p.fail(err, "read "+checkFile)
	}
	return nil
}

// empty makes sure that a target without a marker holds nothing at all.
func (p *Pool) empty(ctx context.Context) error {
	entries, err := p.base.List(ctx, "")
	switch {
	case errors.Is(err, fs.ErrorDirNotFound):
		return nil
	case err != nil:
		return p.fail(err, "list")
	case len(entries) == 0:
		return nil
	}
	return fail.Usagef("choose an empty directory or prefix: location in [pool]",
		"%s is no pool of ocbackup's, and not empty (it holds %s)", p.Location(), entries[0].Remote())
}

// Create makes the pool if it is new, and notes that the owner's repository refers
// to it. Of a pool that is there it makes sure that it can be written to.
func (p *Pool) Create(ctx context.Context, owner Owner) (Info, error) {
	info, err := p.Check(ctx, owner)
	if err != nil {
		return info, err
	}
	ctx = p.with(ctx)
	if !info.New && slices.Contains(info.Repositories, owner.Repository) {
		return info, p.probe(ctx)
	}
	m := marker{
		Format: poolFormat, ID: info.ID, Instance: owner.Instance, Created: info.Created,
		Encrypted: info.Encrypted, Repositories: append(slices.Clone(info.Repositories), owner.Repository),
	}
	if info.New {
		m.ID, m.Created = strings.ToLower(rand.Text()), time.Now().UTC().Truncate(time.Second)
		if dir := p.Local(); dir != "" {
			// Others on this machine have no business with what users have uploaded.
			if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
				return info, p.fail(err, "make the pool")
			}
			if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
				return info, p.fail(err, "make the pool")
			}
		}
		if m.Encrypted {
			if err := write(ctx, p.data, checkFile, []byte(m.ID)); err != nil {
				return info, p.fail(err, "write "+checkFile)
			}
		}
	}
	data, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return info, err
	}
	if err := write(ctx, p.base, markerFile, append(data, '\n')); err != nil {
		return info, p.fail(err, "write "+markerFile)
	}
	p.info.New, p.info.ID, p.info.Created, p.info.Repositories = false, m.ID, m.Created, m.Repositories
	return p.info, nil
}

// probe sees that a directory, here or behind SFTP, can be written to: its disk may have
// become read-only. Keys of S3 may be such that nothing can be removed again.
func (p *Pool) probe(ctx context.Context) error {
	if p.at.kind != "local" && p.at.kind != "sftp" {
		return nil
	}
	err := write(ctx, p.base, probeFile, []byte("x"))
	if err == nil {
		var o fs.Object
		if o, err = p.base.NewObject(ctx, probeFile); err == nil {
			err = o.Remove(ctx)
		}
	}
	return p.fail(err, "write a file, and remove it")
}

// read returns a small file of a remote.
func read(ctx context.Context, f fs.Fs, name string) ([]byte, error) {
	o, err := f.NewObject(ctx, name)
	if err != nil {
		return nil, err
	}
	r, err := o.Open(ctx)
	if err != nil {
		return nil, err
	}
	defer r.Close() //nolint:errcheck // it was only read
	return io.ReadAll(io.LimitReader(r, 1<<20))
}

// write writes a small file of a remote, over one that is there.
func write(ctx context.Context, f fs.Fs, name string, data []byte) error {
	info := object.NewStaticObjectInfo(name, time.Now(), int64(len(data)), true, nil, f)
	old, err := f.NewObject(ctx, name)
	if err == nil {
		return old.Update(ctx, bytes.NewReader(data), info)
	}
	_, err = f.Put(ctx, bytes.NewReader(data), info)
	return err
}

// missing tells whether an error says that there is no such object.
func missing(err error) bool {
	return err != nil && (errors.Is(err, fs.ErrorObjectNotFound) || errors.Is(err, fs.ErrorDirNotFound) || errors.Is(err, fs.ErrorIsDir) || isNotFound(err))
}

func digestOf(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}
