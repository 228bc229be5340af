package s3mirror

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"time"

	"github.com/rclone/rclone/fs"
	"github.com/rclone/rclone/fs/accounting"
	"github.com/rclone/rclone/fs/fserrors"
	"github.com/rclone/rclone/fs/hash"
	"github.com/rclone/rclone/fs/operations"
)

const (
	// resumes is how often reading an object goes on where a connection was cut.
	resumes = 10
	// putTries is how often an object is sent again after an error of the target's; the
	// waits in between are putWait, twice that, and so on.
	putTries = 5
	putWait  = 500 * time.Millisecond
)

// readError is an error of the side that is read from.
type readError struct{ err error }

func (e *readError) Error() string { return e.err.Error() }
func (e *readError) Unwrap() error { return e.err }

// content is an object on its way: what the listing has said of it, and hashes taken
// as it is read.
type content struct {
	fs.Object
	size     int64
	modified time.Time
	count    *atomic.Int64 // bytes read, of all objects

	sums   *hash.MultiHasher
	read   int64
	failed error // why it can't be read any further
}

// Size and ModTime are those of the listing, for which nothing is asked.
func (c *content) Size() int64                                     { return c.size }
func (c *content) ModTime(context.Context) time.Time               { return c.modified }
func (c *content) MimeType(context.Context) string                 { return "application/octet-stream" }
func (c *content) Hash(context.Context, hash.Type) (string, error) { return "", nil }

// Open begins to read, or goes on at an offset after a connection was cut.
func (c *content) Open(ctx context.Context, options ...fs.OpenOption) (_ io.ReadCloser, err error) {
	defer func() { c.failed = err }()
	at := int64(0)
	for _, o := range options {
		switch x := o.(type) {
		case *fs.RangeOption:
			at = max(x.Start, 0)
		case *fs.SeekOption:
			at = x.Offset
		}
	}
	if at == 0 {
		c.rewind()
		if c.sums, err = hash.NewMultiHasherTypes(hash.NewHashSet(hash.MD5, hash.SHA1)); err != nil {
			return nil, err
		}
	} else if at != c.read {
		return nil, fmt.Errorf("read on at byte %d after byte %d", at, c.read)
	}
	// The answer has to begin in time, with all retries; then each part of it.
	r := &contentReader{c: c, patience: time.Duration(fs.GetConfig(ctx).Timeout)}
	ctx, r.cancel = context.WithCancelCause(ctx)
	r.late = time.AfterFunc(r.patience, func() { r.cancel(fmt.Errorf("%w within %s", errSilent, r.patience)) })
	r.body, err = c.Object.Open(ctx, options...)
	r.late.Stop()
	if err != nil {
		r.cancel(nil)
		return nil, silence(ctx, err)
	}
	r.ctx = ctx
	return r, nil
}

// silence is the error of a context that was ended by silence, and must not begin anew;
// else the error that it gets.
func silence(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); errors.Is(cause, errSilent) {
		return fserrors.NoLowLevelRetryError(cause)
	}
	return err
}

// rewind takes back what was counted.
func (c *content) rewind() {
	c.count.Add(-c.read)
	c.read = 0
}

type contentReader struct {
	c        *content
	body     io.ReadCloser
	ctx      context.Context
	cancel   context.CancelCauseFunc
	late     *time.Timer
	patience time.Duration
}

func (r *contentReader) Read(p []byte) (int, error) {
	r.late.Reset(r.patience)
	n, err := r.body.Read(p)
	r.late.Stop()
	_, _ = r.c.sums.Write(p[:n]) // a hash takes everything
	r.c.read += int64(n)
	r.c.count.Add(int64(n))
	if err != nil && !errors.Is(err, io.EOF) {
		err = silence(r.ctx, err)
		r.c.failed = err
	}
	return n, err
}

func (r *contentReader) Close() error {
	defer r.cancel(nil)
	return r.body.Close()
}

// whole makes sure that all of it was read.
func (c *content) whole() error {
	switch {
	case c.failed != nil:
		return &readError{c.failed}
	case c.read != c.size:
		return &readError{fmt.Errorf("it has %d bytes, listed were %d", c.read, c.size)}
	}
	return nil
}

