package bucket

import (
	"context"
	"errors"
	"time"

	"github.com/ocbackup/ocbackup/config"
	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/guard"
	"github.com/ocbackup/ocbackup/manifest"
	"github.com/ocbackup/ocbackup/opencloud"
	"github.com/ocbackup/ocbackup/repo"
	"github.com/ocbackup/ocbackup/s3mirror"
)

// Options are what looking after a pool takes.
type Options struct {
	Config     *config.Config
	Repo       *repo.Repo
	OnProgress func(s3mirror.Progress)
	// Note is told what is worth a line of its own.
	Note func(string)
}

// Status is what a pool holds, and for which sets.
type Status struct {
	Instance string        `json:"instance"`
	Bucket   string        `json:"bucket"` // name and endpoint
	Pool     string        `json:"pool"`
	Info     s3mirror.Info `json:"info"`
	*s3mirror.Usage
	// Elsewhere lists the sets whose objects are in another pool.
	Elsewhere []string `json:"elsewhere,omitempty"`
	// Grace is how long an unreferenced object is kept, in seconds.
	Grace float64 `json:"grace_s"`
}

// keeper is a pool with the sets that refer to it.
type keeper struct {
	Options
	pool  *s3mirror.Pool
	owner s3mirror.Owner
	info  s3mirror.Info
	sets  []manifest.Set
}

// open opens the pool of an instance and reads all sets, not from the cache: what
// the repository has is the question.
func open(ctx context.Context, o Options) (*keeper, error) {
	c := o.Config
	if c.Layout.Driver != opencloud.DecomposedS3 {
		return nil, fail.Usagef("", "%s has the storage driver %s: its blobs lie in directories, and there is no bucket", c.Name, c.Layout.Driver)
	}
	if err := c.NeedPool(); err != nil {
		return nil, err
	}
	k := &keeper{Options: o}
	if _, err := o.Repo.Prepare(ctx); err != nil {
		return nil, o.Repo.Failure(err, "run restic")
	}
	var err error
	if k.owner, err = Owner(ctx, c.Name, o.Repo); err != nil {
		return nil, err
	}
	if k.pool, err = OpenPool(ctx, c); err != nil {
		return nil, err
	}
	k.pool.Log = o.Note
	if k.info, err = k.pool.Check(ctx, k.owner); err != nil {
		return nil, err
	}
	if k.info.New {
		return nil, fail.Usagef("the first backup makes it: ocbackup backup", "there is no pool in %s yet", k.pool.Location())
	}
	// Of sets that can't be read nobody knows what they need, so that an error is one here.
	if k.sets, err = manifest.List(ctx, o.Repo, ""); err != nil {
		return nil, o.Repo.Failure(err, "read all sets")
	}
	return k, nil
}

// usage counts what the sets need of the pool, and names those whose objects are in
// another.
func (k *keeper) usage(ctx context.Context) (u *s3mirror.Usage, elsewhere []string, err error) {
	sets, elsewhere, err := Inventories(k.Repo, k.sets, k.info.ID)
	if err != nil {
		return nil, nil, err
	}
	u, err = k.pool.Usage(ctx, sets, s3mirror.UsageOptions{OnProgress: k.OnProgress})
	return u, elsewhere, err
}

// ReadStatus finds out what the pool holds, and for which sets. Nothing is changed.
func ReadStatus(ctx context.Context, o Options) (*Status, error) {
	k, err := open(ctx, o)
	if err != nil {
		return nil, err
	}
	u, elsewhere, err := k.usage(ctx)
	if err != nil {
		return nil, err
	}
	c := o.Config
	return &Status{
		Instance: c.Name, Bucket: c.Bucket.Name + " at " + c.Bucket.Endpoint, Pool: k.pool.Location(), Info: k.info,
		Usage: u, Elsewhere: elsewhere, Grace: c.Pool.Grace.Seconds(),
	}, nil
}

// Expire deletes from the pool what no set needs any more, after the grace period.
// No backup can run meanwhile.
func Expire(ctx context.Context, o Options, dryRun bool) (*s3mirror.Expired, error) {
	if !dryRun {
		lock, err := guard.Acquire(o.Config.StateDir, "bucket expire")
		if err != nil {
			return nil, err
		}
		defer lock.Release()
	}
	k, err := open(ctx, o)
	if err != nil {
		return nil, err
	}
	for i := range k.sets {
		if s := &k.sets[i]; s.Err == nil && len(s.Missing) > 0 {
			err = errors.Join(err, fail.New(fail.Repository, "set "+s.ID+" is damaged: snapshots are gone from the repository",
				"nothing is deleted while sets are damaged; see \"ocbackup verify --all\", and forget the set if it is lost"))
		}
	}
	if err != nil {
		return nil, err
	}
	sets, _, err := Inventories(o.Repo, k.sets, k.info.ID)
	if err != nil {
		return nil, err
	}
	return k.pool.Expire(ctx, k.owner, sets, s3mirror.ExpireOptions{
		Grace: o.Config.Pool.Grace, Now: time.Now(), DryRun: dryRun, OnProgress: o.OnProgress,
	})
}
