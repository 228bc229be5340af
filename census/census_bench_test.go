package census

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// benchTree makes the tree that the figures are for: 100,000 files in folders of
// 100, each with 6 extended attributes as OpenCloud writes them.
// OCBACKUP_BENCH_TREE names a folder to keep it in from run to run.
func benchTree(b *testing.B) string {
	b.Helper()
	dir := os.Getenv("OCBACKUP_BENCH_TREE")
	if dir == "" {
		dir = b.TempDir()
	}
	root := filepath.Join(dir, "tree")
	if _, err := os.Stat(filepath.Join(dir, "made")); err == nil {
		return root
	}
	for i := range 100_000 {
		d := filepath.Join(root, "users", fmt.Sprint(i/10_000), fmt.Sprint(i/100))
		if i%100 == 0 {
			must(b, os.MkdirAll(d, 0o700))
		}
		p := filepath.Join(d, fmt.Sprintf("file-%06d.txt", i))
		must(b, os.WriteFile(p, []byte(strings.Repeat("x", i%3000)), 0o600))
		for name, value := range map[string]string{
			"id": "0b4dd9f2-8c83-4b3c-a1a2-%012d", "parentid": "52ccd6ba-5c7e-4f0f-8a1d-%012d", "name": "file-%d.txt",
			"blobsize": "%d", "cs.sha1": "aaaaaaaa%012d", "tmp.etag": "f00f00f00f00f00f-%012d",
		} {
			must(b, unix.Lsetxattr(p, "user.oc."+name, fmt.Appendf(nil, value, i), 0))
		}
	}
	time.Sleep(racy) // the tree of a real instance is older than this, but for a few files
	must(b, os.WriteFile(filepath.Join(dir, "made"), nil, 0o600))
	return root
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// BenchmarkCount reads everything of 100,000 files.
func BenchmarkCount(b *testing.B) {
	root := benchTree(b)
	for _, workers := range []int{1, 2, 4, 8, 16} {
		b.Run(fmt.Sprintf("workers=%d", workers), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_, err := Count(context.Background(), root, nil, workers)
				must(b, err)
			}
		})
	}
}

// BenchmarkRecount is what the same tree costs in the cold window, unchanged.
func BenchmarkRecount(b *testing.B) {
	root := benchTree(b)
	res, err := Count(context.Background(), root, nil, 0)
	must(b, err)
	for _, workers := range []int{1, 2, 4, 8} {
		b.Run(fmt.Sprintf("workers=%d", workers), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_, err := res.Known.Recount(context.Background(), root, nil, workers)
				must(b, err)
			}
		})
	}
}
