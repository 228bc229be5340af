package s3mirror

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

const (
	// maxOnServer is the size up to which S3 copies an object with one request (5 GiB).
	maxOnServer = 5 << 30
	// slowOnServer is how many bytes a second a server has to copy by itself; it is silent meanwhile.
	slowOnServer = 10 << 20
)

// copyOnServer has the server copy an object from the bucket to the pool, with the
// pool's keys. Nothing passes through here, so that only the MD5 is known, where the
// server tells it.
func (p *pass) copyOnServer(o Object, l *Object) (Object, error) {
	src, api := p.Mirror.src, p.Mirror.pool.api
	if err := api.copyFrom(p.to, src.bucket.Name, asRclone.FromStandardPath(o.Key), o.Path(), o.Size); err != nil {
		return o, err
	}
	s, err := api.head(p.to, o.Path())
	if err != nil {
		return o, err
	}
	if s.size != o.Size {
		return o, fmt.Errorf("%s: %d bytes were listed, %d were stored", o.Key, o.Size, s.size)
	}
	if l.MD5 != "" && isMD5(s.tag) {
		if s.tag != l.MD5 {
			// One of the two servers encrypts, or it is other content: reading it tells.
			return o, fmt.Errorf("%w: the tag listed is %s, the one stored %s", errOther, l.MD5, s.tag)
		}
		o.MD5 = s.tag
	}
	o.Version = s.version
	p.progress.read.Add(o.Size)
	return o, nil
}

// copyFrom has the server copy an object of another of its buckets.
func (a *s3API) copyFrom(ctx context.Context, bucket, key, path string, size int64) error {
	patience := a.patience + time.Duration(size/slowOnServer)*time.Second
	_, err := within(ctx, patience, func(ctx context.Context) (*s3.CopyObjectOutput, error) {
		return a.client.CopyObject(ctx, &s3.CopyObjectInput{
			Bucket: &a.bucket, Key: aws.String(a.prefix + path),
			// Servers differ in what a plus means.
			CopySource: aws.String(strings.ReplaceAll((&url.URL{Path: bucket + "/" + key}).EscapedPath(), "+", "%2B")),
		})
	})
	return err
}
