package control

import (
	"slices"
	"testing"
)

// The file and what systemd 252 makes of it, seen in the environment of a unit.
func TestParseEnvironment(t *testing.T) {
	const file = `# c
F1=plain value # not comment
F2="dq \"x\" \$y \z"
F3='sq \n'
F4=a\
b
; semi
export F5=1
F6="multi
line"
F7=a"b c"d 'e f'
F8 = spaced
no assignment
F9=tr\ ail  
F10=
F11="quoted  "
F12=last`
	equal(t, "variables", ParseEnvironment(file), []string{
		"F1=plain value # not comment", `F2=dq "x" $y \z`, `F3=sq \n`, "F4=ab", "F6=multi\nline",
		`F7=a"b c"d 'e f'`, "F8=spaced", "F9=tr ail", "F10=", "F11=quoted  ", "F12=last",
	})
}

func TestEnvironmentSyntax(t *testing.T) {
	for _, x := range []struct {
		name, text string
		want       []string
	}{
		{"plain", "A=1\nB=two words \n", []string{"A=1", "B=two words"}},
		{"comments", "# A=1\n; B=2\n\n  C=3\n", []string{"C=3"}},
		{"a # inside a value", "A=x # y", []string{"A=x # y"}},
		{"double quotes", `A="a b \"c\" \$d \e"`, []string{`A=a b "c" $d \e`}},
		{"single quotes", `A='a \n "b"  '`, []string{`A=a \n "b"  `}},
		{"quotes in sequence", `A="x "'y'z`, []string{"A=x yz"}},
		{"quotes over lines", "A=\"x\ny\"\nB=1", []string{"A=x\ny", "B=1"}},
		{"continued line", "A=x\\\ny\nB=1", []string{"A=xy", "B=1"}},
		{"escaped", `A=a\ \b\\`, []string{`A=a b\`}},
		{"escaped blank at the end", "A=a\\ \n", []string{"A=a "}},
		{"twice", "A=1\nA=2", []string{"A=1", "A=2"}},
		{"empty", "A=\nB=\"\"", []string{"A=", "B="}},
		{"no assignment", "hello\nexport A=1\n1A=2\nB =3", []string{"B=3"}},
		{"windows", "A=1\r\nB=2\r\n", []string{"A=1", "B=2"}},
		{"unclosed quote", `A="x`, []string{"A=x"}},
	} {
		t.Run(x.name, func(t *testing.T) {
			if got := ParseEnvironment(x.text); !slices.Equal(got, x.want) {
				t.Errorf("%q", got)
			}
		})
	}
}

// What systemctl 252 prints, and the other way of quoting that it has.
func TestSplitQuoted(t *testing.T) {
	equal(t, "words", SplitQuoted(`A=b "C=d e" "Q=say \"hi\" \$x \`+"`y\\`"+` \\ z" "NL=a
b" U=ü $'E=a\nb\'c'`), []string{"A=b", "C=d e", "Q=say \"hi\" $x `y` \\ z", "NL=a\nb", "U=ü", "E=a\nb'c"})
	equal(t, "nothing", SplitQuoted(""), nil)
	for in, want := range map[string][]string{
		`A=1 "B=two words" C=3`:   {"A=1", "B=two words", "C=3"},
		`"A=a\"b" "B=\$x" "C=\\"`: {`A=a"b`, "B=$x", `C=\`},
		`$'A=a\nb' B=`:            {"A=a\nb", "B="},
		`"A=it's" 'B=x y'`:        {"A=it's", "B=x y"},
		``:                        nil,
		`""`:                      {""},
		`"A=unclosed`:             {"A=unclosed"},
	} {
		equal(t, in, SplitQuoted(in), want)
	}
}
