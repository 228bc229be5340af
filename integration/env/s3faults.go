package env

import (
	"bufio"
	"bytes"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// Action is what a Rule does with a request.
type Action func(c *Call)

// Call is a request on its way through the proxy.
type Call struct {
	Request
	HTTP *http.Request
	w    http.ResponseWriter
	p    *Proxy
	rest []Action // of the rules that come after
}

// Pass passes the request on: to the next rule that fits, or to the server.
func (c *Call) Pass() {
	if len(c.rest) == 0 {
		c.p.pass.ServeHTTP(c.w, c.HTTP)
		return
	}
	inner := *c
	inner.rest = c.rest[1:]
	c.rest[0](&inner)
}

// Before calls a function, and passes the request on when it returns.
func Before(f func(Request)) Action {
	return func(c *Call) {
		f(c.Request)
		c.Pass()
	}
}

// After calls a function when the server has answered. Only a large answer may have
// reached the client by then.
func After(f func(Request)) Action {
	return func(c *Call) {
		c.Pass()
		f(c.Request)
	}
}

// Refuse answers with an error of S3: 403 AccessDenied, RequestTimeTooSkewed,
// InvalidAccessKeyId or SignatureDoesNotMatch, 404 NoSuchKey, 500 InternalError,
// 503 SlowDown.
func Refuse(status int, code string) Action {
	return func(c *Call) {
		_, _ = io.Copy(io.Discard, c.HTTP.Body)
		c.answer(status, fmt.Sprintf("<Error><Code>%s</Code><Message>%s, as the test wants it</Message><Resource>%s</Resource><RequestId>1</RequestId></Error>", code, code, c.HTTP.URL.EscapedPath()))
	}
}

func (c *Call) answer(status int, xml string) {
	c.w.Header().Set("Content-Type", "application/xml")
	c.w.Header().Set("X-Amz-Request-Id", "1")
	c.w.WriteHeader(status)
	if c.Method != http.MethodHead {
		_, _ = io.WriteString(c.w, `<?xml version="1.0" encoding="UTF-8"?>`+xml)
	}
}

// Drop ends the connection without an answer.
func Drop(*Call) { panic(http.ErrAbortHandler) }

// CutAnswer ends the connection after so many bytes of the answer's body.
func CutAnswer(n int64) Action {
	return func(c *Call) {
		c.w = &cutWriter{ResponseWriter: c.w, left: n}
		c.Pass()
	}
}

// CutRequest ends the connection after so many bytes of the request's body, which the
// server does not see.
func CutRequest(n int64) Action {
	return func(c *Call) {
		_, _ = io.CopyN(io.Discard, c.HTTP.Body, n)
		panic(http.ErrAbortHandler)
	}
}

// Hang holds requests until it is released.
type Hang struct {
	Reached  chan struct{} // closed when the first request is held
	released chan struct{}
	reach    sync.Once
	release  sync.Once
}

// NewHang makes a Hang; its Do is an Action.
func NewHang() *Hang {
	return &Hang{Reached: make(chan struct{}), released: make(chan struct{})}
}

// Do holds a request, and passes it on when the Hang is released. One whose client
// does not wait so long is dropped.
func (h *Hang) Do(c *Call) {
	h.reach.Do(func() { close(h.Reached) })
	select {
	case <-h.released:
		c.Pass()
	case <-c.HTTP.Context().Done():
		panic(http.ErrAbortHandler)
	case <-c.p.closed:
		panic(http.ErrAbortHandler)
	}
}

// Release lets requests pass, those to come as well.
func (h *Hang) Release() { h.release.Do(func() { close(h.released) }) }

// Swallow takes what a client puts and says that it is stored, which it is not.
func Swallow(c *Call) {
	content := c.content()
	switch c.Kind {
	case Put, Part:
		c.w.Header().Set("Etag", etag(content))
	case Upload:
		c.answer(http.StatusOK, fmt.Sprintf("<InitiateMultipartUploadResult><Bucket>%s</Bucket><Key>%s</Key><UploadId>swallowed</UploadId></InitiateMultipartUploadResult>", c.Bucket, c.Key))
		return
	case Complete:
		parts := bytes.Count(content, []byte("<PartNumber>"))
		c.answer(http.StatusOK, fmt.Sprintf("<CompleteMultipartUploadResult><Bucket>%s</Bucket><Key>%s</Key><ETag>%s-%d\"</ETag></CompleteMultipartUploadResult>", c.Bucket, c.Key, strings.TrimSuffix(etag(nil), `"`), parts))
		return
	case Copy:
		c.answer(http.StatusOK, fmt.Sprintf("<CopyObjectResult><LastModified>2026-01-01T00:00:00Z</LastModified><ETag>%s</ETag></CopyObjectResult>", etag(nil)))
		return
	case Delete, Abort:
		c.w.WriteHeader(http.StatusNoContent)
		return
	}
	c.w.WriteHeader(http.StatusOK)
}

// StoreOther stores something else than a client puts (Put), and says that all is well.
func StoreOther(change func(content []byte) []byte) Action {
	return func(c *Call) {
		content := c.content()
		_, err := c.p.upstream.client.PutObject(c.HTTP.Context(), &s3.PutObjectInput{
			Bucket: &c.Bucket, Key: &c.Key, Body: bytes.NewReader(change(bytes.Clone(content))),
		})
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		c.w.Header().Set("Etag", etag(content))
		c.w.WriteHeader(http.StatusOK)
	}
}

// Truncate stores only the first n bytes of what a client puts.
func Truncate(n int) Action {
	return StoreOther(func(content []byte) []byte { return content[:min(n, len(content))] })
}

// NoObjects answers a List with none.
func NoObjects(c *Call) {
	c.answer(http.StatusOK, fmt.Sprintf(`<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>%s</Name><Prefix>%s</Prefix><KeyCount>0</KeyCount><MaxKeys>1000</MaxKeys><IsTruncated>false</IsTruncated></ListBucketResult>`, c.Bucket, c.Key))
}

// content is the body of a request, without the frames of one that is signed in chunks.
func (c *Call) content() []byte {
	body, err := io.ReadAll(c.HTTP.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	if !strings.HasPrefix(c.HTTP.Header.Get("X-Amz-Content-Sha256"), "STREAMING-") {
		return body
	}
	var content []byte
	for r := bufio.NewReader(bytes.NewReader(body)); ; {
		line, err := r.ReadString('\n')
		head, _, _ := strings.Cut(strings.TrimSpace(line), ";")
		size, perr := strconv.ParseInt(head, 16, 32)
		if errors.Join(err, perr) != nil || size == 0 {
			return content
		}
		chunk := make([]byte, size+2) // and the line's end
		if _, err := io.ReadFull(r, chunk); err != nil {
			panic(http.ErrAbortHandler)
		}
		content = append(content, chunk[:size]...)
	}
}

func etag(content []byte) string {
	sum := md5.Sum(content)
	return `"` + hex.EncodeToString(sum[:]) + `"`
}

// cutWriter fails after some bytes, upon which the proxy ends the connection.
type cutWriter struct {
	http.ResponseWriter
	left int64
}

func (w *cutWriter) Write(b []byte) (int, error) {
	n, err := w.ResponseWriter.Write(b[:min(int64(len(b)), w.left)])
	w.left -= int64(n)
	if err == nil && n < len(b) {
		err = errors.Join(http.NewResponseController(w.ResponseWriter).Flush(), errors.New("cut by the test"))
	}
	return n, err
}

func (w *cutWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
