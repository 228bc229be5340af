package verify

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/dustin/go-humanize"

	"github.com/ocbackup/ocbackup/bucket"
	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/manifest"
	"github.com/ocbackup/ocbackup/progress"
	"github.com/ocbackup/ocbackup/s3mirror"
)

// verifyPool holds the inventories of sets against the pool's listing: every object
// is there, with its size.
func verifyPool(ctx context.Context, o Options, sets []manifest.Set, rep *Report) error {
	var of *manifest.Manifest
	for i := range sets {
		if s := &sets[i]; s.Err == nil && s.Manifest.Bucket != nil {
			of = s.Manifest // the newest is the one whose pool is configured
		}
	}
	if of == nil {
		return nil
	}
	step := o.Report.Step("pool")
	usage, err := poolUsage(ctx, o, of, sets, step)
	if err != nil {
		step.Fail(err)
		return err
	}
	rep.Pool = append(rep.Pool, bucket.Findings(usage.Lost)...)
	if n := len(rep.Pool); n > 0 {
		rep.Sound = false
		step.Fail(errors.New(humanize.Comma(int64(n)) + " findings"))
		return nil
	}
	step.Done(fmt.Sprintf("%s objects, all there; not read (ocbackup bucket reconcile --read-data reads them)", humanize.Comma(int64(usage.Objects))))
	return nil
}

// poolUsage counts what the sets need of the pool of one of them. Sets that refer to
// another pool are told of, not verified.
func poolUsage(ctx context.Context, o Options, of *manifest.Manifest, sets []manifest.Set, step progress.Step) (*s3mirror.Usage, error) {
	pool, err := o.Pool(ctx, of)
	if err != nil {
		return nil, err
	}
	info, err := pool.Check(ctx, s3mirror.Owner{Instance: of.Instance})
	if err != nil {
		return nil, err
	}
	if info.ID != of.Bucket.Pool.ID {
		return nil, fail.New(fail.Repository, "the pool "+pool.Location()+" is not the one that set "+of.Set+" refers to",
			"is its disk mounted? correct location in [pool]")
	}
	whole := slices.DeleteFunc(slices.Clone(sets), func(s manifest.Set) bool { return s.Err != nil })
	inventories, elsewhere, err := bucket.Inventories(o.Repo, whole, info.ID)
	if err != nil {
		return nil, err
	}
	for _, id := range elsewhere {
		o.Report.Note("The objects of set " + id + " are in another pool and were not looked at.")
	}
	return pool.Usage(ctx, inventories, s3mirror.UsageOptions{OnProgress: func(p s3mirror.Progress) {
		step.Update(bucket.Progress(p))
	}})
}
