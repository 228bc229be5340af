package s3mirror

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/rclone/rclone/fs/config/configmap"
	"golang.org/x/sys/unix"

	"github.com/ocbackup/ocbackup/fail"
)

// Destination is where a restore puts objects: a bucket, or a directory.
type Destination struct {
	Bucket *Bucket
	// Dir is an absolute path. The directory may exist when it is empty, or when it holds
	// nothing but what an earlier restore of the same set has put there.
	Dir string
}

// destination is an open Destination. A directory is a Source without a bucket.
type destination struct {
	*Source
	dir string
}

// destination opens where a restore puts objects. Nothing is asked yet.
func (p *Pool) destination(ctx context.Context, to Destination) (*destination, error) {
	switch {
	case (to.Bucket == nil) == (to.Dir == ""):
		return nil, fail.Usagef("name one of them", "a restore goes to a bucket or to a directory")
	case to.Bucket != nil:
		src, err := OpenBucket(ctx, *to.Bucket, p.Settings)
		if err == nil && Apart(src, p) != nil {
			return nil, fail.Usagef("name another bucket", "the pool itself is in the bucket %s", to.Bucket.Name)
		}
		return &destination{Source: src}, err
	}
	dir := filepath.Clean(to.Dir)
	if !filepath.IsAbs(dir) {
		return nil, fail.Usagef("use /directory", "%s is no absolute path", to.Dir)
	}
	if pool := p.Local(); pool != "" && (inDir(pool, dir) || inDir(dir, pool)) {
		return nil, fail.Usagef("name a directory elsewhere", "%s and the pool %s are one in the other", dir, pool)
	}
	d := &destination{Source: &Source{Settings: p.Settings}, dir: dir}
	d.ctx = configure(ctx, p.Settings, "")
	var err error
	d.f, err = newFs(d.ctx, "local", "ocbdestination", dir, configmap.Simple{"no_check_updated": "true"})
	return d, d.fail(err, "open")
}

// inDir tells whether a path is a directory or lies in it.
func inDir(path, dir string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && filepath.IsLocal(rel)
}

func (d *destination) String() string {
	if d.dir != "" {
		return "directory " + d.dir
	}
	return d.Source.String()
}

func (d *destination) side() side {
	if d.dir != "" {
		return side{f: d.f}
	}
	return d.Source.side()
}

// fail gives an error of the destination's its code and what to do next.
func (d *destination) fail(err error, what string) error {
	return failure(err, what+" the "+d.String(), "the keys of the bucket")
}

// look sees that the destination can be listed. A directory that does not exist is new.
func (d *destination) look(ctx context.Context) (isNew bool, err error) {
	if d.dir == "" {
		return false, d.fail(d.api.check(d.with(ctx)), "look into")
	}
	// A link would lead what is written to another place.
	err = filepath.WalkDir(d.dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if !e.IsDir() && !e.Type().IsRegular() || path == d.dir && !e.IsDir() {
			return fail.Usagef("name a new or an empty directory", "%s is neither a file nor a directory of a restore", path)
		}
		return context.Cause(ctx)
	})
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Lstat(d.dir); errors.Is(err, fs.ErrNotExist) {
			return true, nil
		}
	}
	return false, d.fail(err, "look into")
}

// make makes a directory, for nobody but its owner.
func (d *destination) make() error {
	if d.dir == "" {
		return nil
	}
	err := os.MkdirAll(filepath.Dir(d.dir), 0o755)
	if err == nil {
		err = os.Mkdir(d.dir, 0o700)
	}
	if errors.Is(err, fs.ErrExist) {
		err = nil
	}
	return d.fail(err, "make")
}

// sync makes sure that a directory's files are on disk.
func (d *destination) sync() error {
	if d.dir == "" {
		return nil
	}
	f, err := os.Open(d.dir)
	if err != nil {
		return d.fail(err, "open")
	}
	return d.fail(errors.Join(unix.Syncfs(int(f.Fd())), f.Close()), "write to disk what is in")
}

// remove removes an object.
func (d *destination) remove(ctx context.Context, key string) error {
	o, err := d.f.NewObject(ctx, key)
	if err == nil {
		err = o.Remove(ctx)
	}
	if missing(err) {
		return nil
	}
	if err != nil {
		return d.fail(err, fmt.Sprintf("delete %s in", key))
	}
	return nil
}
