package s3mirror

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/integration/env"
)

// What is no pool, or not this instance's, is refused and left as it is.
func TestRefusedPools(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	objects := w.fill(2)
	good := filepath.Join(t.TempDir(), "pool")
	w.target.Location = good
	w.exact(w.mustCopy(CopyOptions{}), objects)
	marker := filepath.Join(good, markerFile)
	mark, err := os.ReadFile(marker)
	if err != nil {
		t.Fatal(err)
	}
	edited := func(from, to string) func() {
		return func() {
			if err := os.WriteFile(marker, []byte(strings.Replace(string(mark), from, to, 1)), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, row := range []struct {
		name       string
		arrange    func()
		target     Target
		code       fail.Code
		text, hint string
	}{
		{"a relative path", nil, Target{Location: "srv/pool"}, fail.Usage, "neither an absolute path", "sftp:user@host:/path"},
		{"ssh options", nil, Target{Location: "sftp:-oProxyCommand=x:/pool"}, fail.Usage, "no valid host", ""},
		{"a password in the location", nil, Target{Location: "sftp://u:p@host//pool"}, fail.Usage, "a password does not belong in it", ""},
		{"S3 without a bucket", nil, Target{Location: "s3:https://host"}, fail.Usage, "names no bucket", ""},
		{"a file", nil, Target{Location: marker}, fail.Usage, "is a file", "name a directory"},
		{"not empty", nil, Target{Location: filepath.Dir(good)}, fail.Usage, "not empty (it holds pool)", "empty directory"},
		{"not to be made", nil, Target{Location: "/proc/pool"}, fail.Repository, "make the pool", ""},
		{"another instance's", edited(testOwner.Instance, "other.example.com"), Target{Location: good}, fail.Usage, `belongs to the instance "other.example.com"`, "a pool of its own"},
		{"damaged", edited("{", ""), Target{Location: good}, fail.Repository, "is damaged", "look at it"},
		{"empty marker", func() { _ = os.Truncate(marker, 0) }, Target{Location: good}, fail.Repository, "is damaged", ""},
		{"a newer format", edited(`"format": 1`, `"format": 2`), Target{Location: good}, fail.Repository, "has format 2", "the version of ocbackup that made it"},
		{"not encrypted", edited("", ""), Target{Location: good, Password: "correct horse"}, fail.Usage, "is not encrypted", "password_file"},
		{"encrypted", edited(`"encrypted": false`, `"encrypted": true`), Target{Location: good}, fail.Usage, "is encrypted", "password_file"},
		{"no such bucket", nil, Target{Location: "s3:" + w.server.Endpoint + "/nobucket", Keys: w.bucket.Keys}, fail.Repository, "nobucket", "no such bucket"},
		{"wrong keys", nil, Target{Location: "s3:" + w.server.Endpoint + "/" + testBucket, Keys: Keys{"wrong", "wrong", ""}}, fail.Repository, "", "env_file in [pool]"},
		{"certificate file", nil, Target{Location: "s3:https://host/bucket", CAFile: marker}, fail.Usage, "holds no certificate", ""},
		{"certificate file of an rclone remote", nil, Target{Location: "rclone:x:y", CAFile: "/nonexistent"}, fail.Usage, "ca_file", ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			w := *w
			w.t, w.target = t, row.target
			if row.arrange != nil {
				row.arrange()
			}
			before, _ := os.ReadFile(marker)
			_, _, err := w.open()
			w.fails(err, row.code, row.text, row.hint)
			if after, _ := os.ReadFile(marker); string(after) != string(before) {
				t.Error("the marker was changed")
			}
		})
	}
	edited("", "")()
	w.target.Location = good
	w.exact(w.mustCopy(CopyOptions{}), objects)
}

// A pool in OpenCloud's own bucket would be copied into itself.
func TestApart(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.target = Target{Location: "s3:" + w.server.Endpoint + "/" + testBucket + "/backup", Keys: w.bucket.Keys}
	w.bucket.Endpoint += "/"
	_, err := w.copy(t.Context(), nil, CopyOptions{})
	w.fails(err, fail.Usage, "in OpenCloud's own bucket", "another bucket")
	for _, row := range [][3]string{
		{"http://Host:80/", "http://host", "same"},
		{"https://host:443", "https://host/", "same"},
		{"https://host:9000", "https://host", ""},
		{"https://host/s3", "https://host", ""},
	} {
		if same := origin(row[0]) == origin(row[1]); same != (row[2] == "same") {
			t.Errorf("%v: %t", row, same)
		}
	}
}

// By whatever name the bucket's server goes, a pool that lies in the bucket is found.
func TestPoolInBucket(t *testing.T) {
	w := newWorld(t)
	objects := w.fill(3)
	conf := filepath.Join(t.TempDir(), "rclone.conf")
	if err := os.WriteFile(conf, []byte("[same]\ntype = s3\nprovider = Other\nendpoint = "+w.server.Endpoint+"\naccess_key_id = "+w.server.AccessKey+
		"\nsecret_access_key = "+w.server.SecretKey+"\nregion = "+w.server.Region+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, target := range map[string]Target{
		"another name": {Location: "s3:" + strings.Replace(w.server.Endpoint, "127.0.0.1", "localhost", 1) + "/" + testBucket + "/of/cloud", Keys: w.bucket.Keys},
		"a remote":     {Location: "rclone:same:" + testBucket + "/of/remote", RcloneConfig: conf},
	} {
		w.target, w.set.StateDir = target, t.TempDir()
		_, err := w.copy(t.Context(), nil, CopyOptions{})
		t.Log(name, err)
		w.fails(err, fail.Usage, "the bucket holds a pool (of/", "another bucket")
	}
	for _, o := range objects {
		for key, s := range w.server.Objects(t, testBucket) {
			if s == sum(o) && strings.Contains(key, "of/remote/"+blobsDir+"/of/") {
				t.Errorf("%s was copied into itself", key)
			}
		}
	}
}

// Locations are taken apart as the configuration does it; one that may hold a password
// is refused, and not told.
func TestLocations(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		location string
		want     location // without a kind: it is refused
	}{
		{"sftp:nas:/pool", location{kind: "sftp", host: "nas", path: "/pool"}},
		{"sftp:me@nas:/pool/x:/y", location{kind: "sftp", user: "me", host: "nas", path: "/pool/x:/y"}},
		{"sftp:[2001:db8::1]:/pool", location{kind: "sftp", host: "2001:db8::1", path: "/pool"}},
		{"sftp:user@[::1]:/pool", location{kind: "sftp", user: "user", host: "::1", path: "/pool"}},
		{"sftp://me@[::1]:2222//pool", location{kind: "sftp", user: "me", host: "::1", port: "2222", path: "/pool"}},
		{"rclone:nas box:a/b", location{kind: "rclone", path: "nas box:a/b"}},
		{"s3:https://host:9000/b/p/q", location{kind: "s3", endpoint: "https://host:9000", bucket: "b", path: "p/q"}},
		{"s3:https://KEY:SECRET@host/b", location{}},
		{"s3:https://host/b?secret=SECRET", location{}},
		{"s3:https://host/b#SECRET", location{}},
		{"s3:https://KEY:SECRET@ho st/b", location{}},
		{"sftp://u:SECRET@h//p", location{}},
		{"sftp://u@h//p#SECRET", location{}},
		{"sftp:me:SECRET@nas:/p", location{}},
		{"sftp:me:SECRET@[::1]:/p", location{}},
		{"sftp:me:SECRET@nas", location{}},
		{"rclone:r,pass=SECRET:p", location{}},
		{"rclone::sftp,host=h,pass=SECRET:p", location{}},
		{"https://u:SECRET@h/p", location{}},
	} {
		got, err := parseLocation(row.location)
		if got != row.want || (err == nil) != (row.want.kind != "") {
			t.Errorf("%s: %+v, %v", row.location, got, err)
		}
		if _, _, hint := fail.Details(err); err != nil && (strings.Contains(err.Error()+hint, "SECRET") || fail.CodeOf(err) != fail.Usage) {
			t.Errorf("%s: %v", row.location, err)
		}
	}
}

// A pool that can't be written is told of, and what is there stays.
func TestReadOnlyPool(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounting takes root")
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
	objects := w.fill(4)
	w.exact(w.mustCopy(CopyOptions{}), objects)
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	// Nothing is to be written, and it is told all the same, before OpenCloud is stopped.
	_, _, err := w.open()
	w.fails(err, fail.Repository, "read-only file system", "mount it writable")
	key := newKey("space")
	objects[key] = newContent(100)
	w.put(map[string][]byte{key: objects[key]})
	_, err = w.copy(t.Context(), nil, CopyOptions{})
	w.fails(err, fail.Repository, "read-only file system", "mount it writable")
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT, ""); err != nil {
		t.Fatal(err)
	}
	w.exact(w.mustCopy(CopyOptions{}), objects) // and nothing of the probe
}

// A pool's directory is nobody else's business, and a second repository is noted.
func TestCreate(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.target.Location = filepath.Join(t.TempDir(), "a", "b", "pool")
	_, pool, err := w.open()
	if err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(w.target.Location); err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("%v %v", st.Mode(), err)
	}
	first := pool.info
	info, err := pool.Create(t.Context(), Owner{Instance: testOwner.Instance, Repository: "repo-2"})
	if err != nil || info.ID != first.ID || strings.Join(info.Repositories, " ") != "repo-1 repo-2" || info.New {
		t.Errorf("%+v %v", info, err)
	}
	if info, err = pool.Check(t.Context(), testOwner); err != nil || len(info.Repositories) != 2 || !info.Created.Equal(first.Created) {
		t.Errorf("%+v %v", info, err)
	}
}

// An S3 pool and an SFTP pool of which nothing is there yet are new, whatever the prefix.
func TestNewPrefix(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.onS3(env.S3Server(t))
	for _, prefix := range []string{"", "/", "/a", "/a-b"} { // an empty one comes first
		w.target.Location = strings.Split(w.target.Location, "/"+poolBucket)[0] + "/" + poolBucket + prefix
		pool, err := OpenPool(t.Context(), w.target, w.set)
		if err != nil {
			t.Fatal(err)
		}
		info, err := pool.Check(t.Context(), testOwner)
		if err != nil || !info.New {
			t.Errorf("%q: %+v %v", prefix, info, err)
		}
		if prefix == "/a" {
			if _, err := pool.Create(t.Context(), testOwner); err != nil {
				t.Error(err)
			}
		}
	}
}
