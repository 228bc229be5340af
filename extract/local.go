package extract

import (
	"context"
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"github.com/ocbackup/ocbackup/shellword"

	"github.com/dustin/go-humanize"

	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/paths"
)

// Rules of what is written: nothing outside the directory, whatever names and links say
// (os.Root); nothing over what is there, unless that was asked for; a file gets its name
// when it is complete, checked, and on disk. New files and folders have the modes that
// the umask gives; a directory that is made to take them is closed to others, since what
// it takes is people's own. Root gives everything to the owner of the directory.

// directory is a directory that takes what is brought.
type directory struct {
	path      string
	sel       *selection
	overwrite bool
	need      uint64

	root     *os.Root
	uid, gid int // -1: as they come

	mu   sync.Mutex
	made map[string]bool // folders that are known to be folders
	own  []*item         // folders that were made here, parents first
}

// openSink opens what takes what is brought.
func (r *run) openSink(ctx context.Context, sel *selection) (sink, error) {
	switch {
	case r.Upload != nil:
		return r.openServer(ctx, sel)
	case r.Stdout != nil:
		return &stdout{to: r.Stdout}, nil
	}
	to, err := filepath.Abs(r.To)
	if err != nil {
		return nil, err
	}
	d := &directory{path: to, sel: sel, overwrite: r.Overwrite, need: r.total.bytes, uid: -1, gid: -1, made: map[string]bool{".": true}}
	r.res.To = filepath.Join(to, sel.rel)
	return d, d.look()
}

// look makes sure of what can be told before anything is opened: no name is taken, and
// there is room.
func (d *directory) look() error {
	st, err := os.Stat(d.path)
	switch {
	case err == nil && !st.IsDir():
		return fail.Usagef("name a directory", "--to %s: it is a file", d.path)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return fail.Wrap(fail.Usage, err, "--to", "")
	}
	for _, name := range d.sel.tops {
		if badName(name) != "" {
			continue // is skipped
		}
		at := filepath.Join(d.path, name)
		st, err := os.Lstat(at)
		folder := len(d.sel.folders) > 0
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return fail.Wrap(fail.Usage, err, "--to", "")
		case !d.overwrite:
			return fail.Usagef("choose another directory, or allow files to be replaced: --overwrite", "%s exists already", shellword.Visible(at))
		case folder != st.IsDir():
			return fail.Usagef("choose another directory", "%s is %s, and in its place %s is to be", shellword.Visible(at), kindOf(st.IsDir()), kindOf(folder))
		}
	}
	var fsys syscall.Statfs_t
	at := paths.Existing(d.path)
	if syscall.Statfs(at, &fsys) == nil {
		if free := fsys.Bavail * uint64(fsys.Bsize); d.need > free {
			return fail.Usagef("choose another directory", "not enough room on the file system of %s: %s are needed, %s are free", at, humanize.IBytes(d.need), humanize.IBytes(free))
		}
	}
	return nil
}

func kindOf(folder bool) string {
	if folder {
		return "a folder"
	}
	return "a file"
}

// begin makes the directory, and finds out whose it is.
func (d *directory) begin(context.Context) error {
	var missing []string
	at := d.path
	for ; !paths.Exists(at); at = filepath.Dir(at) {
		missing = append(missing, at)
	}
	st, err := os.Stat(at)
	if err != nil {
		return err
	}
	if owner, ok := st.Sys().(*syscall.Stat_t); ok && os.Geteuid() == 0 {
		d.uid, d.gid = int(owner.Uid), int(owner.Gid)
	}
	for i := len(missing) - 1; i >= 0; i-- {
		if err := os.Mkdir(missing[i], 0o700); err != nil {
			return fail.Wrap(fail.Usage, err, "--to", "")
		}
		if d.uid >= 0 {
			if err := os.Lchown(missing[i], d.uid, d.gid); err != nil {
				return err
			}
		}
	}
	d.root, err = os.OpenRoot(d.path)
	return err
}

func (d *directory) parallel() int { return putters }

func (d *directory) close() {
	if d.root != nil {
		_ = d.root.Close() // everything was closed before
	}
}

// folder makes a folder. One that is there already is used when that was asked for.
func (d *directory) folder(_ context.Context, it *item) error {
	made, err := d.mkdirAll(it.rel, it)
	if err != nil {
		return d.judge(err)
	}
	if !made && !d.overwrite {
		return &fault{Exists, "something has that name already"}
	}
	return nil
}

