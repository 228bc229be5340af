package extract

import (
	"context"
	"crypto/sha1"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/opencloud"
	"github.com/ocbackup/ocbackup/progress"
)

const driveID = "6199bdaa-ea46-457f-8428-18dea1a48f5c$" + spaceID

// ocdav behaves as reva's ocdav does (internal/http/services/owncloud/ocdav), with one
// space: PUT overwrites whatever If-None-Match says, and makes no folders.
type ocdav struct {
	*httptest.Server
	t *testing.T

	mu       sync.Mutex
	folders  map[string]bool
	files    map[string]string
	mtimes   map[string]string
	drives   string
	puts     []string
	replaced []string // files that were overwritten
	location string   // where answers lead that lead elsewhere
	// answer may answer a request before anything is done; 0 lets it pass.
	answer func(method, at string) int
}

func newServer(t *testing.T) *ocdav {
	s := &ocdav{
		t: t, folders: map[string]bool{"/": true}, files: map[string]string{}, mtimes: map[string]string{},
		drives: `{"value":[{"id":"x$other","name":"other"},{"id":"` + driveID + `","name":"Marketing","driveType":"project","root":{}}]}`,
	}
	s.Server = httptest.NewTLSServer(s)
	t.Cleanup(s.Close)
	return s
}

func (s *ocdav) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	user, password, basic := r.BasicAuth()
	known := basic && user == "alan" && password == "app password"
	if !known && r.Header.Get("Authorization") != "Bearer the token" {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	if r.URL.Path == "/graph/v1.0/me/drives" {
		_, _ = io.WriteString(w, s.drives)
		return
	}
	at, ok := strings.CutPrefix(r.URL.Path, "/dav/spaces/"+driveID)
	if !ok {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	at = path.Clean("/" + at)
	if s.answer != nil {
		if code := s.answer(r.Method, at); code != 0 {
			if code/100 == 3 {
				w.Header().Set("Location", s.location)
			}
			w.WriteHeader(code)
			_, _ = io.WriteString(w, `<?xml version="1.0"?><d:error xmlns:d="DAV" xmlns:s="http://sabredav.org/ns"><s:exception>x</s:exception><s:message>the server's words</s:message></d:error>`)
			return
		}
	}
	content, isFile := s.files[at]
	switch r.Method {
	case "MKCOL":
		switch {
		case isFile || s.folders[at]:
			w.WriteHeader(http.StatusMethodNotAllowed)
		case !s.folders[path.Dir(at)]:
			w.WriteHeader(http.StatusConflict)
		default:
			s.folders[at] = true
			w.WriteHeader(http.StatusCreated)
		}
	case "PROPFIND":
		if !isFile && !s.folders[at] {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		w.WriteHeader(http.StatusMultiStatus)
		_, _ = io.WriteString(w, `<d:multistatus xmlns:d="DAV:" xmlns:oc="http://owncloud.org/ns">`)
		s.response(w, at, content, isFile)
		if r.Header.Get("Depth") == "1" {
			for _, p := range slices.Sorted(maps.Keys(s.folders)) {
				if p != at && path.Dir(p) == at {
					s.response(w, p, "", false)
				}
			}
			for _, p := range slices.Sorted(maps.Keys(s.files)) {
				if path.Dir(p) == at {
					s.response(w, p, s.files[p], true)
				}
			}
		}
		_, _ = io.WriteString(w, `</d:multistatus>`)
	case http.MethodPut:
		sum := sha1.Sum(body)
		switch {
		case s.folders[at], !s.folders[path.Dir(at)]:
			w.WriteHeader(http.StatusConflict)
			return
		case r.Header.Get("OC-Checksum") != "SHA1:"+hex.EncodeToString(sum[:]) || r.ContentLength != int64(len(body)):
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		s.puts = append(s.puts, at)
		s.files[at], s.mtimes[at] = string(body), r.Header.Get("X-OC-Mtime")
		if isFile {
			s.replaced = append(s.replaced, at)
			w.WriteHeader(http.StatusNoContent)
			return
		}
		w.WriteHeader(http.StatusCreated)
	default:
		w.WriteHeader(http.StatusNotImplemented)
	}
}

func (s *ocdav) response(w io.Writer, at, content string, isFile bool) {
	kind, size, sum := "<d:collection/>", "", ""
	if isFile {
		h := sha1.Sum([]byte(content))
		kind, size, sum = "", fmt.Sprintf("<d:getcontentlength>%d</d:getcontentlength>", len(content)),
			"<oc:checksums><oc:checksum>SHA1:"+hex.EncodeToString(h[:])+" MD5:0 ADLER32:0</oc:checksum></oc:checksums>"
	}
	fmt.Fprintf(w, "<d:response><d:href>/dav/spaces/%s%s</d:href><d:propstat><d:prop><d:resourcetype>%s</d:resourcetype>%s%s</d:prop></d:propstat></d:response>",
		driveID, (&url.URL{Path: at}).EscapedPath(), kind, size, sum)
}

// upload are options that upload path as alan.
func (w *world) upload(s *ocdav, p string) Options {
	w.t.Helper()
	dir := w.t.TempDir()
	ca, pw := filepath.Join(dir, "ca"), filepath.Join(dir, "pw")
	w.must(os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600))
	w.must(os.WriteFile(pw, []byte("app password\n"), 0o600))
	o := w.get(p)
	o.To, o.Upload = "", &Upload{URL: s.URL, User: "alan", PasswordFile: pw, CAFile: ca}
	return o
}

// has compares the files of the server.
func (s *ocdav) has(want map[string]string) {
	s.t.Helper()
	if !maps.Equal(s.files, want) {
		s.t.Errorf("the server has %q, want %q", s.files, want)
	}
}

func impatient(t *testing.T) {
	waits := retryWaits
	retryWaits = []time.Duration{0, 0}
	t.Cleanup(func() { retryWaits = waits })
}

func uploadable(t *testing.T) *world {
	w := newWorld(t, opencloud.Posix)
	w.folder("/d")
	w.file("/d/ö #?%.txt", "content")
	w.version("/d/ö #?%.txt", "2026-11-20T10:00:00.5Z", "before")
	w.folder("/d/e")
	w.file("/d/e/empty", "")
	w.file("/top", "top")
	return w.store()
}

func TestUpload(t *testing.T) {
	t.Parallel()
	w := uploadable(t)
	all := map[string]string{"/d/ö #?%.txt": "content", "/d/e/empty": "", "/top": "top"}
	for _, c := range []struct {
		name, path, folder, version string
		want                        map[string]string
	}{
		{name: "a file", path: "/top", want: map[string]string{"/top": "top"}},
		{name: "a file whose folder is gone", path: "/d/e/empty", want: map[string]string{"/d/e/empty": ""}},
		{name: "a version", path: "/d/ö #?%.txt", version: "1", want: map[string]string{"/d/ö #?%.txt": "before"}},
		{name: "a folder", path: "/d", want: map[string]string{"/d/ö #?%.txt": "content", "/d/e/empty": ""}},
		{name: "a space", path: "/", want: all},
		{name: "elsewhere", path: "/top", folder: "/Restored/today/", want: map[string]string{"/Restored/today/top": "top"}},
		{name: "a space, elsewhere", path: "/", folder: "Restored", want: map[string]string{
			"/Restored/Marketing/d/ö #?%.txt": "content", "/Restored/Marketing/d/e/empty": "", "/Restored/Marketing/top": "top",
		}},
	} {
		s := newServer(t)
		o := w.upload(s, c.path)
		o.Version, o.Upload.Folder = c.version, c.folder
		res := w.run(o)
		if s.has(c.want); int(res.Files) != len(c.want) || res.Checked != res.Files || !strings.HasPrefix(res.To, s.URL+"/dav/spaces/"+driveID) {
			t.Errorf("%s: %+v", c.name, res)
		}
		for p, m := range s.mtimes {
			if m != "1714979289.123456000" {
				t.Errorf("%s: %s is of %s", c.name, p, m)
			}
		}
		if t.Failed() {
			t.Fatal(c.name)
		}
	}
}

// What is there is never overwritten without being told; with it, only what differs.
func TestUploadOverwritesNothing(t *testing.T) {
	w := uploadable(t)
	for name, there := range map[string]func(*ocdav){
		"/top": func(s *ocdav) { s.files["/top"] = "theirs" },
		"/d":   func(s *ocdav) { s.folders["/d"] = true },
		"/":    func(s *ocdav) { s.files["/top"] = "theirs" },
	} {
		s := newServer(t)
		there(s)
		before := maps.Clone(s.files)
		res, err := Run(t.Context(), w.upload(s, name))
		if res != nil || fail.CodeOf(err) != fail.Usage || !strings.Contains(err.Error(), "exists already") || len(s.puts) > 0 {
			t.Errorf("%s: %+v, %v", name, res, err)
		}
		s.has(before)
	}

	// Somebody is faster.
	s := newServer(t)
	s.answer = func(method, at string) int {
		if method == "MKCOL" && at == "/d/e" {
			s.files["/d/ö #?%.txt"] = "theirs"
		}
		return 0
	}
	res, err := Run(t.Context(), w.upload(s, "/d"))
	if fail.CodeOf(err) != fail.Incomplete || len(res.Skipped) != 1 || res.Skipped[0].Class != Exists || len(s.replaced) > 0 {
		t.Errorf("%+v, %v, replaced %q", res, err, s.replaced)
	}

	s.answer, s.puts = nil, nil
	o := w.upload(s, "/")
	o.Overwrite = true
	res = w.run(o)
	s.has(map[string]string{"/d/ö #?%.txt": "content", "/d/e/empty": "", "/top": "top"})
	// All of it is sent, also what the server says that it has: it may have lost the content.
	if slices.Sort(s.puts); !slices.Equal(s.puts, []string{"/d/e/empty", "/d/ö #?%.txt", "/top"}) || res.Files != 3 {
		t.Errorf("sent %q; %+v", s.puts, res)
	}
	// A folder is no file.
	s.folders["/top"], s.files = true, map[string]string{}
	o.Path = "/top"
	if res, err := Run(t.Context(), o); fail.CodeOf(err) != fail.Incomplete || res.Skipped[0].Class != Exists {
		t.Errorf("%+v, %v", res, err)
	}
}

// What a server answers, and what comes of it.
func TestUploadRefused(t *testing.T) {
	impatient(t)
	w := uploadable(t)
	for _, c := range []struct {
		name   string
		answer func(n int, method, at string) int // n counts the requests of the method
		code   fail.Code
		class  Class
		files  uint64
		says   string
	}{
		{name: "quota", answer: put(507), code: fail.Failed, says: "full"},
		{name: "no permission", answer: put(403), code: fail.Usage, says: "may not"},
		{name: "locked", answer: put(423), code: fail.Incomplete, class: Exists, files: 1},
		{name: "a name that it does not take", answer: put(400), code: fail.Incomplete, class: Refused, files: 1, says: "the server's words"},
		{name: "too big", answer: put(413), code: fail.Incomplete, class: Refused, files: 1},
		{name: "somebody was faster", answer: put(412), code: fail.Incomplete, class: Exists, files: 1},
		{name: "still processing", answer: put(425), code: fail.Incomplete, class: Exists, files: 1, says: "processing"},
		{name: "busy for a while", answer: func(n int, method, _ string) int {
			if method == http.MethodPut && n < 2 {
				return 503
			}
			return 0
		}, code: fail.OK, files: 2},
		{name: "busy for good", answer: put(503), code: fail.Failed, says: "503"},
		{name: "broken", answer: put(500), code: fail.Failed, says: "500"},
		{name: "no folders", answer: func(_ int, method, at string) int {
			if method == "MKCOL" && at == "/d" {
				return 403
			}
			return 0
		}, code: fail.Usage, says: "may not"},
		{name: "a folder that it does not take", answer: func(_ int, method, at string) int {
			if method == "MKCOL" && at == "/d/e" {
				return 400
			}
			return 0
		}, code: fail.Incomplete, class: Refused, files: 1},
	} {
		s := newServer(t)
		counts := map[string]int{}
		s.answer = func(method, at string) int {
			counts[method]++
			return c.answer(counts[method], method, at)
		}
		res, err := Run(t.Context(), w.upload(s, "/d"))
		if fail.CodeOf(err) != c.code || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if c.class != "" && (len(res.Skipped) == 0 || res.Skipped[0].Class != c.class) || c.files > 0 && res.Files != c.files {
			t.Errorf("%s: %+v", c.name, res)
		}
		if len(s.replaced) > 0 {
			t.Errorf("%s: replaced %q", c.name, s.replaced)
		}
	}
}

// Where a server leads elsewhere, neither password nor content is taken there.
func TestUploadLeadsElsewhere(t *testing.T) {
	t.Parallel()
	w := uploadable(t)
	for _, method := range []string{"PROPFIND", http.MethodPut} {
		for _, code := range []int{301, 302, 307, 308} {
			s := newServer(t)
			var asked atomic.Int64
			other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
			s.location = other.URL + "/"
			s.answer = func(m, _ string) int {
				if m == method {
					return code
				}
				return 0
			}
			_, err := Run(t.Context(), w.upload(s, "/top"))
			if fail.CodeOf(err) != fail.Usage || !strings.Contains(err.Error(), "leads elsewhere") || asked.Load() > 0 {
				t.Errorf("%s, %d: %v; asked there: %d times", method, code, err, asked.Load())
			}
			other.Close()
		}
	}
}

// put answers PUT of the one file with content.
func put(code int) func(int, string, string) int {
	return func(_ int, method, at string) int {
		if method == http.MethodPut && at == "/d/ö #?%.txt" {
			return code
		}
		return 0
	}
}

// An answer that is lost does not make what was sent somebody else's.
func TestUploadAnswerLost(t *testing.T) {
	impatient(t)
	w := uploadable(t)
	s := newServer(t)
	s.answer = func(method, at string) int {
		if method == http.MethodPut && len(s.puts) == 0 {
			s.files[at], s.puts = "top", []string{at}
			return http.StatusBadGateway
		}
		return 0
	}
	if res := w.run(w.upload(s, "/top")); res.Files != 1 || len(s.replaced) > 0 {
		t.Errorf("%+v", res)
	}
}

// Damage is found before anything is sent.
func TestUploadOfDamage(t *testing.T) {
	t.Parallel()
	w := newWorld(t, opencloud.Decomposed)
	w.folder("/d")
	w.file("/d/bad", "other").SHA1 = strings.Repeat("0", 40)
	w.file("/d/good", "good")
	w.store()
	s := newServer(t)
	res, err := Run(context.Background(), w.upload(s, "/d"))
	if fail.CodeOf(err) != fail.Inconsistent || res.Files != 1 {
		t.Errorf("%+v, %v", res, err)
	}
	s.has(map[string]string{"/d/good": "good"})
}

// Who uploads, and where to: what is wrong is told before anything is sent.
func TestUploadIsSetUpRight(t *testing.T) {
	impatient(t)
	w := uploadable(t)
	s := newServer(t)
	wrong, token, open := w.at("wrong"), w.at("token"), w.at("open")
	w.must(os.WriteFile(wrong, []byte("wrong"), 0o600))
	w.must(os.WriteFile(token, []byte("the token"), 0o600))
	w.must(os.WriteFile(open, []byte("app password"), 0o600))
	w.must(os.Chmod(open, 0o644))
	plain := httptest.NewServer(s)
	defer plain.Close()
	for _, c := range []struct {
		name   string
		change func(*Upload)
		drives string
		says   string
		code   fail.Code
	}{
		{name: "a wrong password", change: func(u *Upload) { u.PasswordFile = wrong }, says: "does not accept"},
		{name: "a file for all to read", change: func(u *Upload) { u.PasswordFile = open }, says: "everybody"},
		{name: "nobody", change: func(u *Upload) { u.User = "" }, says: "who uploads"},
		{name: "two", change: func(u *Upload) { u.TokenFile = token }, says: "together"},
		{name: "no address", change: func(u *Upload) { u.URL = "cloud" }, says: "address"},
		{name: "a password in it", change: func(u *Upload) { u.URL = "https://alan:hidden@cloud" }, says: "do not belong"},
		{name: "no encryption", change: func(u *Upload) { u.URL = "http://cloud.example.com" }, says: "without encryption"},
		{name: "an unknown certificate", change: func(u *Upload) { u.CAFile = "" }, says: "certificate"},
		{name: "nobody there", change: func(u *Upload) { u.URL = "https://127.0.0.1:1" }, says: "127.0.0.1:1", code: fail.Failed},
		{name: "no such space", drives: `{"value":[{"id":"x$other"}]}`, says: "has no space Marketing"},
		{name: "a disabled space", drives: `{"value":[{"id":"` + driveID + `","root":{"deleted":{"state":"trashed"}}}]}`, says: "disabled"},
		{name: "no OpenCloud", drives: `<html>`, says: "spaces of alan", code: fail.Failed},
	} {
		o := w.upload(s, "/top")
		if c.change != nil {
			c.change(o.Upload)
		}
		drives := s.drives
		if c.drives != "" {
			s.drives = c.drives
		}
		res, err := Run(t.Context(), o)
		s.drives = drives
		if c.code == 0 {
			c.code = fail.Usage
		}
		if res != nil || fail.CodeOf(err) != c.code || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "hidden") || len(s.puts) > 0 {
			t.Errorf("%s: %+v, %v", c.name, res, err)
		}
		if _, _, hint := fail.Details(err); hint == "" {
			t.Errorf("%s: nothing says what to do", c.name)
		}
	}
	o := w.upload(s, "/top")
	o.Upload = &Upload{URL: plain.URL + "/", TokenFile: token}
	o.Report = progress.Discard
	w.run(o)
	s.has(map[string]string{"/top": "top"})
	o = w.upload(s, "/d")
	o.Upload.CAFile, o.Upload.Insecure = "", true
	w.run(o)
}
