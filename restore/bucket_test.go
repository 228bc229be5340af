package restore

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ocbackup/ocbackup/bucket"
	"github.com/ocbackup/ocbackup/config"
	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/integration/env"
	"github.com/ocbackup/ocbackup/manifest"
	"github.com/ocbackup/ocbackup/opencloud"
	"github.com/ocbackup/ocbackup/opencloud/control"
	"github.com/ocbackup/ocbackup/progress"
	"github.com/ocbackup/ocbackup/s3mirror"
)

// bucketSite is an instance whose blobs lie in a bucket, with one set of it.
type bucketSite struct {
	*site
	s3      *env.S3
	set     string
	objects map[string]string // of the set
}

const bucketName = "blobs"

// newBucketSite makes a running instance and a set of it.
func newBucketSite(t *testing.T) *bucketSite {
	t.Helper()
	s := &bucketSite{site: emptySite(t), s3: env.S3Server(t)}
	s.s3.Bucket(t, bucketName)
	c := s.cfg
	c.Layout.Driver, c.Layout.Binary, c.Layout.Leave = opencloud.DecomposedS3, "", nil
	c.Layout.Deployment = []string{filepath.Join(s.base, "deploy/opencloud.env")}
	c.Bucket = config.Bucket{Endpoint: s.s3.Endpoint, Region: s.s3.Region, Name: bucketName, EnvFile: s.s3.AWSFile(t)}
	c.Pool = config.Pool{Location: filepath.Join(s.base, "pool")}
	tree := env.ExtractFixture(t, "opencloud-4.0-decomposeds3", s.base)
	s.s3.LoadBucket(t, bucketName, tree.Bucket)
	s.write("deploy/opencloud.env", strings.Join(s.s3.OpenCloudEnv(bucketName, ""), "\n")+"\n")
	s.write("data/version", "set")
	for i := range 20 {
		s.s3.Put(t, bucketName, fmt.Sprintf("space-%d/aa/bb/cc/dd/-object-%02d", i%3, i), []byte(strings.Repeat(fmt.Sprint(i), 100*i+1)))
	}
	s.objects = s.s3.Objects(t, bucketName)
	s.set = s.backUp()
	s.write("data/version", "live")
	s.write("running", "")
	return s
}

