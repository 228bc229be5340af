//go:build integration

package integration

import (
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"

	"github.com/ocbackup/ocbackup/integration/env"
	"github.com/ocbackup/ocbackup/integration/objects"
)

// faulty puts a proxy between ocbackup and the bucket.
func (c *cloud) faulty() *env.Proxy {
	c.t.Helper()
	p := env.S3Proxy(c.t, c.s3)
	c.configure("bucket", "endpoint", strconv.Quote(p.Endpoint))
	return p
}

// whenStopped has an action apply only to requests that come while the server is stopped.
func (c *cloud) whenStopped(do env.Action) env.Action {
	return func(call *env.Call) {
		if c.ctl("status").Code == 3 {
			do(call)
			return
		}
		call.Pass()
	}
}

// newKey is a key as OpenCloud makes them.
func newKey() string { return objects.Key(uuid.NewString(), uuid.NewString()) }

// What is wrong with the bucket or the pool is found before anything is stopped.
func TestBucketRefusedBeforeTheStop(t *testing.T) {
	t.Parallel()
	c := newCloud(t, "decomposeds3")
	p := c.faulty()
	sets := func(table, key, value string) func(c *cloud) {
		return func(c *cloud) { c.configure(table, key, value) }
	}
	rule := func(r env.Rule) func(*cloud) { return func(*cloud) { p.Add(r) } }
	for _, row := range []struct {
		name string
		set  func(c *cloud)
		code int
		says []string
	}{
		{"wrong keys", func(c *cloud) {
			c.write("wrong.env", "AWS_ACCESS_KEY_ID="+c.s3.AccessKey+"\nAWS_SECRET_ACCESS_KEY=no-secret-at-all\n")
			c.configure("bucket", "env_file", c.quoted("wrong.env"))
		}, 8, []string{"SignatureDoesNotMatch", "does not accept the keys"}},
		{"missing bucket", sets("bucket", "name", `"no-such-bucket"`), 8, []string{"no-such-bucket", "there is no such bucket"}},
		{"endpoint down", sets("bucket", "endpoint", `"http://127.0.0.1:1"`), 8, []string{"refused"}},
		{"not allowed", rule(env.Rule{Kind: env.List, Do: env.Refuse(403, "AccessDenied")}), 8, []string{"AccessDenied", "may not do this"}},
		{"clocks differ", rule(env.Rule{Do: env.Refuse(403, "RequestTimeTooSkewed")}), 8, []string{"clock"}},
		{"server overloaded for ever", rule(env.Rule{Kind: env.List, Do: env.Refuse(503, "SlowDown")}), 8, []string{"SlowDown", "transfers"}},
		{"no pool named", sets("pool", "location", ""), 2, []string{"pool.location", "--pool"}},
		{"pool is a file", sets("pool", "location", c.quoted("ocbackup.toml")), 2, []string{"is a file"}},
		{"pool is no pool", func(c *cloud) {
			c.write("something/else", "here")
			c.configure("pool", "location", c.quoted("something"))
		}, 2, []string{"no pool", "not empty"}},
		{"pool of another instance", func(c *cloud) {
			c.write("other/ocbackup-pool.json", `{"format":1,"id":"x","instance":"other.example.com","repositories":[]}`)
			c.configure("pool", "location", c.quoted("other"))
		}, 2, []string{"other.example.com", "a pool of its own"}},
		{"pool of a newer version", func(c *cloud) {
			c.write("newer/ocbackup-pool.json", `{"format":2,"id":"x","instance":"cloud.test"}`)
			c.configure("pool", "location", c.quoted("newer"))
		}, 8, []string{"format 2"}},
		{"pool in the data", sets("pool", "location", c.quoted("data/pool")), 2, []string{"pool.location"}},
		{"pool in the bucket", sets("pool", "location", strconv.Quote("s3:"+p.Endpoint+"/"+env.BucketName+"/pool")), 2, []string{"the bucket that is to be backed up"}},
		{"pool's keys missing", sets("pool", "location", strconv.Quote("s3:"+p.Endpoint+"/pool-bucket")), 2, []string{"access keys", "env_file"}},
		{"copying fails for ever", rule(env.Rule{Kind: env.Get, Do: env.Refuse(500, "InternalError")}), 8, []string{"InternalError"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			changed := c.with(t)
			row.set(changed)
			r := changed.run("backup")
			c := c.with(t)
			c.saveConfig()
			p.Clear()
			wants(t, r, row.code, row.says...)
			if strings.Contains(r.Stdout+r.Stderr, "no-secret-at-all") || strings.Contains(r.Stdout+r.Stderr, c.s3.SecretKey) {
				t.Errorf("a secret is shown: %s", r.Stderr)
			}
			c.running()
			if c.happened("stop") != 0 {
				t.Errorf("the server was stopped: %v", c.events())
			}
			if list := c.sets(); len(list) != 0 {
				t.Errorf("there are sets: %v", list)
			}
		})
	}
	c.good()
}

