package control

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/ocbackup/ocbackup/integration/env"
	"github.com/ocbackup/ocbackup/proc"
)

func TestMain(m *testing.M) { os.Exit(env.Main(m)) }

const version = "4.0.0-rc.3"

// realDocker is a real engine; docker and compose of the tools are found in PATH.
func realDocker(t *testing.T) *env.DockerHost {
	t.Helper()
	h := env.Docker(t)
	for _, v := range h.Env() {
		if name, value, _ := strings.Cut(v, "="); name != "DOCKER_HOST" {
			t.Setenv(name, value)
		}
	}
	t.Setenv("DOCKER_HOST", "unix:///no/such/engine") // engine_host has to do
	return h
}

// server makes and starts a container with the stand-in.
func server(t *testing.T, h *env.DockerHost, name string, options ...string) {
	t.Helper()
	args := append([]string{"run", "--detach", "--name", name, "--network", "none", "--entrypoint", "/bin/sh"}, options...)
	h.Docker(t, append(args, h.Image(t, version), "-c", "opencloud init || true; opencloud server")...)
	t.Cleanup(func() { remove(h, name) })
}

func remove(h *env.DockerHost, name string) {
	env.Exec(context.Background(), h.Env(), "docker", "rm", "--force", "--volumes", name)
}

func status(t *testing.T, c Controller, want State) Status {
	t.Helper()
	st, err := c.Status(t.Context())
	if err != nil || st.State != want {
		t.Fatalf("status %+v, %v, want %s", st, err, want)
	}
	return st
}

