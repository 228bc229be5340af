package config

import (
	"os"
	"regexp"
	"strings"
)

var envName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// ReadEnvFile reads a file of NAME=value lines as ParseEnvFile does.
func ReadEnvFile(path string) (map[string]string, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return ParseEnvFile(string(b)), nil
}

// ParseEnvFile reads NAME=value lines by the rules of systemd's EnvironmentFile=
// (systemd.exec(5); src/basic/env-file.c): comments with # and ;, single and double
// quotes, backslash escapes and continued lines. Like systemd it skips what is no
// valid assignment, and takes the last of several.
func ParseEnvFile(text string) map[string]string {
	p := envParser{vars: map[string]string{}, state: (*envParser).preKey}
	for _, c := range text {
		if c == '\r' {
			c = '\n' // systemd takes both for the end of a line
		}
		p.state(&p, c)
	}
	p.state(&p, '\n')
	p.push() // an unclosed quote at the end of the file
	return p.vars
}

// envParser is the state machine of systemd: state takes the next character and
// sets the state for the one after it.
type envParser struct {
	vars       map[string]string
	state      func(*envParser, rune)
	key, value strings.Builder
	// bare is how much of value is left when trailing blanks are cut off: those in
	// quotes or escaped stay.
	bare int
	open bool // between = and the end of the value
}

func (p *envParser) preKey(c rune) {
	switch {
	case c == '#' || c == ';':
		p.state = (*envParser).comment
	case !isBlank(c):
		p.key.Reset()
		p.key.WriteRune(c)
		p.state = (*envParser).inKey
	}
}

func (p *envParser) inKey(c rune) {
	switch c {
	case '\n':
		p.state = (*envParser).preKey
	case '=':
		p.value.Reset()
		p.bare, p.open = 0, true
		p.state = (*envParser).preValue
	default:
		p.key.WriteRune(c)
	}
}

func (p *envParser) preValue(c rune) {
	switch {
	case c == '\n':
		p.push()
	case c == '\'':
		p.state = (*envParser).single
	case c == '"':
		p.state = (*envParser).double
	case c == '\\':
		p.state = (*envParser).escaped
	case !isBlank(c):
		p.write(c)
		p.state = (*envParser).inValue
	}
}

func (p *envParser) inValue(c rune) {
	switch {
	case c == '\n':
		p.push()
	case c == '\\':
		p.state = (*envParser).escaped
	case isBlank(c):
		p.value.WriteRune(c)
	default:
		p.write(c)
	}
}

func (p *envParser) escaped(c rune) {
	p.state = (*envParser).inValue
	if c != '\n' {
		p.write(c)
	}
}

func (p *envParser) single(c rune) {
	if c == '\'' {
		p.state = (*envParser).preValue
		return
	}
	p.write(c)
}

func (p *envParser) double(c rune) {
	switch c {
	case '"':
		p.state = (*envParser).preValue
	case '\\':
		p.state = (*envParser).doubleEscaped
	default:
		p.write(c)
	}
}

func (p *envParser) doubleEscaped(c rune) {
	p.state = (*envParser).double
	switch {
	case strings.ContainsRune("\"\\`$", c):
		p.write(c)
	case c != '\n':
		p.write('\\')
		p.write(c)
	}
}

func (p *envParser) comment(c rune) {
	if c == '\n' {
		p.state = (*envParser).preKey
	}
}

// write adds a character that is kept even at the end of the value.
func (p *envParser) write(c rune) {
	p.value.WriteRune(c)
	p.bare = p.value.Len()
}

// push ends the assignment.
func (p *envParser) push() {
	p.state = (*envParser).preKey
	key := strings.TrimRight(p.key.String(), " \t")
	if p.open && envName.MatchString(key) {
		p.vars[key] = p.value.String()[:p.bare]
	}
	p.open = false
}

func isBlank(c rune) bool { return c == ' ' || c == '\t' || c == '\n' }
