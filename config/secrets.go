package config

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"

	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/repo"
	"github.com/ocbackup/ocbackup/secretfile"
)

// Names of the systemd credentials (LoadCredential=) that take the place of files.
const (
	CredentialPassword = "password" // of repository.password_file
	CredentialEnv      = "env"      // of repository.env_file

	CredentialBucketEnv    = "bucket-env"    // of bucket.env_file
	CredentialPoolEnv      = "pool-env"      // of pool.env_file
	CredentialPoolPassword = "pool-password" // of pool.password_file
)

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
	if err := c.envFile(opt.Env); err != nil {
		return repo.Options{}, err
	}
	return opt, c.password(&opt)
}

func (c *Config) envFile(env map[string]string) error {
	path, what := secretSource("repository.env_file", c.Repository.EnvFile, CredentialEnv)
	if path == "" {
		return nil
	}
	if err := secretfile.Check(what, path); err != nil {
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
		if err := secretfile.Check(what, file); err != nil {
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
	case opt.Env["RESTIC_PASSWORD"] == "" && os.Getenv("RESTIC_PASSWORD") == "": // restic inherits it
		return fail.Usagef("set repository.password_file; ocbackup init creates the file",
			"there is no password for the repository %s", repo.WithoutPassword(c.Repository.Location))
	}
	if opt.PasswordFile != "" || opt.PasswordCommand != "" {
		delete(opt.Env, "RESTIC_PASSWORD")
	}
	return nil
}

// secretSource returns the file that a secret comes from, and how it is called: the
// file of the key's environment variable, else the systemd credential, else the file
// that is configured; empty when there is none.
func secretSource(key, configured, name string) (path, what string) {
	if os.Getenv(keyNamed(key).Env) == "" {
		if f := credential(name); f != "" {
			return f, fmt.Sprintf("systemd credential %q", name)
		}
	}
	return configured, key
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
type SecretFile struct {
	Key, Path string
	// Credential is the systemd credential that takes its place; empty: none does.
	Credential string
}

// Replaced tells whether its systemd credential is there, so that the file is not read.
func (f SecretFile) Replaced() bool { return f.Credential != "" && credential(f.Credential) != "" }

// SecretFiles lists the files with secrets that c names.
func (c *Config) SecretFiles() []SecretFile {
	var out []SecretFile
	for _, f := range []SecretFile{
		{"repository.password_file", c.Repository.PasswordFile, CredentialPassword},
		{"repository.env_file", c.Repository.EnvFile, CredentialEnv},
		{"ready.token_file", c.Ready.TokenFile, ""},
		{"ready.password_file", c.Ready.PasswordFile, ""},
		{"bucket.env_file", c.Bucket.EnvFile, CredentialBucketEnv},
		{"pool.env_file", c.Pool.EnvFile, CredentialPoolEnv},
		{"pool.password_file", c.Pool.PasswordFile, CredentialPoolPassword},
		{"pool.rclone_config", c.Pool.RcloneConfig, ""},
	} {
		if f.Path != "" {
			out = append(out, f)
		}
	}
	if hasPassword(c.Repository.Location) && c.Path != "" {
		out = append(out, SecretFile{Key: "repository.location", Path: c.Path})
	}
	return out
}

// Check reports, as an error of code fail.Usage, when the file is not there or when
// anybody on the machine may read or change it.
func (f SecretFile) Check() error { return secretfile.Check(f.Key, f.Path) }

// WithoutSecrets returns a copy of c that can be stored beside the data: no
// password in a location, and no command that gives the password.
func (c *Config) WithoutSecrets() *Config {
	d := *c
	for _, s := range []*string{&d.Repository.Location, &d.Bucket.Endpoint, &d.Bucket.Reach, &d.Pool.Location} {
		*s = repo.WithoutPassword(*s)
	}
	d.Repository.PasswordCommand = ""
	return &d
}

// hasPassword reports whether a repository's location carries a password.
func hasPassword(location string) bool { return repo.WithoutPassword(location) != location }
