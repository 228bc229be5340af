package browse

import (
	"slices"
	"testing"
)

func TestComplete(t *testing.T) {
	for _, tc := range []struct {
		line      string
		words     []string // after the first
		current   string
		candidate string
		whole     bool
		want      string // "": can't be offered
	}{
		{`oc ls `, []string{"ls"}, "", "Marketing:/", false, `Marketing:/`},
		{`oc ls Mark`, []string{"ls"}, "Mark", "Marketing Team:/", false, `Marketing\ Team:/`},
		{`oc ls Sales`, []string{"ls"}, "Sales", "Marketing:/", false, ""},
		// bash takes what is before ":" for a word of its own.
		{`oc ls Marketing:/Of`, []string{"ls"}, "Marketing:/Of", "Marketing:/Offers/", false, `/Offers/`},
		{`oc ls Marketing\ Team:/a:b\ `, []string{"ls"}, "Marketing Team:/a:b ", "Marketing Team:/a:b c.odt", true, `b\ c.odt `},
		{`oc ls 'Marketing Team:/It`, []string{"ls"}, "Marketing Team:/It", "Marketing Team:/It's.odt", true, `Marketing Team:/It'\''s.odt`},
		{`oc ls "Marketing Team:/`, []string{"ls"}, "Marketing Team:/", "Marketing Team:/a$b", true, `Marketing Team:/a\$b`},
		{`oc ls 'Marketing Team:/Offers/'Ma`, []string{"ls"}, "Marketing Team:/Offers/Ma", "Marketing Team:/Offers/May 2026/", false, `Marketing\ Team:/Offers/May\ 2026/`},
		{`oc ls Sales:/'Of "fers"/'Ma`, []string{"ls"}, `Sales:/Of "fers"/Ma`, `Sales:/Of "fers"/May`, true, `/Of\ \"fers\"/May `},
		{`oc ls 'M:/`, []string{"ls"}, "M:/", "M:/a\nb", true, ""},
		{`oc ls M:/`, []string{"ls"}, "M:/", "M:/a\nb\xff", true, `/a$'\x0a'b$'\xff' `},
		{`oc ls 'a b' "c\"d" e\ f x`, []string{"ls", "a b", `c"d`, "e f"}, "x", "xy", true, "xy "},
	} {
		l := ParseLine(tc.line)
		got, ok := l.Complete(tc.candidate, tc.whole)
		if !ok {
			got = ""
		}
		if l.Words[0] != "oc" || !slices.Equal(l.Words[1:], tc.words) || l.Current != tc.current || got != tc.want {
			t.Errorf("%s\n%q %q: %s", tc.line, l.Words, l.Current, got)
		}
	}
	if l := ParseLine("echo a | oc ls M"); len(l.Words) != 2 || l.Words[0] != "oc" {
		t.Errorf("after a pipe: %q", l.Words)
	}
}
