package discover

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ocbackup/ocbackup/config"
	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/integration/env"
)

// fakes puts shell scripts of these names first in PATH.
func fakes(t *testing.T, scripts map[string]string) {
	t.Helper()
	dir := t.TempDir()
	for name, body := range scripts {
		write(t, filepath.Join(dir, name), "#!/bin/sh\n"+body+"\n")
		if err := os.Chmod(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	for _, v := range []string{"DOCKER_HOST", "COMPOSE_FILE", "COMPOSE_PROJECT_NAME", "COMPOSE_PARTS"} {
		t.Setenv(v, "")
		os.Unsetenv(v)
	}
}

// noEngine is a docker without a daemon and without the compose plugin.
const noEngine = `echo "Cannot connect to the Docker daemon at unix:///var/run/docker.sock." >&2; exit 1`

// engineWith is a docker whose volumes lie below root, and that knows one image.
func engineWith(root string) string {
	return `case "$1 $2" in
"volume inspect") echo '[{"Name":"'$3'","Driver":"local","Mountpoint":"` + root + `/'$3'/_data","Options":null}]';;
"image inspect") echo '[{"Id":"sha256:1d","RepoDigests":["opencloudeu/opencloud-rolling@sha256:d1ge57"],"Config":{"Labels":{"org.opencontainers.image.version":"7.3.0"}}}]';;
*) echo "unknown: $*" >&2; exit 1;;
esac`
}

func write(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func mkdirs(t *testing.T, dirs ...string) {
	t.Helper()
	for _, d := range dirs {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

// dockerCompose finds a real compose v2: in PATH, or where tools/docker.sh puts it.
func dockerCompose(t *testing.T) string {
	t.Helper()
	tool, err := filepath.Abs("../../.tools/bin/docker-compose")
	if err != nil {
		t.Fatal(err)
	}
	if isFile(tool) {
		return tool
	}
	if p, err := exec.LookPath("docker-compose"); err == nil {
		if out, err := exec.Command(p, "version", "--short").Output(); err == nil && !strings.HasPrefix(string(out), "1.") {
			return p
		}
	}
	env.Need(t, errors.New("docker-compose v2 is missing: tools/docker.sh installs it"))
	return ""
}

// copyProject copies testdata/compose to a directory of its own.
func copyProject(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "cloud")
	if err := os.CopyFS(dir, os.DirFS("testdata/compose")); err != nil {
		t.Fatal(err)
	}
	return dir
}

func equal[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

func equalList(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s:\ngot  %s\nwant %s", what, strings.Join(got, "\n     "), strings.Join(want, "\n     "))
	}
}

func noted(t *testing.T, f *Found, want string) {
	t.Helper()
	if !strings.Contains(strings.Join(f.Notes, "\n"), want) {
		t.Errorf("no note %q in %q", want, f.Notes)
	}
}

// keys asks for the bucket's access keys.
func keys(t *testing.T, c *config.Config, access, secret string) {
	t.Helper()
	a, s, err := BucketKeys(context.Background(), c)
	if err != nil || a != access || s != secret {
		t.Errorf("keys %q %q %v, want %q %q", a, s, err, access, secret)
	}
}

func refused(t *testing.T, err error, want ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	_, _, hint := fail.Details(err)
	for _, w := range want {
		if !strings.Contains(err.Error()+" | "+hint, w) {
			t.Errorf("%v | %s\nlacks %q", err, hint, w)
		}
	}
	equal(t, "exit code", fail.CodeOf(err), fail.Usage)
}
