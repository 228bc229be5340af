package s3mirror

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pkg/sftp"
	"github.com/rclone/rclone/fs"
	"github.com/rclone/rclone/fs/accounting"
	"golang.org/x/sys/unix"

	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/integration/env"
)

// The server copies by itself where both buckets are its own; where it will not, the
// objects go through this machine.
func TestServerCopies(t *testing.T) {
	t.Parallel()
	for _, refuse := range []bool{false, true} {
		w := newWorld(t)
		p := w.onS3(w.server)
		w.bucket.Endpoint = p.Endpoint
		if refuse {
			p.Add(env.Rule{Kind: env.Copy, Do: env.Refuse(501, "NotImplemented")})
		}
		objects := w.fill(10)
		var told []string
		w.set.Log = func(s string) { told = append(told, s) }
		c := w.mustCopy(CopyOptions{})
		if (p.Count(env.Get) > len(objects)) != refuse || (len(told) > 0) != refuse { // the marker is read, too
			t.Errorf("refused %t: %d GET, told %v", refuse, p.Count(env.Get), told)
		}
		if !refuse {
			for k, o := range inventory(t, c.Inventory.Path) {
				if o.MD5 == "" || o.SHA1 != "" || w.held()[o.Path()] != sum(objects[k]) {
					t.Errorf("%+v", o)
				}
			}
		} else {
			w.exact(c, objects)
		}
		p.Forget()
		if again := w.mustCopy(CopyOptions{}); again.New != 0 || p.Count(env.Copy, env.Put) != 0 {
			t.Errorf("copied again: %+v", again)
		}
	}
}

// What the server has copied and gives another tag than was listed is read: the size
// alone does not tell.
func TestServerCopiesOther(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.onS3(w.server)
	w.bucket.Endpoint = p.Endpoint
	objects := w.fill(6)
	bad := sortedKeys(objects)[2]
	p.Add(env.Rule{Kind: env.Copy, Key: bad, Do: env.After(func(r env.Request) {
		w.server.Put(t, poolBucket, r.Key, newContent(len(objects[bad])))
	})})
	p.Forget()
	c := w.mustCopy(CopyOptions{})
	o := inventory(t, c.Inventory.Path)[bad]
	held := w.held()
	for key, b := range objects {
		if held[blobsDir+"/"+key] != sum(b) {
			t.Errorf("%s: the pool holds something else", key)
		}
	}
	if p.Count(env.Copy) != len(objects) || o.SHA1 == "" || len(held) != len(objects) {
		t.Errorf("%d copied by the server; %+v", p.Count(env.Copy), o)
	}
}

// An object that was uploaded in parts has no MD5 when the server copied it; it is not
// read for that.
func TestServerCopiesParts(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.onS3(w.server)
	w.bucket.Endpoint = p.Endpoint
	key := newKey("space")
	w.multipart(key, newContent(11<<20))
	w.mustCopy(CopyOptions{})
	p.Forget()
	c := w.mustCopy(CopyOptions{})
	o := inventory(t, c.Inventory.Path)[key]
	if c.New != 0 || p.Count(env.Get) != 1 || o.MD5 != "" || !strings.HasSuffix(o.Tag, "-2") {
		t.Errorf("%d new, %d GET, %+v", c.New, p.Count(env.Get), o)
	}
	// A tag that says nothing has both sides read.
	w.multipart(key, w.server.Get(t, testBucket, key), 6<<20)
	if c = w.mustCopy(CopyOptions{}); c.New != 0 || len(c.Findings) != 0 || inventory(t, c.Inventory.Path)[key].SHA1 == "" {
		t.Errorf("%+v", c)
	}
}

