package nodes

import (
	"encoding/binary"
	"errors"
	"time"
)

// record is all that lies in nodes/ under one id: the node, its versions and what was
// deleted under that id. One directory listing brings it to light.
type record struct {
	forms []form
}

// The forms in which an id occurs.
const (
	formLive    = 'L' // -rest
	formVersion = 'R' // -rest.REV.<key>
	formTrash   = 'T' // -rest.T.<time>
)

// What a form's node is on disk.
const (
	nodeNone   = 0 // there is only metadata
	nodeFile   = 'f'
	nodeFolder = 'd'
	nodeOther  = '?'
)

// form is one of them.
type form struct {
	what   byte
	suffix string // the key of a version, the time of deletion
	node   byte
	// attrs is nil where there is no metadata (fault is empty), or where it can't be read.
	attrs attrs
	fault string
	// links are what a folder holds; listFault why it can't be listed.
	links     []link
	listFault string
	mtime     time.Time // of the node on disk, where its metadata has none
}

// link is a name in a folder.
type link struct {
	name string
	to   nodeID
	// odd is where it leads if that is not the form that OpenCloud writes, or what is
	// there instead of a link; notLink tells these apart.
	odd     string
	notLink bool
}

func (r *record) find(what byte, suffix string) *form {
	for i := range r.forms {
		if f := &r.forms[i]; f.what == what && f.suffix == suffix {
			return f
		}
	}
	return nil
}

func (r *record) live() *form { return r.find(formLive, "") }

// encode appends the record to b.
func (r *record) encode(b []byte) []byte {
	b = binary.AppendUvarint(b, uint64(len(r.forms)))
	for i := range r.forms {
		f := &r.forms[i]
		b = append(b, f.what, f.node)
		b = appendString(b, f.suffix)
		b = appendString(b, f.fault)
		b = appendString(b, f.listFault)
		var ns int64
		if !f.mtime.IsZero() {
			ns = f.mtime.UnixNano()
		}
		b = binary.AppendVarint(b, ns)
		b = encodeAttrs(b, f.attrs)
		b = binary.AppendUvarint(b, uint64(len(f.links)))
		for j := range f.links {
			l := &f.links[j]
			b = appendString(b, l.name)
			b = append(b, l.to[:]...)
			b = appendString(b, l.odd)
			b = append(b, boolByte(l.notLink))
		}
	}
	return b
}

// noAttrs stands for attributes that are not there; a node has fewer than that.
const noAttrs = 0xff

func encodeAttrs(b []byte, a attrs) []byte {
	if a == nil {
		return append(b, noAttrs)
	}
	at := len(b)
	b = append(b, 0)
	for name, v := range a {
		if i, ok := keptAt[name]; ok {
			b[at]++
			b = append(b, i)
			b = binary.AppendUvarint(b, uint64(len(v)))
			b = append(b, v...)
		}
	}
	return b
}

func (d *decoder) attrs() attrs {
	n := d.byte()
	if n == noAttrs {
		return nil
	}
	a := make(attrs, n)
	for range n {
		if i := int(d.byte()); i < len(kept) {
			a[kept[i]] = d.bytes()
		}
	}
	return a
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func boolByte(v bool) byte {
	if v {
		return 1
	}
	return 0
}

// errRecord is a temporary file that does not hold what was written to it.
var errRecord = errors.New("the temporary file was changed")

// decodeRecord reads what encode wrote. The attributes are parts of b.
func decodeRecord(b []byte) (*record, error) {
	d := &decoder{b: b}
	r := &record{forms: make([]form, 0, d.count())}
	for range cap(r.forms) {
		f := form{what: d.byte(), node: d.byte(), suffix: d.string(), fault: d.string(), listFault: d.string()}
		if ns := d.varint(); ns != 0 {
			f.mtime = time.Unix(0, ns).UTC()
		}
		f.attrs = d.attrs()
		if n := d.count(); n > 0 {
			f.links = make([]link, n)
			for j := range f.links {
				l := &f.links[j]
				l.name = d.string()
				copy(l.to[:], d.take(len(l.to)))
				l.odd = d.string()
				l.notLink = d.byte() != 0
			}
		}
		r.forms = append(r.forms, f)
	}
	if d.bad {
		return nil, errRecord
	}
	return r, nil
}

// decoder reads a record; bad is set, and all else is empty, once there is too little.
type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) take(n int) []byte {
	if n < 0 || n > len(d.b) {
		d.bad, d.b = true, nil
		return nil
	}
	v := d.b[:n:n]
	d.b = d.b[n:]
	return v
}

func (d *decoder) byte() byte {
	if v := d.take(1); v != nil {
		return v[0]
	}
	return 0
}

// count reads a length, of which each takes a byte at least.
func (d *decoder) count() int {
	v, n := binary.Uvarint(d.b)
	if n <= 0 || v > uint64(len(d.b)) {
		d.bad, d.b = true, nil
		return 0
	}
	d.b = d.b[n:]
	return int(v)
}

func (d *decoder) varint() int64 {
	v, n := binary.Varint(d.b)
	if n <= 0 {
		d.bad, d.b = true, nil
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) bytes() []byte { return d.take(d.count()) }

func (d *decoder) string() string { return string(d.bytes()) }
