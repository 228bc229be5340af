package config

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/ocbackup/ocbackup/fail"
)

// poolAt puts another location into withBucket.
func poolAt(location string) [2]string { return [2]string{"/srv/pool/", location} }

func TestBucketMistakes(t *testing.T) {
	const keyLine = `endpoint = "http://minio:9000"`
	endpoint := func(url string) [2]string { return [2]string{"http://minio:9000", url} }
	for _, x := range []struct {
		name   string
		change [2]string
		want   string
	}{
		{"no URL", endpoint("minio:9000"), `t.toml:16: bucket.endpoint: "minio:9000" is not the URL of a server`},
		{"FTP", endpoint("ftp://minio"), "t.toml:16: bucket.endpoint"},
		{"no host", endpoint("http://:9000"), "t.toml:16: bucket.endpoint"},
		{"with a path", endpoint("http://minio:9000/oc"), "t.toml:16: bucket.endpoint: \"http://minio:9000/oc\" has more than scheme, host and port"},
		{"with keys", endpoint("http://key:s3cret@minio:9000"), `t.toml:16: bucket.endpoint: "http:***@minio:9000" holds a user or a password`},
		{"reach without a scheme", [2]string{keyLine, keyLine + "\nreach = \"127.0.0.1:9000\""}, "t.toml:17: bucket.reach"},
		{"endpoint alone", [2]string{`name = "oc"`, ""}, "bucket.name: is missing; it goes with endpoint"},
		{"name alone", [2]string{keyLine, ""}, "bucket.endpoint: is missing; it goes with name"},
		{"name with a slash", [2]string{`"oc"`, `"oc/x"`}, `t.toml:17: bucket.name: "oc/x"`},
		{"negative", [2]string{keyLine, keyLine + "\ntransfers = -1"}, "t.toml:17: bucket.transfers: -1 is less than 0"},
		{"relative file", [2]string{keyLine, keyLine + "\nca_file = \"ca.pem\""}, `t.toml:17: bucket.ca_file: "ca.pem" is not an absolute path`},
		{"a mistyped key", [2]string{keyLine, keyLine + "\ntransfer = 1"}, "t.toml:17: bucket.transfer: there is no such key; did you mean bucket.transfers?"},
		{"no grace", poolAt("/srv/pool\"\ngrace = \"0s"), "t.toml:21: pool.grace"},

		{"relative pool", poolAt("pool"), `t.toml:20: pool.location: "pool" is neither an absolute path nor`},
		{"restic's local", poolAt("local:/srv/pool"), "t.toml:20: pool.location"},
		{"S3 without a scheme", poolAt("s3:host/bucket"), "is not s3:https://host/bucket/prefix"},
		{"S3 without a bucket", poolAt("s3:https://host/"), "names no bucket"},
		{"S3 with keys", poolAt("s3:https://key:s3cret@host/b"), `"s3:***@host/b" holds a user or a password`},
		{"S3 with a question", poolAt("s3:https://host/b?x=s3cret"), "has more than host, bucket and prefix"},
		{"SFTP with a password", poolAt("sftp:me:s3cret@nas:/pool"), `"sftp:***@nas:/pool" holds a password`},
		{"SFTP URL with a password", poolAt("sftp://me:s3cret@nas//pool"), `"sftp:***@nas//pool" holds a password`},
		{"SFTP host that is an option", poolAt("sftp:-oProxyCommand=x:/pool"), "names no host that can be reached"},
		{"SFTP user that is an option", poolAt("sftp:-oProxyCommand=x@nas:/pool"), "or no such user"},
		{"SFTP URL with an option", poolAt("sftp://-oProxyCommand=x//pool"), "names no host that can be reached"},
		{"SFTP relative", poolAt("sftp:nas:pool"), "is neither sftp:user@host:/path nor"},
		{"SFTP URL relative", poolAt("sftp://nas/pool"), "two slashes come after the host"},
		{"SFTP port without URL", poolAt("sftp:nas:2222:/pool"), "is neither sftp:user@host:/path nor"},
		{"rclone without a path", poolAt("rclone:b2"), "is not rclone:REMOTE:path"},
		{"rclone connection string", poolAt("rclone::sftp,host=nas:pool"), "is not rclone:REMOTE:path"},
		{"rclone remote with options", poolAt("rclone:b2,key=s3cret:pool"), "is not rclone:REMOTE:path"},

		{"pool in the data directory", poolAt("/var/lib/opencloud/pool"), "and layout.data_dir (/var/lib/opencloud) lie in each other"},
		{"pool above the configuration", poolAt("/etc"), "and layout.config_dir (/etc/opencloud) lie in each other"},
		{"pool in the repository", poolAt("/srv/backup/pool"), "and repository.location (/srv/backup) lie in each other"},
		{"pool above the repository", poolAt("/srv"), "and repository.location (/srv/backup) lie in each other"},
		{"pool in what is backed up beside", poolAt("/home/pool\"\n[[extra]]\nname = \"x\"\npath = \"/home"), "and extra.path (/home) lie in each other"},
		{"pool in the bucket", poolAt("s3:http://MINIO:9000/oc/pool"), "t.toml:20: pool.location: \"s3:http://MINIO:9000/oc/pool\" lies in the bucket that is to be backed up"},
		{"pool in the bucket, as it is reached", [2]string{"name = \"oc\"\n\n[pool]\nlocation = \"/srv/pool/", "name = \"oc\"\nreach = \"http://127.0.0.1\"\n\n[pool]\nlocation = \"s3:http://localhost:80/oc"}, "lies in the bucket"},
	} {
		t.Run(x.name, func(t *testing.T) {
			text := strings.Replace(withBucket, x.change[0], x.change[1], 1)
			if text == withBucket {
				t.Fatal("the test changes nothing")
			}
			_, err := parse("t.toml", text)
			if err == nil || fail.CodeOf(err) != fail.Usage || !strings.Contains(err.Error(), x.want) {
				t.Errorf("got  %v\nwant %s", err, x.want)
			} else if strings.Contains(err.Error(), "s3cret") {
				t.Errorf("a secret is told: %v", err)
			}
		})
	}
}

