package certificate

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/ocbackup/ocbackup/catalog"
	"github.com/ocbackup/ocbackup/opencloud"
)

// BenchmarkJudge joins a million nodes of decomposeds3, whose objects' hashes are known,
// with what a backup holds of them. Memory is the most that the Go runtime had taken from the
// system while it did, of the whole process.
func BenchmarkJudge(b *testing.B) {
	const spaces, files = 40, 25_000
	p := filepath.Join(b.TempDir(), "catalog.jsonl")
	w, err := catalog.Create(p, opencloud.DecomposedS3)
	check(b, err)
	r := rand.New(rand.NewPCG(1, 2))
	random := func(n int) string {
		buf := make([]byte, n)
		for i := range buf {
			buf[i] = byte(r.Uint32())
		}
		return hex.EncodeToString(buf)
	}
	objects := bytes.Buffer{}
	for i := range spaces {
		id := fmt.Sprintf("%08d-0000-4000-8000-000000000000", i)
		sp := catalog.Space{Kind: catalog.KindSpace, ID: id, Name: fmt.Sprint("Space ", i), Type: "project", Dir: "spaces/" + id}
		s, err := w.Section(sp)
		check(b, err)
		for k := range files {
			blob := random(4) + "-" + random(2) + "-" + random(2) + "-" + random(2) + "-" + random(6)
			n := &catalog.Node{
				Kind: catalog.KindFile, Space: id, Path: fmt.Sprintf("/folder %03d/document number %06d.odt", k/100, k), ID: random(16), Size: int64(k + 1),
				MTime: then, Blob: blob, SHA1: random(20), MD5: random(16), Adler32: random(4),
			}
			n.At = catalog.Place(opencloud.DecomposedS3, &sp, n)
			check(b, s.Add(n))
			fmt.Fprintln(&objects, n.At, n.Size, n.MD5)
		}
		check(b, s.Close())
	}
	_, err = w.Close()
	check(b, err)
	list := filepath.Join(b.TempDir(), "list")
	check(b, os.WriteFile(list, objects.Bytes(), 0o600))
	objects = bytes.Buffer{}
	runtime.GC()
	var base runtime.MemStats
	runtime.ReadMemStats(&base)
	for b.Loop() {
		var peak atomic.Uint64
		note := func() {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			peak.Store(max(peak.Load(), m.HeapInuse-base.HeapInuse))
		}
		h := NewHoldings(b.TempDir())
		in, err := os.Open(list)
		check(b, err)
		for s := bufio.NewScanner(in); s.Scan(); {
			o := strings.Fields(s.Text())
			size, err := strconv.ParseInt(o[1], 10, 64)
			check(b, err)
			h.Add(o[0], size, Hashes{MD5: o[2]})
		}
		check(b, in.Close())
		note()
		f, err := catalog.Open(p)
		check(b, err)
		cert, err := Judge(b.Context(), "S", f, h, Options{OnProgress: func(n uint64) {
			if n%(1<<16) == 0 {
				note()
			}
		}})
		check(b, err)
		note()
		if !cert.Sound() || cert.Classes[OKHash].Count != spaces*files || cert.Classes[Orphan].Count != 0 {
			b.Fatalf("%+v", cert)
		}
		check(b, f.Close())
		check(b, h.Close())
		b.ReportMetric(float64(peak.Load())/(1<<20), "MiB-peak")
	}
}