// backUp makes a set of the instance as it is.
func (s *bucketSite) backUp() string {
	s.t.Helper()
	ctx := context.Background()
	source, err := bucket.OpenSource(ctx, s.cfg)
	if err != nil {
		s.t.Fatal(err)
	}
	pool, err := bucket.OpenPool(ctx, s.cfg)
	if err != nil {
		s.t.Fatal(err)
	}
	owner, err := bucket.Owner(ctx, s.cfg.Name, s.repo)
	if err != nil {
		s.t.Fatal(err)
	}
	info, err := pool.Create(ctx, owner)
	if err != nil {
		s.t.Fatal(err)
	}
	mirror, err := s3mirror.NewMirror(source, pool, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	copied, err := mirror.Copy(ctx, s3mirror.CopyOptions{})
	if err != nil {
		s.t.Fatal(err)
	}
	inv := copied.Inventory
	set, err := storeSetOf(ctx, s.repo, s.cfg, inv.Path, func(m *manifest.Manifest) {
		m.Bucket = &manifest.Bucket{
			Endpoint: s.cfg.Bucket.Endpoint, Region: s.cfg.Bucket.Region, Name: s.cfg.Bucket.Name,
			Pool:    manifest.Pool{Location: pool.Location(), ID: info.ID, Encrypted: info.Encrypted},
			Objects: inv.Objects, Bytes: inv.Bytes, Digest: inv.Digest,
		}
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return set
}

func (s *bucketSite) options() Options {
	return Options{Config: s.cfg, Repo: s.repo, Set: s.set, Yes: true, Report: progress.Discard}
}

// keys are those of the set, in order.
func (s *bucketSite) keys() []string { return slices.Sorted(maps.Keys(s.objects)) }

// spoil loses three objects of the bucket, gives one another content, and adds two.
func (s *bucketSite) spoil() {
	k := s.keys()
	for _, key := range k[:3] {
		s.s3.Delete(s.t, bucketName, key)
	}
	s.s3.Put(s.t, bucketName, k[5], []byte("other content"))
	s.s3.Put(s.t, bucketName, "space-1/aa/bb/cc/dd/-extra-1", []byte("extra"))
	s.s3.Put(s.t, bucketName, "space-9/aa/bb/cc/dd/-extra-2", []byte("extra"))
}

// wantObjects asserts that a bucket holds the objects of the set, and so many others.
func (s *bucketSite) wantObjects(bucket string, others int) {
	s.t.Helper()
	have := s.s3.Objects(s.t, bucket)
	for key, sum := range s.objects {
		if have[key] != sum {
			s.t.Errorf("%s: %s is not as in the set (%q)", bucket, key, have[key])
		}
	}
	if n := len(have) - len(s.objects); n != others {
		s.t.Errorf("%s: %d objects that the set does not have, want %d", bucket, n, others)
	}
}

// unchanged asserts that a restore that was refused has done nothing.
func (s *bucketSite) unchanged(before map[string]string) {
	s.t.Helper()
	if !maps.Equal(before, s.s3.Objects(s.t, bucketName)) {
		s.t.Error("the bucket was changed")
	}
	s.want("data/version", "live")
	if strings.Contains(s.read("log"), "stop") {
		s.t.Errorf("the instance was stopped: %s", s.read("log"))
	}
	s.check(true)
}

// wantError asserts code and words of a failure; hint is a part of what to do next.
func wantError(t *testing.T, err error, code fail.Code, says, hint string) {
	t.Helper()
	_, _, h := fail.Details(err)
	if fail.CodeOf(err) != code || !strings.Contains(err.Error(), says) || !strings.Contains(h, hint) {
		t.Fatalf("code %d: %v\nhint: %s", fail.CodeOf(err), err, h)
	}
}

// What is missing comes back, what differs as well; what is extra stays.
func TestBucketIsRestored(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{ModeStaged, ModeInPlace} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			s := newBucketSite(t)
			s.spoil()
			o := s.options()
			o.InPlace = mode == ModeInPlace
			res, err := Run(context.Background(), o)
			if err != nil {
				t.Fatal(err)
			}
			s.wantObjects(bucketName, 2)
			s.want("data/version", "set")
			if log := s.read("log"); strings.Count(log, "stop\nstart\n") != 1 {
				t.Errorf("log: %s", log)
			}
			b := res.Bucket
			if b == nil || b.Objects != uint64(len(s.objects)) || b.Restored != 4 || b.Differing != 1 || b.Extra != 2 || b.ExtraBytes != 10 || b.Deleted != 0 || !res.Running || res.Mode != mode {
				t.Errorf("%+v, %+v", res, b)
			}
			// Once more: nothing is left to do.
			if res, err = Run(context.Background(), o); err != nil || res.Bucket.Restored != 0 {
				t.Errorf("%+v, %v", res.Bucket, err)
			}
		})
	}
}

// The bucket alone: nothing is stopped, and nobody is asked when objects are only added.
func TestBucketAlone(t *testing.T) {
	t.Parallel()
	s := newBucketSite(t)
	s.s3.Wipe(t, bucketName)
	o := s.options()
	o.Components, o.Yes = []opencloud.Component{opencloud.Blobs}, false
	res, err := Run(context.Background(), o)
	if err != nil || res.Mode != ModeBucket || res.Bucket.Restored != uint64(len(s.objects)) {
		t.Fatalf("%+v, %v", res, err)
	}
	s.wantObjects(bucketName, 0)
	s.unchanged(s.s3.Objects(t, bucketName))

	s.spoil()
	before := s.s3.Objects(t, bucketName)
	_, err = Run(context.Background(), o)
	wantError(t, err, fail.Usage, "1 object has another content", "--yes")
	s.unchanged(before)
	o.DeleteExtra = true
	_, err = Run(context.Background(), o)
	wantError(t, err, fail.Usage, "uploaded since", "metadata")
	s.unchanged(before)
}

