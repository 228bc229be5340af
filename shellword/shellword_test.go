package shellword

import (
	"os/exec"
	"strings"
	"testing"
)

// What is printed is pasted into a shell: it must come out of it as it went in.
func TestQuote(t *testing.T) {
	for _, tc := range []struct {
		in, want string
		bash     bool // the form with $'…', which not every sh has
	}{
		{in: "", want: "''"},
		{in: "Marketing:/Offers/offer-2_a+b.odt", want: "Marketing:/Offers/offer-2_a+b.odt"},
		{in: "Ämter:/Übung/日本.odt", want: "Ämter:/Übung/日本.odt"},
		{in: "a b", want: "'a b'"},
		{in: "it's", want: `'it'\''s'`},
		{in: `a\b"c$d` + "`e`", want: `'a\b"c$d` + "`e`'"},
		{in: "~/x", want: "'~/x'"},
		{in: "a*?[x]{y}!#&;|<>()^", want: "'a*?[x]{y}!#&;|<>()^'"},
		{in: "\u2028", bash: true, want: `$'\xe2\x80\xa8'`},
		{in: "an\nname", bash: true, want: `$'an\nname'`},
		{in: "a\tb'c\\d e$f", bash: true, want: `$'a\tb\'c\\d e$f'`},
		{in: "M:/\xff0 \x1b[31m\x7f", bash: true, want: `$'M:/\xff0 \x1b[31m\x7f'`},
		{in: "invoice\u202egpj.exe", bash: true, want: `$'invoice\xe2\x80\xaegpj.exe'`},
		{in: "Ä\n", bash: true, want: `$'Ä\n'`},
	} {
		got := Quote(tc.in)
		if got != tc.want {
			t.Errorf("%q is written %s, want %s", tc.in, got, tc.want)
		}
		shell := "sh"
		if tc.bash {
			shell = "bash"
		}
		out, err := exec.Command(shell, "-c", "printf '%s|' "+got).Output()
		if err != nil || string(out) != tc.in+"|" {
			t.Errorf("%s takes %s for %q, %v", shell, got, out, err)
		}
	}
}

func FuzzQuote(f *testing.F) {
	for _, s := range []string{"a b", "it's", "\xff\n", `\$`, "\u200b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if strings.Contains(s, "\x00") {
			return // no argument can have it
		}
		out, err := exec.Command("bash", "-c", "printf '%s|' "+Quote(s)).Output()
		if err != nil || string(out) != s+"|" {
			t.Errorf("%q is written %s and read %q, %v", s, Quote(s), out, err)
		}
	})
}

func TestVisible(t *testing.T) {
	for in, want := range map[string]string{"Marketing Team": "Marketing Team", "a\x1b[2J": `$'a\x1b[2J'`, "\xff": `$'\xff'`} {
		if got := Visible(in); got != want {
			t.Errorf("%q: %s", in, got)
		}
	}
}
