package verify

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/ocbackup/ocbackup/catalog"
	"github.com/ocbackup/ocbackup/certificate"
	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/integration/env"
	"github.com/ocbackup/ocbackup/manifest"
	"github.com/ocbackup/ocbackup/opencloud"
)

// TestMain runs many tests at a time: restic waits for 200 ms whenever it has taken a lock,
// and this package runs it some 800 times.
func TestMain(m *testing.M) {
	flag.Parse()
	if f := flag.Lookup("test.parallel"); f.Value.String() == f.DefValue {
		_ = f.Value.Set("12") // a number
	}
	os.Exit(env.Main(m))
}

var drivers = []opencloud.Driver{opencloud.Posix, opencloud.Decomposed, opencloud.DecomposedS3}

// eachDriver runs a test for every storage driver.
func eachDriver(t *testing.T, f func(t *testing.T, w *world)) {
	t.Parallel()
	for _, d := range drivers {
		t.Run(string(d), func(t *testing.T) {
			t.Parallel()
			f(t, newWorld(t, d))
		})
	}
}

func TestSound(t *testing.T) {
	eachDriver(t, func(t *testing.T, w *world) {
		w.store()
		rep := w.verify("")
		w.wants(rep)
		c := rep.Sets[0].Certificate
		if c == nil || c.Nodes != 11 || c.Spaces != 1 || rep.Sets[0].Read != 0 {
			t.Fatalf("%+v, certificate %+v", rep.Sets[0], c)
		}
		rep = w.verify("1/1")
		w.wants(rep)
		// Seven files, a version and a trash item have content; what is pending has none to compare.
		if s := rep.Sets[0]; s.Read != 8 || s.Certificate.Classes[certificate.OKHash].Count != 7 || s.Certificate.Classes[certificate.Pending].Count != 1 {
			t.Errorf("read %d, classes %v", s.Read, s.Certificate.Classes)
		}
	})
}

// What happened to contents before they were stored is told with the path, and as what
// it is: fatal where data of a user is lost.
func TestDamagedBeforeStoring(t *testing.T) {
	eachDriver(t, func(t *testing.T, w *world) {
		for _, path := range []string{"/dropped", "/cut off", "/emptied", "/flipped", "/grown"} {
			w.file(path, 1000)
			w.add(catalog.Node{Kind: catalog.KindVersion, Path: path, Version: "2026-11-01T10:00:00Z"}, 900)
			w.add(catalog.Node{Kind: catalog.KindFile, Path: path, Trash: "k" + path[1:3], Item: true, Deleted: deleted}, 800)
		}
		var listed, read []string
		for _, of := range []string{"", "@version", "@trash"} {
			at := func(path string) string { return w.at(path + of) }
			delete(w.held, at("/dropped"))
			w.held[at("/cut off")] = w.held[at("/cut off")][:123]
			w.held[at("/emptied")] = nil
			w.held[at("/grown")] = append(w.held[at("/grown")], 0)
			w.held[at("/flipped")] = flipped(w.held[at("/flipped")])
			listed = append(listed, "missing /dropped"+of, "size-mismatch /cut off"+of, "size-mismatch /emptied"+of, "size-mismatch /grown"+of)
			read = append(read, "hash-mismatch /flipped"+of)
		}
		a, b, odd := w.at("/same a"), w.at("/same b"), w.at("/line\nbreak \xff.txt")
		w.held[a], w.held[b] = w.held[b], w.held[a]
		w.held[odd] = flipped(w.held[odd])
		read = append(read, "hash-mismatch /same a", "hash-mismatch /same b", "hash-mismatch /line\nbreak \xff.txt")
		// What OpenCloud was still processing may be anything, and what no node has is debris.
		delete(w.held, w.at("/upload.bin"))
		w.held[a[:len(a)-1]+"z"] = []byte("of no node")
		w.store()

		all := append(slices.Clone(listed), read...)
		if w.driver == opencloud.DecomposedS3 {
			listed = all // the inventory has the hashes
		}
		rep := w.verify("")
		w.wants(rep, listed...)
		if n := rep.Sets[0].Certificate.Classes[certificate.Orphan].Count; n != 1 {
			t.Errorf("%d orphans, want 1", n)
		}
		w.wants(w.verify("1/1"), all...)
	})
}

