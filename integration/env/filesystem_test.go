package env

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestFileSystem(t *testing.T) {
	var point string
	elsewhere := t.TempDir()
	t.Run("while it lasts", func(t *testing.T) {
		for _, kind := range []string{"btrfs", "xfs", "ext4"} {
			point = FileSystem(t, kind, 300)
			var fs unix.Statfs_t
			want := map[string]int64{"btrfs": unix.BTRFS_SUPER_MAGIC, "xfs": unix.XFS_SUPER_MAGIC, "ext4": unix.EXT4_SUPER_MAGIC}[kind]
			if err := unix.Statfs(point, &fs); err != nil || fs.Type != want {
				t.Errorf("%s: type %x, %v", kind, fs.Type, err)
			}
		}
		must(t, Exec(t.Context(), nil, "mount", "--bind", point, elsewhere), "mount")
	})
	for _, m := range mountinfo() {
		if m.point == elsewhere || strings.HasPrefix(m.point, filepath.Dir(point)) {
			t.Errorf("%s is still mounted", m.point)
		}
	}
	if _, err := os.Stat(filepath.Dir(point)); err == nil {
		t.Errorf("%s is left", point)
	}
}
