package verify

import (
	"context"
	"errors"
	"fmt"

	"github.com/dustin/go-humanize"

	"github.com/ocbackup/ocbackup/bucket"
	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/manifest"
	"github.com/ocbackup/ocbackup/s3mirror"
)

// verifyPool holds the inventories of sets against the pool's listing: every object
// is there, with its size.
func verifyPool(ctx context.Context, o Options, sets []manifest.Set, rep *Report) error {
	var of *manifest.Manifest
	var inventories []s3mirror.SetInventory
	for i := range sets {
		if s := &sets[i]; s.Err == nil && s.Manifest.Bucket != nil {
			of = s.Manifest
			inventories = append(inventories, bucket.Inventory(o.Repo, s))
		}
	}
	if of == nil {
		return nil
	}
	step := o.Report.Step("pool")
	usage, err := func() (*s3mirror.Usage, error) {
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
				"correct location in [pool]")
		}
		return pool.Usage(ctx, inventories, s3mirror.UsageOptions{ListPool: true, OnProgress: func(p s3mirror.Progress) {
			step.Update(bucket.Progress(p))
		}})
	}()
	if err != nil {
		step.Fail(err)
		return err
	}
	rep.Pool = bucket.Findings(usage.Lost)
	if n := len(rep.Pool); n > 0 {
		rep.Sound = false
		step.Fail(errors.New(humanize.Comma(int64(n)) + " findings"))
		return nil
	}
	step.Done(fmt.Sprintf("%s objects, all there", humanize.Comma(int64(usage.Objects))))
	return nil
}
