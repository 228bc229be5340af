// Package objects is the bucket of OpenCloud's storage driver decomposeds3 as the
// servers of the scenarios see it: just enough of S3 for a static program.
package objects

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// Store holds contents by key. An object that is not there is fs.ErrNotExist.
type Store interface {
	Get(key string) ([]byte, error)
	Put(key string, content []byte) error
	Delete(key string) error
}

// Key is the key of a blob, as OpenCloud forms it: SPACE/aa/bb/cc/dd/-rest.
func Key(space, blob string) string {
	if len(blob) < 9 {
		return space + "/" + blob
	}
	return strings.Join([]string{space, blob[0:2], blob[2:4], blob[4:6], blob[6:8], blob[8:]}, "/")
}

// Dir is a Store of files, whose paths below it are the keys.
type Dir string

func (d Dir) path(key string) string { return filepath.Join(string(d), filepath.FromSlash(key)) }

// Get reads a file.
func (d Dir) Get(key string) ([]byte, error) { return os.ReadFile(d.path(key)) }

// Delete removes a file.
func (d Dir) Delete(key string) error { return os.Remove(d.path(key)) }

// Put writes a file aside, then renames it.
func (d Dir) Put(key string, content []byte) error {
	path := d.path(key)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(path+".tmp", content, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".tmp", path)
}

// Bucket is a bucket of an S3 server.
type Bucket struct {
	endpoint, region, name string
	keys                   aws.Credentials
	http                   http.Client
}

// FromEnv is the bucket that OpenCloud's variables name. Nobody asks the server
// whether it is there: neither does OpenCloud at its start.
func FromEnv() *Bucket {
	get := func(name string) string { return os.Getenv("STORAGE_USERS_DECOMPOSEDS3_" + name) }
	return &Bucket{
		endpoint: strings.TrimSuffix(get("ENDPOINT"), "/"), region: get("REGION"), name: get("BUCKET"),
		keys: aws.Credentials{AccessKeyID: get("ACCESS_KEY"), SecretAccessKey: get("SECRET_KEY")},
		http: http.Client{Timeout: 10 * time.Second},
	}
}

// Get gets an object.
func (b *Bucket) Get(key string) ([]byte, error) { return b.do(http.MethodGet, key, nil) }

// Put puts an object.
func (b *Bucket) Put(key string, content []byte) error {
	_, err := b.do(http.MethodPut, key, content)
	return err
}

// Delete deletes an object, which need not be there.
func (b *Bucket) Delete(key string) error {
	_, err := b.do(http.MethodDelete, key, nil)
	return err
}

func (b *Bucket) do(method, key string, body []byte) ([]byte, error) {
	ctx := context.Background() // bounded by the client's timeout
	r, err := http.NewRequestWithContext(ctx, method, b.endpoint+"/"+b.name+"/"+key, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if method == http.MethodPut {
		r.Header.Set("Content-Type", "application/octet-stream")
	}
	sum := sha256.Sum256(body)
	digest := hex.EncodeToString(sum[:])
	r.Header.Set("X-Amz-Content-Sha256", digest)
	signer := v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true })
	if err := signer.SignHTTP(ctx, b.keys, r, digest, "s3", b.region, time.Now()); err != nil {
		return nil, err
	}
	answer, err := b.http.Do(r)
	if err != nil {
		return nil, err
	}
	defer func() { _ = answer.Body.Close() }()
	content, err := io.ReadAll(answer.Body)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%s: %w", key, err)
	case answer.StatusCode == http.StatusNotFound && bytes.Contains(content, []byte("<Code>NoSuchKey</Code>")):
		return nil, fmt.Errorf("%s: %w", key, fs.ErrNotExist)
	case answer.StatusCode >= 300:
		return nil, errors.New(key + ": " + answer.Status + ": " + code(content))
	}
	return content, nil
}

// code is the code of an S3 error.
func code(answer []byte) string {
	_, rest, _ := strings.Cut(string(answer), "<Code>")
	text, _, _ := strings.Cut(rest, "</Code>")
	return text
}