// What another server is sent is there as it was sent, whatever goes wrong on the way.
func TestTargetFaults(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name       string
		rule       env.Rule // of the target
		text, hint string   // when it lasts; "": it passes
	}{
		{"put 500", env.Rule{Kind: env.Put, Times: 2, Do: env.Refuse(500, "InternalError")}, "", ""},
		{"put 503", env.Rule{Kind: env.Put, Times: 2, Do: env.Refuse(503, "SlowDown")}, "", ""},
		{"cut upload", env.Rule{Kind: env.Put, Times: 2, Do: env.CutRequest(500)}, "", ""},
		{"cut part", env.Rule{Kind: env.Part, Times: 2, Do: env.CutRequest(500)}, "", ""},
		{"part 503", env.Rule{Kind: env.Part, Times: 2, Do: env.Refuse(503, "SlowDown")}, "", ""},
		{"head 503", env.Rule{Kind: env.Head, Times: 2, Do: env.Refuse(503, "SlowDown")}, "", ""},
		{"half stored", env.Rule{Kind: env.Put, Times: 2, Do: env.Truncate(100)}, "", ""},
		{"not stored", env.Rule{Kind: env.Put, Times: 2, Do: env.Swallow}, "", ""},
		{"parts not stored", env.Rule{Kind: env.Complete, Times: 1, Do: env.Swallow}, "", ""},
		{"other content stored", env.Rule{Kind: env.Put, Times: 2, Do: env.StoreOther(damage)}, "", ""},

		{"always half stored", env.Rule{Kind: env.Put, Do: env.Truncate(100)}, "100 were stored", ""},
		{"never stored", env.Rule{Kind: env.Put, Do: env.Swallow}, "has not", ""},
		{"always other content stored", env.Rule{Kind: env.Put, Do: env.StoreOther(damage)}, "with the MD5", ""},
		{"put denied", env.Rule{Kind: env.Put, Skip: 3, Do: env.Refuse(403, "AccessDenied")}, "AccessDenied", "right to list"},
		{"bucket gone", env.Rule{Kind: env.Put, Skip: 3, Do: env.Refuse(404, "NoSuchBucket")}, "NoSuchBucket", "no such bucket"},
		{"put 503 for ever", env.Rule{Kind: env.Put, Do: env.Refuse(503, "SlowDown")}, "SlowDown", "fewer requests"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			target := env.S3Server(t)
			p := w.onS3(target)
			objects := w.fill(10)
			objects[newKey("large")] = newContent(11 << 20)
			w.put(objects)
			if _, _, err := w.open(); err != nil { // makes the pool
				t.Fatal(err)
			}
			rule := p.Add(row.rule)
			began := time.Now()
			c, err := w.copy(t.Context(), nil, CopyOptions{})
			t.Logf("%.1f s: %v", time.Since(began).Seconds(), err)
			if row.text != "" {
				w.fails(err, fail.Repository, row.text, row.hint)
				p.Clear()
				w.exact(w.mustCopy(CopyOptions{}), objects)
				return
			}
			if err != nil || p.Hits(rule) != row.rule.Times {
				t.Fatalf("%d faults; %v", p.Hits(rule), err)
			}
			w.exact(c, objects)
		})
	}
}

func damage(b []byte) []byte {
	if len(b) > 0 {
		b[len(b)/2] ^= 1
	}
	return b
}

// A target that goes away or is silent is told of soon.
func TestTargetGoesAway(t *testing.T) {
	t.Parallel()
	for _, silent := range []bool{false, true} {
		w := newWorld(t)
		w.set.Timeout = 20 * time.Second
		target := env.S3Server(t)
		p := w.onS3(target)
		door := newDoor(t, p.Endpoint)
		w.target.Location = "s3:http://" + door.addr + "/" + poolBucket + "/p"
		objects := w.fill(40)
		if _, _, err := w.open(); err != nil {
			t.Fatal(err)
		}
		rule := env.Rule{Kind: env.Put, Skip: 5, Times: 1, Do: env.Before(func(env.Request) { door.close() })}
		text, began := "connection refused", time.Now()
		if silent {
			w.set.Timeout, text = 2*time.Second, "does not answer"
			rule.Do, rule.Times = env.NewHang().Do, 0
		}
		p.Add(rule)
		_, err := w.copy(t.Context(), nil, CopyOptions{})
		t.Logf("silent %t: %.1f s: %v", silent, time.Since(began).Seconds(), err)
		w.fails(err, fail.Repository, text, "is the server up")
		p.Clear()
		if !silent {
			door.open(t)
		}
		w.exact(w.mustCopy(CopyOptions{}), objects)
	}
}

