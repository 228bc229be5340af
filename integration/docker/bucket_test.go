//go:build integration

package docker

import (
	"encoding/json"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ocbackup/ocbackup/integration/env"
)

// The parts of a project that keeps its files' contents in a bucket, made like
// OpenCloud's own. What the server's name is known by differs.
const (
	composeBucket = `services:
  opencloud:
    environment:
      STORAGE_USERS_DRIVER: decomposeds3
      STORAGE_USERS_DECOMPOSEDS3_ENDPOINT: ${DECOMPOSEDS3_ENDPOINT:-http://minio:9000}
      STORAGE_USERS_DECOMPOSEDS3_REGION: ${DECOMPOSEDS3_REGION:-us-east-1}
      STORAGE_USERS_DECOMPOSEDS3_ACCESS_KEY: ${DECOMPOSEDS3_ACCESS_KEY}
      STORAGE_USERS_DECOMPOSEDS3_SECRET_KEY: ${DECOMPOSEDS3_SECRET_KEY}
      STORAGE_USERS_DECOMPOSEDS3_BUCKET: ${DECOMPOSEDS3_BUCKET:-opencloud-bucket}
`
	composeOnHost = `services:
  opencloud:
    extra_hosts:
      - minio:host-gateway
`
	composeInProject = `services:
  minio:
    image: minio:standin
    environment:
      ROOT_ACCESS_KEY: ${DECOMPOSEDS3_ACCESS_KEY}
      ROOT_SECRET_KEY: ${DECOMPOSEDS3_SECRET_KEY}
    volumes:
      - minio-data:/data
    restart: always
volumes:
  minio-data:
`
)

// newBucketProject makes a project with a bucket; server is the part of it that says
// where minio is. Nothing is started.
func newBucketProject(t *testing.T, version string, volumes bool, server, endpoint, access, secret string) *project {
	t.Helper()
	p := prepareProject(t, version, volumes, "opencloud-4.0-decomposeds3")
	p.write(t, "project/storage/decomposeds3.yml", composeBucket)
	p.write(t, "project/storage/minio.yml", server)
	p.append(t, "project/.env",
		"COMPOSE_FILE=docker-compose.yml:storage/decomposeds3.yml:storage/minio.yml",
		"DECOMPOSEDS3_ENDPOINT="+endpoint, "DECOMPOSEDS3_ACCESS_KEY="+access, "DECOMPOSEDS3_SECRET_KEY="+secret)
	p.secrets = []string{access, secret}
	return p
}

// The S3 server is another machine's, or this host's: containers know it by a name
// that they were given.
func TestBucketOnHost(t *testing.T) {
	t.Parallel()
	s := env.S3Server(t)
	s.Bucket(t, env.BucketName)
	endpoint := "http://minio:" + env.Docker(t).Expose(t, s.Endpoint)
	p := newBucketProject(t, "4.0.5", false, composeOnHost, endpoint, s.AccessKey, s.SecretKey)
	s.LoadBucket(t, env.BucketName, p.path("bucket"))
	p.bucket = filepath.Join(s.Dir, env.BucketName)
	p.up(t)
	p.bucketThereAndBack(t, endpoint)

	// The host dies. The new one knows by /etc/hosts what containers know by the project.
	p.lose(t)
	p.empty(t, p.bucket)
	etc := newEtc(t)
	if err := os.WriteFile(filepath.Join(etc, "up/hosts"), []byte("127.0.0.1 localhost minio\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	wants(t, p.bareOn(t, etc, append([]string{"restore"}, p.access(t)...)...), 0, "Objects: ")
	p.goodOn(t, etc)
}

// The S3 server is a service of the project.
func TestBucketInProject(t *testing.T) {
	t.Parallel()
	h := env.Docker(t)
	minioImage(t, h)
	const endpoint = "http://minio:9000"
	p := newBucketProject(t, "4.0.6", true, composeInProject, endpoint, "opencloud-access", "opencloud-secret-key")
	p.bucket = filepath.Join(h.Dir, "volumes", p.name+"_minio-data", "_data", env.BucketName)
	p.up(t)
	out := p.bucketThereAndBack(t, endpoint)
	if want := "service minio: volume " + p.name + "_minio-data (all but OpenCloud's bucket)"; !strings.Contains(out, want) {
		t.Errorf("init does not say %q:\n%s", want, out)
	}

	// The host dies, and the S3 server with it, of which no set holds anything but the
	// bucket. So the project comes first, and the server is started.
	p.lose(t)
	etc := newEtc(t)
	wants(t, p.bareOn(t, etc, append([]string{"restore"}, p.access(t)...)...), 2, "minio", "is not known on this host")
	wants(t, p.bareOn(t, etc, append([]string{"restore", "--component", "config", "--no-start"}, p.access(t)...)...), 0)
	p.compose(t, "up", "-d", "minio")
	wants(t, p.bareOn(t, etc, "restore", "--yes"), 0, "Objects: ")
	p.goodOn(t, etc)
}

// access is what a host that knows nothing has to be told.
func (p *project) access(t *testing.T) []string {
	t.Helper()
	return []string{"--repository", p.path("repository"), "--password-file", p.path("password"), "--restic", env.Restic(t, "0.18")}
}

// lose removes all of the project but repository, pool and password.
func (p *project) lose(t *testing.T) {
	t.Helper()
	p.compose(t, "down", "-v", "-t", "5")
	p.Docker(t, "image", "rm", p.image)
	for _, dir := range []string{"project", "config", "data", "state", "ocbackup.toml"} {
		if err := os.RemoveAll(p.path(dir)); err != nil {
			t.Fatal(err)
		}
	}
}

// goodOn asserts that what was restored on a new host is consistent and runs, and that
// backups go on with the configuration that was written back there.
func (p *project) goodOn(t *testing.T, etc string) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(etc, "up/ocbackup/ocbackup.toml"))
	if err != nil {
		t.Fatal(err)
	}
	p.write(t, "ocbackup.toml", string(b))
	p.tellsNothing(t, p.config)
	p.running(t)
	p.Docker(t, "stop", "-t", "30", p.container())
	wants(t, p.check(t, ""), 0)
	p.Docker(t, "start", p.container())
	p.awaitAnswer(t)
	p.good(t)
}

