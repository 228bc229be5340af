package repo

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
)

const nodeLine = `{"name":"report.odt","type":"file","path":"/users/users/alan/report.odt","uid":1000,"gid":1000,"size":52345,"mode":420,` +
	`"permissions":"-rw-r--r--","mtime":"2026-03-04T05:06:07.123456789+01:00","atime":"2026-03-04T05:06:07.123456789+01:00",` +
	`"ctime":"2026-03-04T05:06:07.5Z","inode":1234567,"message_type":"node","struct_type":"node"}`

// slowNode is parseNode by encoding/json alone.
func slowNode(line string) (Node, bool, error) {
	var m struct {
		Node
		Message string `json:"message_type"`
		Struct  string `json:"struct_type"`
	}
	err := json.Unmarshal([]byte(line), &m)
	return m.Node, m.Message == "node" || m.Struct == "node", err
}

func sameAsSlow(t *testing.T, line string) {
	t.Helper()
	n, ok, err := parseNode([]byte(line))
	want, wantOK, wantErr := slowNode(line)
	if (err == nil) != (wantErr == nil) {
		t.Fatalf("%s: %v, encoding/json says %v", line, err, wantErr)
	}
	if err == nil && (ok != wantOK || ok && !reflect.DeepEqual(n, want)) {
		t.Errorf("%s:\n got %+v, %v\nwant %+v, %v", line, n, ok, want, wantOK)
	}
}

func TestParseNode(t *testing.T) {
	with := func(old, new string) string {
		if !strings.Contains(nodeLine, old) {
			t.Fatalf("no %s in the line", old)
		}
		return strings.ReplaceAll(nodeLine, old, new)
	}
	lines := []string{
		nodeLine,
		with(`"message_type":"node",`, ""), with(`"node"`, `"snapshot"`), with(`"size":52345,`, ""),
		with(`report.odt`, `new\nline \"quoted\" back\\slash`), with(`report.odt`, "ü 漢 \U0001F600"), with(`report.odt`, `\ud83d\ude00\u00fc\ufffd`),
		with(`report.odt`, "broken \xff"), with(`report.odt`, "a\tb"), with(`"name":"report.odt"`, `"name":"another"`),
		with(`"size":52345`, `"size":18446744073709551615`), with(`"size":52345`, `"size":18446744073709551616`),
		with(`"size":52345`, `"size":-1`), with(`"size":52345`, `"size":1e3`), with(`"size":52345`, `"size":null`), with(`"size":52345`, `"size":"1"`),
		with(`"size":52345`, `"size":052345`), with(`"uid":1000`, `"uid":4294967296`), with(`"mode":420`, `"mode":2147484141`),
		with(`"type":"file"`, `"type":"chardev"`), with(`"type":"file"`, `"type":"dir"`), with(`"type":"file"`, `"type":null`),
		with(`"mtime":"2026`, `"mtime":"yesterday 2026`), with(`"permissions":"-rw-r--r--"`, `"novelty":{"a":[1,"}"]}`),
		with(`"permissions":"-rw-r--r--"`, `"novelty":true`), with(`"permissions":"-rw-r--r--"`, `"Size":7`), with(`,`, `, `),
		with(`"uid":1000`, `"uid":1000,"uid":7`), nodeLine + " ", nodeLine + "x", nodeLine[:len(nodeLine)-1], `{}`, `{"`, `{"a":`, `{"a":"\`,
	}
	for _, line := range lines {
		sameAsSlow(t, line)
	}
	if _, _, plain := scanNode([]byte(nodeLine)); !plain {
		t.Error("restic's own lines are read the slow way")
	}
}

func FuzzParseNode(f *testing.F) {
	f.Add(nodeLine)
	f.Add(`{"name":"\u00e9\"","size":00,"Path":"x"}`)
	f.Fuzz(func(t *testing.T, line string) {
		if strings.HasPrefix(line, "{") {
			sameAsSlow(t, line)
		}
	})
}

func TestLines(t *testing.T) {
	var got []string
	l := &lines{on: func(line []byte) error {
		got = append(got, string(line))
		return nil
	}}
	for _, p := range []string{"a", "b\n", "c\nd\n\ne", "", "f", "g\nlast"} {
		if n, err := l.Write([]byte(p)); n != len(p) || err != nil {
			t.Fatalf("%q: %d, %v", p, n, err)
		}
	}
	if s := strings.Join(got, "|"); s != "ab|c|d||efg" {
		t.Errorf("lines: %q", s)
	}
}

func BenchmarkLsLines(b *testing.B) {
	line := []byte(nodeLine + "\n")
	for name, parse := range map[string]func([]byte) (Node, bool, error){
		"by hand": parseNode,
		"json":    func(l []byte) (Node, bool, error) { return slowNode(string(l)) },
	} {
		b.Run(name, func(b *testing.B) {
			w := &lines{on: func(l []byte) error {
				_, _, err := parse(l)
				return err
			}}
			b.SetBytes(int64(len(line)))
			for b.Loop() {
				if _, err := w.Write(line); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "lines/s")
		})
	}
}
