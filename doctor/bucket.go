package doctor

import (
	"context"

	"github.com/ocbackup/ocbackup/bucket"
	"github.com/ocbackup/ocbackup/opencloud"
	"github.com/ocbackup/ocbackup/s3mirror"
)

// s3bucket looks whether the S3 bucket that holds the blobs can be read.
type s3bucket struct{}

func (s3bucket) Name() string { return "bucket" }

func (s3bucket) Run(ctx context.Context, s *Subject) []Finding {
	if s.Config.Layout.Driver != opencloud.DecomposedS3 {
		return nil
	}
	if err := s.Config.NeedPool(); err != nil {
		return []Finding{failed(err, "")}
	}
	src, err := bucket.OpenSource(ctx, s.Config)
	if err == nil {
		err = src.Check(ctx)
	}
	if err != nil {
		return []Finding{failed(err, "")}
	}
	return okay("%s can be listed", src)
}

// pool looks whether the bucket's pool is there, and is this instance's.
type pool struct{}

func (pool) Name() string { return "pool" }

func (pool) Run(ctx context.Context, s *Subject) []Finding {
	if s.Config.Layout.Driver != opencloud.DecomposedS3 || s.Config.NeedPool() != nil {
		return nil // said already
	}
	p, err := bucket.OpenPool(ctx, s.Config)
	if err != nil {
		return []Finding{failed(err, "")}
	}
	i, err := p.Check(ctx, s3mirror.Owner{Instance: s.Config.Name})
	switch {
	case err != nil:
		return []Finding{failed(err, "")}
	case i.New:
		return []Finding{info("ocbackup backup", "there is no pool in %s yet; the first backup makes it", p.Location())}
	}
	return okay("%s is the pool of %s%s", p.Location(), s.Config.Name, i.Features())
}

// poolDisk looks at the disk of a pool that lies on one.
type poolDisk struct{}

func (poolDisk) Name() string { return "pool disk" }

func (poolDisk) Run(ctx context.Context, s *Subject) []Finding {
	if s.Config.Layout.Driver != opencloud.DecomposedS3 {
		return nil
	}
	p, err := bucket.OpenPool(ctx, s.Config)
	if err != nil {
		return nil // said already
	}
	return disk("pool", p.Local(), s.Config)
}
