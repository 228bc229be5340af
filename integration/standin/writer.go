package main

import (
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/adler32"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
)

// The writer rewrites a small set of files in turn. Every write touches three
// places that belong together: the blob (its content), the node's metadata, and
// a record in the system data that names what both must be. Only a copy of all
// three taken while nothing was written agrees with itself.

const (
	slots    = 8
	blobSize = 16 << 10
)

// interval is the time between two writes; $STANDIN_INTERVAL sets another.
var interval = func() time.Duration {
	if d, err := time.ParseDuration(os.Getenv("STANDIN_INTERVAL")); err == nil && d > 0 {
		return d
	}
	return 2 * time.Millisecond
}()

type writer struct {
	l     layout
	space space
	dir   string // the folder "standin" in the space
	dirID string
	seq   uint64
}

// newWriter writes the first round of pairs where there are none, so that a
// started server has all of them.
func newWriter(l layout) (*writer, error) {
	list := l.spaces()
	if len(list) == 0 {
		return nil, nil
	}
	w := &writer{l: l, space: list[0]}
	if err := w.openFolder(); err != nil {
		return nil, err
	}
	for slot := range slots {
		if r, err := l.readRecord(slot); err == nil {
			w.seq = max(w.seq, r.seq)
		}
	}
	for range slots {
		if err := w.write(); errors.Is(err, errUpload) {
			fmt.Fprintln(os.Stderr, "standin:", err)
			break
		} else if err != nil {
			return nil, err
		}
	}
	return w, nil
}

// openFolder finds or makes the folder in the space that the files are in.
func (w *writer) openFolder() error {
	const name = "standin"
	w.dir = filepath.Join(w.space.dir, name)
	if w.l.driver != "posix" {
		if target, err := os.Readlink(w.dir); err == nil {
			w.dir = filepath.Join(w.space.dir, target)
			w.dirID = string(w.l.readAttrs(w.dir)["user.oc.id"])
			return nil
		}
		w.dirID = uuid.NewString()
		link := w.dir
		w.dir = w.node(w.dirID)
		if err := os.MkdirAll(w.dir, 0o700); err != nil {
			return err
		}
		if err := w.l.writeAttrs(w.dir, w.folderAttrs(name)); err != nil {
			return err
		}
		return os.Symlink(filepath.Join("../../../../..", pathify(w.dirID)), link)
	}
	if err := os.MkdirAll(w.dir, 0o700); err != nil {
		return err
	}
	if w.dirID = string(w.l.readAttrs(w.dir)["user.oc.id"]); w.dirID != "" {
		return nil
	}
	w.dirID = uuid.NewString()
	return w.l.writeAttrs(w.dir, w.folderAttrs(name))
}

func (w *writer) folderAttrs(name string) attrs {
	return attrs{
		"user.oc.id": []byte(w.dirID), "user.oc.parentid": []byte(w.space.id), "user.oc.name": []byte(name),
		"user.oc.type": []byte("2"), "user.oc.propagation": []byte("1"), "user.oc.treesize": []byte("0"), "user.oc.tmtime": []byte(now()),
	}
}

func (w *writer) node(id string) string {
	return filepath.Join(w.l.spaceDir(w.space.id), "nodes", pathify(id))
}

// write rewrites the next file: content, metadata, record, in this order.
func (w *writer) write() error {
	w.seq++
	slot := int(w.seq % slots)
	name := fmt.Sprintf("slot-%d.dat", slot)
	content := makeContent(w.seq)
	blobid := uuid.NewString()
	r := record{seq: w.seq, blobid: blobid, sha256: hashHex(content)}
	old, oldErr := w.l.readRecord(slot)

	if w.l.driver != "posix" {
		r.node = old.node
		if oldErr != nil {
			r.node = uuid.NewString()
		}
		r.blob = w.l.blobKey(w.space.id, blobid)
		node := w.node(r.node)
		if err := w.l.putBlob(r.blob, content); err != nil {
			return err
		}
		if oldErr != nil {
			if err := replaceFile(node, nil); err != nil {
				return err
			}
			if err := os.Symlink(filepath.Join("../../../../..", pathify(r.node)), filepath.Join(w.dir, name)); err != nil && !errors.Is(err, fs.ErrExist) {
				return err
			}
		}
		if err := w.keepVersion(node); err != nil {
			return err
		}
		if err := w.l.writeAttrs(node, w.fileAttrs(r.node, name, blobid, content)); err != nil {
			return err
		}
		r.meta, _ = filepath.Rel(w.l.users, node)
		if err := w.l.writeRecord(slot, r); err != nil || oldErr != nil {
			return err
		}
		return w.purge(node, old.blob)
	}

	// In place, then the attributes: as the server does whose trees are recorded.
	path := filepath.Join(w.dir, name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		return err
	}
	time.Sleep(interval / 2) // long enough for a copy to come between content and attributes
	r.node = string(w.l.readAttrs(path)["user.oc.id"])
	if r.node == "" {
		r.node = uuid.NewString()
	}
	a := w.fileAttrs(r.node, name, blobid, content)
	if err := w.l.writeAttrs(path, a); err != nil {
		return err
	}
	// The server trusts attributes only as long as file and attribute have one time.
	if at, err := time.Parse(time.RFC3339Nano, string(a["user.oc.mtime"])); err != nil || os.Chtimes(path, at, at) != nil {
		return fmt.Errorf("%s: its time can't be set", path)
	}
	r.blob, _ = filepath.Rel(w.l.users, path)
	r.meta = r.blob
	return w.l.writeRecord(slot, r)
}

