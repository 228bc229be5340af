package nodes

import (
	"strings"

	"github.com/ocbackup/ocbackup/catalog"
)

// troubles gathers what is wrong with one node.
type troubles []catalog.Problem

func (t *troubles) add(class string, fatal bool, format string, args ...any) {
	*t = append(*t, *problem(class, fatal, format, args...))
}

// problem is all of it: fatal when something is, of the class of the first that is.
func (t troubles) problem() *catalog.Problem {
	if len(t) == 0 {
		return nil
	}
	all := t[0]
	texts := make([]string, 0, len(t))
	for _, p := range t {
		if p.Fatal && !all.Fatal {
			all.Class, all.Fatal = p.Class, true
		}
		texts = append(texts, p.Text)
	}
	all.Text = strings.Join(texts, "; ")
	return &all
}
