package config

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/BurntSushi/toml"
	"github.com/agnivade/levenshtein"

	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/secretfile"
	"github.com/ocbackup/ocbackup/snapshot"
)

// PathEnv names the environment variable that says where the configuration file is.
const PathEnv = "OCBACKUP_CONFIG"

// Load reads the configuration file at path (empty: $OCBACKUP_CONFIG, else
// DefaultPath), applies the OCBACKUP_* variables of the environment and the
// defaults, and validates the result. Its errors are of code fail.Usage and name
// file and line, or the variable, of everything that is wrong.
func Load(path string) (*Config, error) {
	if path == "" {
		path = os.Getenv(PathEnv)
	}
	if path == "" {
		path = DefaultPath
	}
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fail.New(fail.Usage, path+": there is no such configuration file",
			"ocbackup init finds the instance and writes one; --config names another file")
	}
	if err != nil {
		return nil, fail.Wrap(fail.Usage, err, "read the configuration", "")
	}
	return parse(path, string(text))
}

// parse is Load on a text that has been read from path.
func parse(path, text string) (*Config, error) {
	var raw map[string]any
	md, err := toml.Decode(text, &raw)
	var syntax toml.ParseError
	if errors.As(err, &syntax) {
		return nil, fail.Usagef("", "%s:%d:%d: %s", path, syntax.Position.Line, max(syntax.Position.Col, 1), syntax.Message)
	}
	if err != nil {
		return nil, fail.Wrap(fail.Usage, err, path, "")
	}
	src := source{path: path, text: text, md: md}
	if p := src.check(raw); len(p) > 0 {
		return nil, src.error(p)
	}
	c := &Config{}
	if _, err := toml.Decode(text, c); err != nil {
		return nil, fail.Wrap(fail.Usage, err, path, "")
	}
	c.Path = path
	if err := c.fromEnv(os.LookupEnv); err != nil {
		return nil, err
	}
	c.SetDefaults()
	if p := c.problems(); len(p) > 0 {
		return nil, src.error(p)
	}
	if hasPassword(c.Repository.Location) && os.Getenv("OCBACKUP_REPOSITORY") == "" {
		if err := secretfile.Check("the password in repository.location", path); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// problem is one thing that is wrong with the configuration.
type problem struct {
	key  string // the key it is about
	text string // what is wrong with it
	hint string
}

// source is a configuration file in the course of being read.
type source struct {
	path string
	text string
	md   toml.MetaData
}

// check compares all keys of the file with the schema: their names and types.
func (s source) check(raw map[string]any) []problem {
	var out []problem
	seen := map[string]bool{}
	for _, key := range s.md.Keys() {
		name := key.String()
		if seen[name] {
			continue // once per key of an array of tables
		}
		seen[name] = true
		t, known := fieldTypes[name]
		if !known {
			if _, parent := fieldTypes[strings.Join(key[:len(key)-1], ".")]; len(key) > 1 && !parent {
				continue // its table has been reported
			}
			out = append(out, unknown(name))
			continue
		}
		for _, v := range values(raw, key) {
			if text := mismatch(name, kindOf(t), v); text != "" {
				out = append(out, problem{key: name, text: text})
				break
			}
		}
	}
	return out
}

// values returns what the key stands for: several values in an array of tables.
func values(v any, key toml.Key) []any {
	if len(key) == 0 {
		return []any{v}
	}
	var out []any
	switch v := v.(type) {
	case map[string]any:
		if next, ok := v[key[0]]; ok {
			out = values(next, key[1:])
		}
	case []map[string]any:
		for _, e := range v {
			out = append(out, values(e, key)...)
		}
	}
	return out
}

// mismatch says why v is no value of kind k, which is that of the key or table with
// that name; empty when it is one.
func mismatch(name string, k kind, v any) string {
	ok := true
	switch k {
	case kindString:
		_, ok = v.(string)
	case kindBool:
		_, ok = v.(bool)
	case kindInt:
		_, ok = v.(int64)
	case kindTable:
		_, ok = v.(map[string]any)
	case kindTables:
		_, ok = v.([]map[string]any)
	case kindDuration:
		var text string
		if text, ok = v.(string); ok {
			if _, err := keyNamed(name).parseDuration(text); err != nil {
				return err.Error()
			}
		}
	case kindStrings:
		var list []any
		list, ok = v.([]any)
		for _, e := range list {
			if _, isText := e.(string); !isText {
				return fmt.Sprintf("expected a %s, found a %s in the list", k, typeName(e))
			}
		}
	}
	if ok {
		return ""
	}
	return fmt.Sprintf("expected %s, found %s", k, typeName(v))
}

// typeName names the type of a decoded TOML value.
func typeName(v any) string {
	switch v.(type) {
	case string:
		return "text"
	case bool:
		return "true or false"
	case int64:
		return "whole number"
	case float64:
		return "number with a fraction"
	case map[string]any:
		return "table"
	case []map[string]any:
		return "list of tables"
	case []any:
		return "list"
	case time.Time:
		return "date or time"
	}
	return fmt.Sprintf("%T", v)
}

func (k Key) parseDuration(s string) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if err != nil {
		return 0, fmt.Errorf("expected a %s, found %q", kindDuration, s)
	}
	if wrong := k.checkDuration(d); wrong != "" {
		return 0, fmt.Errorf("%q %s", s, wrong)
	}
	return d, nil
}

// checkDuration says what is wrong with a value of the key; empty when nothing is.
func (k Key) checkDuration(d time.Duration) string {
	switch {
	case k.Zero && d < 0:
		return "is less than 0"
	case !k.Zero && d <= 0:
		return "must be more than 0"
	}
	return ""
}

// unknown reports a key that is not in the schema, with the nearest one that is.
func unknown(name string) problem {
	p := problem{key: name, text: "there is no such key"}
	var best string
	bestDistance := 1 << 30
	try := func(candidate, shown string) {
		if d := levenshtein.ComputeDistance(strings.ToLower(shown), candidate); d < bestDistance && d <= max(2, len(shown)/3) {
			best, bestDistance = candidate, d
		}
	}
	for known := range fieldTypes {
		if strings.Count(known, ".") == strings.Count(name, ".") {
			try(known, name)
		}
	}
	if best == "" {
		// The right name in the wrong table.
		last := name[strings.LastIndexByte(name, '.')+1:]
		for _, k := range Keys {
			if _, n := k.Table(); n == last {
				best = k.Name
				break
			}
		}
	}
	if best == "" {
		p.hint = "docs/configuration.md lists all keys"
		return p
	}
	p.text += fmt.Sprintf("; did you mean %s?", best)
	if table, _ := (Key{Name: best}).Table(); !strings.HasPrefix(name, table+".") && table != "" {
		p.text = strings.TrimSuffix(p.text, "?") + fmt.Sprintf(" (in the table [%s])?", table)
	}
	return p
}

// error puts problems into one error, each with the place where it is.
func (s source) error(problems []problem) *fail.Error {
	var lines []string
	var hint string
	for _, p := range problems {
		where := s.path
		if line := s.line(p.key); line > 0 {
			where = fmt.Sprintf("%s:%d", s.path, line)
		}
		lines = append(lines, fmt.Sprintf("%s: %s: %s", where, p.key, p.text))
		if hint == "" {
			hint = p.hint
		}
	}
	return fail.New(fail.Usage, strings.Join(lines, "\n"), hint)
}

// errHere makes decoding stop at the key that is looked for.
var errHere = errors.New("here")

type here struct{}

// UnmarshalTOML fails, and so has the decoder tell the position.
func (here) UnmarshalTOML(any) error { return errHere }

// line returns the line of a key in the file, 0 when it is not in it. The decoder
// tells positions in its errors only, so it is given a type that fails at the key.
func (s source) line(key string) int {
	var path toml.Key
	for _, k := range s.md.Keys() {
		if k.String() == key {
			path = k
		}
	}
	if path == nil {
		return 0
	}
	t := reflect.TypeFor[here]()
	for i := len(path) - 1; i >= 0; i-- {
		t = reflect.StructOf([]reflect.StructField{{Name: "F", Type: t, Tag: reflect.StructTag("toml:" + strconv.Quote(path[i]))}})
		if i > 0 && s.md.Type(path[:i]...) == "ArrayHash" {
			t = reflect.SliceOf(t)
		}
	}
	var pe toml.ParseError
	if _, err := toml.Decode(s.text, reflect.New(t).Interface()); errors.As(err, &pe) {
		return pe.Position.Line
	}
	return 0
}

// fromEnv applies the variables that override keys.
func (c *Config) fromEnv(lookup func(string) (string, bool)) error {
	for _, k := range Keys {
		text, set := lookup(k.Env)
		if table, _ := k.Table(); k.Env == "" || !set || text == "" || !c.has(table) {
			continue
		}
		v := k.value(c)
		switch kindOf(v.Type()) {
		case kindDuration:
			d, err := k.parseDuration(text)
			if err != nil {
				return fail.Wrap(fail.Usage, err, "environment variable "+k.Env, "")
			}
			v.SetInt(int64(d))
		default:
			v.SetString(text)
		}
		switch k.Name {
		// One source of the password takes the place of another.
		case "repository.password_file":
			c.Repository.PasswordCommand = ""
		case "repository.password_command":
			c.Repository.PasswordFile = ""
		// And one driver that of another.
		case "snapshot.driver":
			if c.Snapshot.Driver != snapshot.Command {
				c.Snapshot = snapshot.Config{Driver: c.Snapshot.Driver, Keep: c.Snapshot.Keep, LVMSize: c.Snapshot.LVMSize}
			}
		}
	}
	return nil
}
