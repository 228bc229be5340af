// Package bucket is what backup, restore and the commands know of the S3 bucket of
// storage driver decomposeds3: it opens a configuration's bucket and pool, with
// their credentials, and joins a pool with the sets of a repository.
package bucket

import (
	"context"
	"fmt"
	"io"

	"github.com/ocbackup/ocbackup/config"
	"github.com/ocbackup/ocbackup/config/discover"
	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/manifest"
	"github.com/ocbackup/ocbackup/repo"
	"github.com/ocbackup/ocbackup/s3mirror"
)

// settings are the ways in which a configuration has objects moved.
func settings(c *config.Config) s3mirror.Settings {
	return s3mirror.Settings{
		Transfers: c.Bucket.Transfers, Checkers: c.Bucket.Checkers, LimitKiB: c.Bucket.LimitKiB, StateDir: c.StateDir,
	}
}

// Of returns the bucket that a configuration names, with its keys: those of
// [bucket] env_file, else the instance's own, from its deployment.
func Of(ctx context.Context, c *config.Config) (s3mirror.Bucket, error) {
	b := s3mirror.Bucket{Region: c.Bucket.Region, Name: c.Bucket.Name, CAFile: c.Bucket.CAFile}
	access, secret, session, ok, err := c.BucketKeys()
	if err == nil && !ok {
		access, secret, err = discover.BucketKeys(ctx, c)
	}
	if err != nil {
		return b, err
	}
	b.Keys = s3mirror.Keys{Access: access, Secret: secret, Session: session}
	b.Endpoint, err = discover.Reach(ctx, c)
	return b, err
}

// OpenSource opens the bucket of an instance.
func OpenSource(ctx context.Context, c *config.Config) (*s3mirror.Source, error) {
	b, err := Of(ctx, c)
	if err != nil {
		return nil, err
	}
	return s3mirror.OpenBucket(ctx, b, settings(c))
}

// OpenPool opens the pool of an instance. Nothing is written.
func OpenPool(ctx context.Context, c *config.Config) (*s3mirror.Pool, error) {
	access, secret, session, err := c.PoolKeys()
	if err != nil {
		return nil, err
	}
	password, err := c.PoolPassword()
	if err != nil {
		return nil, err
	}
	return s3mirror.OpenPool(ctx, s3mirror.Target{
		Location: c.Pool.Location, Region: c.Pool.Region, CAFile: c.Pool.CAFile, RcloneConfig: c.Pool.RcloneConfig,
		Keys: s3mirror.Keys{Access: access, Secret: secret, Session: session}, Password: password,
	}, settings(c))
}

// ForSet returns a configuration with which the bucket and the pool of a set can be
// opened: c, or, where that is nil or knows no pool, what the manifest says. It holds
// no credentials.
func ForSet(c *config.Config, m *manifest.Manifest) *config.Config {
	d := config.Config{Name: m.Instance, Layout: m.Layout, Control: m.Control}
	if c != nil {
		d = *c
	}
	b := m.Bucket
	if b == nil {
		return &d
	}
	if d.Bucket.Endpoint == "" {
		d.Bucket.Endpoint, d.Bucket.Region, d.Bucket.Name = b.Endpoint, b.Region, b.Name
	}
	if d.Pool.Location == "" {
		d.Pool.Location, d.Pool.Region = b.Pool.Location, b.Pool.Region
	}
	return &d
}

// Owner is whom the pool of an instance belongs to.
func Owner(ctx context.Context, instance string, r *repo.Repo) (s3mirror.Owner, error) {
	id, err := r.ID(ctx)
	if err != nil {
		return s3mirror.Owner{}, r.Failure(err, "read the repository's id")
	}
	return s3mirror.Owner{Instance: instance, Repository: id}, nil
}

// Inventories lists the inventories of all sets that hold the bucket in the pool with
// that id, and the ids of those that hold it in another. A set whose manifest can't be
// read might need any object, so it is an error.
func Inventories(r *repo.Repo, sets []manifest.Set, pool string) (out []s3mirror.SetInventory, elsewhere []string, err error) {
	for i := range sets {
		s := &sets[i]
		if s.Err != nil {
			return nil, nil, fail.Wrap(fail.Repository, s.Err, "set "+s.ID, "it is not known which objects the set needs; see \"ocbackup verify --all\"")
		}
		switch b := s.Manifest.Bucket; {
		case b == nil:
		case b.Pool.ID != pool:
			elsewhere = append(elsewhere, s.ID)
		default:
			out = append(out, Inventory(r, s))
		}
	}
	return out, elsewhere, nil
}

// Inventory is the inventory of one set, read from the repository when it is opened.
func Inventory(r *repo.Repo, s *manifest.Set) s3mirror.SetInventory {
	return s3mirror.SetInventory{Set: s.ID, Digest: s.Manifest.Bucket.Digest, Open: func(ctx context.Context) (io.ReadCloser, error) {
		return manifest.Inventory(ctx, r, s)
	}}
}

// Last gives the inventory of the newest of the sets that holds the bucket.
func Last(r *repo.Repo, sets []manifest.Set) s3mirror.LastInventory {
	return func(ctx context.Context) (io.ReadCloser, error) {
		for i := len(sets) - 1; i >= 0; i-- {
			if s := &sets[i]; s.Err == nil && s.Manifest.Bucket != nil {
				return manifest.Inventory(ctx, r, s)
			}
		}
		return nil, nil
	}
}

// Findings are a copy's findings as a manifest records them.
func Findings(all []s3mirror.Finding) []manifest.Finding {
	var out []manifest.Finding
	for _, f := range all {
		out = append(out, manifest.Finding{Kind: f.Kind, Key: f.Key, Text: f.Text})
	}
	return out
}

// String is one finding in one line.
func String(f manifest.Finding) string { return fmt.Sprintf("%s: %s: %s", f.Kind, f.Key, f.Text) }