func TestDocker(t *testing.T) {
	h := realDocker(t)
	server(t, h, "oc", "--env", "SECRET=two words")
	server(t, h, "db")
	server(t, h, "cron")
	h.Docker(t, "stop", "cron")
	c := must(t, Config{Type: "docker", Container: "oc", AlsoStop: []string{"db", "cron", "none"}, EngineHost: h.Host})

	before := status(t, c, Running)
	if before.PID == 0 || before.Stamp == "" || before.Detail != "running" {
		t.Errorf("status %+v", before)
	}
	equal(t, "also", before.Also, []string{"db"})
	if v, err := Version(t.Context(), c); err != nil || v != version {
		t.Errorf("version while it runs: %q, %v", v, err)
	}
	for range 2 {
		if err := c.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	stopped := status(t, c, Stopped)
	if stopped.Stamp != before.Stamp || stopped.PID != 0 || stopped.Detail != "exited (0)" || len(stopped.Also) != 0 {
		t.Errorf("status %+v, before %+v", stopped, before)
	}
	if v, err := Version(t.Context(), c); err != nil || v != version {
		t.Errorf("version while it is stopped: %q, %v", v, err)
	}
	var exit *proc.ExitError
	if _, err := c.Exec(t.Context(), "no-such-command"); !errors.As(err, &exit) || exit.Code != 2 {
		t.Errorf("a command that fails: %v", err)
	}
	for range 2 {
		if err := c.Start(t.Context(), before.Also); err != nil {
			t.Fatal(err)
		}
	}
	after := status(t, c, Running)
	if after.Stamp == before.Stamp {
		t.Error("the stamp is the same after a start")
	}
	equal(t, "also", after.Also, []string{"db"})
}

func TestDockerAbsent(t *testing.T) {
	h := realDocker(t)
	c := must(t, Config{Type: "docker", Container: "no-such", EngineHost: h.Host})
	status(t, c, Absent)
	if err := c.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	if err := c.Start(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "start docker container no-such: there is no such container") {
		t.Errorf("start: %v", err)
	}
	if img, err := c.Image(t.Context()); err != nil || img.Ref != "" {
		t.Errorf("image %+v, %v", img, err)
	}
	if _, err := c.Exec(t.Context(), "version"); err == nil {
		t.Error("exec works without a container")
	}
	c = must(t, Config{Type: "docker", Container: "oc", EngineHost: "unix:///no/such/engine"})
	if st, err := c.Status(t.Context()); err == nil {
		t.Errorf("status %+v of an engine that is not there", st)
	}
}

// The stop of an ocbackup that was killed still takes effect, after the start that
// was meant to undo it has found the instance running.
func TestDockerStartAfterAnAbandonedStop(t *testing.T) {
	h := realDocker(t)
	server(t, h, "oc", "--env", "STANDIN_SLOW_STOP=1s")
	c := must(t, Config{Type: "docker", Container: "oc", EngineHost: h.Host}).(*docker)
	before := status(t, c, Running)
	client := exec.Command("docker", "stop", "-t", "30", "oc")
	client.Env = append(os.Environ(), h.Env()...)
	if err := client.Start(); err != nil {
		t.Fatal(err)
	}
	found, err := c.find(t.Context(), "oc")
	if err != nil {
		t.Fatal(err)
	}
	env.Eventually(t, 20*time.Second, "the engine begins the stop", func() bool { return c.stopAsked(t.Context(), *found) })
	_ = client.Process.Kill()
	_ = client.Wait()
	status(t, c, Running)

	if err := c.Start(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if after := status(t, c, Running); after.Stamp == before.Stamp {
		t.Error("it was not started again")
	}
	if found, err = c.find(t.Context(), "oc"); err != nil || c.stopAsked(t.Context(), *found) {
		t.Errorf("a stop is still under way (%v)", err)
	}
}

func TestDockerKill(t *testing.T) {
	h := realDocker(t)
	server(t, h, "oc", "--env", "STANDIN_IGNORE_TERM=1")
	c := must(t, Config{Type: "docker", Container: "oc", EngineHost: h.Host, StopTimeout: time.Second})
	var killed *KilledError
	if err := c.Stop(t.Context()); !errors.As(err, &killed) || !strings.Contains(err.Error(), "docker container oc did not end when told to and was killed (exited (137) after 1s") {
		t.Fatalf("error %v", err)
	}
	// It is stopped all the same, and comes back.
	status(t, c, Stopped)
	if err := c.Start(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	status(t, c, Running)
}

func TestDockerStates(t *testing.T) {
	h := realDocker(t)
	c := must(t, Config{Type: "docker", Container: "oc", EngineHost: h.Host, StartTimeout: time.Second})
	h.Docker(t, "create", "--name", "oc", "--network", "none", "--entrypoint", "/no/such/program", h.Image(t, version))
	if st := status(t, c, Stopped); st.Detail != "created" {
		t.Errorf("status %+v", st)
	}
	if err := c.Start(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "/no/such/program") {
		t.Errorf("start: %v", err)
	}
	h.Docker(t, "rm", "oc")

	// It fails, and the engine starts it again and again.
	h.Docker(t, "create", "--name", "oc", "--network", "none", "--restart", "always", "--env", "STANDIN_FAIL_START=1", h.Image(t, version))
	t.Cleanup(func() { remove(h, "oc") })
	_ = c.Start(t.Context(), nil) // for moments it runs
	stamps := map[string]bool{}
	env.Eventually(t, 20*time.Second, "a new stamp with each restart", func() bool {
		st, err := c.Status(t.Context())
		if err == nil && st.State == Changing {
			stamps[st.Stamp] = true
		}
		return len(stamps) > 2
	})
	if err := c.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	status(t, c, Stopped)
	remove(h, "oc")

	server(t, h, "oc")
	h.Docker(t, "pause", "oc")
	if st := status(t, c, Changing); st.Detail != "paused" {
		t.Errorf("status %+v", st)
	}
	h.Docker(t, "unpause", "oc")
}

func TestImage(t *testing.T) {
	h := realDocker(t)
	server(t, h, "oc")
	name := h.Image(t, version)
	id := h.Docker(t, "image", "inspect", "--format", "{{.Id}}", name)
	c := must(t, Config{Type: "docker", Container: "oc", EngineHost: h.Host})
	img, err := c.Image(t.Context())
	if err != nil || img.Ref != name || img.Digest != id {
		t.Fatalf("%+v, %v, want %s, %s", img, err, name, id)
	}
	equal(t, "save", img.Save, []string{"docker", "image", "save", name})
	var tar bytes.Buffer
	if _, err := proc.Run(t.Context(), proc.Cmd{Name: img.Save[0], Args: img.Save[1:], Env: img.Env, Stdout: &tar}); err != nil || tar.Len() < 1<<20 {
		t.Fatalf("%d bytes saved, %v", tar.Len(), err)
	}
	cfg := Config{Type: "docker", EngineHost: h.Host}
	if err := LoadImage(t.Context(), cfg, &tar); err != nil {
		t.Fatal(err)
	}
	for ref, want := range map[string]bool{name: true, "opencloud-test/no-such:1": false} {
		if has, err := HasImage(t.Context(), cfg, ref); err != nil || has != want {
			t.Errorf("has %s: %v, %v", ref, has, err)
		}
	}
	if has, err := HasImage(t.Context(), Config{Type: "systemd"}, name); err != nil || !has {
		t.Errorf("an instance without images: %v, %v", has, err)
	}

	// The name stands for another image now: what runs must be saved, not that.
	h.Docker(t, "tag", h.Image(t, "5.0.0"), name)
	defer h.Docker(t, "tag", id, name)
	if img, err = c.Image(t.Context()); err != nil {
		t.Fatal(err)
	}
	equal(t, "save", img.Save, []string{"docker", "image", "save", id})
}

func TestDigestOf(t *testing.T) {
	digests := []string{"mirror.example/oc@sha256:1", "docker.io/opencloudeu/opencloud@sha256:2", "host:5000/oc@sha256:3"}
	for ref, want := range map[string]string{
		"opencloudeu/opencloud:7.3.0": digests[1],
		"host:5000/oc":                digests[2],
		"host:5000/oc:1@sha256:3":     digests[2],
		"mirror.example/oc:latest":    digests[0],
		"something/else":              digests[0],
	} {
		if got := digestOf(digests, ref); got != want {
			t.Errorf("%s: %s, want %s", ref, got, want)
		}
	}
}
