package control

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/integration/env"
)

// composeProject writes a project: opencloud, what it depends on, and what depends
// on it; nothing is up yet.
func composeProject(t *testing.T, h *env.DockerHost) (dir string) {
	t.Helper()
	dir = t.TempDir()
	const service = `
    image: ${IMAGE}
    network_mode: none
    entrypoint: [/bin/sh]
    command: ["-c", "opencloud init || true; opencloud server"]
`
	for name, text := range map[string]string{
		".env":        "IMAGE=" + h.Image(t, version) + "\nCOMPOSE_FILE=main.yaml:more.yaml\n",
		"main.yaml":   "name: control-test\nservices:\n  opencloud:" + service + "    environment: {GREETING: hello}\n    depends_on: [db]\n  db:" + service,
		"more.yaml":   "services:\n  front:" + service + "    depends_on: [opencloud]\n",
		"broken.yaml": "services: [",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { _, _ = dockerCompose(context.Background(), h, dir, "down", "--volumes", "--timeout", "0") })
	return dir
}

// dockerCompose does what an admin does in the project's directory.
func dockerCompose(ctx context.Context, h *env.DockerHost, dir string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "docker-compose", args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), h.Env()...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("docker-compose %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return string(out), err
}

func TestCompose(t *testing.T) {
	h := realDocker(t)
	admin := func(t *testing.T, dir string, args ...string) string {
		t.Helper()
		out, err := dockerCompose(t.Context(), h, dir, args...)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	for _, tt := range []struct {
		name    string
		compose []string
	}{
		{"plugin", nil}, // is found
		{"standalone", []string{"docker-compose"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := composeProject(t, h)
			cfg := Config{
				Type: "compose", ProjectDir: dir, Service: "opencloud", AlsoStop: []string{"front"},
				Compose: tt.compose, EngineHost: h.Host,
			}
			c := must(t, cfg)
			status(t, c, Absent)
			if err := c.Stop(t.Context()); err != nil {
				t.Fatal(err)
			}
			if v, err := Version(t.Context(), c); err != nil || v != version {
				t.Errorf("version without a container: %q, %v", v, err)
			}
			admin(t, dir, "up", "--detach")
			before := status(t, c, Running)
			equal(t, "also", before.Also, []string{"front"})
			if before.PID == 0 {
				t.Errorf("status %+v", before)
			}
			if v, err := Version(t.Context(), c); err != nil || v != version {
				t.Errorf("version while it runs: %q, %v", v, err)
			}
			if err := c.Stop(t.Context()); err != nil {
				t.Fatal(err)
			}
			if st := status(t, c, Stopped); st.Stamp != before.Stamp || len(st.Also) != 0 {
				t.Errorf("status %+v, before %+v", st, before)
			}
			if v, err := Version(t.Context(), c); err != nil || v != version {
				t.Errorf("version while it is stopped: %q, %v", v, err)
			}

			// What the admin has stopped stays stopped.
			admin(t, dir, "stop", "db")
			if err := c.Start(t.Context(), before.Also); err != nil {
				t.Fatal(err)
			}
			if after := status(t, c, Running); after.Stamp == before.Stamp || len(after.Also) != 1 {
				t.Errorf("status %+v, before %+v", after, before)
			}
			if out := admin(t, dir, "ps", "--services", "--filter", "status=running"); strings.Contains(out, "db") {
				t.Errorf("db runs: %s", out)
			}

			// Without its container it is made anew, by another ocbackup that knows the name.
			admin(t, dir, "rm", "--force", "--stop", "opencloud")
			cfg.Project = "control-test"
			c = must(t, cfg)
			status(t, c, Absent)
			if err := c.Start(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
			status(t, c, Running)

			// With the name, broken files do not keep it from being stopped and started.
			cfg.Files = []string{"broken.yaml"}
			c = must(t, cfg)
			if err := errors.Join(c.Stop(t.Context()), c.Start(t.Context(), nil)); err != nil {
				t.Fatal(err)
			}
			status(t, c, Running)
			img, err := c.Image(t.Context())
			if err != nil || img.Ref != h.Image(t, version) {
				t.Errorf("image %+v, %v", img, err)
			}
		})
	}
}

// A container of "compose run" is not the service.
func TestComposeRunIsNotTheService(t *testing.T) {
	h := realDocker(t)
	dir := composeProject(t, h)
	t.Cleanup(func() { remove(h, "one-off") })
	if _, err := dockerCompose(t.Context(), h, dir, "run", "--detach", "--no-deps", "--name", "one-off", "opencloud"); err != nil {
		t.Fatal(err)
	}
	status(t, must(t, Config{Type: "compose", ProjectDir: dir, Service: "opencloud", EngineHost: h.Host}), Absent)
}

func TestComposeVersions(t *testing.T) {
	const plugin, standalone = `[ "$1" = compose ] && echo `, `[ "$*" = "version --short" ] && echo `
	const none = "echo \"docker: 'compose' is not a docker command.\" >&2; exit 1"
	for _, tt := range []struct {
		name, docker, standalone string
		want                     string // the command, or part of the error
	}{
		{"plugin", plugin + "v2.5.0", standalone + "1.29.2", "docker compose"},
		{"standalone", none, standalone + "2.26.1-4", "docker-compose"},
		{"future", plugin + "5.0.1", none, "docker compose"},
		{"v1", none, standalone + "1.29.2", "docker-compose is version 1.29.2, which can't be used"},
		{"something else", none, standalone + "podman-compose version 1.0", "unknown version"},
		{"nothing", none, "exit 127", "is not a docker command"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFake(t)
			f.program("docker", tt.docker)
			f.program("docker-compose", tt.standalone)
			c := must(t, Config{Type: "compose", Project: "p", Service: "s"}).(*compose)
			cmd, err := c.findCompose(t.Context())
			if err == nil {
				if got := strings.Join(cmd, " "); got != tt.want {
					t.Errorf("found %q, want %q", got, tt.want)
				}
				return
			}
			_, _, hint := fail.Details(err)
			if !strings.Contains(err.Error(), tt.want) || !strings.Contains(hint, "install compose version 2") {
				t.Errorf("error %v, hint %q, want %q", err, hint, tt.want)
			}
		})
	}
}