// An S3 server that fails now and then is no reason to fail.
func TestBucketThatStumbles(t *testing.T) {
	t.Parallel()
	c := newCloud(t, "decomposeds3")
	p := c.faulty()
	for i, kind := range []string{env.List, env.Get, env.Head} {
		p.Add(env.Rule{Kind: kind, Skip: i, Times: 1, Do: env.Refuse(503, "SlowDown")})
		p.Add(env.Rule{Kind: kind, Skip: 5 + i, Times: 1, Do: env.Refuse(500, "InternalError")})
		p.Add(env.Rule{Kind: kind, Skip: 9 + i, Times: 1, Do: env.Drop})
	}
	p.Add(env.Rule{Kind: env.Get, Skip: 12, Times: 2, Do: env.CutAnswer(100)})
	c.good()
}

// What fails in the cold window never keeps OpenCloud away, commits nothing, and the
// next run is as good as any.
func TestBucketFailsInTheWindow(t *testing.T) {
	t.Parallel()
	key := newKey()
	upload := func(c *cloud) env.Action { // something came in just before the stop
		var once sync.Once
		return env.Before(func(env.Request) {
			once.Do(func() { c.s3.Put(c.t, env.BucketName, key, []byte("new")) })
		})
	}
	for _, row := range []struct {
		name string
		rule func(c *cloud, p *env.Proxy)
		set  func(c *cloud)
		code int
		says []string
	}{
		{"endpoint down", func(c *cloud, p *env.Proxy) {
			p.Add(env.Rule{Do: c.whenStopped(env.Drop)})
		}, nil, 8, []string{"list"}},
		{"keys withdrawn", func(c *cloud, p *env.Proxy) {
			p.Add(env.Rule{Do: c.whenStopped(env.Refuse(403, "InvalidAccessKeyId"))})
		}, nil, 8, []string{"does not accept the keys"}},
		{"object gone", func(c *cloud, p *env.Proxy) {
			p.Add(env.Rule{Kind: env.List, Do: c.whenStopped(upload(c))})
			p.Add(env.Rule{Kind: env.Get, Key: key, Do: env.Before(func(env.Request) { c.s3.Delete(c.t, env.BucketName, key) })})
		}, nil, 3, []string{key, "gone from the bucket while OpenCloud was stopped"}},
		{"all objects gone", func(c *cloud, p *env.Proxy) {
			p.Add(env.Rule{Kind: env.List, Do: c.whenStopped(env.NoObjects)})
		}, nil, 3, []string{"lists no object at all", "--accept-empty-bucket"}},
		{"server hangs", func(c *cloud, p *env.Proxy) {
			p.Add(env.Rule{Kind: env.List, Do: c.whenStopped(env.NewHang().Do)})
		}, func(c *cloud) { c.configure("backup", "max_downtime", `"4s"`) }, 7, []string{"max_downtime"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			c := newCloud(t, "decomposeds3")
			p := c.faulty()
			id := c.backup()
			if row.set != nil {
				row.set(c)
			}
			row.rule(c, p)
			r := c.run("backup")
			wants(t, r, row.code, append(row.says, "running again")...)
			c.running()
			if list := c.sets(); len(list) != 1 || list[0].Set != id {
				t.Errorf("the sets are %v", list)
			}
			p.Clear()
			c.configure("backup", "max_downtime", "")
			c.good()
		})
	}
}