func TestBucketDryRun(t *testing.T) {
	t.Parallel()
	s := newBucketSite(t)
	s.spoil()
	o := s.options()
	o.DryRun, o.DeleteExtra, o.Yes = true, true, false
	for i := range 20 {
		s.s3.Put(t, bucketName, fmt.Sprintf("space-9/aa/bb/cc/dd/-more-%02d", i), []byte("extra"))
	}
	before := s.s3.Objects(t, bucketName)
	res, err := Run(context.Background(), o)
	if err != nil || res.Bucket.Restored != 4 || res.Bucket.Extra != 22 {
		t.Fatalf("%+v, %v", res, err)
	}
	notes := strings.Join(res.Notes, "\n")
	for _, want := range []string{"22 objects", "-extra-1 (5 B, of ", "-more-17", "and 2 more"} {
		if !strings.Contains(notes, want) {
			t.Errorf("%q is not in: %s", want, notes)
		}
	}
	if s.has("state/bucket/extra-" + s.set + ".jsonl") {
		t.Error("a dry run has written a list")
	}
	s.unchanged(before)
}

// What the set does not have is deleted if somebody asks for it, and agrees, and when
// all else is done.
func TestDeleteExtra(t *testing.T) {
	t.Parallel()
	s := newBucketSite(t)
	s.spoil()
	before := s.s3.Objects(t, bucketName)
	o := s.options()
	o.DeleteExtra, o.Yes = true, false
	var asked []string
	o.Confirm = func(question, word string) (bool, error) {
		asked = append(asked, question)
		return word == "restore", nil
	}
	_, err := Run(context.Background(), o)
	wantError(t, err, fail.Usage, "DELETES 2 objects", "--delete-extra")
	if len(asked) != 2 || !strings.Contains(asked[1], "space-9/aa/bb/cc/dd/-extra-2") || !strings.Contains(asked[1], "undo") {
		t.Errorf("asked: %q", asked)
	}
	list := "state/bucket/extra-" + s.set + ".jsonl"
	if !strings.Contains(asked[1], filepath.Join(s.base, list)) {
		t.Errorf("the list is not named: %s", asked[1])
	}
	s.wantListed(list, "space-1/aa/bb/cc/dd/-extra-1", "space-9/aa/bb/cc/dd/-extra-2")
	s.unchanged(before)

	// A server that does not come up with the data: everything can be undone, so far.
	s.write("reject", "")
	o.Yes = true
	if _, err = Run(context.Background(), o); err == nil {
		t.Fatal("no error")
	}
	s.wantObjects(bucketName, 2)
	if err := os.Remove(filepath.Join(s.base, "reject")); err != nil {
		t.Fatal(err)
	}

	// What is uploaded once the list was made again, up to the stop, is not on it.
	const early, late = "space-1/aa/bb/cc/dd/-extra-0", "space-9/aa/bb/cc/dd/-late"
	o.Report = also{
		cancelAt{"comparing system", func() { s.s3.Put(t, bucketName, early, []byte("extra")) }},
		cancelAt{"stopping", func() { s.s3.Put(t, bucketName, late, []byte("extra")) }},
	}
	res, err := Run(context.Background(), o)
	if err != nil || res.Bucket.Deleted != 3 || res.Bucket.DeletedBytes != 15 {
		t.Fatalf("%+v, %v", res, err)
	}
	s.s3.Get(t, bucketName, late)
	s.wantObjects(bucketName, 1)
	s.wantListed(list, early, "space-1/aa/bb/cc/dd/-extra-1", "space-9/aa/bb/cc/dd/-extra-2")
	_, err = Undo(context.Background(), UndoOptions{Config: s.cfg, Report: o.Report})
	wantError(t, err, fail.Usage, "deleted objects from the bucket (3)", "--yes")
	un, err := Undo(context.Background(), UndoOptions{Config: s.cfg, Yes: true, Report: o.Report})
	if err != nil || !strings.Contains(strings.Join(un.Notes, "\n"), "unreadable") {
		t.Fatalf("%+v, %v", un, err)
	}
}

// also is two of them.
type also struct {
	cancelAt
	and cancelAt
}

func (a also) Step(string) progress.Step { return a }
func (a also) Update(text string)        { a.cancelAt.Update(text); a.and.Update(text) }

// wantListed asserts which objects a list names.
func (s *bucketSite) wantListed(list string, keys ...string) {
	s.t.Helper()
	var have []string
	for line := range strings.Lines(s.read(list)) {
		var o s3mirror.Object
		if err := json.Unmarshal([]byte(line), &o); err != nil || o.Size != 5 {
			s.t.Errorf("%s: %v", line, err)
		}
		have = append(have, o.Key)
	}
	if !slices.Equal(have, keys) {
		s.t.Errorf("%s lists %q, want %q", list, have, keys)
	}
}

