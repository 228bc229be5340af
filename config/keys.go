package config

import (
	"os"

	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/secretfile"
)

// Names of access keys, in files and in the environment.
const (
	accessKey    = "AWS_ACCESS_KEY_ID"
	secretKey    = "AWS_SECRET_ACCESS_KEY"
	sessionToken = "AWS_SESSION_TOKEN"
)

// BucketKeys returns the access keys of the bucket from the first of
// $OCBACKUP_BUCKET_ENV_FILE, the systemd credential "bucket-env" and bucket.env_file.
// ok is false when there is none of these: then those of the instance are meant
// (discover.BucketKeys). Errors are of code fail.Usage.
func (c *Config) BucketKeys() (access, secret, session string, ok bool, err error) {
	path, what := secretSource("bucket.env_file", c.Bucket.EnvFile, CredentialBucketEnv)
	if path == "" {
		return "", "", "", false, nil
	}
	access, secret, session, err = keysOf(what, path)
	return access, secret, session, err == nil, err
}

// PoolKeys returns the access keys of an S3 pool from the first of
// $OCBACKUP_POOL_ENV_FILE, the systemd credential "pool-env", pool.env_file and the
// AWS_* variables of the environment. Pools that are not on S3 have none. Errors are of code
// fail.Usage.
func (c *Config) PoolKeys() (access, secret, session string, err error) {
	if p, _ := parsePool(c.Pool.Location); p.server == "" {
		return "", "", "", nil
	}
	if path, what := secretSource("pool.env_file", c.Pool.EnvFile, CredentialPoolEnv); path != "" {
		return keysOf(what, path)
	}
	access, secret, session = os.Getenv(accessKey), os.Getenv(secretKey), os.Getenv(sessionToken)
	if access == "" || secret == "" {
		return "", "", "", fail.Usagef("set env_file in [pool]: a file with "+accessKey+" and "+secretKey,
			"there are no access keys for the pool %s", c.Pool.Location)
	}
	return access, secret, session, nil
}

// PoolPassword returns the password by which the pool is encrypted, from the first of
// $OCBACKUP_POOL_PASSWORD_FILE, the systemd credential "pool-password" and
// pool.password_file; empty when it is not encrypted. Errors are of code fail.Usage.
func (c *Config) PoolPassword() (string, error) {
	path, what := secretSource("pool.password_file", c.Pool.PasswordFile, CredentialPoolPassword)
	if path == "" {
		return "", nil
	}
	return secretfile.Read(what, path)
}

// keysOf reads a file of NAME=value lines with access keys.
func keysOf(what, path string) (access, secret, session string, err error) {
	if err := secretfile.Check(what, path); err != nil {
		return "", "", "", err
	}
	vars, err := ReadEnvFile(path)
	if err != nil {
		return "", "", "", fail.Wrap(fail.Usage, err, what, "")
	}
	for _, name := range []string{accessKey, secretKey} {
		if vars[name] == "" {
			return "", "", "", fail.Usagef("add a line "+name+"=...", "%s: %s sets no %s", what, path, name)
		}
	}
	return vars[accessKey], vars[secretKey], vars[sessionToken], nil
}
