//go:build integration

package docker

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ocbackup/ocbackup/integration/env"
)

// From init to the restore on a host where nothing is left but the repository.
func TestCompose(t *testing.T) {
	for _, row := range []struct {
		name, version string
		volumes       bool
		env           func(all []string) []string
	}{
		{"bind mounts and plugin", "4.0.1", false, func(all []string) []string {
			// Without the program docker-compose in PATH.
			return append(all, "PATH="+os.Getenv("PATH"))
		}},
		{"volumes and standalone", "4.0.2", true, func(all []string) []string {
			return append(all, "DOCKER_CONFIG=/nonexistent") // where the plugin would be
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			p := newProject(t, row.version, row.volumes)
			p.env = row.env(p.env)
			compose(t, p)
		})
	}
}

func compose(t *testing.T, p *project) {
	// Without an engine to ask.
	r := p.runWith(t, []string{"DOCKER_HOST=unix:///nonexistent"}, "init", "--dry-run", "--compose", p.path("project"))
	wants(t, r, 0, `project = "`+p.name+`"`, `service = "opencloud"`, "NOT PROTECTED", "service postgres: volume "+p.name+"_keycloak_postgres_data")
	if p.volumes {
		wants(t, r, 0, "guess")
	} else {
		wants(t, r, 0, `data_dir = "`+p.dataDir()+`"`)
	}

	out := p.init(t)
	for _, want := range []string{"4.0.", "compose project " + p.name, p.image, "posix", p.configDir(), p.dataDir(), "NOT PROTECTED", "keycloak_postgres_data"} {
		if !strings.Contains(out, want) {
			t.Errorf("init does not say %q:\n%s", want, out)
		}
	}
	text, err := os.ReadFile(p.config)
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{".env", "docker-compose.yml", "idm/postgres.yml", "config/opencloud/csp.yaml"} {
		if !strings.Contains(string(text), `"`+p.path("project", file)+`"`) {
			t.Errorf("the configuration does not name %s:\n%s", file, text)
		}
	}
	wants(t, p.run(t, "doctor"), 0, "postgres")

	wants(t, p.run(t, "backup"), 0, "image "+p.image+" stored", "Not protected: service postgres")
	p.running(t)
	image := p.imageSnapshot(t)
	wants(t, p.run(t, "backup"), 0, "image "+p.image+" unchanged")
	if got := p.imageSnapshot(t); got != image {
		t.Errorf("the image was stored again: %s, %s", image, got)
	}
	p.good(t)

	// The host dies. On the new one there is an engine, and nothing else.
	const made = `{{index .Config.Labels "com.docker.compose.config-hash"}} {{.Name}} {{.HostConfig.RestartPolicy.Name}}`
	before := p.inspect(t, made)
	files := readAll(t, p.path("project"))
	p.compose(t, "down", "-v", "-t", "5")
	p.Docker(t, "image", "rm", p.image)
	for _, dir := range []string{"project", "config", "data", "state", "ocbackup.toml"} {
		if err := os.RemoveAll(p.path(dir)); err != nil {
			t.Fatal(err)
		}
	}
	if p.volumes {
		if _, err := os.Stat(p.dataDir()); err == nil {
			t.Fatal("the volume is still there")
		}
	}
	r, etc := p.bare(t, "restore", "--repository", p.path("repository"), "--password-file", p.path("password"), "--restic", env.Restic(t, "0.18"))
	wants(t, r, 0, "was loaded from the set", "keycloak_postgres_data")
	p.running(t)
	if got := p.inspect(t, made); got != before {
		t.Errorf("the container is another one:\n%s\n%s", before, got)
	}
	for name, text := range readAll(t, p.path("project")) {
		if files[name] != text {
			t.Errorf("%s differs", name)
		}
		delete(files, name)
	}
	if len(files) > 0 {
		t.Errorf("of the project's files these are missing: %v", files)
	}
	if p.volumes {
		// The engine knows the volumes, as compose's own.
		p.Docker(t, "volume", "inspect", p.name+"_opencloud-data", p.name+"_opencloud-config")
		p.compose(t, "up", "-d", "--no-deps", "opencloud")
		p.awaitAnswer(t)
	}
	p.Docker(t, "stop", "-t", "30", p.container())
	wants(t, p.check(t, ""), 0)
	p.Docker(t, "start", p.container())
	p.awaitAnswer(t)

	// ocbackup goes on with the configuration that was written back.
	p.env = append(p.env, "OCBACKUP_CONFIG="+filepath.Join(etc, "ocbackup.toml"))
	p.compose(t, "up", "-d")
	p.awaitAnswer(t)
	p.good(t)

	// Data lost, with the container there: it is not made anew.
	id := p.container()
	p.Docker(t, "stop", "-t", "30", id)
	for _, dir := range []string{p.configDir(), p.dataDir()} {
		mustRun(t, "sh", "-c", "rm -rf "+dir+"/*")
	}
	wants(t, p.run(t, "restore", "--yes"), 0)
	p.running(t)
	if got := p.container(); got != id {
		t.Error("the container was made anew")
	}
}

