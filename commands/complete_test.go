package commands

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ocbackup/ocbackup/browse"
	"github.com/ocbackup/ocbackup/catalog"
	"github.com/ocbackup/ocbackup/manifest"
	"github.com/ocbackup/ocbackup/opencloud"
)

// cachedHost is a host whose cache has two sets, the first of them of before there were
// catalogs; it returns its configuration file. The repository can't be asked.
func cachedHost(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "catalog")
	w, err := catalog.Create(file, opencloud.Posix)
	if err != nil {
		t.Fatal(err)
	}
	section, err := w.Section(catalog.Space{Kind: catalog.KindSpace, ID: "s1", Name: "Sales Team", Dir: "projects/s1"})
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []catalog.Node{
		{Kind: catalog.KindFolder, Path: "/Offers"},
		{Kind: catalog.KindFile, Path: "/Offers/a b.odt"},
		{Kind: catalog.KindFolder, Path: "/Old"},
	} {
		n.Space, n.ID = "s1", n.Path
		if err := section.Add(&n); err != nil {
			t.Fatal(err)
		}
	}
	if err := section.Close(); err != nil {
		t.Fatal(err)
	}
	sum, err := w.Close()
	if err != nil {
		t.Fatal(err)
	}
	cache := filepath.Join(dir, "state", "cache")
	if err := manifest.KeepCatalog(cache, file, &sum); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(cache, "manifests"), 0o700); err != nil {
		t.Fatal(err)
	}
	for id, m := range map[string]manifest.Manifest{
		"20261121T000000Z-aaaa": {},
		"20261122T000000Z-bbbb": {Catalog: &sum},
		"20261123T000000Z-cccc": {Instance: "other"},
	} {
		m.Format, m.Set, m.Full, m.Roots = manifest.Format, id, true, make([]manifest.Root, 1)
		if m.Instance == "" {
			m.Instance = "cloud"
		}
		data, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(cache, "manifests", id+".json"), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	config := filepath.Join(dir, "ocbackup.toml")
	text := fmt.Sprintf("name = \"cloud\"\nstate_dir = %q\n\n[repository]\nlocation = %q\npassword_file = \"/nowhere\"\n"+
		"[layout]\ndriver = \"posix\"\nconfig_dir = \"/nowhere\"\ndata_dir = \"/nowhere\"\n[control]\ntype = \"none\"\n",
		filepath.Join(dir, "state"), filepath.Join(dir, "repository"))
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return config
}

// What bash offers, and inserts, at the end of a line.
func TestCompletions(t *testing.T) {
	t.Setenv("OCBACKUP_CONFIG", cachedHost(t))
	const first, second = "20261121T000000Z-aaaa ", "20261122T000000Z-bbbb "
	for _, tc := range []struct{ line, want string }{
		{"ocbackup his", "history "},
		{"ocbackup ls ", `Sales\ Team:/|latest |` + second + "|" + first},
		{"ocbackup ls S", `Sales\ Team:/`},
		{"ocbackup ls 'S", `Sales Team:/`},
		{`ocbackup ls Sales\ Team:/`, "/Offers/|/Old/"},
		{`ocbackup ls Sales\ Team:/Of`, "/Offers/"},
		{`ocbackup ls -l --trash "Sales Team:/Offers/`, `Sales Team:/Offers/a b.odt`},
		{`ocbackup ls 20261122 Sales\ Team:/Offers/a`, `/Offers/a\ b.odt `},
		{`ocbackup ls 20261121 Sal`, ""}, // it has no catalog
		{`ocbackup ls latest Sales`, `Sales\ Team:/`},
		{"ocbackup ls 20261121", first},
		{"ocbackup history 2", ""},
		{"ocbackup history Sal", `Sales\ Team:/`},
		{"ocbackup spaces 202611", second + "|" + first},
		{"ocbackup diff 20261121T000000Z-aaaa la", "latest "},
		{"ocbackup ls --tr", "--trash "},
		{"ocbackup --js", "--json "},
		{"ocbackup bucket rec", "reconcile "},
		{"ocbackup ls --password-file ", ""}, // bash offers files
		{"ocbackup ls --repository /other Sal", ""},
		{"ocbackup nonsense ", ""},
	} {
		var out bytes.Buffer
		printCompletions(t.Context(), &out, browse.ParseLine(tc.line))
		got := strings.ReplaceAll(strings.TrimSuffix(out.String(), "\n"), "\n", "|")
		if got != tc.want {
			t.Errorf("%s\n got %s\nwant %s", tc.line, got, tc.want)
		}
	}
}

// urfave's own script for bash asks in another way.
func TestCompletionsForTheOtherScript(t *testing.T) {
	t.Setenv("OCBACKUP_CONFIG", cachedHost(t))
	var out bytes.Buffer
	if err := newApp(&out, &out).Run([]string{"ocbackup", "ls", "--generate-bash-completion"}); err != nil || !strings.Contains(out.String(), "'Sales Team:/'\n") {
		t.Errorf("%v\n%s", err, out.String())
	}
}
