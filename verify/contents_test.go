package verify

import (
	"fmt"
	"os"
	"slices"
	"testing"

	"github.com/ocbackup/ocbackup/certificate"
	"github.com/ocbackup/ocbackup/manifest"
	"github.com/ocbackup/ocbackup/opencloud"
)

// What damage leaves of a folder is read all the same: each content but the damaged one.
func TestSalvage(t *testing.T) {
	t.Parallel()
	for version, how := range map[string]func(string) error{"0.18": os.Remove, "0.19": flipFile} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, opencloud.Posix)
			for i := range 3 {
				w.file(fmt.Sprintf("/offers/deep/%d/file", i), 3000)
			}
			packs := w.seed(w.at("/offers/deep/1/file"))
			w.store()
			w.damagePack(packs, true, how)
			w.open(version)
			sets, err := manifest.List(t.Context(), w.repo, "")
			if err != nil {
				t.Fatal(err)
			}
			c, err := manifest.OpenCatalog(t.Context(), w.repo, &sets[0], "", nil)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			h := certificate.NewHoldings(t.TempDir())
			defer h.Close()
			for _, n := range w.nodes {
				if n.At != "" {
					h.Add(n.At, n.Size, certificate.Hashes{})
				}
			}
			r := &contents{
				repo: w.repo, root: &sets[0].Manifest.Roots[1], catalog: c, part: Part{N: 1, T: 1}, h: h,
				update: func(string) {},
			}
			if err := r.read(t.Context()); err != nil {
				t.Fatal(err)
			}
			cert, err := certificate.Judge(t.Context(), "s", c, h, certificate.Options{})
			if err != nil {
				t.Fatal(err)
			}
			// Nine are as they should be; of what is pending, nothing is compared.
			if got := lossesOf(cert); !slices.Equal(got, []string{"unreadable /offers/deep/1/file"}) || cert.Classes[certificate.OKHash].Count != 9 || r.unread != 0 {
				t.Errorf("lost %q, classes %v, %d unread", got, cert.Classes, r.unread)
			}
		})
	}
}
