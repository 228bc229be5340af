package catalog

import (
	"encoding/json"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
)

// What is written is read by the fast decoder: a line that falls back to encoding/json
// costs many times as much.
func TestFastDecoderReadsWhatIsWritten(t *testing.T) {
	live, trash := randomTree(rand.New(rand.NewPCG(5, 6)), spaceA, 500)
	fast := 0
	for _, n := range append(live, trash...) {
		line := appendNode(nil, &n, n.Space, "")
		if !json.Valid(line) {
			t.Fatalf("no JSON: %s", line)
		}
		got, inAt, ok := decodeFast(line[:len(line)-1])
		easy := !strings.ContainsAny(n.Path, "\\\"\n\t\x00\x07") && n.Problem == nil && lossy(n.Path) == n.Path
		if !ok && easy {
			t.Errorf("not read fast: %s", line)
		}
		if ok && (inAt || !reflect.DeepEqual(*got, n)) {
			t.Errorf("got\n%+v, want\n%+v", *got, n)
		}
		if easy {
			fast++
		}
	}
	if fast < 20 {
		t.Errorf("only %d lines told anything", fast)
	}
}

func TestDecodeOtherForms(t *testing.T) {
	for name, tc := range map[string]struct {
		line, want string // what is wrong, or empty
	}{
		"unknown field":       {`{"kind":"file","space":"s","path":"/a","size":1,"colour":"red"}`, ""},
		"other order":         {`{"size":1,"path":"/a","space":"s","kind":"file"}`, ""},
		"blanks and escapes":  {` {"kind" : "file", "space":"s", "path":"\u002fa", "size":1 }`, ""},
		"raw":                 {`{"kind":"file","space":"s","path":"/a","raw":"L2E=","size":1}`, ""},
		"raw of another path": {`{"kind":"file","space":"s","path":"/b","raw":"L2E=","size":1}`, "raw"},
		"no kind":             {`{"space":"s","path":"/a","size":1}`, "kind"},
		"kind of tomorrow":    {`{"kind":"link","space":"s","path":"/a","size":1}`, "link"},
		"no space":            {`{"kind":"file","path":"/a","size":1}`, "space"},
		"no path":             {`{"kind":"file","space":"s","size":1}`, "path"},
		"relative path":       {`{"kind":"file","space":"s","path":"a","size":1}`, "path"},
		"number for a name":   {`{"kind":"file","space":"s","path":7,"size":1}`, "path"},
		"size out of range":   {`{"kind":"file","space":"s","path":"/a","size":99999999999999999999}`, "size"},
		"no time":             {`{"kind":"file","space":"s","path":"/a","size":1,"mtime":"yesterday"}`, "yesterday"},
		"torn":                {`{"kind":"file","space":"s","path":"/a","si`, "JSON"},
		"two objects":         {`{"kind":"file","space":"s","path":"/a","size":1}{}`, "after"},
		"nothing":             {``, "JSON"},
		"null":                {`null`, "kind"},
		"a list":              {`[]`, "array"},
	} {
		n, _, err := decode([]byte(tc.line), nil)
		if tc.want != "" {
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%s: %+v, %v", name, n, err)
			}
			continue
		}
		if want := (Node{Kind: KindFile, Space: "s", Path: "/a", Size: 1}); err != nil || !reflect.DeepEqual(*n, want) {
			t.Errorf("%s: %+v, %v", name, n, err)
		}
	}
}

// FuzzDecode: what the fast decoder reads is what encoding/json reads, and what either
// reads survives being written again.
func FuzzDecode(f *testing.F) {
	live, trash := randomTree(rand.New(rand.NewPCG(7, 8)), spaceA, 60)
	for i, n := range append(live, trash...) {
		if i%3 == 0 {
			n.At = n.Path
		}
		line := appendNode(nil, &n, n.Space, "")
		f.Add(line[:len(line)-1])
	}
	f.Add([]byte(`{"kind":"file","space":"s","path":"/a","raw":"L2E=","size":-0,"mtime":"2026-01-01T00:00:00+02:00"}`))
	f.Add([]byte(`{"kind":"space","space":"s","name":"n","dir_raw":"/w==","dir":"\ufffd"}`))
	for _, path := range []string{"/\xff", "/\x01", "/\u00e4", `/\u0061`, `/\`} {
		f.Add([]byte(`{"kind":"file","space":"s","path":"` + path + `","size":1}`))
	}
	for _, size := range []string{"01", "-", "-01", "1.0", "1e3", "null"} {
		f.Add([]byte(`{"kind":"file","space":"s","path":"/a","size":` + size + `}`))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		slow, slowAt, err := decodeAny(line)
		if fast, fastAt, ok := decodeFast(line); ok {
			if err != nil || fastAt != slowAt || !reflect.DeepEqual(fast, slow) {
				t.Fatalf("fast %+v (%t), encoding/json %+v (%t), %v", fast, fastAt, slow, slowAt, err)
			}
		}
		if space, path, ok := quickPath(line); ok && err == nil && slow.Kind != KindSpace && json.Valid(line) && strings.Count(string(line), `"path"`) == 1 {
			if string(space) != slow.Space && strings.Count(string(line), `"space"`) == 1 || string(path) != slow.Path && !strings.Contains(string(line), "raw") {
				t.Fatalf("quickly %q %q, encoding/json %q %q", space, path, slow.Space, slow.Path)
			}
		}
		if err != nil || slow.Kind == KindSpace {
			return
		}
		again := appendNode(nil, slow, slow.Space, slow.At+"-")
		got, inAt, err := decode(again[:len(again)-1], nil)
		if err != nil || !inAt {
			t.Fatalf("%s: %v", again, err)
		}
		if !got.MTime.Equal(slow.MTime) && slow.MTime.UTC().Year() >= 0 && slow.MTime.UTC().Year() <= 9999 {
			t.Fatalf("%v became %v", slow.MTime, got.MTime)
		}
		got.MTime, got.Deleted, slow.MTime, slow.Deleted = at(0), at(0), at(0), at(0)
		if !reflect.DeepEqual(got, slow) {
			t.Fatalf("%+v became %+v", slow, got)
		}
	})
}
