package s3mirror

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/ratelimit"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// s3API asks an S3 server what rclone does not tell: what a bucket lists, exactly;
// whether it is versioned or locked; and how an object was stored.
type s3API struct {
	client   *s3.Client
	bucket   string
	prefix   string        // of all keys, with a slash at its end; may be empty
	patience time.Duration // for a request with all its retries
}

func newS3API(b Bucket, prefix string, patience time.Duration) (*s3API, error) {
	tlsConfig, err := trust(b.CAFile)
	if err != nil {
		return nil, err
	}
	client := awshttp.NewBuildableClient().WithDialerOptions(func(d *net.Dialer) {
		d.Timeout = connectTimeout
	}).WithTransportOptions(func(t *http.Transport) {
		if tlsConfig != nil {
			t.TLSClientConfig = tlsConfig
		}
		t.MaxIdleConnsPerHost = maxIdle
	})
	if prefix != "" {
		prefix += "/"
	}
	return &s3API{bucket: b.Name, prefix: prefix, patience: patience, client: s3.New(s3.Options{
		BaseEndpoint: aws.String(b.Endpoint), Region: b.Region, UsePathStyle: pathStyle(b.Endpoint),
		Credentials: credentials.NewStaticCredentialsProvider(b.Keys.Access, b.Keys.Secret, b.Keys.Session),
		HTTPClient:  client,
		Retryer: retry.NewStandard(func(o *retry.StandardOptions) {
			o.MaxAttempts, o.MaxBackoff, o.RateLimiter = apiTries, apiBackoff, ratelimit.None
			o.Retryables = append([]retry.IsErrorRetryable{retry.IsErrorRetryableFunc(retryable)}, o.Retryables...)
		}),
		RequestChecksumCalculation: aws.RequestChecksumCalculationWhenRequired,
		ResponseChecksumValidation: aws.ResponseChecksumValidationWhenRequired,
	})}, nil
}

// How often a request is tried before its error counts. The waits in between are
// random, up to apiBackoff.
const apiTries = 5

// maxIdle is how many connections are kept, more than transfers and checkers need.
const maxIdle = 128

var apiBackoff = 2 * time.Second

// retryable tells of errors that the client takes for the other kind: an answer that
// was cut off, and a certificate that will not be trusted the next time either.
func retryable(err error) aws.Ternary {
	var cert *tls.CertificateVerificationError
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return aws.TrueTernary
	case errors.As(err, &cert):
		return aws.FalseTernary
	}
	return aws.UnknownTernary
}

// errSilent says that a server takes requests and does not answer.
var errSilent = errors.New("the server does not answer")

// within makes a request, with all its retries, in the time that a server may be silent.
func within[T any](ctx context.Context, patience time.Duration, request func(context.Context) (T, error)) (T, error) {
	ctx, stop := context.WithTimeoutCause(ctx, patience, errSilent)
	defer stop()
	out, err := request(ctx)
	if err != nil && errors.Is(context.Cause(ctx), errSilent) {
		err = fmt.Errorf("%w within %s", errSilent, patience)
	}
	return out, err
}

// check sees that the bucket is there and may be listed.
func (a *s3API) check(ctx context.Context) error {
	_, err := within(ctx, a.patience, func(ctx context.Context) (*s3.ListObjectsV2Output, error) {
		return a.client.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: &a.bucket, Prefix: aws.String(a.prefix), MaxKeys: aws.Int32(1)})
	})
	return err
}

// list lists what begins with a prefix: all objects, or with a delimiter those that
// have none behind the prefix, and what the others have in common up to it.
func (a *s3API) list(ctx context.Context, prefix, delimiter string, object func(types.Object) error, common func(string) error) error {
	in := &s3.ListObjectsV2Input{Bucket: &a.bucket, Prefix: aws.String(a.prefix + prefix)}
	if delimiter != "" {
		in.Delimiter = &delimiter
	}
	for {
		page, err := within(ctx, a.patience, func(ctx context.Context) (*s3.ListObjectsV2Output, error) {
			return a.client.ListObjectsV2(ctx, in)
		})
		if err != nil {
			return err
		}
		for _, p := range page.CommonPrefixes {
			if err := common(strings.TrimPrefix(aws.ToString(p.Prefix), a.prefix)); err != nil {
				return err
			}
		}
		for _, o := range page.Contents {
			if err := object(o); err != nil {
				return err
			}
		}
		if !aws.ToBool(page.IsTruncated) {
			return nil
		}
		if aws.ToString(page.NextContinuationToken) == "" {
			return errors.New("the server says that there is more to list, and not where it goes on")
		}
		in.ContinuationToken = page.NextContinuationToken
	}
}

