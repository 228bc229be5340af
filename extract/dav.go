package extract

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path"
	"strings"
	"time"

	"github.com/ocbackup/ocbackup/catalog"
	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/secretfile"
)

// dav is a space of a server, over WebDAV (reva, internal/http/services/owncloud/ocdav).
type dav struct {
	url    *url.URL
	client *http.Client
	user   string // for people
	auth   func(*http.Request)
	space  string // storageid$spaceid
}

// retryWaits are the waits before something is tried again that a server was too busy for,
// or still processing; they are also what answers are waited for that never come.
var retryWaits = []time.Duration{time.Second, 2 * time.Second, 5 * time.Second, 10 * time.Second, 15 * time.Second}

// openDAV finds a space on a server, by its id.
func openDAV(ctx context.Context, u *Upload, space catalog.Space) (*dav, error) {
	d := &dav{}
	if err := d.setURL(u); err != nil {
		return nil, err
	}
	if err := d.setAuth(u); err != nil {
		return nil, err
	}
	config, err := trust(u)
	if err != nil {
		return nil, err
	}
	d.client = &http.Client{
		// A redirect would take the password to wherever it says.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			Proxy: http.ProxyFromEnvironment, TLSClientConfig: config, TLSHandshakeTimeout: 10 * time.Second,
			DialContext: (&net.Dialer{Timeout: 10 * time.Second}).DialContext, ResponseHeaderTimeout: 5 * time.Minute,
			MaxIdleConnsPerHost: uploads, ForceAttemptHTTP2: true,
		},
	}
	return d, d.find(ctx, space)
}

func (d *dav) setURL(u *Upload) error {
	const hint = "write --upload https://cloud.example.com"
	var err error
	d.url, err = url.Parse(u.URL)
	if err != nil || d.url.Host == "" || d.url.Scheme != "https" && d.url.Scheme != "http" || d.url.RawQuery != "" || d.url.Fragment != "" {
		return fail.Usagef(hint, "--upload: that is no address of a server")
	}
	if d.url.User != nil {
		return fail.Usagef(hint+", --user NAME and --app-password-file FILE", "--upload: name and password do not belong in the address")
	}
	if ip := net.ParseIP(d.url.Hostname()); d.url.Scheme == "http" && !u.Insecure && d.url.Hostname() != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return fail.Usagef(hint+"; --insecure allows it all the same", "--upload: the password would go to %s without encryption", d.url.Host)
	}
	return nil
}

func (d *dav) setAuth(u *Upload) error {
	switch {
	case u.TokenFile != "" && (u.User != "" || u.PasswordFile != ""):
		return fail.Usagef("leave one out", "--token-file and --user can't go together")
	case u.TokenFile != "":
		token, err := secretfile.Read("--token-file", u.TokenFile)
		d.user, d.auth = "the token's owner", func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+token) }
		return err
	case u.User == "" || u.PasswordFile == "":
		return fail.Usagef("--user NAME --app-password-file FILE (made in the web interface: settings, app tokens), or --token-file FILE", "--upload needs to know who uploads")
	}
	password, err := secretfile.Read("--app-password-file", u.PasswordFile)
	d.user, d.auth = u.User, func(r *http.Request) { r.SetBasicAuth(u.User, password) }
	return err
}

func trust(u *Upload) (*tls.Config, error) {
	if u.Insecure {
		return &tls.Config{InsecureSkipVerify: true}, nil //nolint:gosec // was asked for
	}
	if u.CAFile == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(u.CAFile)
	if err != nil {
		return nil, fail.Wrap(fail.Usage, err, "--ca-file", "")
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fail.Usagef("", "--ca-file: %s holds no certificate", u.CAFile)
	}
	return &tls.Config{RootCAs: pool}, nil
}

// answer is what a server has said.
type answer struct {
	status int
	body   []byte
	header http.Header
}

// maxAnswer is how many bytes of an answer are read.
const maxAnswer = 64 << 20

