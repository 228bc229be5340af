package extract

import (
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"

	"github.com/ocbackup/ocbackup/catalog"
	"github.com/ocbackup/ocbackup/fail"
)

// find looks for a space among those of the user.
func (d *dav) find(ctx context.Context, space catalog.Space) error {
	a, err := d.send(ctx, http.MethodGet, "/graph/v1.0/me/drives", nil, 0, nil)
	var busy *busyError
	if errors.As(err, &busy) {
		return fail.Wrap(fail.Failed, err, "talk to "+d.url.Host, "see that it runs and can be reached: --upload URL")
	}
	if err != nil {
		return err
	}
	var list struct {
		Value []struct {
			ID   string `json:"id"`
			Root struct {
				Deleted *struct {
					State string `json:"state"`
				} `json:"deleted"`
			} `json:"root"`
		} `json:"value"`
	}
	if a.status != http.StatusOK {
		return fail.New(fail.Failed, fmt.Sprintf("list the spaces of %s on %s: %s", d.user, d.url.Host, a), "is that an OpenCloud server?")
	}
	if err := json.Unmarshal(a.body, &list); err != nil {
		return fail.Wrap(fail.Failed, err, "list the spaces of "+d.user+" on "+d.url.Host, "is that an OpenCloud server?")
	}
	for _, s := range list.Value {
		if s.ID != space.ID && !strings.HasSuffix(s.ID, "$"+space.ID) {
			continue
		}
		if s.Root.Deleted != nil {
			return fail.Usagef("enable it first, or get it into a directory: --to DIR", "the space %s is disabled on %s", space.Name, d.url.Host)
		}
		d.space = s.ID
		return nil
	}
	return fail.Usagef("upload as somebody who is a member of it; if it was deleted, get it into a directory: --to DIR",
		"%s has no space %s (%s) on %s", d.user, space.Name, space.ID, d.url.Host)
}

// entry is something in the space.
type entry struct {
	href   string
	folder bool
	size   int64
	sha1   string
}

// stat asks what is at a path; nil when nothing is.
func (d *dav) stat(ctx context.Context, at string) (*entry, error) {
	list, err := d.propfind(ctx, at, "0")
	if err != nil || len(list) == 0 {
		return nil, err
	}
	return &list[0], nil
}

// names lists what is in a folder; nothing in one that is not there.
func (d *dav) names(ctx context.Context, at string) (map[string]bool, error) {
	var list []entry
	err := d.insist(ctx, func() (err error) {
		list, err = d.propfind(ctx, at, "1")
		return err
	})
	names := map[string]bool{}
	for i, e := range list {
		if i > 0 {
			names[path.Base(e.href)] = true
		}
	}
	return names, err
}

const propfind = `<?xml version="1.0"?><d:propfind xmlns:d="DAV:" xmlns:oc="http://owncloud.org/ns"><d:prop><d:resourcetype/><d:getcontentlength/><oc:checksums/></d:prop></d:propfind>`

func (d *dav) propfind(ctx context.Context, at, depth string) ([]entry, error) {
	a, err := d.do(ctx, "PROPFIND", at, strings.NewReader(propfind), int64(len(propfind)), http.Header{"Depth": {depth}, "Content-Type": {"application/xml"}})
	if err != nil {
		return nil, err
	}
	switch a.status {
	case http.StatusNotFound, http.StatusConflict:
		return nil, nil
	case http.StatusMultiStatus:
	default:
		return nil, a.failure(d, "look for "+at)
	}
	var m struct {
		Responses []struct {
			Href string `xml:"href"`
			Prop struct {
				Collection *struct{} `xml:"resourcetype>collection"`
				Size       string    `xml:"getcontentlength"`
				Checksums  []string  `xml:"checksums>checksum"`
			} `xml:"propstat>prop"`
		} `xml:"response"`
	}
	if err := xml.Unmarshal(a.body, &m); err != nil {
		return nil, fail.Wrap(fail.Failed, err, "look for "+at+" on "+d.url.Host, "is that an OpenCloud server?")
	}
	var list []entry
	for _, r := range m.Responses {
		e := entry{href: r.Href, folder: r.Prop.Collection != nil}
		if h, err := url.PathUnescape(r.Href); err == nil {
			e.href = h
		}
		e.size, _ = strconv.ParseInt(r.Prop.Size, 10, 64) // of folders there is none
		for _, c := range r.Prop.Checksums {
			for one := range strings.FieldsSeq(c) { // SHA1:… MD5:… ADLER32:…
				if hex, ok := strings.CutPrefix(one, "SHA1:"); ok {
					e.sha1 = strings.ToLower(hex)
				}
			}
		}
		list = append(list, e)
	}
	return list, nil
}

// errNoParent says that the folder above is missing.
var errNoParent = errors.New("the folder above is missing")

// mkcol makes a folder; made tells that it was not there.
func (d *dav) mkcol(ctx context.Context, at string) (made bool, err error) {
	var a *answer
	err = d.insist(ctx, func() (err error) {
		a, err = d.do(ctx, "MKCOL", at, nil, 0, nil)
		return err
	})
	if err != nil {
		return false, err
	}
	switch a.status {
	case http.StatusCreated:
		return true, nil
	case http.StatusMethodNotAllowed: // something is there
		var e *entry
		err := d.insist(ctx, func() (err error) {
			e, err = d.stat(ctx, at)
			return err
		})
		if err == nil && e != nil && !e.folder {
			return false, &fault{Exists, at + " is a file, and has to be a folder"}
		}
		return false, err
	case http.StatusConflict, http.StatusNotFound:
		return false, errNoParent
	}
	return false, a.failure(d, "make the folder "+at)
}
