package s3mirror

import (
	"context"
	"fmt"
	"io"

	"github.com/rclone/rclone/fs"
)

// Source is an open bucket of OpenCloud's. Nothing is ever written to it, save by
// a restore.
type Source struct {
	Settings
	ctx    context.Context // rclone's configuration
	bucket Bucket
	f      fs.Fs
	api    *s3API
}

// OpenBucket opens a bucket. Nothing is asked yet.
func OpenBucket(ctx context.Context, b Bucket, s Settings) (*Source, error) {
	if b.Region == "" {
		b.Region = defaultRegion
	}
	src := &Source{Settings: s.withDefaults(false), bucket: b}
	var err error
	if src.api, err = newS3API(b, "", src.Timeout); err != nil {
		return nil, err
	}
	src.ctx = configure(ctx, src.Settings, b.CAFile)
	f, err := newFs(src.ctx, "s3", "ocbsource", b.Name, s3Options(b, true))
	if err != nil {
		return nil, src.fail(err, "open")
	}
	src.f = bucketFs{f, src.api}
	return src, nil
}

// with returns a context that ends with ctx and carries the source's configuration.
func (s *Source) with(ctx context.Context) context.Context { return fs.CopyConfig(ctx, s.ctx) }

// String names the bucket for messages.
func (s *Source) String() string {
	return fmt.Sprintf("bucket %s at %s", s.bucket.Name, s.bucket.Endpoint)
}

// Check sees that the bucket is there and that the keys may list it.
func (s *Source) Check(ctx context.Context) error {
	return s.fail(s.api.check(s.with(ctx)), "look into")
}

// fail gives an error of the bucket's its code and what to do next.
func (s *Source) fail(err error, what string) error {
	return failure(err, what+" the "+s.String(), "the bucket's keys (env_file in [bucket], or OpenCloud's own STORAGE_USERS_DECOMPOSEDS3_*)")
}

func (s *Source) side() side { return side{f: s.f, tags: true, api: s.api, odd: s.odd} }

// odd is told of keys that a copy leaves out, where nobody else wants to know.
func (s *Source) odd(key string) { s.Log(fmt.Sprintf("left out of the %s: %q", s, key)) }

// bucketFs reads objects without rclone's pacer: it lets one request in two seconds pass
// once a server fails, and can't be called off meanwhile.
type bucketFs struct {
	fs.Fs
	api *s3API
}

// NewObject returns an object of which nothing was asked yet.
func (f bucketFs) NewObject(ctx context.Context, remote string) (fs.Object, error) {
	o, err := f.Fs.NewObject(ctx, remote)
	if err != nil {
		return nil, err
	}
	return bucketObject{o, f.api}, nil
}

type bucketObject struct {
	fs.Object
	api *s3API
}

// Open reads the object, or a part of it.
func (o bucketObject) Open(ctx context.Context, options ...fs.OpenOption) (io.ReadCloser, error) {
	var part string
	for _, option := range options {
		switch option.(type) {
		case *fs.RangeOption, *fs.SeekOption:
			_, part = option.Header()
		}
	}
	return o.api.get(ctx, asRclone.FromStandardPath(o.Remote()), part)
}
