package s3mirror

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/integration/env"
)

// A fault that lasts ends a copy with an error that says what to do; when it is over,
// the next copy does all that is left.
func TestLastingFaults(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name       string
		rule       env.Rule
		text, hint string
	}{
		{"list denied", env.Rule{Kind: env.List, Do: env.Refuse(403, "AccessDenied")}, "list the bucket opencloud-bucket at http://", "right to list"},
		{"list denied in the midst", env.Rule{Kind: env.List, Skip: 2, Do: env.Refuse(403, "AccessDenied")}, "list space ", "right to list"},
		{"unknown key", env.Rule{Kind: env.List, Do: env.Refuse(403, "InvalidAccessKeyId")}, "list the bucket", "does not accept the keys"},
		{"the clock is wrong", env.Rule{Kind: env.List, Do: env.Refuse(403, "RequestTimeTooSkewed")}, "list the bucket", "set the clock"},
		{"bucket deleted in the midst", env.Rule{Kind: env.List, Skip: 2, Do: env.Refuse(404, "NoSuchBucket")}, "list space ", "no such bucket"},
		{"list 503", env.Rule{Kind: env.List, Skip: 1, Do: env.Refuse(503, "SlowDown")}, "SlowDown", "fewer requests"},
		{"list 500", env.Rule{Kind: env.List, Do: env.Refuse(500, "InternalError")}, "InternalError", "problem of its own"},
		{"list without an answer", env.Rule{Kind: env.List, Do: env.Drop}, "list the bucket", "is the server up"},
		{"read denied", env.Rule{Kind: env.Get, Skip: 3, Do: env.Refuse(403, "AccessDenied")}, "read ", "right to list, read"},
		{"read: the clock is wrong", env.Rule{Kind: env.Get, Skip: 3, Do: env.Refuse(403, "RequestTimeTooSkewed")}, "read ", "set the clock"},
		{"read 503", env.Rule{Kind: env.Get, Skip: 3, Do: env.Refuse(503, "SlowDown")}, "SlowDown", "fewer requests"},
		{"read 500", env.Rule{Kind: env.Get, Skip: 3, Do: env.Refuse(500, "InternalError")}, "InternalError", "problem of its own"},
		{"read without an answer", env.Rule{Kind: env.Get, Do: env.Drop}, "read ", "is the server up"},
		{"cut in the midst of objects", env.Rule{Kind: env.Get, Do: env.CutAnswer(100)}, "read ", ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			p := w.proxied()
			objects := w.fill(40)
			p.Add(row.rule)
			began := time.Now()
			_, err := w.copy(t.Context(), nil, CopyOptions{})
			t.Logf("%.1f s: %v", time.Since(began).Seconds(), err)
			w.fails(err, fail.Repository, row.text, row.hint)
			if n := strings.Count(err.Error(), "\n"); n > 4 {
				t.Errorf("the error has %d lines", n)
			}
			for path := range w.held() {
				if strings.HasSuffix(path, partialSuffix) {
					t.Errorf("%s was left", path)
				}
			}
			p.Clear()
			w.exact(w.mustCopy(CopyOptions{}), objects)
		})
	}
}

// What fails a few times is tried again.
func TestPassingFaults(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name string
		rule env.Rule
	}{
		{"list 500", env.Rule{Kind: env.List, Times: 3, Do: env.Refuse(500, "InternalError")}},
		{"list 503", env.Rule{Kind: env.List, Skip: 1, Times: 3, Do: env.Refuse(503, "SlowDown")}},
		{"list without an answer", env.Rule{Kind: env.List, Times: 2, Do: env.Drop}},
		{"list cut", env.Rule{Kind: env.List, Times: 2, Do: env.CutAnswer(100)}},
		{"read 500", env.Rule{Kind: env.Get, Skip: 5, Times: 5, Do: env.Refuse(500, "InternalError")}},
		{"read 503", env.Rule{Kind: env.Get, Skip: 5, Times: 5, Do: env.Refuse(503, "SlowDown")}},
		{"read without an answer", env.Rule{Kind: env.Get, Times: 3, Do: env.Drop}},
		{"not found, though listed", env.Rule{Kind: env.Get, Times: 3, Do: env.Refuse(404, "NoSuchKey")}},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			p := w.proxied()
			objects := w.fill(20)
			rule := p.Add(row.rule)
			c := w.mustCopy(CopyOptions{})
			if p.Hits(rule) != row.rule.Times || len(c.Findings) > 0 {
				t.Errorf("%d faults, findings %v", p.Hits(rule), c.Findings)
			}
			w.exact(c, objects)
		})
	}
}

