package certificate

import (
	"context"
	"strings"
	"testing"

	"github.com/ocbackup/ocbackup/catalog"
)

// A loss that somebody knows of and accepts is told, and is not fatal; one beside it is.
func TestAccepted(t *testing.T) {
	version := func(path string) *catalog.Node {
		return &catalog.Node{Kind: catalog.KindVersion, Path: path, ID: "id" + path, Size: 5, Blob: "old" + path, Version: "2026", At: "mkt/.oc-nodes" + path}
	}
	for _, c := range []struct {
		places []string
		fatal  string // the paths of the findings that are
	}{
		{nil, "/a/f /a/f /b /bb"},
		{[]string{"Marketing:/b"}, "/a/f /a/f /bb"},
		{[]string{spaceID + ":/a/f", "Marketing:/bb"}, "/b"},
		{[]string{"Marketing:/a/"}, "/b /bb"},
		{[]string{"Marketing:/"}, ""},
		{[]string{"Sales:/b", "Marketing"}, "/a/f /a/f /b /bb"},
	} {
		files := newCatalog(t, nil,
			&catalog.Node{Kind: catalog.KindFolder, Path: "/a", ID: "a"}, file("/a/f"), version("/a/f"), file("/b"), file("/bb"))
		cert, err := Judge(context.Background(), "set", files, holdings(t), Options{Accepted: c.places})
		check(t, err)
		var fatal []string
		for _, f := range cert.Findings {
			if f.Fatal {
				fatal = append(fatal, f.Path)
			}
			if f.Fatal == f.Accepted || f.Accepted != strings.Contains(f.String(), "accepted") {
				t.Errorf("%v: fatal %t, accepted %t: %s", c.places, f.Fatal, f.Accepted, f)
			}
		}
		if got := strings.Join(fatal, " "); got != c.fatal || len(cert.Findings) != 4 || cert.Fatal+cert.Accepted != 4 || cert.Sound() != (c.fatal == "") {
			t.Errorf("%v: fatal are %q of %d, want %q; %s", c.places, got, len(cert.Findings), c.fatal, cert.Line())
		}
	}
}
