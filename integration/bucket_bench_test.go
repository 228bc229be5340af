//go:build integration && bench

package integration

import (
	"fmt"
	"os"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/ocbackup/ocbackup/integration/env"
)

// benchObjects is how many objects the bucket has; $OCBACKUP_BENCH_OBJECTS sets
// another number, to try the benchmark itself.
var benchObjects = func() int {
	if n, err := strconv.Atoi(os.Getenv("OCBACKUP_BENCH_OBJECTS")); err == nil && n > 0 {
		return n
	}
	return 20_000
}()

const (
	benchSpaces     = 20
	benchObjectSize = 16 << 10
)

// BenchmarkBucket compares the copies of a bucket under OpenCloud's key layout with
// those that the rclone command makes, from and to the same servers, taking turns on
// the same machine. It prints a table of medians with the least and the most, and the
// ratios.
func BenchmarkBucket(b *testing.B) {
	for range b.N {
		servers := newBucketBench(b)

		s := servers.with("bucket")
		s.fill(benchObjects, benchObjectSize)
		s.list() // nothing of it is in the cache yet
		table := s.firstCopy("to a directory", nil)
		table = append(table, s.unchanged()...)
		table = append(table, s.newObjects()...)

		// The server takes its time to store an object.
		fewer := servers.with("fewer")
		fewer.fill(benchObjects/10, benchObjectSize)
		table = append(table, fewer.firstCopy("to another server", s.far)...)
		table = append(table, fewer.firstCopy("within the server", s.near)...)
		table = append(table, fewer.restores()...)

		large := servers.with("large")
		large.fill(benchSpaces, 32<<20)
		table = append(table, large.firstCopy("to a directory", nil)...)
		table = append(table, large.firstCopy("to another server", s.far)...)

		table = append(table, servers.with("many").memory()...)
		s.print(table)
	}
}

// firstCopy copies everything. What the first round has copied to a directory stays.
// ocbackup ends when it is on disk, so that rclone needs a sync to have done as much.
func (s *bucketBench) firstCopy(where string, to *env.S3) []comparison {
	var own, plain figures
	with := "rclone"
	if to == nil {
		with = "rclone and sync"
	}
	for i := range benchRounds {
		pool, copied := s.place(to, fmt.Sprint(s.bucket.name, "-pool-", i)), s.place(to, fmt.Sprint(s.bucket.name, "-plain-", i))
		inTurns(i,
			func() { own.add(s.mirror(pool, s.objects)) },
			func() {
				r := s.rclone("copy", s.bucket.remote, copied.remote, rcloneBest...)
				if to == nil {
					begun := time.Now()
					syscall.Sync()
					r.wall += time.Since(begun).Seconds()
				}
				plain.add(r)
			})
		s.holds(pool, s.objects+1) // its marker
		s.holds(copied, s.objects)
		if i > 0 || to != nil {
			s.empty(pool, copied)
		}
	}
	return []comparison{
		{name: fmt.Sprintf("first copy %s, %d objects of %s", where, s.objects, sizeText(s.bytes/s.objects)), own: own.wall, with: with, plain: plain.wall, aim: 1, objects: s.objects, bytes: s.bytes},
		{name: "the same, CPU", own: own.cpu, with: "rclone", plain: plain.cpu},
		{name: "the same, peak memory", unit: "MiB", own: own.rss, with: "rclone", plain: plain.rss, most: 100},
	}
}

// unchanged copies again, with nothing to do.
func (s *bucketBench) unchanged() []comparison {
	var list, own, plain, bare figures
	pool, copied := s.place(nil, "bucket-pool-0"), s.place(nil, "bucket-plain-0")
	for range benchRounds {
		list.add(s.list())
		own.add(s.mirror(pool, 0))
		plain.add(s.rclone("sync", s.bucket.remote, copied.remote, rcloneBest...))
	}
	// Without flags rclone takes minutes: one space is enough to know how many.
	r := s.rclone("sync", s.bucket.remote+"/"+s.spaces[0], copied.remote+"/"+s.spaces[0])
	bare.add(run{wall: r.wall * benchSpaces})
	name := fmt.Sprintf("no change, %d objects", s.objects)
	return []comparison{
		{name: name, own: own.wall, with: "listing alone", plain: list.wall, aim: 1.3},
		{name: "the same, CPU", own: own.cpu, with: "listing alone", plain: list.cpu},
		{name: name, own: own.wall, with: "rclone", plain: plain.wall, aim: 1},
		{name: "the same, CPU", own: own.cpu, with: "rclone", plain: plain.cpu},
		{name: "the same, peak memory", unit: "MiB", own: own.rss, with: "rclone", plain: plain.rss, most: 100},
		{name: name, own: own.wall, with: "rclone without flags", plain: bare.wall},
	}
}

