package config

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the key tables of docs/configuration.md")

const (
	docsFile  = "../docs/configuration.md"
	docsBegin = "<!-- keys: made from config/schema.go by \"go test ./config -run TestDocs -update\" -->\n"
	docsEnd   = "<!-- end of keys -->\n"
)

// TestDocs fails when docs/configuration.md does not say what the schema says.
func TestDocs(t *testing.T) {
	b, err := os.ReadFile(docsFile)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok := strings.Cut(string(b), docsBegin)
	_, tail, ok2 := strings.Cut(rest, docsEnd)
	if !ok || !ok2 {
		t.Fatalf("%s: the marks around the key tables are gone", docsFile)
	}
	want := head + docsBegin + keyTables() + docsEnd + tail
	if *update {
		if err := os.WriteFile(docsFile, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if string(b) != want {
		t.Errorf("%s is stale: go test ./config -run TestDocs -update", docsFile)
	}
}

// keyTables writes a Markdown table of keys for each table of the file.
func keyTables() string {
	var b strings.Builder
	for _, t := range Tables {
		switch {
		case t.Name == "":
			b.WriteString("\n### Top level\n\n")
		case t.Array:
			fmt.Fprintf(&b, "\n### `[[%s]]`\n\n%s\n\n", t.Name, strings.ReplaceAll(t.Doc, "\n", " "))
		default:
			fmt.Fprintf(&b, "\n### `[%s]`\n\n%s\n\n", t.Name, strings.ReplaceAll(t.Doc, "\n", " "))
		}
		b.WriteString("| key | type | default | meaning |\n|---|---|---|---|\n")
		for _, k := range Keys {
			table, name := k.Table()
			if table != t.Name {
				continue
			}
			def := k.Default
			switch {
			case k.Required:
				def = "**required**"
			case def == "":
				def = "none"
			case strings.ContainsAny(def[:1], "\"[0f"):
				def = "`" + def + "`"
			}
			doc := k.Doc
			if len(k.Values) > 0 {
				doc += " One of `" + strings.Join(k.Values, "`, `") + "`."
				if k.Type() == kindStrings.String() {
					doc = strings.Replace(doc, " One of ", " Any of ", 1)
				}
			}
			if k.Env != "" {
				doc += " Environment: `" + k.Env + "`."
			}
			fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", name, k.Type(), def, doc)
		}
	}
	return b.String() + "\n"
}