func TestPoolLocations(t *testing.T) {
	for _, location := range []string{
		"/srv/pool", "/srv/backup-pool", "/srv/back@up", "s3:https://s3.example.com/b", "s3:http://10.0.0.5:9000/b/prefix/more", "s3:http://minio:9000/other",
		"s3:http://minio:9001/oc", "sftp:nas:/pool", "sftp:me@nas:/pool", "sftp:me@example.com@nas:/pool", "sftp:[2001:db8::1]:/pool",
		"sftp://nas//pool", "sftp://me@nas:2222//pool", "rclone:b2:bucket/prefix", "rclone:my remote:",
	} {
		if _, err := parse("t.toml", strings.Replace(withBucket, "/srv/pool/", location, 1)); err != nil {
			t.Error(err)
		}
	}
}

// TestNoBucket: which tables a configuration has goes by the storage driver.
func TestNoBucket(t *testing.T) {
	_, err := parse("t.toml", strings.Replace(withBucket, "decomposeds3", "decomposed", 1))
	for _, want := range []string{
		"t.toml:16: bucket.endpoint: [bucket] goes with the storage driver decomposeds3; decomposed keeps the blobs in directories",
		"t.toml:20: pool.location: [pool] goes with",
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got  %v\nwant %s", err, want)
		}
	}
	t.Setenv("OCBACKUP_POOL", "/env/pool")
	if c, err := parse("t.toml", minimal); err != nil || c.Pool != (Pool{}) {
		t.Errorf("the environment gives a pool to a driver that has none: %v %v", c, err)
	}
	if c, err := parse("t.toml", withBucket); err != nil || c.Pool.Location != "/env/pool" {
		t.Errorf("%v %v", c, err)
	}
}

