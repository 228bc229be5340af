package commands

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"

	"github.com/ocbackup/ocbackup/shellword"

	"github.com/dustin/go-humanize"

	"github.com/ocbackup/ocbackup/browse"
	"github.com/ocbackup/ocbackup/catalog"
)

// nodeView is a node as ls, find and diff tell of it; docs/json.md describes it.
type nodeView struct {
	Kind catalog.Kind `json:"kind"`
	// Place is SPACE:/path, which commands take as it is.
	Place string    `json:"place"`
	Space string    `json:"space"` // its id
	Path  string    `json:"path"`
	Raw   string    `json:"raw,omitempty"` // base64 of the bytes of Path where they are no UTF-8
	ID    string    `json:"id,omitempty"`
	Size  int64     `json:"size"`
	MTime time.Time `json:"mtime,omitzero"`
	SHA1  string    `json:"sha1,omitempty"`
	MD5   string    `json:"md5,omitempty"`
	// Versions is how many old versions of the file there are; only ls -l counts them.
	Versions int              `json:"versions,omitempty"`
	Version  string           `json:"version,omitempty"`
	Trash    string           `json:"trash,omitempty"`
	Deleted  time.Time        `json:"deleted,omitzero"`
	Item     bool             `json:"item,omitempty"`
	Pending  string           `json:"pending,omitempty"`
	At       string           `json:"at,omitempty"`
	Problem  *catalog.Problem `json:"problem,omitempty"`
	// Get are the flags with which "ocbackup get" takes this version or this item of the
	// trash.
	Get []string `json:"get,omitempty"`
}

func viewNode(refs *browse.Refs, n *catalog.Node) *nodeView {
	v := &nodeView{
		Kind: n.Kind, Place: refs.Place(n.Space, n.Path), Space: n.Space, Path: n.Path, ID: n.ID, Size: n.Size, MTime: n.MTime,
		SHA1: n.SHA1, MD5: n.MD5, Version: n.Version, Trash: n.Trash, Deleted: n.Deleted, Item: n.Item,
		Pending: n.Pending, At: n.At, Problem: n.Problem, Get: browse.GetFlags(n),
	}
	if !utf8.ValidString(n.Path) {
		v.Raw = base64.StdEncoding.EncodeToString([]byte(n.Path))
	}
	return v
}

// pasted writes a node's place so that it can be pasted after a command; the flags that
// tell versions and trash apart follow it.
func (v *nodeView) pasted() string {
	words := []string{shellword.Quote(v.Place + slash(v.Kind, v.Path))}
	for _, f := range v.Get {
		words = append(words, shellword.Quote(f))
	}
	return strings.Join(words, " ")
}

// slash marks folders.
func slash(k catalog.Kind, path string) string {
	if k == catalog.KindFolder && !strings.HasSuffix(path, "/") {
		return "/"
	}
	return ""
}

// long is what ls -l and find -l say before the name: size, time and, of files that
// have some, how many versions there are.
func (v *nodeView) long() string {
	size, versions, at := "", "", v.MTime
	if v.Kind != catalog.KindFolder {
		size = humanize.IBytes(uint64(max(v.Size, 0)))
	}
	if v.Versions > 0 {
		versions = fmt.Sprintf("+%d", v.Versions)
	}
	if v.Item {
		at = v.Deleted
	}
	return fmt.Sprintf("%9s  %16s %5s  ", size, clock(at), versions)
}

// remark says what a person should know of a node beside its name.
func (v *nodeView) remark() string {
	switch {
	case v.Problem != nil:
		return "   # " + v.Problem.Class + ": " + shellword.Visible(v.Problem.Text)
	case v.Pending != "":
		return "   # its upload was still being processed"
	}
	return ""
}

// clock shows a time to the minute, in local time.
func clock(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Local().Format("2006-01-02 15:04")
}

// jsonList prints an object whose last field is a list, as it grows: results may be
// more than fit into memory.
type jsonList struct {
	w     io.Writer
	begun bool
}

// startList prints the object up to its list. The last field of head is that list, and
// is empty.
func startList(w io.Writer, head any) (*jsonList, error) {
	b, err := marshal(head)
	if err != nil {
		return nil, err
	}
	b, ok := bytes.CutSuffix(b, []byte("]\n}"))
	if !ok {
		return nil, errors.New("a bug in ocbackup: there is no list at the end")
	}
	_, err = w.Write(b)
	return &jsonList{w: w}, err
}

func (l *jsonList) add(item any) error {
	b, err := marshal(item)
	if err != nil {
		return err
	}
	sep := ",\n    "
	if !l.begun {
		l.begun, sep = true, "\n    "
	}
	_, err = io.WriteString(l.w, sep+strings.ReplaceAll(string(b), "\n", "\n    "))
	return err
}

// end closes the list and the object; tail, which may be nil, is a struct whose fields
// follow the list.
func (l *jsonList) end(tail any) error {
	text := "]"
	if l.begun {
		text = "\n  ]"
	}
	if tail != nil {
		b, err := marshal(tail)
		if err != nil {
			return err
		}
		text += "," + strings.TrimSuffix(strings.TrimPrefix(string(b), "{"), "\n}")
	}
	_, err := io.WriteString(l.w, text+"\n}\n")
	return err
}

func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	err := enc.Encode(v)
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), err
}

// told turns what ends the printing of results into the command's result: that nobody
// reads on ("| head") is no failure.
func told(ctx context.Context, err error) error {
	switch {
	case errors.Is(err, syscall.EPIPE):
		return nil
	case err == nil && ctx.Err() != nil:
		return context.Cause(ctx)
	}
	return err
}
