package env

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// DockerHost is a private Docker engine. Its data, network and mounts are its
// own: nothing of it is seen by the machine's engine, should there be one, and
// ports that a container publishes are open in its network namespace only.
type DockerHost struct {
	Host string // for DOCKER_HOST
	Dir  string // its data root
	PID  int    // of dockerd; nsenter --net reaches published ports

	daemon *daemon
	images sync.Map // version -> func() error
}

var sharedDocker = sync.OnceValues(startDocker)

// Docker is the engine shared by the tests of a package.
func Docker(t testing.TB) *DockerHost {
	t.Helper()
	h, err := sharedDocker()
	Need(t, err)
	return h
}

func startDocker() (*DockerHost, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("a Docker engine needs root")
	}
	if _, err := os.Stat(Tools("bin/docker-compose")); err != nil {
		return nil, fmt.Errorf("docker or compose is missing: run tools/docker.sh: %w", err)
	}
	dir, err := workDir("ocbackup-docker-")
	if err != nil {
		return nil, err
	}
	h := &DockerHost{Host: "unix://" + dir + "/docker.sock", Dir: filepath.Join(dir, "data")}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }()

	// Loopback is down in a new network namespace.
	cmd := exec.Command("/bin/sh", "-c", `ip link set lo up; exec dockerd "$@"`, "sh",
		"--host", h.Host, "--data-root", h.Dir, "--exec-root", dir+"/exec", "--pidfile", dir+"/pid", "--shutdown-timeout", "2")
	cmd.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
	cmd.Stdout, cmd.Stderr = log, log
	if h.daemon, err = startDaemon(cmd, syscall.SIGTERM, syscall.CLONE_NEWNS|syscall.CLONE_NEWNET); err != nil {
		return nil, err
	}
	h.PID = cmd.Process.Pid
	atExit(func() { h.stop(dir) })

	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for {
		if Exec(ctx, h.Env(), "docker", "version").Code == 0 {
			return h, nil
		}
		select {
		case <-h.daemon.done:
			cancel()
		case <-ctx.Done():
		case <-time.After(50 * time.Millisecond):
			continue
		}
		tail, _ := os.ReadFile(log.Name())
		return nil, fmt.Errorf("dockerd does not start here:\n%s", tail[max(0, len(tail)-2000):])
	}
}

func (h *DockerHost) stop(dir string) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if ids := strings.Fields(Exec(ctx, h.Env(), "docker", "ps", "-aq").Stdout); len(ids) > 0 {
		Exec(ctx, h.Env(), "docker", append([]string{"rm", "-f"}, ids...)...)
	}
	h.daemon.stop(syscall.SIGTERM, 20*time.Second)
	_ = os.RemoveAll(dir)
}

// Env is what makes docker and docker-compose, and a program that calls them,
// use this engine.
func (h *DockerHost) Env() []string {
	return []string{
		"DOCKER_HOST=" + h.Host,
		"DOCKER_CONFIG=" + Tools("docker-config"),
		"PATH=" + Tools("bin") + ":" + os.Getenv("PATH"),
	}
}

// Docker runs a docker command that has to work, and returns its trimmed output.
func (h *DockerHost) Docker(t testing.TB, args ...string) string {
	t.Helper()
	return strings.TrimSpace(must(t, Exec(t.Context(), h.Env(), "docker", args...), append([]string{"docker"}, args...)...))
}

// Compose runs docker-compose on the project in dir; it has to work.
func (h *DockerHost) Compose(t testing.TB, dir string, args ...string) string {
	t.Helper()
	args = append([]string{"--project-directory", dir}, args...)
	return strings.TrimSpace(must(t, Exec(t.Context(), h.Env(), Tools("bin/docker-compose"), args...), append([]string{"docker-compose"}, args...)...))
}

// Image makes the stand-in's image, made like OpenCloud's own, that says it is
// of the given version ("4.0.0"), and returns its name.
func (h *DockerHost) Image(t testing.TB, version string) string {
	t.Helper()
	name := "opencloud-standin:" + version
	standin := Standin(t)
	once, _ := h.images.LoadOrStore(version, sync.OnceValue(func() error {
		fs, err := imageTar(standin)
		if err != nil {
			return err
		}
		cmd := exec.Command("docker", "import",
			"-c", `ENTRYPOINT ["/usr/bin/opencloud"]`, "-c", `CMD ["server"]`, "-c", "USER 1000",
			"-c", "ENV PATH=/usr/bin:/bin", "-c", "ENV STANDIN_VERSION="+version,
			"-c", "ENV OC_CONFIG_DIR=/etc/opencloud", "-c", "ENV OC_BASE_DATA_PATH=/var/lib/opencloud", "-c", "ENV PROXY_HTTP_ADDR=0.0.0.0:9200",
			"-c", "VOLUME /etc/opencloud", "-c", "VOLUME /var/lib/opencloud", "-c", "EXPOSE 9200/tcp",
			"-", name)
		cmd.Env = append(os.Environ(), h.Env()...)
		cmd.Stdin = bytes.NewReader(fs)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("docker import: %w: %s", err, out)
		}
		return nil
	}))
	if err := once.(func() error)(); err != nil {
		t.Fatal(err)
	}
	return name
}

// NetArgs are nsenter's arguments to run a command where published ports are open.
func (h *DockerHost) NetArgs(args ...string) []string {
	return append([]string{"-t", strconv.Itoa(h.PID), "--net", "--"}, args...)
}

// MountArgs are nsenter's arguments to run a command where the engine's mounts are: what
// is mounted on the machine since the engine was started is not there.
func (h *DockerHost) MountArgs(args ...string) []string {
	return append([]string{"-t", strconv.Itoa(h.PID), "--mount", "--"}, args...)
}
