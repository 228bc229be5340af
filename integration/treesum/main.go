// Command treesum prints everything about directory trees that a backup must
// bring back, one line an entry and sorted by name, so that two trees can be
// compared with diff: type, mode, owner, size, time, link target, SHA-256 of the
// content, and each extended attribute. "treesum --takes-xattrs DIR" only tells
// whether the file system of DIR takes extended attributes of users.
package main

import (
	"bufio"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/pkg/xattr"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: treesum DIR...\n       treesum --takes-xattrs DIR")
		os.Exit(2)
	}
	if os.Args[1] == "--takes-xattrs" && len(os.Args) == 3 {
		if xattr.LSet(os.Args[2], "user.treesum", []byte("1")) != nil || xattr.LRemove(os.Args[2], "user.treesum") != nil {
			os.Exit(1)
		}
		return
	}
	w := bufio.NewWriter(os.Stdout)
	for _, dir := range os.Args[1:] {
		err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			return entry(w, filepath.Dir(filepath.Clean(dir)), path)
		})
		if err != nil {
			fmt.Fprintln(os.Stderr, "treesum:", err)
			os.Exit(1)
		}
	}
	if err := w.Flush(); err != nil {
		fmt.Fprintln(os.Stderr, "treesum:", err)
		os.Exit(1)
	}
}

// entry prints one file or directory, with its name relative to base.
func entry(w io.Writer, base, path string) error {
	name, err := filepath.Rel(base, path)
	if err != nil {
		return err
	}
	st, err := os.Lstat(path)
	if err != nil {
		return err
	}
	sys, ok := st.Sys().(*syscall.Stat_t)
	if !ok {
		return fmt.Errorf("%s: no owner", path)
	}
	fmt.Fprintf(w, "%q %s %d:%d %s", name, st.Mode(), sys.Uid, sys.Gid, st.ModTime().UTC().Format("2006-01-02T15:04:05.000000000"))
	switch {
	case st.Mode().IsRegular():
		sum, err := content(path)
		if err != nil {
			return err
		}
		fmt.Fprintf(w, " %d %x", st.Size(), sum)
	case st.Mode()&fs.ModeSymlink != 0:
		target, err := os.Readlink(path)
		if err != nil {
			return err
		}
		fmt.Fprintf(w, " -> %q", target)
	}
	fmt.Fprintln(w)
	names, err := xattr.LList(path)
	if err != nil {
		return err
	}
	slices.Sort(names)
	for _, n := range names {
		v, err := xattr.LGet(path, n)
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "%q %s=%q\n", name, n, v)
	}
	return nil
}

func content(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // it was only read //nolint:errcheck // only read
	h := sha256.New()
	_, err = io.Copy(h, f)
	return h.Sum(nil), err
}