// mkdirAll makes a folder and those above it; made tells that it was not there. Links are
// no folders here.
func (d *directory) mkdirAll(rel string, it *item) (made bool, err error) {
	if !filepath.IsLocal(rel) {
		return false, &fault{Refused, shellword.Visible(rel) + " is not below the directory"}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.made[rel] {
		return false, nil
	}
	for i := 0; i <= len(rel); i++ {
		if i < len(rel) && rel[i] != '/' || d.made[rel[:i]] {
			continue
		}
		if made, err = d.mkdir(rel[:i]); err != nil {
			return false, err
		}
		d.made[rel[:i]] = true
	}
	if made {
		if it == nil {
			it = &item{rel: rel}
		}
		d.own = append(d.own, it)
	}
	return made, nil
}

func (d *directory) mkdir(rel string) (made bool, err error) {
	err = d.root.Mkdir(rel, 0o777)
	switch {
	case err == nil && d.uid >= 0:
		return true, d.root.Lchown(rel, d.uid, d.gid)
	case err == nil:
		return true, nil
	case !errors.Is(err, fs.ErrExist):
		return false, err
	}
	st, err := d.root.Lstat(rel)
	switch {
	case err != nil:
		return false, err
	case st.Mode().Type() == fs.ModeSymlink:
		return false, &fault{Exists, shellword.Visible(rel) + " is a symbolic link, which is not followed"}
	case !st.IsDir():
		return false, &fault{Exists, shellword.Visible(rel) + " is a file, and has to be a folder"}
	}
	return false, nil
}

// judge makes a fault of an error that is about one item, and says what to do about
// others.
func (d *directory) judge(err error) error {
	var f *fault
	switch {
	case err == nil || errors.As(err, &f):
		return err
	case errors.Is(err, fs.ErrExist):
		return &fault{Exists, "something has that name already"}
	case errors.Is(err, syscall.ENOTDIR), errors.Is(err, syscall.EISDIR), errors.Is(err, syscall.ENAMETOOLONG), errors.Is(err, syscall.EINVAL),
		errors.Is(err, syscall.EILSEQ), errors.Is(err, syscall.EFBIG), errors.Is(err, fs.ErrPermission), errors.Is(err, fs.ErrNotExist), escapes(err):
		return &fault{Refused, err.Error()}
	}
	return fail.Wrap(fail.Failed, err, "write to "+d.path, "see that there is room, and that it can be written there; what is complete has its name")
}

// escapes tells whether os.Root has refused to leave the directory.
func escapes(err error) bool { return strings.Contains(err.Error(), "path escapes from parent") }

func (d *directory) create(_ context.Context, it *item) (file, error) {
	dir := path.Dir(it.rel)
	if _, err := d.mkdirAll(dir, nil); err != nil {
		return nil, d.judge(err)
	}
	// The name is short whatever the file's is, and nobody's.
	tmp := path.Join(dir, ".ocbackup-"+rand.Text())
	f, err := d.root.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return nil, d.judge(err)
	}
	return &localFile{File: f, dir: d, it: it, tmp: tmp}, nil
}

// localFile is a file under a temporary name.
type localFile struct {
	*os.File
	dir *directory
	it  *item
	tmp string
}

func (f *localFile) Write(b []byte) (int, error) {
	n, err := f.File.Write(b)
	return n, f.dir.judge(err)
}

func (f *localFile) discard() {
	_ = f.Close()
	_ = f.dir.root.Remove(f.tmp) // it may have its name by now
}

func (f *localFile) commit() error { return f.dir.judge(f.place()) }

func (f *localFile) place() error {
	root, name := f.dir.root, f.it.rel
	if f.dir.uid >= 0 {
		if err := f.Chown(f.dir.uid, f.dir.gid); err != nil {
			return err
		}
	}
	if !f.it.mtime.IsZero() {
		if err := root.Chtimes(f.tmp, f.it.mtime, f.it.mtime); err != nil {
			return err
		}
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return err
	}
	if f.dir.overwrite {
		if st, err := root.Lstat(name); err == nil && st.IsDir() {
			return &fault{Exists, "there is a folder of that name"}
		}
		return root.Rename(f.tmp, name)
	}
	// A link never takes the place of anything.
	err := root.Link(f.tmp, name)
	switch {
	case err == nil:
		return root.Remove(f.tmp)
	case errors.Is(err, fs.ErrExist):
		return err
	}
	// This file system has no links.
	if _, lerr := root.Lstat(name); !errors.Is(lerr, fs.ErrNotExist) {
		return errors.Join(lerr, fs.ErrExist)
	}
	return root.Rename(f.tmp, name)
}

// finish sets the times of folders, now that nothing more comes into them, and makes
// names survive a power loss.
func (d *directory) finish() error {
	failed := func(err error, rel string) error {
		return fail.Wrap(fail.Failed, err, "finish the folder "+filepath.Join(d.path, rel), "its files are complete")
	}
	for rel := range d.made { // also those that were there
		if err := d.sync(rel); err != nil {
			return failed(err, rel)
		}
	}
	for i := len(d.own) - 1; i >= 0; i-- {
		it := d.own[i]
		if it.mtime.IsZero() {
			continue
		}
		if err := d.root.Chtimes(it.rel, it.mtime, it.mtime); err != nil {
			return failed(err, it.rel)
		}
	}
	return nil
}

func (d *directory) sync(rel string) error {
	f, err := d.root.Open(rel)
	if err == nil {
		err = errors.Join(f.Sync(), f.Close())
	}
	return err
}