// An odd name is found also when restic's list does not have its bytes.
func TestOddNameGone(t *testing.T) {
	t.Parallel()
	w := newWorld(t, opencloud.Posix)
	delete(w.held, w.at("/line\nbreak \xff.txt"))
	w.store()
	w.wants(w.verify("1/1"), "missing /line\nbreak \xff.txt")
}

// A set that was inconsistent when it was made is reported as that again.
func TestInconsistent(t *testing.T) {
	t.Parallel()
	w := newWorld(t, opencloud.Posix)
	w.store(func(m *manifest.Manifest, _ map[string]string) { m.Certificate.Fatal = 2 })
	rep := w.verify("")
	contains(t, rep.Sets[0].Findings, "2 nodes had lost data")
	if rep.Sound {
		t.Error("it is said to be sound")
	}
}

// What is wrong with a node itself is in the catalog, and stays.
func TestProblems(t *testing.T) {
	t.Parallel()
	w := newWorld(t, opencloud.Decomposed)
	w.nodes[0].Problem = &catalog.Problem{Class: "broken", Fatal: true, Text: "its parent is gone"}
	w.nodes[1].Problem = &catalog.Problem{Class: "broken", Text: "its size is not its parent's"}
	w.store()
	w.wants(w.verify(""), "broken /offers")
}

// Whether a set is proven is not up to what its manifest says of a certificate.
func TestCertificateLeftOut(t *testing.T) {
	t.Parallel()
	w := newWorld(t, opencloud.Posix)
	delete(w.held, w.at("/old.txt@trash"))
	w.store(func(m *manifest.Manifest, _ map[string]string) { m.Certificate = nil })
	w.wants(w.verify(""), "missing /old.txt@trash")
	w.again(func(m *manifest.Manifest, files map[string]string) {
		delete(files, manifest.CatalogFile)
		m.Catalog = nil
	})
	rep := w.verify("")
	contains(t, rep.Sets[0].Findings, "no catalog")
	if rep.Sound {
		t.Error("a set that has lost its catalog is said to be sound")
	}
}