// An object that OpenCloud deletes after the comparison, and before its stop.
func TestPurgedWhileRestoring(t *testing.T) {
	t.Parallel()
	s := newBucketSite(t)
	purged := s.keys()[7]
	o := s.options()
	o.Report = cancelAt{"comparing system", func() { s.s3.Delete(t, bucketName, purged) }}
	res, err := Run(context.Background(), o)
	if err != nil || res.Bucket.Restored != 1 {
		t.Fatalf("%+v, %v", res, err)
	}
	s.wantObjects(bucketName, 0)
}

func TestBucketBeside(t *testing.T) {
	t.Parallel()
	s := newBucketSite(t)
	s.s3.Wipe(t, bucketName) // it is not needed
	o := s.options()
	o.Target = filepath.Join(s.base, "copy")
	res, err := Run(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	if res.Bucket == nil || res.Bucket.Restored != uint64(len(s.objects)) || res.Bucket.Destination != filepath.Join(o.Target, "bucket") {
		t.Errorf("%+v", res.Bucket)
	}
	s.wantFiles(filepath.Join(o.Target, "bucket"))
	if n := len(s.s3.List(t, bucketName)); n > 0 {
		t.Errorf("%d objects in the bucket", n)
	}
	s.want("copy"+s.base+"/data/version", "set")
	// Without the blobs nothing is asked of the pool.
	if err := os.Rename(s.cfg.Pool.Location, s.cfg.Pool.Location+"-away"); err != nil {
		t.Fatal(err)
	}
	o.Target, o.Components = filepath.Join(s.base, "second"), []opencloud.Component{opencloud.System}
	if res, err = Run(context.Background(), o); err != nil || res.Bucket != nil {
		t.Errorf("%+v, %v", res, err)
	}
}

// wantFiles asserts that a directory holds the objects of the set as files.
func (s *bucketSite) wantFiles(dir string) {
	s.t.Helper()
	n := 0
	err := filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		n++
		key, _ := filepath.Rel(dir, p)
		if _, ok := s.objects[key]; !ok {
			s.t.Errorf("%s is no object of the set", p)
		}
		return nil
	})
	if err != nil || n != len(s.objects) {
		s.t.Errorf("%d files: %v", n, err)
	}
}

// Another place than the instance's bucket.
func TestBucketTarget(t *testing.T) {
	t.Parallel()
	s := newBucketSite(t)
	other := env.S3Server(t)
	other.Bucket(t, "moved")
	before := s.s3.Objects(t, bucketName)
	o := s.options()
	o.BucketTarget = "s3:" + other.Endpoint + "/moved"

	_, err := Run(context.Background(), o)
	wantError(t, err, fail.Usage, "are not known", "--bucket-env-file")
	s.unchanged(before)
	o.BucketEnvFile = other.AWSFile(t)
	_, err = Run(context.Background(), o)
	wantError(t, err, fail.Usage, "wrong one", "--no-start")
	s.unchanged(before)

	alone := o
	alone.Components = []opencloud.Component{opencloud.Blobs}
	res, err := Run(context.Background(), alone)
	if err != nil || !strings.Contains(strings.Join(res.Notes, "\n"), "STORAGE_USERS_DECOMPOSEDS3_ENDPOINT") {
		t.Fatalf("%+v, %v", res, err)
	}
	have := other.Objects(t, "moved")
	if !maps.Equal(have, s.objects) {
		t.Errorf("%d objects in the other bucket", len(have))
	}
	s.unchanged(before)

	// The instance has it already, but the set has the settings of then.
	s.cfg.Bucket.Endpoint, s.cfg.Bucket.Name, s.cfg.Bucket.EnvFile = other.Endpoint, "moved", o.BucketEnvFile
	_, err = Run(context.Background(), s.options())
	wantError(t, err, fail.Usage, "in the set name the bucket "+bucketName, "--component system,metadata,blobs")
	o = s.options()
	o.Components = []opencloud.Component{opencloud.System, opencloud.Metadata, opencloud.Blobs}
	if res, err = Run(context.Background(), o); err != nil || !res.Running || res.Bucket.Restored != 0 {
		t.Fatalf("%+v, %v", res, err)
	}

	o = s.options()
	o.BucketTarget, o.Components = filepath.Join(s.base, "as-files"), []opencloud.Component{opencloud.Blobs}
	if _, err = Run(context.Background(), o); err != nil {
		t.Fatal(err)
	}
	s.wantFiles(o.BucketTarget)
	for location, says := range map[string]string{
		"s3:" + other.Endpoint + "/moved/prefix": "below no prefix",
		"s3:nowhere":                             "names no bucket",
		s.cfg.Pool.Location:                      "lie in each other",
		s.cfg.Pool.Location + "/blobs":           "lie in each other",
		s.cfg.Layout.DataDir + "/objects":        "lie in each other",
	} {
		o.BucketTarget = location
		_, err := Run(context.Background(), o)
		wantError(t, err, fail.Usage, says, "")
	}
}

