package repo

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/ocbackup/ocbackup/proc"
)

// DumpTar calls fn for everything in a folder of a snapshot, at any depth, the folder
// itself left out: folders, files with their content, and symbolic links, with owners,
// times (which restic rounds to seconds here) and (in PAXRecords, as "SCHILY.xattr.NAME")
// extended attributes. Names are relative to dir, without a "/" at their end, in the bytes that were stored. An empty dir
// (or "/") stands for the whole snapshot. What fn does not read is skipped. An error of
// fn ends restic and is returned.
//
// A reader's error is DumpTar's own: what restic can't read ends the whole dump, after
// all that came before it was handed on. The error is fs.ErrNotExist when the snapshot
// has no such folder.
func (r *Repo) DumpTar(ctx context.Context, snapshot, dir string, fn func(h *tar.Header, content io.Reader) error) error {
	in, out := io.Pipe()
	done := make(chan error, 1)
	go func() {
		err := readTar(in, fn)
		if err == nil {
			_, err = io.Copy(io.Discard, in) // what pads the archive
		}
		in.CloseWithError(err)
		done <- err
	}()
	_, err := r.run(ctx, call{
		command: "dump", args: []string{"--archive=tar", "--", subfolder(snapshot, dir), "/"}, out: out,
	})
	if noSubfolder(err) {
		err = notInSnapshot(snapshot, path.Clean("/"+dir))
	}
	out.CloseWithError(err) // nil: the end
	read := <-done
	switch {
	case err != nil && !errors.Is(err, errArchive):
		return err
	case errors.Is(read, errArchive):
		return fmt.Errorf("understand restic's archive of %s in snapshot %s: %w", dir, snapshot, read)
	}
	return read
}

// errArchive says that an archive is not as restic writes it.
var errArchive = errors.New("it is no whole tar archive")

func readTar(in io.Reader, fn func(*tar.Header, io.Reader) error) error {
	t := tar.NewReader(in)
	for {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%w: %w", errArchive, err)
		}
		h.Name = strings.TrimSuffix(h.Name, "/")
		if err := fn(h, t); err != nil {
			return err
		}
	}
}

// subfolder names a folder of a snapshot as restic takes it in the place of a snapshot.
func subfolder(snapshot, dir string) string {
	if dir = path.Clean("/" + dir); dir == "/" {
		return snapshot
	}
	return snapshot + ":" + dir
}

// noSubfolder tells whether restic said that a snapshot lacks the folder that
// subfolder names (FindTreeDirectory of internal/data, of internal/restic before 0.19).
func noSubfolder(err error) bool {
	var x *proc.ExitError
	if !errors.As(err, &x) || !strings.Contains(x.Stderr, "path ") {
		return false
	}
	return strings.HasSuffix(x.Stderr, ": not found") || strings.HasSuffix(x.Stderr, ": not a directory")
}
