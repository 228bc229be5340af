package main

import (
	"cmp"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/pkg/xattr"
	"github.com/vmihailenco/msgpack/v5"
)

// attrs is the metadata of a node: extended attributes on posix, a msgpack
// file beside the node on decomposed.
type attrs map[string][]byte

type space struct {
	id       string
	kind     string // personal, project
	name     string
	disabled bool
	dir      string // of its root node
}

// pathify splits an id as the decomposed tree does: aa/bb/cc/dd/-rest.
func pathify(id string) string {
	return filepath.Join(id[0:2], id[2:4], id[4:6], id[6:8], id[8:])
}

func (l layout) spaceDir(id string) string {
	return filepath.Join(l.users, "spaces", id[:2], id[2:])
}

// spaces lists what the tree holds, personal ones first.
func (l layout) spaces() (list []space) {
	pattern := []string{"users/*", "projects/*"}
	if l.driver != "posix" {
		pattern = []string{"spaces/*/*"}
	}
	for _, p := range pattern {
		dirs, _ := filepath.Glob(filepath.Join(l.users, p))
		for _, dir := range dirs {
			if l.driver != "posix" {
				id := filepath.Base(filepath.Dir(dir)) + filepath.Base(dir)
				if len(id) < 9 {
					continue
				}
				dir = filepath.Join(dir, "nodes", pathify(id))
			}
			a := l.readAttrs(dir)
			id := string(a["user.oc.space.id"])
			if id == "" {
				continue
			}
			list = append(list, space{
				id: id, kind: string(a["user.oc.space.type"]), name: string(a["user.oc.space.name"]),
				disabled: a["user.oc.dtime"] != nil, dir: dir,
			})
		}
	}
	slices.SortStableFunc(list, func(a, b space) int {
		return cmp.Or(cmp.Compare(a.kind, b.kind), cmp.Compare(a.id, b.id))
	})
	return list
}

func (l layout) readAttrs(node string) attrs {
	a := attrs{}
	if l.driver != "posix" {
		if b, err := os.ReadFile(node + ".mpk"); err == nil {
			_ = msgpack.Unmarshal(b, &a)
		}
		return a
	}
	names, _ := xattr.LList(node)
	for _, name := range names {
		if v, err := xattr.LGet(node, name); err == nil && strings.HasPrefix(name, "user.oc.") {
			a[name] = v
		}
	}
	return a
}

func (l layout) writeAttrs(node string, a attrs) error {
	if l.driver != "posix" {
		b, err := msgpack.Marshal(a)
		if err != nil {
			return err
		}
		return replaceFile(node+".mpk", b)
	}
	for name, v := range a {
		if err := xattr.LSet(node, name, v); err != nil {
			return err
		}
	}
	return nil
}

// replaceFile writes a file the way a careful program does: aside, then renamed.
func replaceFile(path string, b []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(path+".tmp", b, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".tmp", path)
}

// seedSpaces gives a fresh tree a personal and a project space.
func (l layout) seedSpaces(admin string) error {
	if len(l.spaces()) > 0 {
		return nil
	}
	for _, kind := range []string{"personal", "project"} {
		id := uuid.NewString()
		dir := filepath.Join(l.spaceDir(id), "nodes", pathify(id))
		if l.driver == "posix" {
			dir = filepath.Join(l.users, "projects", id)
			if kind == "personal" {
				dir = filepath.Join(l.users, "users", cmp.Or(admin, id))
				if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 {
					continue // a tree that lost its attributes is damaged, not fresh
				}
			}
		}
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
		if err := l.writeAttrs(dir, attrs{
			"user.oc.id": []byte(id), "user.oc.name": []byte(kind), "user.oc.propagation": []byte("1"),
			"user.oc.owner.id": []byte(cmp.Or(admin, id)), "user.oc.owner.idp": []byte("https://localhost:9200"), "user.oc.owner.type": []byte("primary"),
			"user.oc.space.id": []byte(id), "user.oc.space.type": []byte(kind), "user.oc.space.name": []byte(kind),
			"user.oc.space.alias": []byte(kind + "/standin"), "user.oc.treesize": []byte("0"), "user.oc.tmtime": []byte(now()),
		}); err != nil {
			return err
		}
	}
	return nil
}

// nodes calls f for every file and folder of posix spaces that is a node.
func (l layout) nodes(f func(path string, d fs.DirEntry)) {
	for _, top := range []string{"users", "projects"} {
		root := filepath.Join(l.users, top)
		_ = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil || path == root {
				return nil
			}
			switch name := d.Name(); {
			case name == ".oc-nodes" || name == ".oc-tmp" || name == ".Trash":
				return fs.SkipDir
			case strings.HasSuffix(name, ".mlock") || strings.HasSuffix(name, ".flock") || strings.HasSuffix(name, ".tmp"):
			case d.IsDir() || d.Type().IsRegular():
				f(path, d)
			}
			return nil
		})
	}
}

// assimilate gives new ids to posix nodes that have none, as OpenCloud 4.0
// does: where attributes were lost, the damage is then mixed.
func (l layout) assimilate() {
	if l.driver != "posix" {
		return
	}
	l.nodes(func(path string, _ fs.DirEntry) {
		if _, err := xattr.LGet(path, "user.oc.id"); err != nil {
			_ = xattr.LSet(path, "user.oc.id", []byte(uuid.NewString()))
		}
	})
}

func now() string { return time.Now().UTC().Format(time.RFC3339Nano) }
