package s3mirror

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

// holdings is a listing of all objects of a pool: sorted files, one per directory and
// space.
type holdings struct {
	files *scratch
	parts []holding
}

type holding struct{ dir, space string }

// holdingDirs are the directories of a pool that hold objects, in order.
var holdingDirs = []string{blobsDir, changedDir, damagedDir, oddDir}

// hold lists a pool.
func (p *Pool) hold(ctx context.Context, files *scratch, m *meter) (*holdings, error) {
	ctx = p.with(ctx)
	h := &holdings{files: files}
	g, listing := errgroup.WithContext(ctx)
	g.SetLimit(p.Checkers)
	for _, dir := range holdingDirs {
		s := side{f: p.data, dir: dir}
		spaces, err := s.spaces(ctx)
		if err != nil {
			return nil, p.fail(err, "list")
		}
		for _, space := range spaces {
			part := holding{dir, space}
			h.parts = append(h.parts, part)
			g.Go(func() error {
				n, err := s.list(listing, space, h.file(part))
				m.listed.Add(n)
				return err
			})
		}
	}
	return h, p.fail(g.Wait(), "list")
}

func (h *holdings) file(p holding) string {
	return segments{h.files.dir}.file("held-"+p.dir, p.space)
}

// all gives everything that the pool holds.
func (h *holdings) all() (next entries, done func()) {
	parts := h.parts
	var in *os.File
	var r *reader
	done = func() {
		if in != nil {
			_ = in.Close()
			in = nil
		}
	}
	dir := ""
	next = func() (*entry, error) {
		for {
			if in == nil {
				if len(parts) == 0 {
					return nil, io.EOF
				}
				var err error
				if in, err = os.Open(h.file(parts[0])); err != nil {
					return nil, err
				}
				dir, r = parts[0].dir, newReader(in, in.Name())
				parts = parts[1:]
			}
			if r.next() {
				return &entry{Path: dir + "/" + r.at.Key, Size: r.at.Size}, nil
			}
			if err := r.failed(); err != nil {
				return nil, err
			}
			done()
		}
	}
	return next.ordered("the pool's listing"), done
}

// find looks for what lies at a path; nil when there is nothing.
func (h *holdings) find(path string) (found *Object, err error) {
	dir, key, _ := strings.Cut(path, "/")
	err = eachRecord(h.file(holding{dir, spaceOf(key)}), func(o *Object) error {
		if o.Key == key {
			found = o
		}
		return nil
	})
	return found, err
}

// progressOf starts a meter for work on a pool.
func progressOf(report func(Progress)) (m *meter, stop func()) {
	m = &meter{began: time.Now(), report: report}
	return m, m.start()
}

// keyOf is the key of what lies at a path under blobs/; of others the path itself.
func keyOf(path string) string {
	return strings.TrimPrefix(path, blobsDir+"/")
}

// missingText says what a set wants, and the pool does not have.
func missingText(e *entry, sets []SetInventory) string {
	if e.sets == 1 {
		return "the pool no longer holds it; set " + sets[e.only].Set + " needs it"
	}
	return fmt.Sprintf("the pool no longer holds it; %d sets need it", e.sets)
}

// damagedFrom is where an object that was put aside (setAside) has been; empty for others.
func damagedFrom(path string) string {
	from, ok := strings.CutPrefix(path, damagedDir+"/")
	if at := strings.LastIndexByte(from, '.'); ok && at >= 0 {
		return from[:at]
	}
	return ""
}

// spare finds where objects that were put aside have been, of which the pool holds no
// whole copy that sets want: a damaged one is better than none.
func (h *holdings) spare(wanted *refs) (map[string]bool, error) {
	aside := map[string]bool{}
	for _, part := range h.parts {
		if part.dir != damagedDir {
			continue
		}
		err := eachRecord(h.file(part), func(o *Object) error {
			aside[damagedFrom(damagedDir+"/"+o.Key)] = true
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	spare := map[string]bool{}
	if len(aside) == 0 {
		return spare, nil
	}
	all, done, err := wanted.all()
	if err != nil {
		return nil, err
	}
	defer done()
	held, done := h.all()
	defer done()
	return spare, joinEntries(all, held, func(want, there *entry) error {
		if want != nil && aside[want.Path] && (there == nil || there.Size != want.Size) {
			spare[want.Path] = true
		}
		return nil
	})
}
