package commands

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/ocbackup/ocbackup/certificate"
	"github.com/ocbackup/ocbackup/verify"
)

// The screen takes some of the findings, by path, and says how many more there are.
func TestPrintVerify(t *testing.T) {
	c := &certificate.Certificate{Nodes: 5000, Spaces: 1, Fatal: 1234, Classes: map[certificate.Class]certificate.Tally{certificate.Missing: {Count: 1234}}}
	for i := range 1000 {
		c.Findings = append(c.Findings, certificate.Finding{
			Class: certificate.Missing, Fatal: true, Space: "s", SpaceName: "Marketing", Path: fmt.Sprintf("/offers/%d\x1b.odt", i), Text: "it is gone",
		})
	}
	c.Findings = append(c.Findings, certificate.Finding{Class: certificate.Orphan, At: "debris", Text: "no node has it"})
	rep := &verify.Report{Sets: []verify.SetReport{
		{Set: "a", Certificate: c, Read: 3, ReadBytes: 2048},
		{Set: "b", Uncertified: "it was made without a catalog"},
		{Set: "c", Uncertified: "the pool is away", Certificate: &certificate.Certificate{Nodes: 1, Spaces: 1}},
	}}
	var out bytes.Buffer
	printVerify(&out, rep)
	text := out.String()
	for _, want := range []string{
		"a  DAMAGED", "1,234 of 5,000 nodes", `$'Marketing:/offers/0\x1b.odt': missing: it is gone`, "... and 1,214 more", "3 contents, 2.0 KiB",
		"b  sound", "without a catalog", "c  not proven", "the pool is away",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in:\n%s", want, text)
		}
	}
	if n := strings.Count(text, "it is gone"); n != shown || strings.Contains(text, "debris") || strings.ContainsRune(text, '\x1b') {
		t.Errorf("%d findings, want %d, without debris and control characters:\n%s", n, shown, text)
	}
}
