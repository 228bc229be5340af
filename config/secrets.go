package config

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/repo"
)

// Names of the systemd credentials (LoadCredential=) that take the place of files.
const (
	CredentialPassword = "password" // of repository.password_file
	CredentialEnv      = "env"      // of repository.env_file
)

// backendVars are variables of ocbackup's own environment that restic inherits and
// whose values must not show up anywhere.
var backendVars = []string{
	"RESTIC_PASSWORD", "RESTIC_REST_PASSWORD", "RESTIC_REST_USERNAME",
	"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN",
	"AZURE_ACCOUNT_KEY", "AZURE_ACCOUNT_SAS", "B2_ACCOUNT_ID", "B2_ACCOUNT_KEY",
	"OS_PASSWORD", "OS_APPLICATION_CREDENTIAL_SECRET", "ST_KEY", "GOOGLE_ACCESS_TOKEN",
}

// RepoOptions returns how the repository is opened, with the secrets' sources
// resolved. The password comes from the first of: $OCBACKUP_PASSWORD_FILE or
// $OCBACKUP_PASSWORD_COMMAND; the systemd credential "password"; password_file or
// password_command; restic's own RESTIC_PASSWORD_FILE, RESTIC_PASSWORD_COMMAND or
// RESTIC_PASSWORD. Errors are of code fail.Usage.
func (c *Config) RepoOptions() (repo.Options, error) {
	r := c.Repository
	opt := repo.Options{
		Binary: r.Restic, Location: r.Location, Host: c.Name,
		CacheDir: r.CacheDir, TempDir: r.TempDir, RetryLock: r.RetryLock, Compression: r.Compression,
		LimitUploadKiB: r.LimitUploadKiB, LimitDownloadKiB: r.LimitDownloadKiB, ReadConcurrency: r.ReadConcurrency,
		Env: map[string]string{},
	}
	if opt.CacheDir == "" && c.StateDir != "" {
		opt.CacheDir = filepath.Join(c.StateDir, "cache")
	}
	for _, name := range backendVars {
		if v := os.Getenv(name); v != "" {
			opt.Env[name] = v
		}
	}
	if err := c.envFile(opt.Env); err != nil {
		return repo.Options{}, err
	}
	return opt, c.password(&opt)
}

func (c *Config) envFile(env map[string]string) error {
	path, what := c.Repository.EnvFile, "repository.env_file"
	if os.Getenv("OCBACKUP_ENV_FILE") == "" {
		if f := credential(CredentialEnv); f != "" {
			path, what = f, `systemd credential "env"`
		}
	}
	if path == "" {
		return nil
	}
	if err := checkSecretFile(path, what); err != nil {
		return err
	}
	vars, err := ReadEnvFile(path)
	if err != nil {
		return fail.Wrap(fail.Usage, err, what, "")
	}
	maps.Copy(env, vars)
	return nil
}

func (c *Config) password(opt *repo.Options) error {
	file, command, what := c.Repository.PasswordFile, c.Repository.PasswordCommand, "repository.password_file"
	explicit := os.Getenv("OCBACKUP_PASSWORD_FILE") != "" || os.Getenv("OCBACKUP_PASSWORD_COMMAND") != ""
	if f := credential(CredentialPassword); f != "" && !explicit {
		file, command, what = f, "", `systemd credential "password"`
	}
	if file == "" && command == "" {
		file, command, what = os.Getenv("RESTIC_PASSWORD_FILE"), os.Getenv("RESTIC_PASSWORD_COMMAND"), "RESTIC_PASSWORD_FILE"
	}
	switch {
	case file != "" && command != "":
		return fail.Usagef("unset one of them", "RESTIC_PASSWORD_FILE and RESTIC_PASSWORD_COMMAND are both set")
	case command != "":
		opt.PasswordCommand = command
	case file != "":
		if err := checkSecretFile(file, what); err != nil {
			return err
		}
		b, err := os.ReadFile(file)
		if err != nil {
			return fail.Wrap(fail.Usage, err, what, "")
		}
		if len(bytes.TrimSpace(b)) == 0 {
			return fail.Usagef("", "%s: %s is empty", what, file)
		}
		opt.PasswordFile = file
	case opt.Env["RESTIC_PASSWORD"] == "":
		return fail.Usagef("set repository.password_file; ocbackup init creates the file",
			"there is no password for the repository %s", WithoutPassword(c.Repository.Location))
	}
	if opt.PasswordFile != "" || opt.PasswordCommand != "" {
		delete(opt.Env, "RESTIC_PASSWORD")
	}
	return nil
}

