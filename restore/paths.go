package restore

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"github.com/ocbackup/ocbackup/config"
	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/paths"
)

// Mapping says that what was below Old is to lie below New. Both are absolute.
type Mapping struct{ Old, New string }

// ParseMapping reads OLD=NEW.
func ParseMapping(s string) (Mapping, error) {
	from, to, ok := strings.Cut(s, "=")
	if !ok || !filepath.IsAbs(from) || !filepath.IsAbs(to) {
		return Mapping{}, fail.Usagef("write it as --map /old/path=/new/path", "--map %s: two absolute paths are needed", s)
	}
	return Mapping{Old: filepath.Clean(from), New: filepath.Clean(to)}, nil
}

// mapper applies mappings to paths.
type mapper []Mapping

// newMapper sorts mappings so that the longest prefix comes first.
func newMapper(maps []Mapping) mapper {
	m := append(mapper(nil), maps...)
	sort.SliceStable(m, func(i, j int) bool { return len(m[i].Old) > len(m[j].Old) })
	return m
}

// path returns where a path of the set lies on this host.
func (m mapper) path(p string) string {
	for _, x := range m {
		if p == x.Old {
			return x.New
		}
		if rel, ok := paths.Below(x.Old, p); ok {
			return filepath.Join(x.New, rel)
		}
	}
	return p
}

func (m mapper) paths(list []string) []string {
	var out []string
	for _, p := range list {
		out = append(out, m.path(p))
	}
	return out
}

// words maps those words of a command that are paths.
func (m mapper) words(command []string) []string {
	var out []string
	for _, w := range command {
		if filepath.IsAbs(w) {
			w = m.path(w)
		}
		out = append(out, w)
	}
	return out
}

// config returns a copy of c with all paths of the instance mapped. Where the
// repository is and how it is opened is not the instance's, and stays.
func (m mapper) config(c config.Config) *config.Config {
	if len(m) == 0 {
		return &c
	}
	opt := func(p *string) {
		if *p != "" {
			*p = m.path(*p)
		}
	}
	l := &c.Layout
	for _, p := range []*string{
		&c.StateDir, &l.ConfigDir, &l.DataDir, &l.UsersRoot, &l.SearchDir, &l.Binary,
		&c.Control.ProjectDir, &c.Ready.TokenFile, &c.Ready.PasswordFile,
	} {
		opt(p)
	}
	for _, list := range []*[]string{&l.SystemPaths, &l.Deployment, &l.Leave, &c.Control.Files} {
		*list = m.paths(*list)
	}
	for _, w := range []*[]string{&c.Control.Start, &c.Control.Stop, &c.Control.Status, &c.Control.Exec, &c.Control.Compose} {
		*w = m.words(*w)
	}
	c.Extra = append([]config.Extra(nil), c.Extra...)
	for i := range c.Extra {
		opt(&c.Extra[i].Path)
	}
	return &c
}

// resolve follows the symbolic links in the part of p that exists. The rest stays
// as it is: it is going to be made.
func resolve(p string) (string, error) {
	real, err := filepath.EvalSymlinks(p)
	if err == nil {
		return real, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	dir := filepath.Dir(p)
	if dir == p {
		return p, nil
	}
	parent, err := resolve(dir)
	if err != nil {
		return "", err
	}
	return filepath.Join(parent, filepath.Base(p)), nil
}

// existing returns the nearest directory at or above p that exists.
func existing(p string) string {
	for {
		if st, err := os.Stat(p); err == nil && st.IsDir() || p == filepath.Dir(p) {
			return p
		}
		p = filepath.Dir(p)
	}
}