// exists tells whether the bucket lists an object.
func (a *s3API) exists(ctx context.Context, key string) (bool, error) {
	page, err := within(ctx, a.patience, func(ctx context.Context) (*s3.ListObjectsV2Output, error) {
		return a.client.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: &a.bucket, Prefix: aws.String(a.prefix + key), MaxKeys: aws.Int32(1)})
	})
	return err == nil && len(page.Contents) > 0 && aws.ToString(page.Contents[0].Key) == a.prefix+key, err
}

// get reads an object, or the part of it that a range names.
func (a *s3API) get(ctx context.Context, key, part string) (io.ReadCloser, error) {
	in := &s3.GetObjectInput{Bucket: &a.bucket, Key: aws.String(a.prefix + key)}
	if part != "" {
		in.Range = &part
	}
	out, err := a.client.GetObject(ctx, in)
	if err != nil {
		return nil, err
	}
	return out.Body, nil
}

// stored is what the server says of an object.
type stored struct {
	size    int64
	tag     string // entity tag without quotes
	version string
	// modified is to the second: HTTP has no more.
	modified time.Time
}

// listed tells whether the object still is the one that was listed.
func (s stored) listed(o *Object) bool {
	return s.size == o.Size && s.modified.Sub(o.Modified).Abs() < time.Second && strings.ToLower(s.tag) == tagOf(o)
}

// head asks for an object.
func (a *s3API) head(ctx context.Context, path string) (stored, error) {
	out, err := within(ctx, a.patience, func(ctx context.Context) (*s3.HeadObjectOutput, error) {
		return a.client.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &a.bucket, Key: aws.String(a.prefix + path)})
	})
	if err != nil {
		return stored{}, err
	}
	s := stored{size: aws.ToInt64(out.ContentLength), tag: strings.Trim(aws.ToString(out.ETag), `"`), version: aws.ToString(out.VersionId), modified: aws.ToTime(out.LastModified)}
	if s.version == "null" {
		s.version = ""
	}
	return s, nil
}

// versioned tells whether the bucket keeps old versions. A server that does not
// know the question keeps none.
func (a *s3API) versioned(ctx context.Context) bool {
	out, err := within(ctx, a.patience, func(ctx context.Context) (*s3.GetBucketVersioningOutput, error) {
		return a.client.GetBucketVersioning(ctx, &s3.GetBucketVersioningInput{Bucket: &a.bucket})
	})
	return err == nil && out.Status == types.BucketVersioningStatusEnabled
}

// locked tells whether the bucket has object lock, so that nobody can delete
// versions before their time.
func (a *s3API) locked(ctx context.Context) bool {
	out, err := within(ctx, a.patience, func(ctx context.Context) (*s3.GetObjectLockConfigurationOutput, error) {
		return a.client.GetObjectLockConfiguration(ctx, &s3.GetObjectLockConfigurationInput{Bucket: &a.bucket})
	})
	return err == nil && out.ObjectLockConfiguration != nil && out.ObjectLockConfiguration.ObjectLockEnabled == types.ObjectLockEnabledEnabled
}

// abandon gives up the uploads in parts that were begun and not ended, below the
// prefix: servers keep, and charge for, their parts. It returns how many there were.
func (a *s3API) abandon(ctx context.Context) (n uint64, err error) {
	in := &s3.ListMultipartUploadsInput{Bucket: &a.bucket, Prefix: aws.String(a.prefix)}
	for pages := s3.NewListMultipartUploadsPaginator(a.client, in); pages.HasMorePages(); {
		page, err := within(ctx, a.patience, func(ctx context.Context) (*s3.ListMultipartUploadsOutput, error) { return pages.NextPage(ctx) })
		if err != nil {
			return n, err
		}
		for _, u := range page.Uploads {
			_, err := within(ctx, a.patience, func(ctx context.Context) (*s3.AbortMultipartUploadOutput, error) {
				return a.client.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: &a.bucket, Key: u.Key, UploadId: u.UploadId})
			})
			if err != nil && !isNotFound(err) {
				return n, err
			}
			n++
		}
	}
	return n, nil
}

// errorCode is what an S3 server calls an error; empty when the error is none of a server's.
func errorCode(err error) string {
	var api interface{ ErrorCode() string }
	if errors.As(err, &api) {
		return api.ErrorCode()
	}
	return ""
}

// statusCode is the HTTP status of an error; 0 without.
func statusCode(err error) int {
	var status interface{ HTTPStatusCode() int }
	if errors.As(err, &status) {
		return status.HTTPStatusCode()
	}
	return 0
}

// isNotFound tells whether a server says that an object is not there.
func isNotFound(err error) bool {
	switch errorCode(err) {
	case "NoSuchKey", "NotFound", "404", "NoSuchUpload":
		return true
	case "":
		return statusCode(err) == http.StatusNotFound
	}
	return false // no such bucket, say
}
