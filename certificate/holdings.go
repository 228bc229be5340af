package certificate

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"os"
	"strings"
	"unicode/utf8"
)

// Hashes are those of a blob that are known, in hex; empty: not known.
type Hashes struct{ SHA1, MD5 string }

// Holdings are the blobs that a backup holds. Adding, failing and reading are not for
// several goroutines at once.
//
// Of each blob, memory keeps a 128-bit hash of its place, its size and (where they are
// known) its hashes: some 32 bytes, or 68. The places themselves are in a temporary file,
// which only the search for orphans reads.
type Holdings struct {
	seeds  [2]maphash.Seed
	slots  []uint32 // 1 + the number of an entry; 0: free
	chunks [][]entry
	n      int
	hashes [][]hashes // in chunks
	hashed int
	// Names that no listing gives in their true bytes, by the form that it gives them in.
	lossy map[string][]*claim
	// failed is why blobs can't be read, by entry.
	failed map[uint32]error

	dir  string
	file *os.File
	to   *bufio.Writer
	last string // the place that was written last
	err  error  // of the file
}

// entry is a blob.
type entry struct {
	hi, lo uint64
	size   int64
	hash   uint32 // 1 + where in hashes; 0: none is known
	flags  uint8
}

const (
	used   = 1 << iota // a node has it
	failed             // it can't be read
	dupe               // it was added before, with another size
)

type hashes struct {
	sha1 [20]byte
	md5  [16]byte
	has  uint8 // 1: sha1, 2: md5
}

// claim is a blob of a name that is not known in its true bytes.
type claim struct {
	entry uint32
	by    string // the node's place that it was given to; empty: none yet
}

const chunkLen = 4096

// NewHoldings returns what holds nothing yet. Its temporary file lies in tempDir (empty:
// the system's), and is gone with Close, or when the process ends.
func NewHoldings(tempDir string) *Holdings {
	return &Holdings{
		seeds: [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}, slots: make([]uint32, 1024),
		lossy: map[string][]*claim{}, failed: map[uint32]error{}, dir: tempDir,
	}
}

// Close removes the temporary file.
func (h *Holdings) Close() error {
	if h.file == nil {
		return nil
	}
	err := h.file.Close()
	h.file = nil
	return err
}

// Len is how many blobs there are.
func (h *Holdings) Len() int { return h.n }

// Add adds a blob: where it lies (as catalog.Node.At), how many bytes it has (negative:
// not known), and what is known of its hashes. One that is added again replaces nothing:
// where the sizes differ, it is a mismatch.
func (h *Holdings) Add(at string, size int64, x Hashes) {
	if i, ok := h.find(at); ok {
		if e := h.entry(i); e.size != size {
			e.flags |= dupe
		}
		h.learn(i, x)
		return
	}
	h.learn(h.add(at, size), x)
}

// AddLossy is Add for a place from a listing that gives bytes which are no UTF-8 as
// U+FFFD each, as restic's ls does.
func (h *Holdings) AddLossy(at string, size int64, x Hashes) {
	if !strings.ContainsRune(at, utf8.RuneError) {
		h.Add(at, size, x)
		return
	}
	// Not in the index: it may be another blob of the same form.
	i := h.append(at, size, h.key(at))
	h.learn(i, x)
	h.lossy[at] = append(h.lossy[at], &claim{entry: i})
}

// Fail tells that a blob is there but can't be read, and why.
func (h *Holdings) Fail(at string, err error) {
	for _, i := range h.all(at) {
		h.entry(i).flags |= failed
		h.failed[i] = err
	}
}

// Read tells the hashes that reading a blob gave: they take the place of what Add was told.
func (h *Holdings) Read(at string, x Hashes) {
	for _, i := range h.all(at) {
		h.learn(i, x)
	}
}

// all finds the blobs at a place, and makes one where there is none.
func (h *Holdings) all(at string) []uint32 {
	if i, ok := h.find(at); ok {
		return []uint32{i}
	}
	var l []uint32
	for _, c := range h.lossy[lossyForm(at)] {
		l = append(l, c.entry)
	}
	if l == nil {
		l = append(l, h.add(at, -1))
	}
	return l
}

// take finds the blob of a node and marks it as belonging to one. Of several whose
// names have the same lossy form, it takes one of the size that is wanted, and gives no
// blob to two places.
func (h *Holdings) take(at string, want int64) (uint32, bool) {
	i, ok := h.find(at)
	if !ok && len(h.lossy) > 0 {
		i, ok = h.claim(at, want)
	}
	if ok {
		h.entry(i).flags |= used
	}
	return i, ok
}

func (h *Holdings) claim(at string, want int64) (uint32, bool) {
	l := h.lossy[lossyForm(at)]
	var best *claim
	for _, c := range l {
		switch size := h.entry(c.entry).size; {
		case c.by == at:
			return c.entry, true
		case c.by == "" && best == nil && (size == want || len(l) == 1): // of several, another size is another blob
			best = c
		}
	}
	if best == nil {
		return 0, false
	}
	best.by = at
	return best.entry, true
}