// A versioned bucket's versions are in the inventory, and are the object's.
func TestVersionedTarget(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	target := env.S3Server(t, env.KeepVersions)
	w.onS3(target, env.ObjectLocked)
	objects := w.fill(4)
	_, pool, err := w.open()
	if err != nil || !pool.info.Versioned || !pool.info.ObjectLock {
		t.Fatalf("%+v %v", pool.info, err)
	}
	c := w.mustCopy(CopyOptions{})
	w.exact(c, objects)
	for k, o := range inventory(t, c.Inventory.Path) {
		if v := target.Versions(t, poolBucket, "some/prefix/"+o.Path()); len(v) != 1 || v[0] != o.Version {
			t.Errorf("%s: version %q, the server says %v", k, o.Version, v)
		}
	}
	if c = w.mustCopy(CopyOptions{Reconcile: true}); c.New != 0 || inventory(t, c.Inventory.Path) == nil {
		t.Errorf("%+v", c)
	}
	for k, o := range inventory(t, c.Inventory.Path) {
		if o.Version == "" {
			t.Errorf("%s lost its version", k)
		}
	}
}

// An upload in parts that was begun and not ended is given up by the next run that
// looks into the pool.
func TestAbandonedUpload(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	target := env.S3Server(t)
	p := w.onS3(target)
	w.put(map[string][]byte{newKey("large"): newContent(11 << 20)})
	if _, _, err := w.open(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("called off")
	p.Add(env.Rule{Kind: env.Complete, Do: env.Before(func(env.Request) { cancel(why) })})
	p.Add(env.Rule{Kind: env.Abort, Times: 1, Do: env.Swallow})
	if _, err := w.copy(ctx, nil, CopyOptions{}); !errors.Is(err, why) {
		t.Fatal(err)
	}
	p.Clear()
	uploads := func() int {
		src, pool, err := w.open()
		if err != nil {
			t.Fatal(src, err)
		}
		n, err := pool.raw.abandon(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return int(n)
	}
	p.Forget()
	w.mustCopy(CopyOptions{})
	if n := p.Count(env.Abort); n > 1 {
		t.Errorf("%d uploads were given up", n)
	}
	if n := uploads(); n != 0 {
		t.Errorf("%d uploads are left", n)
	}
}

// The disk of the pool is full: the error says so, nothing half written stays, and all
// goes on when there is room.
func TestFullDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounting a small disk takes root")
	}
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=4m"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	w := newWorld(t)
	w.target.Location = filepath.Join(dir, "pool")
	objects := map[string][]byte{}
	for range 12 {
		objects[newKey("space")] = newContent(512 << 10)
	}
	w.put(objects)
	_, err := w.copy(t.Context(), nil, CopyOptions{})
	t.Log(err)
	w.fails(err, fail.Repository, w.target.Location, "the disk is full")
	for path, content := range w.held() {
		if want, ok := objects[strings.TrimPrefix(path, "blobs/")]; !ok || sum(want) != content {
			t.Errorf("%s was left", path)
		}
	}
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT, "size=20m"); err != nil {
		t.Fatal(err)
	}
	w.exact(w.mustCopy(CopyOptions{}), objects)
}

func init() {
	// An ssh that speaks SFTP by itself.
	children["ssh"] = func() int {
		_ = os.WriteFile(os.Getenv("S3MIRROR_SSH_ARGS"), []byte(strings.Join(os.Args[1:], " ")), 0o600)
		s, err := sftp.NewServer(struct {
			io.Reader
			io.WriteCloser
		}{os.Stdin, os.Stdout})
		if err != nil {
			return 255
		}
		_ = s.Serve()
		return 0
	}
}

