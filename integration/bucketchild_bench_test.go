//go:build integration && bench

package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"sync/atomic"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"golang.org/x/sync/errgroup"

	"github.com/ocbackup/ocbackup/s3mirror"
)

// job is what a child of the benchmark does: one thing in a process of its own, so
// that its memory can be measured, and its time held against that of a command.
type job struct {
	Do        string // list, copy, restore
	Bucket    s3mirror.Bucket
	Target    s3mirror.Target
	StateDir  string
	Inventory string // restore: of a copy
}

// outcome is what it prints.
type outcome struct {
	Objects   uint64  // listed
	New       uint64  // copied
	Inventory string  // that copy has written
	Seconds   float64 // without opening bucket and pool
}

// childArg is the argument that makes this program such a child; a job follows.
const childArg = "benchmark-child"

func init() {
	if len(os.Args) != 3 || os.Args[1] != childArg {
		return
	}
	if err := child(os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func child(file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var j job
	if err := json.Unmarshal(text, &j); err != nil {
		return err
	}
	does := map[string]func(context.Context) (outcome, error){"list": j.list, "copy": j.copy, "restore": j.restore}
	d, err := does[j.Do](background)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(d)
}

// open opens bucket and pool.
func (j job) open(ctx context.Context) (*s3mirror.Source, *s3mirror.Pool, error) {
	set := s3mirror.Settings{StateDir: j.StateDir}
	src, err := s3mirror.OpenBucket(ctx, j.Bucket, set)
	if err != nil {
		return nil, nil, err
	}
	pool, err := s3mirror.OpenPool(ctx, j.Target, set)
	if err != nil {
		return nil, nil, err
	}
	_, err = pool.Create(ctx, s3mirror.Owner{Instance: "bench.test", Repository: "bench"})
	return src, pool, err
}

// copy is what a backup does with the bucket while the server is stopped.
func (j job) copy(ctx context.Context) (outcome, error) {
	src, pool, err := j.open(ctx)
	if err != nil {
		return outcome{}, err
	}
	m, err := s3mirror.NewMirror(src, pool, nil)
	if err != nil {
		return outcome{}, err
	}
	c, err := m.Copy(ctx, s3mirror.CopyOptions{})
	if err != nil {
		return outcome{}, err
	}
	if len(c.Findings) > 0 {
		return outcome{}, fmt.Errorf("findings: %v", c.Findings)
	}
	return outcome{c.Listed, c.New, c.Inventory.Path, c.Seconds}, nil
}

// restore is what a restore does with the bucket.
func (j job) restore(ctx context.Context) (outcome, error) {
	_, pool, err := j.open(ctx)
	if err != nil {
		return outcome{}, err
	}
	inventory, err := os.Open(j.Inventory)
	if err != nil {
		return outcome{}, err
	}
	defer inventory.Close()
	d, err := pool.Compare(ctx, inventory, s3mirror.Destination{Bucket: &j.Bucket})
	if err != nil {
		return outcome{}, err
	}
	defer d.Close()
	r, err := pool.Restore(ctx, d, s3mirror.RestoreOptions{})
	if err != nil {
		return outcome{}, err
	}
	return outcome{New: r.Objects, Seconds: r.Seconds}, nil
}

// list lists the bucket and does nothing with it, as fast as can be: its spaces, and
// then eight of them at a time.
func (j job) list(ctx context.Context) (outcome, error) {
	client := s3.New(s3.Options{
		BaseEndpoint: &j.Bucket.Endpoint, Region: j.Bucket.Region, UsePathStyle: true,
		Credentials: credentials.NewStaticCredentialsProvider(j.Bucket.Keys.Access, j.Bucket.Keys.Secret, ""),
	})
	var g errgroup.Group
	g.SetLimit(8)
	var objects atomic.Uint64
	spaces := s3.NewListObjectsV2Paginator(client, &s3.ListObjectsV2Input{Bucket: &j.Bucket.Name, Delimiter: aws.String("/")})
	for spaces.HasMorePages() {
		page, err := spaces.NextPage(ctx)
		if err != nil {
			return outcome{}, err
		}
		for _, space := range page.CommonPrefixes {
			g.Go(func() error {
				pages := s3.NewListObjectsV2Paginator(client, &s3.ListObjectsV2Input{Bucket: &j.Bucket.Name, Prefix: space.Prefix})
				for pages.HasMorePages() {
					page, err := pages.NextPage(ctx)
					if err != nil {
						return err
					}
					objects.Add(uint64(len(page.Contents)))
				}
				return nil
			})
		}
	}
	err := g.Wait()
	return outcome{Objects: objects.Load()}, err
}