// credential returns the path of a systemd credential; empty when there is none.
func credential(name string) string {
	dir := os.Getenv("CREDENTIALS_DIRECTORY")
	if dir == "" {
		return ""
	}
	path := filepath.Join(dir, name)
	if _, err := os.Stat(path); err != nil {
		return ""
	}
	return path
}

// SecretFile is a file of the configuration's that holds a secret.
type SecretFile struct{ Key, Path string }

// SecretFiles lists the files with secrets that c names.
func (c *Config) SecretFiles() []SecretFile {
	var out []SecretFile
	for _, f := range []SecretFile{
		{"repository.password_file", c.Repository.PasswordFile},
		{"repository.env_file", c.Repository.EnvFile},
		{"ready.token_file", c.Ready.TokenFile},
		{"ready.password_file", c.Ready.PasswordFile},
	} {
		if f.Path != "" {
			out = append(out, f)
		}
	}
	if hasPassword(c.Repository.Location) && c.Path != "" {
		out = append(out, SecretFile{"repository.location", c.Path})
	}
	return out
}

// Check reports, as an error of code fail.Usage, when the file is not there or when
// anybody on the machine may read or change it.
func (f SecretFile) Check() error { return checkSecretFile(f.Path, f.Key) }

func checkSecretFile(path, what string) error {
	st, err := os.Stat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return fail.Usagef("", "%s: there is no file %s", what, path)
	case err != nil:
		return fail.Wrap(fail.Usage, err, what, "")
	case st.IsDir():
		return fail.Usagef("", "%s: %s is a directory", what, path)
	case st.Mode().Perm()&0o006 != 0:
		return fail.Usagef("chmod 600 "+path, "%s: %s holds a secret, and everybody on this machine may read or change it (mode %04o)",
			what, path, st.Mode().Perm())
	}
	return nil
}

// WithoutSecrets returns a copy of c that can be stored beside the data: no
// password in the location, and no command that gives the password.
func (c *Config) WithoutSecrets() *Config {
	d := *c
	d.Repository.Location = WithoutPassword(c.Repository.Location)
	d.Repository.PasswordCommand = ""
	return &d
}

// hasPassword reports whether a repository's location carries a password.
func hasPassword(location string) bool { return WithoutPassword(location) != location }

// WithoutPassword returns a repository's location with the password in it, if there
// is one, replaced by ***.
func WithoutPassword(location string) string {
	scheme, rest, found := strings.Cut(location, ":")
	if !found || (scheme != "rest" && scheme != "s3" && scheme != "swift") {
		return location
	}
	u, err := url.Parse(rest)
	if err != nil {
		if i, at := strings.Index(rest, "://"), strings.LastIndexByte(rest, '@'); i >= 0 && at > i {
			// No valid URL, so nothing tells where the password begins.
			return fmt.Sprintf("%s:%s***%s", scheme, rest[:i+3], rest[at:])
		}
		return location
	}
	if _, has := u.User.Password(); !has { // of a nil User, too
		return location
	}
	user := u.User.Username()
	head, tail, _ := strings.Cut(rest, "://")
	return fmt.Sprintf("%s:%s://%s:***%s", scheme, head, user, tail[strings.LastIndexByte(tail[:authorityEnd(tail)], '@'):])
}

func authorityEnd(s string) int {
	if i := strings.IndexByte(s, '/'); i >= 0 {
		return i
	}
	return len(s)
}
