package s3mirror

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/rclone/rclone/fs"
	"github.com/rclone/rclone/fs/hash"
	"github.com/rclone/rclone/fs/walk"
	"github.com/rclone/rclone/lib/encoder"
)

// side is one thing that holds objects under keys, below a directory: the bucket,
// or a directory of the pool.
type side struct {
	f   fs.Fs
	dir string // "" for all of it
	// tags tells that the listing brings the MD5 of contents along, without a request for each.
	tags bool
	// api lists all of a bucket in rclone's place, which leaves out what it can't name.
	api  *s3API
	odd  func(key string) // told of what api lists and is no object
	seen *atomic.Int64    // counts the objects that list lists; may be nil
	// refuse is asked whether api may list a key at all; may be nil.
	refuse func(key string) error
}

// asRclone is how rclone writes the keys of a bucket.
const asRclone = encoder.EncodeInvalidUtf8 | encoder.EncodeSlash | encoder.EncodeDot

// spaces lists the top-level directories, sorted, with "" first when there are
// objects beside them. A directory that does not exist has none.
func (s side) spaces(ctx context.Context) (names []string, err error) {
	if s.api != nil {
		err = s.api.list(ctx, "", "/", func(types.Object) error {
			names = append(names, "")
			return nil
		}, func(prefix string) error {
			if !isPath(strings.TrimSuffix(prefix, "/")) {
				s.odd(prefix) // for all that begin like this
				return nil
			}
			names = append(names, asRclone.ToStandardPath(strings.TrimSuffix(prefix, "/")))
			return nil
		})
	} else {
		var entries fs.DirEntries
		if entries, err = s.f.List(ctx, s.dir); errors.Is(err, fs.ErrorDirNotFound) && s.dir != "" {
			return nil, nil
		}
		for _, e := range entries {
			name := strings.TrimPrefix(strings.TrimPrefix(e.Remote(), s.dir), "/")
			if _, isDir := e.(fs.Directory); !isDir {
				name = ""
			}
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names), err
}

// list writes all objects of a space to a file, sorted as inventories are, and
// returns how many there are. A space that is gone by now has none.
func (s side) list(ctx context.Context, space, file string) (n int64, err error) {
	out, err := os.Create(file)
	if err != nil {
		return 0, ownFailure(err)
	}
	w := &listing{w: bufio.NewWriterSize(out, 64<<10), sorted: true, seen: s.seen}
	if s.api != nil {
		err = s.listBucket(ctx, space, w)
	} else {
		err = s.listRemote(ctx, space, w)
	}
	if err := errors.Join(err, ownFailure(errors.Join(w.w.Flush(), out.Close()))); err != nil {
		return 0, err
	}
	if w.sorted {
		return w.n, nil
	}
	return w.n, sortFile(file)
}

func (s side) listBucket(ctx context.Context, space string, w *listing) error {
	prefix, delimiter := asRclone.FromStandardPath(space)+"/", ""
	if space == "" {
		prefix, delimiter = "", "/"
	}
	return s.api.list(ctx, prefix, delimiter, func(e types.Object) error {
		key := aws.ToString(e.Key)
		if s.refuse != nil {
			if err := s.refuse(key); err != nil {
				return err
			}
		}
		if !isPath(key) {
			s.odd(key)
			return nil
		}
		o := Object{Key: asRclone.ToStandardPath(key), Size: aws.ToInt64(e.Size), Modified: aws.ToTime(e.LastModified).UTC()}
		if tag := strings.Trim(strings.ToLower(aws.ToString(e.ETag)), `"`); isMD5(tag) {
			o.MD5 = tag
		} else {
			o.Tag = tag
		}
		return w.add(&o)
	}, func(string) error { return nil })
}

func (s side) listRemote(ctx context.Context, space string, w *listing) error {
	add := func(entries fs.DirEntries) error {
		for _, e := range entries {
			src, ok := e.(fs.Object)
			if !ok {
				continue
			}
			o := Object{Key: strings.TrimPrefix(strings.TrimPrefix(src.Remote(), s.dir), "/"), Size: src.Size(), Modified: src.ModTime(ctx).UTC()}
			if space == "" && strings.Contains(o.Key, "/") {
				continue // it is listed with its space
			}
			var err error
			if s.tags {
				if o.MD5, err = src.Hash(ctx, hash.MD5); err != nil {
					return err
				}
			}
			if err := w.add(&o); err != nil {
				return err
			}
		}
		return nil
	}
	dir := strings.Trim(s.dir+"/"+space, "/")
	var err error
	if space == "" {
		var entries fs.DirEntries
		if entries, err = s.f.List(ctx, dir); err == nil {
			err = add(entries)
		}
	} else {
		err = walk.ListR(ctx, s.f, dir, true, -1, walk.ListObjects, add)
	}
	if errors.Is(err, fs.ErrorDirNotFound) {
		return nil
	}
	return err
}

// listing is a file of objects that is being written.
type listing struct {
	w      *bufio.Writer
	n      int64
	last   string
	sorted bool
	seen   *atomic.Int64
	line   []byte
}

func (l *listing) add(o *Object) (err error) {
	if l.line, err = encode(l.line[:0], o); err != nil {
		return err
	}
	if _, err := l.w.Write(l.line); err != nil {
		return ownFailure(err)
	}
	l.sorted = l.sorted && compare(l.last, o.Key) < 0
	l.last = o.Key
	l.n++
	if l.seen != nil {
		l.seen.Add(1)
	}
	return nil
}

// sortFile sorts a listing that came in another order: a local directory's, or keys
// in which rclone encodes characters. The listing of one space has to fit into memory.
func sortFile(file string) error {
	data, err := os.Open(file)
	if err != nil {
		return err
	}
	defer data.Close() //nolint:errcheck // it was only read
	r := newReader(data, file)
	r.order = func(_, _ *Object) int { return -1 }
	var all []Object
	for r.next() {
		all = append(all, *r.at)
	}
	if err := r.failed(); err != nil {
		return err
	}
	slices.SortFunc(all, func(a, b Object) int { return compare(a.Key, b.Key) })
	return writeObjects(file, func(write func(*Object) error) error {
		for i := range all {
			if i > 0 && all[i].Key == all[i-1].Key {
				return fmt.Errorf("%q is listed twice", all[i].Key)
			}
			if err := write(&all[i]); err != nil {
				return err
			}
		}
		return nil
	})
}

// segments names the files that the parts of one pass are in, one per space.
type segments struct{ dir string }

func (s segments) file(kind, space string) string {
	return filepath.Join(s.dir, kind+"-"+digestOf(space))
}
