//go:build integration

package initial_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ocbackup/ocbackup/integration/env"
)

func TestMain(m *testing.M) { os.Exit(env.Main(m)) }

// told is what init and doctor tell with --json.
type told struct {
	Instance, Control, OpenCloud, Digest string
	Layout                               struct {
		Driver     string
		ConfigDir  string `json:"config_dir"`
		DataDir    string `json:"data_dir"`
		Binary     string
		Deployment []string
	}
	NotProtected []string `json:"not_protected"`
	Notes        []string
	Done         struct {
		RepositoryCreated bool `json:"repository_created"`
	}
	Findings []struct{ Status, Check, What, Mend string }
}

func read(t *testing.T, r env.Result) told {
	t.Helper()
	var v told
	if err := json.Unmarshal([]byte(r.Stdout), &v); err != nil || r.Code != 0 {
		t.Fatalf("exit code %d, %v\n%s\n%s", r.Code, err, r.Stdout, r.Stderr)
	}
	for _, f := range v.Findings {
		t.Logf("%s %s: %s", f.Status, f.Check, f.What)
	}
	return v
}

// status returns the worst status of a check, and what it said.
func (v told) status(check string) string {
	out := "absent"
	for _, f := range v.Findings {
		if f.Check == check {
			out = f.Status + ": " + f.What
		}
	}
	return out
}

func expect(t *testing.T, what, got, want string) {
	t.Helper()
	if !strings.HasPrefix(got, want) {
		t.Errorf("%s: %q, want %q", what, got, want)
	}
}

// TestSystemd has ocbackup find a server under a real systemd, running and stopped.
func TestSystemd(t *testing.T) {
	m := env.Nspawn(t)
	m.OpenCloud(t, "opencloud-4.0-posix", "OC_URL=https://cloud.example.com")
	v := read(t, m.Run(t, "ocbackup", "--json", "init", "--repository", "/var/backups/opencloud"))
	expect(t, "instance", v.Instance, "cloud.example.com")
	expect(t, "control", v.Control, "systemd unit opencloud.service")
	expect(t, "version", v.OpenCloud, "4.0.0")
	expect(t, "driver", v.Layout.Driver, "posix")
	expect(t, "data", v.Layout.DataDir, "/var/lib/opencloud")
	expect(t, "binary", v.Layout.Binary, "/usr/bin/opencloud")
	expect(t, "deployment", strings.Join(v.Layout.Deployment, " "), "/etc/opencloud.env /etc/systemd/system/opencloud.service")
	if !v.Done.RepositoryCreated {
		t.Error("no repository was created")
	}

	d := read(t, m.Run(t, "ocbackup", "--json", "doctor"))
	for check, want := range map[string]string{
		"control": "ok", "deployment": "ok", "server": "ok: OpenCloud 4.0.0", "readiness": "ok", "data": "ok",
		"attributes": "ok", "repository": "info", "schedule": "warning",
	} {
		expect(t, check, d.status(check), want)
	}
	m.Must(t, "systemctl", "stop", "opencloud.service")
	d = read(t, m.Run(t, "ocbackup", "--json", "doctor"))
	expect(t, "control", d.status("control"), "warning")
	expect(t, "deployment", d.status("deployment"), "ok")
	expect(t, "search index", d.status("search index"), "ok")

	m.Must(t, "sed", "-i", "s,OC_BASE_DATA_PATH=.*,OC_BASE_DATA_PATH=/srv/elsewhere,", "/etc/opencloud.env")
	r := m.Run(t, "ocbackup", "doctor")
	if r.Code != 2 || !strings.Contains(strings.Join(strings.Fields(r.Stdout), " "), "/srv/elsewhere") {
		t.Errorf("exit code %d\n%s", r.Code, r.Stdout)
	}
}

// TestDocker has ocbackup find a compose project and a container of a real engine.
func TestDocker(t *testing.T) {
	h := env.Docker(t)
	dir := t.TempDir()
	project := filepath.Join(dir, "cloud")
	image := h.Image(t, "4.0.0")
	for path, text := range map[string]string{
		"compose.yaml": `services:
  opencloud:
    image: ` + image + `
    entrypoint: ["/bin/sh"]
    command: ["-c", "opencloud init || true; opencloud server"]
    environment: {OC_URL: "https://$DOMAIN"}
    restart: always
    volumes:
      - opencloud-config:/etc/opencloud
      - opencloud-data:/var/lib/opencloud
  postgres:
    image: ` + image + `
    profiles: [never]
volumes:
  opencloud-config:
  opencloud-data:
`,
		".env": "DOMAIN=cloud.example.com\n",
	} {
		if err := os.MkdirAll(project, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(project, path), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	h.Compose(t, project, "up", "-d")
	defer h.Compose(t, project, "down", "-v", "-t", "10")
	ocbackup := func(config string, args ...string) env.Result {
		t.Helper()
		return env.Exec(t.Context(), h.Env(), env.Ocbackup(t), append([]string{"--config", dir + "/" + config, "--state-dir", dir + "/state", "--json"}, args...)...)
	}
	volume := func(name string) string {
		return h.Docker(t, "volume", "inspect", "-f", "{{.Mountpoint}}", "cloud_"+name)
	}

	v := read(t, ocbackup("a.toml", "init", "--compose", project, "--repository", dir+"/repository"))
	expect(t, "instance", v.Instance, "cloud.example.com")
	expect(t, "config", v.Layout.ConfigDir, volume("opencloud-config"))
	expect(t, "data", v.Layout.DataDir, volume("opencloud-data"))
	expect(t, "digest", v.Digest, "sha256:")
	expect(t, "deployment", strings.Join(v.Layout.Deployment, " "), project+"/.env "+project+"/compose.yaml")
	env.Eventually(t, 30*time.Second, "readiness", func() bool {
		return strings.HasPrefix(read(t, ocbackup("a.toml", "doctor")).status("readiness"), "ok")
	})
	d := read(t, ocbackup("a.toml", "doctor"))
	for check, want := range map[string]string{"control": "ok", "deployment": "ok", "server": "ok: OpenCloud 4.0.0", "restart policy": "info"} {
		expect(t, check, d.status(check), want)
	}

	// A container that compose made leads to its project; one of its own does not.
	v = read(t, ocbackup("b.toml", "init", "--container", "cloud-opencloud-1", "--repository", dir+"/repository", "--password-file", dir+"/a.password"))
	expect(t, "control", v.Control, "compose project cloud in "+project)
	h.Docker(t, "run", "-d", "--name", "oc", "-v", dir+"/etc:/etc/opencloud", "-v", "data:/var/lib/opencloud", "-u", "0", "--entrypoint", "/bin/sh", image, "-c", "opencloud init || true; opencloud server")
	defer h.Docker(t, "rm", "-f", "-v", "oc")
	v = read(t, ocbackup("c.toml", "init", "--container", "oc", "--repository", dir+"/repository", "--password-file", dir+"/a.password"))
	expect(t, "control", v.Control, "docker container oc")
	expect(t, "config", v.Layout.ConfigDir, dir+"/etc")
	expect(t, "version", v.OpenCloud, "4.0.0")

	h.Compose(t, project, "stop")
	d = read(t, ocbackup("a.toml", "doctor"))
	expect(t, "control", d.status("control"), "warning")
	expect(t, "deployment", d.status("deployment"), "ok")
}
