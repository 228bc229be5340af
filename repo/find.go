package repo

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Walk calls fn for everything in a snapshot, as Ls does, but leaves out folders whose
// list is damaged or gone, with all below, and tells how many those are. Of a Node only
// path, type, size and times are given.
func (r *Repo) Walk(ctx context.Context, snapshot string, fn func(Node) error) (unreadable int, err error) {
	return r.find(ctx, []string{"--snapshot=" + snapshot, "--", "*"}, func(d *json.Decoder) error {
		return array(d, func() error { // one object for the snapshot
			return object(d, func(name string) error {
				if name != "matches" {
					var skip json.RawMessage
					return d.Decode(&skip)
				}
				return array(d, func() error {
					var n Node
					if err := d.Decode(&n); err != nil {
						return err
					}
					return fn(n)
				})
			})
		})
	})
}

// Found is what of a snapshot lies in a pack, or in a blob of one.
type Found struct {
	Path string `json:"path"`        // as in Node
	Type string `json:"object_type"` // blob: a file's content; tree: a folder's list
	ID   string `json:"id"`          // of the blob
}

// FindBlobs calls fn for every file of a snapshot whose content needs one of the blobs.
func (r *Repo) FindBlobs(ctx context.Context, snapshot string, blobs []string, fn func(Found) error) error {
	return r.findObjects(ctx, "--blob", snapshot, blobs, fn)
}

// FindTrees calls fn for every folder of a snapshot whose list is one of the blobs.
func (r *Repo) FindTrees(ctx context.Context, snapshot string, blobs []string, fn func(Found) error) error {
	return r.findObjects(ctx, "--tree", snapshot, blobs, fn)
}

// InPacks lists the blobs in packs, those of contents and those of folders' lists. The
// packs may be damaged or gone, as long as the index knows them: restic's own search for
// packs reads their headers, and fails where one is cut off.
func (r *Repo) InPacks(ctx context.Context, packs []string) (data, trees []string, err error) {
	o, err := r.run(ctx, call{command: "list", args: []string{"index"}})
	if err != nil {
		return nil, nil, err
	}
	wanted := map[string]bool{}
	for _, id := range packs {
		wanted[id] = true
	}
	for _, id := range strings.Fields(string(o.stdout)) {
		o, err := r.run(ctx, call{command: "cat", args: []string{"index", id}})
		if err != nil {
			return nil, nil, err
		}
		var index struct {
			Packs []struct {
				ID    string
				Blobs []struct{ ID, Type string }
			}
		}
		if err := json.Unmarshal(o.stdout, &index); err != nil {
			return nil, nil, fmt.Errorf("understand index %s: %w", id, err)
		}
		for _, p := range index.Packs {
			if !wanted[p.ID] {
				continue
			}
			for _, b := range p.Blobs {
				if b.Type == "tree" {
					trees = append(trees, b.ID)
				} else {
					data = append(data, b.ID)
				}
			}
		}
	}
	return data, trees, nil
}

func (r *Repo) findObjects(ctx context.Context, kind, snapshot string, ids []string, fn func(Found) error) error {
	// Linux limits the length of all arguments.
	for some := range slices.Chunk(ids, 1000) {
		_, err := r.find(ctx, append([]string{kind, "--snapshot=" + snapshot, "--"}, some...), func(d *json.Decoder) error {
			return array(d, func() error {
				var f Found
				if err := d.Decode(&f); err != nil {
					return err
				}
				return fn(f)
			})
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// find runs restic find, which prints one JSON value without line breaks, and puts
// what it can't load in between, as text.
func (r *Repo) find(ctx context.Context, args []string, decode func(*json.Decoder) error) (unreadable int, err error) {
	pr, pw := io.Pipe()
	failed := make(chan error, 1)
	go func() {
		err := decode(json.NewDecoder(pr))
		if err == nil || errors.Is(err, io.EOF) {
			_, err = io.Copy(io.Discard, pr)
		}
		pr.CloseWithError(errors.Join(errDecoding, err))
		failed <- err
	}()
	w := &untangled{to: pw}
	_, err = r.run(ctx, call{command: "find", args: append([]string{"--json"}, args...), out: w})
	if err == nil {
		err = w.flush()
	}
	_ = pw.CloseWithError(io.EOF) // it never fails
	if wrong := <-failed; wrong != nil && (err == nil || errors.Is(err, errDecoding)) {
		err = fmt.Errorf("understand what restic finds: %w", wrong)
	}
	return w.trees, err
}

var errDecoding = errors.New("its output can't be understood")

// What restic find prints about a folder that it can't load (cmd_find.go).
const (
	treeText  = "Unable to load tree "
	ofText    = " ... which belongs to snapshot "
	idLen     = 64
	heldBytes = len(treeText) + idLen
)

// untangled takes the text out of restic find's JSON. Line breaks are only in the
// text: JSON has them as \n.
type untangled struct {
	to    io.Writer
	held  []byte // the end of the line so far
	whole bool   // held is all of it
	begun bool
	trees int
}

func (u *untangled) Write(p []byte) (int, error) {
	if !u.begun {
		u.begun, u.whole = true, true
	}
	n := len(p)
	for len(p) > 0 {
		line, rest, ended := bytes.Cut(p, []byte{'\n'})
		u.held = append(u.held, line...)
		if ended {
			text := string(u.held)
			if i := strings.LastIndex(text, treeText); i >= 0 && len(text)-i == heldBytes {
				u.trees++
				u.held = u.held[:i]
			} else if u.whole && strings.HasPrefix(text, ofText) {
				u.held = u.held[:0]
			}
			if _, err := u.to.Write(u.held); err != nil {
				return 0, err
			}
			u.held, u.whole = u.held[:0], true
		} else if more := len(u.held) - heldBytes - len(ofText); more > 0 {
			if _, err := u.to.Write(u.held[:more]); err != nil {
				return 0, err
			}
			u.held, u.whole = append(u.held[:0], u.held[more:]...), false
		}
		p = rest
	}
	return n, nil
}

func (u *untangled) flush() error {
	_, err := u.to.Write(u.held)
	u.held = u.held[:0]
	return err
}

// array calls fn before each element of the array that comes next.
func array(d *json.Decoder, fn func() error) error {
	if err := delim(d, '['); err != nil {
		return err
	}
	for d.More() {
		if err := fn(); err != nil {
			return err
		}
	}
	return delim(d, ']')
}

// object calls fn with the name of each member of the object that comes next.
func object(d *json.Decoder, fn func(name string) error) error {
	if err := delim(d, '{'); err != nil {
		return err
	}
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return err
		}
		name, _ := t.(string)
		if err := fn(name); err != nil {
			return err
		}
	}
	return delim(d, '}')
}

func delim(d *json.Decoder, want json.Delim) error {
	t, err := d.Token()
	if err != nil {
		return err
	}
	if t != want {
		return fmt.Errorf("%v where %v should be", t, want)
	}
	return nil
}
