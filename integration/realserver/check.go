package main

import (
	"cmp"
	"crypto/sha1"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/pkg/xattr"
	"github.com/vmihailenco/msgpack/v5"

	"github.com/ocbackup/ocbackup/integration/objects"
)

// checker checks a tree without a server: that every file has the content which its
// metadata names, and that the writer's uploads are those of one moment.
type checker struct {
	users string         // the storage root
	files int            // with content
	slots map[int]uint64 // number of the upload by slot
	bad   []string
	lost  []string // without metadata
}

// check checks the tree, and with the driver decomposeds3 that the bucket has what
// belongs to it.
func (i *instance) check(bucket objects.Store) error {
	k := &checker{users: filepath.Join(i.data, "storage/users"), slots: map[int]uint64{}}
	switch i.driver {
	case "posix":
		k.posix()
	case "decomposeds3":
		k.decomposed(k.users, bucket)
	default:
		k.decomposed(k.users, nil)
	}
	k.decomposed(filepath.Join(i.data, "storage/metadata"), nil)
	k.order()
	for _, text := range append(k.lost, k.bad...) {
		fmt.Println(text)
	}
	switch {
	case len(k.lost) > 0:
		return &exitError{3, fmt.Sprintf("%d nodes lost their attributes", len(k.lost))}
	case len(k.bad) > 0:
		return fmt.Errorf("%d inconsistencies", len(k.bad))
	case k.files == 0 || len(k.slots) == 0:
		return errors.New("no files here: the writer never ran on this tree")
	}
	fmt.Printf("%d files consistent\n", k.files)
	return nil
}

// files has files by their paths.
const files = objects.Dir("/")

func (k *checker) broken(path, format string, a ...any) {
	k.bad = append(k.bad, path+": "+fmt.Sprintf(format, a...))
}

// order checks that with the newest upload all before it are there: each slot holds
// the newest number that is its own.
func (k *checker) order() {
	var newest uint64
	for _, seq := range k.slots {
		newest = max(newest, seq)
	}
	for seq := newest; seq > 0 && seq+slots > newest; seq-- {
		if got := k.slots[int(seq%slots)]; got != seq {
			k.bad = append(k.bad, fmt.Sprintf("slot %d has upload %d, not %d, beside %d", seq%slots, got, seq, newest))
		}
	}
}

// content checks a file against its metadata; current are those that are neither
// old versions nor in the trash. path is what it is called where store has it.
func (k *checker) content(store objects.Store, path string, a map[string][]byte, current bool) {
	if upload, ok := strings.CutPrefix(string(a["user.oc.nodestatus"]), "processing:"); ok {
		// Not processed yet, as after a kill: the server goes on with it.
		if _, err := os.Stat(filepath.Join(k.users, "uploads", upload+".info")); err != nil {
			k.broken(path, "in processing, but: %v", err)
		}
		return
	}
	size := string(a["user.oc.blobsize"])
	content, err := store.Get(path)
	if errors.Is(err, fs.ErrNotExist) && size == "0" {
		err = nil // an empty file of the decomposed driver has no blob
	}
	if err != nil {
		k.broken(path, "%v", err)
		return
	}
	// The server gives no checksums to an empty file.
	if sum := sha1.Sum(content); size != strconv.Itoa(len(content)) || len(content) > 0 && string(a["user.oc.cs.sha1"]) != string(sum[:]) {
		k.broken(path, "%d bytes, which are not those %s of the metadata", len(content), cmp.Or(size, "?"))
		return
	}
	k.files++
	var slot int
	if _, err := fmt.Sscanf(string(a["user.oc.name"]), "slot-%d.dat", &slot); err == nil && current {
		if k.slots[slot], err = contentSeq(content); err != nil {
			k.broken(path, "%v", err)
		}
	}
}

