package restore

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/dustin/go-humanize"
	"github.com/dustin/go-humanize/english"

	"github.com/ocbackup/ocbackup/bucket"
	"github.com/ocbackup/ocbackup/config"
	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/manifest"
	"github.com/ocbackup/ocbackup/opencloud"
	"github.com/ocbackup/ocbackup/paths"
	"github.com/ocbackup/ocbackup/progress"
	"github.com/ocbackup/ocbackup/s3mirror"
)

// bucketPart is the S3 bucket's part of a restore. OpenCloud never changes an object:
// it adds and deletes them. So adding those that are missing does no harm to a server
// that runs, and is done while it does.
type bucketPart struct {
	rec  *manifest.Bucket // what the set holds
	cfg  *config.Config   // that bucket and pool are opened with
	pool *s3mirror.Pool
	to   s3mirror.Destination
	name string // of the destination, for people
	id   bucketID
	own  bool                 // the destination is the bucket of the instance
	diff *s3mirror.Difference // how the destination differs from the set
	left *s3mirror.Difference // the same once it was filled; only when extra objects are to be deleted
	// touched tells that objects were added to the destination or overwritten there, or
	// may have been.
	touched bool
}

// wantsBucket tells whether the bucket is part of the restore.
func (r *run) wantsBucket() bool {
	return r.set.Manifest.Bucket != nil && (r.res.Full || slices.Contains(r.Components, opencloud.Blobs))
}

// hasBucket tells whether the bucket is restored, hasRoots whether anything else is.
func (r *run) hasBucket() bool { return r.bucket != nil }
func (r *run) hasRoots() bool  { return len(r.items) > 0 }

// onlyBucket tells whether the instance is left alone: the bucket is all there is.
func (r *run) onlyBucket() bool { return r.bucket != nil && len(r.items) == 0 }

// close removes temporary files.
func (b *bucketPart) close() {
	for _, d := range []*s3mirror.Difference{b.diff, b.left} {
		if d != nil {
			_ = d.Close() // they are in a directory that the next run clears
		}
	}
}

// findBucket opens the pool and the destination, and sees that both can be used.
func (r *run) findBucket(ctx context.Context, step progress.Step) error {
	if !r.wantsBucket() {
		return r.checkNoBucket()
	}
	r.sweepKeys()
	step.Update("looking at the bucket and its pool")
	b := &bucketPart{rec: r.set.Manifest.Bucket}
	named := r.cfg.Bucket
	if r.cfg = bucket.ForSet(r.cfg, r.set.Manifest); r.Config != nil {
		// The bucket of then may no longer be the instance's: it has to be named.
		r.cfg.Bucket = named
	}
	if err := r.openPool(ctx, b); err != nil {
		return err
	}
	if err := r.findDestination(ctx, b); err != nil {
		return err
	}
	r.bucket = b
	if err := r.checkApart(b); err != nil {
		return err
	}
	return r.checkNamed(b)
}

// checkNoBucket refuses options that mean nothing without a bucket.
func (r *run) checkNoBucket() error {
	for _, o := range []struct {
		flag  string
		given bool
	}{
		{"--bucket-target", r.BucketTarget != ""},
		{"--bucket-env-file", r.BucketEnvFile != ""},
		{"--pool", r.PoolAt != ""},
		{"--pool-env-file", r.PoolEnvFile != ""},
		{"--pool-password-file", r.PoolPasswordFile != ""},
		{"--delete-extra", r.DeleteExtra},
		{"--accept-damaged-blobs", r.AcceptDamagedBlobs},
	} {
		if o.given {
			return fail.Usagef("leave it out", "%s has no meaning: no bucket is restored from set %s", o.flag, r.set.ID)
		}
	}
	return nil
}

// openPool opens the pool, and makes sure that it is the one that the set refers to.
func (r *run) openPool(ctx context.Context, b *bucketPart) error {
	p := &r.cfg.Pool
	for _, x := range []struct{ flag, value *string }{
		{&r.PoolAt, &p.Location}, {&r.PoolEnvFile, &p.EnvFile}, {&r.PoolPasswordFile, &p.PasswordFile},
	} {
		if *x.flag != "" {
			*x.value = *x.flag
		}
	}
	if region := regionIn(r.PoolEnvFile); region != "" {
		p.Region = region
	}
	var err error
	if b.cfg, err = r.usable(); err != nil {
		return err
	}
	if err := r.checkPoolSecrets(b); err != nil {
		return err
	}
	if b.pool, err = bucket.OpenPool(ctx, b.cfg); err != nil {
		return err
	}
	b.pool.Log = r.Report.Note
	owner := s3mirror.Owner{Instance: r.set.Manifest.Instance}
	info, err := b.pool.Check(ctx, owner)
	if err != nil && r.PoolAt != "" && r.PoolPasswordFile == "" && b.cfg.Pool.PasswordFile != "" {
		// The password is the configured pool's; the one that was named may have none.
		clear := *b.cfg
		clear.Pool.PasswordFile = ""
		if pool, oerr := bucket.OpenPool(ctx, &clear); oerr == nil {
			if i, cerr := pool.Check(ctx, owner); cerr == nil {
				b.cfg, b.pool, info, err = &clear, pool, i, nil
			}
		}
	}
	switch {
	case err != nil:
		return err
	case info.New:
		return fail.Usagef("say where the pool is: --pool LOCATION", "there is no pool at %s", b.pool.Location())
	case info.ID != b.rec.Pool.ID:
		return fail.Usagef("say where the set's pool is now: --pool LOCATION",
			"the pool %s (%s) is not the one that set %s refers to (%s, then at %s)", b.pool.Location(), info.ID, r.set.ID, b.rec.Pool.ID, b.rec.Pool.Location)
	}
	if r.Config != nil && r.PoolAt != "" && r.PoolAt != r.Config.Pool.Location && r.Target == "" {
		r.note("Set location in [pool] to " + b.pool.Location() + " if it has moved for good.")
	}
	return nil
}

