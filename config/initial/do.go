package initial

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"

	"github.com/ocbackup/ocbackup/config"
	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/opencloud"
	"github.com/ocbackup/ocbackup/repo"
)

// Result is what was done.
type Result struct {
	Config          string `json:"config"`
	PasswordFile    string `json:"password_file,omitempty"`
	PasswordCreated bool   `json:"password_created"`
	Repository      string `json:"repository"`
	RepositoryID    string `json:"repository_id"`
	// RepositoryCreated is false when there was one that the password opens.
	RepositoryCreated bool `json:"repository_created"`
	// Replaced is where the configuration file is kept that was there before.
	Replaced string `json:"replaced,omitempty"`
}

// Do creates the password file and the repository, and writes the configuration
// file, last. An existing password file is never changed; an existing repository
// that the password opens is used.
func (p *Plan) Do(ctx context.Context) (*Result, error) {
	c := p.Config
	if err := c.Validate(); err != nil {
		return nil, err
	}
	if c.Layout.Driver == opencloud.DecomposedS3 && c.Pool.Location == "" {
		return nil, fail.Usagef("choose a place with --pool LOCATION: a directory, s3:https://host/bucket/prefix, sftp:user@host:/path or rclone:REMOTE:path",
			"pool.location: is missing: the objects of the bucket go beside a local repository, and this one is at %s", repo.WithoutPassword(c.Repository.Location))
	}
	res := &Result{Config: c.Path, PasswordFile: c.Repository.PasswordFile, PasswordCreated: p.NewPassword}
	for _, dir := range []string{filepath.Dir(c.Path), filepath.Dir(or(c.Repository.PasswordFile, c.Path))} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fail.Wrap(fail.Usage, err, "create the directory of the configuration", "run ocbackup as root, or choose another place with --output FILE")
		}
	}
	if p.NewPassword {
		if err := writePassword(c.Repository.PasswordFile); err != nil {
			return nil, fail.Wrap(fail.Failed, err, "create the password file", "")
		}
	}
	opt, err := c.RepoOptions()
	if err != nil {
		return nil, err
	}
	r := repo.New(opt)
	res.Repository = r.Location()
	if _, err := r.Prepare(ctx); err != nil {
		return nil, r.Failure(err, "run restic")
	}
	if dir, local := config.LocalPath(c.Repository.Location); local {
		// restic would try again for a while what can't succeed.
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fail.Wrap(fail.Repository, err, "create the repository "+r.Location(), "choose another place with --repository LOCATION")
		}
	}
	res.RepositoryID, res.RepositoryCreated, err = open(ctx, r)
	if p.NewPassword && errors.Is(err, repo.ErrWrongPassword) {
		// A new password can't open an old repository, and would be in the way next time.
		err = errors.Join(err, os.Remove(c.Repository.PasswordFile))
	}
	if err != nil {
		return nil, err
	}
	if p.Replaces {
		res.Replaced = c.Path + ".old"
		if err := os.Rename(c.Path, res.Replaced); err != nil {
			return nil, fail.Wrap(fail.Failed, err, "keep the old configuration file", "")
		}
	}
	if err := writeNew(c.Path, p.Text); err != nil {
		return nil, fail.Wrap(fail.Failed, err, "write the configuration file", "")
	}
	return res, nil
}

// open opens the repository, or creates it.
func open(ctx context.Context, r *repo.Repo) (id string, created bool, err error) {
	id, err = r.ID(ctx)
	switch {
	case err == nil:
		return id, false, nil
	case errors.Is(err, repo.ErrWrongPassword):
		return "", false, fail.Wrap(fail.Repository, err, "open the repository",
			"it exists already, with another password: name the file that holds it with --password-file FILE")
	}
	id, createErr := r.Init(ctx)
	if createErr == nil {
		return id, true, nil
	}
	if errors.Is(createErr, repo.ErrExists) {
		createErr = err // it is there and could not be opened: that is the reason
	}
	return "", false, r.Failure(createErr, "create the repository "+r.Location())
}

// writePassword creates a file with a new password of 256 bits.
func writePassword(path string) error {
	b := make([]byte, 32)
	if _, err := rand.Read(b); err != nil {
		return err
	}
	return writeNew(path, []byte(base64.StdEncoding.EncodeToString(b)+"\n"))
}

// writeNew writes a file that only its owner may read, and that must not exist. It
// is on disk when writeNew returns: the password is needed for as long as the
// repository is.
func writeNew(path string, b []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	return errors.Join(err, f.Sync(), f.Close())
}

func or(a, b string) string {
	if a == "" {
		return b
	}
	return a
}
