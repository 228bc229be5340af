//go:build integration

package env

import (
	"crypto/tls"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	ber "github.com/go-asn1-ber/asn1-ber"
	"github.com/pkg/xattr"
)

func TestMain(m *testing.M) { os.Exit(Main(m)) }

// The environment itself is tested: a scenario that passes because its engine,
// machine or server does not do what it should proves nothing.

func TestRestic(t *testing.T) {
	for _, version := range []string{"0.18", "0.19"} {
		out := must(t, Exec(t.Context(), nil, Restic(t, version), "version"))
		if !strings.HasPrefix(out, "restic "+version+".") {
			t.Errorf("restic %s says %q", version, out)
		}
	}
}

func TestFixture(t *testing.T) {
	for name, want := range map[string]int{
		"opencloud-posix": 320, "opencloud-4.0-posix": 482, "opencloud-decomposed": 0, "opencloud-4.0-decomposed": 0,
		"opencloud-decomposeds3": 0, "opencloud-4.0-decomposeds3": 0,
	} {
		t.Run(name, func(t *testing.T) {
			tree := Fixture(t, name)
			count := 0
			err := filepath.WalkDir(tree.Data, func(path string, _ os.DirEntry, err error) error {
				if err != nil {
					return err
				}
				names, err := xattr.LList(path)
				for _, n := range names {
					if strings.HasPrefix(n, "user.oc.") {
						count++
					}
				}
				return err
			})
			if err != nil || count != want {
				t.Errorf("%d attributes, want %d (%v)", count, want, err)
			}
			info, err := os.Stat(tree.Config + "/opencloud.yaml")
			if err != nil || info.Mode().Perm() != 0o600 || info.ModTime().Year() != 2026 {
				t.Errorf("opencloud.yaml: %v %v", info, err)
			}
		})
	}
}

// A copy taken while the server runs is inconsistent, one taken after is not,
// and lost attributes are told apart from both.
func TestStandinWriter(t *testing.T) {
	for _, tc := range []struct{ name, fixture, driver string }{
		{"fresh posix", "", "posix"},
		{"fresh decomposed", "", "decomposed"},
		{"recorded posix", "opencloud-4.0-posix", "posix"},
		{"recorded decomposed", "opencloud-4.0-decomposed", "decomposed"},
		{"recorded early posix", "opencloud-posix", "posix"},
		{"fresh decomposeds3", "", "decomposeds3"},
		{"recorded decomposeds3", "opencloud-4.0-decomposeds3", "decomposeds3"},
		{"recorded early decomposeds3", "opencloud-decomposeds3", "decomposeds3"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			env := StandinEnv(t, dir, tc.driver)
			var tree Tree
			run := func(args ...string) Result { return Exec(t.Context(), env, Standin(t), args...) }
			if tc.fixture == "" {
				must(t, run("init"))
			} else {
				tree = ExtractFixture(t, tc.fixture, dir)
			}
			if tc.driver == "decomposeds3" {
				_, bucket := ServerBucket(t, tree)
				env = append(env, bucket...)
			}
			server := StartStandin(t, env)

			// Root after root, as a backup does; files come and go, which cp complains of.
			hot := dir + "/hot"
			if err := os.Mkdir(hot, 0o700); err != nil {
				t.Fatal(err)
			}
			Exec(t.Context(), nil, "cp", "-a", dir+"/data/nats", hot)
			time.Sleep(100 * time.Millisecond)
			Exec(t.Context(), nil, "cp", "-a", dir+"/data/storage", hot)
			check := func(data string) Result {
				return Exec(t.Context(), append(env, "OC_BASE_DATA_PATH="+data), Standin(t), "check")
			}
			if r := check(hot); r.Code != 1 {
				t.Errorf("hot copy: exit code %d, want 1\n%s", r.Code, r.Stdout)
			}
			server.Stop(t)
			if r := check(dir + "/data"); r.Code != 0 {
				t.Errorf("stopped tree: exit code %d\n%s", r.Code, r.Stdout)
			}
			if tc.driver == "posix" {
				must(t, Exec(t.Context(), nil, "cp", "-r", dir+"/data", dir+"/bare"))
				if r := check(dir + "/bare"); r.Code != 3 {
					t.Errorf("tree without attributes: exit code %d, want 3", r.Code)
				}
			}
		})
	}
}

