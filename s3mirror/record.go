package s3mirror

import (
	"bufio"
	"errors"
	"os"
)

// future is an object's record that may still be on its way.
type future struct {
	done   chan struct{} // nil: there already
	object Object        // without a key: there is none
	listed bool          // belongs to the inventory
	err    error
}

func known(o *Object, listed bool) *future { return &future{object: *o, listed: listed} }

// recorder writes the records of one space in order, each when its object is in the
// pool: what is in a segment of a pass that was killed is true.
type recorder struct {
	queue chan *future
	done  chan struct{}
	files [2]*os.File // index, inventory
	err   error
}

// recorderQueue is how many records may wait for one that is on its way.
const recorderQueue = 256

func newRecorder(work segments, space string) (*recorder, error) {
	r := &recorder{queue: make(chan *future, recorderQueue), done: make(chan struct{})}
	for i, kind := range []string{"index", "inventory"} {
		var err error
		if r.files[i], err = os.Create(work.file(kind, space)); err != nil {
			return nil, errors.Join(err, r.files[0].Close())
		}
	}
	go r.write()
	return r, nil
}

// add appends a record.
func (r *recorder) add(f *future) error {
	select {
	case r.queue <- f:
		return nil
	case <-r.done:
		return r.err
	}
}

// close waits for all records and gives what went wrong.
func (r *recorder) close() error {
	close(r.queue)
	<-r.done
	return r.err
}

func (r *recorder) write() {
	defer close(r.done)
	index, inventory := bufio.NewWriterSize(r.files[0], 32<<10), bufio.NewWriterSize(r.files[1], 32<<10)
	var line []byte
	for f := range r.queue {
		if f.done != nil {
			select {
			case <-f.done:
			default:
				// What is complete goes to the file before a wait that may be long.
				r.err = errors.Join(index.Flush(), inventory.Flush())
				<-f.done
			}
		}
		if r.err = errors.Join(r.err, f.err); r.err != nil {
			break
		}
		if f.object.Key == "" {
			continue
		}
		if line, r.err = encode(line[:0], &f.object); r.err != nil {
			break
		}
		if _, r.err = index.Write(line); r.err != nil {
			break
		}
		if f.listed {
			if _, r.err = inventory.Write(line); r.err != nil {
				break
			}
		}
	}
	r.err = errors.Join(r.err, index.Flush(), inventory.Flush(), r.files[0].Close(), r.files[1].Close())
}
