package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"
)

const (
	admin = "admin:" + adminPassword
	alan  = "alan:demo" // one of the demo users
)

// client talks to the running server as its users do.
type client struct {
	base string
	http http.Client
}

func (i *instance) client() *client {
	return &client{base: i.url(), http: http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, // the server's own certificate
	}}}
}

// do sends a request as user ("name:password", "" for nobody) and returns the
// answer's body. An answer that is not one of the wanted ones is an error.
func (c *client) do(ctx context.Context, user, method, path, body string, want ...int) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, method, c.base+path, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	if name, password, ok := strings.Cut(user, ":"); ok {
		r.SetBasicAuth(name, password)
	}
	switch method {
	case "PROPFIND":
		r.Header.Set("Depth", "1")
	case http.MethodPost:
		r.Header.Set("Content-Type", "application/json")
	}
	answer, err := c.http.Do(r)
	if err != nil {
		return nil, err
	}
	defer func() { _ = answer.Body.Close() }()
	b, err := io.ReadAll(answer.Body)
	if err != nil {
		return nil, err
	}
	if !slices.Contains(want, answer.StatusCode) {
		return nil, fmt.Errorf("%s %s as %q: %s: %.200s", method, path, user, answer.Status, bytes.TrimSpace(b))
	}
	return b, nil
}

// get downloads a file.
func (c *client) get(ctx context.Context, user, path string) ([]byte, error) {
	return c.do(ctx, user, http.MethodGet, path, "", http.StatusOK)
}

// put uploads a file and waits until the server has processed it.
func (c *client) put(ctx context.Context, user, path, content string) error {
	if _, err := c.do(ctx, user, http.MethodPut, path, content, http.StatusOK, http.StatusCreated, http.StatusNoContent); err != nil {
		return err
	}
	return poll(ctx, 30*time.Second, func() error {
		b, err := c.get(ctx, user, path)
		if err == nil && string(b) != content {
			err = fmt.Errorf("%s: not yet what was uploaded", path)
		}
		return err
	})
}

// json asks Graph and decodes its answer.
func (c *client) json(ctx context.Context, user, method, path, body string, v any) error {
	b, err := c.do(ctx, user, method, path, body, http.StatusOK, http.StatusCreated)
	if err != nil {
		return err
	}
	return json.Unmarshal(b, v)
}

type drive struct {
	ID, Name  string
	DriveType string
	Root      struct{ Deleted *struct{ State string } }
}

func (c *client) drives(ctx context.Context, user string) ([]drive, error) {
	var list struct{ Value []drive }
	err := c.json(ctx, user, http.MethodGet, "/graph/v1.0/me/drives", "", &list)
	return list.Value, err
}

// personal is the id of a user's personal space.
func (c *client) personal(ctx context.Context, user string) (string, error) {
	list, err := c.drives(ctx, user)
	if err != nil {
		return "", err
	}
	for _, d := range list {
		if d.DriveType == "personal" {
			return d.ID, nil
		}
	}
	return "", fmt.Errorf("%s has no personal space", user)
}

// entry is one entry of a WebDAV answer.
type entry struct {
	Href string `xml:"href"`
	Prop struct {
		FileID       string `xml:"fileid"`
		OriginalName string `xml:"trashbin-original-filename"`
	} `xml:"propstat>prop"`
}

const propfind = `<?xml version="1.0"?><d:propfind xmlns:d="DAV:" xmlns:oc="http://owncloud.org/ns"><d:prop><oc:fileid/><oc:trashbin-original-filename/></d:prop></d:propfind>`

// list lists a WebDAV folder; the folder itself is the first entry.
func (c *client) list(ctx context.Context, user, path string) ([]entry, error) {
	return c.dav(ctx, user, "PROPFIND", path, propfind)
}

// search finds the files whose name is the given one.
func (c *client) search(ctx context.Context, user, name string) ([]entry, error) {
	return c.dav(ctx, user, "REPORT", "/remote.php/dav/files/"+strings.Split(user, ":")[0],
		`<?xml version="1.0"?><oc:search-files xmlns:oc="http://owncloud.org/ns"><oc:search><oc:pattern>name:"`+name+`"</oc:pattern><oc:limit>50</oc:limit></oc:search></oc:search-files>`)
}

func (c *client) dav(ctx context.Context, user, method, path, body string) ([]entry, error) {
	b, err := c.do(ctx, user, method, path, body, http.StatusMultiStatus)
	if err != nil {
		return nil, err
	}
	var m struct {
		Responses []entry `xml:"response"`
	}
	if err := xml.Unmarshal(b, &m); err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, path, err)
	}
	return m.Responses, nil
}

// space is the WebDAV path of a space.
func space(id string) string { return "/remote.php/dav/spaces/" + id }

// poll tries until it works. The last error is told when it does not within d.
func poll(ctx context.Context, d time.Duration, try func() error) error {
	for deadline := time.Now().Add(d); ; {
		err := try()
		if err == nil || time.Now().After(deadline) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func hashHex(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
