package repo

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"strconv"
	"strings"
	"unicode/utf8"
)

// parseNode reads a line of restic's list; ok is false of lines that are about
// something else. Lists have millions of lines, all of one form, so that is read by
// hand, in a sixth of the time that encoding/json takes; what is of another form goes there.
func parseNode(line []byte) (n Node, ok bool, err error) {
	if n, ok, plain := scanNode(line); plain {
		return n, ok, nil
	}
	var m struct {
		Node
		Message string `json:"message_type"`
		Struct  string `json:"struct_type"` // what message_type was called at first
	}
	if err := json.Unmarshal(line, &m); err != nil {
		return Node{}, false, err
	}
	return m.Node, m.Message == "node" || m.Struct == "node", nil
}

// scanNode reads a line that is a flat object of strings and whole numbers, without
// spaces. Plain tells whether it was one; the rest counts only then, and is what
// encoding/json would have made of it.
func scanNode(line []byte) (n Node, isNode, plain bool) {
	var name []byte
	rest := line[1:]
	for {
		key, more, ok := scanString(rest)
		if !ok || len(more) < 2 || more[0] != ':' {
			return n, false, false
		}
		var value []byte
		quoted := more[1] == '"'
		if quoted {
			value, rest, ok = scanString(more[1:])
		} else {
			value, rest, ok = scanNumber(more[1:])
		}
		if !ok || !n.set(key, value, quoted, &name, &isNode) {
			return n, false, false
		}
		if len(rest) == 0 {
			return n, false, false
		}
		if rest[0] == '}' {
			break
		}
		if rest[0] != ',' {
			return n, false, false
		}
		rest = rest[1:]
	}
	if len(rest) != 1 {
		return n, false, false
	}
	if strings.HasSuffix(n.Path, string(name)) { // shares its memory
		n.Name = n.Path[len(n.Path)-len(name):]
	} else {
		n.Name = string(name)
	}
	return n, isNode, true
}

// set sets the field that a key names; false leaves it to encoding/json.
func (n *Node) set(key, value []byte, quoted bool, name *[]byte, isNode *bool) bool {
	k := string(key) // does not escape: no copy
	switch k {
	case "path", "name", "type", "mtime", "ctime", "message_type", "struct_type":
		if !quoted {
			return false
		}
	case "size", "mode", "uid", "gid", "inode":
		if quoted {
			return false
		}
	}
	ok := true
	switch k {
	case "path":
		n.Path = string(value)
	case "name":
		*name = value
	case "type":
		n.Type = typeName(value)
	case "mtime":
		ok = n.MTime.UnmarshalText(value) == nil
	case "ctime":
		ok = n.CTime.UnmarshalText(value) == nil
	case "message_type", "struct_type":
		*isNode = *isNode || string(value) == "node"
	case "size":
		n.Size, ok = number(value, 64)
	case "inode":
		n.Inode, ok = number(value, 64)
	case "mode", "uid", "gid":
		var v uint64
		v, ok = number(value, 32)
		switch k {
		case "mode":
			n.Mode = fs.FileMode(v)
		case "uid":
			n.UID = uint32(v)
		default:
			n.GID = uint32(v)
		}
	default:
		// encoding/json takes a field's name in any case of its letters.
		ok = bytes.Equal(key, bytes.ToLower(key))
	}
	return ok
}

func typeName(b []byte) string {
	switch string(b) {
	case "file":
		return "file"
	case "dir":
		return "dir"
	}
	return string(b)
}

// scanString reads a string; one with anything that is to be unescaped, or is no
// UTF-8, is unescaped by encoding/json.
func scanString(b []byte) (s, rest []byte, ok bool) {
	if len(b) == 0 || b[0] != '"' {
		return nil, nil, false
	}
	end := bytes.IndexByte(b[1:], '"')
	if end < 0 {
		return nil, nil, false
	}
	s, rest = b[1:1+end], b[2+end:]
	ascii := true
	for i, c := range s {
		switch {
		case c == '\\':
			return unescape(b, 1+i)
		case c < ' ':
			return nil, nil, false
		case c >= utf8.RuneSelf:
			ascii = false
		}
	}
	if !ascii && !utf8.Valid(s) {
		return nil, nil, false
	}
	return s, rest, true
}

// unescape reads a string that has its first escape at i.
func unescape(b []byte, i int) (s, rest []byte, ok bool) {
	for ; i < len(b); i++ {
		switch b[i] {
		case '\\':
			i++
		case '"':
			var v string
			if json.Unmarshal(b[:i+1], &v) != nil {
				return nil, nil, false
			}
			return []byte(v), b[i+1:], true
		}
	}
	return nil, nil, false
}

// scanNumber reads a whole number that is not negative.
func scanNumber(b []byte) (s, rest []byte, ok bool) {
	i := 0
	for i < len(b) && b[i] >= '0' && b[i] <= '9' {
		i++
	}
	if i == 0 || i > 1 && b[0] == '0' {
		return nil, nil, false
	}
	return b[:i], b[i:], true
}

func number(b []byte, bits int) (uint64, bool) {
	v, err := strconv.ParseUint(string(b), 10, bits)
	return v, err == nil
}