// readAll reads all files below dir.
func readAll(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		files[strings.TrimPrefix(path, dir+"/")] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// What goes wrong with a service that the engine restarts always.
func TestComposeFaults(t *testing.T) {
	t.Parallel()
	p := newProject(t, "4.0.3", false)
	p.init(t)
	p.good(t)

	t.Run("ocbackup killed", func(t *testing.T) {
		r := p.runWith(t, []string{"OCBACKUP_FAULT=cold.stopped=KILL"}, "backup")
		if r.Code != -1 {
			t.Fatalf("exit code %d\n%s", r.Code, r.Stderr)
		}
		env.Eventually(t, time.Minute, "the guard is done", func() bool {
			_, err := os.Stat(p.path("state/journal.json"))
			return err != nil
		})
		p.good(t)
	})
	for _, point := range []string{"cold.stopped", "cold.stored"} {
		t.Run("started by somebody, "+point, func(t *testing.T) {
			r := p.runWith(t, []string{"OCBACKUP_FAULT=" + point + "=exec:docker start " + p.container()}, "backup")
			wants(t, r, 1, "somebody started OpenCloud", "void", "docker was told to start container "+p.name, "events: start at ")
			p.running(t)
		})
	}
	t.Run("it does not stop", func(t *testing.T) {
		text, err := os.ReadFile(p.config)
		if err != nil {
			t.Fatal(err)
		}
		short := strings.Replace(string(text), "[control]\n", "[control]\nstop_timeout = \"2s\"\n", 1)
		if err := os.WriteFile(p.path("short.toml"), []byte(short), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p.path("config/standin.ignore-term"), nil, 0o644); err != nil {
			t.Fatal(err)
		}
		wants(t, p.run(t, "--config", p.path("short.toml"), "backup"), 1, "was killed", "stop_timeout", "OpenCloud is running again")
		p.running(t)
		if err := os.Remove(p.path("config/standin.ignore-term")); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("it does not start", func(t *testing.T) {
		quirk := p.path("config/standin.fail-start")
		text, err := os.ReadFile(p.config)
		if err != nil {
			t.Fatal(err)
		}
		short := strings.Replace(string(text), "[ready]\n", "[ready]\ntimeout = \"3s\"\n", 1)
		if err := os.WriteFile(p.path("short.toml"), []byte(short), 0o600); err != nil {
			t.Fatal(err)
		}
		r := p.runWith(t, []string{"OCBACKUP_FAULT=cold.stored=exec:touch " + quirk}, "--config", p.path("short.toml"), "backup")
		wants(t, r, 5, "NOT BACK", " recover")
		if err := os.Remove(quirk); err != nil {
			t.Fatal(err)
		}
		wants(t, p.run(t, "recover"), 0, "ready")
		p.running(t)
	})
	t.Run("it was stopped before", func(t *testing.T) {
		p.Docker(t, "stop", "-t", "30", p.container())
		p.backup(t)
		if got := p.inspect(t, "{{.State.Status}}"); got != "exited" {
			t.Errorf("the container is %s", got)
		}
		p.Docker(t, "start", p.container())
		p.awaitAnswer(t)
	})
	p.good(t)
}

// Compose of version 1 can't tell what it makes of a project.
func TestComposeOld(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"bin/docker":         "#!/bin/sh\necho \"docker: 'compose' is not a docker command.\" >&2\nexit 1\n",
		"bin/docker-compose": "#!/bin/sh\ncase \" $* \" in *' --short '*) echo 1.29.2 ;; *) echo docker-compose version 1.29.2, build unknown ;; esac\n",
		"compose.yaml":       composeMain,
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	r := env.Exec(ctx, []string{"PATH=" + dir + "/bin:/usr/bin:/bin"}, env.Ocbackup(t),
		"init", "--dry-run", "--compose", dir, "--repository", filepath.Join(dir, "repository"))
	wants(t, r, 2, "1.29.2", "install compose v2")
}