// minioImage makes the image of an S3 server with an empty bucket.
func minioImage(t *testing.T, h *env.DockerHost) {
	t.Helper()
	gateway := env.Tools("bin/versitygw")
	if _, err := os.Stat(gateway); err != nil {
		env.Need(t, err)
	}
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "data", env.BucketName), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(gateway, filepath.Join(dir, "minio")); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sh", "-c", `tar -C "$0" -ch . | docker import `+
		`-c 'ENTRYPOINT ["/minio", "--port", ":9000", "--quiet", "posix", "/data"]' -c 'VOLUME /data' - minio:standin`, dir)
	cmd.Env = append(os.Environ(), h.Env()...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("docker import: %v: %s", err, out)
	}
}

// bucketThereAndBack goes from init to the restore of all data on the same host, and
// returns what init said.
func (p *project) bucketThereAndBack(t *testing.T, endpoint string) string {
	t.Helper()
	out := p.init(t, "--pool", p.path("pool"))
	for _, want := range []string{"decomposeds3", env.BucketName + " at " + endpoint, p.path("pool")} {
		if !strings.Contains(out, want) {
			t.Errorf("init does not say %q:\n%s", want, out)
		}
	}
	wants(t, p.run(t, "doctor"), 0, env.BucketName, "can be listed")

	// OpenCloud runs, and is stopped in the midst of it.
	p.good(t)
	// OpenCloud is stopped from the beginning, and nothing changes any more.
	p.Docker(t, "stop", "-t", "30", p.container())
	p.backup(t)
	then := p.objects(t)
	id := p.backup(t)
	if b := p.bucketOf(t, id); b.New != 0 || b.Objects != len(then) || b.Objects == 0 {
		t.Errorf("of %d objects the set has %d, and %d were copied again", len(then), b.Objects, b.New)
	}
	wants(t, p.run(t, "list"), 0, id)
	wants(t, p.run(t, "doctor"), 0, "can be listed")
	wants(t, p.run(t, "bucket", "status"), 0, "lost           none")

	if p.empty(t, p.bucket); p.check(t, "").Code != 1 {
		t.Fatal("the loss does not show")
	}
	p.empty(t, p.configDir())
	p.empty(t, p.dataDir())
	wants(t, p.run(t, "restore", "--yes", "--no-start", id), 0, "Objects: ")
	if got := p.objects(t); !maps.Equal(got, then) {
		t.Errorf("the bucket has %d objects, had %d", len(got), len(then))
	}
	wants(t, p.check(t, ""), 0)
	p.Docker(t, "start", p.container())
	p.awaitAnswer(t)
	p.good(t)

	for _, dir := range []string{"pool", "state", "ocbackup.toml"} {
		p.tellsNothing(t, p.path(dir))
	}
	return out
}

// append appends lines to a file.
func (p *project) append(t *testing.T, name string, lines ...string) {
	t.Helper()
	b, err := os.ReadFile(p.path(name))
	if err != nil {
		t.Fatal(err)
	}
	p.write(t, name, string(b)+strings.Join(lines, "\n")+"\n")
}

// objects are the contents of the bucket by key.
func (p *project) objects(t *testing.T) map[string]string {
	t.Helper()
	all := readAll(t, p.bucket)
	maps.DeleteFunc(all, func(key, _ string) bool { return strings.HasPrefix(key, ".sgwtmp/") }) // the server's own
	return all
}

// empty removes all that is in a directory.
func (p *project) empty(t *testing.T, dir string) {
	t.Helper()
	mustRun(t, "find", dir, "-mindepth", "1", "-delete")
}

// bucketOf is what a set holds of the bucket.
func (p *project) bucketOf(t *testing.T, id string) (b struct{ Objects, New int }) {
	t.Helper()
	r := p.run(t, "--json", "show", id)
	wants(t, r, 0)
	set := struct{ Manifest struct{ Bucket any } }{}
	set.Manifest.Bucket = &b
	if err := json.Unmarshal([]byte(r.Stdout), &set); err != nil {
		t.Fatal(err)
	}
	return b
}

// tellsNothing asserts that no file below a directory holds a secret.
func (p *project) tellsNothing(t *testing.T, dir string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		for _, s := range p.secrets {
			if strings.Contains(string(b), s) {
				t.Errorf("%s holds the secret %s", path, s)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
