package extract

import (
	"context"
	"errors"
	"io"
	"sort"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/manifest"
	"github.com/ocbackup/ocbackup/s3mirror"
)

// transfers is how many objects are read at a time.
const transfers = 8

// objects are the contents of a set that lie in a pool.
type objects struct {
	run  *run
	pool *s3mirror.Pool
	name *Source
}

func (r *run) openPool(ctx context.Context) (*objects, error) {
	if r.Set.Manifest.Bucket == nil {
		return nil, fail.Usagef("choose another set: ocbackup list", "set %s does not hold the contents of files", r.Set.ID)
	}
	p, err := r.Pool(ctx)
	if err != nil {
		return nil, err
	}
	return &objects{run: r, pool: p, name: r.addSource("pool", p.Location())}, nil
}

func (s *objects) fetch(ctx context.Context, blobs []*blob) error {
	records, err := s.records(ctx, blobs)
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(transfers)
	for i, b := range blobs {
		if records[i] == nil {
			s.run.skipAll(b, &fault{Missing, "the set's inventory has no object " + b.at})
			continue
		}
		if context.Cause(ctx) != nil {
			break
		}
		g.Go(func() error { return s.bring(ctx, b, records[i]) })
	}
	return g.Wait()
}

// records finds the objects of blobs in the set's inventory; nil for what it lacks.
func (s *objects) records(ctx context.Context, blobs []*blob) ([]*s3mirror.Object, error) {
	r := s.run
	in, err := manifest.Inventory(ctx, r.Repo, r.Set)
	if err != nil {
		return nil, err
	}
	defer in.Close() //nolint:errcheck // what matters is whether it was read to its end
	// blobs are sorted by path, which the order of keys is not.
	order := make([]int, len(blobs))
	for i := range order {
		order[i] = i
	}
	sort.Slice(order, func(i, j int) bool { return blobs[order[i]].at < blobs[order[j]].at })
	found := make([]*s3mirror.Object, len(blobs))
	err = s3mirror.EachObject(in, "the inventory of set "+r.Set.ID, func(o *s3mirror.Object) error {
		i, ok := sort.Find(len(order), func(i int) int { return strings.Compare(o.Key, blobs[order[i]].at) })
		if ok {
			found[order[i]] = o
		}
		return nil
	})
	return found, r.ended(ctx, err, "read the inventory of set "+r.Set.ID)
}

// bring brings one object.
func (s *objects) bring(ctx context.Context, b *blob, o *s3mirror.Object) error {
	in := s.run.receive(b, s.name)
	if !in.wanted() {
		return nil
	}
	content, err := s.pool.Open(ctx, o)
	if err == nil {
		_, err = io.Copy(in, content)
		_ = content.Close() // what matters is what was read
	}
	f, wrong := s3mirror.ObjectFault(err)
	switch {
	case err == nil:
		in.end(nil)
	case errors.Is(err, errTooMuch):
		in.end(in.tooMuch())
	case wrong && f.Kind == s3mirror.Lost:
		in.end(&fault{Missing, f.Text + " (" + o.Path() + ")"})
	case wrong:
		in.end(&fault{Unreadable, f.Text + " (" + o.Path() + ")"})
	default:
		in.drop()
		if cause := context.Cause(ctx); cause != nil {
			return cause
		}
		return err
	}
	return nil
}
