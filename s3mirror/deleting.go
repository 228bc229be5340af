package s3mirror

import (
	"context"
	"errors"
	"io"
	"net/http"
	"path"
	"strings"
	"sync"
	"syscall"

	"github.com/rclone/rclone/fs"
	"golang.org/x/sync/errgroup"
)

// maxRefusals is how many objects that can't be deleted are named.
const maxRefusals = 100

// delete deletes what the journal names. What the server refuses to delete is written
// down again; on any other error the journal stays for the next run.
func (x *expiry) delete(ctx context.Context) error {
	ctx, all := newFailures(x.pool.with(ctx))
	next, done, err := savedEntries{path: x.path(journalFile)}.open(x.id)
	if err != nil {
		return err
	}
	defer done()
	x.meter.toCopy.Store(int64(x.due.objects))
	kept := make([]bool, x.due.objects)
	var mu sync.Mutex
	var g errgroup.Group
	g.SetLimit(x.pool.Transfers)
	for i := range kept {
		var e *entry
		if e, err = next(); err != nil || context.Cause(ctx) != nil {
			break
		}
		g.Go(func() error {
			err := x.pool.delete(ctx, e.Path)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				x.out.Deleted++
				x.out.DeletedBytes += uint64(e.Size)
				x.meter.objects.Add(1)
			case refused(err):
				kept[i] = true
				if x.out.Refused++; x.out.Refused <= maxRefusals {
					x.out.Findings = append(x.out.Findings, Finding{Refused, keyOf(e.Path), err.Error()})
				}
			default:
				all.add(x.pool.fail(err, "delete "+e.Path))
			}
			return nil
		})
	}
	_ = g.Wait() // all has the errors
	if err := all.end(err); err != nil {
		return err
	}
	return x.remember(kept)
}

// remember writes down again what could not be deleted, with its time.
func (x *expiry) remember(kept []bool) error {
	if x.out.Refused == 0 {
		return nil
	}
	waiting, done, err := savedEntries{path: x.path(unreferencedFile)}.open(x.id)
	if err != nil {
		return err
	}
	defer done()
	journal, done, err := savedEntries{path: x.path(journalFile)}.open(x.id)
	if err != nil {
		return err
	}
	defer done()
	i := -1
	left := func() (*entry, error) {
		for {
			e, err := journal()
			if err != nil {
				return nil, err
			}
			if i++; kept[i] {
				return e, nil
			}
		}
	}
	out, err := createEntries(x.files.file("remembered"), x.id)
	if err != nil {
		return err
	}
	all := union(waiting, left)
	for {
		e, err := all()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			err = out.add(e)
		}
		if err != nil {
			return errors.Join(err, out.close())
		}
	}
	if err := out.close(); err != nil {
		return err
	}
	return out.install(x.path(unreferencedFile))
}

// delete deletes one object, and the directories that are empty then.
func (p *Pool) delete(ctx context.Context, name string) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	o, err := p.data.NewObject(ctx, name)
	if err == nil {
		err = o.Remove(ctx)
	}
	if err != nil && !missing(err) {
		return err
	}
	if !p.data.Features().CanHaveEmptyDirectories {
		return nil
	}
	for dir := path.Dir(name); strings.Contains(dir, "/"); dir = path.Dir(dir) {
		if p.data.Rmdir(ctx, dir) != nil {
			break // it is not empty
		}
	}
	return nil
}

// refused tells whether a server, or the system, does not let an object be deleted.
func refused(err error) bool {
	if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EACCES) || errors.Is(err, fs.ErrorPermissionDenied) {
		return true
	}
	var status interface{ HTTPStatusCode() int }
	if !errors.As(err, &status) {
		return false
	}
	switch code := status.HTTPStatusCode(); code {
	case http.StatusRequestTimeout, http.StatusTooManyRequests:
		return false
	default:
		return code >= 400 && code < 500
	}
}

// abandonUploads removes what interrupted uploads have left on an S3 server: it is in
// no listing, and takes space. Nobody else uploads: the caller holds the instance's lock.
// That it can't be done, or that the server does not know how, is only worth a line.
func (x *expiry) abandonUploads(ctx context.Context) error {
	if x.pool.raw == nil {
		return nil
	}
	n, err := x.pool.raw.abandon(ctx)
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	if err != nil {
		x.pool.Log("uploads that were interrupted could not be removed from the pool: " + err.Error())
	}
	x.out.Uploads = n
	return nil
}
