package catalog

import (
	"bytes"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// decode reads a line (without its end of line): a node, or of a space a node of
// KindSpace with an empty path, which sorts before all that is in the space. inAt tells
// whether the line has At; else it is to be had from Place. last is a node from
// before, or nil, whose Space is shared where it is the same.
func decode(line []byte, last *Node) (n *Node, inAt bool, err error) {
	n, inAt, ok := decodeFast(line)
	if !ok {
		if n, inAt, err = decodeAny(line); err != nil {
			return nil, false, err
		}
	}
	if last != nil && n.Space == last.Space {
		n.Space = last.Space
	}
	return n, inAt, nil
}

// decodeFast reads lines as appendNode writes them: keys in its order, no space, no
// escape, no raw form. It says no to all else, valid or not. The strings of the node
// share the memory of one.
func decodeFast(line []byte) (n *Node, inAt, ok bool) {
	d := decoder{b: line, s: string(line), i: len(`{"kind":`)}
	if !strings.HasPrefix(d.s, `{"kind":`) || line[len(line)-1] != '}' {
		return nil, false, false
	}
	n = &Node{Kind: kindOf(d.str())}
	if !d.key(`,"space":`) {
		return nil, false, false
	}
	n.Space = d.str()
	if !d.key(`,"path":`) {
		return nil, false, false
	}
	n.Path = d.str()
	d.opt(`,"id":`, &n.ID)
	if !d.key(`,"size":`) {
		return nil, false, false
	}
	n.Size = d.int()
	d.time(`,"mtime":`, &n.MTime)
	d.opt(`,"blob":`, &n.Blob)
	d.opt(`,"sha1":`, &n.SHA1)
	d.opt(`,"md5":`, &n.MD5)
	d.opt(`,"adler32":`, &n.Adler32)
	d.opt(`,"version":`, &n.Version)
	d.opt(`,"trash":`, &n.Trash)
	d.time(`,"deleted":`, &n.Deleted)
	n.Item = d.key(`,"item":true`)
	d.opt(`,"pending":`, &n.Pending)
	inAt = d.opt(`,"at":`, &n.At)
	if d.key(`,"problem":{"class":`) {
		n.Problem = &Problem{Class: d.str(), Fatal: d.key(`,"fatal":true`)}
		if !d.opt(`,"text":`, &n.Problem.Text) || !d.key(`}`) {
			return nil, false, false
		}
	}
	return n, inAt, !d.bad && d.i == len(line)-1 && n.valid() == nil
}

// quickPath reads the space and the path of a node's line as appendNode writes it, where
// the path needs no decoding. It looks at nothing else.
func quickPath(line []byte) (space, path []byte, ok bool) {
	const kind, spaceKey, pathKey = `{"kind":`, `,"space":`, `,"path":`
	i := 0
	for _, key := range [...]string{kind, spaceKey, pathKey} {
		if len(line) < i+len(key) || string(line[i:i+len(key)]) != key {
			return nil, nil, false
		}
		i += len(key)
		end, ok := stringEnd(line, i)
		if !ok {
			return nil, nil, false
		}
		space, path, i = path, line[i+1:end], end+1
	}
	return space, path, !bytes.HasPrefix(line[i:], []byte(`,"raw":`))
}

// decoder is at a place in a line. When something is not as it should be, it is bad
// from then on.
type decoder struct {
	b   []byte
	s   string // the same
	i   int
	bad bool
}

// key goes past a key if it is the next one.
func (d *decoder) key(k string) bool {
	if d.bad || !strings.HasPrefix(d.s[d.i:], k) {
		return false
	}
	d.i += len(k)
	return true
}

// str reads a string that needs no decoding.
func (d *decoder) str() string {
	end, ok := stringEnd(d.b, d.i)
	if d.bad || !ok {
		d.bad = true
		return ""
	}
	s := d.s[d.i+1 : end]
	d.i = end + 1
	return s
}

func (d *decoder) opt(k string, to *string) bool {
	if !d.key(k) {
		return false
	}
	*to = d.str()
	return true
}

func (d *decoder) int() int64 {
	end := d.i
	for end < len(d.s) && (d.s[end] >= '0' && d.s[end] <= '9' || end == d.i && d.s[end] == '-') {
		end++
	}
	digits := strings.TrimPrefix(d.s[d.i:end], "-")
	v, err := strconv.ParseInt(d.s[d.i:end], 10, 64)
	if err != nil || len(digits) > 1 && digits[0] == '0' {
		d.bad = true
	}
	d.i = end
	return v
}

func (d *decoder) time(k string, to *time.Time) {
	if !d.key(k) {
		return
	}
	start := d.i + 1
	s := d.str()
	if d.bad || !strings.HasSuffix(s, "Z") || to.UnmarshalText(d.b[start:start+len(s)]) != nil {
		d.bad = true
	}
}

// stringEnd returns where the string that begins at b[i] ends: the place of the second
// quote. It says no where the string needs decoding.
func stringEnd(b []byte, i int) (end int, ok bool) {
	if i >= len(b) || b[i] != '"' {
		return 0, false
	}
	var all uint8
	start := i + 1
	for i = start; i < len(b) && class[b[i]] != special; i++ {
		all |= b[i]
	}
	if i == len(b) || b[i] != '"' || all >= utf8.RuneSelf && !utf8.Valid(b[start:i]) {
		return 0, false
	}
	return i, true
}

func kindOf(s string) Kind {
	for _, k := range [...]Kind{KindFile, KindFolder, KindVersion, KindSpace} {
		if s == string(k) {
			return k
		}
	}
	return ""
}
