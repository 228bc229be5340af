package config

import (
	"bytes"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/BurntSushi/toml"
)

// Render writes c as a configuration file in which every key is explained. Keys
// that have their default, or no value, are commented out. Load reads the result
// back as an equal configuration. Tables that the storage driver has no use for are
// left out.
func Render(c *Config) []byte {
	defaults := &Config{Name: c.Name}
	defaults.Layout.Driver, defaults.Layout.DataDir = c.Layout.Driver, c.Layout.DataDir
	defaults.Layout.SearchExternal = c.Layout.SearchExternal
	defaults.Control.Type = c.Control.Type
	defaults.SetDefaults()
	defaults.Layout.SearchExternal = false

	var b bytes.Buffer
	for _, t := range Tables {
		if !c.has(t.Name) {
			continue
		}
		if t.Name != "" {
			b.WriteByte('\n')
		}
		comment(&b, t.Doc)
		switch {
		case t.Array:
			renderExtra(&b, c.Extra)
			continue
		case t.Name != "":
			fmt.Fprintf(&b, "[%s]\n", t.Name)
		}
		for _, k := range Keys {
			table, name := k.Table()
			if table != t.Name {
				continue
			}
			b.WriteByte('\n')
			comment(&b, k.Doc)
			if len(k.Values) > 0 {
				comment(&b, "Possible: "+strings.Join(k.Values, ", ")+".")
			}
			v := k.value(c)
			if v.IsZero() || v.Kind() == reflect.Slice && v.Len() == 0 ||
				!k.Required && reflect.DeepEqual(v.Interface(), k.value(defaults).Interface()) {
				fmt.Fprintf(&b, "# %s = %s%s\n", name, k.shown(v, c), k.remark())
				continue
			}
			fmt.Fprintf(&b, "%s = %s\n", name, tomlValue(v))
		}
	}
	return b.Bytes()
}

// shown is the value of a key that is commented out.
func (k Key) shown(v reflect.Value, c *Config) string {
	if !v.IsZero() && v.Kind() != reflect.Slice {
		return tomlValue(v) // the default, spelt out
	}
	if k.Name == "state_dir" && c.Name != "" {
		return tomlValue(reflect.ValueOf(DefaultStateDir + "/" + c.Name))
	}
	if k.Example != "" {
		return k.Example
	}
	return k.Default
}

// remark says what holds where the value shown is an example.
func (k Key) remark() string {
	if k.Example == "" || k.Default == "" || k.Name == "state_dir" {
		return ""
	}
	return "    # default: " + strings.ReplaceAll(k.Default, "`", "")
}

// renderExtra writes the [[extra]] tables, and one in comments that shows how.
func renderExtra(b *bytes.Buffer, extra []Extra) {
	b.WriteString("# [[extra]]\n")
	for _, k := range Keys {
		if table, name := k.Table(); table == "extra" {
			comment(b, "  "+k.Doc)
			fmt.Fprintf(b, "# %s = %s\n", name, k.Example)
		}
	}
	for i := range extra {
		b.WriteString("\n[[extra]]\n")
		v := reflect.ValueOf(&extra[i]).Elem()
		for _, k := range Keys {
			table, name := k.Table()
			if table != "extra" {
				continue
			}
			if f := field(v, name); !f.IsZero() {
				fmt.Fprintf(b, "%s = %s\n", name, tomlValue(f))
			}
		}
	}
}

// tomlValue writes the value of a key.
func tomlValue(v reflect.Value) string {
	if d, ok := v.Interface().(time.Duration); ok {
		return `"` + shortDuration(d) + `"`
	}
	b, err := toml.Marshal(map[string]any{"v": v.Interface()})
	if err != nil {
		panic("config: a value of the schema's types can't be written: " + err.Error())
	}
	return strings.TrimSpace(strings.TrimPrefix(string(b), "v = "))
}

// shortDuration is d without the parts that are 0: "30m" instead of "30m0s".
func shortDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// comment writes text as comment lines of at most 88 characters.
func comment(b *bytes.Buffer, text string) {
	for paragraph := range strings.SplitSeq(text, "\n") {
		indent := paragraph[:len(paragraph)-len(strings.TrimLeft(paragraph, " "))]
		line := "# " + indent
		start := len(line)
		for word := range strings.FieldsSeq(paragraph) {
			if len(line) > start && len(line)+1+len(word) > 88 {
				b.WriteString(line + "\n")
				line = "# " + indent
			}
			if len(line) > start {
				line += " "
			}
			line += word
		}
		b.WriteString(strings.TrimRight(line, " ") + "\n")
	}
}