// A pool behind SFTP, reached by the ssh that is first in the path.
func TestSFTP(t *testing.T) {
	for _, password := range []string{"", "correct horse"} {
		w := newWorld(t)
		bin, args := t.TempDir(), filepath.Join(t.TempDir(), "args")
		self, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		script := "#!/bin/sh\nS3MIRROR_CHILD=ssh exec " + self + " \"$@\"\n"
		if err := os.WriteFile(filepath.Join(bin, "ssh"), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
		t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
		t.Setenv("S3MIRROR_SSH_ARGS", args)
		dir := filepath.Join(t.TempDir(), "pool")
		w.target = Target{Location: "sftp://backup@nas.example.com:2222/" + dir, Password: password}
		objects := w.fill(8)
		w.exact(w.mustCopy(CopyOptions{}), objects)
		if c := w.mustCopy(CopyOptions{Reconcile: true}); c.New != 0 || len(c.Findings) != 0 {
			t.Errorf("%+v", c)
		}
		if _, err := os.Stat(filepath.Join(dir, markerFile)); err != nil {
			t.Error(err)
		}
		said, _ := os.ReadFile(args)
		if !strings.Contains(string(said), "-p 2222 -l backup nas.example.com") || password != "" && strings.Contains(string(said), password) {
			t.Errorf("ssh %s", said)
		}
	}
}

// A host that ssh can't reach is an error with ssh's own words, and soon.
func TestSFTPUnreachable(t *testing.T) {
	if _, err := exec.LookPath("ssh"); err != nil {
		t.Skip(err)
	}
	w := newWorld(t)
	w.target = Target{Location: "sftp://backup@127.0.0.1:1//srv/pool"}
	began := time.Now()
	_, _, err := w.open()
	t.Logf("%.1f s: %v", time.Since(began).Seconds(), err)
	w.fails(err, fail.Repository, "open (pool sftp://backup@127.0.0.1:1//srv/pool)", "ServerAliveCountMax=3 -p 1 -l backup 127.0.0.1 true")
}

// A remote of an rclone.conf.
func TestRcloneRemote(t *testing.T) {
	w := newWorld(t)
	dir, conf := t.TempDir(), filepath.Join(t.TempDir(), "rclone.conf")
	if err := os.WriteFile(conf, []byte("[nas]\ntype = local\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	objects := w.fill(6)
	for _, password := range []string{"", "correct horse"} {
		w.set.StateDir = t.TempDir()
		w.target = Target{Location: "rclone:nas:" + dir + "/pool" + password, RcloneConfig: conf, Password: password}
		w.exact(w.mustCopy(CopyOptions{}), objects)
	}
	w.target.Location = "rclone:other:" + dir
	_, _, err := w.open()
	w.fails(err, fail.Usage, `open remote "other"`, "rclone lsd other:")
}

// Neither names nor contents of an encrypted pool can be read without the password.
func TestEncrypted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.target.Password = "correct horse battery"
	text := bytes.Repeat([]byte("a secret of a user's "), 1000)
	key := newKey(strings.Repeat("a", 100))
	objects := map[string][]byte{key: text, newKey("space"): {}, newKey("space"): newContent(5000)}
	w.put(objects)
	w.exact(w.mustCopy(CopyOptions{}), objects)
	if err := os.WriteFile(filepath.Join(w.target.Location, encryptedDir, "junk"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	err := filepath.WalkDir(w.target.Location, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Name() == markerFile {
			return err
		}
		b, err := os.ReadFile(path)
		if bytes.Contains(b, []byte("secret of a user")) || strings.Contains(path, "blobs") || strings.Contains(path, "space") {
			t.Errorf("%s can be read", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	// Two pools in one process do not get in each other's way.
	other := newWorld(t)
	other.target.Password = "another"
	theirs := other.fill(3)
	other.exact(other.mustCopy(CopyOptions{}), theirs)
	if c := w.mustCopy(CopyOptions{Reconcile: true}); c.New != 0 || len(c.Findings) != 0 {
		t.Errorf("%+v", c)
	}
	w.target.Password = "wrong"
	_, _, err = w.open()
	w.fails(err, fail.Repository, "does not open the pool", "password_file")
}

// Settings of rclone's in the environment do not change how a pool is stored.
func TestEnvironment(t *testing.T) {
	for _, onServer := range []bool{false, true} {
		w := newWorld(t)
		if onServer {
			w.onServer(w.server, w.server.Endpoint)
		}
		w.target.Password = "correct horse"
		objects := w.fillKinds()
		odd := "odd/%41 [b]"
		objects[odd] = newContent(9)
		w.put(map[string][]byte{odd: objects[odd]})
		func() {
			for name, value := range map[string]string{
				"CRYPT_PASSWORD2": "6v3nKQ", "CRYPT_FILENAME_ENCRYPTION": "off", "CRYPT_DIRECTORY_NAME_ENCRYPTION": "false",
				"CRYPT_FILENAME_ENCODING": "base64", "CRYPT_SUFFIX": "none", "CRYPT_NO_DATA_ENCRYPTION": "true", "CRYPT_PASS_BAD_BLOCKS": "true",
				"S3_ENCODING": "Slash,Ctl,Percent,SquareBracket", "S3_VERSION_AT": "2020-01-01", "S3_SSE_CUSTOMER_ALGORITHM": "AES256", "S3_DOWNLOAD_URL": "http://127.0.0.1:1",
			} {
				t.Setenv("RCLONE_"+name, value)
				defer os.Unsetenv("RCLONE_" + name)
			}
			set := w.keepSet("s", objects)
			w.server.Delete(t, testBucket, odd)
			w.mustRestore(set, Destination{Bucket: &w.bucket}, RestoreOptions{})
			bucketHolds(t, w.server, testBucket, objects)
		}()
		w.exact(w.mustCopy(CopyOptions{Reconcile: true}), objects)
	}
}

// The limit of the bandwidth is where all that is read passes.
func TestLimit(t *testing.T) {
	w := newWorld(t)
	w.set.LimitKiB = 100 << 10
	objects := w.fill(3)
	w.exact(w.mustCopy(CopyOptions{}), objects)
	if limit.kib != w.set.LimitKiB {
		t.Errorf("the limit is %d", limit.kib)
	}
	t.Cleanup(func() {
		limit.kib = 0
		accounting.TokenBucket.SetBwLimit(fs.BwPair{Tx: -1, Rx: -1})
	})
	// A second remote that has none of its own leaves it.
	if _, err := OpenBucket(t.Context(), w.bucket, Settings{}); err != nil {
		t.Fatal(err)
	}
	if limit.kib != w.set.LimitKiB {
		t.Errorf("the limit is %d", limit.kib)
	}
}

// A server without entity tags, whose Last-Modified then tells of changes.
func TestNoTags(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	upstream := env.S3Proxy(t, w.server)
	strip := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		r.URL.Scheme, r.URL.Host, r.RequestURI = "http", strings.TrimPrefix(upstream.Endpoint, "http://"), ""
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		defer answer.Body.Close()
		b, _ := io.ReadAll(answer.Body)
		for {
			before, rest, ok := bytes.Cut(b, []byte("<ETag>"))
			_, after, _ := bytes.Cut(rest, []byte("</ETag>"))
			if !ok {
				break
			}
			b = slices.Concat(before, after)
		}
		rw.WriteHeader(answer.StatusCode)
		_, _ = rw.Write(b)
	}))
	t.Cleanup(strip.Close)
	w.bucket.Endpoint = strip.URL
	objects := w.fill(5)
	w.exact(w.mustCopy(CopyOptions{}), objects)
	upstream.Forget()
	if c := w.mustCopy(CopyOptions{}); c.New != 0 || upstream.Count(env.Get) != 0 {
		t.Errorf("read again: %+v", c)
	}
}
