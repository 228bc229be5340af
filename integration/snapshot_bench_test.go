//go:build integration && bench

package integration

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/pkg/xattr"

	"github.com/ocbackup/ocbackup/integration/env"
)

// benchLarge is how much the tree has in files of 4 MiB; $OCBACKUP_BENCH_LARGE sets
// another number of MiB.
var benchLarge = func() int {
	if n, err := strconv.Atoi(os.Getenv("OCBACKUP_BENCH_LARGE")); err == nil && n >= 0 {
		return n
	}
	return 2048
}()

// BenchmarkDowntime measures for how long the server is away, less what it takes
// itself to stop and to start: frozen by btrfs, whatever the size of the data, and in
// the final pass on a file system without snapshots, against a warm restic of an
// unchanged tree and against the naive way, a cold one on the stopped server. The
// tree has small files of 1 to 20 KiB with six attributes each, and large ones.
func BenchmarkDowntime(b *testing.B) {
	for range b.N {
		fmt.Printf("\ndowntime less stop and start, s; %d files and %d MiB in large ones where nothing else is said; %d rounds; median (min..max)\n",
			benchFiles, benchLarge, benchRounds)
		naive := benchFinalPass(b)
		benchFrozen(b, naive)
	}
}

// benchFinalPass measures where there are no snapshots, and returns what the naive
// way takes there.
func benchFinalPass(b *testing.B) (naive []float64) {
	s := newDowntimeBench(b, "xfs")
	s.large()
	s.grow(0, benchFiles)
	s.seed()
	// Something changes when the server is told to stop.
	changing := *s
	changing.cloud = s.with(b)
	late := s.path("data/storage/users/late")
	changing.config["control"]["stop"] = quoteList("/bin/sh", "-c", "date +%s%N >"+late+"; rm -f "+s.path("running"))
	var same, changed, plain figures
	warm := func() { plain.add(s.restic("backup", s.path("config"), s.path("data"))) }
	for i := range benchRounds {
		inTurns(i, func() { same.add(s.backup()) }, warm)
	}
	changing.saveConfig()
	for i := range benchRounds {
		inTurns(i, func() { changed.add(changing.backup()) }, warm)
	}
	for range benchRounds {
		syscall.Sync() // what is not written yet stays
		s.ok(os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0))
		naive = append(naive, s.restic("backup", s.path("config"), s.path("data")).wall)
	}
	report(b,
		row{"final pass, nothing has changed, against warm restic", same.store, plain.wall, 1.05},
		row{"final pass, one file changes in the stop, against it", changed.store, plain.wall, 1.05},
		row{"final pass, one file changes, against the naive way", changed.store, naive, 0},
	)
	return naive
}

// benchFrozen measures with snapshots, while the tree grows.
func benchFrozen(b *testing.B, naive []float64) {
	s := newDowntimeBench(b, "btrfs")
	s.large()
	wants(b, env.Exec(background, s.env("repository"), env.Restic(b, "0.18"), "init"), 0)
	had := 0
	for _, files := range []int{benchFiles / 10, benchFiles, 5 * benchFiles} {
		s.grow(had, files)
		had = files
		s.backup()
		var own figures
		for i := range benchRounds {
			s.rewrite(i)
			own.add(s.backup())
		}
		report(b, row{fmt.Sprintf("frozen by btrfs, %d files", files), own.store, nil, 0.5})
		if files != benchFiles {
			continue
		}
		report(b, row{"frozen by btrfs, against the naive way", own.store, naive, 0})
		var read []float64
		for range benchRounds {
			stop := s.countReads()
			s.backup()
			read = append(read, 100*float64(stop())/float64(s.bytes()))
		}
		report(b, row{"read of a snapshot in which nothing has changed, %", read, nil, 1})
	}
}

