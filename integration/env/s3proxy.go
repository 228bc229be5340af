package env

import (
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
)

// Proxy stands between a client and an S3 server: it counts requests, and makes those
// fail that a test has rules for. Signatures hold, as the client's words are passed on
// as they are.
type Proxy struct {
	Endpoint string // URL
	CAFile   string // of a proxy with TLS: the authority to trust, PEM

	server   *httptest.Server
	upstream *S3
	pass     http.Handler
	closed   chan struct{}

	mu        sync.Mutex
	rules     []*Rule
	requests  []Request
	forgotten int // requests before these
}

// Rule says what becomes of some requests. Where several fit, they apply in the order
// in which they were made, each inside the one before.
type Rule struct {
	Kind   string // "": any
	Bucket string // "": any
	Key    string // regular expression of the key; "": any
	Skip   int    // so many requests that fit are left alone
	Times  int    // and so many then are not; 0: all
	Do     Action

	key  *regexp.Regexp
	seen int
	hits int
}

// S3Proxy starts a proxy of an S3 server, over plain HTTP.
func S3Proxy(t testing.TB, upstream *S3) *Proxy {
	t.Helper()
	p := newProxy(t, upstream)
	p.server.Start()
	p.Endpoint = p.server.URL
	return p
}

// S3ProxyTLS starts one that speaks HTTPS with a certificate that only CAFile vouches for.
func S3ProxyTLS(t testing.TB, upstream *S3) *Proxy {
	t.Helper()
	p := newProxy(t, upstream)
	p.server.StartTLS()
	p.Endpoint = p.server.URL
	p.CAFile = filepath.Join(t.TempDir(), "ca.pem")
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.server.Certificate().Raw})
	if err := os.WriteFile(p.CAFile, block, 0o644); err != nil {
		t.Fatal(err)
	}
	return p
}

func newProxy(t testing.TB, upstream *S3) *Proxy {
	p := &Proxy{upstream: upstream, closed: make(chan struct{})}
	p.pass = &httputil.ReverseProxy{
		// What is signed stays as it is: the Host, and every letter of the path and query.
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host = "http", upstream.addr
			r.Out.URL.RawQuery = r.In.URL.RawQuery
		},
		Transport: &http.Transport{DisableCompression: true},
		// A server that is down refuses connections, and answers nothing.
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	}
	p.server = httptest.NewUnstartedServer(p)
	p.server.Config.ErrorLog = log.New(io.Discard, "", 0) // clients that a test has distrust the certificate
	t.Cleanup(func() {
		close(p.closed)
		p.server.CloseClientConnections()
		p.server.Close()
		if t.Failed() {
			t.Logf("requests to the S3 server:\n%s", p.tail(200))
		}
	})
	return p
}

// Add has a rule apply from now on.
func (p *Proxy) Add(r Rule) *Rule {
	p.mu.Lock()
	defer p.mu.Unlock()
	r.key = regexp.MustCompile(r.Key)
	p.rules = append(p.rules, &r)
	return &r
}

// Clear has no rule apply any more.
func (p *Proxy) Clear() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rules = nil
}

// Hits is how often a rule has applied.
func (p *Proxy) Hits(r *Rule) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return r.hits
}

// Count is the number of requests of the given kinds, of all without any, since Forget.
func (p *Proxy) Count(kinds ...string) (n int) {
	for _, r := range p.Requests() {
		for _, kind := range kinds {
			if r.Kind == kind {
				n++
			}
		}
		if len(kinds) == 0 {
			n++
		}
	}
	return n
}

// Requests are the requests since Forget, in the order in which they came.
func (p *Proxy) Requests() []Request {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]Request(nil), p.requests...)
}

// Forget forgets the requests so far.
func (p *Proxy) Forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.forgotten += len(p.requests)
	p.requests = nil
}

// ServeHTTP answers a client.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	seen := &statusWriter{ResponseWriter: w}
	c := &Call{Request: parse(r), HTTP: r, w: seen, p: p}
	var number int
	c.rest, number = p.enter(c.Request)
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if i := number - p.forgotten; i >= 0 {
			p.requests[i].Status = seen.status
		}
	}()
	c.Pass()
}

// enter notes a request, and returns what is to be done with it.
func (p *Proxy) enter(r Request) (do []Action, number int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, rule := range p.rules {
		if rule.Kind != "" && rule.Kind != r.Kind || rule.Bucket != "" && rule.Bucket != r.Bucket || !rule.key.MatchString(r.Key) {
			continue
		}
		if rule.seen++; rule.seen <= rule.Skip || rule.Times > 0 && rule.hits == rule.Times {
			continue
		}
		rule.hits++
		do = append(do, rule.Do)
	}
	p.requests = append(p.requests, r)
	return do, p.forgotten + len(p.requests) - 1
}

func (p *Proxy) tail(n int) string {
	var b strings.Builder
	list := p.Requests()
	for _, r := range list[max(0, len(list)-n):] {
		fmt.Fprintf(&b, "  %d %-8s %s/%s\n", r.Status, r.Kind, r.Bucket, r.Key)
	}
	return b.String()
}

// statusWriter remembers the status of an answer.
type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	if status >= 200 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *statusWriter) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return w.ResponseWriter.Write(b)
}

func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