// The traps of the real server that a restore must not fall into.
func TestStandinTraps(t *testing.T) {
	dir := t.TempDir()
	env := StandinEnv(t, dir, "posix")
	ExtractFixture(t, "opencloud-4.0-posix", dir)
	run := func(args ...string) Result { return Exec(t.Context(), env, Standin(t), args...) }
	answers := func(addr, want string, curl ...string) {
		t.Helper()
		proxy := strings.TrimPrefix(env[3], "PROXY_HTTP_ADDR=")
		curl = append([]string{"-sk", "-o", "/dev/null", "-w", "%{http_code}", "https://" + proxy + addr}, curl...)
		if got := Exec(t.Context(), nil, "curl", curl...).Stdout; got != want {
			t.Errorf("%s answers %s, want %s", addr, got, want)
		}
	}
	binds := func(want int64) {
		t.Helper()
		yaml, err := os.ReadFile(dir + "/config/opencloud.yaml")
		if err != nil {
			t.Fatal(err)
		}
		password := regexp.MustCompile(`idm_password: (.*)`).FindStringSubmatch(string(yaml))[1]
		if got := bind(t, strings.TrimPrefix(env[4], "IDM_LDAPS_ADDR="), "uid=libregraph,ou=sysusers,o=libregraph-idm", password); got != want {
			t.Errorf("bind: result %d, want %d", got, want)
		}
	}

	if r := run("init"); r.Code != 1 {
		t.Errorf("init over an existing configuration: exit code %d", r.Code)
	}
	server := StartStandin(t, env)
	answers("/graph/v1.0/me/drives", "401")
	answers("/graph/v1.0/me/drives", "200", "-u", "admin:admin")
	binds(0)
	if r := run("search", "index", "--all-spaces"); r.Code != 1 {
		t.Errorf("search index --all-spaces with a disabled space: exit code %d, want 1", r.Code)
	}
	if r := run("server"); r.Code != 1 {
		t.Errorf("a second server on the same data: exit code %d, want 1", r.Code)
	}
	server.Stop(t)

	// The configuration is made anew: the server runs, nobody can log in.
	must(t, Exec(t.Context(), nil, "mv", dir+"/config", dir+"/config.right"))
	if r := run("server"); r.Code != 1 {
		t.Errorf("server without configuration: exit code %d, want 1", r.Code)
	}
	must(t, run("init"))
	server = StartStandin(t, env)
	answers("/status.php", "200")
	answers("/graph/v1.0/me/drives", "401", "-u", "admin:admin")
	binds(49)
	server.Stop(t)
	must(t, Exec(t.Context(), nil, "rm", "-r", dir+"/config"))
	must(t, Exec(t.Context(), nil, "mv", dir+"/config.right", dir+"/config"))

	// A damaged index keeps the server from starting, an absent one does not.
	index := dir + "/data/search/bleve"
	for name, damage := range map[string]string{
		"no metadata": "rm index_meta.json", "root.bolt empty": ": > store/root.bolt",
		"root.bolt garbage": "head -c 65536 /dev/urandom > store/root.bolt", "no segment": "rm store/*.zap",
	} {
		must(t, Exec(t.Context(), nil, "cp", "-a", index, index+".good"))
		must(t, Exec(t.Context(), nil, "sh", "-c", "cd "+index+" && "+damage))
		if r := run("server"); r.Code != 1 || !strings.Contains(r.Stderr, "search:") {
			t.Errorf("index with %s: exit code %d, want 1: %s", name, r.Code, r.Stderr)
		}
		must(t, Exec(t.Context(), nil, "rm", "-r", index))
		must(t, Exec(t.Context(), nil, "mv", index+".good", index))
	}
	must(t, Exec(t.Context(), nil, "rm", "-r", index))
	StartStandin(t, env).Stop(t)
	if r := run("indexed"); r.Stdout != "" {
		t.Errorf("a new index is not empty: %s", r.Stdout)
	}
}

// bind is the LDAP result of a simple bind.
func bind(t *testing.T, addr, dn, password string) int64 {
	t.Helper()
	conn, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	request := ber.NewSequence("")
	request.AppendChild(ber.NewInteger(ber.ClassUniversal, ber.TypePrimitive, ber.TagInteger, 1, ""))
	op := ber.Encode(ber.ClassApplication, ber.TypeConstructed, 0, nil, "")
	op.AppendChild(ber.NewInteger(ber.ClassUniversal, ber.TypePrimitive, ber.TagInteger, 3, ""))
	op.AppendChild(ber.NewString(ber.ClassUniversal, ber.TypePrimitive, ber.TagOctetString, dn, ""))
	op.AppendChild(ber.NewString(ber.ClassContext, ber.TypePrimitive, 0, password, ""))
	request.AppendChild(op)
	if _, err := conn.Write(request.Bytes()); err != nil {
		t.Fatal(err)
	}
	answer, err := ber.ReadPacket(conn)
	if err != nil {
		t.Fatal(err)
	}
	return answer.Children[1].Children[0].Value.(int64)
}

func TestDocker(t *testing.T) {
	h := Docker(t)
	image := h.Image(t, "4.0.0")
	id := h.Docker(t, "run", "-d", "--name", "plain", "--entrypoint", "/bin/sh", image, "-c", "opencloud init || true; opencloud server")
	Eventually(t, 20*time.Second, "healthy", func() bool {
		return Exec(t.Context(), h.Env(), "docker", "exec", id, "opencloud", "search", "index", "--all-spaces").Code == 0
	})
	h.Docker(t, "stop", "-t", "30", id)
	if got := h.Docker(t, "inspect", "-f", "{{.State.ExitCode}}", id); got != "0" {
		t.Errorf("exit code %s after docker stop", got)
	}
	h.Docker(t, "rm", "-v", id)
}

