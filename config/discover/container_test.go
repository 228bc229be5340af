package discover

import (
	"context"
	"os"
	"strings"
	"testing"

	"github.com/ocbackup/ocbackup/config"
	"github.com/ocbackup/ocbackup/opencloud"
)

// oneContainer is what Docker 28 prints for a container, as far as it matters here.
const oneContainer = `[{"Id":"c0ffee","Name":"/oc","Image":"sha256:1d","Config":{"Image":"opencloudeu/opencloud:4.0.0",
"Env":["OC_URL=https://cloud.example.com","STORAGE_USERS_DRIVER=posix","PATH=/usr/bin"],"Labels":{%LABELS%}},
"HostConfig":{"RestartPolicy":{"Name":"unless-stopped","MaximumRetryCount":0}},
"Mounts":[{"Type":"volume","Name":"cfg","Source":"/srv/docker/cfg/_data","Destination":"/etc/opencloud","Driver":"local","Mode":"z","RW":true},
{"Type":"bind","Source":"%DIR%","Destination":"/var/lib/opencloud","Mode":"","RW":true}]}]`

func dockerWithContainer(t *testing.T, labels string) string {
	t.Helper()
	dir := t.TempDir()
	write(t, dir+"/inspect.json", strings.NewReplacer("%LABELS%", labels, "%DIR%", dir).Replace(oneContainer))
	fake := `case "$1" in ps) case "$*" in *Label*) printf 'oc\topencloudeu/opencloud:4.0.0\t\t\t"/bin/sh"\nweb\tnginx\t\t\tnginx\n';; *) echo oc; echo web;; esac; exit;; esac
case "$1 $2 $3" in "container inspect oc") cat ` + dir + `/inspect.json; exit;; esac
` + engineWith("/srv/docker")
	fakes(t, map[string]string{"docker": fake, "podman": fake, "docker-compose": "exit 1", "systemctl": "exit 1"})
	return dir
}

func TestContainer(t *testing.T) {
	for _, typ := range []string{"docker", "podman"} {
		t.Run(typ, func(t *testing.T) {
			dir := dockerWithContainer(t, "")
			f, err := Container(context.Background(), ContainerOptions{Name: "oc", Type: typ})
			if err != nil {
				t.Fatal(err)
			}
			c := f.Config
			equal(t, "type", c.Control.Type, typ)
			equal(t, "container", c.Control.Container, "oc")
			equal(t, "driver", c.Layout.Driver, opencloud.Posix)
			equal(t, "config dir", c.Layout.ConfigDir, "/srv/docker/cfg/_data")
			equal(t, "data dir", c.Layout.DataDir, dir)
			equal(t, "in container", c.Ready.InContainer, true)
			equal(t, "restart", f.Restart, "unless-stopped")
			equal(t, "digest", f.Digest, "sha256:d1ge57")
			if err := complete(c); err != nil {
				t.Error(err)
			}
			again, err := Again(context.Background(), c)
			if err != nil {
				t.Fatal(err)
			}
			equalList(t, "drift", Drift(c, again.Config))
		})
	}
}

// TestContainerBucket: the keys of a container's instance come from the container.
func TestContainerBucket(t *testing.T) {
	dir := dockerWithContainer(t, "")
	file := dir + "/inspect.json"
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	write(t, file, strings.Replace(string(text), "STORAGE_USERS_DRIVER=posix", `STORAGE_USERS_DRIVER=decomposeds3","STORAGE_USERS_DECOMPOSEDS3_ENDPOINT=http://10.0.0.5:9000",`+
		`"STORAGE_USERS_DECOMPOSEDS3_BUCKET=oc","STORAGE_USERS_DECOMPOSEDS3_ACCESS_KEY=id","STORAGE_USERS_DECOMPOSEDS3_SECRET_KEY=s3cret`, 1))
	f, err := Container(context.Background(), ContainerOptions{Name: "oc", Type: "docker"})
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "bucket", f.Config.Bucket, config.Bucket{Endpoint: "http://10.0.0.5:9000", Region: "default", Name: "oc"})
	keys(t, f.Config, "id", "s3cret")
}

func TestContainerOfUnit(t *testing.T) {
	dockerWithContainer(t, `"PODMAN_SYSTEMD_UNIT":"oc.service"`)
	f, err := Container(context.Background(), ContainerOptions{Name: "oc", Type: "podman"})
	if err != nil {
		t.Fatal(err)
	}
	noted(t, f, "systemd unit oc.service")
}

func TestContainerRefuses(t *testing.T) {
	dockerWithContainer(t, "")
	_, err := Container(context.Background(), ContainerOptions{Name: "nope", Type: "docker"})
	refused(t, err, `docker has no container "nope": oc, web`, "--container")
	fakes(t, map[string]string{"docker": noEngine})
	_, err = Container(context.Background(), ContainerOptions{Name: "oc", Type: "docker"})
	refused(t, err, "Cannot connect to the Docker daemon")
}

