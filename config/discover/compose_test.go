package discover

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ocbackup/ocbackup/config"
	"github.com/ocbackup/ocbackup/opencloud"
)

// TestCompose has the real compose read a project with the layout of OpenCloud's own.
func TestCompose(t *testing.T) {
	compose := dockerCompose(t)
	dir := copyProject(t)
	in := func(p string) string { return filepath.Join(dir, p) }
	find := func(t *testing.T, parts string) *Found {
		t.Helper()
		// In .env, as an admin does it: the timer has no COMPOSE_FILE.
		write(t, in(".env"), "COMPOSE_FILE=docker-compose.yml${PARTS:-"+parts+"}\nCOMPOSE_PROJECT_NAME=cloud\nOC_DOMAIN=cloud.example.com\n")
		f, err := Compose(context.Background(), ComposeOptions{Dir: dir, Command: []string{compose}})
		if err != nil {
			t.Fatal(err)
		}
		return f
	}

	t.Run("plain", func(t *testing.T) {
		fakes(t, map[string]string{"docker": engineWith("/srv/docker")})
		f := find(t, "")
		c := f.Config
		equal(t, "name", c.Name, "cloud.example.com")
		equal(t, "control", c.Control.Type, "compose")
		equal(t, "project", c.Control.Project, "cloud")
		equal(t, "service", c.Control.Service, "opencloud")
		equal(t, "project dir", c.Control.ProjectDir, dir)
		equalList(t, "also stop", c.Control.AlsoStop)
		equal(t, "driver", c.Layout.Driver, opencloud.Posix)
		equal(t, "config dir", c.Layout.ConfigDir, "/srv/docker/cloud_opencloud-config/_data")
		equal(t, "data dir", c.Layout.DataDir, "/srv/docker/cloud_opencloud-data/_data")
		equal(t, "users", c.Layout.UsersRoot, "/srv/docker/cloud_opencloud-data/_data/storage/users")
		equal(t, "search", c.Layout.SearchDir, "/srv/docker/cloud_opencloud-data/_data/search")
		equalList(t, "leave out", c.Layout.Leave, "/srv/docker/cloud_opencloud-data/_data/thumbnails")
		equalList(t, "system paths", c.Layout.SystemPaths)
		equalList(t, "deployment", c.Layout.Deployment,
			in(".env"), in("config/opencloud/apps"), in("config/opencloud/banned-password-list.txt"), in("config/opencloud/csp.yaml"),
			in("docker-compose.yml"), in("extra/include.yml"), in("smtp.env"))
		equalList(t, "not protected", c.NotProtected, "service radicale: volume cloud_radicale-data")
		equal(t, "url", c.Ready.URL, "https://cloud.example.com")
		equal(t, "address", c.Ready.Address, "127.0.0.1:9300")
		equal(t, "idm", c.Ready.IDM, "127.0.0.1:9235")
		equal(t, "plain http", c.Ready.Plain, true)
		equal(t, "in container", c.Ready.InContainer, true)
		equal(t, "image", f.Image, "opencloudeu/opencloud-rolling:7.3.0")
		equal(t, "digest", f.Digest, "sha256:d1ge57")
		equal(t, "version", f.Version, "7.3.0")
		equal(t, "restart", f.Restart, "always")
		if err := complete(c); err != nil {
			t.Error(err)
		}

		again, err := Again(context.Background(), c)
		if err != nil {
			t.Fatal(err)
		}
		equalList(t, "drift", Drift(c, again.Config))
		equalList(t, "unlisted", Unlisted(c, again.Config))
	})

	t.Run("without an engine", func(t *testing.T) {
		fakes(t, map[string]string{"docker": noEngine})
		f := find(t, "")
		noted(t, f, "the place of volume cloud_opencloud-data is a guess")
		equal(t, "version", f.Version, "7.3.0")
		if _, err := Again(context.Background(), f.Config); err == nil {
			t.Error("a guess was taken for the truth")
		}
	})

	t.Run("keycloak", func(t *testing.T) {
		fakes(t, map[string]string{"docker": engineWith("/srv/docker")})
		f := find(t, ":idm/keycloak.yml")
		equal(t, "idm", f.Config.Ready.IDM, "")
		equalList(t, "not protected", f.Config.NotProtected,
			"LDAP server ldaps://ldap-server:1636: users and groups",
			"identity provider https://keycloak.opencloud.test/realms/openCloud",
			"service ldap-server: volume ldap-data",
			"service postgres: volume cloud_keycloak_postgres_data",
			"service radicale: volume cloud_radicale-data")
		for _, p := range []string{in("idm/keycloak.yml"), in("config/keycloak/realm.json")} {
			if !listed(f.Config, p) {
				t.Errorf("%s is not part of the deployment", p)
			}
		}
	})

	t.Run("S3", func(t *testing.T) {
		fakes(t, map[string]string{"docker": engineWith("/srv/docker")})
		write(t, in("minio.yml"), "services:\n  minio:\n    image: minio/minio\n    volumes: [\"minio:/data\"]\nvolumes: {minio: }\n")
		f := find(t, ":storage/decomposeds3.yml:minio.yml")
		c := f.Config
		equal(t, "driver", c.Layout.Driver, opencloud.DecomposedS3)
		equal(t, "bucket", c.Bucket, config.Bucket{Endpoint: "http://minio:9000", Region: "default", Name: "opencloud-bucket"})
		equalList(t, "not protected", c.NotProtected,
			"service minio: volume cloud_minio (all but OpenCloud's bucket)", "service radicale: volume cloud_radicale-data")
		if err := complete(c); err != nil {
			t.Error(err)
		}
		if text := fmt.Sprintf("%s %+v %+v", config.Render(c), *f, *c); strings.Contains(text, "opencloud-secret-key") {
			t.Error("the secret key is told")
		}
		again, err := Again(context.Background(), c)
		if err != nil {
			t.Fatal(err)
		}
		equalList(t, "drift", Drift(c, again.Config))

		// Keys come from the deployment as it is, without an engine as well.
		fakes(t, map[string]string{"docker": noEngine})
		keys(t, c, "opencloud", "opencloud-secret-key")
		write(t, in(".env"), "COMPOSE_FILE=docker-compose.yml:storage/decomposeds3.yml\nCOMPOSE_PROJECT_NAME=cloud\nDECOMPOSEDS3_SECRET_KEY=new$$word\nDECOMPOSEDS3_ACCESS_KEY=me\n")
		keys(t, c, "me", "new$word")
		gone := *c
		gone.Control.ProjectDir = "/does/not/exist"
		_, _, err = BucketKeys(context.Background(), &gone)
		refused(t, err, "can't be read from the deployment", "/does/not/exist", "env_file in [bucket]")
	})

	t.Run("OpenSearch", func(t *testing.T) {
		fakes(t, map[string]string{"docker": engineWith("/srv/docker")})
		f := find(t, ":search/opensearch.yml")
		equal(t, "external", f.Config.Layout.SearchExternal, true)
		equal(t, "search dir", f.Config.Layout.SearchDir, "")
		equalList(t, "not protected", f.Config.NotProtected,
			"search index (open-search): built again after a restore",
			"service opensearch: its data lies inside the container",
			"service radicale: volume cloud_radicale-data")
	})

	t.Run("bind mounts", func(t *testing.T) {
		fakes(t, map[string]string{"docker": noEngine})
		root := t.TempDir()
		mkdirs(t, root+"/config", root+"/da$ta/storage/users/spaces", root+"/nats", root+"/users")
		write(t, in("bind.yml"), `
services:
  opencloud:
    environment:
      STORAGE_USERS_DRIVER: ""
      NATS_NATS_STORE_DIR: /nats
    volumes:
      - `+root+`/config:/etc/opencloud
      - `+root+`/da$$ta:/var/lib/opencloud
      - `+root+`/users:/mnt/users
      - nats:/nats
  files:
    image: filebrowser
    volumes:
      - `+root+`/users:/srv
volumes:
  nats:
    driver_opts: {type: none, o: bind, device: `+root+`/nats}
`)
		f := find(t, ":bind.yml")
		c := f.Config
		equal(t, "config dir", c.Layout.ConfigDir, root+"/config")
		equal(t, "data dir", c.Layout.DataDir, root+"/da$ta")
		equal(t, "driver by what is on disk", c.Layout.Driver, opencloud.Decomposed)
		noted(t, f, "STORAGE_USERS_DRIVER is not set")
		equalList(t, "system paths", c.Layout.SystemPaths, root+"/nats")
		equalList(t, "also stop", c.Control.AlsoStop, "files")
		again, err := Again(context.Background(), c)
		if err != nil {
			t.Fatal(err)
		}
		equalList(t, "drift", Drift(c, again.Config))
		c.Layout.SystemPaths = nil
		c.Layout.Driver = opencloud.Posix
		equalList(t, "drift", Drift(c, again.Config),
			"layout.driver: the configuration says posix, OpenCloud uses decomposed",
			"layout.system_paths: OpenCloud keeps data in "+root+"/nats, which the configuration does not name")
	})

	t.Run("data inside the container", func(t *testing.T) {
		fakes(t, map[string]string{"docker": noEngine})
		write(t, in("docker-compose.yml"), "services:\n  opencloud:\n    image: opencloudeu/opencloud:4.0.0\n    volumes: [\"./c:/etc/opencloud\"]\n")
		write(t, in(".env"), "")
		_, err := Compose(context.Background(), ComposeOptions{Dir: dir, Command: []string{compose}})
		refused(t, err, "data directory /var/lib/opencloud lies inside the container")
	})

	t.Run("NFS volume", func(t *testing.T) {
		fakes(t, map[string]string{"docker": noEngine})
		write(t, in("docker-compose.yml"), "services:\n  opencloud:\n    image: opencloudeu/opencloud:4.0.0\n    volumes: [\"./c:/etc/opencloud\", \"data:/var/lib/opencloud\"]\n"+
			"volumes:\n  data:\n    driver_opts: {type: nfs, o: \"addr=nas\", device: \":/d\"}\n")
		_, err := Compose(context.Background(), ComposeOptions{Dir: dir, Command: []string{compose}})
		refused(t, err, "nfs mount", "takes away when the container stops")
	})

	t.Run("two servers", func(t *testing.T) {
		fakes(t, map[string]string{"docker": noEngine})
		svc := "    image: opencloudeu/opencloud:4.0.0\n    volumes: [\"./c:/etc/opencloud\", \"./d:/var/lib/opencloud\"]\n"
		write(t, in("docker-compose.yml"), "services:\n  a:\n"+svc+"  b:\n"+svc+"  web:\n    image: nginx\n")
		_, err := Compose(context.Background(), ComposeOptions{Dir: dir, Command: []string{compose}})
		refused(t, err, "several services", ": a, b", "--service")
		f, err := Compose(context.Background(), ComposeOptions{Dir: dir, Command: []string{compose}, Service: "b"})
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "service", f.Config.Control.Service, "b")
		_, err = Compose(context.Background(), ComposeOptions{Dir: dir, Command: []string{compose}, Service: "c"})
		refused(t, err, `no service "c": a, b, web`)
	})

	t.Run("no project", func(t *testing.T) {
		_, err := Compose(context.Background(), ComposeOptions{Dir: t.TempDir(), Command: []string{compose}})
		refused(t, err, "no compose project in")
		_, err = Compose(context.Background(), ComposeOptions{Dir: "/does/not/exist", Command: []string{compose}})
		refused(t, err, "there is no directory /does/not/exist")
	})

	t.Run("broken project", func(t *testing.T) {
		write(t, in("docker-compose.yml"), "services: [")
		_, err := Compose(context.Background(), ComposeOptions{Dir: dir, Command: []string{compose}})
		refused(t, err, "read the compose project in "+dir)
	})
}

