package nodes

import (
	"strings"

	"github.com/ocbackup/ocbackup/catalog"
)

// node makes a node of what lies under an id, and tells what is wrong with it. purging:
// OpenCloud was removing it from the trash, so that it is nobody's loss.
func (w *walk) node(id string, f *form, p string, purging bool) *catalog.Node {
	n := w.new(catalog.KindFile, id, p)
	if f.node == nodeFolder || f.node != nodeFile && f.attrs.get(attrType) == typeFolder {
		n.Kind = catalog.KindFolder
	}
	n.MTime = f.mtime
	mpk := w.at(id)
	if f.what == formTrash {
		mpk += trashMark + f.suffix
	}
	switch {
	case f.fault != "":
		n.Problem = problem(unreadable, !purging, "its metadata can't be read: %s.mpk: %s", mpk, f.fault)
	case f.attrs == nil:
		n.Problem = problem(unreadable, !purging, "its metadata is missing: %s.mpk", mpk)
	default:
		w.fill(n, f)
		n.ID = id
	}
	tell := func(class string, fatal bool, format string, args ...any) {
		n.Problem = worse(n.Problem, problem(class, fatal, format, args...))
	}
	if f.listFault != "" {
		tell(unreadable, true, "it can't be listed: %s: %s", strings.TrimSuffix(mpk, ".mpk"), f.listFault)
	}
	if f.attrs == nil {
		return n
	}
	// What is in a file is a blob: that its node on disk is gone changes its times only. A
	// folder's node holds the names of what is in it.
	if f.node == nodeNone {
		tell(broken, n.Kind == catalog.KindFolder, "its node is not there: %s", mpk)
	}
	kind := f.attrs.get(attrType)
	if f.node == nodeFolder && kind == typeFile || f.node == nodeFile && kind == typeFolder || f.node == nodeOther {
		tell(broken, true, "its node on disk is not of the kind that its metadata says: %s", mpk)
	}
	if own := f.attrs.get(attrID); own != "" && own != id {
		tell(broken, true, "its metadata is that of another node, %s", short(own))
	}
	if f.attrs.get(attrParentID) == "" {
		tell(broken, true, "its metadata does not say in which folder it is: OpenCloud can't read it")
	}
	return n
}

// fill sets what the metadata says, and where the content lies.
func (w *walk) fill(n *catalog.Node, f *form) {
	flaws := f.attrs.fill(n)
	if n.Kind == catalog.KindFolder {
		if t := parseTime(f.attrs.get(attrTreeMTime)); !t.IsZero() {
			n.MTime = t // as OpenCloud shows it
		}
		n.Pending = ""
		return
	}
	tell := func(fatal bool, format string, args ...any) {
		n.Problem = worse(n.Problem, problem(broken, fatal, format, args...))
	}
	if s := f.attrs.get(attrStatus); n.Pending == "" && strings.HasPrefix(s, processing) {
		n.Pending = n.ID // it does not say which upload it is
	}
	if flaws.mtime && f.attrs.has(attrMTime) {
		tell(false, "the time in its metadata is none: %s", short(f.attrs.get(attrMTime)))
	}
	if len(flaws.sums) > 0 {
		tell(false, "the checksums in its metadata are none: %s", strings.Join(flaws.sums, ", "))
	}
	if n.Pending == "" && flaws.size && n.Blob != "" {
		tell(true, "its metadata does not say how large it is: OpenCloud can't read it")
		return
	}
	if n.Size == 0 && !flaws.size {
		n.Blob = ""
	}
	if n.Blob == "" {
		if n.Pending == "" && f.attrs.hasContent() {
			tell(true, "its metadata does not name its content, or says that it is empty and yet gives its checksum")
		}
		return
	}
	if n.At = catalog.Place(w.r.Driver, nil, n); n.At == "" {
		tell(true, "its metadata names a content that can't be: %s", short(n.Blob))
		n.Blob = ""
	}
}

// compare tells where the metadata of a node in a folder says something else than the
// link. OpenCloud reads the link to find a node, and the metadata to show it; a move that
// was broken off leaves them different (reva, Tree.Move).
func (w *walk) compare(n *catalog.Node, f *form, folder string, l *link) {
	if f.attrs == nil {
		return
	}
	tell := func(fatal bool, format string, args ...any) {
		n.Problem = worse(n.Problem, problem(broken, fatal, format, args...))
	}
	switch name := f.attrs.get(attrName); {
	case name == "":
		tell(true, "its metadata has no name: OpenCloud can't show it")
	case name != l.name:
		tell(false, "OpenCloud shows it by another name, %s: its metadata and its link differ", short(name))
	}
	if parent := f.attrs.get(attrParentID); parent != "" && parent != folder {
		tell(false, "its metadata says that it is in another folder, %s", short(parent))
	}
}

// version makes an older content of a file.
func (w *walk) version(of *catalog.Node, f *form) *catalog.Node {
	n := w.new(catalog.KindVersion, of.ID, of.Path)
	n.Version, n.MTime = f.suffix, parseTime(f.suffix)
	if n.MTime.IsZero() {
		n.MTime = f.mtime
	}
	mpk := w.at(of.ID) + revisionMark + f.suffix + ".mpk"
	switch {
	case f.fault != "":
		n.Problem = problem(unreadable, true, "the metadata of the version can't be read: %s: %s", mpk, f.fault)
		return n
	case f.attrs == nil:
		n.Problem = problem(unreadable, true, "the metadata of the version is missing: %s", mpk)
		return n
	}
	w.fill(n, f)
	n.ID = of.ID
	// A file that was overwritten while it was still being processed: the content of the
	// version is that upload.
	if n.Pending = ""; w.uploads[n.Blob] {
		n.Pending = n.Blob
	}
	return n
}
