package catalog

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// anyLine is a line of a node in any form that JSON allows.
type anyLine struct {
	Node
	Path       string  `json:"path"`
	Raw        []byte  `json:"raw"`
	VersionRaw []byte  `json:"version_raw"`
	TrashRaw   []byte  `json:"trash_raw"`
	At         *string `json:"at"`
	AtRaw      []byte  `json:"at_raw"`
}

// decodeAny is decode for all lines that there may be.
func decodeAny(line []byte) (n *Node, inAt bool, err error) {
	var l anyLine
	if err := json.Unmarshal(line, &l); err != nil {
		return nil, false, err
	}
	if l.Kind == KindSpace {
		s, err := decodeSpace(line)
		if err != nil {
			return nil, false, err
		}
		return &Node{Kind: KindSpace, Space: s.ID}, false, nil
	}
	n = &l.Node
	n.Path = l.Path
	if l.At != nil {
		n.At, inAt = *l.At, true
	}
	for _, f := range []struct {
		raw  []byte
		name string
		to   *string
	}{{l.Raw, "raw", &n.Path}, {l.VersionRaw, "version_raw", &n.Version}, {l.TrashRaw, "trash_raw", &n.Trash}, {l.AtRaw, "at_raw", &n.At}} {
		if f.raw == nil {
			continue
		}
		if lossy(string(f.raw)) != *f.to {
			return nil, false, fmt.Errorf("%s says something else than the field that it belongs to", f.name)
		}
		*f.to = string(f.raw)
	}
	return n, inAt, n.valid()
}

// valid tells what keeps a node from being one.
func (n *Node) valid() error {
	switch {
	case kindOf(string(n.Kind)) == "" || n.Kind == KindSpace:
		return fmt.Errorf("kind %.20q is not known", n.Kind)
	case n.Space == "":
		return errors.New("it names no space")
	case !strings.HasPrefix(n.Path, "/") || n.Path == "/" && n.Trash == "":
		return fmt.Errorf("%.80q is no path below a space's root", n.Path)
	}
	return nil
}

func decodeSpace(line []byte) (*Space, error) {
	var l spaceLine
	if err := json.Unmarshal(line, &l); err != nil {
		return nil, err
	}
	if l.ID == "" {
		return nil, errors.New("the space has no id")
	}
	if l.DirRaw != nil {
		if lossy(string(l.DirRaw)) != l.Dir {
			return nil, errors.New("dir_raw says something else than the field that it belongs to")
		}
		l.Dir = string(l.DirRaw)
	}
	return &l.Space, nil
}
