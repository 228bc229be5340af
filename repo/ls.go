package repo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
	"time"

	"github.com/ocbackup/ocbackup/proc"
)

// Node is a file, folder, link or other thing in a snapshot.
type Node struct {
	Path  string      `json:"path"` // absolute within the snapshot; bytes that are no UTF-8 are lost
	Name  string      `json:"name"`
	Type  string      `json:"type"` // file, dir, symlink, fifo, socket, dev, chardev
	Size  uint64      `json:"size"` // bytes; of files only
	Mode  fs.FileMode `json:"mode"`
	UID   uint32      `json:"uid"`
	GID   uint32      `json:"gid"`
	MTime time.Time   `json:"mtime"`
	CTime time.Time   `json:"ctime"`
	Inode uint64      `json:"inode"`
}

// Ls calls fn for everything in a folder of a snapshot, at any depth, the folder
// itself first; an empty dir (or "/") stands for the whole snapshot. An error of fn
// ends the listing and is returned. The error is fs.ErrNotExist when the snapshot has no such folder.
func (r *Repo) Ls(ctx context.Context, snapshot, dir string, fn func(Node) error) error {
	args := []string{"--json", "--recursive", "--", snapshot}
	dir = path.Clean("/" + dir)
	if dir != "/" {
		args = append(args, dir)
	}
	seen := false
	_, err := r.run(ctx, call{command: "ls", args: args, onLine: func(line []byte) error {
		if len(line) == 0 || line[0] != '{' {
			return nil
		}
		n, ok, err := parseNode(line)
		if err != nil {
			return fmt.Errorf("understand restic's list of snapshot %s: %w", snapshot, err)
		}
		if !ok {
			return nil
		}
		seen = true
		return fn(n)
	}})
	if err == nil && !seen && dir != "/" {
		err = notInSnapshot(snapshot, dir)
	}
	var x *proc.ExitError
	if errors.As(err, &x) && strings.HasPrefix(x.Stderr, "panic: runtime error") {
		// So ends ls at a folder that it can't load, up to release 0.18.
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return err
}

// Dump writes one file of a snapshot to w. Of a folder, restic gives a tar archive.
// The error is fs.ErrNotExist when the snapshot has no such file.
func (r *Repo) Dump(ctx context.Context, snapshot, file string, w io.Writer) error {
	_, err := r.run(ctx, call{command: "dump", args: []string{"--", snapshot, file}, out: w})
	var x *proc.ExitError
	if errors.As(err, &x) && strings.HasSuffix(x.Stderr, "not found in snapshot") {
		return notInSnapshot(snapshot, file)
	}
	return err
}

func notInSnapshot(snapshot, file string) error {
	return &fs.PathError{Op: "find in snapshot " + snapshot, Path: file, Err: fs.ErrNotExist}
}
