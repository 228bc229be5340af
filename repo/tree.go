package repo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"strconv"
	"time"
)

// TreeNode is something directly in a folder of a snapshot, with what Ls does not
// tell: the name in its true bytes, extended attributes, where a link leads.
type TreeNode struct {
	Name   string // in the bytes that were stored
	Type   string // as Node.Type
	Size   uint64 // bytes; of files only
	MTime  time.Time
	CTime  time.Time
	Inode  uint64
	Target string // of links, in the bytes that were stored
	XAttrs map[string][]byte
}

// CatTree lists what is directly in a folder of a snapshot, in the order of the names'
// bytes. An empty dir (or "/") stands for the top of the snapshot. The error is
// fs.ErrNotExist when the snapshot has no such folder.
func (r *Repo) CatTree(ctx context.Context, snapshot, dir string) ([]TreeNode, error) {
	var all []TreeNode
	err := r.EachInTree(ctx, snapshot, dir, func(n *TreeNode) error {
		all = append(all, *n)
		return nil
	})
	return all, err
}

// EachInTree is CatTree for folders of any size: it calls fn for one node after the
// other. An error of fn ends it and is returned.
func (r *Repo) EachInTree(ctx context.Context, snapshot, dir string, fn func(*TreeNode) error) error {
	in, out := io.Pipe()
	done := make(chan error, 1)
	go func() {
		err := readTree(in, fn)
		if err == nil {
			_, err = io.Copy(io.Discard, in)
		}
		in.CloseWithError(err)
		done <- err
	}()
	where := subfolder(snapshot, dir)
	if where == snapshot {
		where += ":/" // without, older releases want a colon
	}
	_, err := r.run(ctx, call{command: "cat", args: []string{"--", "tree", where}, out: out})
	if noSubfolder(err) {
		err = notInSnapshot(snapshot, path.Clean("/"+dir))
	}
	out.CloseWithError(err)
	read := <-done
	switch {
	case err != nil && !errors.Is(err, errTree):
		return err
	case errors.Is(read, errTree):
		return fmt.Errorf("understand restic's tree of %s in snapshot %s: %w", dir, snapshot, read)
	}
	return read
}

// errTree says that a tree is not as restic writes it.
var errTree = errors.New("it is not a list of nodes")

// storedNode is a node of a tree as restic stores it (internal/data, node.go; before
// 0.19, internal/restic).
type storedNode struct {
	Name      string    `json:"name"` // as strconv.Quote has it, without the quotes
	Type      string    `json:"type"`
	MTime     time.Time `json:"mtime"`
	CTime     time.Time `json:"ctime"`
	Inode     uint64    `json:"inode"`
	Size      uint64    `json:"size"`
	Target    string    `json:"linktarget"`
	TargetRaw []byte    `json:"linktarget_raw"` // where Target would not be UTF-8
	XAttrs    []struct {
		Name  string `json:"name"`
		Value []byte `json:"value"`
	} `json:"extended_attributes"`
}

// readTree reads {"nodes":[...]}.
func readTree(in io.Reader, fn func(*TreeNode) error) error {
	d := json.NewDecoder(in)
	for _, want := range []json.Token{json.Delim('{'), "nodes", json.Delim('[')} {
		switch have, err := d.Token(); {
		case err != nil:
			return fmt.Errorf("%w: %w", errTree, err)
		case have == nil && want == json.Delim('['): // an empty folder, as some releases store it
			return nil
		case have != want:
			return fmt.Errorf("%w: %v instead of %v", errTree, have, want)
		}
	}
	for d.More() {
		var s storedNode
		if err := d.Decode(&s); err != nil {
			return fmt.Errorf("%w: %w", errTree, err)
		}
		name, err := strconv.Unquote(`"` + s.Name + `"`)
		if err != nil {
			return fmt.Errorf("%w: the name %q", errTree, s.Name)
		}
		n := TreeNode{Name: name, Type: s.Type, Size: s.Size, MTime: s.MTime, CTime: s.CTime, Inode: s.Inode, Target: s.Target}
		if len(s.TargetRaw) > 0 {
			n.Target = string(s.TargetRaw)
		}
		if len(s.XAttrs) > 0 {
			n.XAttrs = make(map[string][]byte, len(s.XAttrs))
			for _, x := range s.XAttrs {
				n.XAttrs[x.Name] = x.Value
			}
		}
		if err := fn(&n); err != nil {
			return err
		}
	}
	if _, err := d.Token(); err != nil {
		return fmt.Errorf("%w: %w", errTree, err)
	}
	return nil
}
