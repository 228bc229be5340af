package catalog

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"
	"unicode/utf8"
)

// maxLine is how many bytes a line may have, its end of line among them: what a reader
// has to hold in memory whatever the file.
const maxLine = 1 << 20

// What bytes are in a JSON string.
const (
	plain   = iota // stands for itself
	special        // ends the string or has to be escaped
	high           // of a character beyond ASCII
)

var class = func() (t [256]uint8) {
	for c := range t {
		switch {
		case c < 0x20, c == '"', c == '\\':
			t[c] = special
		case c >= utf8.RuneSelf:
			t[c] = high
		}
	}
	return t
}()

// appendNode appends a node's line. The order of the keys is the format's: what is
// compared comes first, and lines that tell the same are the same bytes. place is what
// Place gives for the node: only another At is written.
func appendNode(b []byte, n *Node, space, place string) []byte {
	b = append(b, `{"kind":"`...)
	b = append(b, n.Kind...)
	b = append(b, '"')
	b = appendString(b, `,"space":`, space)
	b = appendBytes(b, `,"path":`, `,"raw":`, n.Path)
	if n.ID != "" {
		b = appendString(b, `,"id":`, n.ID)
	}
	b = strconv.AppendInt(append(b, `,"size":`...), n.Size, 10)
	b = appendTime(b, `,"mtime":`, n.MTime)
	for _, f := range [...]struct{ key, value string }{{`,"blob":`, n.Blob}, {`,"sha1":`, n.SHA1}, {`,"md5":`, n.MD5}, {`,"adler32":`, n.Adler32}} {
		if f.value != "" {
			b = appendString(b, f.key, f.value)
		}
	}
	if n.Version != "" {
		b = appendBytes(b, `,"version":`, `,"version_raw":`, n.Version)
	}
	if n.Trash != "" {
		b = appendBytes(b, `,"trash":`, `,"trash_raw":`, n.Trash)
	}
	b = appendTime(b, `,"deleted":`, n.Deleted)
	if n.Item {
		b = append(b, `,"item":true`...)
	}
	if n.Pending != "" {
		b = appendString(b, `,"pending":`, n.Pending)
	}
	if n.At != place {
		b = appendBytes(b, `,"at":`, `,"at_raw":`, n.At)
	}
	if p := n.Problem; p != nil {
		b = appendString(b, `,"problem":{"class":`, p.Class)
		if p.Fatal {
			b = append(b, `,"fatal":true`...)
		}
		b = appendString(b, `,"text":`, p.Text)
		b = append(b, '}')
	}
	return append(b, '}', '\n')
}

// appendBytes appends a string that may be any bytes: rawKey has them where they are no
// UTF-8.
func appendBytes(b []byte, key, rawKey, s string) []byte {
	b = appendString(b, key, s)
	if !utf8.ValidString(s) {
		b = append(append(b, rawKey...), '"')
		b = base64.StdEncoding.AppendEncode(b, []byte(s))
		b = append(b, '"')
	}
	return b
}

// appendString appends a JSON string. Bytes that are no UTF-8 become U+FFFD, each one.
func appendString(b []byte, key, s string) []byte {
	b = append(append(b, key...), '"')
	start := 0
	for i := 0; i < len(s); {
		switch c := s[i]; class[c] {
		case plain:
			i++
			continue
		case special:
			b = append(b, s[start:i]...)
			switch c {
			case '"', '\\':
				b = append(b, '\\', c)
			case '\n':
				b = append(b, `\n`...)
			case '\t':
				b = append(b, `\t`...)
			default:
				b = fmt.Appendf(b, `\u%04x`, c)
			}
			i++
			start = i
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && size == 1 {
			b = append(append(b, s[start:i]...), "\uFFFD"...)
			start = i + 1
		}
		i += size
	}
	return append(append(b, s[start:]...), '"')
}

// lossy is the form of a string that is no UTF-8 in JSON.
func lossy(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	return string([]rune(s))
}

// appendTime leaves out the zero time and what RFC 3339 has no form for.
func appendTime(b []byte, key string, t time.Time) []byte {
	if t.IsZero() || !hasForm(t) {
		return b
	}
	b = append(append(b, key...), '"')
	return append(t.UTC().AppendFormat(b, time.RFC3339Nano), '"')
}

// hasForm tells whether RFC 3339 has a form for a time.
func hasForm(t time.Time) bool {
	year := t.UTC().Year()
	return year >= 0 && year <= 9999
}

// spaceLine is the line of a space: Dir may be any bytes.
type spaceLine struct {
	Space
	DirRaw []byte `json:"dir_raw,omitempty"`
}

func appendSpace(b []byte, s Space) ([]byte, error) {
	line := spaceLine{Space: s}
	if !utf8.ValidString(s.Dir) {
		line.DirRaw = []byte(s.Dir)
	}
	return appendJSON(b, line)
}

func appendJSON(b []byte, v any) ([]byte, error) {
	buf := bytes.NewBuffer(b)
	e := json.NewEncoder(buf)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	if buf.Len()-len(b) > maxLine {
		return nil, errTooLong
	}
	return buf.Bytes(), nil
}

var errTooLong = errors.New("the line has more than 1 MiB")
