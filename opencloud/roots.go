package opencloud

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/ocbackup/ocbackup/paths"
)

// Roots lists what a full set of an instance with this layout is made of, save
// the container image and the admin's extras. Roots that lie inside others are
// excluded from them, so that nothing is stored twice; also when symbolic links
// lead there.
//
// Where things lie is laid down in OpenCloud's pkg/config/defaults/paths.go and
// in the defaults of its services; the split per driver is docs/formats.md's.
func (l Layout) Roots() []Root {
	var roots []Root
	add := func(r Root) {
		if r.Path != "" {
			roots = append(roots, r)
		}
	}
	add(Root{Name: "config", Components: []Component{Config}, Path: l.ConfigDir})
	if base, files := commonBase(l.Deployment); len(files) > 0 {
		add(Root{Name: "deployment", Components: []Component{Config}, Path: base, Include: files})
	}
	add(Root{Name: "system", Components: []Component{System}, Path: l.DataDir})
	for i, p := range l.SystemPaths {
		add(Root{Name: "system-" + strconv.Itoa(i+2), Components: []Component{System}, Path: p})
	}
	if l.Driver == Posix {
		// Metadata are extended attributes of the very files that hold the contents.
		add(Root{Name: "users", Components: []Component{Metadata, Blobs}, Path: l.UsersRoot})
	} else {
		add(Root{Name: "metadata", Components: []Component{Metadata}, Path: l.UsersRoot, Exclude: []string{blobsGlob}})
		if l.Driver == Decomposed {
			add(Root{Name: "blobs", Components: []Component{Blobs}, Path: l.UsersRoot, Include: []string{blobsGlob}})
		}
	}
	if !l.SearchExternal {
		add(Root{Name: "search", Components: []Component{Search}, Path: l.SearchDir, Optional: true})
	}
	add(Root{Name: "binary", Components: []Component{Binary}, Path: l.Binary})

	for i := range roots {
		roots[i].Exclude = append(roots[i].Exclude, l.nested(roots, i)...)
		if len(roots[i].Include) == 0 && roots[i].Path != l.Binary {
			roots[i].Exclude = append(roots[i].Exclude, ownGlob)
		}
	}
	return roots
}

// blobsGlob is where the decomposed driver keeps blobs, below the users root:
// spaces/<first two of the space id>/<rest>/blobs (reva, pkg/storage/pkg/decomposedfs).
const blobsGlob = "spaces/*/*/blobs"

// ownGlob matches what a restore makes beside the roots: staged and old data.
const ownGlob = ".ocbackup-*"

// nested lists, relative to root i and as literal globs, the other roots and the
// left-out directories that lie inside it.
func (l Layout) nested(roots []Root, i int) []string {
	if len(roots[i].Include) > 0 {
		return nil // names what it holds
	}
	var out []string
	at, realAt := roots[i].Path, paths.Resolve(roots[i].Path)
	leave := func(p, real string) {
		for _, x := range [][2]string{{at, p}, {realAt, real}} {
			if rel, ok := paths.Below(x[0], x[1]); ok {
				out = append(out, Glob(rel))
				if dir := path.Dir(rel); dir != "." {
					out = append(out, Glob(dir)+"/"+ownGlob)
				}
			}
		}
	}
	// Of a root, what its links lead to is stored; of a file of the deployment, the link.
	entry := func(p string) { leave(p, filepath.Join(paths.Resolve(filepath.Dir(p)), filepath.Base(p))) }
	for _, p := range l.Leave {
		entry(p)
	}
	for j, r := range roots {
		if j != i && len(r.Include) == 0 {
			leave(r.Path, paths.Resolve(r.Path))
		}
		if j != i && r.Name == "deployment" {
			for _, f := range r.Include {
				entry(filepath.Join(r.Path, Unglob(f)))
			}
		}
	}
	sort.Strings(out)
	return slices.Compact(out)
}

// HasConfig makes sure that the server's secrets are where they should be: without
// ConfigFile a set is of no use, and a server makes new secrets.
func (l Layout) HasConfig() error {
	p := filepath.Join(l.ConfigDir, ConfigFile)
	st, err := os.Stat(p)
	switch {
	case err != nil:
		return fmt.Errorf("OpenCloud's secrets: %w", err)
	case !st.Mode().IsRegular() || st.Size() == 0:
		return fmt.Errorf("OpenCloud's secrets: %s is empty or no file", p)
	}
	return nil
}

// LockFiles lists the files that a running instance holds an exclusive flock on:
// the identity store and the search index (seen on every version so far).
func (l Layout) LockFiles() []string {
	files := []string{filepath.Join(l.DataDir, "idm", "idm.boltdb")}
	for _, p := range l.SystemPaths {
		if strings.HasSuffix(p, ".boltdb") {
			files = append(files, p)
		}
	}
	if l.SearchDir != "" && !l.SearchExternal {
		// bleve/, and since 8.0 bleve-v<N>/
		if found, err := filepath.Glob(filepath.Join(Glob(l.SearchDir), "bleve*", "store", "root.bolt")); err == nil {
			files = append(files, found...)
		}
	}
	return files
}

// Glob returns a glob that matches exactly the path p.
func Glob(p string) string { return globEscaper.Replace(p) }

// Unglob is the reverse of Glob.
func Unglob(g string) string {
	var b strings.Builder
	for i := 0; i < len(g); i++ {
		if g[i] == '\\' && i+1 < len(g) {
			i++
		}
		b.WriteByte(g[i])
	}
	return b.String()
}

var globEscaper = strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`)

// commonBase returns the deepest directory that holds all files, and the files
// relative to it as literal globs.
func commonBase(files []string) (string, []string) {
	if len(files) == 0 {
		return "", nil
	}
	base := filepath.Dir(files[0])
	for _, f := range files[1:] {
		for base != "/" {
			if _, ok := paths.Below(base, f); ok {
				break
			}
			base = filepath.Dir(base)
		}
	}
	var rels []string
	for _, f := range files {
		if rel, ok := paths.Below(base, f); ok {
			rels = append(rels, Glob(rel))
		}
	}
	sort.Strings(rels)
	return base, slices.Compact(rels)
}
