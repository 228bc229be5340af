package manifest

import (
	"fmt"
	"strings"
)

// RecoveryText is written into every set for a person with an empty machine, and
// no ocbackup at hand either: how to get everything back, by ocbackup or by restic
// alone.
func RecoveryText(m *Manifest, location string) []byte {
	var b strings.Builder
	p := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	p("How to bring OpenCloud instance %q back", m.Instance)
	p("")
	p("Set %s holds its state of %s.", m.Set, m.Frozen.UTC().Format("2006-01-02 15:04:05 UTC"))
	p("OpenCloud %s, storage driver %s. Written by ocbackup %s with restic %s.", m.OpenCloud, m.Layout.Driver, m.Tool, m.Restic)
	if m.Image != nil {
		p("Container image %s, %s.", m.Image.Ref, m.Image.Digest)
	}
	p("")
	p("With ocbackup, as root, on an empty machine with restic:")
	p("")
	p("    ocbackup restore --repository %s --password-file FILE %s", location, m.Set)
	p("")
	p("FILE holds the password of the repository. Add --map OLD=NEW for other paths, and")
	p("--dry-run to see first what would be done.")
	p("")
	p("With restic alone, as root (RESTIC_REPOSITORY=%s, RESTIC_PASSWORD_FILE=FILE).", location)
	p("OpenCloud must be stopped. Keep this order, the outermost directories last:")
	p("")
	for i := len(m.Roots) - 1; i >= 0; i-- {
		r := m.Roots[i]
		switch {
		case r.Snapshot == "":
			p("    # %s was not there when the set was made", r.Name)
		case len(r.Command) > 0:
			p("    restic dump %s %s > FILE    # %s: what %q printed", r.Snapshot[:8], "/"+dumpName(r), r.Name, strings.Join(r.Command, " "))
		default:
			p("    restic restore %s --target %q --sparse    # %s: %s", r.Snapshot[:8], parent(r.Real), r.Name, r.Real)
		}
	}
	p("")
	p("Then:")
	p("  1. Do not start OpenCloud before opencloud.yaml is back in %s: it would make new", m.Layout.ConfigDir)
	p("     secrets, and nobody could log in.")
	if m.Layout.Driver == "posix" {
		p("  2. The extended attributes (getfattr -d -m user.oc.) of the files in %s must be", m.Layout.UsersRoot)
		p("     there before the start: OpenCloud writes new ones over lost ones.")
	} else {
		p("  2. Owners and modes must be as they were: OpenCloud runs as the owner of %s.", m.Layout.DataDir)
	}
	p("  3. Start OpenCloud %s, no older version. If it ends at once, delete %s/bleve", m.OpenCloud, m.Layout.SearchDir)
	p("     and start it again; then have the search index built: opencloud search index --space ID")
	p("     for each space.")
	if len(m.NotProtected) > 0 {
		p("")
		p("Not in this set:")
		for _, s := range m.NotProtected {
			p("  - %s", s)
		}
	}
	return []byte(b.String())
}

func dumpName(r Root) string {
	if r.Name == "binary" {
		return "image.tar"
	}
	return r.Name
}

func parent(p string) string {
	i := strings.LastIndexByte(p, '/')
	if i <= 0 {
		return "/"
	}
	return p[:i]
}
