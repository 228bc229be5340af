//go:build integration

package docker

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ocbackup/ocbackup/integration/env"
)

var ctx = context.Background()

// The files of a project made like OpenCloud's own, in several parts, with a
// database beside it.
const (
	composeMain = `services:
  opencloud:
    image: ${OC_DOCKER_IMAGE}:${OC_DOCKER_TAG}
    user: ${OC_CONTAINER_UID_GID:-1000:1000}
    entrypoint: ["/bin/sh"]
    command: ["-c", "opencloud init || true; opencloud server"]
    environment:
      OC_URL: https://${OC_DOMAIN:-localhost}
      STORAGE_USERS_DRIVER: posix
      STANDIN_INTERVAL: 50ms
      SECRET: "a$$b"
    volumes:
      - ./config/opencloud/csp.yaml:/etc/opencloud/csp.yaml
      - ${OC_CONFIG_DIR:-opencloud-config}:/etc/opencloud
      - ${OC_DATA_DIR:-opencloud-data}:/var/lib/opencloud
    restart: always
volumes:
  opencloud-config:
  opencloud-data:
`
	composeDatabase = `services:
  postgres:
    image: postgres:standin
    entrypoint: ["/bin/sh"]
    command: ["-c", "opencloud init || true; opencloud server"]
    volumes:
      - keycloak_postgres_data:/var/lib/opencloud
    restart: always
volumes:
  keycloak_postgres_data:
`
)

// project is an instance in a directory: the compose project in project/, config/
// and data/ unless they are volumes, ocbackup's files beside them.
type project struct {
	*env.DockerHost
	dir     string
	name    string
	image   string
	volumes bool     // config and data are volumes
	env     []string // of ocbackup
	config  string   // ocbackup.toml
	bucket  string   // directory of the bucket's objects; "" without one
	secrets []string // what ocbackup must not tell
}

// newProject makes a project and starts it. The image is of this version, which no
// other test may use that removes it.
func newProject(t *testing.T, version string, volumes bool) *project {
	t.Helper()
	p := prepareProject(t, version, volumes, "opencloud-4.0-posix")
	p.up(t)
	return p
}

