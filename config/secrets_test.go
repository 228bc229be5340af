package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ocbackup/ocbackup/fail"
)

// clearEnv makes the test independent of the machine's own variables.
func clearEnv(t *testing.T) {
	for _, n := range []string{"CREDENTIALS_DIRECTORY", "RESTIC_PASSWORD", "RESTIC_PASSWORD_FILE", "RESTIC_PASSWORD_COMMAND"} {
		t.Setenv(n, "")
	}
	for _, k := range Keys {
		if k.Env != "" {
			t.Setenv(k.Env, "")
		}
	}
}

func writeFile(t *testing.T, path, text string, mode os.FileMode) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestRepoOptions(t *testing.T) {
	dir := t.TempDir()
	secret := writeFile(t, filepath.Join(dir, "password"), "s3cret\n", 0o600)
	open := writeFile(t, filepath.Join(dir, "open"), "s3cret\n", 0o644)
	group := writeFile(t, filepath.Join(dir, "group"), "s3cret\n", 0o640)
	empty := writeFile(t, filepath.Join(dir, "empty"), "\n", 0o600)
	env := writeFile(t, filepath.Join(dir, "env"), "AWS_ACCESS_KEY_ID=id\nAWS_SECRET_ACCESS_KEY=\"key\"\n", 0o600)
	for _, x := range []struct {
		name string
		conf Repository
		env  map[string]string
		file string // expected password file
		cmd  string
		fail string
		hint string
	}{
		{name: "file", conf: Repository{PasswordFile: secret}, file: secret},
		{name: "readable by the group", conf: Repository{PasswordFile: group}, file: group},
		{name: "readable by all", conf: Repository{PasswordFile: open}, fail: open, hint: "chmod 600 " + open},
		{name: "env file readable by all", conf: Repository{PasswordFile: secret, EnvFile: open}, fail: "repository.env_file", hint: "chmod 600 " + open},
		{name: "missing", conf: Repository{PasswordFile: dir + "/no"}, fail: "there is no file " + dir + "/no"},
		{name: "empty", conf: Repository{PasswordFile: empty}, fail: "is empty"},
		{name: "command", conf: Repository{PasswordCommand: "pass"}, cmd: "pass"},
		{name: "credential first", conf: Repository{PasswordFile: dir + "/no"}, env: map[string]string{"CREDENTIALS_DIRECTORY": dir}, file: secret},
		{name: "but after OCBACKUP_PASSWORD_FILE", conf: Repository{PasswordFile: group}, env: map[string]string{"CREDENTIALS_DIRECTORY": dir, "OCBACKUP_PASSWORD_FILE": group}, file: group},
		{name: "restic's file", env: map[string]string{"RESTIC_PASSWORD_FILE": secret}, file: secret},
		{name: "restic's command", env: map[string]string{"RESTIC_PASSWORD_COMMAND": "x"}, cmd: "x"},
		{name: "restic's password", env: map[string]string{"RESTIC_PASSWORD": "x"}},
		{name: "none", fail: "there is no password for the repository rest:https://u:***@h/r", hint: "repository.password_file"},
	} {
		t.Run(x.name, func(t *testing.T) {
			clearEnv(t)
			for k, v := range x.env {
				t.Setenv(k, v)
			}
			x.conf.Location = "rest:https://u:pw@h/r"
			if x.conf.EnvFile == "" {
				x.conf.EnvFile = env
			}
			c := &Config{Name: "n", StateDir: "/state", Repository: x.conf}
			opt, err := c.RepoOptions()
			if x.fail != "" {
				_, _, hint := fail.Details(err)
				if err == nil || fail.CodeOf(err) != fail.Usage || !strings.Contains(err.Error(), x.fail) || !strings.Contains(hint, x.hint) {
					t.Errorf("%v (%s)", err, hint)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if opt.PasswordFile != x.file || opt.PasswordCommand != x.cmd || opt.Host != "n" || opt.CacheDir != "/state/cache" ||
				opt.Env["AWS_SECRET_ACCESS_KEY"] != "key" {
				t.Errorf("%+v", opt)
			}
		})
	}
}

func TestPasswordInLocation(t *testing.T) {
	clearEnv(t)
	path := filepath.Join(t.TempDir(), "c.toml")
	writeFile(t, path, strings.Replace(minimal, "/srv/backup", "rest:https://u:pw@host/", 1), 0o644)
	if _, err := Load(path); err == nil || !strings.Contains(err.Error(), path) {
		t.Error(err)
	}
	writeFile(t, path, strings.Replace(minimal, "/srv/backup", "rest:https://u:pw@host/", 1), 0o600)
	c, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	c.Repository.PasswordCommand = "echo pw"
	if text := string(Render(c.WithoutSecrets())); strings.Contains(text, "pw") {
		t.Error("the password is in the rendered text")
	}
}

func TestLocalPath(t *testing.T) {
	for in, want := range map[string]string{"/a": "/a", "local:/a": "/a", "rest:http://h": "", "s3:h/b": "", "/a:b": "/a:b"} {
		if got, _ := LocalPath(in); got != want {
			t.Errorf("%s: %s", in, got)
		}
	}
}
