package commands

import (
	"fmt"
	"io"
	"math"
	"os"
	"slices"

	"golang.org/x/term"

	"github.com/ocbackup/ocbackup/manifest"
)

// trendSets is how many of the newest sets a trend is made of.
const trendSets = 10

// trend is what the downtimes of the newest sets say; docs/json.md describes it.
type trend struct {
	Sets   int     `json:"sets"`
	Median float64 `json:"median_s"`
	Least  float64 `json:"least_s"`
	Most   float64 `json:"most_s"`
	Last   float64 `json:"last_s"`

	each  []float64 // oldest first
	parts manifest.Downtime
}

// trendOf sums up the last sets that had a downtime. It is nil when there is none,
// and when the sets are of several instances, whose downtimes say nothing together.
func trendOf(sets []setView) *trend {
	t := &trend{}
	instance := ""
	for _, s := range sets {
		if s.Parts == nil || s.Downtime <= 0 {
			continue
		}
		if instance != "" && s.Instance != instance {
			return nil
		}
		instance = s.Instance
		t.each = append(t.each, s.Downtime)
		t.parts = *s.Parts
	}
	t.each = t.each[max(0, len(t.each)-trendSets):]
	if t.Sets = len(t.each); t.Sets == 0 {
		return nil
	}
	sorted := slices.Sorted(slices.Values(t.each))
	t.Median = (sorted[(t.Sets-1)/2] + sorted[t.Sets/2]) / 2
	t.Least, t.Most, t.Last = sorted[0], sorted[t.Sets-1], t.each[t.Sets-1]
	return t
}

// printTrend tells the trend in a line, from two sets on; on a terminal with a bar
// for each set.
func printTrend(w io.Writer, sets []setView) {
	t := trendOf(sets)
	if t == nil || t.Sets < 2 {
		return
	}
	bars := ""
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		bars = "  " + t.bars()
	}
	fmt.Fprintf(w, "\nDowntime of the last %d sets: %s median (%s to %s), last %s%s\n",
		t.Sets, seconds(t.Median), seconds(t.Least), seconds(t.Most), seconds(t.Last), bars)
	fmt.Fprintf(w, "The last: %s\n", parts(t.parts))
}

// bars draws the downtimes, beside the longest of them.
func (t *trend) bars() string {
	levels := []rune("▁▂▃▄▅▆▇█")
	var out []rune
	for _, s := range t.each {
		out = append(out, levels[int(math.Round(s/t.Most*float64(len(levels)-1)))])
	}
	return string(out)
}