// That no set is left is no sound repository, whether there never was one or all are
// damaged.
func TestNoSet(t *testing.T) {
	t.Parallel()
	w := newWorld(t, opencloud.Posix)
	for _, all := range []bool{false, true} {
		o := w.options("")
		o.All = all
		if rep, err := Run(t.Context(), o); rep != nil || fail.CodeOf(err) != fail.Usage {
			t.Errorf("all %v: %+v, %v", all, rep, err)
		}
	}
	w.store()
	snapshots, err := filepath.Glob(filepath.Join(w.dir, "repo/snapshots/*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range snapshots {
		if err := errors.Join(os.Chmod(s, 0o600), os.Truncate(s, 10)); err != nil {
			t.Fatal(err)
		}
	}
	w.open("0.19")
	if rep := w.verify(""); rep.Sound || len(rep.Sets) != 0 || len(rep.Repository) < len(snapshots) {
		t.Errorf("%+v", rep)
	}
}

func TestDamagedCatalog(t *testing.T) {
	t.Parallel()
	w := newWorld(t, opencloud.Posix)
	w.store()
	for name, change := range map[string]func([]byte) []byte{
		"altered": func(b []byte) []byte { return []byte(string(b[:len(b)-20]) + "x" + string(b[len(b)-19:])) },
		"cut off": func(b []byte) []byte { return b[:len(b)/2] },
		"gone":    nil,
	} {
		t.Run(name, func(t *testing.T) {
			w.t = t
			w.again(func(_ *manifest.Manifest, files map[string]string) {
				path := files[manifest.CatalogFile]
				if change == nil {
					delete(files, manifest.CatalogFile)
					return
				}
				b, err := os.ReadFile(path)
				if err == nil {
					err = os.WriteFile(path, change(b), 0o600)
				}
				if err != nil {
					t.Fatal(err)
				}
			})
			rep := w.verify("")
			contains(t, rep.Sets[0].Findings, "catalog")
			if rep.Sound || rep.Sets[0].Certificate != nil {
				t.Errorf("%+v", rep)
			}
		})
	}
}

// Sets of older versions are verified as those did, and told of.
func TestWithoutCatalog(t *testing.T) {
	t.Parallel()
	w := newWorld(t, opencloud.Posix)
	delete(w.held, w.at("/old.txt@trash"))
	w.store(func(m *manifest.Manifest, files map[string]string) {
		delete(files, manifest.CatalogFile)
		m.Catalog, m.Certificate = nil, nil
	})
	if rep := w.verify("1/1"); !rep.Sound || rep.Sets[0].Uncertified == "" || rep.Sets[0].Files == 0 {
		t.Errorf("%+v", rep)
	}
	w.again(func(m *manifest.Manifest, files map[string]string) {
		delete(files, manifest.CatalogFile)
		m.Catalog, m.Certificate = nil, nil
		m.Roots[1].Files++
	})
	rep := w.verify("")
	contains(t, rep.Sets[0].Findings, "root users")
	if rep.Sound {
		t.Error("a file less than stored is said to be sound")
	}
}

// With --all, each set is held against its own contents, though all catalogs say the same.
func TestAll(t *testing.T) {
	t.Parallel()
	w := newWorld(t, opencloud.Posix)
	w.store()
	w.again()
	o := w.options("1/1")
	o.All = true
	all := func() *Report {
		t.Helper()
		rep, err := Run(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		return rep
	}
	if rep := all(); !rep.Sound || rep.Sets[0].Read != 8 || rep.Sets[1].Read != 8 {
		t.Errorf("%+v", rep.Sets)
	}
	at := w.at("/same a")
	w.held[at] = flipped(w.held[at])
	w.store()
	w.again()
	rep := all()
	for i, want := range []int{0, 0, 1, 1} {
		if got := lossesOf(rep.Sets[i].Certificate); len(got) != want {
			t.Errorf("set %d has lost %q", i, got)
		}
	}
}

// A set whose snapshot is gone has lost all that was in it.
func TestSnapshotGone(t *testing.T) {
	t.Parallel()
	w := newWorld(t, opencloud.Decomposed)
	var blobs string
	w.store(func(m *manifest.Manifest, _ map[string]string) { blobs = m.Roots[2].Snapshot })
	if err := w.repo.Forget(t.Context(), blobs); err != nil {
		t.Fatal(err)
	}
	rep := w.verify("1/1")
	contains(t, rep.Sets[0].Findings, "root blobs: its snapshot is gone")
	w.wants(rep, "missing /line\nbreak \xff.txt", "missing /offers/offer.odt", "missing /offers/offer.odt@version", "missing /offers/terms.txt",
		"missing /old.txt@trash", "missing /same a", "missing /same b")
}

// seed stores something first, so that it lies in packs of its own, and returns those.
func (w *world) seed(target string) []string {
	w.t.Helper()
	w.disk()
	before := w.packs()
	w.root(&manifest.Manifest{Set: "20261101T000000Z-0000"}, opencloud.Root{Name: "seed", Path: "/users"}, nil, []string{filepath.Join("users", target)})
	return slices.DeleteFunc(w.packs(), func(p string) bool { return slices.Contains(before, p) })
}

// damagedPack damages the larger one of the packs: that of contents; or the other.
func (w *world) damagePack(packs []string, larger bool, how func(path string) error) {
	w.t.Helper()
	size := func(p string) int64 {
		st, err := os.Stat(p)
		if err != nil {
			w.t.Fatal(err)
		}
		return st.Size()
	}
	slices.SortFunc(packs, func(a, b string) int { return int(size(a) - size(b)) })
	p := packs[0]
	if larger {
		p = packs[len(packs)-1]
	}
	if err := os.Chmod(p, 0o600); err != nil {
		w.t.Fatal(err)
	}
	if err := how(p); err != nil {
		w.t.Fatal(err)
	}
}

func flipFile(path string) error {
	b, err := os.ReadFile(path)
	if err == nil {
		copy(b[200:], "damage")
		err = os.WriteFile(path, b, 0o600)
	}
	return err
}

// What damage in the repository costs is named by path, not by packs.
func TestDamagedRepository(t *testing.T) {
	t.Parallel()
	for version, d := range map[string]opencloud.Driver{"0.18": opencloud.Posix, "0.19": opencloud.Decomposed} {
		for _, c := range []struct {
			name   string
			how    func(string) error
			listed bool // it is found without reading
		}{
			{"gone", os.Remove, true},
			{"cut off", func(p string) error { return os.Truncate(p, 1000) }, true},
			{"flipped", flipFile, false},
		} {
			t.Run(fmt.Sprintf("%s %s contents %s", version, d, c.name), func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, d)
				victim := w.at("/offers/offer.odt")
				packs := w.seed(victim)
				w.store()
				w.damagePack(packs, true, c.how)
				w.open(version)
				for _, part := range []string{"", "1/1"} {
					var want []string
					if part != "" && c.listed {
						continue // it would find the same
					}
					if part == "" && c.listed || part != "" {
						want = []string{"unreadable /offers/offer.odt"}
					}
					rep := w.verify(part)
					w.wants(rep, want...)
					if len(want) > 0 && len(rep.Repository) == 0 {
						t.Error("restic's own findings are not told")
					}
				}
			})
		}
	}
}

