package extract

import (
	"errors"
	"sync"
	"time"

	"github.com/ocbackup/ocbackup/shellword"

	"github.com/dustin/go-humanize"
	"github.com/dustin/go-humanize/english"

	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/progress"
)

// skip notes that something is not brought.
func (r *run) skip(it *item, f *fault) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if it.skipped {
		return
	}
	it.skipped = true
	if f.class.damage() {
		r.damaged++
	}
	if !it.folder {
		r.done.files++
		r.done.bytes += uint64(it.size)
	}
	if len(r.res.Skipped) == maxSkipped {
		r.res.More++
		return
	}
	r.res.Skipped = append(r.res.Skipped, Skipped{it.path, f.class, f.text})
}

// placed notes that a file is in its place.
func (r *run) placed(it *item, from *Source, size int64, checked bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.done.files++
	r.done.bytes += uint64(size)
	r.res.Files++
	r.res.Bytes += uint64(size)
	if checked {
		r.res.Checked++
	}
	if it.loose {
		r.loose++
	}
	if from != nil {
		from.Files++
		from.Bytes += uint64(size)
	}
}

// addSource names a source in the result.
func (r *run) addSource(kind, name string) *Source {
	s := &Source{Kind: kind, Name: name}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.res.Sources = append(r.res.Sources, s)
	return s
}

// verdict is the error that tells what could not be brought.
func (r *run) verdict() error {
	if r.loose > 0 {
		r.Report.Note("The metadata of " + english.Plural(int(r.loose), "file", "") + " is damaged: the content is what the set has, and nothing tells whether it is whole.")
	}
	n := uint64(len(r.res.Skipped)) + r.res.More
	if n == 0 {
		return nil
	}
	first := r.res.Skipped[0]
	e := &fail.Error{
		Code: fail.Incomplete, What: english.PluralWord(int(n), "one thing was", humanize.Comma(int64(n))+" things were") + " not brought",
		State: "everything else is there", Err: errors.New(shellword.Visible(first.Path) + ": " + first.Reason),
	}
	if r.res.Files == 0 {
		e.State = "nothing was brought"
	}
	if r.Upload != nil {
		e.Hint = "what the server does not take or give up, bring to a directory: --to DIR"
	}
	if r.damaged > 0 {
		e.Code = fail.Inconsistent
		e.Hint = "other sets may have it: ocbackup history; \"ocbackup verify " + r.Set.ID + "\" tells all that is damaged"
	}
	return e
}

// watch shows how far it is, once it has lasted a while.
func (r *run) watch(step progress.Step) (stop func()) {
	const patience, often = 2 * time.Second, 200 * time.Millisecond
	end := make(chan struct{})
	var g sync.WaitGroup
	g.Go(func() {
		t := time.NewTicker(often)
		defer t.Stop()
		for {
			select {
			case <-end:
				return
			case <-t.C:
			}
			if time.Since(r.began) < patience {
				continue
			}
			r.mu.Lock()
			d := r.done
			r.mu.Unlock()
			step.Update(humanize.Comma(int64(d.files)) + " of " + humanize.Comma(int64(r.total.files)) + " files, " +
				humanize.IBytes(d.bytes) + " of " + humanize.IBytes(r.total.bytes))
		}
	})
	return func() { close(end); g.Wait() }
}
