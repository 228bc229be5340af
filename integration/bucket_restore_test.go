//go:build integration

package integration

import (
	"bufio"
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/ocbackup/ocbackup/integration/env"
)

// wantObjects asserts that the bucket holds these objects; others may be there.
func (c *cloud) wantObjects(want map[string]string) {
	c.t.Helper()
	have := c.bucket()
	for key, sum := range want {
		if have[key] != sum {
			c.t.Errorf("%s: %q, want %q", key, have[key], sum)
		}
	}
}

// consistent asserts that every file of the stopped or running instance has its content.
func (c *cloud) consistent() {
	c.t.Helper()
	c.stop()
	wants(c.t, c.check(""), 0)
	c.start()
	c.running()
}

// frozenBucketCloud is an instance with one set, and the objects that the set holds.
func frozenBucketCloud(t *testing.T) (c *cloud, id string, then map[string]string) {
	t.Helper()
	c = newCloud(t, "decomposeds3")
	c.index()
	c.stop()
	id, then = c.backup(), c.bucket()
	if len(then) == 0 {
		t.Fatal("the bucket is empty: the test shows nothing")
	}
	c.start()
	return c, id, then
}

// Somebody has emptied the bucket; the server runs on, and gets its files back.
func TestBucketWiped(t *testing.T) {
	t.Parallel()
	c, id, then := frozenBucketCloud(t)
	c.stop()
	c.wipeBucket()
	if r := c.check(""); r.Code != 1 {
		t.Fatalf("the loss does not show: %s", r.Stdout)
	}
	c.start()
	stops := c.happened("stop")
	// What was uploaded since is not in the set: here it is all there is.
	wants(t, c.run("restore", "--component", "blobs", "--dry-run", id), 0, "would be restored")
	wants(t, c.run("restore", "--component", "blobs", id), 0, "Objects: ")
	c.running()
	if c.happened("stop") != stops {
		t.Error("the server was stopped")
	}
	// All of it, exactly: while the server runs it purges old versions.
	c.stop()
	c.wipeBucket()
	c.restore("--no-start", id)
	c.wantObjects(then)
	wants(t, c.check(""), 0)
	c.start()
	c.good()
}

// The pool has lost an object of the set, and the bucket has it no more: the restore ends
// before the server is stopped, unless somebody says that it is to go on.
func TestBucketPoolDamaged(t *testing.T) {
	t.Parallel()
	c, id, then := frozenBucketCloud(t)
	const secret = "hunter2"
	r := c.run("restore", "--yes", "--pool", "s3:https://KEY:"+secret+"@127.0.0.1:1/pool", id)
	wants(t, r, 2, "--pool")
	if strings.Contains(r.Stdout+r.Stderr, secret) {
		t.Errorf("the password is told:\n%s%s", r.Stdout, r.Stderr)
	}
	c.stop()
	c.wipeBucket()
	lost := slices.Sorted(maps.Keys(then))[0]
	c.remove("pool/blobs/" + lost)
	c.start()
	stops := c.happened("stop")
	wants(t, c.run("restore", "--yes", id), 4, lost, "--accept-damaged-blobs")
	c.running()
	if c.happened("stop") != stops {
		t.Error("the server was stopped")
	}
	wants(t, c.run("restore", "--yes", "--no-start", "--accept-damaged-blobs", id), 0, lost, "unreadable", "NOT RESTORED: 1")
	have := c.bucket()
	if _, there := have[lost]; there {
		t.Error("what the pool has lost is in the bucket")
	}
	delete(then, lost)
	c.wantObjects(then)
}

