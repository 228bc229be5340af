package extract

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/ocbackup/ocbackup/integration/env"
	"github.com/ocbackup/ocbackup/opencloud"
)

// BenchmarkGet gets a small file out of a set of some thousand, and out of the same
// snapshot with restic alone, whose key is as dear as restic makes it.
func BenchmarkGet(b *testing.B) {
	w := newWorld(b, opencloud.Posix)
	w.must(os.RemoveAll(w.options.Location))
	_, err := w.repo.Init(context.Background())
	w.must(err)
	for i := range 5000 {
		if i%100 == 0 {
			w.folder(fmt.Sprintf("/d%02d", i/100))
		}
		w.file(fmt.Sprintf("/d%02d/f%02d", i/100, i%100), fmt.Sprint("content of ", i))
	}
	w.store()
	const path = "/d25/f50"
	b.Run("get", func(b *testing.B) {
		for b.Loop() {
			if res := w.run(w.get(path)); res.Checked != 1 {
				b.Fatalf("%+v", res)
			}
		}
	})
	b.Run("restic dump", func(b *testing.B) {
		cmd := []string{"dump", "--repo", w.options.Location, "--password-file", w.options.PasswordFile, "--cache-dir", w.options.CacheDir, "--target"}
		for b.Loop() {
			to := filepath.Join(b.TempDir(), "f")
			args := append(cmd, to, w.set.Manifest.Roots[0].Snapshot, "/users/"+w.space.Dir+path)
			if out, err := exec.Command(env.Restic(b, "0.18"), args...).CombinedOutput(); err != nil {
				b.Fatalf("%v: %s", err, out)
			}
		}
	})
}
