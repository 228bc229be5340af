// Package paths answers what several packages ask about paths.
package paths

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Below returns p relative to dir when it lies strictly inside it, by name alone.
// Nothing lies inside an empty dir.
func Below(dir, p string) (rel string, ok bool) {
	if dir == "" || p == "" {
		return "", false
	}
	dir, p = filepath.Clean(dir), filepath.Clean(p)
	if dir == "/" {
		return strings.TrimPrefix(p, "/"), strings.HasPrefix(p, "/") && p != "/"
	}
	rel, ok = strings.CutPrefix(p, dir+"/")
	if !ok {
		rel = ""
	}
	return rel, ok
}

// Within reports whether p is dir or lies inside it, by name alone.
func Within(dir, p string) bool {
	_, inside := Below(dir, p)
	return inside || dir != "" && p != "" && filepath.Clean(p) == filepath.Clean(dir)
}

// Exists reports whether there is something at p, be it a link that leads nowhere. It
// is true when that can't be told.
func Exists(p string) bool {
	_, err := os.Lstat(p)
	return !errors.Is(err, fs.ErrNotExist)
}

// IsDir reports whether p is a directory, or a link to one.
func IsDir(p string) bool {
	st, err := os.Stat(p)
	return err == nil && st.IsDir()
}

// Absolute makes a path absolute; empty stays empty.
func Absolute(p string) string {
	if p == "" {
		return ""
	}
	if abs, err := filepath.Abs(p); err == nil {
		return abs
	}
	return p
}

// Existing returns p, or the nearest directory above it that exists.
func Existing(p string) string {
	for {
		if _, err := os.Stat(p); err == nil || p == filepath.Dir(p) {
			return p
		}
		p = filepath.Dir(p)
	}
}

// Resolve follows the symbolic links in p as far as it exists, and as far as that can
// be told. The rest stays as it is.
func Resolve(p string) string {
	real, err := filepath.EvalSymlinks(p)
	if err == nil {
		return real
	}
	dir := filepath.Dir(p)
	if dir == p {
		return p
	}
	return filepath.Join(Resolve(dir), filepath.Base(p))
}
