package nodes

import (
	"crypto/sha256"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/google/uuid"
)

// nodeID is a node's id in the memory it takes where there are millions: the bytes of the
// UUID that almost all are, or a digest of what it is else.
type nodeID [16]byte

// spool holds the records of one space: in memory only where each lies in a temporary
// file, and what the assembly of the tree has to remember of it: 32 bytes each.
type spool struct {
	file *os.File
	mu   sync.Mutex
	buf  []byte
	end  int64 // of the file and buf
	all  []spooled
	// others are the ids that are no UUIDs.
	others map[nodeID]string
}

// spooled is a record in the temporary file.
type spooled struct {
	id    nodeID
	off   int64
	size  uint32
	flags flag
}

// flag is what is known of a record without reading it.
type flag uint16

const (
	hasLinks   flag = 1 << iota // it is a folder that is not empty
	hasLive                     // there is a node, or metadata, that is not in the trash
	hasTrash                    // something was deleted under this id
	hasVersion                  // there are versions
	reached                     // a space's root, a trash item or what is lost leads to it
	sound                       // what leads to it is not lost
	again                       // more than one link leads to it
	linked                      // a folder that nothing leads to leads to it
	written                     // it is in the catalog
)

// newSpool begins a temporary file, which has no name already when it is used.
func newSpool(dir string) (*spool, error) {
	f, err := os.CreateTemp(dir, "ocbackup-nodes-*")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		_ = f.Close()
		return nil, err
	}
	return &spool{file: f}, nil
}

// reset makes place for another space.
func (s *spool) reset() {
	s.buf, s.end, s.all, s.others = s.buf[:0], 0, s.all[:0], map[nodeID]string{}
}

// key gives the key of an id.
func (s *spool) key(id string) nodeID {
	if u, err := uuid.Parse(id); err == nil && u.String() == id {
		return nodeID(u)
	}
	sum := sha256.Sum256([]byte(id))
	k := nodeID(sum[:])
	s.mu.Lock()
	s.others[k] = strings.Clone(id)
	s.mu.Unlock()
	return k
}

// name is the id of a key.
func (s *spool) name(k nodeID) string {
	if id, ok := s.others[k]; ok {
		return id
	}
	return uuid.UUID(k).String()
}

// add writes a record.
func (s *spool) add(k nodeID, r *record) error {
	e := spooled{id: k}
	for i := range r.forms {
		f := &r.forms[i]
		switch f.what {
		case formLive:
			e.flags |= hasLive
		case formVersion:
			e.flags |= hasVersion
		case formTrash:
			e.flags |= hasTrash
		}
		if len(f.links) > 0 {
			e.flags |= hasLinks
		}
	}
	b := r.encode(make([]byte, 0, 512))
	e.size = uint32(len(b))
	s.mu.Lock()
	defer s.mu.Unlock()
	e.off = s.end
	s.buf = append(s.buf, b...)
	s.end += int64(len(b))
	s.all = append(s.all, e)
	const much = 1 << 20
	if len(s.buf) < much {
		return nil
	}
	return s.flush()
}

func (s *spool) flush() error {
	_, err := s.file.WriteAt(s.buf, s.end-int64(len(s.buf)))
	s.buf = s.buf[:0]
	return err
}

// done ends the writing: records can be found and read from now on.
func (s *spool) done() error {
	slices.SortFunc(s.all, func(a, b spooled) int { return slices.Compare(a.id[:], b.id[:]) })
	return s.flush()
}

// find gives the place of a record, or -1.
func (s *spool) find(k nodeID) int {
	i, ok := slices.BinarySearchFunc(s.all, k, func(e spooled, k nodeID) int { return slices.Compare(e.id[:], k[:]) })
	if !ok {
		return -1
	}
	return i
}

// read reads the record at a place.
func (s *spool) read(i int) (*record, error) {
	e := &s.all[i]
	b := make([]byte, e.size)
	if _, err := s.file.ReadAt(b, e.off); err != nil {
		return nil, err
	}
	return decodeRecord(b)
}

func (s *spool) close() { _ = s.file.Close() }

// short is something from the disk, which may be anything, for people to read.
func short(s string) string {
	const most = 128
	if len(s) > most {
		s = s[:most] + "…"
	}
	return strconv.Quote(s)
}