// TestNeedPool: what was written before there were pools can be read, and says what
// is missing once the blobs are to be backed up.
func TestNeedPool(t *testing.T) {
	old, _, _ := strings.Cut(withBucket, "[bucket]")
	noPool, _, _ := strings.Cut(withBucket, "[pool]")
	for _, x := range []struct {
		name, text string
		want       []string
	}{
		{"posix", minimal, nil},
		{"complete", withBucket, nil},
		{"from before", old, []string{"t.toml: bucket.endpoint: is missing", "t.toml: pool.location: is missing"}},
		{"no pool", noPool, []string{"t.toml: pool.location: is missing"}},
	} {
		t.Run(x.name, func(t *testing.T) {
			c, err := parse("t.toml", x.text)
			if err != nil {
				t.Fatal(err)
			}
			err = c.NeedPool()
			_, _, hint := fail.Details(err)
			if (err == nil) != (x.want == nil) || err != nil && (fail.CodeOf(err) != fail.Usage || !strings.Contains(hint, "init --force --pool LOCATION")) {
				t.Errorf("%v (%s)", err, hint)
			}
			for _, want := range x.want {
				if err != nil && !strings.Contains(err.Error(), want) {
					t.Errorf("got  %v\nwant %s", err, want)
				}
			}
		})
	}
}