// TestContainerOfProject: a container that compose made is controlled through compose.
func TestContainerOfProject(t *testing.T) {
	compose := dockerCompose(t)
	dir := copyProject(t)
	labels := `"com.docker.compose.project":"cloud","com.docker.compose.service":"opencloud","com.docker.compose.project.working_dir":"` + dir +
		`","com.docker.compose.project.config_files":"` + dir + `/docker-compose.yml"`
	dockerWithContainer(t, labels)
	// The standalone compose by that name.
	bin := t.TempDir()
	if err := os.Symlink(compose, bin+"/docker-compose"); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	f, err := Container(context.Background(), ContainerOptions{Name: "oc", Type: "docker"})
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "type", f.Config.Control.Type, "compose")
	equal(t, "dir", f.Config.Control.ProjectDir, dir)
	equalList(t, "files", f.Config.Control.Files)
	noted(t, f, "it is controlled through compose")

	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	f, err = Container(context.Background(), ContainerOptions{Name: "oc", Type: "docker"})
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "type", f.Config.Control.Type, "docker")
	noted(t, f, "which can't be used")
}

func TestAuto(t *testing.T) {
	t.Run("container", func(t *testing.T) {
		t.Chdir(t.TempDir())
		dockerWithContainer(t, "")
		f, err := Auto(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "container", f.Config.Control.Container, "oc")
	})
	t.Run("compose project", func(t *testing.T) {
		compose := dockerCompose(t)
		t.Chdir(copyProject(t))
		fakes(t, map[string]string{"docker": engineWith("/srv/docker"), "docker-compose": "exec " + compose + ` "$@"`})
		f, err := Auto(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "type", f.Config.Control.Type, "compose")
	})
	t.Run("unit", func(t *testing.T) {
		t.Chdir(t.TempDir())
		unitDir(t, os.Args[0], "0")
		fakes(t, map[string]string{"docker": noEngine, "podman": "exit 1"})
		f, err := Auto(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "unit", f.Config.Control.Unit, "opencloud.service")
	})
	t.Run("several containers", func(t *testing.T) {
		t.Chdir(t.TempDir())
		fakes(t, map[string]string{"docker": `printf 'b\topencloudeu/opencloud:4\t\t\tsh\na\topencloudeu/opencloud:4\t\t\tsh\n'`})
		_, err := Auto(context.Background())
		refused(t, err, "several containers of docker may be OpenCloud: a, b", "--container")
	})
	t.Run("one project, two services", func(t *testing.T) {
		fakes(t, map[string]string{"docker": `printf 'p-collaboration-1\topencloudeu/opencloud:4\tp\tcollaboration\tsh\np-opencloud-1\topencloudeu/opencloud:4\tp\topencloud\tsh\n'`})
		names, err := serverContainers(context.Background(), engine{program: "docker"})
		if err != nil {
			t.Fatal(err)
		}
		equalList(t, "names", names, "p-opencloud-1")
	})
	t.Run("nothing", func(t *testing.T) {
		t.Chdir(t.TempDir())
		fakes(t, map[string]string{"docker": noEngine, "podman": "exit 1", "systemctl": "exit 0"})
		_, err := Auto(context.Background())
		refused(t, err, "there is none", "docker: ", "systemd: no unit", "--compose DIR, --systemd UNIT")
	})
}

func TestPaths(t *testing.T) {
	dir := t.TempDir()
	mkdirs(t, dir+"/config", dir+"/data/storage/users/spaces")
	f, err := Paths(PathsOptions{ConfigDir: dir + "/config", DataDir: dir + "/data"})
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "type", f.Config.Control.Type, "none")
	equal(t, "driver", f.Config.Layout.Driver, opencloud.Decomposed)
	if err := complete(f.Config); err != nil {
		t.Error(err)
	}
	if again, err := Again(context.Background(), f.Config); again != nil || err != nil {
		t.Error(again, err)
	}
	f, err = Paths(PathsOptions{ConfigDir: dir + "/config", DataDir: dir + "/data", Driver: "posix", Start: []string{"a"}, Stop: []string{"b"}, Status: []string{"c"}})
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "type", f.Config.Control.Type, "command")
	equal(t, "driver", f.Config.Layout.Driver, opencloud.Posix)
	_, err = Paths(PathsOptions{ConfigDir: dir + "/config"})
	refused(t, err, "--data-dir is missing")
	_, err = Paths(PathsOptions{ConfigDir: dir + "/no", DataDir: dir})
	refused(t, err, "there is no directory "+dir+"/no")
}

// TestDriftFollowsLinks: the same directory by another name is no drift.
func TestDriftFollowsLinks(t *testing.T) {
	dir := t.TempDir()
	mkdirs(t, dir+"/config", dir+"/data")
	if err := os.Symlink(dir+"/data", dir+"/link"); err != nil {
		t.Fatal(err)
	}
	a, err := Paths(PathsOptions{ConfigDir: dir + "/config", DataDir: dir + "/data", Driver: "posix"})
	if err != nil {
		t.Fatal(err)
	}
	b, err := Paths(PathsOptions{ConfigDir: dir + "/config", DataDir: dir + "/link", Driver: "posix"})
	if err != nil {
		t.Fatal(err)
	}
	mkdirs(t, dir+"/data/storage/users", dir+"/data/search")
	equalList(t, "drift", Drift(a.Config, b.Config))
}