// checkPoolSecrets names the flags by which the pool's secrets are given.
func (r *run) checkPoolSecrets(b *bucketPart) error {
	if _, _, _, err := b.cfg.PoolKeys(); err != nil {
		return r.bareHint(err, "name the file with the pool's keys: --pool-env-file FILE")
	}
	password, err := b.cfg.PoolPassword()
	if err != nil {
		return err
	}
	if b.rec.Pool.Encrypted && password == "" {
		return fail.Usagef("name the file with its password: --pool-password-file FILE", "the pool %s is encrypted", r.cfg.Pool.Location)
	}
	return nil
}

// bareHint is err with a hint that fits a host without a configuration.
func (r *run) bareHint(err error, hint string) error {
	if err == nil || r.Config != nil || fail.CodeOf(err) != fail.Usage {
		return err
	}
	return fail.New(fail.Usage, err.Error(), hint)
}

// usable is the configuration as bucket and pool can be opened with it here. Where the
// instance is not touched, nothing is left in its state directory; on another host
// than it was written for, files with secrets may be missing.
func (r *run) usable() (*config.Config, error) {
	c := *r.cfg
	if r.Config == nil {
		for _, f := range []struct {
			given string
			path  *string
		}{
			{r.BucketEnvFile, &c.Bucket.EnvFile},
			{"", &c.Bucket.CAFile},
			{r.PoolEnvFile, &c.Pool.EnvFile},
			{r.PoolPasswordFile, &c.Pool.PasswordFile},
			{"", &c.Pool.CAFile},
			{"", &c.Pool.RcloneConfig},
		} {
			if f.given == "" && !paths.Exists(*f.path) {
				*f.path = ""
			}
		}
	}
	if c.StateDir != "" && paths.IsDir(c.StateDir) {
		return &c, nil
	}
	var err error
	c.StateDir, err = os.MkdirTemp("", "ocbackup-bucket-")
	r.temp = append(r.temp, c.StateDir)
	return &c, err
}

// compareBucket finds out how the destination differs from the set. Nothing is
// changed.
func (r *run) compareBucket(ctx context.Context, step progress.Step) error {
	b := r.bucket
	if b == nil {
		return nil
	}
	step.Update("comparing the set with " + b.name)
	var err error
	if b.diff, err = r.difference(ctx); err != nil {
		return err
	}
	d := b.diff
	if b.to.Dir != "" && d.Extra > 0 {
		return fail.Usagef("name a new or an empty directory", "%s holds %s not of set %s, such as %s",
			b.to.Dir, english.Plural(int(d.Extra), "file that is", "files that are"), r.set.ID, d.ExtraKeys(1)[0].Key)
	}
	r.res.Bucket = &RestoredBucket{
		Destination: b.name, Objects: d.Objects, Bytes: d.Bytes, Restored: d.Missing + d.Differing, RestoredBytes: d.MissingBytes + d.DifferingBytes,
		Differing: d.Differing, Extra: d.Extra, ExtraBytes: d.ExtraBytes,
	}
	if r.bucketBeside() {
		return nil // its room is counted with that of the rest
	}
	if b.to.Dir != "" {
		return dirRoom(b.to.Dir, r.res.Bucket.RestoredBytes)
	}
	return nil
}

func (r *run) bucketBeside() bool { return r.Target != "" }

// difference compares the set's inventory with the destination as it is now.
func (r *run) difference(ctx context.Context) (*s3mirror.Difference, error) {
	inv, err := manifest.Inventory(ctx, r.Repo, r.set)
	if err != nil {
		return nil, err
	}
	defer inv.Close() //nolint:errcheck // what matters is whether it was read to its end
	d, err := r.bucket.pool.Compare(ctx, inv, r.bucket.to)
	if err != nil {
		return nil, err
	}
	return d, nil
}

// dirRoom makes sure that a directory has room for objects.
func dirRoom(dir string, need uint64) error {
	var st syscall.Statfs_t
	at := existing(dir)
	if err := syscall.Statfs(at, &st); err != nil {
		return &os.PathError{Op: "statfs", Path: at, Err: err}
	}
	free := st.Bavail * uint64(st.Bsize)
	if need += need / 10; need > free {
		return fail.Usagef("make room, or choose another --bucket-target", "not enough room on the file system of %s: %s are needed, %s are free",
			at, humanize.IBytes(need), humanize.IBytes(free))
	}
	return nil
}

// bucketDir is where objects go below the target directory: to a name that no root
// has there.
func (r *run) bucketDir() string {
	dir := filepath.Join(r.Target, "bucket")
	for slices.ContainsFunc(r.items, func(it *item) bool { return paths.Within(dir, it.target) || paths.Within(it.target, dir) }) {
		dir += "-objects"
	}
	return dir
}
