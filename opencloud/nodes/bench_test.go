package nodes

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pkg/xattr"
	"golang.org/x/sys/unix"

	"github.com/ocbackup/ocbackup/catalog"
	"github.com/ocbackup/ocbackup/opencloud"
)

// benchNodes is how many nodes the generated trees have: NODES in the environment.
func benchNodes() int {
	if n, err := strconv.Atoi(os.Getenv("NODES")); err == nil && n > 0 {
		return n
	}
	return 20_000
}

// genPosix makes a users root with one space: a folder for every 25 files, nested, and a
// version of every tenth file.
func genPosix(tb testing.TB, nodes int) string {
	tb.Helper()
	root := tb.TempDir()
	if opencloud.XattrSupport(root) != nil {
		tb.Skipf("%s takes no user extended attributes; set TMPDIR to a directory that does", root)
	}
	const space = "00000000-1111-4222-8333-444444444444"
	top := filepath.Join(root, "projects", space)
	must(tb, os.MkdirAll(top, 0o700))
	setAll(tb, top, map[string]string{
		attrID: space, attrName: "Big", attrSpaceID: space, attrSpaceName: "Big", attrSpaceType: "project", attrSpaceAlias: "project/big", attrOwnerID: space,
	})
	stamp := time.Date(2026, 3, 4, 5, 6, 7, 891234567, time.UTC)
	id := func(n int) string { return fmt.Sprintf("%08x-aaaa-4bbb-8ccc-%012x", uint32(n)*2654435761, n) }
	content := func(path string, a map[string]string) {
		must(tb, os.WriteFile(path, []byte("content"), 0o600))
		a[attrBlobID], a[attrBlobSize], a[attrType], a[attrMTime] = id(1), "7", typeFile, stamp.Format(time.RFC3339Nano)
		a[attrSHA1], a[attrMD5], a[attrAdler32] = strings.Repeat("s", 20), strings.Repeat("m", 16), "adle"
		setAll(tb, path, a)
		must(tb, os.Chtimes(path, stamp, stamp))
	}
	type dir struct{ path, id string }
	dirs := []dir{{top, space}}
	for n := 0; n < nodes; {
		in := dirs[len(dirs)/4]
		n++
		d := dir{filepath.Join(in.path, fmt.Sprintf("folder %d", n)), id(n)}
		must(tb, os.Mkdir(d.path, 0o700))
		setAll(tb, d.path, map[string]string{attrID: d.id, attrParentID: in.id, attrName: filepath.Base(d.path), attrType: typeFolder})
		dirs = append(dirs, d)
		for i := 0; i < 25 && n < nodes; i++ {
			n++
			name := fmt.Sprintf("file %d.txt", n)
			content(filepath.Join(d.path, name), map[string]string{attrID: id(n), attrParentID: d.id, attrName: name})
			if n%10 == 0 {
				n++
				version := filepath.Join(top, posixMetadata, pathify(id(n-1))+revision+"2026-01-02T03:04:05.6789Z")
				must(tb, os.MkdirAll(filepath.Dir(version), 0o700))
				content(version, map[string]string{})
			}
		}
	}
	return root
}

func setAll(tb testing.TB, path string, a map[string]string) {
	tb.Helper()
	for k, v := range a {
		must(tb, xattr.LSet(path, k, []byte(v)))
	}
}

// BenchmarkPosix compares the reading of a posix tree with the floor: a parallel walk that
// lists all directories and reads all attributes of all that is in them.
//
//	NODES=200000 go test -run '^$' -bench Posix -benchtime 3x ./opencloud/nodes
func BenchmarkPosix(b *testing.B) {
	root := genPosix(b, benchNodes())
	unix.Sync() // else what is measured waits for what was generated to be written
	workers := 2 * runtime.GOMAXPROCS(0)
	floor := func(b *testing.B) { walkAll(b, root, workers) }
	floor(b) // warms the kernel's caches
	b.Run("floor", func(b *testing.B) {
		for b.Loop() {
			floor(b)
		}
	})
	b.Run("read", func(b *testing.B) {
		var peak atomic.Uint64
		for b.Loop() {
			w, err := catalog.Create(filepath.Join(b.TempDir(), "catalog.jsonl"), opencloud.Posix)
			must(b, err)
			must(b, Read(context.Background(), Options{Tree: Disk(root), Driver: opencloud.Posix, Workers: workers, OnProgress: func(n uint64) {
				if n%(1<<14) == 0 {
					var m runtime.MemStats
					runtime.ReadMemStats(&m)
					peak.Store(max(peak.Load(), m.HeapInuse))
				}
			}}, w))
			sum, err := w.Close()
			must(b, err)
			b.ReportMetric(float64(sum.Nodes()), "nodes")
		}
		b.ReportMetric(float64(peak.Load())/(1<<20), "MiB-heap")
	})
}

func walkAll(b *testing.B, root string, workers int) {
	b.Helper()
	var wg sync.WaitGroup
	slots := make(chan struct{}, workers)
	var walk func(dir string)
	walk = func(dir string) {
		slots <- struct{}{}
		entries, err := os.ReadDir(dir)
		must(b, err)
		var subs []string
		list, value := make([]byte, 1<<10), make([]byte, 1<<10)
		for _, e := range entries {
			path := filepath.Join(dir, e.Name())
			_, err := e.Info()
			must(b, err)
			n, err := unix.Llistxattr(path, list)
			must(b, err)
			for name := range strings.SplitSeq(strings.TrimSuffix(string(list[:n]), "\x00"), "\x00") {
				if name != "" {
					_, err := unix.Lgetxattr(path, name, value)
					must(b, err)
				}
			}
			if e.Type()&fs.ModeDir != 0 {
				subs = append(subs, path)
			}
		}
		<-slots
		for _, sub := range subs {
			wg.Go(func() { walk(sub) })
		}
	}
	wg.Go(func() { walk(root) })
	wg.Wait()
}