// newObjects copies the hundredth part that is new, and the 50 objects that came
// about while the first pass of a backup ran.
func (s *bucketBench) newObjects() []comparison {
	var own, plain, few, none figures
	pool, copied := s.place(nil, "bucket-pool-0"), s.place(nil, "bucket-plain-0")
	for range benchRounds {
		s.fill(benchObjects/100, benchObjectSize)
		own.add(s.mirror(pool, benchObjects/100))
		plain.add(s.rclone("sync", s.bucket.remote, copied.remote, rcloneBest...))
		none.add(s.mirror(pool, 0))
		s.fill(50, benchObjectSize)
		few.add(s.mirror(pool, 50))
		s.rclone("sync", s.bucket.remote, copied.remote, rcloneBest...)
	}
	return []comparison{
		{name: fmt.Sprintf("%d new objects, 1 %%", benchObjects/100), own: own.wall, with: "rclone", plain: plain.wall, aim: 1},
		{name: "the same, CPU", own: own.cpu, with: "rclone", plain: plain.cpu},
		{name: "the bucket's part of the downtime, no new object", own: none.store},
		{name: "the same, 50 new objects", own: few.store, with: "no new object", plain: none.store},
	}
}

// restores brings everything back to an empty bucket.
func (s *bucketBench) restores() []comparison {
	var own, plain figures
	pool, copied := s.place(nil, "fewer-pool"), s.place(nil, "fewer-plain")
	inventory := s.mirror(pool, s.objects).out
	s.rclone("copy", s.bucket.remote, copied.remote, rcloneBest...)
	for i := range benchRounds {
		back, plainBack := s.place(s.near, fmt.Sprint("back-", i)), s.place(s.near, fmt.Sprint("plain-back-", i))
		inTurns(i,
			func() { own.add(s.restore(pool, inventory, back)) },
			func() { plain.add(s.rclone("copy", copied.remote, plainBack.remote, rcloneBest...)) })
		s.holds(back, s.objects)
		s.holds(plainBack, s.objects)
		s.empty(back, plainBack)
	}
	return []comparison{
		{name: fmt.Sprintf("restore from a directory, %d objects of %s", s.objects, sizeText(s.bytes/s.objects)), own: own.wall, with: "rclone", plain: plain.wall, aim: 1, objects: s.objects, bytes: s.bytes},
		{name: "the same, CPU", own: own.cpu, with: "rclone", plain: plain.cpu},
		{name: "the same, peak memory", unit: "MiB", own: own.rss, with: "rclone", plain: plain.rss, most: 100},
	}
}

// memory copies and compares ever more objects. They are small: what counts is
// their number.
func (s *bucketBench) memory() (table []comparison) {
	pool := s.place(nil, "many-pool")
	for _, n := range []int{5 * benchObjects, 10 * benchObjects} {
		more := n - s.objects
		s.fillAs(more, 1<<10, flat)
		var own, again, plain figures
		own.add(s.mirror(pool, more))
		again.add(s.mirror(pool, 0))
		plain.add(s.rclone("copy", s.bucket.remote, pool.remote+"/blobs", rcloneBest...))
		table = append(table,
			comparison{name: fmt.Sprintf("peak memory, %d objects, %d of them new", n, more), unit: "MiB", own: own.rss, most: 100},
			comparison{name: fmt.Sprintf("peak memory, %d objects, no change", n), unit: "MiB", own: again.rss, with: "rclone", plain: plain.rss, most: 100},
		)
	}
	return table
}