// hashes are those of all that was read.
func (c *content) hashes() (md5, sha1 string) {
	if c.sums == nil {
		return "", ""
	}
	sums := c.sums.Sums()
	return sums[hash.MD5], sums[hash.SHA1]
}

// open returns an object of a remote as content with the size of its record.
func open(ctx context.Context, f fs.Fs, path string, o *Object, count *atomic.Int64) (*content, error) {
	src, err := f.NewObject(ctx, path)
	if err != nil {
		return nil, &readError{err}
	}
	return &content{Object: src, size: o.Size, modified: o.Modified, count: count}, nil
}

// start begins to read, under the limit of the bandwidth. The error given to done
// ends it.
func (c *content) start(ctx context.Context, to fs.Fs) (in *accounting.Account, done func(error), err error) {
	tr := accounting.Stats(ctx).NewTransfer(c, to)
	done = func(err error) { tr.Done(ctx, err) }
	src, err := operations.NewReOpen(ctx, c, resumes)
	if err != nil {
		done(err)
		return nil, nil, &readError{err}
	}
	return tr.Account(ctx, src), done, nil
}

// hashOnly reads an object and returns its hashes; stored nowhere.
func hashOnly(ctx context.Context, f fs.Fs, path string, o *Object, count *atomic.Int64) (md5, sha1 string, err error) {
	c, err := open(ctx, f, path, o, count)
	if err != nil {
		return "", "", err
	}
	in, done, err := c.start(ctx, nil)
	if err != nil {
		return "", "", err
	}
	_, err = io.Copy(io.Discard, in)
	err = errors.Join(err, in.Close())
	if werr := c.whole(); werr != nil {
		err = werr
	}
	done(err)
	if err != nil {
		c.rewind()
		return "", "", err
	}
	md5, sha1 = c.hashes()
	return md5, sha1, nil
}

// put copies one object, and returns its hashes. What arrived has the size that was
// sent; a partial object never gets the object's name. An error of the side that is
// read is a readError.
func put(ctx context.Context, from fs.Fs, fromPath string, to fs.Fs, toPath string, o *Object, count *atomic.Int64) (md5, sha1 string, err error) {
	c, err := open(ctx, from, fromPath, o, count)
	if err != nil {
		return "", "", err
	}
	for try := 1; ; try++ {
		if err = c.store(ctx, to, toPath); err == nil {
			md5, sha1 = c.hashes()
			return md5, sha1, nil
		}
		c.rewind()
		if try == putTries || !again(err) {
			return "", "", err
		}
		select {
		case <-ctx.Done():
			return "", "", context.Cause(ctx)
		case <-time.After(putWait * time.Duration(try)):
		}
	}
}

// store reads the object and writes it to a path.
func (c *content) store(ctx context.Context, to fs.Fs, path string) (err error) {
	in, done, err := c.start(ctx, to)
	if err != nil {
		return err
	}
	defer func() { done(err) }()
	// Where a file that is being written can be seen, it has another name.
	name, move := path, to.Features().Move
	if to.Features().PartialUploads && move != nil {
		name += partialSuffix
	}
	dst, err := to.Put(ctx, in, fs.NewOverrideRemote(c, name))
	err = errors.Join(err, in.Close())
	if werr := c.whole(); werr != nil && (err == nil || c.failed != nil || c.read > c.size) {
		err = werr
	}
	if err == nil && dst.Size() != c.size {
		err = fmt.Errorf("%d bytes were sent, %d were stored", c.size, dst.Size())
	}
	if err == nil && name != path {
		_, err = move(ctx, dst, path)
	}
	if err != nil && (name != path || dst != nil && dst.Size() != c.size) {
		discard(ctx, to, name)
	}
	return err
}

// discard removes what is left of a copy that failed, also when the context has
// ended. What can't be removed now the next reconcile removes.
func discard(ctx context.Context, f fs.Fs, name string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), connectTimeout)
	defer cancel()
	if o, err := f.NewObject(ctx, name); err == nil {
		_ = o.Remove(ctx)
	}
}

// isMD5 tells whether an entity tag may be the MD5 of the content. Those of objects
// that were uploaded in parts are not.
func isMD5(tag string) bool {
	return len(tag) == 32 && strings.Trim(tag, "0123456789abcdef") == ""
}
