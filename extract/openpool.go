package extract

import (
	"cmp"
	"context"
	"os"

	"github.com/ocbackup/ocbackup/bucket"
	"github.com/ocbackup/ocbackup/config"
	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/manifest"
	"github.com/ocbackup/ocbackup/paths"
	"github.com/ocbackup/ocbackup/s3mirror"
)

// PoolOptions say where the pool of a set is, and with what it is opened.
type PoolOptions struct {
	Config *config.Config // nil on a bare host
	Set    *manifest.Set
	// Location, EnvFile (keys of an S3 pool) and PasswordFile (of an encrypted one) win over
	// the configuration, and that over the set.
	Location, EnvFile, PasswordFile string
	// Note is told what is worth a line of its own.
	Note func(string)
}

// OpenPool opens the pool that a set refers to, and makes sure that it is that one.
// Nothing in it is changed.
func OpenPool(ctx context.Context, o PoolOptions) (*s3mirror.Pool, error) {
	rec := o.Set.Manifest.Bucket
	c := bucket.ForSet(o.Config, o.Set.Manifest)
	p := &c.Pool
	if o.Config == nil {
		// The files that the configuration of then names are on another host.
		for _, f := range []*string{&p.EnvFile, &p.PasswordFile, &p.CAFile, &p.RcloneConfig} {
			if !paths.Exists(*f) {
				*f = ""
			}
		}
		c.StateDir = os.TempDir() // nothing is written there
	}
	moved := o.Location != "" && o.Location != p.Location
	p.Location = cmp.Or(o.Location, p.Location)
	p.EnvFile = cmp.Or(o.EnvFile, p.EnvFile)
	p.PasswordFile = cmp.Or(o.PasswordFile, p.PasswordFile)
	if moved && o.PasswordFile == "" && !rec.Pool.Encrypted {
		p.PasswordFile = "" // it is the configured pool's
	}
	if o.EnvFile != "" {
		if vars, err := config.ReadEnvFile(o.EnvFile); err == nil { // else whoever reads the keys says so
			p.Region = cmp.Or(vars["AWS_REGION"], vars["AWS_DEFAULT_REGION"], p.Region)
		}
	}
	if _, _, _, err := c.PoolKeys(); err != nil && o.Config == nil && fail.CodeOf(err) == fail.Usage {
		return nil, fail.New(fail.Usage, err.Error(), "name the file with the pool's keys: --pool-env-file FILE")
	}
	password, err := c.PoolPassword()
	switch {
	case err != nil:
		return nil, err
	case rec.Pool.Encrypted && password == "":
		return nil, fail.Usagef("name the file with its password: --pool-password-file FILE", "the pool %s is encrypted", p.Location)
	}
	pool, err := bucket.OpenPool(ctx, c)
	if err != nil {
		return nil, err
	}
	pool.Log = o.Note
	info, err := pool.Check(ctx, s3mirror.Owner{Instance: o.Set.Manifest.Instance})
	switch {
	case err != nil:
		return nil, err
	case info.New:
		return nil, fail.Usagef("say where the pool is: --pool LOCATION", "there is no pool at %s", pool.Location())
	case info.ID != rec.Pool.ID:
		return nil, fail.Usagef("say where the set's pool is now: --pool LOCATION",
			"the pool %s (%s) is not the one that set %s refers to (%s, then at %s)", pool.Location(), info.ID, o.Set.ID, rec.Pool.ID, rec.Pool.Location)
	}
	return pool, nil
}