// Where there is too much to name it all, that is said.
func TestTooMuchDamage(t *testing.T) {
	defer func(n int) { mostBlobs = n }(mostBlobs)
	mostBlobs = 0
	w := newWorld(t, opencloud.Posix)
	packs := w.seed(w.at("/offers/offer.odt"))
	w.store()
	w.damagePack(packs, true, os.Remove)
	w.open("0.19")
	rep := w.verify("")
	contains(t, rep.Sets[0].Findings, "too much of the repository")
	if rep.Sound {
		t.Error("it is said to be sound")
	}
}

// A damaged folder's list hides all below it, and nothing else.
func TestDamagedTree(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"0.18", "0.19"} {
		for _, cached := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s cached %v", version, cached), func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, opencloud.Posix)
				w.open(version)
				packs := w.seed(spaceDir(opencloud.Posix) + "/offers")
				w.store()
				w.damagePack(packs, false, os.Remove)
				if !cached {
					w.open(version)
				}
				part := "1/1"
				if cached {
					part = ""
				}
				w.wants(w.verify(part), "unreadable /offers", "unreadable /offers/offer.odt", "unreadable /offers/terms.txt")
			})
		}
	}
}

// Of driver decomposed, a node is lost with its metadata.
func TestDamagedMetadata(t *testing.T) {
	t.Parallel()
	for _, d := range []opencloud.Driver{opencloud.Decomposed, opencloud.DecomposedS3} {
		t.Run(string(d), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, d)
			packs := w.seed(spaceDir(d) + "/nodes/" + scatter(nodeID("/offers/offer.odt")) + ".mpk")
			w.store()
			w.damagePack(packs, false, os.Remove)
			w.damagePack(packs[1:], false, os.Remove)
			w.open("0.19")
			rep := w.verify("")
			w.wants(rep, "unreadable /offers/offer.odt")
			contains(t, rep.Sets[0].Findings, "root metadata")
		})
	}
}
