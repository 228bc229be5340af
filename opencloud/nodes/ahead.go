package nodes

import (
	"container/heap"
	"context"
	"sync"

	"github.com/ocbackup/ocbackup/catalog"
)

// ahead reads what a walk will want, in the walk's order, a bounded window ahead of it.
// Walks would wait for one disk access after the other otherwise.
type ahead struct {
	ctx    context.Context
	mu     sync.Mutex
	work   sync.Cond
	queue  jobs
	held   int // entries that were read and not yet been walked over
	window int
	closed bool
	done   sync.WaitGroup
}

// job reads something. It is run once: by a worker, or by the walk when it is there first.
type job struct {
	at    string // where in the walk: a path, in the order of catalog.ComparePaths
	run   func() (held int)
	state jobState // under ahead.mu
	ready chan struct{}
}

func newJob(at string, run func() int) *job {
	return &job{at: at, run: run, ready: make(chan struct{})}
}

type jobState uint8

const (
	queued jobState = iota
	running
	finished
)

// newAhead starts workers, until close.
func newAhead(ctx context.Context, workers, window int) *ahead {
	a := &ahead{ctx: ctx, window: window}
	a.work.L = &a.mu
	for range workers {
		a.done.Go(a.worker)
	}
	return a
}

// close ends the workers and forgets what is queued.
func (a *ahead) close() {
	a.mu.Lock()
	a.closed, a.queue = true, nil
	a.mu.Unlock()
	a.work.Broadcast()
	a.done.Wait()
}

func (a *ahead) worker() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for {
		for !a.closed && (len(a.queue) == 0 || a.held >= a.window) {
			a.work.Wait()
		}
		if a.closed {
			return
		}
		if j := heap.Pop(&a.queue).(*job); j.state == queued {
			a.execute(j)
		}
	}
}

// execute runs a job, without the lock that is held before and after.
func (a *ahead) execute(j *job) {
	j.state = running
	a.mu.Unlock()
	held := 0
	if a.ctx.Err() == nil {
		held = j.run()
	}
	close(j.ready)
	a.mu.Lock()
	j.state = finished
	a.held += held
}

// submit queues jobs.
func (a *ahead) submit(js ...*job) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return
	}
	for _, j := range js {
		heap.Push(&a.queue, j)
		a.work.Signal()
	}
}

// need returns when a job is done. The walk does it itself when no worker has begun: it
// never waits for what the window keeps from being read.
func (a *ahead) need(j *job) error {
	a.mu.Lock()
	if j.state == queued {
		a.execute(j)
	}
	a.mu.Unlock()
	<-j.ready
	return a.ctx.Err()
}

// walked tells that the walk is done with entries.
func (a *ahead) walked(n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	full := a.held >= a.window
	if a.held -= n; full && a.held < a.window {
		a.work.Broadcast()
	}
}

// jobs is a heap: what the walk wants first is on top.
type jobs []*job

func (h jobs) Len() int           { return len(h) }
func (h jobs) Less(i, j int) bool { return catalog.ComparePaths(h[i].at, h[j].at) < 0 }
func (h jobs) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }

// Push and Pop are for container/heap.
func (h *jobs) Push(x any) { *h = append(*h, x.(*job)) }

// Pop takes the last.
func (h *jobs) Pop() any {
	last := len(*h) - 1
	j := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	return j
}
