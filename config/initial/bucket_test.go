package initial

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ocbackup/ocbackup/config"
	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/paths"
)

// s3Instance is instance with the blobs in a bucket.
func s3Instance(t *testing.T) (dir string, o Options) {
	t.Helper()
	dir, o = instance(t)
	o.Paths.Driver = "decomposeds3"
	yaml := "storage_users: {drivers: {decomposeds3: {endpoint: 'http://10.0.0.5:9000', bucket: oc, access_key: id, secret_key: s3cret}}}\n"
	if err := os.WriteFile(filepath.Join(dir, "config/opencloud.yaml"), []byte(yaml), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir, o
}

func TestDoBucket(t *testing.T) {
	dir, o := s3Instance(t)
	do(t, o)
	c, err := config.Load(o.Output)
	if err != nil {
		t.Fatal(err)
	}
	if want := (config.Bucket{Endpoint: "http://10.0.0.5:9000", Region: "default", Name: "oc"}); c.Bucket != want {
		t.Errorf("%+v", c.Bucket)
	}
	if c.Pool.Location != dir+"/repository-pool" || c.NeedPool() != nil {
		t.Errorf("%+v %v", c.Pool, c.NeedPool())
	}
	if paths.Exists(c.Pool.Location) {
		t.Error("the pool was made")
	}
	if text, err := os.ReadFile(o.Output); err != nil || strings.Contains(string(text), "s3cret") {
		t.Errorf("the secret key is in the configuration: %v", err)
	}

	// A new look keeps what was chosen, and finds the bucket where it is now.
	chosen := strings.NewReplacer(
		"[bucket]", "[bucket]\nenv_file = \""+dir+"/keys\"\nreach = \"http://127.0.0.1:9000\"\ntransfers = 3",
		"[pool]", "[pool]\ngrace = \"48h\"",
	)
	for _, x := range []struct {
		name, endpoint, reach string
		note                  bool
	}{
		{"the same", "http://10.0.0.5:9000", "http://127.0.0.1:9000", false},
		{"moved", "http://10.0.0.6:9000", "", true},
	} {
		t.Run(x.name, func(t *testing.T) {
			rewrite(t, dir+"/keys", func(string) string { return "AWS_ACCESS_KEY_ID=a\nAWS_SECRET_ACCESS_KEY=b\n" })
			output := dir + "/etc/" + x.name + ".toml"
			rewrite(t, output, func(string) string { return chosen.Replace(string(config.Render(c))) })
			rewrite(t, dir+"/config/opencloud.yaml", func(s string) string { return strings.Replace(s, "http://10.0.0.5:9000", x.endpoint, 1) })
			p := makePlan(t, Options{Output: output, Force: true})
			b := p.Config.Bucket
			if b.Endpoint != x.endpoint || b.Name != "oc" || b.EnvFile != dir+"/keys" || b.Transfers != 3 || b.Reach != x.reach {
				t.Errorf("%+v", b)
			}
			if p.Config.Pool.Location != dir+"/repository-pool" || p.Config.Pool.Grace.Hours() != 48 {
				t.Errorf("%+v", p.Config.Pool)
			}
			if noted := strings.Contains(strings.Join(p.Found.Notes, "\n"), "bucket.reach was not taken over"); noted != x.note {
				t.Error(p.Found.Notes)
			}
		})
	}
}

// rewrite changes a file, or makes it.
func rewrite(t *testing.T, path string, change func(string) string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(change(string(b))), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestFromBefore: a configuration that was written when there were no pools gets the
// bucket and a pool.
func TestFromBefore(t *testing.T) {
	dir, o := s3Instance(t)
	text := string(makePlan(t, o).Text)
	if err := os.Mkdir(dir+"/etc", 0o755); err != nil {
		t.Fatal(err)
	}
	rewrite(t, o.Output, func(string) string {
		head, rest, _ := strings.Cut(text, "[bucket]")
		_, tail, _ := strings.Cut(rest, "[backup]")
		head = strings.Replace(head, "name = \"cloud\"", "name = \"cloud\"\nnot_protected = [\"S3 bucket oc at http://10.0.0.5:9000: the contents of all files\", \"service x: volume y\"]", 1)
		return head + "[backup]" + tail
	})
	old, err := config.Load(o.Output)
	if err != nil || old.Bucket.Name != "" || old.Pool.Location != "" {
		t.Fatalf("%+v %v", old, err)
	}
	c := makePlan(t, Options{Output: o.Output, Force: true}).Config
	if c.Bucket.Name != "oc" || c.Pool.Location != dir+"/repository-pool" || len(c.NotProtected) != 1 {
		t.Errorf("%+v %+v %q", c.Bucket, c.Pool, c.NotProtected)
	}
}

func TestPool(t *testing.T) {
	const remote = "sftp:nas:/backup"
	for _, x := range []struct {
		name, repository, pool, want string
		refused                      string
		hint                         string
	}{
		{name: "a directory", pool: "DIR/pool", want: "DIR/pool"},
		{name: "a relative one", pool: "pool", want: "CWD/pool"},
		{name: "beside a repository that ends in a slash", repository: "DIR/repository/", want: "DIR/repository-pool"},
		{name: "elsewhere", repository: remote, pool: "s3:https://s3.example.com/pool", want: "s3:https://s3.example.com/pool"},
		{name: "nowhere", repository: remote, refused: "pool.location: is missing", hint: "--pool LOCATION"},
		{name: "in the bucket", pool: "s3:http://10.0.0.5:9000/oc/pool", refused: "lies in the bucket that is to be backed up"},
		{name: "in the repository", pool: "DIR/repository/pool", refused: "and repository.location (DIR/repository) lie in each other"},
		{name: "with a password", pool: "sftp:me:s3cret@nas:/pool", refused: `pool: "sftp:***@nas:/pool" holds a password`},
		{name: "mistyped", pool: "stfp:nas:/pool", refused: `pool: "stfp:nas:/pool" is neither`},
	} {
		t.Run(x.name, func(t *testing.T) {
			dir, o := s3Instance(t)
			cwd, err := os.Getwd()
			if err != nil {
				t.Fatal(err)
			}
			in := strings.NewReplacer("DIR", dir, "CWD", cwd).Replace
			o.Pool = in(x.pool)
			if x.repository != "" {
				o.Repository = in(x.repository)
			}
			p, err := Make(context.Background(), o)
			if x.refused == "" {
				if err != nil || p.Config.Pool.Location != in(x.want) {
					t.Errorf("%+v %v", p, err)
				}
				return
			}
			if err == nil {
				_, err = p.Do(context.Background())
			}
			_, _, hint := fail.Details(err)
			if err == nil || fail.CodeOf(err) != fail.Usage || !strings.Contains(err.Error(), in(x.refused)) || !strings.Contains(hint, x.hint) {
				t.Errorf("%v (%s)", err, hint)
			}
			if paths.Exists(o.Output) {
				t.Error("the configuration was written")
			}
		})
	}
}

// TestNoNeedOfAPool: a driver without a bucket gets no pool, be it asked for.
func TestNoNeedOfAPool(t *testing.T) {
	_, o := instance(t)
	o.Pool = "/srv/pool"
	p := makePlan(t, o)
	if p.Config.Pool != (config.Pool{}) || strings.Contains(string(p.Text), "pool") || !strings.Contains(strings.Join(p.Found.Notes, "\n"), "no need of a pool") {
		t.Errorf("%+v %q", p.Config.Pool, p.Found.Notes)
	}
}