// decomposed checks the spaces of a decomposed tree: metadata is MessagePack beside
// the node, content a blob: of the space, or in a bucket.
func (k *checker) decomposed(root string, bucket objects.Store) {
	roots, _ := filepath.Glob(filepath.Join(root, "spaces/*/*"))
	if len(roots) == 0 {
		k.broken(root, "no spaces")
	}
	for _, space := range roots {
		k.walk(filepath.Join(space, "nodes"), func(path string, d fs.DirEntry) error {
			node, ok := strings.CutSuffix(path, ".mpk")
			if !ok {
				// A directory on the way to nodes is not one.
				if name := d.Name(); strings.HasPrefix(name, "-") && !strings.HasSuffix(name, ".mlock") {
					if _, err := os.Lstat(path + ".mpk"); err != nil {
						k.lost = append(k.lost, path+": no metadata")
					}
				}
				return nil
			}
			if _, err := os.Lstat(node); err != nil {
				k.broken(path, "%v", err)
			}
			a, err := readMessagePack(path)
			if err != nil {
				k.broken(path, "%v", err)
			} else if id := string(a["user.oc.blobid"]); id != "" {
				current := !strings.Contains(d.Name(), ".REV.") && !strings.Contains(d.Name(), ".T.")
				if bucket != nil {
					k.content(bucket, objects.Key(filepath.Base(filepath.Dir(space))+filepath.Base(space), id), a, current)
				} else {
					k.content(files, filepath.Join(space, "blobs", pathify(id)), a, current)
				}
			}
			return nil
		})
	}
}

// posix checks the spaces of a posix tree: metadata are extended attributes, and
// where these are too many, MessagePack below .oc-nodes.
func (k *checker) posix() {
	roots, _ := filepath.Glob(filepath.Join(k.users, "*", "*-*-*-*-*"))
	if len(roots) == 0 {
		k.broken(k.users, "no spaces")
	}
	for _, space := range roots {
		k.walk(space, func(path string, d fs.DirEntry) error {
			switch name := d.Name(); {
			case path == filepath.Join(space, ".oc-tmp"), path == filepath.Join(space, ".Trash/info"):
				return fs.SkipDir
			case path == filepath.Join(space, ".Trash"), path == filepath.Join(space, ".Trash/files"):
				return nil
			case d.IsDir() && (path == filepath.Join(space, ".oc-nodes") || strings.Contains(path, "/.oc-nodes/")):
				return nil
			case strings.HasSuffix(name, ".mlock"), strings.HasSuffix(name, ".mpk"):
				return nil
			}
			a := readXattrs(path)
			revision := strings.Contains(path, "/.oc-nodes/")
			id := string(a["user.oc.id"])
			if id == "" && !revision || d.Type().IsRegular() && a["user.oc.blobid"] == nil || path == space && a["user.oc.space.id"] == nil {
				k.lost = append(k.lost, path+": attributes lost")
				return nil
			}
			if a["user.oc.metadata_offloaded"] != nil {
				if _, err := readMessagePack(filepath.Join(space, ".oc-nodes", pathify(id)+".mpk")); err != nil {
					k.broken(path, "%v", err)
				}
			}
			if d.Type().IsRegular() {
				k.content(files, path, a, !revision && !strings.Contains(path, "/.Trash/"))
			}
			return nil
		})
	}
}

func (k *checker) walk(root string, f func(path string, d fs.DirEntry) error) {
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return f(path, d)
	})
	if err != nil {
		k.broken(root, "%v", err)
	}
}

func readMessagePack(path string) (map[string][]byte, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var a map[string][]byte
	err = msgpack.Unmarshal(b, &a)
	return a, err
}

func readXattrs(path string) map[string][]byte {
	a := map[string][]byte{}
	names, _ := xattr.LList(path)
	for _, name := range names {
		if v, err := xattr.LGet(path, name); err == nil {
			a[name] = v
		}
	}
	return a
}

// pathify splits an id as the server does: aa/bb/cc/dd/-rest.
func pathify(id string) string {
	if len(id) < 9 {
		return id
	}
	return filepath.Join(id[0:2], id[2:4], id[4:6], id[6:8], id[8:])
}
