//go:build integration

package env

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"
)

// through is a client of the proxy that gives up at the first error.
func (p *Proxy) through(client *http.Client) *s3.Client {
	o := p.upstream.client.Options()
	o.BaseEndpoint, o.RetryMaxAttempts, o.Retryer = &p.Endpoint, 1, aws.NopRetryer{}
	if client != nil {
		o.HTTPClient = client
	}
	return s3.New(o)
}

// Each fault is what a client sees, and the server has what it should have then.
func TestS3Proxy(t *testing.T) {
	s := S3Server(t)
	s.Bucket(t, testBucket)
	p := S3Proxy(t, s)
	c := p.through(nil)
	ctx := t.Context()
	key := "space/aa/-key with a space+ü"
	content := []byte(strings.Repeat("0123456789", 1000))
	bucket := aws.String(testBucket)
	put := func() error {
		_, err := c.PutObject(ctx, &s3.PutObjectInput{Bucket: bucket, Key: &key, Body: bytes.NewReader(content)})
		return err
	}
	get := func() (string, error) {
		out, err := c.GetObject(ctx, &s3.GetObjectInput{Bucket: bucket, Key: &key})
		if err != nil {
			return "", err
		}
		defer out.Body.Close()
		b, err := io.ReadAll(out.Body)
		return string(b), err
	}
	list := func() (int, error) {
		out, err := c.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: bucket})
		if err != nil {
			return 0, err
		}
		return len(out.Contents), nil
	}
	stored := func(want string) {
		t.Helper()
		if s.List(t, testBucket)[key] != int64(len(want)) || want != "" && string(s.Get(t, testBucket, key)) != want {
			t.Errorf("the server has %v", s.List(t, testBucket))
		}
	}
	code := func(err error, want string) {
		t.Helper()
		var api smithy.APIError
		if !errors.As(err, &api) || api.ErrorCode() != want {
			t.Errorf("%v, want %s", err, want)
		}
	}

	t.Run("passes on", func(t *testing.T) {
		if err := put(); err != nil {
			t.Fatal(err)
		}
		if got, err := get(); err != nil || got != string(content) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
		if n, err := list(); err != nil || n != 1 {
			t.Errorf("%d objects, %v", n, err)
		}
		if p.Count() != 3 || p.Count(Put, Get) != 2 || p.Count(List) != 1 || p.Count(Head) != 0 || p.Requests()[0].Key != key || p.Requests()[0].Status != 200 {
			t.Errorf("%+v", p.Requests())
		}
		p.Forget()
	})
	t.Run("refuses", func(t *testing.T) {
		r := p.Add(Rule{Kind: Get, Key: `^space/`, Skip: 1, Times: 2, Do: Refuse(503, "SlowDown")})
		for i, want := range []bool{true, false, false, true} {
			if _, err := get(); (err == nil) != want {
				t.Errorf("request %d: %v", i, err)
			} else if err != nil {
				code(err, "SlowDown")
			}
		}
		if p.Hits(r) != 2 {
			t.Errorf("%d hits", p.Hits(r))
		}
		p.Clear()
		for _, want := range []string{"AccessDenied", "RequestTimeTooSkewed", "InvalidAccessKeyId", "SignatureDoesNotMatch"} {
			p.Add(Rule{Kind: List, Times: 1, Do: Refuse(403, want)})
			_, err := list()
			code(err, want)
		}
		p.Add(Rule{Kind: Put, Do: Refuse(500, "InternalError")})
		code(put(), "InternalError")
		p.Clear()
	})
	t.Run("cuts", func(t *testing.T) {
		p.Add(Rule{Kind: Get, Do: CutAnswer(5000)})
		if got, err := get(); err == nil || got != string(content[:5000]) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
		p.Add(Rule{Kind: Put, Do: CutRequest(100)})
		s.Delete(t, testBucket, key)
		if err := put(); err == nil {
			t.Error("a request that was cut has worked")
		}
		p.Add(Rule{Kind: List, Do: Drop})
		if _, err := list(); err == nil {
			t.Error("a request without an answer has worked")
		}
		stored("")
		p.Clear()
	})
	t.Run("hangs", func(t *testing.T) {
		h := NewHang()
		p.Add(Rule{Kind: Put, Do: h.Do})
		done := make(chan error)
		go func() { done <- put() }()
		<-h.Reached
		stored("")
		h.Release()
		if err := <-done; err != nil {
			t.Error(err)
		}
		stored(string(content))
		p.Clear()
	})
	t.Run("calls", func(t *testing.T) {
		p.Add(Rule{Kind: Get, Times: 1, Do: Before(func(r Request) { s.Delete(t, r.Bucket, r.Key) })})
		_, err := get()
		code(err, "NoSuchKey")
		after := ""
		p.Add(Rule{Kind: Put, Times: 1, Do: After(func(r Request) { after = string(s.Get(t, r.Bucket, r.Key)) })})
		if err := put(); err != nil || after != string(content) {
			t.Errorf("%v, %d bytes", err, len(after))
		}
		p.Clear()
	})
	t.Run("lies", func(t *testing.T) {
		p.Add(Rule{Kind: List, Times: 1, Do: NoObjects})
		if n, err := list(); err != nil || n != 0 {
			t.Errorf("%d objects, %v", n, err)
		}
		p.Add(Rule{Kind: Put, Times: 1, Do: Truncate(7)})
		if err := put(); err != nil {
			t.Error(err)
		}
		stored(string(content[:7]))
		s.Delete(t, testBucket, key)
		p.Add(Rule{Do: Swallow})
		if err := put(); err != nil {
			t.Error(err)
		}
		stored("")
		p.Clear()
	})
	t.Run("is down with the server", func(t *testing.T) {
		s.Stop(t)
		if _, err := list(); err == nil {
			t.Error("it answers")
		}
		s.Start(t)
		if _, err := list(); err != nil {
			t.Error(err)
		}
	})
}

func TestS3ProxyTLS(t *testing.T) {
	s := S3Server(t)
	s.Bucket(t, testBucket)
	p := S3ProxyTLS(t, s)
	list := func(c *s3.Client) error {
		_, err := c.ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: aws.String(testBucket)})
		return err
	}
	if err := list(p.through(nil)); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("an unknown authority: %v", err)
	}
	ca, err := os.ReadFile(p.CAFile)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	trusting := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}
	if err := list(p.through(trusting)); err != nil {
		t.Error(err)
	}
}