// A container reaches the bucket by a name that only containers know.
func TestDockerBucket(t *testing.T) {
	h := Docker(t)
	s, _ := ServerBucket(t, Tree{})
	port := h.Expose(t, s.Endpoint)
	args := []string{"run", "-d", "--add-host", "minio:host-gateway", "--entrypoint", "/bin/sh", "-e", "STORAGE_USERS_DRIVER=decomposeds3"}
	for _, e := range s.OpenCloudEnv(BucketName, "http://minio:"+port) {
		args = append(args, "-e", e)
	}
	id := h.Docker(t, append(args, h.Image(t, "4.0.0"), "-c", "opencloud init || true; opencloud server")...)
	defer h.Docker(t, "rm", "-fv", id)
	Eventually(t, 20*time.Second, "uploads", func() bool { return len(s.List(t, BucketName)) > 8 })
	h.Docker(t, "stop", "-t", "30", id)
	if got := h.Docker(t, "inspect", "-f", "{{.State.ExitCode}}", id); got != "0" {
		t.Errorf("exit code %s after docker stop", got)
	}
}

func TestCompose(t *testing.T) {
	h := Docker(t)
	dir := t.TempDir()
	project := `services:
  opencloud:
    image: ` + h.Image(t, "4.0.0") + `
    entrypoint: ["/bin/sh"]
    command: ["-c", "opencloud init || true; opencloud server"]
    ports: ["9200:9200"]
    restart: always
    volumes:
      - opencloud-config:/etc/opencloud
      - ./data:/var/lib/opencloud
volumes:
  opencloud-config:
`
	if err := os.WriteFile(dir+"/compose.yaml", []byte(project), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(dir+"/data", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(dir+"/data", 1000, 1000); err != nil {
		t.Fatal(err)
	}
	h.Compose(t, dir, "up", "-d")
	defer h.Compose(t, dir, "down", "-v", "-t", "10")
	Eventually(t, 20*time.Second, "the published port answers", func() bool {
		return Exec(t.Context(), nil, "nsenter", h.NetArgs("curl", "-skf", "https://127.0.0.1:9200/status.php")...).Code == 0
	})
	if plugin := h.Docker(t, "compose", "version", "--short"); !strings.HasPrefix(plugin, "2.") {
		t.Errorf("docker compose is %q", plugin)
	}
	h.Compose(t, dir, "stop")
	if got := h.Compose(t, dir, "ps", "--services", "--status", "running"); got != "" {
		t.Errorf("still running: %s", got)
	}
	h.Compose(t, dir, "start")
}

func TestNspawn(t *testing.T) {
	m := Nspawn(t)
	if got := m.Must(t, "systemctl", "is-system-running"); got != "running" {
		t.Errorf("the machine is %s: %s", got, m.Run(t, "systemctl", "--failed").Stdout)
	}
	s := S3Server(t)
	m.Expose(t, s.Endpoint)
	if r := Exec(t.Context(), nil, "nsenter", "-t", strconv.Itoa(m.leader), "-n", "curl", "-s", s.Endpoint+"/none"); !strings.Contains(r.Stdout, "<Code>NoSuchBucket</Code>") {
		t.Errorf("the S3 server is not known to the machine: %+v", r)
	}
	m.OpenCloud(t, "opencloud-4.0-posix")
	m.Must(t, "systemctl", "stop", "opencloud.service")
	m.Must(t, "env", "OC_BASE_DATA_PATH=/var/lib/opencloud", "opencloud", "check")

	// A timer fires, and its end is seen without asking.
	m.WriteFile(t, "/etc/systemd/system/once.service", "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/usr/bin/restic version\n", 0o644)
	m.WriteFile(t, "/etc/systemd/system/once.timer", "[Timer]\nOnActiveSec=1s\nAccuracySec=1ms\n", 0o644)
	m.Must(t, "systemctl", "daemon-reload")
	m.Must(t, "systemctl", "start", "once.timer")
	m.WaitUnit(t, "once.service", 20*time.Second, "active")

	// What was written survives the loss of power, and enabled units start.
	m.WriteFile(t, "/var/lib/ocbackup/journal", "left behind", 0o600)
	m.Kill()
	m.Boot(t)
	if got := m.ReadFile(t, "/var/lib/ocbackup/journal"); got != "left behind" {
		t.Errorf("journal: %q", got)
	}
	m.WaitUnit(t, "opencloud.service", 20*time.Second, "active")
	Eventually(t, 20*time.Second, "ready after boot", func() bool { return m.Events(t)[len(m.Events(t))-1] == "ready" })
	m.Poweroff(t)
	m.Boot(t)
	if events := m.Events(t); !slices.Contains(events[2:], "stop") {
		t.Errorf("no orderly stop at poweroff: %v", events)
	}
}
