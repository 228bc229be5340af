package repo

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
)

// lines is a writer that hands on what it gets line by line, of any length: a
// status line names every file that is being read.
type lines struct {
	part []byte
	on   func(line []byte) error
}

func (l *lines) Write(p []byte) (int, error) {
	for rest := p; ; {
		i := bytes.IndexByte(rest, '\n')
		if i < 0 {
			l.part = append(l.part, rest...)
			return len(p), nil
		}
		line := rest[:i]
		if len(l.part) > 0 {
			l.part = append(l.part, line...)
			line = l.part
		}
		if err := l.on(line); err != nil {
			return 0, err
		}
		l.part = l.part[:0]
		rest = rest[i+1:]
	}
}

// message is one line of restic's JSON output, of those fields that decide what is
// done with it (doc/075_scripting.rst).
type message struct {
	Type    string          `json:"message_type"`
	Message string          `json:"message"` // of exit_error, and of check's errors
	Error   json.RawMessage `json:"error"`   // of errors: {"message": ...}
	During  string          `json:"during"`  // scan, archival or restore
	Item    string          `json:"item"`
}

// parseMessage reads a line; ok is false when it is not one of restic's messages.
func parseMessage(line []byte) (m message, ok bool) {
	if !bytes.HasPrefix(bytes.TrimSpace(line), []byte("{")) {
		return m, false
	}
	err := json.Unmarshal(line, &m)
	return m, err == nil && m.Type != ""
}

// errorText is what the error field says. Before 0.17 it could be another object.
func (m message) errorText() string {
	var e struct {
		Message string `json:"message"`
	}
	if json.Unmarshal(m.Error, &e) == nil && e.Message != "" {
		return strings.TrimSpace(e.Message)
	}
	if m.Message != "" {
		return strings.TrimSpace(m.Message)
	}
	return string(m.Error)
}

// onMessage returns a line handler that hands on restic's messages of some types
// and lets everything else pass: new types may come with any version.
func onMessage(handlers map[string]func(raw json.RawMessage) error) func([]byte) error {
	return func(line []byte) error {
		m, ok := parseMessage(line)
		if !ok || handlers[m.Type] == nil {
			return nil
		}
		if err := handlers[m.Type](json.RawMessage(line)); err != nil {
			return fmt.Errorf("understand restic's %s message: %w", m.Type, err)
		}
		return nil
	}
}
