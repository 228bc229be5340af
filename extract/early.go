package extract

import (
	"bytes"
	"context"

	"github.com/ocbackup/ocbackup/catalog"
	"github.com/ocbackup/ocbackup/opencloud"
	"github.com/ocbackup/ocbackup/progress"
)

// Early is the content of one small file on its way into memory. It is read from the set
// that is probably meant while the repository is still asked which sets there are: each
// takes a process of restic, which is most of the time that a small file takes.
type Early struct {
	snapshot, at string
	content      bytes.Buffer
	err          error
	done         chan struct{}
	cancel       context.CancelFunc
}

// earlyMost is how many bytes a file may have to be read early.
const earlyMost = 4 << 20

// Begin begins to read what Run with the same options would; nil where that is not one
// small file in the repository. Nothing is written. The caller closes it.
func Begin(ctx context.Context, o Options) *Early {
	o.Report = progress.Discard
	r := &run{Options: o, ctx: ctx, res: &Result{}}
	if o.Set.Manifest.Layout.Driver == opencloud.DecomposedS3 {
		return nil
	}
	sel, err := r.choose()
	if err != nil || sel.top.Kind != catalog.KindFile && sel.top.Kind != catalog.KindVersion || len(sel.blobs) != 1 || sel.blobs[0].size() > earlyMost {
		return nil
	}
	s, err := r.openRoot()
	if err != nil {
		return nil
	}
	e := &Early{snapshot: s.id, at: sel.blobs[0].at, done: make(chan struct{})}
	ctx, e.cancel = context.WithCancel(ctx)
	go func() {
		defer close(e.done)
		e.err = o.Repo.Dump(ctx, s.id, s.top+"/"+e.at, e)
	}()
	return e
}

// Write takes the content, as far as it can be that of the file.
func (e *Early) Write(b []byte) (int, error) {
	if e.content.Len()+len(b) > earlyMost {
		return 0, errTooMuch
	}
	return e.content.Write(b)
}

// Close ends the reading.
func (e *Early) Close() {
	if e != nil {
		e.cancel()
		<-e.done
	}
}

// has tells whether this is what was read, all of it. It waits until it was.
func (e *Early) has(snapshot, at string) bool {
	if e == nil || e.snapshot != snapshot || e.at != at {
		return false
	}
	<-e.done
	return e.err == nil
}
