package nodes

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/ocbackup/ocbackup/catalog"
	"github.com/ocbackup/ocbackup/opencloud"
)

// generateDecomposed makes a space of n nodes: folders of 50 files, nested, every tenth file with a
// version. Their contents are not there: nobody reads them.
func generateDecomposed(b *testing.B, n int) *built {
	b.Helper()
	g := &built{tb: b, root: b.TempDir()}
	g.folder(testSpace, "", "Bench", map[string]string{"space.name": "Bench", "space.type": "project", "id": testSpace})
	parents := []string{testSpace}
	for i := range n {
		id, parent := uuid.NewString(), parents[i/50%len(parents)]
		if i%50 == 0 {
			g.folder(id, parent, fmt.Sprintf("folder %d", i), nil)
			parents = append(parents, id)
			continue
		}
		must(b, os.MkdirAll(filepath.Dir(g.node(id)), 0o700))
		must(b, os.WriteFile(g.node(id), nil, 0o600))
		must(b, os.WriteFile(g.node(id)+".mlock", nil, 0o600))
		content := map[string]string{
			"type": "1", "blobid": uuid.NewString(), "blobsize": "2533", "cs.sha1": strings.Repeat("s", 20),
			"cs.md5": strings.Repeat("m", 16), "cs.adler32": "adlr", "mtime": "2026-10-01T10:00:00.25Z",
		}
		if i%10 == 1 {
			must(b, os.WriteFile(g.node(id)+".REV."+planREV, nil, 0o600))
			g.mpk(g.node(id)+".REV."+planREV, content)
		}
		content["id"], content["name"], content["parentid"] = id, fmt.Sprintf("report %d.odt", i), parent
		g.mpk(g.node(id), content)
		g.link(parent, content["name"], id)
	}
	g.index(map[string]string{testSpace: "x"})
	return g
}

// floorDecomposed is the least that reading can cost: a walk in parallel that opens and reads all
// .mpk, and does nothing with them.
func floorDecomposed(b *testing.B, root string, workers int) int64 {
	b.Helper()
	var g errgroup.Group
	g.SetLimit(workers)
	var files atomic.Int64
	var walk func(dir string) error
	walk = func(dir string) error {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return err
		}
		for _, e := range entries {
			p := filepath.Join(dir, e.Name())
			if e.IsDir() {
				down := func() error { return walk(p) }
				if !g.TryGo(down) {
					if err := down(); err != nil {
						return err
					}
				}
			} else if filepath.Ext(p) == ".mpk" {
				if _, err := os.ReadFile(p); err != nil {
					return err
				}
				files.Add(1)
			}
		}
		return nil
	}
	err := walk(root)
	must(b, g.Wait())
	must(b, err)
	return files.Load()
}

// BenchmarkDecomposed compares the reading of a space, and the writing of its catalog,
// to the floor. NODES sets how many there are.
func BenchmarkDecomposed(b *testing.B) {
	g := generateDecomposed(b, benchNodes())
	unix.Sync() // else what is measured waits for what was generated to be written
	nodes := filepath.Join(g.dir(), "nodes")
	workers := 2 * runtime.GOMAXPROCS(0)
	mpks := floorDecomposed(b, nodes, workers) // the caches are warm from here on
	b.Run("floor", func(b *testing.B) {
		for b.Loop() {
			floorDecomposed(b, nodes, workers)
		}
		b.ReportMetric(float64(mpks), "mpk")
	})
	b.Run("catalog", func(b *testing.B) {
		var peak uint64
		for b.Loop() {
			w, err := catalog.Create(filepath.Join(b.TempDir(), "catalog.jsonl"), opencloud.Decomposed)
			must(b, err)
			must(b, Read(context.Background(), Options{
				Tree: Disk(g.root), Driver: opencloud.Decomposed, TempDir: b.TempDir(), Workers: workers,
				OnProgress: func(n uint64) {
					if n%(1<<14) != 0 {
						return
					}
					var m runtime.MemStats
					runtime.ReadMemStats(&m)
					peak = max(peak, m.HeapInuse)
				},
			}, w))
			_, err = w.Close()
			must(b, err)
		}
		b.ReportMetric(float64(peak)/(1<<20), "peak-MiB")
		b.ReportMetric(float64(mpks), "mpk")
	})
}