func TestComposeCommand(t *testing.T) {
	const plugin = `[ "$1 $2" = "compose version" ] && echo 2.26.1-4 && exit; exit 1`
	for _, x := range []struct {
		name, docker, standalone string
		want                     []string
		refused                  string
	}{
		{"plugin", plugin, "exit 1", []string{"docker", "compose"}, ""},
		{"standalone", noEngine, "echo v2.26.1", []string{"docker-compose"}, ""},
		{"v1", noEngine, "echo 1.29.2", nil, "docker-compose is version 1.29.2"},
		{"none", noEngine, "exit 1", nil, "works here"},
	} {
		t.Run(x.name, func(t *testing.T) {
			fakes(t, map[string]string{"docker": x.docker, "docker-compose": x.standalone})
			got, err := composeCommand(context.Background(), nil)
			if x.refused != "" {
				refused(t, err, x.refused)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			equalList(t, "command", got, x.want...)
		})
	}
}

func TestProjectFiles(t *testing.T) {
	dir := t.TempDir()
	os.Unsetenv("COMPOSE_FILE")
	for _, f := range []string{"docker-compose.yml", "compose.yaml", "compose.override.yml", "a.yml", "b/c.yml"} {
		write(t, filepath.Join(dir, f), "")
	}
	files := func() []string {
		t.Helper()
		f, err := projectFiles(dir)
		if err != nil {
			t.Fatal(err)
		}
		for i := range f {
			f[i], _ = filepath.Rel(dir, f[i])
		}
		return f
	}
	equalList(t, "by name", files(), "compose.yaml", "compose.override.yml")
	write(t, filepath.Join(dir, ".env"), "COMPOSE_FILE=a.yml|$X|${Y:-b}/c.yml\nCOMPOSE_PATH_SEPARATOR=|\nX=compose.yaml\n")
	equalList(t, "by .env", files(), "a.yml", "compose.yaml", "b/c.yml")
	t.Setenv("COMPOSE_FILE", "a.yml")
	equalList(t, "by the environment", files(), "a.yml")
}