// newDowntimeBench makes an instance on a file system of its own; the repositories lie
// elsewhere.
func newDowntimeBench(b *testing.B, kind string) *bench {
	b.Helper()
	dir := env.FileSystem(b, kind, 32<<10)
	if kind == "btrfs" {
		dir = subvolume(b, dir, "srv")
	}
	for _, name := range []string{"repository", "plain", "cache-plain", "cache-repository", "state"} {
		if err := os.Symlink(b.TempDir(), filepath.Join(dir, name)); err != nil {
			b.Fatal(err)
		}
	}
	return newBenchIn(b, dir)
}

// large writes the large files.
func (s *bench) large() {
	random := rand.NewChaCha8([32]byte{1})
	content := make([]byte, 4<<20)
	dir := s.path("data/storage/users/users/someone/large")
	s.ok(os.MkdirAll(dir, 0o700))
	for i := range benchLarge / 4 {
		_, _ = random.Read(content)
		s.ok(os.WriteFile(filepath.Join(dir, strconv.Itoa(i)), content, 0o600))
		s.attributes(filepath.Join(dir, strconv.Itoa(i)), content)
	}
}

// grow adds small files, of which there are some: folders of 100, half of each
// file compressible.
func (s *bench) grow(from, to int) {
	random := rand.New(rand.NewPCG(uint64(from), 2))
	source := rand.NewChaCha8([32]byte{2, byte(from), byte(from >> 8), byte(from >> 16)})
	content := make([]byte, 20<<10)
	for i := from; i < to; i++ {
		path := s.small(i)
		if i%100 == 0 {
			s.ok(os.MkdirAll(filepath.Dir(path), 0o700))
		}
		part := content[:1<<10+random.IntN(19<<10)]
		_, _ = source.Read(part[:len(part)/2])
		s.ok(os.WriteFile(path, part, 0o600))
		s.attributes(path, part)
	}
	syscall.Sync()
}

// small is the path of a small file.
func (s *bench) small(i int) string {
	return s.path("data/storage/users/users/someone", fmt.Sprintf("folder-%03d/folder-%04d/file-%06d.txt", i/1000, i/100, i))
}

// attributes gives a file those that OpenCloud writes.
func (s *bench) attributes(path string, content []byte) {
	for name, value := range map[string]string{
		"id": uuid.NewString(), "parentid": uuid.NewString(), "name": filepath.Base(path),
		"blobid": uuid.NewString(), "blobsize": strconv.Itoa(len(content)), "cs.sha1": string(content[:20]),
	} {
		s.ok(xattr.LSet(path, "user.oc."+name, []byte(value)))
	}
}

// rewrite changes 100 small files, others each time.
func (s *bench) rewrite(round int) {
	for i := round; i < benchFiles/10; i += max(1, benchFiles/1000) {
		s.ok(os.WriteFile(s.small(i), []byte(time.Now().String()), 0o600))
	}
}

// bytes is how much is in the users' files.
func (s *bench) bytes() (n int64) {
	s.ok(filepath.WalkDir(s.path("data/storage/users"), func(_ string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			n += info.Size()
		}
		return err
	}))
	return n
}

// countReads counts what the restic reads that stores the users' files, whatever it
// reads (proc_pid_io(5)), until stop is called.
func (s *bench) countReads() (stop func() int64) {
	end, done := make(chan struct{}), make(chan int64)
	go func() {
		most := map[string]int64{}
		for {
			list, _ := filepath.Glob("/proc/[0-9]*/cmdline")
			for _, path := range list {
				args, _ := os.ReadFile(path)
				if !bytes.Contains(args, []byte("root=users")) || !bytes.Contains(args, []byte(s.name)) {
					continue
				}
				io, _ := os.ReadFile(filepath.Join(filepath.Dir(path), "io"))
				for line := range strings.Lines(string(io)) {
					if v, ok := strings.CutPrefix(line, "rchar: "); ok {
						n, _ := strconv.ParseInt(strings.TrimSpace(v), 10, 64)
						most[path] = max(most[path], n)
					}
				}
			}
			select {
			case <-end:
				var sum int64
				for _, n := range most {
					sum += n
				}
				done <- sum
				return
			case <-time.After(10 * time.Millisecond):
			}
		}
	}()
	return func() int64 { close(end); return <-done }
}