// Where a connection is cut, reading goes on: what was read is not read again.
func TestResume(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.proxied()
	key := newKey("space")
	objects := map[string][]byte{key: newContent(3 << 20)}
	w.put(objects)
	p.Add(env.Rule{Kind: env.Get, Times: 4, Do: env.CutAnswer(512 << 10)})
	w.exact(w.mustCopy(CopyOptions{}), objects)
	if n := p.Count(env.Get); n != 5 {
		t.Errorf("%d requests, want 5", n)
	}
}

// A server that is silent is given up after the time-out.
func TestSilence(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name string
		rule env.Rule
	}{
		{"first list", env.Rule{Kind: env.List}},
		{"list in the midst", env.Rule{Kind: env.List, Skip: 2}},
		{"read", env.Rule{Kind: env.Get, Skip: 3}},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.set.Timeout = 2 * time.Second
			p := w.proxied()
			objects := w.fill(40)
			hang := env.NewHang()
			row.rule.Do = hang.Do
			p.Add(row.rule)
			began := time.Now()
			_, err := w.copy(t.Context(), nil, CopyOptions{})
			t.Logf("%.1f s of %s: %v", time.Since(began).Seconds(), w.set.Timeout, err)
			w.fails(err, fail.Repository, "does not answer within 2s", "is the server up")
			hang.Release()
			w.exact(w.mustCopy(CopyOptions{}), objects)
		})
	}
}

// Whatever is wrong with how the bucket is reached is told before anything is done.
func TestCheckBucket(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	right := w.bucket
	for _, row := range []struct {
		name   string
		change func(*Bucket)
		code   fail.Code
		hint   string
	}{
		{"access key", func(b *Bucket) { b.Keys.Access = "wrong" }, fail.Repository, "does not accept the keys"},
		{"secret key", func(b *Bucket) { b.Keys.Secret = "wrong" }, fail.Repository, "does not accept the keys"},
		{"bucket", func(b *Bucket) { b.Name = "no-such-bucket" }, fail.Repository, "no such bucket"},
		{"region", func(b *Bucket) { b.Region = "eu-central-9" }, fail.Repository, "the region"},
		{"port", func(b *Bucket) { b.Endpoint = "http://127.0.0.1:1" }, fail.Repository, "is the server up"},
		{"name", func(b *Bucket) { b.Endpoint = "http://minio.invalid:9000" }, fail.Repository, "set reach"},
		{"no authority", func(b *Bucket) { b.CAFile = "/dev/null" }, fail.Usage, ""},
		{"certificate", func(b *Bucket) { b.Endpoint = env.S3ProxyTLS(t, w.server).Endpoint }, fail.Repository, "ca_file"},
	} {
		t.Run(row.name, func(t *testing.T) {
			w := *w
			w.t, w.bucket = t, right
			row.change(&w.bucket)
			began := time.Now()
			src, err := OpenBucket(t.Context(), w.bucket, w.set)
			if err == nil {
				err = src.Check(t.Context())
			}
			t.Logf("%.1f s: %v", time.Since(began).Seconds(), err)
			w.fails(err, row.code, "", row.hint)
		})
	}
	w.bucket = right
	w.bucket.Region = ""
	tls := env.S3ProxyTLS(t, w.server)
	w.bucket.Endpoint, w.bucket.CAFile = tls.Endpoint, tls.CAFile
	objects := w.fill(3)
	w.exact(w.mustCopy(CopyOptions{}), objects)
}

// A server that goes away is told of soon, wherever a copy is: OpenCloud is down
// meanwhile.
func TestServerGoesAway(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name string
		rule env.Rule
	}{
		{"first list", env.Rule{Kind: env.List, Times: 1}},
		{"list in the midst", env.Rule{Kind: env.List, Skip: 1, Times: 1}},
		{"read", env.Rule{Kind: env.Get, Skip: 5, Times: 1}},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			p := w.proxied()
			door := newDoor(t, p.Endpoint)
			w.bucket.Endpoint = "http://" + door.addr
			objects := w.fill(40)
			row.rule.Do = env.Before(func(env.Request) { door.close() })
			p.Add(row.rule)
			_, err := w.copy(t.Context(), nil, CopyOptions{})
			t.Logf("%.1f s: %v", door.since(), err)
			w.fails(err, fail.Repository, "connection refused", "is the server up")
			door.open(t)
			w.exact(w.mustCopy(CopyOptions{}), objects)
		})
	}
}