// prepareProject makes a project, with bind mounts on a recorded tree.
func prepareProject(t *testing.T, version string, volumes bool, fixture string) *project {
	t.Helper()
	p := &project{DockerHost: env.Docker(t), dir: t.TempDir(), volumes: volumes}
	p.name = "oc" + strings.ReplaceAll(version, ".", "")
	p.image = p.Image(t, version)
	p.Docker(t, "tag", p.image, "postgres:standin")
	if err := os.Chmod(p.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	name, tag, _ := strings.Cut(p.image, ":")
	vars := []string{
		"COMPOSE_FILE=docker-compose.yml:idm/postgres.yml", "COMPOSE_PATH_SEPARATOR=:", "COMPOSE_PROJECT_NAME=" + p.name,
		"OC_DOCKER_IMAGE=" + name, "OC_DOCKER_TAG=" + tag, "OC_DOMAIN=cloud.test",
	}
	if !volumes {
		vars = append(vars, "OC_CONFIG_DIR="+p.path("config"), "OC_DATA_DIR="+p.path("data"))
		env.ExtractFixture(t, fixture, p.dir)
		mustRun(t, "chown", "-R", "1000:1000", p.path("config"), p.path("data"))
	}
	p.write(t, "project/.env", strings.Join(vars, "\n")+"\n")
	p.write(t, "project/docker-compose.yml", composeMain)
	p.write(t, "project/idm/postgres.yml", composeDatabase)
	p.write(t, "project/config/opencloud/csp.yaml", "directives: {}\n")
	p.config = p.path("ocbackup.toml")
	p.env = append(p.Env(), "OCBACKUP_CONFIG="+p.config)
	t.Cleanup(func() { p.remove(t) })
	return p
}

// remove removes all that a project has, whatever is left of its files.
func (p *project) remove(t *testing.T) {
	filter := "label=com.docker.compose.project=" + p.name
	for _, x := range [][]string{{"ps", "-aq"}, {"volume", "ls", "-q"}, {"network", "ls", "-q"}} {
		ids := strings.Fields(env.Exec(ctx, p.Env(), "docker", append(x, "--filter", filter)...).Stdout)
		kind := [][]string{{"rm", "-fv"}, {"volume", "rm", "-f"}, {"network", "rm"}}[map[string]int{"ps": 0, "volume": 1, "network": 2}[x[0]]]
		if len(ids) > 0 {
			if r := env.Exec(ctx, p.Env(), "docker", append(kind, ids...)...); r.Code != 0 {
				t.Log(r.Stderr)
			}
		}
	}
}

func mustRun(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
	return strings.TrimSpace(string(out))
}

func (p *project) path(elem ...string) string {
	return filepath.Join(append([]string{p.dir}, elem...)...)
}

func (p *project) write(t *testing.T, name, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(p.path(name)), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(p.path(name), []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// configDir and dataDir are where the instance's directories lie on this host.
func (p *project) configDir() string {
	if p.volumes {
		return filepath.Join(p.Dir, "volumes", p.name+"_opencloud-config", "_data")
	}
	return p.path("config")
}

func (p *project) dataDir() string {
	if p.volumes {
		return filepath.Join(p.Dir, "volumes", p.name+"_opencloud-data", "_data")
	}
	return p.path("data")
}

// compose runs compose in the project's directory, where its .env and COMPOSE_FILE
// are found.
func (p *project) compose(t *testing.T, args ...string) {
	t.Helper()
	cmd := exec.Command(env.Tools("bin/docker-compose"), args...)
	cmd.Dir = p.path("project")
	cmd.Env = append(os.Environ(), p.Env()...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("docker-compose %v: %v\n%s", args, err, out)
	}
}

// up starts the project and waits until the server answers.
func (p *project) up(t *testing.T) {
	t.Helper()
	p.compose(t, "up", "-d")
	p.awaitAnswer(t)
}

// init runs "ocbackup init" for the project, and makes the waiting short.
func (p *project) init(t *testing.T, more ...string) string {
	t.Helper()
	r := p.run(t, append([]string{
		"--state-dir", p.path("state"), "init", "--compose", p.path("project"), "--name", p.name,
		"--repository", p.path("repository"), "--restic", env.Restic(t, "0.18"),
	}, more...)...)
	wants(t, r, 0)
	return r.Stdout
}

// run runs ocbackup to its end.
func (p *project) run(t *testing.T, args ...string) env.Result {
	t.Helper()
	return p.runWith(t, nil, args...)
}

// runWith is run with additions to the environment.
func (p *project) runWith(t *testing.T, extra []string, args ...string) env.Result {
	t.Helper()
	return p.exec(t, append(append([]string{}, p.env...), extra...), append([]string{env.Ocbackup(t)}, args...)...)
}

// exec runs ocbackup, or what calls it, on the host of the engine: containers with an
// S3 server are reached in its network only.
func (p *project) exec(t *testing.T, vars []string, command ...string) env.Result {
	t.Helper()
	r := env.Exec(ctx, vars, "nsenter", p.NetArgs(command...)...)
	for _, s := range p.secrets {
		if strings.Contains(r.Stdout+r.Stderr, s) {
			t.Errorf("it tells the secret %s:\n%s%s", s, r.Stdout, r.Stderr)
		}
	}
	return r
}

// bare runs ocbackup on a host that knows nothing: /etc/ocbackup is empty there, and
// afterwards in this directory.
func (p *project) bare(t *testing.T, args ...string) (r env.Result, etc string) {
	t.Helper()
	etc = newEtc(t)
	return p.bareOn(t, etc, args...), filepath.Join(etc, "up/ocbackup")
}

// bareOn is bare with what newEtc has made.
func (p *project) bareOn(t *testing.T, etc string, args ...string) env.Result {
	t.Helper()
	return p.exec(t, p.Env(), append([]string{
		"unshare", "-m", "sh", "-c",
		`mount -t overlay overlay -o "lowerdir=/etc,upperdir=$0/up,workdir=$0/work" /etc && { [ -d "$0/up/ocbackup" ] || rm -rf /etc/ocbackup; } && exec "$@"`, etc,
		env.Ocbackup(t),
	}, args...)...)
}

// newEtc makes a directory for the changes to the /etc of a new host: in up/ there.
func newEtc(t *testing.T) string {
	t.Helper()
	etc := t.TempDir()
	for _, d := range []string{"up", "work"} {
		if err := os.Mkdir(filepath.Join(etc, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return etc
}

func wants(t *testing.T, r env.Result, code int, says ...string) {
	t.Helper()
	if r.Code != code {
		t.Fatalf("exit code %d, want %d\n%s%s", r.Code, code, r.Stdout, r.Stderr)
	}
	for _, s := range says {
		if !strings.Contains(r.Stdout+r.Stderr, s) {
			t.Errorf("it does not say %q:\n%s%s", s, r.Stdout, r.Stderr)
		}
	}
}

// backup makes a backup that has to succeed, and returns the set's id.
func (p *project) backup(t *testing.T) string {
	t.Helper()
	r := p.run(t, "--json", "backup")
	wants(t, r, 0)
	var res struct{ Set string }
	if err := json.Unmarshal([]byte(r.Stdout), &res); err != nil || res.Set == "" {
		t.Fatalf("no set in the result (%v): %s", err, r.Stdout)
	}
	return res.Set
}

// imageSnapshot is the snapshot of the container image in the newest set.
func (p *project) imageSnapshot(t *testing.T) string {
	t.Helper()
	r := p.run(t, "--json", "show")
	wants(t, r, 0)
	var set struct {
		Manifest struct {
			Roots []struct {
				Name, Snapshot string
			}
			Image struct{ Ref string }
		}
	}
	if err := json.Unmarshal([]byte(r.Stdout), &set); err != nil {
		t.Fatal(err)
	}
	if set.Manifest.Image.Ref != p.image {
		t.Errorf("the image of the set is %q", set.Manifest.Image.Ref)
	}
	for _, r := range set.Manifest.Roots {
		if r.Name == "binary" {
			return r.Snapshot
		}
	}
	t.Fatalf("the set has no image: %s", r.Stdout)
	return ""
}

// container is the id of the instance's container; "" when it has none.
func (p *project) container() string {
	return strings.TrimSpace(env.Exec(ctx, p.Env(), "docker", "ps", "-aq", "--no-trunc",
		"--filter", "label=com.docker.compose.project="+p.name, "--filter", "label=com.docker.compose.service=opencloud").Stdout)
}

// inspect asks the engine about the instance's container.
func (p *project) inspect(t *testing.T, format string) string {
	t.Helper()
	return p.Docker(t, "inspect", "-f", format, p.container())
}

// get asks the server for a page, inside its own network, and returns the status
// code; "000" without an answer.
func (p *project) get(path string, curl ...string) string {
	pid := strings.TrimSpace(env.Exec(ctx, p.Env(), "docker", "inspect", "-f", "{{.State.Pid}}", p.container()).Stdout)
	if pid == "" || pid == "0" {
		return "000"
	}
	args := append([]string{"-t", pid, "--net", "--", "curl", "-sk", "-m", "10", "-o", "/dev/null", "-w", "%{http_code}"}, curl...)
	return env.Exec(ctx, nil, "nsenter", append(args, "https://127.0.0.1:9200"+path)...).Stdout
}

func (p *project) awaitAnswer(t *testing.T) {
	t.Helper()
	env.Eventually(t, 60*time.Second, "the server answers", func() bool { return p.get("/graph/v1.0/me") == "401" })
}

// running asserts that the instance runs, that people can log in, and that nothing
// is left of a run that would have to bring it back.
func (p *project) running(t *testing.T) {
	t.Helper()
	if got := p.inspect(t, "{{.State.Status}}"); got != "running" {
		t.Fatalf("the container is %s", got)
	}
	if code := p.get("/graph/v1.0/me"); code != "401" {
		t.Fatalf("the server answers %s", code)
	}
	if !p.volumes {
		// The recorded one has a known user.
		if code := p.get("/graph/v1.0/me/drives", "-u", "admin:admin"); code != "200" {
			t.Fatalf("a log-in is answered with %s", code)
		}
	}
	if b, err := os.ReadFile(p.path("state/journal.json")); err == nil {
		t.Fatalf("a journal is left: %s", b)
	}
}

// check has the stand-in check the copy of the instance below root: 0 consistent, 1
// not, 3 attributes lost.
func (p *project) check(t *testing.T, root string) env.Result {
	t.Helper()
	driver, args := "posix", []string{"check"}
	if p.bucket != "" {
		driver, args = "decomposeds3", append(args, p.bucket)
		if root != "" {
			args[1] = root + "/bucket" // the copy's objects, not those of now
		}
	}
	return env.Exec(ctx, []string{
		"OC_CONFIG_DIR=" + root + p.configDir(), "OC_BASE_DATA_PATH=" + root + p.dataDir(), "STORAGE_USERS_DRIVER=" + driver,
	}, env.Standin(t), args...)
}

// good asserts that the instance runs, and that the next backup is good, consistent
// and complete.
func (p *project) good(t *testing.T) {
	t.Helper()
	p.running(t)
	id := p.backup(t)
	p.running(t)
	copied := p.path("copy-" + id)
	wants(t, p.run(t, "restore", "--target", copied, id), 0)
	wants(t, p.check(t, copied), 0)
	if err := os.RemoveAll(copied); err != nil {
		t.Fatal(err)
	}
}
