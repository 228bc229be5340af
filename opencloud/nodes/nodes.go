// Package nodes reads the nodes of all spaces from an instance's users root: what
// OpenCloud's storage drivers posix, decomposed and decomposeds3 keep there, in the
// forms of its older and its current releases.
package nodes

import (
	"context"
	"fmt"
	"io/fs"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ocbackup/ocbackup/catalog"
	"github.com/ocbackup/ocbackup/opencloud"
)

// Tree is a users root that nodes are read from: a directory, or what the repository
// holds of one. Paths are slash-separated and relative to it, without "." and "..";
// "." is the root itself. Nothing follows symbolic links. Methods are called from
// several goroutines. Errors are *fs.PathErrors; what is not there is fs.ErrNotExist.
type Tree interface {
	// List lists a directory, in the order of names in bytes.
	List(ctx context.Context, dir string) ([]Entry, error)
	// Attrs reads those extended attributes of a file or directory whose names begin with
	// "user.oc." and that want asks for, by their whole names.
	Attrs(ctx context.Context, path string, want func(name string) bool) (map[string][]byte, error)
	// Read reads a regular file; one of more than limit bytes is an error.
	Read(ctx context.Context, path string, limit int64) ([]byte, error)
	// Link reads where a symbolic link leads.
	Link(ctx context.Context, path string) (string, error)
}

// Entry is something in a directory.
type Entry struct {
	Name  string
	Type  fs.FileMode // the type bits
	Size  int64       // of regular files
	MTime time.Time
}

// Options say what is read, and how.
type Options struct {
	Tree   Tree
	Driver opencloud.Driver
	// Workers is how many things are read at a time; 0: a default for disks.
	Workers int
	// TempDir takes what is too much for memory; empty: the system's.
	TempDir string
	// OnProgress, which may be nil, is told now and then how many nodes were read. It is
	// called from one goroutine at a time.
	OnProgress func(nodes uint64)
}

// Read reads all spaces into a catalog. What is wrong with a node is told in the
// catalog, never skipped; an error says that the reading itself could not be done.
func Read(ctx context.Context, o Options, to *catalog.Writer) error {
	if o.Workers <= 0 {
		o.Workers = 2 * runtime.GOMAXPROCS(0)
	}
	defer release(o.Tree)
	r := &reader{Options: o, to: to}
	switch o.Driver {
	case opencloud.Posix:
		return readPosix(ctx, r)
	case opencloud.Decomposed, opencloud.DecomposedS3:
		return readDecomposed(ctx, r)
	}
	return fmt.Errorf("read the nodes: unknown storage driver %q", o.Driver)
}

// reader is one run of Read.
type reader struct {
	Options
	to   *catalog.Writer
	read atomic.Uint64
	tell sync.Mutex // OnProgress
}

// add brings a node into a section, and tells of progress.
func (r *reader) add(s *catalog.Section, n *catalog.Node) error {
	if err := s.Add(n); err != nil {
		return err
	}
	const often = 1 << 10
	if c := r.read.Add(1); c%often == 0 && r.OnProgress != nil && r.tell.TryLock() {
		r.OnProgress(c)
		r.tell.Unlock()
	}
	return nil
}

// The classes of problems: those of the certificate.
const (
	unreadable = "unreadable"
	broken     = "broken"
)

// problem makes a node's problem. Fatal: users can no longer reach data of theirs
// that the tree held.
func problem(class string, fatal bool, format string, args ...any) *catalog.Problem {
	return &catalog.Problem{Class: class, Fatal: fatal, Text: fmt.Sprintf(format, args...)}
}
