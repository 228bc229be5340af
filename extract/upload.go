package extract

import (
	"context"
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"net/http"
	"os"
	"path"
	"strconv"
	"strings"
	"sync"

	"github.com/ocbackup/ocbackup/fail"
)

// Upload says which server takes what is brought.
type Upload struct {
	// URL is the server's address: https://cloud.example.com.
	URL string
	// User and PasswordFile (an app password), or TokenFile (a bearer token), say who
	// uploads: somebody who may write to the space.
	User, PasswordFile string
	TokenFile          string
	// CAFile holds the certificate authorities to trust, PEM; empty: the system's.
	// Insecure trusts every certificate.
	CAFile   string
	Insecure bool
	// Folder is the folder of the space that takes it; empty: it goes to where it was.
	Folder string
}

// uploads is how many files are sent at a time.
const uploads = 3

// server is a space of a running server.
type server struct {
	*dav
	sel       *selection
	base      string // the folder of the space that takes it: "/", "/a/b"
	overwrite bool
	note      func(string)

	mu   sync.Mutex
	made map[string]bool // folders that are known to be there
}

// openServer finds the space on the server.
func (r *run) openServer(ctx context.Context, sel *selection) (sink, error) {
	d, err := openDAV(ctx, r.Upload, r.Space)
	if err != nil {
		return nil, err
	}
	s := &server{dav: d, sel: sel, overwrite: r.Overwrite, note: r.Report.Note, made: map[string]bool{"/": true}}
	switch {
	case r.Upload.Folder != "":
		s.base = path.Clean("/" + r.Upload.Folder)
	case r.Path == "/":
		s.base = "/"
	default:
		s.base = path.Dir(r.Path)
	}
	r.res.To = d.address(path.Join(s.base, sel.rel))
	return s, nil
}

// at is the path of an item in the space.
func (s *server) at(rel string) string { return path.Join(s.base, rel) }

// begin makes sure that nothing of the names is there.
func (s *server) begin(ctx context.Context) error {
	if s.overwrite {
		return nil
	}
	var there map[string]bool
	for _, name := range s.sel.tops {
		exists := false
		if len(s.sel.tops) == 1 {
			err := s.insist(ctx, func() error {
				e, err := s.stat(ctx, s.at(name))
				exists = e != nil
				return err
			})
			if err != nil {
				return err
			}
		} else {
			if there == nil {
				var err error
				if there, err = s.names(ctx, s.base); err != nil {
					return err
				}
			}
			exists = there[name]
		}
		if exists {
			return fail.Usagef("let it be replaced (--overwrite: the server keeps what a file was before as a version), or choose another folder: --upload-to FOLDER",
				"%s exists already in the space on %s", s.at(name), s.url.Host)
		}
	}
	return nil
}

func (s *server) parallel() int { return uploads }
func (s *server) finish() error { return nil }
func (s *server) close()        { s.client.CloseIdleConnections() }

func (s *server) folder(ctx context.Context, it *item) error {
	at := s.at(it.rel)
	made, err := s.mkdir(ctx, at)
	if err == nil && !made && !s.overwrite {
		err = &fault{Exists, "something has that name already"}
	}
	return err
}

// mkdir makes a folder, and those above it where they are missing.
func (s *server) mkdir(ctx context.Context, at string) (made bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mkdirAll(ctx, at)
}

func (s *server) mkdirAll(ctx context.Context, at string) (made bool, err error) {
	if s.made[at] {
		return false, nil
	}
	made, err = s.mkcol(ctx, at)
	if errors.Is(err, errNoParent) {
		if _, err = s.mkdirAll(ctx, path.Dir(at)); err == nil {
			made, err = s.mkcol(ctx, at)
		}
	}
	if errors.Is(err, errNoParent) {
		err = &fault{Refused, "the server can't make the folder " + at}
	}
	if err == nil {
		s.made[at] = true
	}
	return made, err
}

// create makes the temporary file that the content goes to until it is known to be right.
func (s *server) create(ctx context.Context, it *item) (file, error) {
	f, err := os.CreateTemp("", "ocbackup-upload-")
	if err != nil {
		return nil, fail.Wrap(fail.Failed, err, "make a temporary file", "set TMPDIR to a directory with room")
	}
	_ = os.Remove(f.Name()) // it is gone when it is closed, whatever happens
	return &sending{ctx: ctx, to: s, it: it, f: f, sha1: sha1.New()}, nil
}

// sending is a file that is uploaded when it is complete.
type sending struct {
	ctx  context.Context
	to   *server
	it   *item
	f    *os.File
	sha1 hash.Hash
	size int64
}

func (f *sending) Write(b []byte) (int, error) {
	_, _ = f.sha1.Write(b)
	n, err := f.f.Write(b)
	f.size += int64(n)
	return n, fail.Wrap(fail.Failed, err, "write a temporary file", "set TMPDIR to a directory with room")
}

func (f *sending) discard() { _ = f.f.Close() }

// commit uploads the file. Servers do not heed If-None-Match with PUT (reva's ocdav), so
// that it is asked first what is there; what comes between is kept by the server as a
// version.
func (f *sending) commit() error {
	sum := hex.EncodeToString(f.sha1.Sum(nil))
	at := f.to.at(f.it.rel)
	sent := false
	err := f.to.insist(f.ctx, func() error {
		e, err := f.to.stat(f.ctx, at)
		switch {
		case err != nil:
			return err
		case e != nil && e.folder:
			return &fault{Exists, "there is a folder of that name"}
		case e != nil && e.size == f.size && (e.sha1 == sum || f.size == 0) && sent:
			return nil // the answer to what was sent has been lost
		// With --overwrite it is sent also when the server's metadata say that it is the same:
		// the content may be lost.
		case e != nil && !f.to.overwrite:
			return &fault{Exists, "something has that name already"}
		}
		sent = true
		return f.put(at, sum, true)
	})
	if err == nil {
		err = f.f.Close()
	}
	return err
}

// put sends it once; where the folder is missing, again when that was made.
func (f *sending) put(at, sum string, again bool) error {
	var body io.Reader = http.NoBody
	if f.size > 0 {
		body = io.NewSectionReader(f.f, 0, f.size)
	}
	h := http.Header{"Oc-Checksum": {"SHA1:" + sum}}
	if !f.it.mtime.IsZero() {
		h.Set("X-OC-Mtime", strconv.FormatInt(f.it.mtime.Unix(), 10)+"."+nanoseconds(f.it.mtime.Nanosecond()))
	}
	if !f.to.overwrite {
		h.Set("If-None-Match", "*")
	}
	a, err := f.to.do(f.ctx, http.MethodPut, at, body, f.size, h)
	if err != nil {
		return err
	}
	switch a.status {
	case http.StatusOK, http.StatusCreated:
		return nil
	case http.StatusNoContent:
		if !f.to.overwrite {
			f.to.note(at + " was made by somebody else just now; what they wrote is a version of the file now")
		}
		return nil
	case http.StatusPreconditionFailed:
		if !f.to.overwrite {
			return &fault{Exists, "something has that name already"}
		}
	case http.StatusConflict, http.StatusNotFound:
		if again {
			if _, err := f.to.mkdir(f.ctx, path.Dir(at)); err != nil {
				return err
			}
			return f.put(at, sum, false)
		}
	}
	return a.failure(f.to.dav, "write "+at)
}

// nanoseconds are the nine digits of a fraction.
func nanoseconds(n int) string {
	s := strconv.Itoa(n)
	return strings.Repeat("0", 9-len(s)) + s
}
