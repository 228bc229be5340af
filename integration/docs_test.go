package integration

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// The documents must not go stale. What they say about fields and exit codes is
// held against the source here; docs_run_test.go runs what they tell people to run.

const (
	checkout = ".."
	module   = "github.com/ocbackup/ocbackup"
)

// documents are all Markdown files of the project, as paths from the checkout.
func documents(t *testing.T) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(checkout, "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	more, err := filepath.Glob(filepath.Join(checkout, "docs/*.md"))
	if err != nil {
		t.Fatal(err)
	}
	if found = append(found, more...); len(found) < 5 {
		t.Fatalf("only %d documents found", len(found))
	}
	return found
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestFieldTables holds every table below "<!-- fields: pkg.Type -->" against the
// json tags of that struct, and asks for a table for each struct that is reached
// from it.
func TestFieldTables(t *testing.T) {
	source := &structs{parsed: map[string]map[string]*ast.StructType{}, imports: map[string]map[string]string{}}
	documented, reached := map[string]bool{}, map[string]string{}
	for _, doc := range documents(t) {
		for _, table := range fieldTables(readFile(t, doc)) {
			documented[table.of] = true
			t.Run(filepath.Base(doc)+"/"+table.of, func(t *testing.T) {
				fields, structs := source.fields(t, table.of)
				for _, s := range structs {
					reached[s] = table.of
				}
				for _, f := range fields {
					if !slices.Contains(table.fields, f) {
						t.Errorf("%s: the table for %s lacks %q", doc, table.of, f)
					}
				}
				for _, f := range table.fields {
					if !slices.Contains(fields, f) {
						t.Errorf("%s: %s has no field %q", doc, table.of, f)
					}
				}
			})
		}
	}
	for s, by := range reached {
		if !documented[s] {
			t.Errorf("%s is part of %s, and no document has a table of its fields", s, by)
		}
	}
	for _, s := range []string{
		"manifest.Manifest", "guard.Journal", "backup.Result", "backup.Plan", "restore.Result",
		"verify.Report", "commands.setView", "commands.jsonError",
	} {
		if !documented[s] {
			t.Errorf("no document has a table of the fields of %s", s)
		}
	}
}

type fieldTable struct {
	of     string
	fields []string
}

var (
	fieldMark = regexp.MustCompile(`<!-- fields: (\S+) -->`)
	fieldRow  = regexp.MustCompile("^\\| (`[^|]*) \\|")
	fieldName = regexp.MustCompile("`([^`]+)`")
)

func fieldTables(doc string) (tables []fieldTable) {
	lines := strings.Split(doc, "\n")
	for i, line := range lines {
		m := fieldMark.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		table := fieldTable{of: m[1]}
		for _, row := range lines[i+1:] {
			if c := fieldRow.FindStringSubmatch(row); c != nil {
				for _, name := range fieldName.FindAllStringSubmatch(c[1], -1) {
					table.fields = append(table.fields, name[1])
				}
			} else if len(table.fields) > 0 {
				break
			}
		}
		tables = append(tables, table)
	}
	return tables
}

// structs knows the struct types of the module's packages, by reading their source:
// some of them are not exported.
type structs struct {
	parsed  map[string]map[string]*ast.StructType // directory -> name -> type
	imports map[string]map[string]string          // directory -> package name -> directory
}

// fields returns the JSON names of a struct's fields, and the structs of this
// module that they consist of. A struct is named as package.Type or dir/package.Type;
// Type may be followed by a field that is itself an anonymous struct.
func (s *structs) fields(t *testing.T, name string) (names, inner []string) {
	t.Helper()
	dot := strings.Index(name, ".")
	dir, typ := name[:dot], strings.Split(name[dot+1:], ".")
	s.parse(t, dir)
	st := s.parsed[dir][typ[0]]
	if st == nil {
		t.Fatalf("there is no struct %s", name)
	}
	for _, f := range typ[1:] {
		st = anonymous(st, f)
		if st == nil {
			t.Fatalf("there is no struct %s", name)
		}
	}
	for _, f := range st.Fields.List {
		tag := ""
		if f.Tag != nil {
			raw, err := strconv.Unquote(f.Tag.Value)
			if err != nil {
				t.Fatal(err)
			}
			tag, _, _ = strings.Cut(reflect.StructTag(raw).Get("json"), ",")
		}
		if tag == "-" {
			continue
		}
		of := s.structOf(dir, f.Type)
		if len(f.Names) == 0 && tag == "" { // embedded: its fields are ours
			n, i := s.fields(t, of)
			names, inner = append(names, n...), append(inner, i...)
			continue
		}
		for _, n := range f.Names {
			if n.IsExported() {
				if tag == "" {
					tag = n.Name
				}
				names = append(names, tag)
				if _, ok := f.Type.(*ast.StructType); ok {
					inner = append(inner, name+"."+n.Name)
				}
			}
		}
		if of != "" {
			inner = append(inner, of)
		}
	}
	return names, inner
}

func anonymous(st *ast.StructType, field string) *ast.StructType {
	for _, f := range st.Fields.List {
		for _, n := range f.Names {
			if in, ok := f.Type.(*ast.StructType); ok && n.Name == field {
				return in
			}
		}
	}
	return nil
}

// structOf names the struct of this module that a type is, points to, or lists; "" for none.
func (s *structs) structOf(dir string, x ast.Expr) string {
	switch x := x.(type) {
	case *ast.StarExpr:
		return s.structOf(dir, x.X)
	case *ast.ArrayType:
		return s.structOf(dir, x.Elt)
	case *ast.MapType:
		return s.structOf(dir, x.Value)
	case *ast.Ident:
		if s.parsed[dir][x.Name] != nil {
			return dir + "." + x.Name
		}
	case *ast.SelectorExpr:
		pkg, ok := x.X.(*ast.Ident)
		if !ok {
			return ""
		}
		other := s.imports[dir][pkg.Name]
		if other == "" {
			return ""
		}
		if err := s.load(other); err == nil && s.parsed[other][x.Sel.Name] != nil {
			return other + "." + x.Sel.Name
		}
	}
	return ""
}

func (s *structs) parse(t *testing.T, dir string) {
	t.Helper()
	if err := s.load(dir); err != nil {
		t.Fatal(err)
	}
}

func (s *structs) load(dir string) error {
	if s.parsed[dir] != nil {
		return nil
	}
	s.parsed[dir], s.imports[dir] = map[string]*ast.StructType{}, map[string]string{}
	return filepath.WalkDir(filepath.Join(checkout, dir), func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && path != filepath.Join(checkout, dir) {
			return fs.SkipDir
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		for _, i := range file.Imports {
			if in, ok := strings.CutPrefix(strings.Trim(i.Path.Value, `"`), module+"/"); ok {
				s.imports[dir][filepath.Base(in)] = in
			}
		}
		for _, decl := range file.Decls {
			g, ok := decl.(*ast.GenDecl)
			if !ok {
				continue
			}
			for _, spec := range g.Specs {
				if ts, ok := spec.(*ast.TypeSpec); ok {
					if st, ok := ts.Type.(*ast.StructType); ok {
						s.parsed[dir][ts.Name.Name] = st
					}
				}
			}
		}
		return nil
	})
}

var (
	codeConst = regexp.MustCompile(`(?m)^\s+(\w+)\s+Code = (\d+)\s+// (.*)$`)
	codeRow   = regexp.MustCompile(`(?m)^\| (\d+) \| (\w+) \|`)
)

// TestExitCodes holds docs/exit-codes.md against the constants of package fail.
func TestExitCodes(t *testing.T) {
	documented := map[string]string{}
	for _, m := range codeRow.FindAllStringSubmatch(readFile(t, filepath.Join(checkout, "docs/exit-codes.md")), -1) {
		documented[m[2]] = m[1]
	}
	constants := codeConst.FindAllStringSubmatch(readFile(t, filepath.Join(checkout, "fail/fail.go")), -1)
	if len(constants) < 10 {
		t.Fatalf("only %d exit codes found in package fail", len(constants))
	}
	for _, m := range constants {
		if documented[m[1]] != m[2] {
			t.Errorf("docs/exit-codes.md gives %q for %s, which is %s", documented[m[1]], m[1], m[2])
		}
		delete(documented, m[1])
	}
	for name := range documented {
		t.Errorf("docs/exit-codes.md names %s, which does not exist", name)
	}
}

var link = regexp.MustCompile(`\]\(([^)#]*)(#[^)]*)?\)`)

// TestLinks follows every link inside the project.
func TestLinks(t *testing.T) {
	for _, doc := range documents(t) {
		for _, m := range link.FindAllStringSubmatch(readFile(t, doc), -1) {
			target := doc
			if strings.Contains(m[1], "://") {
				continue
			}
			if m[1] != "" {
				target = filepath.Join(filepath.Dir(doc), m[1])
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s: link to %s: %v", doc, m[1], err)
				continue
			}
			if m[2] != "" && !slices.Contains(anchors(readFile(t, target)), m[2]) {
				t.Errorf("%s: %s has no section %s", doc, target, m[2])
			}
		}
	}
}

var (
	heading   = regexp.MustCompile(`(?m)^#+ (.*)$`)
	notAnchor = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
)

// anchors are the names by which the sections of a document can be linked to.
func anchors(doc string) (names []string) {
	for _, m := range heading.FindAllStringSubmatch(doc, -1) {
		name := notAnchor.ReplaceAllString(strings.ToLower(m[1]), "")
		names = append(names, "#"+strings.ReplaceAll(name, " ", "-"))
	}
	return names
}
