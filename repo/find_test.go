package repo

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

// What restic find says of folders that it can't load stands in the middle of its JSON,
// wherever that is cut on its way.
func TestUntangled(t *testing.T) {
	id := strings.Repeat("0123456789abcdef", 4)
	said := treeText + id + "\n" + ofText + id + "\n"
	long := strings.Repeat("x", 500)
	text := said + `[{"matches":[{"path":"/a ` + treeText + `"}` + said + `,{"path":"` + long + `"}` + said + said + `],"hits":2}` + "]\n"
	want := `[{"matches":[{"path":"/a ` + treeText + `"},{"path":"` + long + `"}],"hits":2}]`
	for size := 1; size <= len(text); size++ {
		var got bytes.Buffer
		u := &untangled{to: &got}
		for at := 0; at < len(text); at += size {
			if _, err := u.Write([]byte(text[at:min(at+size, len(text))])); err != nil {
				t.Fatal(err)
			}
		}
		if err := u.flush(); err != nil || got.String() != want || u.trees != 4 {
			t.Fatalf("in pieces of %d: %d trees, %v\n%s\nwant\n%s", size, u.trees, err, got.String(), want)
		}
	}
}

// A snapshot is listed as Ls lists it, and what lies in a pack is found by its paths.
func TestFind(t *testing.T) {
	eachRestic(t, func(t *testing.T, binary string) {
		r, dir := newRepo(t, binary)
		for _, name := range []string{"users/a/one", "users/b/two\nlines", "users/c"} {
			write(t, dir+"/"+name, "content of "+name)
		}
		snap := backup(t, r, BackupSpec{Dir: dir, Targets: []string{"users"}}).SnapshotID
		var listed, walked []string
		if err := r.Ls(ctx(t), snap, "", func(n Node) error { listed = append(listed, n.Type+n.Path); return nil }); err != nil {
			t.Fatal(err)
		}
		lost, err := r.Walk(ctx(t), snap, func(n Node) error { walked = append(walked, n.Type+n.Path); return nil })
		if err != nil || lost != 0 || len(walked) != 6 || strings.Join(listed, "|") != strings.Join(walked, "|") {
			t.Errorf("walked %q (%d lost), %v; listed %q", walked, lost, err, listed)
		}
		o, err := r.run(ctx(t), call{command: "list", args: []string{"packs"}})
		if err != nil {
			t.Fatal(err)
		}
		found := map[string]string{}
		note := func(f Found) error {
			found[f.Path] = f.Type
			return nil
		}
		data, trees, err := r.InPacks(ctx(t), append(strings.Fields(string(o.stdout)), strings.Repeat("0", 64)))
		if err := errors.Join(err, r.FindBlobs(ctx(t), snap, data, note), r.FindTrees(ctx(t), snap, trees, note)); err != nil {
			t.Fatal(err)
		}
		if found["/users/b/two\nlines"] != "blob" || found["/users/a"] != "tree" || found["/users/c"] != "blob" {
			t.Errorf("found %v", found)
		}
	})
}
