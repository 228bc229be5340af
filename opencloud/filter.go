package opencloud

import (
	"path"
	"strings"
)

// Filter returns a function that tells which paths below Path belong to the root.
// It takes a slash-separated path relative to Path ("." for the root itself) and
// gives false for what does not belong; nothing below a directory that does not
// belong is asked for. Directories on the way to something included belong.
func (r Root) Filter() func(rel string, isDir bool) bool {
	return func(rel string, _ bool) bool {
		if rel == "." {
			return true
		}
		for _, g := range r.Exclude {
			if ok, _ := path.Match(g, rel); ok {
				return false
			}
		}
		if len(r.Include) == 0 {
			return true
		}
		parts := strings.Split(rel, "/")
		for _, g := range r.Include {
			if onTheWay(strings.Split(g, "/"), parts) {
				return true
			}
		}
		return false
	}
}

// onTheWay tells whether parts lead to, or lie at or below, what the glob names.
func onTheWay(glob, parts []string) bool {
	for i := range min(len(glob), len(parts)) {
		if ok, _ := path.Match(glob[i], parts[i]); !ok {
			return false
		}
	}
	return true
}
