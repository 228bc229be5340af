package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
)

// download serves a file by its path in a space, over the address that WebDAV clients
// use. Content that the storage does not have is an error of the server.
func (s *server) download(w http.ResponseWriter, r *http.Request) {
	content, err := s.l.content(r.PathValue("space"), r.PathValue("path"))
	switch {
	case errors.Is(err, errNoFile):
		http.Error(w, err.Error(), http.StatusNotFound)
	case err != nil:
		http.Error(w, err.Error(), http.StatusInternalServerError)
	default:
		_, _ = w.Write(content)
	}
}

var errNoFile = errors.New("no such file")

// content is what the storage holds for a file. id is that of a drive.
func (l layout) content(id, path string) ([]byte, error) {
	_, id, _ = strings.Cut(id, "$")
	for _, sp := range l.spaces() {
		if sp.id != id {
			continue
		}
		node, err := l.find(sp.dir, path)
		if err != nil {
			return nil, err
		}
		a := l.readAttrs(node)
		if string(a["user.oc.type"]) != "1" {
			return nil, errNoFile
		}
		if string(a["user.oc.blobsize"]) == "0" {
			return nil, nil
		}
		key := l.blobKey(sp.id, string(a["user.oc.blobid"]))
		if l.driver == "posix" {
			key, _ = filepath.Rel(l.users, node)
		}
		content, err := l.blobs.Get(key)
		if size := string(a["user.oc.blobsize"]); err == nil && fmt.Sprint(len(content)) != size {
			err = fmt.Errorf("blob has unexpected size. %s bytes expected, got %d bytes", size, len(content))
		}
		return content, err
	}
	return nil, errNoFile
}

// find is the node of a path below a folder. Decomposed folders hold links to their
// children's nodes.
func (l layout) find(dir, path string) (string, error) {
	for name := range strings.SplitSeq(path, "/") {
		if !filepath.IsLocal(name) {
			return "", errNoFile
		}
		child := filepath.Join(dir, name)
		if l.driver != "posix" {
			target, err := os.Readlink(child)
			if err != nil {
				return "", errNoFile
			}
			child = filepath.Join(dir, target)
		}
		if _, err := os.Stat(child); errors.Is(err, fs.ErrNotExist) {
			return "", errNoFile
		}
		dir = child
	}
	return dir, nil
}
