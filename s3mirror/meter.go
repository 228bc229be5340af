package s3mirror

import (
	"sync/atomic"
	"time"
)

// meter counts what a copy does.
type meter struct {
	began  time.Time
	report func(Progress)

	listed, bytesListed   atomic.Int64
	toCopy, bytesToCopy   atomic.Int64
	objects, stored, read atomic.Int64
}

// meterEvery is how often progress is reported.
const meterEvery = 500 * time.Millisecond

// start reports until the function that it returns is called, which reports the end.
func (m *meter) start() func() {
	if m.report == nil {
		return func() {}
	}
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		t := time.NewTicker(meterEvery)
		defer t.Stop()
		for {
			select {
			case <-stop:
				return
			case <-t.C:
				m.report(m.progress())
			}
		}
	}()
	return func() {
		close(stop)
		<-stopped
		m.report(m.progress())
	}
}

// expect adds an object to what there is to do; skip takes one back.
func (m *meter) expect(size int64) { m.toCopy.Add(1); m.bytesToCopy.Add(size) }
func (m *meter) skip(size int64)   { m.toCopy.Add(-1); m.bytesToCopy.Add(-size) }

func (m *meter) progress() Progress {
	p := Progress{
		Listed: m.listed.Load(), Objects: m.objects.Load(), Bytes: m.read.Load(),
		TotalObjects: m.toCopy.Load(), TotalBytes: m.bytesToCopy.Load(),
	}
	if s := time.Since(m.began).Seconds(); s > 0 {
		p.Rate = float64(p.Bytes) / s
	}
	if left := p.TotalBytes - p.Bytes; left > 0 && p.Rate > 0 {
		p.ETA = time.Duration(float64(left) / p.Rate * float64(time.Second)).Round(time.Second)
	}
	return p
}
