//go:build integration

package env

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ocbackup/ocbackup/integration/objects"
)

// download gets a file from a stand-in as its admin: the answer's status and content.
func download(t testing.TB, env []string, space, path string) (string, string) {
	t.Helper()
	var proxy string
	for _, e := range env {
		if v, ok := strings.CutPrefix(e, "PROXY_HTTP_ADDR="); ok {
			proxy = v
		}
	}
	r := Exec(t.Context(), nil, "curl", "-sk", "-u", "admin:admin", "-w", "%{stderr}%{http_code}", "https://"+proxy+"/remote.php/dav/spaces/"+space+"/"+path)
	return r.Stderr, r.Stdout
}

// The recorded trees are whole: what was put in over HTTP is what the stand-in serves.
func TestStandinServes(t *testing.T) {
	for _, fixture := range []string{"opencloud-4.0-posix", "opencloud-4.0-decomposed", "opencloud-4.0-decomposeds3", "opencloud-decomposeds3"} {
		t.Run(fixture, func(t *testing.T) {
			dir := t.TempDir()
			driver := fixture[strings.LastIndexByte(fixture, '-')+1:]
			tree := ExtractFixture(t, fixture, dir)
			env := append(StandinEnv(t, dir, driver), "STANDIN_WRITE=0")
			if driver == "decomposeds3" {
				_, bucket := ServerBucket(t, tree)
				env = append(env, bucket...)
			}
			defer StartStandin(t, env).Stop(t)
			files := 0
			for line := range strings.Lines(readString(dir + "/expected.tsv")) {
				field := strings.Split(strings.TrimSpace(line), "\t")
				if field[0] != "FILE" || field[1] != "admin:admin" {
					continue
				}
				files++
				space, path, _ := strings.Cut(strings.TrimPrefix(field[2], "spaces/"), "/")
				if status, content := download(t, env, space, path); status != "200" || sum([]byte(content)) != field[3] {
					t.Errorf("%s: status %s, %d bytes", path, status, len(content))
				}
			}
			if files < 10 {
				t.Errorf("only %d files", files)
			}
		})
	}
}

// The bucket of a running server changes as that of a real one does, and its check
// tells whether the tree and the bucket belong together.
func TestStandinBucket(t *testing.T) {
	dir := t.TempDir()
	s, bucket := ServerBucket(t, Tree{})
	env := slices.Concat(StandinEnv(t, dir, "decomposeds3"), bucket, []string{"IDM_ADMIN_PASSWORD=admin"})
	run := func(args ...string) Result { return Exec(t.Context(), env, Standin(t), args...) }
	must(t, run("init"))
	server := StartStandin(t, env)

	// Uploads come, purges go, and nothing is ever overwritten.
	first := s.List(t, BucketName)
	Eventually(t, 20*time.Second, "an upload and a purge", func() bool {
		now := s.List(t, BucketName)
		gone := 0
		for key := range first {
			if _, ok := now[key]; !ok {
				gone++
			}
		}
		return gone > 0 && len(now) > len(first)-gone
	})

	server.Stop(t)

	check := func(want int, why string, args ...string) {
		t.Helper()
		if r := run(append([]string{"check"}, args...)...); r.Code != want {
			t.Errorf("%s: exit code %d, want %d\n%s%s", why, r.Code, want, r.Stdout, r.Stderr)
		}
	}
	check(0, "a stopped instance")
	objs := s.Objects(t, BucketName)
	copied := t.TempDir()
	for key := range objs {
		if err := objects.Dir(copied).Put(key, s.Get(t, BucketName, key)); err != nil {
			t.Fatal(err)
		}
	}
	check(0, "its objects in a directory", copied)
	s.Put(t, BucketName, "space/or/ph/an/ed/-blob", []byte("of an upload that was broken off"))
	check(0, "an orphan")
	for key := range objs {
		content := s.Get(t, BucketName, key)
		s.Delete(t, BucketName, key)
		check(1, "without "+key)
		s.Put(t, BucketName, key, content[:len(content)-1])
		check(1, "with too little of "+key)
		s.Put(t, BucketName, key, content)
	}
	check(0, "as it was")
	check(1, "no objects", t.TempDir())

	server = StartStandin(t, env)
	// An endpoint that is down is the downloader's trouble, and the server goes on.
	spaces, _ := filepath.Glob(dir + "/data/storage/users/spaces/*/*")
	served := func(want string) {
		t.Helper()
		for _, space := range spaces {
			id := filepath.Base(filepath.Dir(space)) + filepath.Base(space)
			status, content := download(t, env, "x$"+id, "standin/slot-3.dat")
			if status == want && (want != "200" || strings.HasPrefix(content, "seq=")) {
				return
			}
		}
		t.Errorf("no download answers %s", want)
	}
	served("200")
	s.Stop(t)
	served("500")
	s.Start(t)
	served("200")
	server.Stop(t)
	check(0, "an instance whose bucket was away for a while")
}