// An empty machine, the repository, the pool: the keys of the bucket are in the set.
func TestBucketBareHost(t *testing.T) {
	t.Parallel()
	for _, encrypted := range []bool{false, true} {
		name := "in clear"
		if encrypted {
			name = "encrypted"
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCloud(t, "decomposeds3")
			c.configure("layout", "deployment", "["+c.quoted("deployment.env")+"]")
			c.write("deployment.env", strings.Join(c.s3.OpenCloudEnv(env.BucketName, ""), "\n")+"\n")
			args := []string{"--pool", c.path("moved")}
			if encrypted {
				c.write("pool-password", "of the pool\n")
				c.configure("pool", "password_file", c.quoted("pool-password"))
				args = append(args, "--pool-password-file", c.path("elsewhere"))
			}
			c.configure("bucket", "env_file", "") // the keys are in the deployment
			c.backup()
			c.kill()
			c.wipeBucket()
			if err := os.Rename(c.path("pool"), c.path("moved")); err != nil {
				t.Fatal(err)
			}
			if encrypted {
				if err := os.Rename(c.path("pool-password"), c.path("elsewhere")); err != nil {
					t.Fatal(err)
				}
			}
			c.remove("config", "data", "state", "ocbackup.toml", "deployment.env")
			bare := []string{"restore", "--repository", c.path("repository"), "--password-file", c.path("password"), "--restic", env.Restic(t, "0.18")}
			bare = append(bare, args...)

			etc := c.path("etc")
			for _, d := range []string{"up", "work"} {
				if err := os.MkdirAll(filepath.Join(etc, d), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			on := func(args ...string) env.Result {
				return env.Exec(background, []string{"OCBACKUP_CONFIG="}, "unshare", append([]string{
					"-m", "sh", "-c",
					`mount -t overlay overlay -o "lowerdir=/etc,upperdir=$0/up,workdir=$0/work" /etc && unset OCBACKUP_CONFIG && exec "$@"`, etc,
					ocbackupProgram(t),
				}, args...)...)
			}
			if encrypted {
				wants(t, on(bare[:len(bare)-2]...), 2, "--pool-password-file")
			}
			wants(t, on(bare...), 0, "Objects: ")
			c.running()
			written, err := os.ReadFile(filepath.Join(etc, "up/ocbackup/ocbackup.toml"))
			if err != nil {
				t.Fatal(err)
			}
			for _, want := range append(args[1:2:2], c.s3.Endpoint, env.BucketName) {
				if !strings.Contains(string(written), want) {
					t.Errorf("%s is not in the configuration:\n%s", want, written)
				}
			}
			c.write("ocbackup.toml", string(written))
			c.consistent()
			c.good()
		})
	}
}

// The endpoint goes away in the midst of the restore: nothing is stopped or exchanged,
// and the next run goes on.
func TestBucketEndpointDown(t *testing.T) {
	t.Parallel()
	c := newCloud(t, "decomposeds3")
	p := c.faulty()
	c.mark("before")
	c.stop()
	id, then := c.backup(), c.bucket()
	c.wipeBucket()
	c.start()
	c.mark("after")
	stops := c.happened("stop")
	p.Add(env.Rule{Kind: env.Put, Skip: 1, Do: env.Drop})
	wants(t, c.run("restore", "--yes", id), 8, "nothing was stopped or changed, save for objects")
	c.running()
	if got := c.marked(); got != "after" || c.happened("stop") != stops {
		t.Errorf("the data is from %q, the server was stopped %d times", got, c.happened("stop")-stops)
	}
	c.noTraces()
	p.Clear()
	c.restore("--no-start", id)
	if got := c.marked(); got != "before" {
		t.Errorf("the data is from %q", got)
	}
	c.wantObjects(then)
	c.start()
	c.consistent()
	c.good()
}

// Killed while objects are being restored, and at the points before and after it.
func TestBucketRestoreKilled(t *testing.T) {
	t.Parallel()
	c := newCloud(t, "decomposeds3")
	p := c.faulty()
	c.mark("before")
	c.stop()
	id, then := c.backup(), c.bucket()
	c.start()
	killed := func(t *testing.T, again *cloud) {
		t.Helper()
		again.must("recover")
		again.running()
		again.noTraces()
		if got := again.marked(); got != "after" {
			t.Fatalf("the data is from %q", got)
		}
		res := again.restore("--no-start", id)
		if got := again.marked(); got != "before" {
			t.Errorf("the data is from %q", got)
		}
		again.wantObjects(then)
		again.start()
		again.consistent()
		for _, dir := range res.Aside {
			if err := os.RemoveAll(dir); err != nil {
				t.Fatal(err)
			}
		}
	}
	ok := t.Run("while an object is written", func(t *testing.T) {
		c := c.with(t)
		c.mark("after")
		c.wipeBucket()
		h := env.NewHang()
		p.Add(env.Rule{Kind: env.Put, Skip: 1, Do: h.Do})
		cmd := c.command("restore", "--yes", id)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		<-h.Reached
		if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		p.Clear()
		h.Release()
		killed(t, c)
	})
	for _, point := range []string{"restore.filling", "restore.filled"} {
		for _, action := range actions {
			ok = ok && t.Run(point+" "+action.name, func(t *testing.T) {
				c := c.with(t)
				c.mark("after")
				c.wipeBucket()
				wants(t, c.runWith(fault(point, action.name), "restore", "--yes", id), action.code)
				killed(t, c)
			})
		}
	}
	ok = ok && t.Run("restore.mending", func(t *testing.T) {
		c := c.with(t)
		c.mark("after")
		c.wipeBucket()
		wants(t, c.runWith(fault("restore.mending", "KILL"), "restore", "--yes", id), -1)
		c.running()
		if got := c.marked(); got != "before" {
			t.Errorf("the data is from %q", got)
		}
		c.must("restore", "--component", "blobs", "--yes", id)
		c.consistent()
	})
	ok = ok && t.Run("restore.deleting", func(t *testing.T) {
		c := c.with(t)
		c.mark("after")
		extra := newKey()
		c.s3.Put(t, env.BucketName, extra, []byte("extra"))
		wants(t, c.runWith(fault("restore.deleting", "KILL"), "restore", "--yes", "--delete-extra", id), -1)
		c.running()
		if got := c.marked(); got != "before" {
			t.Errorf("the data is from %q", got)
		}
		c.s3.Get(t, env.BucketName, extra) // it is there still
		c.must("restore", "--yes", "--delete-extra", id)
		if _, there := c.s3.List(t, env.BucketName)[extra]; there {
			t.Error("what was to be deleted is there")
		}
		c.consistent()
	})
	if ok {
		c.good()
	}
}

// The way to another S3 server, as the runbook has it: the bulk while OpenCloud runs,
// the rest while it does not.
func TestBucketMoves(t *testing.T) {
	t.Parallel()
	c := newCloud(t, "decomposeds3")
	c.backup()
	other := env.S3Server(t)
	other.Bucket(t, "new")
	to := []string{"restore", "--component", "blobs", "--bucket-target", "s3:" + other.Endpoint + "/new", "--bucket-env-file", other.AWSFile(t)}
	wants(t, c.run(to...), 0, "STORAGE_USERS_DECOMPOSEDS3_ENDPOINT")
	// A whole restore would start the server with the old one.
	wants(t, c.run(append([]string{"restore", "--yes"}, to[3:]...)...), 2, "--no-start")
	c.running()
	c.stop()
	c.backup()
	c.must(to...)
	if have := other.Objects(t, "new"); !maps.Equal(have, c.bucket()) {
		// What was purged between the two is there as well.
		for key, sum := range c.bucket() {
			if have[key] != sum {
				t.Errorf("%s is missing in the new bucket", key)
			}
		}
	}
	files := c.path("as-files")
	c.must("restore", "--component", "blobs", "--bucket-target", files)
	for key := range c.bucket() {
		if _, err := os.Stat(filepath.Join(files, key)); err != nil {
			t.Error(err)
		}
	}
	old := c.s3
	var vars []string
	for _, v := range other.OpenCloudEnv("new", "") {
		vars = append(vars, "export '"+v+"'")
	}
	c.write("server.env", c.read("server.env")+strings.Join(vars, "\n")+"\n")
	c.env = append(c.env, other.OpenCloudEnv("new", "")...)
	c.configure("bucket", "endpoint", quote(other.Endpoint))
	c.configure("bucket", "name", `"new"`)
	c.configure("bucket", "env_file", quote(other.AWSFile(t)))
	old.Stop(t)
	c.start()
	c.running()
	c.stop()
	wants(t, env.Exec(background, c.env, serverProgram(t), "check"), 0)
	c.start()
	c.good()
}

var restoreByHand = regexp.MustCompile(`(?m)^    ((?:restic|jq) .*)$`)

// Without ocbackup: what RECOVERY.txt says, with restic, jq and an S3 client.
func TestBucketByHand(t *testing.T) {
	t.Parallel()
	_, err := exec.LookPath("jq")
	env.Need(t, err)
	c, id, then := frozenBucketCloud(t)
	c.stop()
	r := c.runRestic("dump", "--tag", "manifest,set="+id, "latest", "/manifest/RECOVERY.txt")
	wants(t, r, 0, c.path("pool"), env.BucketName, c.s3.Endpoint, "--bucket-env-file")
	c.wipeBucket()
	c.remove("config", "data")
	commands := restoreByHand.FindAllStringSubmatch(r.Stdout, -1)
	if len(commands) != 6 {
		t.Fatalf("%d commands found in:\n%s", len(commands), r.Stdout)
	}
	restic := filepath.Dir(env.Restic(t, "0.18"))
	for _, m := range commands {
		cmd := env.Exec(background, append(c.resticEnv(), "PATH="+restic+":"+os.Getenv("PATH")), "sh", "-euc", `cd "$0"; `+m[1], c.dir)
		wants(t, cmd, 0)
	}
	lines := bufio.NewScanner(strings.NewReader(c.read("copy.tsv")))
	n := 0
	for lines.Scan() {
		from, key, _ := strings.Cut(lines.Text(), "\t")
		c.s3.Put(t, env.BucketName, key, []byte(c.read("pool/"+from)))
		n++
	}
	if n != len(then) || !maps.Equal(c.bucket(), then) {
		t.Errorf("%d objects copied, %d in the set", n, len(then))
	}
	for line := range strings.Lines(c.read("inventory.jsonl")) {
		var o struct {
			Key string
			MD5 string
		}
		if err := json.Unmarshal([]byte(line), &o); err != nil || o.Key == "" || o.MD5 == "" {
			t.Fatalf("%v: %s", err, line)
		}
	}
	wants(t, c.check(""), 0)
	c.start()
	c.running()
}
