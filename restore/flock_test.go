package restore

import (
	"os"
	"path/filepath"
	"syscall"
)

// flock locks a file as a running server does.
func (s *site) flock(rel string) *os.File {
	f, err := os.OpenFile(filepath.Join(s.base, rel), os.O_RDWR, 0)
	if err != nil {
		s.t.Fatal(err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = f.Close() })
	return f
}