func TestKeys(t *testing.T) {
	const keys = "AWS_ACCESS_KEY_ID=id\nAWS_SECRET_ACCESS_KEY=\"key\"\nAWS_SESSION_TOKEN=token\n"
	dir := t.TempDir()
	file := writeFile(t, filepath.Join(dir, "keys"), keys, 0o600)
	open := writeFile(t, filepath.Join(dir, "open"), keys, 0o644)
	half := writeFile(t, filepath.Join(dir, "half"), "AWS_ACCESS_KEY_ID=id\n", 0o600)
	password := writeFile(t, filepath.Join(dir, "secret"), "two words\n", 0o600)
	lines := writeFile(t, filepath.Join(dir, "lines"), "one\ntwo\n", 0o600)
	credentials := t.TempDir()
	writeFile(t, filepath.Join(credentials, "bucket-env"), "AWS_ACCESS_KEY_ID=cid\nAWS_SECRET_ACCESS_KEY=ckey\n", 0o600)
	writeFile(t, filepath.Join(credentials, "pool-env"), "AWS_ACCESS_KEY_ID=pid\nAWS_SECRET_ACCESS_KEY=pkey\n", 0o600)
	writeFile(t, filepath.Join(credentials, "pool-password"), "cpass\n", 0o600)
	const s3, none = "s3:https://pool.example.com/b", "   "

	bucketKeys := func(c *Config) (string, error) {
		a, s, x, ok, err := c.BucketKeys()
		if !ok && err == nil {
			return "the instance's", nil
		}
		return strings.Join([]string{a, s, x}, " "), err
	}
	poolKeys := func(c *Config) (string, error) {
		a, s, x, err := c.PoolKeys()
		return strings.Join([]string{a, s, x}, " "), err
	}
	for _, x := range []struct {
		name string
		of   func(c *Config) (string, error)
		set  Config
		env  map[string]string
		want string
		fail string
		hint string
	}{
		{name: "bucket: none", of: bucketKeys, want: "the instance's"},
		{name: "bucket: file", of: bucketKeys, set: Config{Bucket: Bucket{EnvFile: file}}, want: "id key token"},
		{name: "bucket: for all to read", of: bucketKeys, set: Config{Bucket: Bucket{EnvFile: open}}, fail: "bucket.env_file: " + open + " holds a secret", hint: "chmod 600 " + open},
		{name: "bucket: no file", of: bucketKeys, set: Config{Bucket: Bucket{EnvFile: dir + "/no"}}, fail: "bucket.env_file: there is no file " + dir + "/no"},
		{name: "bucket: one key", of: bucketKeys, set: Config{Bucket: Bucket{EnvFile: half}}, fail: "bucket.env_file: " + half + " sets no AWS_SECRET_ACCESS_KEY"},
		{name: "bucket: credential", of: bucketKeys, set: Config{Bucket: Bucket{EnvFile: open}}, env: map[string]string{"CREDENTIALS_DIRECTORY": credentials}, want: "cid ckey "},
		{name: "bucket: variable before credential", of: bucketKeys, set: Config{Bucket: Bucket{EnvFile: file}}, env: map[string]string{"CREDENTIALS_DIRECTORY": credentials, "OCBACKUP_BUCKET_ENV_FILE": file}, want: "id key token"},
		{name: "bucket: not by the environment", of: bucketKeys, env: map[string]string{"AWS_ACCESS_KEY_ID": "e", "AWS_SECRET_ACCESS_KEY": "f"}, want: "the instance's"},

		{name: "pool: directory", of: poolKeys, set: Config{Pool: Pool{Location: "/srv/pool"}}, want: none[:2]},
		{name: "pool: file", of: poolKeys, set: Config{Pool: Pool{Location: s3, EnvFile: file}}, want: "id key token"},
		{name: "pool: for all to read", of: poolKeys, set: Config{Pool: Pool{Location: s3, EnvFile: open}}, fail: "pool.env_file: " + open},
		{name: "pool: credential", of: poolKeys, set: Config{Pool: Pool{Location: s3}}, env: map[string]string{"CREDENTIALS_DIRECTORY": credentials}, want: "pid pkey "},
		{name: "pool: environment", of: poolKeys, set: Config{Pool: Pool{Location: s3}}, env: map[string]string{"AWS_ACCESS_KEY_ID": "e", "AWS_SECRET_ACCESS_KEY": "f"}, want: "e f "},
		{name: "pool: none", of: poolKeys, set: Config{Pool: Pool{Location: s3}}, fail: "there are no access keys for the pool " + s3, hint: "env_file in [pool]"},

		{name: "password: none", of: (*Config).PoolPassword},
		{name: "password: file", of: (*Config).PoolPassword, set: Config{Pool: Pool{PasswordFile: password}}, want: "two words"},
		{name: "password: for all to read", of: (*Config).PoolPassword, set: Config{Pool: Pool{PasswordFile: open}}, fail: "pool.password_file: " + open, hint: "chmod 600"},
		{name: "password: two lines", of: (*Config).PoolPassword, set: Config{Pool: Pool{PasswordFile: lines}}, fail: "pool.password_file: " + lines + " must hold one line"},
		{name: "password: credential", of: (*Config).PoolPassword, set: Config{Pool: Pool{PasswordFile: password}}, env: map[string]string{"CREDENTIALS_DIRECTORY": credentials}, want: "cpass"},
	} {
		t.Run(x.name, func(t *testing.T) {
			clearEnv(t)
			for _, n := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"} {
				t.Setenv(n, "")
			}
			for k, v := range x.env {
				t.Setenv(k, v)
			}
			got, err := x.of(&x.set)
			_, _, hint := fail.Details(err)
			switch {
			case x.fail == "":
				if err != nil || got != x.want {
					t.Errorf("got %q, %v, want %q", got, err, x.want)
				}
			case err == nil || fail.CodeOf(err) != fail.Usage || !strings.Contains(err.Error(), x.fail) || !strings.Contains(hint, x.hint):
				t.Errorf("%v (%s), want %s (%s)", err, hint, x.fail, x.hint)
			}
		})
	}
}

// TestSecretFilesOfBucket: whoever looks at a configuration's secrets sees these.
func TestSecretFilesOfBucket(t *testing.T) {
	c := &Config{
		Bucket: Bucket{EnvFile: "/b", CAFile: "/ca"},
		Pool:   Pool{Location: "s3:https://u:pw@host/b", EnvFile: "/e", PasswordFile: "/p", RcloneConfig: "/r"},
	}
	var keys []string
	for _, f := range c.SecretFiles() {
		keys = append(keys, f.Key+"="+f.Path)
	}
	if got, want := strings.Join(keys, " "), "bucket.env_file=/b pool.env_file=/e pool.password_file=/p pool.rclone_config=/r"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if d := c.WithoutSecrets(); strings.Contains(d.Pool.Location, "pw") || d.Pool.PasswordFile != "/p" {
		t.Errorf("%+v", d.Pool)
	}
}