// send sends one request; at is the path on the server, as URLs have it.
func (d *dav) send(ctx context.Context, method, at string, body io.Reader, size int64, h http.Header) (*answer, error) {
	r, err := http.NewRequestWithContext(ctx, method, d.url.Scheme+"://"+d.url.Host+strings.TrimRight(d.url.EscapedPath(), "/")+at, body)
	if err != nil {
		return nil, fail.Wrap(fail.Usage, err, "--upload", "")
	}
	if h != nil {
		r.Header = h
	}
	r.ContentLength = size
	r.Header.Set("User-Agent", "ocbackup")
	d.auth(r)
	resp, err := d.client.Do(r)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			return nil, cause
		}
		var untrusted *tls.CertificateVerificationError
		if errors.As(err, &untrusted) {
			return nil, fail.Wrap(fail.Usage, untrusted.Err, "the certificate of "+d.url.Host, "name who has signed it: --ca-file FILE; or --insecure")
		}
		return nil, &busyError{text: err.Error()}
	}
	defer resp.Body.Close() //nolint:errcheck // it was only read
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, &busyError{text: "its answer: " + err.Error()}
	}
	a := &answer{resp.StatusCode, b, resp.Header}
	switch a.status {
	case http.StatusTooEarly, http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return nil, &busyError{a.String(), a.status == http.StatusTooEarly}
	case http.StatusUnauthorized:
		return nil, fail.Usagef("check --user and --app-password-file (or --token-file); an app password is made in the web interface, and expires",
			"%s does not accept the password of %s", d.url.Host, d.user)
	}
	if a.status >= 300 && a.status < 400 {
		return nil, fail.Usagef("name the address that it leads to, if you trust it: --upload URL", "%s leads elsewhere: %s", d.url.Host, a.header.Get("Location"))
	}
	return a, nil
}

// busyError says that the server can't answer now.
type busyError struct {
	text       string
	processing bool // it is still processing what is there
}

func (e *busyError) Error() string { return e.text }

// insist does something again while the server can't answer.
func (d *dav) insist(ctx context.Context, do func() error) error {
	for i := 0; ; i++ {
		err := do()
		var busy *busyError
		switch {
		case !errors.As(err, &busy):
			return err
		case i == len(retryWaits) && busy.processing:
			return &fault{Exists, "the server is still processing what is there"}
		case i == len(retryWaits):
			return fail.Wrap(fail.Failed, err, "talk to "+d.url.Host, "see that it runs and can be reached; then run it again with --overwrite")
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(retryWaits[i]):
		}
	}
}

// do sends a request about something in the space.
func (d *dav) do(ctx context.Context, method, at string, body io.Reader, size int64, h http.Header) (*answer, error) {
	return d.send(ctx, method, "/dav/spaces/"+url.PathEscape(d.space)+escape(at), body, size, h)
}

// escape makes a path one of a URL.
func escape(at string) string {
	parts := strings.Split(path.Clean("/"+at), "/")
	for i := range parts {
		parts[i] = url.PathEscape(parts[i])
	}
	return strings.Join(parts, "/")
}

// address is where something in the space is, for people.
func (d *dav) address(at string) string {
	return d.url.Scheme + "://" + d.url.Host + strings.TrimRight(d.url.EscapedPath(), "/") + "/dav/spaces/" + d.space + escape(at)
}

// String says what a server has answered, in its own words where it has some.
func (a *answer) String() string {
	s := fmt.Sprintf("%d %s", a.status, http.StatusText(a.status))
	var e struct {
		Message string `xml:"message"`
	}
	if xml.Unmarshal(a.body, &e) == nil && e.Message != "" {
		s += ": " + e.Message
	}
	return s
}

// failure makes an error of an answer: a fault where it is about one item.
func (a *answer) failure(d *dav, what string) error {
	switch a.status {
	case http.StatusForbidden:
		return fail.Usagef("upload as somebody who may write there", "%s on %s: %s may not", what, d.url.Host, d.user)
	case http.StatusInsufficientStorage:
		return fail.New(fail.Failed, what+" on "+d.url.Host+": the space is full", "raise its quota, or make room; then run it again with --overwrite")
	case http.StatusLocked:
		return &fault{Exists, "somebody has it locked on the server"}
	}
	if a.status >= 500 {
		return fail.New(fail.Failed, what+" on "+d.url.Host+": "+a.String(), "see the server's log; then run it again with --overwrite")
	}
	return &fault{Refused, "the server does not take it: " + a.String()}
}