// lossyForm is a name as encoding/json writes it, and with it restic.
func lossyForm(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	return string([]rune(s))
}

type key struct{ hi, lo uint64 }

func (h *Holdings) key(at string) key {
	return key{maphash.String(h.seeds[0], at), maphash.String(h.seeds[1], at)}
}

func (h *Holdings) entry(i uint32) *entry { return &h.chunks[i/chunkLen][i%chunkLen] }

func (h *Holdings) find(at string) (uint32, bool) {
	k := h.key(at)
	for p := h.slot(k); h.slots[p] != 0; p = (p + 1) & (len(h.slots) - 1) {
		if e := h.entry(h.slots[p] - 1); e.hi == k.hi && e.lo == k.lo {
			return h.slots[p] - 1, true
		}
	}
	return 0, false
}

// slot is where a key belongs: the number of slots is a power of two.
func (h *Holdings) slot(k key) int { return int(k.lo & uint64(len(h.slots)-1)) }

func (h *Holdings) add(at string, size int64) uint32 {
	if (h.n+1)*4 > len(h.slots)*3 {
		old := h.slots
		h.slots = make([]uint32, 2*len(old))
		for _, i := range old {
			if i != 0 {
				e := h.entry(i - 1)
				h.put(key{e.hi, e.lo}, i-1)
			}
		}
	}
	k := h.key(at)
	i := h.append(at, size, k)
	h.put(k, i)
	return i
}

func (h *Holdings) put(k key, i uint32) {
	p := h.slot(k)
	for h.slots[p] != 0 {
		p = (p + 1) & (len(h.slots) - 1)
	}
	h.slots[p] = i + 1
}

func (h *Holdings) append(at string, size int64, k key) uint32 {
	if h.n%chunkLen == 0 {
		h.chunks = append(h.chunks, make([]entry, 0, chunkLen))
	}
	c := &h.chunks[len(h.chunks)-1]
	*c = append(*c, entry{hi: k.hi, lo: k.lo, size: size})
	h.n++
	h.note(at)
	return uint32(h.n - 1)
}

// learn notes hashes of a blob; what is no hash is not known.
func (h *Holdings) learn(i uint32, x Hashes) {
	if x == (Hashes{}) {
		return
	}
	e := h.entry(i)
	if e.hash == 0 {
		if h.hashed%chunkLen == 0 {
			h.hashes = append(h.hashes, make([]hashes, chunkLen))
		}
		h.hashed++
		e.hash = uint32(h.hashed)
	}
	k := h.hash(e)
	if parseHash(k.sha1[:], x.SHA1) {
		k.has |= 1
	}
	if parseHash(k.md5[:], x.MD5) {
		k.has |= 2
	}
}

// hash is what is known of the hashes of a blob of which something is.
func (h *Holdings) hash(e *entry) *hashes { return &h.hashes[(e.hash-1)/chunkLen][(e.hash-1)%chunkLen] }

// parseHash reads a hash of len(to) bytes.
func parseHash(to []byte, from string) bool {
	if len(from) != 2*len(to) {
		return false
	}
	_, err := hex.Decode(to, []byte(from))
	return err == nil
}

// note writes a place to the temporary file: how many bytes it shares with the one
// before, how many follow, and those.
func (h *Holdings) note(at string) {
	if h.err != nil {
		return
	}
	if h.file == nil {
		if h.file, h.err = os.CreateTemp(h.dir, "ocbackup-holdings-*"); h.err != nil {
			return
		}
		h.err = os.Remove(h.file.Name()) // it lasts for as long as it is open
		h.to = bufio.NewWriterSize(h.file, 64<<10)
	}
	shared := 0
	for shared < min(len(at), len(h.last)) && at[shared] == h.last[shared] {
		shared++
	}
	b := binary.AppendUvarint(h.to.AvailableBuffer(), uint64(shared))
	b = binary.AppendUvarint(b, uint64(len(at)-shared))
	if _, err := h.to.Write(append(b, at[shared:]...)); err != nil {
		h.err = err
	}
	h.last = at
}

// each calls fn for all blobs, in the order in which they came.
func (h *Holdings) each(fn func(at string, i uint32)) error {
	if h.err == nil && h.file != nil {
		h.err = h.to.Flush()
	}
	if h.err != nil || h.file == nil {
		return h.wrap(h.err)
	}
	r := bufio.NewReaderSize(io.NewSectionReader(h.file, 0, 1<<62), 64<<10)
	var at []byte
	for i := range h.n {
		shared, err1 := binary.ReadUvarint(r)
		more, err2 := binary.ReadUvarint(r)
		if err := errors.Join(err1, err2); err != nil {
			return h.wrap(err)
		}
		at = append(at[:shared], make([]byte, more)...)
		if _, err := io.ReadFull(r, at[shared:]); err != nil {
			return h.wrap(err)
		}
		fn(string(at), uint32(i))
	}
	return nil
}

func (h *Holdings) wrap(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("remember what the backup holds, in a temporary file: %w", err)
}
