package s3mirror

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/rclone/rclone/fs"
)

// targetFs is a bucket that a pool lies in. What is not uploaded in parts goes without
// rclone's pacer: it lets one request in two seconds pass once a server fails, and
// can't be called off meanwhile.
type targetFs struct {
	fs.Fs
	api    *s3API
	cutoff fs.SizeSuffix
	blind  bool // objects are not looked at here
}

// Put stores an object.
func (f targetFs) Put(ctx context.Context, in io.Reader, src fs.ObjectInfo, options ...fs.OpenOption) (fs.Object, error) {
	size := src.Size()
	if size < 0 || size >= int64(f.cutoff) {
		return f.Fs.Put(ctx, in, src, options...)
	}
	if err := f.api.put(ctx, asRclone.FromStandardPath(src.Remote()), in, size); err != nil {
		return nil, err
	}
	o, err := f.NewObject(ctx, src.Remote())
	if err == nil && f.blind {
		o = sized{o, size}
	}
	return o, err
}

// sized is an object whose size is known without asking.
type sized struct {
	fs.Object
	size int64
}

func (o sized) Size() int64 { return o.size }

const (
	// slowUpload is how many bytes a second are sent on a line that is slow, not silent:
	// what is on its way can't be seen.
	slowUpload = 64 << 10
	slowMost   = 4 * time.Minute
)

// put stores an object with one request, which is not tried again. The server has to
// take what it is sent in time, and to answer.
func (a *s3API) put(ctx context.Context, key string, in io.Reader, size int64) error {
	patience := a.patience + min(time.Duration(size/slowUpload)*time.Second, slowMost)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	late := time.AfterFunc(patience, func() { cancel(errSilent) })
	defer late.Stop()
	_, err := a.client.PutObject(ctx, &s3.PutObjectInput{
		Bucket: &a.bucket, Key: aws.String(a.prefix + key), ContentLength: &size,
		Body: readerFunc(func(b []byte) (int, error) {
			n, err := in.Read(b)
			late.Reset(patience)
			return n, err
		}),
	}, s3.WithAPIOptions(v4.SwapComputePayloadSHA256ForUnsignedPayloadMiddleware), func(o *s3.Options) {
		o.Retryer = aws.NopRetryer{}
	})
	if err != nil && errors.Is(context.Cause(ctx), errSilent) {
		return fmt.Errorf("%w within %s", errSilent, patience)
	}
	return err
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(b []byte) (int, error) { return f(b) }
