// Package holdings tells a certificate what a backup holds, as the backup itself says
// it: the file lists of the roots in the repository, or the inventory of the bucket's
// objects. It is the one place that knows how paths in a set become places of nodes.
package holdings

import (
	"context"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/ocbackup/ocbackup/certificate"
	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/manifest"
	"github.com/ocbackup/ocbackup/opencloud"
	"github.com/ocbackup/ocbackup/repo"
	"github.com/ocbackup/ocbackup/s3mirror"
)

// FromRepository adds the files of those roots that hold blobs, by the lists that the
// repository has of them; nothing of driver decomposeds3, whose blobs are no files. Errors
// are the repository's own, or fail.Repository: a list is not all that was stored.
func FromRepository(ctx context.Context, r *repo.Repo, m *manifest.Manifest, h *certificate.Holdings) error {
	for i := range m.Roots {
		root := &m.Roots[i]
		if root.Snapshot == "" || !root.Has(opencloud.Blobs) {
			continue
		}
		var files uint64
		err := r.Ls(ctx, root.Snapshot, "", func(n repo.Node) error {
			if n.Type == "file" {
				files++
			}
			Add(h, root, n)
			return nil
		})
		if err != nil {
			return err
		}
		if files != root.Files { // restic may leave out what it can't load, and end well
			return fail.New(fail.Repository, fmt.Sprintf("restic lists %d files of root %s, and has stored %d", files, root.Name, root.Files),
				"run it again; \"ocbackup verify\" tells whether the repository is damaged")
		}
	}
	return nil
}

// FromInventory adds the objects of an inventory, which is read to its end.
func FromInventory(in io.Reader, h *certificate.Holdings) error {
	return s3mirror.EachObject(in, "the set's inventory", func(o *s3mirror.Object) error {
		h.Add(o.Key, o.Size, certificate.Hashes{SHA1: o.SHA1, MD5: o.MD5})
		return nil
	})
}

// Add adds a file of a root that holds blobs; false: it is no regular file, or not in
// the root's own folder.
func Add(h *certificate.Holdings, root *manifest.Root, n repo.Node) bool {
	if n.Type != "file" {
		return false
	}
	at, ok := At(root, n.Path)
	if !ok {
		return false
	}
	if strings.ContainsRune(at, utf8.RuneError) {
		h.AddLossy(at, int64(n.Size), certificate.Hashes{}) // restic's lists are JSON: bytes that are no UTF-8 are lost
	} else {
		h.Add(at, int64(n.Size), certificate.Hashes{})
	}
	return true
}

// At is the place (catalog.Node.At) of what lies at a path of a root's snapshot: the
// path below the users root, which is the snapshot's only entry.
func At(root *manifest.Root, path string) (at string, ok bool) {
	return strings.CutPrefix(path, "/"+root.Entry+"/")
}

// Path is the reverse of At.
func Path(root *manifest.Root, at string) string { return "/" + root.Entry + "/" + at }
