package discover

import (
	"context"
	"testing"

	"github.com/ocbackup/ocbackup/config"
	"github.com/ocbackup/ocbackup/opencloud"
	"github.com/ocbackup/ocbackup/opencloud/control"
)

// TestBucketOfFiles: where nobody can be asked, OpenCloud's configuration files and
// the deployment's environment files tell of the bucket and its keys.
func TestBucketOfFiles(t *testing.T) {
	const main = "storage_users: {drivers: {decomposeds3: {endpoint: 'http://10.0.0.5:9000', bucket: oc, access_key: yid, secret_key: ykey}}}\n"
	for _, x := range []struct {
		name, yaml string
		files      map[string]string // of the deployment
		access     string
		secret     string
		refused    string
	}{
		{name: "opencloud.yaml", yaml: main, access: "yid", secret: "ykey"},
		{name: "environment file", yaml: main, files: map[string]string{"env": "# keys\n\nSTORAGE_USERS_DECOMPOSEDS3_ACCESS_KEY=id\nSTORAGE_USERS_DECOMPOSEDS3_SECRET_KEY=\"two words\"\n"}, access: "id", secret: "two words"},
		{name: "shell file that exports", yaml: main, files: map[string]string{"conf.d": "export STORAGE_USERS_DECOMPOSEDS3_ACCESS_KEY='id'\n  export\tSTORAGE_USERS_DECOMPOSEDS3_SECRET_KEY=key\n"}, access: "id", secret: "key"},
		{name: "two files", yaml: "", files: map[string]string{"a": "STORAGE_USERS_DECOMPOSEDS3_ACCESS_KEY=id\n", "b": "STORAGE_USERS_DECOMPOSEDS3_SECRET_KEY=key\n"}, access: "id", secret: "key"},
		{name: "a script", yaml: main, files: map[string]string{"start": "#!/bin/sh\nSTORAGE_USERS_DECOMPOSEDS3_ACCESS_KEY=id\nexec opencloud server\n"}, access: "yid", secret: "ykey"},
		{name: "no secret key", files: map[string]string{"a": "STORAGE_USERS_DECOMPOSEDS3_ACCESS_KEY=id\n"}, refused: "STORAGE_USERS_DECOMPOSEDS3_SECRET_KEY is not set for OpenCloud, nor drivers.decomposeds3.secret_key in its storage-users.yaml"},
		{name: "nothing", refused: "STORAGE_USERS_DECOMPOSEDS3_ACCESS_KEY is not set"},
	} {
		for _, typ := range []string{"none", "command"} {
			t.Run(x.name+"/"+typ, func(t *testing.T) {
				dir := t.TempDir()
				write(t, dir+"/etc/opencloud.yaml", x.yaml)
				c := &config.Config{Control: control.Config{Type: typ}}
				c.Layout = opencloud.Layout{Driver: opencloud.DecomposedS3, ConfigDir: dir + "/etc", DataDir: dir, Deployment: []string{dir + "/etc", dir + "/no"}}
				for _, name := range []string{"a", "b", "env", "conf.d", "start"} {
					if text := x.files[name]; text != "" {
						c.Layout.Deployment = append(c.Layout.Deployment, write(t, dir+"/"+name, text))
					}
				}
				if x.refused != "" {
					_, _, err := BucketKeys(context.Background(), c)
					refused(t, err, x.refused, "set env_file in [bucket]")
					return
				}
				keys(t, c, x.access, x.secret)
				if x.yaml != "" {
					equal(t, "bucket", Bucket(c), config.Bucket{Endpoint: "http://10.0.0.5:9000", Region: "default", Name: "oc"})
				}
			})
		}
	}
}

func TestBucketDrift(t *testing.T) {
	conf := func(b config.Bucket) *config.Config {
		c := &config.Config{Bucket: b}
		c.Layout.Driver = opencloud.DecomposedS3
		return c
	}
	old := config.Bucket{Endpoint: "https://s3.example.com", Region: "default", Name: "oc"}
	for _, x := range []struct {
		name       string
		conf, have *config.Config
		want       []string
	}{
		{"the same", conf(old), conf(old), nil},
		{"the same, written otherwise", conf(old), conf(config.Bucket{Endpoint: "https://S3.example.com:443", Region: "default", Name: "oc"}), nil},
		{
			"another", conf(old), conf(config.Bucket{Endpoint: "http://s3.example.com", Region: "eu", Name: "oc2"}),
			[]string{
				"bucket.endpoint: the configuration says https://s3.example.com, OpenCloud uses http://s3.example.com",
				"bucket.region: the configuration says default, OpenCloud uses eu",
				"bucket.name: the configuration says oc, OpenCloud uses oc2",
			},
		},
		{
			"gone", conf(old), conf(config.Bucket{Region: "default"}),
			[]string{"bucket.endpoint: the configuration says https://s3.example.com, OpenCloud uses nothing", "bucket.name: the configuration says oc, OpenCloud uses nothing"},
		},
		{"a configuration from before", conf(config.Bucket{Region: "default"}), conf(old), nil},
		{"another driver", conf(old), func() *config.Config {
			c := conf(config.Bucket{})
			c.Layout.Driver = opencloud.Posix
			return c
		}(), []string{"layout.driver: the configuration says decomposeds3, OpenCloud uses posix"}},
	} {
		t.Run(x.name, func(t *testing.T) { equalList(t, "drift", Drift(x.conf, x.have), x.want...) })
	}
}