// Wrong pools, wrong keys, servers that are away: noticed with nothing changed.
func TestBucketNotToBeHad(t *testing.T) {
	t.Parallel()
	s := newBucketSite(t)
	s.spoil()
	before := s.s3.Objects(t, bucketName)
	good := *s.cfg
	for _, c := range []struct {
		name  string
		spoil func(o *Options)
		code  fail.Code
		says  string
		hint  string
	}{
		{"no pool", func(o *Options) { o.PoolAt = filepath.Join(s.base, "nothing") }, fail.Usage, "no pool", "--pool"},
		{"another pool", func(*Options) {
			s.cfg.Pool.Location = filepath.Join(s.base, "pool-2")
			s.backUp()
		}, fail.Usage, "not the one", "--pool"},
		{"wrong keys", func(o *Options) {
			s.write("wrong.env", "AWS_ACCESS_KEY_ID="+s.s3.AccessKey+"\nAWS_SECRET_ACCESS_KEY=nothing\n")
			o.BucketEnvFile = filepath.Join(s.base, "wrong.env")
		}, fail.Repository, "bucket " + bucketName, "does not accept the keys"},
		{"no bucket", func(*Options) { s.cfg.Bucket.Name = "unknown" }, fail.Repository, "unknown", "no such bucket"},
		{"no server", func(*Options) { s.cfg.Bucket.Endpoint = "http://127.0.0.1:1" }, fail.Repository, "127.0.0.1:1", "server up"},
		{"may not write", func(*Options) {
			p := env.S3Proxy(t, s.s3)
			p.Add(env.Rule{Kind: env.Put, Do: env.Refuse(403, "AccessDenied")})
			s.cfg.Bucket.Reach = p.Endpoint
		}, fail.Repository, "AccessDenied", "--bucket-env-file"},
		{"no meaning", func(o *Options) {
			o.DeleteExtra, o.Components = true, []opencloud.Component{opencloud.System}
		}, fail.Usage, "--delete-extra has no meaning", "leave it out"},
	} {
		*s.cfg = good
		o := s.options()
		c.spoil(&o)
		_, err := Run(context.Background(), o)
		t.Logf("%s: %v", c.name, err)
		wantError(t, err, c.code, c.says, c.hint)
		s.unchanged(before)
	}
	// The pool has moved.
	*s.cfg = good
	o := s.options()
	o.PoolAt = filepath.Join(s.base, "moved")
	if err := os.Rename(s.cfg.Pool.Location, o.PoolAt); err != nil {
		t.Fatal(err)
	}
	if _, err := Run(context.Background(), o); err != nil {
		t.Fatal(err)
	}
	s.wantObjects(bucketName, 2)
}

// Objects that the pool has lost: all others are restored, and nothing is exchanged
// before somebody says that it is to be.
func TestDamagedPool(t *testing.T) {
	t.Parallel()
	s := newBucketSite(t)
	s.s3.Wipe(t, bucketName)
	lost := s.keys()[4]
	s.s3.Put(t, bucketName, s.keys()[5], []byte("other content"))
	if err := os.Remove(filepath.Join(s.cfg.Pool.Location, "blobs", lost)); err != nil {
		t.Fatal(err)
	}
	o := s.options()
	_, err := Run(context.Background(), o)
	wantError(t, err, fail.Inconsistent, lost, "--accept-damaged-blobs")
	if _, state, _ := fail.Details(err); !strings.Contains(state, "nothing was stopped or changed, save for objects that were added") ||
		!strings.Contains(state, "or overwritten there (1 object had") {
		t.Errorf("state: %s", state)
	}
	if n := len(s.s3.List(t, bucketName)); n != len(s.objects)-1 {
		t.Errorf("%d objects were restored", n)
	}
	s.unchanged(s.s3.Objects(t, bucketName))

	beside := o
	beside.Target = filepath.Join(s.base, "copy")
	res, err := Run(context.Background(), beside)
	wantError(t, err, fail.Inconsistent, lost, "another set")
	if res == nil || len(res.Bucket.Findings) != 1 || s.read("copy"+s.base+"/data/version") != "set" {
		t.Errorf("%+v", res)
	}

	o.AcceptDamagedBlobs = true
	res, err = Run(context.Background(), o)
	if err != nil || !res.Running || len(res.Bucket.Findings) != 1 || res.Bucket.Findings[0].Key != lost {
		t.Fatalf("%+v, %v", res, err)
	}
	s.want("data/version", "set")
}

