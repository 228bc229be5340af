package browse

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/ocbackup/ocbackup/shellword"
)

// Line is a command line of bash that is being completed, up to the cursor.
type Line struct {
	// Words are the words before the one at the cursor, without their quotes; Current is
	// what that one says so far.
	Words   []string
	Current string

	quote rune // the quote that is open at the cursor
	// keep is how many bytes of Current the shell leaves as they are: it completes from
	// the quote that is open, else from the last of the characters at which it breaks words
	// and that is in no quotes.
	keep int
}

// breaks are the characters at which bash begins a new word for completion, by default.
const breaks = ":=@"

// ParseLine takes a command line apart as bash does. Variables and commands in it stay
// as they are: nothing is run.
func ParseLine(s string) Line {
	var l Line
	var word strings.Builder
	inWord, before := false, 0
	end := func() {
		if inWord {
			l.Words = append(l.Words, word.String())
		}
		word.Reset()
		inWord, l.keep = false, 0
	}
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case l.quote == '\'':
			if c == '\'' {
				l.quote, l.keep = 0, before
			} else {
				word.WriteByte(c)
			}
		case l.quote == '"':
			switch {
			case c == '"':
				l.quote, l.keep = 0, before
			case c == '\\' && i+1 < len(s) && strings.IndexByte("\"\\$`", s[i+1]) >= 0:
				i++
				word.WriteByte(s[i])
			default:
				word.WriteByte(c)
			}
		case c == '\'' || c == '"':
			l.quote, inWord = rune(c), true
			before, l.keep = l.keep, word.Len()
		case c == '\\':
			inWord = true
			if i++; i < len(s) {
				word.WriteByte(s[i])
			}
		case c == ' ' || c == '\t' || c == '\n':
			end()
		case c == ';' || c == '|' || c == '&' || c == '(':
			end()
			l.Words = nil // another command begins
		default:
			inWord = true
			word.WriteByte(c)
			if strings.IndexByte(breaks, c) >= 0 {
				l.keep = word.Len()
			}
		}
	}
	l.Current = word.String()
	return l
}

// Complete writes a candidate for the word at the cursor as the shell is to insert it.
// A candidate that is whole is followed by a space, outside of quotes. ok is false for one that does not
// begin as the word does, or can't be written in the quotes that are open.
func (l Line) Complete(candidate string, whole bool) (text string, ok bool) {
	if !strings.HasPrefix(candidate, l.Current) {
		return "", false
	}
	rest := candidate[l.keep:]
	switch l.quote {
	case '\'':
		text = strings.ReplaceAll(rest, "'", `'\''`)
	case '"':
		text = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "$", `\$`, "`", "\\`").Replace(rest)
	default:
		return escape(rest) + space(whole), true
	}
	// The shell closes the quotes by itself.
	return text, utf8.ValidString(rest) && !strings.ContainsFunc(rest, func(r rune) bool { return !unicode.IsPrint(r) })
}

func space(whole bool) string {
	if whole {
		return " "
	}
	return ""
}

// escape is Quote for a part of a word that is not in quotes.
func escape(s string) string {
	var b strings.Builder
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		switch {
		case r == utf8.RuneError && n == 1 || !unicode.IsPrint(r):
			b.WriteString("$'")
			for i := range n {
				fmt.Fprintf(&b, `\x%02x`, s[i])
			}
			b.WriteString("'")
		case r < utf8.RuneSelf && strings.IndexByte(shellword.Plain, byte(r)) < 0:
			b.WriteString(`\` + s[:n])
		default:
			b.WriteString(s[:n])
		}
		s = s[n:]
	}
	return b.String()
}