// A server whose bucket is not there starts, and fails the downloads.
func TestStandinWithoutBucket(t *testing.T) {
	for name, damage := range map[string]func(*S3) error{
		"no bucket":   func(s *S3) error { return os.RemoveAll(filepath.Join(s.Dir, BucketName)) },
		"no endpoint": func(s *S3) error { s.stop(); return nil },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			tree := ExtractFixture(t, "opencloud-4.0-decomposeds3", dir)
			s, bucket := ServerBucket(t, tree)
			env := append(StandinEnv(t, dir, "decomposeds3"), bucket...)
			if err := damage(s); err != nil {
				t.Fatal(err)
			}
			server := StartStandin(t, env)
			for line := range strings.Lines(readString(dir + "/expected.tsv")) {
				field := strings.Split(strings.TrimSpace(line), "\t")
				if field[0] == "FILE" && field[1] == "admin:admin" {
					space, path, _ := strings.Cut(strings.TrimPrefix(field[2], "spaces/"), "/")
					if status, _ := download(t, env, space, path); status != "500" && !strings.Contains(path, "empty") {
						t.Errorf("%s: status %s", path, status)
					}
				}
			}
			server.Stop(t)
		})
	}
}

// The small client of the servers tells apart what the scenarios do.
func TestObjects(t *testing.T) {
	s, env := ServerBucket(t, Tree{})
	for _, e := range env {
		name, value, _ := strings.Cut(e, "=")
		t.Setenv(name, value)
	}
	for name, store := range map[string]objects.Store{"bucket": objects.FromEnv(), "directory": objects.Dir(t.TempDir())} {
		key := objects.Key("c755a915-335e-4879-af75-a9aeb7ddd609", "5fd4f0c3-c9c8-48a3-8b07-21e243da9f50")
		if key != "c755a915-335e-4879-af75-a9aeb7ddd609/5f/d4/f0/c3/-c9c8-48a3-8b07-21e243da9f50" {
			t.Errorf("key %s", key)
		}
		if _, err := store.Get(key); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: an absent object: %v", name, err)
		}
		if err := store.Put(key, []byte("content")); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if got, err := store.Get(key); err != nil || !bytes.Equal(got, []byte("content")) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
		if err := store.Delete(key); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	s.Put(t, BucketName, "x", nil)
	t.Setenv("STORAGE_USERS_DECOMPOSEDS3_SECRET_KEY", "wrong")
	if _, err := objects.FromEnv().Get("x"); err == nil || !strings.Contains(err.Error(), "SignatureDoesNotMatch") || strings.Contains(err.Error(), "wrong") {
		t.Errorf("wrong keys: %v", err)
	}
	t.Setenv("STORAGE_USERS_DECOMPOSEDS3_BUCKET", "absent")
	t.Setenv("STORAGE_USERS_DECOMPOSEDS3_SECRET_KEY", s.SecretKey)
	if _, err := objects.FromEnv().Get("x"); err == nil || errors.Is(err, os.ErrNotExist) {
		t.Errorf("no bucket: %v", err)
	}
}
