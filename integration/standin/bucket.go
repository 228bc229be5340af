package main

import (
	"crypto/sha1"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ocbackup/ocbackup/integration/objects"
)

// With the driver decomposeds3, contents lie in a bucket. It changes under a backup as
// that of a real server does: by uploads, which never touch an object that is there, and
// by purges of old versions, whose objects go.

// versions is how many old versions of a file are kept.
const versions = 2

// errUpload: the bucket did not take an upload. The user sees that, the server goes on.
var errUpload = errors.New("upload failed")

// blobKey is where the content of a decomposed node lies in l.blobs.
func (l layout) blobKey(space, blobid string) string {
	if l.driver == "decomposeds3" {
		return objects.Key(space, blobid)
	}
	key, _ := filepath.Rel(l.users, filepath.Join(l.spaceDir(space), "blobs", pathify(blobid)))
	return key
}

func (l layout) putBlob(key string, content []byte) error {
	err := l.blobs.Put(key, content)
	if err != nil && l.driver == "decomposeds3" {
		err = fmt.Errorf("%w: %w", errUpload, err)
	}
	return err
}

// keepVersion makes a node's content its newest old version.
func (w *writer) keepVersion(node string) error {
	a := w.l.readAttrs(node)
	if w.l.driver != "decomposeds3" || a["user.oc.blobid"] == nil {
		return nil
	}
	kept, err := w.oldVersions(node)
	if err != nil {
		return err
	}
	if len(kept) > 0 && string(w.l.readAttrs(kept[len(kept)-1])["user.oc.blobid"]) == string(a["user.oc.blobid"]) {
		return nil // by a server that was killed before it came to overwrite it
	}
	old := attrs{"user.oc.type": []byte("1")}
	for _, name := range []string{"user.oc.blobid", "user.oc.blobsize", "user.oc.mtime", "user.oc.cs.sha1", "user.oc.cs.md5", "user.oc.cs.adler32"} {
		old[name] = a[name]
	}
	path := node + ".REV." + time.Now().UTC().Format("2006-01-02T15:04:05.000000000Z")
	if err := replaceFile(path, nil); err != nil {
		return err
	}
	return w.l.writeAttrs(path, old)
}

// oldVersions are the nodes of a node's old versions, the oldest first.
func (w *writer) oldVersions(node string) ([]string, error) {
	list, err := filepath.Glob(node + ".REV.*.mpk")
	for i := range list {
		list[i] = strings.TrimSuffix(list[i], ".mpk")
	}
	slices.Sort(list)
	return list, err
}

// purge removes what an overwritten node no longer needs: its versions but the newest,
// or, where none are kept, its former content.
func (w *writer) purge(node, former string) error {
	if w.l.driver != "decomposeds3" {
		_ = w.l.blobs.Delete(former)
		return nil
	}
	list, err := w.oldVersions(node)
	if err != nil {
		return err
	}
	for _, version := range list[:max(0, len(list)-versions)] {
		blobid := string(w.l.readAttrs(version)["user.oc.blobid"])
		if err := errors.Join(os.Remove(version+".mpk"), os.Remove(version)); err != nil {
			return err
		}
		// What can't be deleted now is an orphan for ever, as with the real server.
		_ = w.l.blobs.Delete(w.l.blobKey(w.space.id, blobid))
	}
	return nil
}

// checkBucket counts, and prints, nodes and versions whose content the bucket does not
// have as the metadata says.
func (l layout) checkBucket() (bad int) {
	spaces, _ := filepath.Glob(filepath.Join(l.users, "spaces/*/*"))
	for _, dir := range spaces {
		space := filepath.Base(filepath.Dir(dir)) + filepath.Base(dir)
		_ = filepath.WalkDir(filepath.Join(dir, "nodes"), func(path string, _ fs.DirEntry, err error) error {
			node, ok := strings.CutSuffix(path, ".mpk")
			if err == nil && ok {
				err = l.checkContent(space, l.readAttrs(node))
			}
			if err != nil {
				bad++
				fmt.Printf("%s: %v\n", path, err)
			}
			return nil
		})
	}
	return bad
}

func (l layout) checkContent(space string, a attrs) error {
	blobid, size := string(a["user.oc.blobid"]), string(a["user.oc.blobsize"])
	if blobid == "" || size == "0" {
		return nil // a folder, or an empty file, which has no object
	}
	content, err := l.blobs.Get(l.blobKey(space, blobid))
	if err != nil {
		return err
	}
	if sum := sha1.Sum(content); strconv.Itoa(len(content)) != size || string(a["user.oc.cs.sha1"]) != string(sum[:]) {
		return fmt.Errorf("object %s has %d bytes, which are not those %s of the metadata", blobid, len(content), size)
	}
	return nil
}
