package control

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// ReadEnvironmentFiles reads the files that EnvironmentFile= of a unit names, a
// path or a pattern, as NAME=value strings.
func ReadEnvironmentFiles(pattern string) ([]string, error) {
	paths, err := filepath.Glob(pattern)
	if err != nil || len(paths) == 0 {
		paths = []string{pattern}
	}
	var vars []string
	for _, path := range paths {
		b, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("environment file: %w", err)
		}
		vars = append(vars, ParseEnvironment(string(b))...)
	}
	return vars, nil
}

// variableName is what systemd takes for the name of a variable.
var variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// ParseEnvironment parses an environment file as systemd does (systemd.exec(5),
// EnvironmentFile=; parse_env_file_internal in its source): a quote counts at the
// start of a value only, a backslash before a newline joins lines. What is no
// assignment is passed over.
func ParseEnvironment(text string) []string {
	var vars []string
	rest := strings.ReplaceAll(text, "\r", "\n") // systemd takes both for the end of a line
	for rest != "" {
		rest = strings.TrimLeft(rest, " \t\n")
		if strings.HasPrefix(rest, "#") || strings.HasPrefix(rest, ";") {
			_, rest, _ = strings.Cut(rest, "\n")
			continue
		}
		i := strings.IndexAny(rest, "=\n")
		if i < 0 {
			break
		}
		if rest[i] == '\n' {
			rest = rest[i:]
			continue
		}
		name := strings.TrimRight(rest[:i], " \t")
		var value string
		value, rest = environmentValue(rest[i+1:])
		if variableName.MatchString(name) {
			vars = append(vars, name+"="+value)
		}
	}
	return vars
}

// environmentValue reads a value up to the end of its line.
func environmentValue(s string) (value, rest string) {
	var b strings.Builder
	s = strings.TrimLeft(s, " \t")
	// Quoted parts, one after the other; then the rest of the line as it is.
	for s != "" && (s[0] == '"' || s[0] == '\'') {
		s = quotedPart(&b, s)
		s = strings.TrimLeft(s, " \t")
	}
	keep := b.Len() // white space is cut off behind this
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '\n':
			return trimTail(b.String(), keep), s[i:]
		case s[i] == '\\' && i+1 < len(s):
			i++
			if s[i] != '\n' {
				b.WriteByte(s[i])
				keep = b.Len()
			}
		default:
			b.WriteByte(s[i])
		}
	}
	return trimTail(b.String(), keep), ""
}

func trimTail(s string, keep int) string {
	return s[:keep] + strings.TrimRight(s[keep:], " \t")
}

// quotedPart reads the quoted string that s begins with into b and returns what
// follows it.
func quotedPart(b *strings.Builder, s string) string {
	quote := s[0]
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] == quote:
			return s[i+1:]
		case quote == '"' && s[i] == '\\' && i+1 < len(s):
			i++
			if s[i] == '\n' {
				continue
			}
			if !strings.ContainsRune("\"\\`$", rune(s[i])) {
				b.WriteByte('\\')
			}
			b.WriteByte(s[i])
		default:
			b.WriteByte(s[i])
		}
	}
	return ""
}

// SplitQuoted splits a list as systemctl prints it (Environment=): words apart by
// spaces, in double quotes with backslashes where they need them, or as $'...'
// with the escapes of C.
func SplitQuoted(s string) []string {
	var words []string
	for s = strings.TrimLeft(s, " "); s != ""; s = strings.TrimLeft(s, " ") {
		var b strings.Builder
		switch {
		case s[0] == '"' || s[0] == '\'':
			s = quotedPart(&b, s)
		case strings.HasPrefix(s, "$'"):
			s = cQuotedPart(&b, s[2:])
		default:
			var word string
			word, s, _ = strings.Cut(s, " ")
			b.WriteString(word)
		}
		words = append(words, b.String())
	}
	return words
}

// cQuotedPart reads a string with the escapes of C up to its closing quote into b
// and returns what follows it.
func cQuotedPart(b *strings.Builder, s string) string {
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '\'':
			return s[i+1:]
		case s[i] == '\\' && i+1 < len(s):
			i++
			if at := strings.IndexByte("abfnrtv", s[i]); at >= 0 {
				b.WriteByte("\a\b\f\n\r\t\v"[at])
			} else {
				b.WriteByte(s[i])
			}
		default:
			b.WriteByte(s[i])
		}
	}
	return ""
}
