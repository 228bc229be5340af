package nodes

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Each kind of damage is named at the path that users know, classed, and fatal exactly
// when data of a user is out of reach; what OpenCloud itself leaves behind is no damage.
func TestReadDecomposedMutations(t *testing.T) {
	t.Parallel()
	const lostPlan = "/.lost/" + planID
	long := strings.Repeat("n", 255)
	for _, m := range []struct {
		name   string
		mutate func(b *built)
		// want are the problems: path: class [fatal]: a part of the text.
		want []string
		// paths are live paths that are listed all the same.
		paths []string
	}{
		{
			name: "metadata of a file is gone", mutate: func(b *built) { b.remove(b.node(planID) + ".mpk") },
			want:  []string{"/docs/plan.odt: unreadable fatal: its metadata is missing: spaces/11/111111-0000-4000-8000-000000000001/nodes/33/33/33/33/-0000"},
			paths: []string{"/docs/plan.odt", "/note.txt"},
		},
		{
			name: "metadata of a file is empty", mutate: func(b *built) { b.write(b.node(planID)+".mpk", "") },
			want: []string{"/docs/plan.odt: unreadable fatal: its metadata can't be read"},
		},
		{
			name: "metadata of a file is malformed", mutate: func(b *built) { b.write(b.node(planID)+".mpk", "\x8anonsense") },
			want: []string{"/docs/plan.odt: unreadable fatal: its metadata can't be read"},
		},
		{
			name: "metadata claims a huge length", mutate: func(b *built) { b.write(b.node(planID)+".mpk", "\xdf\xff\xff\xff\xff\xdb\xff\xff\xff\xff") },
			want: []string{"/docs/plan.odt: unreadable fatal: its metadata can't be read"},
		},
		{
			name: "metadata of a folder is gone", mutate: func(b *built) { b.remove(b.node(docsID) + ".mpk") },
			want:  []string{"/docs: unreadable fatal: its metadata is missing"},
			paths: []string{"/docs", "/docs/plan.odt"},
		},
		{
			name: "metadata of the space is gone", mutate: func(b *built) { b.remove(b.node(testSpace) + ".mpk") },
			want:  []string{"space " + testSpace + ": unreadable fatal: the metadata of the space is missing"},
			paths: []string{"/docs/plan.odt"},
		},
		{
			name: "metadata of a trash item is gone", mutate: func(b *built) { b.remove(b.node(goneID) + ".T." + goneTime + ".mpk") },
			want: []string{"trash /.lost/" + goneID + ": unreadable fatal: its metadata is missing"},
		},
		{
			name: "metadata of what is in a trash item is gone", mutate: func(b *built) { b.remove(b.node(innerID) + ".mpk") },
			want: []string{"trash /gone/inner.txt: unreadable fatal: its metadata is missing"},
		},
		{
			name: "a purge of the trash was broken off", mutate: func(b *built) { b.remove(b.node(innerID)+".mpk", b.node(innerID)) },
			want: []string{"trash /gone/inner.txt: broken: its node " + innerID + " is gone: a purge"},
		},
		{name: "a purge of the trash was broken off between metadata and content", mutate: func(b *built) {
			b.link(goneID+".T."+goneTime, "purged.txt", "99999999-0000-4000-8000-000000000009")
			b.remove(b.node(innerID) + ".mpk")
		}, want: []string{"trash /gone/purged.txt: broken: its node", "trash /gone/inner.txt: unreadable: its metadata is missing"}},
		{name: "a purge was broken off at the link", mutate: func(b *built) {
			b.remove(b.node(innerID)+".mpk", b.node(innerID), b.node(goneID)+".T."+goneTime+".mpk", b.node(goneID)+".T."+goneTime)
		}, want: []string{"trash /.lost/" + goneID + ": broken: its node is gone: a purge"}},
		{
			name: "metadata of a version is gone", mutate: func(b *built) { b.remove(b.node(planID) + ".REV." + planREV + ".mpk") },
			want: []string{"/docs/plan.odt version " + planREV + ": unreadable fatal: the metadata of the version is missing"},
		},
		{
			name: "metadata of a version is malformed", mutate: func(b *built) { b.write(b.node(planID)+".REV."+planREV+".mpk", "\x81") },
			want: []string{"/docs/plan.odt version " + planREV + ": unreadable fatal: the metadata of the version can't be read"},
		},
		{name: "a version was removed by OpenCloud, which leaves its metadata", mutate: func(b *built) { b.remove(b.node(planID) + ".REV." + planREV) }},

		{
			name: "the name link of a file is gone", mutate: func(b *built) { b.remove(filepath.Join(b.node(docsID), "plan.odt")) },
			want:  []string{"/docs/plan.odt: broken fatal: no folder leads to it"},
			paths: []string{"/docs/plan.odt"},
		},
		{
			name: "the name link of a folder is gone", mutate: func(b *built) { b.remove(filepath.Join(b.node(testSpace), "docs")) },
			want:  []string{"/docs: broken fatal: no folder leads to it"},
			paths: []string{"/docs/plan.odt", "/docs/deep"},
		},
		{
			name: "the name link is gone, and another node has the name", mutate: func(b *built) {
				b.remove(filepath.Join(b.node(docsID), "plan.odt"))
				b.file("99999999-0000-4000-8000-000000000009", docsID, "plan.odt", "another plan")
			}, want: []string{"/.lost: broken: no folder of OpenCloud's", lostPlan + ": broken fatal: no folder leads to it"},
			paths: []string{"/docs/plan.odt", lostPlan},
		},
		{name: "users have the name of the folder of what is lost", mutate: func(b *built) {
			b.file("99999999-0000-4000-8000-000000000009", testSpace, ".lost", "x")
			b.remove(filepath.Join(b.node(docsID), "plan.odt"))
			b.mpk(b.node(planID), map[string]string{"parentid": "99999999-0000-4000-8000-00000000000a"})
		}, want: []string{"/.lost~: broken: no folder", "/.lost~/" + planID + ": broken fatal: no folder leads"}},
		{
			name: "the link of a trash item is gone", mutate: func(b *built) { b.remove(filepath.Join(b.dir(), "trash", pathify(goneID))) },
			want: []string{"trash /gone: broken fatal: no link in the trash leads to it"},
		},
		{name: "the link of a trash item leads elsewhere", mutate: func(b *built) {
			l := filepath.Join(b.dir(), "trash", pathify(goneID))
			b.remove(l)
			must(b.tb, os.Symlink("../../../../../../../../../../etc/passwd", l))
		}, want: []string{
			`trash /.lost/` + goneID + `: broken: its link in the trash leads to "../../../../../../../../../../etc/passwd"`,
			"trash /gone: broken fatal: no link in the trash leads to it",
		}},

		{name: "a folder and all that is in it lost the folder", mutate: func(b *built) {
			b.remove(b.node(docsID) + ".mpk")
			must(b.tb, os.RemoveAll(b.node(docsID)))
		}, want: []string{
			"/docs: broken fatal: its node is not there",
			"/docs/plan.odt: broken fatal: no folder leads to it",
		}, paths: []string{"/docs", "/docs/plan.odt"}},
		{
			name: "the directory of a folder is gone", mutate: func(b *built) { must(b.tb, os.RemoveAll(b.node(docsID))) },
			want: []string{"/docs: broken fatal: its node is not there", "/docs/plan.odt: broken fatal: no folder leads to it"},
		},
		{
			name: "the node of a file is gone, and its metadata is there", mutate: func(b *built) { b.remove(b.node(planID)) },
			want: []string{"/docs/plan.odt: broken: its node is not there"},
		},
		{name: "the root is gone", mutate: func(b *built) {
			b.remove(b.node(testSpace) + ".mpk")
			must(b.tb, os.RemoveAll(b.node(testSpace)))
		}, want: []string{
			"space " + testSpace + ": broken fatal: the root node of the space is not there",
			"/.lost: broken: no folder", "/.lost/" + docsID + ": broken fatal", "/.lost/" + noteID + ": broken fatal",
		}},
		{
			name: "the space is gone", mutate: func(b *built) { must(b.tb, os.RemoveAll(b.dir())) },
			want: []string{"space " + testSpace + ": broken fatal: the space is in OpenCloud's index"},
		},
		{name: "the space was being purged", mutate: func(b *built) {
			b.index(map[string]string{})
			b.remove(b.node(testSpace) + ".mpk")
		}, want: []string{"space " + testSpace + ": broken: OpenCloud was removing this space"}},
		{
			name: "the index has lost the space", mutate: func(b *built) { b.index(map[string]string{}) },
			want: []string{"space Marketing: broken fatal: the space is in no index"},
		},
		{name: "the index has lost the space, whose making was broken off", mutate: func(b *built) {
			must(b.tb, os.RemoveAll(b.dir()))
			b.folder(testSpace, "", "Marketing", map[string]string{"id": testSpace, "space.name": "Marketing", "space.type": "project"})
			b.index(map[string]string{})
		}, want: []string{"space Marketing: broken: the space is in no index"}},
		{name: "the index has lost the space, whose metadata is damaged", mutate: func(b *built) {
			b.index(map[string]string{})
			b.write(b.node(testSpace)+".mpk", "\x81")
		}, want: []string{"space " + testSpace + ": unreadable fatal: the metadata of the space can't be read"}},
		{
			name: "the index is empty", mutate: func(b *built) { b.write(filepath.Join(b.root, "indexes/by-type/project.mpk"), "") },
			want: []string{"space Marketing: broken fatal: the space is in no index"},
		},
		{
			name: "the index is damaged", mutate: func(b *built) { b.write(filepath.Join(b.root, "indexes/by-type/project.mpk"), "\x81") },
			want:  []string{"space Marketing: unreadable: OpenCloud's index of spaces can't be read: indexes/by-type/project.mpk"},
			paths: []string{"/docs/plan.odt"},
		},
		{
			name: "the index is larger than metadata is", mutate: func(b *built) { b.index(map[string]string{testSpace: strings.Repeat("x", maxMetadata)}) },
			paths: []string{"/docs/plan.odt"},
		},
		{name: "uploads and indexes elsewhere", mutate: func(b *built) {
			must(b.tb, os.Rename(filepath.Join(b.root, "indexes"), filepath.Join(b.tb.TempDir(), "indexes")))
			must(b.tb, os.Symlink("/elsewhere", filepath.Join(b.root, "indexes")))
			must(b.tb, os.Symlink("/elsewhere", filepath.Join(b.root, "uploads")))
		}, want: []string{"space Marketing: unreadable: OpenCloud's index of spaces can't be read: indexes/by-type: "}, paths: []string{"/docs/plan.odt"}},
		{name: "the index names no id", mutate: func(b *built) { b.index(map[string]string{testSpace: "x", "": "y"}) }},
		{name: "a space was purged in which something was shared", mutate: func(b *built) {
			const purged = "99999999-0000-4000-8000-00000000000a"
			b.index(map[string]string{testSpace: "x", purged: "y"})
			must(b.tb, os.Rename(filepath.Join(b.root, "indexes/by-type/project.mpk"), filepath.Join(b.root, "indexes/by-type/share.mpk")))
			b.index(map[string]string{testSpace: "x"})
		}},
		{
			name: "a version without its file", mutate: func(b *built) { b.remove(b.node(planID), b.node(planID)+".mpk") },
			want: []string{"/docs/plan.odt: broken fatal: its node is not there"},
		},

		{name: "a version without its file, which no link leads to", mutate: func(b *built) {
			b.remove(b.node(planID), b.node(planID)+".mpk", filepath.Join(b.node(docsID), "plan.odt"))
		}, want: []string{"/.lost: broken: no folder", "/.lost/" + planID + ": broken fatal: these are versions of a file that is not there"}},
		{
			name: "a node in two folders", mutate: func(b *built) { b.link(testSpace, "second.odt", planID) },
			want:  []string{`/second.odt: broken: its node is also that of "/docs/plan.odt"`},
			paths: []string{"/docs/plan.odt", "/second.odt"},
		},
		{
			name: "a cycle of parents", mutate: func(b *built) { b.link(deepID, "up", docsID) },
			want:  []string{`/docs/deep/up: broken: its node is also that of "/docs", where`},
			paths: []string{"/docs/plan.odt"},
		},
		{
			name: "a folder in itself", mutate: func(b *built) { b.link(testSpace, "self", testSpace) },
			want: []string{`/self: broken: its node is also that of "/"`},
		},
		{name: "a cycle that nothing leads to", mutate: func(b *built) {
			b.file("00000000-0000-4000-8000-000000000009", docsID, "first.odt", "its id comes before those of the folders")
			b.link(deepID, "docs", docsID)
			b.remove(filepath.Join(b.node(testSpace), "docs"))
			b.mpk(b.node(docsID), map[string]string{"parentid": deepID})
		}, want: []string{
			"/.lost: broken: no folder", "/.lost/" + docsID + ": broken fatal: no folder leads to it",
			`/.lost/` + docsID + `/deep/docs: broken: its node is also that of "/.lost/` + docsID + `"`,
		}, paths: []string{"/.lost/" + docsID + "/plan.odt", "/.lost/" + docsID + "/first.odt"}},
		{name: "a duplicate id", mutate: func(b *built) {
			data, err := os.ReadFile(b.node(noteID) + ".mpk")
			must(b.tb, err)
			b.write(b.node(planID)+".mpk", string(data))
		}, want: []string{`/docs/plan.odt: broken fatal: its metadata is that of another node, "` + noteID}},
		{
			name: "swapped blob id of nothing that can be", mutate: func(b *built) { b.mpk(b.node(planID), map[string]string{"blobid": "..../../etc/passwd"}) },
			want: []string{`/docs/plan.odt: broken fatal: its metadata names a content that can't be`},
		},
		{name: "a link that leads elsewhere", mutate: func(b *built) {
			must(b.tb, os.Symlink("../../../../../../../../../../etc", filepath.Join(b.node(docsID), "etc")))
		}, want: []string{`/docs/etc: broken fatal: its link leads to "../../../../../../../../../../etc", which is no node`}},
		{
			name: "a file where a link must be", mutate: func(b *built) { b.write(filepath.Join(b.node(docsID), "file"), "x") },
			want: []string{"/docs/file: broken fatal: in the node of its folder is a file where a link must be"},
		},
		{name: "odd names", mutate: func(b *built) {
			for i, name := range []string{"new\nline", "\xff\xfe", long, "...", "-rf", " ", "a\\b", ".mpk"} {
				b.file("99999999-0000-4000-8000-00000000000"+string(rune('0'+i)), docsID, name, "x")
			}
		}, paths: []string{"/docs/new\nline", "/docs/\xff\xfe", "/docs/" + long, "/docs/...", "/docs/-rf", "/docs/ ", "/docs/a\\b", "/docs/.mpk"}},
		{name: "a trash item says that it was elsewhere", mutate: func(b *built) {
			b.mpk(b.node(goneID)+".T."+goneTime, map[string]string{"trash.origin": "/../../etc/gone"})
		}, want: []string{"trash /gone: broken: its metadata does not say where it was"}},

		{
			name: "a name attribute is lost", mutate: func(b *built) { b.mpk(b.node(planID), map[string]string{"name": "-"}) },
			want: []string{"/docs/plan.odt: broken fatal: its metadata has no name"},
		},
		{
			name: "a parent attribute is lost", mutate: func(b *built) { b.mpk(b.node(planID), map[string]string{"parentid": "-"}) },
			want: []string{"/docs/plan.odt: broken fatal: its metadata does not say in which folder it is"},
		},
		{
			name: "the blob's id is lost", mutate: func(b *built) { b.mpk(b.node(planID), map[string]string{"blobid": "-"}) },
			want: []string{"/docs/plan.odt: broken fatal: its metadata does not name its content"},
		},
		{
			name: "the blob's size is lost", mutate: func(b *built) { b.mpk(b.node(planID), map[string]string{"blobsize": "-"}) },
			want: []string{"/docs/plan.odt: broken fatal: its metadata does not say how large it is"},
		},
		{
			name: "the blob's size is negative", mutate: func(b *built) { b.mpk(b.node(planID), map[string]string{"blobsize": "-5"}) },
			want: []string{"/docs/plan.odt: broken fatal: its metadata does not say how large it is"},
		},
		{
			name: "the type is another", mutate: func(b *built) { b.mpk(b.node(docsID), map[string]string{"type": "1"}) },
			want: []string{"/docs: broken fatal: its node on disk is not of the kind"},
		},
		{
			name: "a checksum is none", mutate: func(b *built) { b.mpk(b.node(planID), map[string]string{"cs.sha1": "short"}) },
			want: []string{"/docs/plan.odt: broken: the checksums in its metadata are none: sha1"},
		},
		{
			name: "a time is none", mutate: func(b *built) { b.mpk(b.node(planID), map[string]string{"mtime": "soon"}) },
			want: []string{`/docs/plan.odt: broken: the time in its metadata is none: "soon"`},
		},

		{
			name: "a rename was broken off", mutate: func(b *built) { b.mpk(b.node(planID), map[string]string{"name": "old.odt"}) },
			want: []string{`/docs/plan.odt: broken: OpenCloud shows it by another name, "old.odt"`},
		},
		{
			name: "a move was broken off", mutate: func(b *built) { b.mpk(b.node(planID), map[string]string{"parentid": deepID}) },
			want: []string{"/docs/plan.odt: broken: its metadata says that it is in another folder"},
		},
		{name: "a deletion was broken off at the metadata", mutate: func(b *built) {
			must(b.tb, os.Rename(b.node(planID), b.node(planID)+".T."+goneTime))
		}, want: []string{"/docs/plan.odt: broken: OpenCloud was about to delete it"}},
		{name: "a deletion was broken off at the link", mutate: func(b *built) {
			b.trash(planID, docsID, "plan.odt", "/docs/plan.odt")
			b.link(docsID, "plan.odt", planID)
		}, want: []string{"/docs/plan.odt: broken: it is in the trash"}},
		{name: "a restore left the link in the trash", mutate: func(b *built) {
			l := filepath.Join(b.dir(), "trash", pathify(planID))
			must(b.tb, os.MkdirAll(filepath.Dir(l), 0o700))
			must(b.tb, os.Symlink("../../../../../nodes/"+pathify(planID)+".T."+goneTime, l))
		}, paths: []string{"/docs/plan.odt"}},
		{name: "an upload is being processed", mutate: func(b *built) {
			b.mpk(b.node(planID), map[string]string{"nodestatus": "processing:u1"})
		}, paths: []string{"/docs/plan.odt"}},
		{name: "debris of uploads and purges", mutate: func(b *built) {
			n := b.node("99999999-0000-4000-8000-000000000009")
			must(b.tb, os.MkdirAll(filepath.Dir(n), 0o700))
			b.write(n, "")                                                                                                            // refused before it had metadata
			b.mpk(b.node("99999999-0000-4000-8000-00000000000a"), map[string]string{"type": "1", "blobid": "x", "blobsize": "7"})     // taken back
			b.write(b.node("99999999-0000-4000-8000-00000000000b"), "")                                                               // being processed, link not made
			b.mpk(b.node("99999999-0000-4000-8000-00000000000b"), map[string]string{"nodestatus": "processing:u", "blobsize": "7"})   //
			must(b.tb, os.MkdirAll(b.node("99999999-0000-4000-8000-00000000000c"), 0o700))                                            // a folder, link not made
			b.mpk(b.node("99999999-0000-4000-8000-00000000000c"), map[string]string{"type": "2", "name": "c", "parentid": testSpace}) //
			b.write(n+".mlock", "")
			b.write(filepath.Dir(n)+"/.-0000-4000-8000-000000000009.mpk123", "half a file")
		}},
	} {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			b := build(t)
			m.mutate(b)
			l := b.read()
			got := l.problems()
			rest := slices.Clone(got)
			for _, want := range m.want {
				i := slices.IndexFunc(rest, func(p string) bool { return strings.HasPrefix(p, want) })
				if i < 0 {
					t.Errorf("not told: %s", want)
					continue
				}
				rest = slices.Delete(rest, i, i+1)
			}
			if len(rest) > 0 {
				t.Errorf("told without need:\n%s", strings.Join(rest, "\n"))
			}
			for _, p := range m.paths {
				if l.find(testSpace, p) == nil {
					t.Errorf("%q is not listed", p)
				}
			}
			b.contents(l)
		})
	}
}

func (b *built) remove(paths ...string) {
	b.tb.Helper()
	for _, p := range paths {
		must(b.tb, os.RemoveAll(p))
	}
}

func (b *built) write(path, content string) {
	b.tb.Helper()
	must(b.tb, os.WriteFile(path, []byte(content), 0o600))
}