// An empty host: where the bucket is and how it is opened is in the set.
func TestBucketOnBareHost(t *testing.T) {
	t.Parallel()
	s := newBucketSite(t)
	if err := os.Remove(s.cfg.Bucket.EnvFile); err != nil { // that of the old host
		t.Fatal(err)
	}
	for _, dir := range []string{"config", "data", "deploy", "state", "running"} {
		if err := os.RemoveAll(filepath.Join(s.base, dir)); err != nil {
			t.Fatal(err)
		}
	}
	s.s3.Wipe(t, bucketName)
	moved := filepath.Join(s.base, "moved")
	if err := os.Rename(s.cfg.Pool.Location, moved); err != nil {
		t.Fatal(err)
	}
	o := s.options()
	o.Config, o.PoolAt = nil, moved
	o.Bare = config.Repository{Location: world.options.Location, PasswordFile: world.options.PasswordFile}
	o.ConfigPath = filepath.Join(s.base, "etc/ocbackup.toml")
	res, err := Run(context.Background(), o)
	if err != nil || !res.Running {
		t.Fatalf("%+v, %v", res, err)
	}
	s.wantObjects(bucketName, 0)
	c, err := config.Load(o.ConfigPath)
	if err != nil {
		t.Fatal(err)
	}
	if c.Bucket.EnvFile != "" || c.Bucket.Endpoint != s.s3.Endpoint || c.Bucket.Name != bucketName || c.Pool.Location != moved {
		t.Errorf("%+v %+v", c.Bucket, c.Pool)
	}
}

// The keys that only compose knows, for they are put together in its file.
func TestKeysOfSetFromCompose(t *testing.T) {
	t.Parallel()
	compose := env.Tools("bin", "docker-compose")
	_, err := os.Stat(compose)
	env.Need(t, err)
	s := emptySite(t)
	s.cfg.Layout = opencloud.Layout{
		Driver: opencloud.DecomposedS3, ConfigDir: filepath.Join(s.base, "config"),
		Deployment: []string{filepath.Join(s.base, "deploy/compose.yaml"), filepath.Join(s.base, "deploy/.env")},
	}
	s.cfg.Control = control.Config{Type: "compose", ProjectDir: filepath.Join(s.base, "deploy"), Compose: []string{compose}}
	s.write("config/opencloud.yaml", "a: b\n")
	s.write("deploy/.env", "WHO=somebody\nSECRET=something\n")
	s.write("deploy/compose.yaml", `services:
  opencloud:
    image: opencloudeu/opencloud:4.0.0
    command: ["server"]
    environment:
      STORAGE_USERS_DRIVER: decomposeds3
      STORAGE_USERS_DECOMPOSEDS3_ACCESS_KEY: ${WHO}-else
      STORAGE_USERS_DECOMPOSEDS3_SECRET_KEY: ${SECRET}-else
    volumes:
      - ../config:/etc/opencloud
      - ../data:/var/lib/opencloud
`)
	ctx := context.Background()
	id, err := storeSet(ctx, s.repo, s.cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	set, _, err := manifest.Find(ctx, s.repo, "", id)
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"config", "deploy"} {
		if err := os.RemoveAll(filepath.Join(s.base, dir)); err != nil {
			t.Fatal(err)
		}
	}
	r := &run{Options: s.options(), set: set}
	if access, secret, err := r.keysOfSet(ctx); access != "somebody-else" || secret != "something-else" || err != nil {
		t.Errorf("%q %q %v", access, secret, err)
	}
}
