package extract

import (
	"context"
	"errors"
	"strconv"
)

// sink takes what is brought. Its methods may be called from several goroutines, except
// for begin and finish. Errors are *faults of the item, or what ends it all.
type sink interface {
	// begin makes sure that nothing there is overwritten, and that it can take the rest.
	begin(ctx context.Context) error
	folder(ctx context.Context, it *item) error
	create(ctx context.Context, it *item) (file, error)
	// finish is called when everything is in its place.
	finish() error
	close()
	// parallel is how many files may be put in place at a time.
	parallel() int
}

// file is a file on its way to its place.
type file interface {
	Write(b []byte) (int, error)
	// commit puts it in its place.
	commit() error
	discard()
}

// receiver takes one content, and makes files of it.
type receiver struct {
	run   *run
	from  *Source
	sums  *sums
	files []*receiving
	limit int64 // bytes that any of the items can have; -1: any number
}

// receiving is one of the files.
type receiving struct {
	it   *item
	file file // nil: it is skipped
}

// errTooMuch says that a content has more bytes than the metadata says.
var errTooMuch = errors.New("it has more bytes than the metadata says")

// receive begins to take the content of a blob.
func (r *run) receive(b *blob, from *Source) *receiver {
	in := &receiver{run: r, from: from, sums: newSums(b.items)}
	for _, it := range b.items {
		if it.loose {
			in.limit = -1
		} else if in.limit >= 0 {
			in.limit = max(in.limit, it.size)
		}
		if it.skipped {
			continue
		}
		f, err := r.to.create(r.ctx, it)
		if err != nil {
			r.refuse(it, err)
			continue
		}
		in.files = append(in.files, &receiving{it, f})
	}
	return in
}

// refuse skips an item that its place does not take, or ends it all.
func (r *run) refuse(it *item, err error) {
	var f *fault
	if errors.As(err, &f) {
		r.skip(it, f)
		return
	}
	r.cancel(err)
}

// wanted tells whether the rest of the content is of any use.
func (in *receiver) wanted() bool { return len(in.files) > 0 }

// Write takes more of the content. The error is errTooMuch, or what ends it all.
func (in *receiver) Write(b []byte) (int, error) {
	in.sums.write(b)
	if in.limit >= 0 && in.sums.size > in.limit {
		return 0, errTooMuch
	}
	for i := 0; i < len(in.files); {
		f := in.files[i]
		if _, err := f.file.Write(b); err != nil {
			f.file.discard()
			in.files = append(in.files[:i], in.files[i+1:]...)
			var bad *fault
			if !errors.As(err, &bad) {
				in.run.cancel(err)
				return 0, err
			}
			in.run.skip(f.it, bad)
			continue
		}
		i++
	}
	return len(b), nil
}

// end is called when all of the content was given, or with why it was not: a fault of
// the blob. Files that are what the metadata says go to their places meanwhile.
func (in *receiver) end(why *fault) {
	for _, f := range in.files {
		checked, wrong := false, why
		if why == nil {
			checked, wrong = in.sums.judge(f.it)
		}
		if wrong != nil {
			f.file.discard()
			in.run.skip(f.it, f.it.told(wrong))
			continue
		}
		in.run.puts.Go(func() error {
			err := f.file.commit()
			if err != nil {
				f.file.discard()
				in.run.refuse(f.it, err)
				return nil
			}
			in.run.placed(f.it, in.from, in.sums.size, checked)
			return nil
		})
	}
	in.files = nil
}

// drop forgets what was given: it is given again, or not at all.
func (in *receiver) drop() {
	for _, f := range in.files {
		f.file.discard()
	}
	in.files = nil
}

// tooMuch is the fault of a content that went on after its end.
func (in *receiver) tooMuch() *fault {
	return &fault{SizeMismatch, "the set has more of it than the " + strconv.FormatInt(in.limit, 10) + " bytes that the metadata says"}
}

// told is a fault as it is told of this item: what OpenCloud was still processing need
// not be whole.
func (it *item) told(f *fault) *fault {
	if !it.pending || !f.class.damage() {
		return f
	}
	return &fault{Pending, "OpenCloud was still processing the upload (" + f.text + "); --version 1 gets what was there before"}
}

// skipAll skips all items of a blob.
func (r *run) skipAll(b *blob, f *fault) {
	for _, it := range b.items {
		r.skip(it, it.told(f))
	}
}