// A copy that is called off ends with the reason, and leaves nothing half done.
func TestCancel(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.proxied()
	objects := w.fill(40)
	hang := env.NewHang()
	p.Add(env.Rule{Kind: env.Get, Skip: 10, Do: hang.Do})
	ctx, cancel := context.WithCancelCause(t.Context())
	why := fail.New(fail.Interrupted, "a signal", "")
	go func() { <-hang.Reached; cancel(why) }()
	if _, err := w.copy(ctx, nil, CopyOptions{}); !errors.Is(err, why) || err.Error() != "a signal" {
		t.Errorf("got %v", err)
	}
	for path := range w.held() {
		if strings.HasSuffix(path, partialSuffix) {
			t.Errorf("%s was left", path)
		}
	}
	hang.Release()
	p.Clear()
	w.exact(w.mustCopy(CopyOptions{}), objects)
}

// door is a port that can be closed, so that connections are cut and refused.
type door struct {
	addr, to string
	mu       sync.Mutex
	listener net.Listener
	conns    []net.Conn
	closed   bool
	at       time.Time // when it was closed
}

func newDoor(t *testing.T, endpoint string) *door {
	d := &door{to: strings.TrimPrefix(endpoint, "http://"), addr: "127.0.0.1:0"}
	d.open(t)
	t.Cleanup(d.close)
	return d
}

func (d *door) open(t *testing.T) {
	l, err := net.Listen("tcp", d.addr)
	if err != nil {
		t.Fatal(err)
	}
	d.mu.Lock()
	d.listener, d.addr, d.closed = l, l.Addr().String(), false
	d.mu.Unlock()
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", d.to)
			if err != nil {
				_ = in.Close()
				continue
			}
			d.mu.Lock()
			d.conns = append(d.conns, in, out)
			if d.closed {
				_, _ = in.Close(), out.Close()
			}
			d.mu.Unlock()
			go func() { _, _ = io.Copy(out, in); _ = out.Close() }()
			go func() { _, _ = io.Copy(in, out); _ = in.Close() }()
		}
	}()
}

func (d *door) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed, d.at = true, time.Now()
	_ = d.listener.Close()
	for _, c := range d.conns {
		_ = c.Close()
	}
	d.conns = nil
}

// since is for how many seconds it was closed.
func (d *door) since() float64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return time.Since(d.at).Seconds()
}

// What is wrong for one object and will be for all is not tried on each of them.
func TestGivesUp(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.proxied()
	objects := w.fill(120)
	p.Add(env.Rule{Kind: env.Get, Do: env.Refuse(403, "RequestTimeTooSkewed")})
	_, err := w.copy(t.Context(), nil, CopyOptions{})
	w.fails(err, fail.Repository, "RequestTimeTooSkewed", "set the clock")
	if n := p.Count(env.Get); n > 3*defaultTransfers {
		t.Errorf("%d requests", n)
	}
	p.Clear()
	w.exact(w.mustCopy(CopyOptions{}), objects)
}

// Giving up calls off the listings that are under way: the error is that of the objects.
func TestGivesUpWhileListing(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name, text, hint string
		rule             env.Rule
		target           bool
	}{
		{"read", "RequestTimeTooSkewed", "set the clock", env.Rule{Kind: env.Get, Do: env.Refuse(403, "RequestTimeTooSkewed")}, false},
		{"write", "InvalidAccessKeyId", "env_file in [pool]", env.Rule{Kind: env.Put, Do: env.Refuse(403, "InvalidAccessKeyId")}, true},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			source := w.proxied()
			faulty := source
			if row.target {
				faulty = w.onS3(env.S3Server(t))
			}
			objects := map[string][]byte{}
			for range 30 {
				objects[newKey(uuid.NewString())] = newContent(100)
			}
			w.put(objects)
			if _, _, err := w.open(); err != nil { // makes the pool
				t.Fatal(err)
			}
			hang := env.NewHang()
			source.Add(env.Rule{Kind: env.List, Skip: 3, Do: hang.Do}) // the spaces, and two of them
			faulty.Add(row.rule)
			_, err := w.copy(t.Context(), nil, CopyOptions{})
			w.fails(err, fail.Repository, row.text, row.hint)
			if strings.Contains(err.Error(), "context canceled") {
				t.Errorf("%v", err)
			}
			hang.Release()
			source.Clear()
			faulty.Clear()
			w.exact(w.mustCopy(CopyOptions{}), objects)
		})
	}
}
