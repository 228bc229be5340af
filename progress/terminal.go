package progress

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"
)

// Rules of the terminal: everything goes to standard error; a finished step is one
// line that stays; the step under way is one line that is redrawn at most ten
// times a second and never longer than the window; nothing is printed twice.

// redraw is the shortest time between two drawings of the live line.
const redraw = 100 * time.Millisecond

// Terminal returns a Reporter for a person at a terminal. fd is the terminal's
// file descriptor, asked for its width.
func Terminal(w io.Writer, fd int) Reporter { return &terminal{w: w, fd: fd} }

type terminal struct {
	mu   sync.Mutex
	w    io.Writer
	fd   int
	live string // what the live line shows now
}

func (t *terminal) Step(name string) Step {
	s := &termStep{t: t, name: name, start: time.Now()}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.draw(s.text("..", ""))
	return s
}

func (t *terminal) Note(text string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	live := t.live
	t.clear()
	fmt.Fprintln(t.w, text)
	t.draw(live)
}

// draw shows a live line in the place of the last one.
func (t *terminal) draw(line string) {
	if line == "" {
		return
	}
	if width, _, err := term.GetSize(t.fd); err == nil && width > 4 {
		if r := []rune(line); len(r) >= width {
			line = string(r[:width-4]) + "..."
		}
	}
	t.clear()
	fmt.Fprint(t.w, line)
	t.live = line
}

// clear takes the live line away.
func (t *terminal) clear() {
	if t.live != "" {
		fmt.Fprint(t.w, "\r\x1b[K")
		t.live = ""
	}
}

type termStep struct {
	t     *terminal
	name  string
	start time.Time
	drawn time.Time
}

func (s *termStep) text(mark, text string) string {
	return fmt.Sprintf("  %-8s %-4s %s", s.name, mark, text)
}

func (s *termStep) Update(text string) {
	s.t.mu.Lock()
	defer s.t.mu.Unlock()
	if time.Since(s.drawn) < redraw {
		return
	}
	s.drawn = time.Now()
	s.t.draw(s.text("..", text))
}

func (s *termStep) end(mark, text string) {
	s.t.mu.Lock()
	defer s.t.mu.Unlock()
	s.t.clear()
	if text == "" {
		return
	}
	fmt.Fprintln(s.t.w, strings.TrimRight(s.text(mark, text), " "))
}

func (s *termStep) Done(summary string) { s.end("ok", summary) }
func (s *termStep) Skip(reason string)  { s.end("-", reason) }
func (s *termStep) Fail(err error)      { s.end("FAIL", firstLine(err)) }

// firstLine keeps a step's line one line; the whole error is shown at the end.
func firstLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line
}
