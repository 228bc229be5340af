package control

import "testing"

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
	equal(t, "variables", parseEnvironment(file), []string{
		"F1=plain value # not comment", `F2=dq "x" $y \z`, `F3=sq \n`, "F4=ab", "F6=multi\nline",
		`F7=a"b c"d 'e f'`, "F8=spaced", "F9=tr ail", "F10=", "F11=quoted  ", "F12=last",
	})
}

// What systemctl 252 prints, and the other way of quoting that it has.
func TestSplitQuoted(t *testing.T) {
	equal(t, "words", splitQuoted(`A=b "C=d e" "Q=say \"hi\" \$x \`+"`y\\`"+` \\ z" "NL=a
b" U=ü $'E=a\nb\'c'`), []string{"A=b", "C=d e", "Q=say \"hi\" $x `y` \\ z", "NL=a\nb", "U=ü", "E=a\nb'c"})
	equal(t, "nothing", splitQuoted(""), nil)
}
