package verify

import (
	"fmt"
	"hash/fnv"
	"regexp"
	"strconv"

	"github.com/ocbackup/ocbackup/fail"
)

// Part is how much of the data is read. The zero value stands for none.
type Part struct {
	// N of T parts; N is 0 for the one that was read longest ago.
	N, T int
	// Percent is a random part of the repository's packs, as restic takes it: "5%".
	Percent string
}

// maxParts is how many parts there can be: restic tells packs apart by their first byte.
const maxParts = 256

var (
	ofParts = regexp.MustCompile(`^([1-9][0-9]{0,3}|next)/([1-9][0-9]{0,3})$`)
	percent = regexp.MustCompile(`^[0-9]{1,3}(\.[0-9]+)?%$`)
)

// ParsePart reads n/t, next/t, x%, or nothing. Its error is a fail.Usage.
func ParsePart(s string) (Part, error) {
	bad := func(why string) (Part, error) {
		return Part{}, fail.Usagef("use for example 1/10, next/10 (the tenth that was read longest ago), or 5%", "--read-data: %q %s", s, why)
	}
	if s == "" {
		return Part{}, nil
	}
	if percent.MatchString(s) {
		if x, err := strconv.ParseFloat(s[:len(s)-1], 64); err != nil || x <= 0 || x > 100 {
			return bad("is more than all, or nothing")
		}
		return Part{Percent: s}, nil
	}
	m := ofParts.FindStringSubmatch(s)
	if m == nil {
		return bad("is no part")
	}
	var p Part
	p.T, _ = strconv.Atoi(m[2]) // digits
	if p.T > maxParts {
		return bad(fmt.Sprintf("has more than %d parts", maxParts))
	}
	if m[1] != "next" {
		if p.N, _ = strconv.Atoi(m[1]); p.N > p.T {
			return bad(fmt.Sprintf("is no part: there are %d", p.T))
		}
	}
	return p, nil
}

// String is how ParsePart takes it.
func (p Part) String() string {
	switch {
	case p.T == 0:
		return p.Percent
	case p.N == 0:
		return fmt.Sprintf("next/%d", p.T)
	}
	return fmt.Sprintf("%d/%d", p.N, p.T)
}

// contents tells whether contents are read too and held against the metadata, not the
// repository's packs alone.
func (p Part) contents() bool { return p.T > 0 }

// holds tells whether something belongs to the part, by its name: each name belongs to
// one of the T parts.
func (p Part) holds(name string) bool {
	h := fnv.New64a()
	_, _ = h.Write([]byte(name)) // a hash takes everything
	return h.Sum64()%uint64(p.T) == uint64(p.N-1)
}
