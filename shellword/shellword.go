// Package shellword writes texts so that they can be pasted into a shell, and so that they
// can do no harm to a terminal.
package shellword

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Plain are the bytes that mean nothing to a shell, wherever they stand.
const Plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+./:,@%="

// Quote writes a text so that a shell takes it as one word: as it is where that will
// do, else in '…', and as $'…' (bash, zsh, ksh) where it has characters that a terminal
// would not show as they are, or is no UTF-8.
func Quote(s string) string {
	if s == "" {
		return "''"
	}
	simple, visible := true, utf8.ValidString(s)
	for _, r := range s {
		if r < utf8.RuneSelf && strings.IndexByte(Plain, byte(r)) < 0 || r >= utf8.RuneSelf && !unicode.IsLetter(r) && !unicode.IsDigit(r) {
			simple = false
		}
		if !unicode.IsPrint(r) {
			visible = false
		}
	}
	switch {
	case visible && simple:
		return s
	case visible:
		return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
	}
	var b strings.Builder
	b.WriteString("$'")
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		switch {
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t':
			b.WriteString(`\t`)
		case r == '\'' || r == '\\':
			b.WriteString(`\` + s[:n])
		case r == utf8.RuneError && n == 1, !unicode.IsPrint(r):
			for i := range n {
				fmt.Fprintf(&b, `\x%02x`, s[i])
			}
		default:
			b.WriteString(s[:n])
		}
		s = s[n:]
	}
	return b.String() + "'"
}

// Visible is Quote for what is only read, not pasted: quoted where it has characters
// that a terminal would not show as they are.
func Visible(s string) string {
	if !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return Quote(s)
	}
	return s
}