// A bucket that lists nothing where it had objects is not believed, until somebody
// says that it is right.
func TestEmptyBucket(t *testing.T) {
	t.Parallel()
	c := newCloud(t, "decomposeds3")
	c.backup()
	c.stop()
	c.backup()
	before := c.happened("stop")
	kept := c.bucket()
	c.wipeBucket()
	wants(t, c.run("backup"), 3, "lists no object at all", "nothing was committed")
	if c.happened("stop") != before {
		t.Error("the server was stopped for it")
	}
	// What it holds lacks the contents of all files, and says so.
	wants(t, c.run("backup", "--accept-empty-bucket"), 4, "missing")
	sets := c.sets()
	wants(t, c.run("show", sets[len(sets)-1].Set), 0, "0 objects", "LOST")
	for key := range kept {
		if _, err := os.Stat(c.path("pool/blobs", key)); err != nil {
			t.Errorf("the pool lost %s", key)
		}
	}
}

// Killed in the midst of copying an object, in the cold window: OpenCloud comes back,
// no half object counts, and what is left of it is swept away.
func TestKilledWhileCopying(t *testing.T) {
	t.Parallel()
	for _, signal := range []string{"KILL", "TERM"} {
		t.Run(signal, func(t *testing.T) {
			t.Parallel()
			c := newCloud(t, "decomposeds3")
			p := c.faulty()
			c.backup()
			key, content := newKey(), noise(t, 8<<20)
			hang := env.NewHang()
			var once sync.Once
			p.Add(env.Rule{Kind: env.List, Do: c.whenStopped(env.Before(func(env.Request) {
				once.Do(func() { c.s3.Put(t, env.BucketName, key, []byte(content)) })
			}))})
			p.Add(env.Rule{Kind: env.Get, Key: key, Times: 1, Do: env.CutAnswer(4 << 20)})
			p.Add(env.Rule{Kind: env.Get, Key: key, Do: hang.Do})
			cmd := c.command("backup")
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			<-hang.Reached
			wants(t, env.Exec(background, nil, "kill", "-"+signal, strconv.Itoa(cmd.Process.Pid)), 0)
			err := cmd.Wait()
			if code := cmd.ProcessState.ExitCode(); signal == "TERM" && code != 130 {
				t.Errorf("exit code %d (%v)", code, err)
			}
			c.awaitBack()
			c.running()
			if c.read("pool/blobs/"+key) != "" {
				t.Error("half an object has the object's name")
			}
			p.Clear()
			c.good()
			if c.read("pool/blobs/"+key) != content {
				t.Error("the object is not in the pool")
			}
			if r := env.Exec(background, nil, "find", c.path("pool"), "-name", "*.ocb-partial"); r.Stdout != "" {
				t.Errorf("something half is left: %s", r.Stdout)
			}
		})
	}
}

// A mount point whose disk is away looks like a new pool. It is not taken for one.
func TestPoolAway(t *testing.T) {
	t.Parallel()
	c := newCloud(t, "decomposeds3")
	c.backup()
	sets := c.sets()
	first := c.backup("--component", "config") // a set without the bucket in between changes nothing
	stops := c.happened("stop")
	if err := os.Rename(c.path("pool"), c.path("away")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(c.path("pool"), 0o700); err != nil {
		t.Fatal(err)
	}
	wants(t, c.run("backup"), 8, "there is no pool", "is its disk mounted?", "--new-pool")
	if c.happened("stop") != stops {
		t.Error("the server was stopped for it")
	}
	if left, _ := os.ReadDir(c.path("pool")); len(left) != 0 {
		t.Errorf("something was written to the mount point: %v", left)
	}
	r := c.run("verify", "--all")
	wants(t, r, 8, "is its disk mounted?", "structure sound", first) // the repository is looked at all the same

	c.write("pool-password", "another secret\n")
	c.configure("pool", "password_file", c.quoted("pool-password"))
	id := c.backup("--new-pool")
	c.restoreCopy(id)
	// The set from before needs the pool from before, which has no password.
	c.must("restore", "--target", c.path("old"), "--pool", c.path("away"), sets[0].Set)
	wants(t, c.check(c.path("old")), 0)
	wants(t, c.run("bucket", "status"), 0, "elsewhere", "lost           none")
	c.must("verify", "--all")
	c.good()
}
