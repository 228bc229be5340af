//go:build integration

package docker

import (
	"os"
	"strings"
	"testing"

	"github.com/ocbackup/ocbackup/integration/env"
)

// A container without compose: the same way there and back.
func TestContainer(t *testing.T) {
	t.Parallel()
	p := &project{DockerHost: env.Docker(t), dir: t.TempDir(), name: "plain-oc"}
	p.image = p.Image(t, "4.0.4")
	p.config = p.path("ocbackup.toml")
	p.env = append(p.Env(), "OCBACKUP_CONFIG="+p.config)
	if err := os.Chmod(p.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	env.ExtractFixture(t, "opencloud-4.0-posix", p.dir)
	mustRun(t, "chown", "-R", "1000:1000", p.path("config"), p.path("data"))
	create := []string{
		"run", "-d", "--name", p.name, "--restart", "unless-stopped", "-e", "OC_URL=https://cloud.test", "-e", "STANDIN_INTERVAL=50ms",
		"--label", "com.docker.compose.project=" + p.name, "--label", "com.docker.compose.service=opencloud", // for the helpers
		"-v", p.path("config") + ":/etc/opencloud", "-v", p.path("data") + ":/var/lib/opencloud", p.image,
	}
	p.Docker(t, create...)
	t.Cleanup(func() { p.remove(t) })
	p.awaitAnswer(t)

	wants(t, p.run(t, "init", "--dry-run", "--container", "nosuch", "--repository", p.path("repository")), 2, p.name)
	r := p.run(t, "--state-dir", p.path("state"), "init", "--container", p.name, "--name", p.name,
		"--repository", p.path("repository"), "--restic", env.Restic(t, "0.18"))
	wants(t, r, 0, "docker container "+p.name, p.image, p.path("data"))
	wants(t, p.run(t, "doctor"), 0)
	wants(t, p.run(t, "backup"), 0, "image "+p.image+" stored")
	p.good(t)

	p.Docker(t, "kill", p.container())
	mustRun(t, "rm", "-rf", p.path("config"), p.path("data"))
	wants(t, p.run(t, "restore", "--yes"), 0)
	p.running(t)

	// The container itself can't be made by ocbackup: it says what to do, and the data
	// is there when that is done.
	p.Docker(t, "rm", "-f", p.container())
	p.Docker(t, "image", "rm", p.image)
	mustRun(t, "rm", "-rf", p.path("config"), p.path("data"))
	r = p.run(t, "restore", "--yes")
	wants(t, r, 1, "docker run --name "+p.name, "was loaded from the set")
	if strings.Contains(r.Stderr, "NOT BACK") {
		t.Errorf("it asks for more than is needed:\n%s", r.Stderr)
	}
	p.Docker(t, create...)
	p.awaitAnswer(t)
	p.running(t)
	p.Docker(t, "stop", "-t", "30", p.container())
	wants(t, p.check(t, ""), 0)
	p.Docker(t, "start", p.container())
	p.awaitAnswer(t)
	p.good(t)
}