func (w *writer) fileAttrs(id, name, blobid string, content []byte) attrs {
	s1, m5 := sha1.Sum(content), md5.Sum(content)
	return attrs{
		"user.oc.id": []byte(id), "user.oc.parentid": []byte(w.dirID), "user.oc.name": []byte(name),
		"user.oc.type": []byte("1"), "user.oc.mtime": []byte(now()),
		"user.oc.blobid": []byte(blobid), "user.oc.blobsize": []byte(strconv.Itoa(len(content))),
		"user.oc.cs.sha1": s1[:], "user.oc.cs.md5": m5[:],
		"user.oc.cs.adler32": binary.BigEndian.AppendUint32(nil, adler32.Checksum(content)),
	}
}

// makeContent is a line with number and checksum, and a body.
func makeContent(seq uint64) []byte {
	body := []byte(strings.Repeat(fmt.Sprintf("%016d", seq), blobSize/16))
	return append(fmt.Appendf(nil, "seq=%d sha256=%s\n", seq, hashHex(body)), body...)
}

// contentSeq is the number in content that agrees with its checksum.
func contentSeq(content []byte) (seq uint64, err error) {
	var sum string
	line, body, _ := strings.Cut(string(content), "\n")
	if _, err := fmt.Sscanf(line, "seq=%d sha256=%s", &seq, &sum); err != nil || sum != hashHex([]byte(body)) {
		return seq, errors.New("content torn")
	}
	return seq, nil
}

func hashHex(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// record is what the system data remembers of one file.
type record struct {
	seq                              uint64
	node, blobid, sha256, blob, meta string // blob, meta: paths below the storage root
}

func (l layout) recordPath(slot int) string {
	return filepath.Join(l.data, "nats/standin", fmt.Sprintf("slot-%d.seq", slot))
}

func (l layout) writeRecord(slot int, r record) error {
	return replaceFile(l.recordPath(slot), fmt.Appendf(nil, "%d\t%s\t%s\t%s\t%s\t%s\n", r.seq, r.node, r.blobid, r.sha256, r.blob, r.meta))
}

func (l layout) readRecord(slot int) (r record, err error) {
	b, err := os.ReadFile(l.recordPath(slot))
	if err != nil {
		return r, err
	}
	part := strings.Split(strings.TrimSpace(string(b)), "\t")
	if len(part) != 6 {
		return r, errors.New("record torn")
	}
	r.seq, err = strconv.ParseUint(part[0], 10, 64)
	r.node, r.blobid, r.sha256, r.blob, r.meta = part[1], part[2], part[3], part[4], part[5]
	return r, err
}

// check reports every file whose content, metadata and record disagree.
func check(l layout) error {
	pairs, bad, lost := 0, 0, 0
	for slot := range slots {
		r, err := l.readRecord(slot)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		pairs++
		if err == nil {
			err = l.checkRecord(r)
		}
		if err != nil {
			bad++
			fmt.Printf("slot %d: %v\n", slot, err)
		}
	}
	if l.driver == "posix" {
		l.nodes(func(path string, d fs.DirEntry) {
			a := l.readAttrs(path)
			if a["user.oc.id"] == nil || (d.Type().IsRegular() && a["user.oc.blobid"] == nil) || (d.IsDir() && a["user.oc.name"] == nil) {
				lost++
				fmt.Printf("attributes lost: %s\n", path)
			}
		})
	}
	if l.driver == "decomposeds3" {
		bad += l.checkBucket()
	}
	switch {
	case lost > 0:
		return &exitError{3, fmt.Sprintf("%d nodes lost their attributes", lost)}
	case bad > 0:
		return fmt.Errorf("%d inconsistencies beside %d pairs", bad, pairs)
	case pairs == 0:
		return errors.New("no pairs here: the stand-in never ran on this tree")
	}
	fmt.Printf("%d pairs consistent\n", pairs)
	return nil
}

func (l layout) checkRecord(r record) error {
	content, err := l.blobs.Get(r.blob)
	if err != nil {
		return err
	}
	seq, err := contentSeq(content)
	if err != nil {
		return err
	}
	a := l.readAttrs(filepath.Join(l.users, r.meta))
	sum := sha1.Sum(content)
	switch {
	case seq != r.seq:
		return fmt.Errorf("content has number %d, record %d", seq, r.seq)
	case hashHex(content) != r.sha256:
		return errors.New("content and record differ")
	case string(a["user.oc.blobid"]) != r.blobid:
		return errors.New("metadata and record name different blobs")
	case string(a["user.oc.blobsize"]) != strconv.Itoa(len(content)) || string(a["user.oc.cs.sha1"]) != string(sum[:]):
		return errors.New("content and metadata differ")
	}
	return nil
}
