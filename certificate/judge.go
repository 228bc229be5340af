package certificate

import (
	"cmp"
	"context"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/ocbackup/ocbackup/catalog"
	"github.com/ocbackup/ocbackup/shellword"
)

// Options say how a catalog is judged.
type Options struct {
	// Catalog is the digest of the catalog, for the record.
	Catalog string
	// MaybeBlob tells whether what the backup holds at a place can be the content of a
	// node: only that is called an orphan. Nil: all of it can.
	MaybeBlob func(at string) bool
	// Accepted lists losses that are known and can't be mended, as SPACE:/path: they are not
	// fatal. What is below a path, its versions and what was deleted there go with it.
	Accepted []string
	// OnProgress, which may be nil, is told now and then how many nodes were judged.
	OnProgress func(nodes uint64)
}

// How many findings a certificate lists, and how many of them may be orphans.
const (
	maxFindings = 1000
	maxOrphans  = 20
)

// Judge joins a catalog with what the backup holds. It marks in h what nodes have: h is
// for one Judge only. An error says that it could not be done, not that something is lost.
func Judge(ctx context.Context, set string, c *catalog.File, h *Holdings, o Options) (*Certificate, error) {
	spaces, err := c.Spaces()
	if err != nil {
		return nil, err
	}
	j := &judge{
		h: h, spaces: make(map[string]*catalog.Space, len(spaces)), accepted: acceptedOf(o.Accepted),
		cert: &Certificate{Format: Format, Set: set, Judged: time.Now().UTC().Truncate(time.Second), Catalog: o.Catalog, Classes: map[Class]Tally{}},
	}
	for i := range spaces {
		j.spaces[spaces[i].ID] = &spaces[i]
		j.space(&spaces[i])
	}
	j.cert.Spaces = uint64(len(spaces))
	for n, err := range c.All() {
		if err != nil {
			return nil, err
		}
		if j.cert.Nodes%4096 == 0 && o.OnProgress != nil {
			o.OnProgress(j.cert.Nodes)
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		j.node(n)
	}
	if err := j.orphans(o.MaybeBlob); err != nil {
		return nil, err
	}
	j.finish()
	return j.cert, nil
}

type judge struct {
	h        *Holdings
	cert     *Certificate
	spaces   map[string]*catalog.Space // by id
	accepted accepted
	// What is listed of the findings: fatal ones and others, up to maxFindings each.
	fatal, other, orphaned []Finding
	// found is how many findings there are in all, orphans left out.
	found uint64
}

func (j *judge) space(s *catalog.Space) {
	class, fatal, text := OKSize, false, ""
	if p := s.Problem; p != nil {
		class, fatal, text = Class(p.Class), p.Fatal, p.Text
	}
	j.count(class, 0)
	j.cert.Nodes++
	if text != "" || class != OKSize {
		j.add(Finding{Class: class, Fatal: fatal, Space: s.ID, SpaceName: s.Name, Path: "/", Kind: catalog.KindSpace, Node: s.ID, Text: text})
	}
}

func (j *judge) node(n *catalog.Node) {
	class, text := j.blob(n)
	fatal := text != ""
	if n.Pending != "" {
		class, fatal, text = Pending, false, "OpenCloud was still processing the upload "+n.Pending
	}
	if p := n.Problem; p != nil {
		switch {
		case fatal:
			text += "; " + p.Text
		default:
			class, fatal, text = Class(p.Class), p.Fatal, p.Text
		}
	}
	j.cert.Nodes++
	j.count(class, n.Size)
	if text == "" {
		return
	}
	j.add(Finding{
		Class: class, Fatal: fatal, Space: n.Space, SpaceName: j.spaces[n.Space].Name, Path: n.Path, Kind: n.Kind,
		Version: n.Version, Trash: n.Trash, Node: n.ID, Blob: n.Blob, At: n.At, Text: text,
	})
}

// blob judges the content of a node alone. Without a text it is in order.
func (j *judge) blob(n *catalog.Node) (Class, string) {
	switch {
	case n.Kind == catalog.KindFolder:
		return OKSize, ""
	case n.Size == 0 && n.Blob == "":
		if n.At != "" {
			_, _ = j.h.take(n.At, 0) // so that it is no orphan
		}
		return OKSize, ""
	case n.At == "" && n.Problem != nil:
		return OKSize, "" // the problem tells
	case n.At == "":
		return Missing, "its metadata names no content"
	}
	i, ok := j.h.take(n.At, n.Size)
	if !ok {
		return Missing, "the backup does not hold its content"
	}
	e := j.h.entry(i)
	switch {
	case e.flags&failed != 0:
		return Unreadable, "its content can't be read: " + j.h.failed[i].Error()
	case e.flags&dupe != 0:
		return SizeMismatch, "the backup holds two contents of different sizes for it"
	case e.size < 0:
	case e.size != n.Size:
		return SizeMismatch, fmt.Sprintf("its content has %s bytes, its metadata says %s", humanize.Comma(e.size), humanize.Comma(n.Size))
	}
	if e.hash == 0 {
		return OKSize, ""
	}
	return compare(j.h.hash(e), n)
}

// compare compares the first hash that both sides know.
func compare(k *hashes, n *catalog.Node) (Class, string) {
	for _, x := range []struct {
		name       string
		known      bool
		have, want string
	}{
		{"SHA-1", k.has&1 != 0, hex.EncodeToString(k.sha1[:]), n.SHA1},
		{"MD5", k.has&2 != 0, hex.EncodeToString(k.md5[:]), n.MD5},
	} {
		switch {
		case !x.known || x.want == "":
		case !strings.EqualFold(x.have, x.want):
			return HashMismatch, fmt.Sprintf("the %s of its content is %s, its metadata says %s", x.name, x.have, x.want)
		default:
			return OKHash, ""
		}
	}
	return OKSize, ""
}

func (j *judge) orphans(maybe func(string) bool) error {
	return j.h.each(func(at string, i uint32) {
		e := j.h.entry(i)
		if e.flags&used != 0 || maybe != nil && !maybe(at) {
			return
		}
		j.count(Orphan, max(e.size, 0))
		if len(j.orphaned) < maxOrphans {
			j.orphaned = append(j.orphaned, Finding{Class: Orphan, At: at, Text: "no node has this content"})
		}
	})
}

func (j *judge) count(c Class, size int64) {
	t := j.cert.Classes[c]
	t.Count++
	t.Bytes += uint64(max(size, 0))
	j.cert.Classes[c] = t
}

func (j *judge) add(f Finding) {
	j.found++
	if f.Fatal && j.accepted.has(j.spaces[f.Space], f.Path) {
		f.Fatal, f.Accepted = false, true
		j.cert.Accepted++
	}
	to := &j.other
	if f.Fatal {
		j.cert.Fatal++
		to = &j.fatal
	}
	if len(*to) < maxFindings {
		*to = append(*to, f)
	}
}

// finish lists the findings: fatal ones first, in the order of the catalog, then others.
func (j *judge) finish() {
	bySpace := func(a, b Finding) int { return strings.Compare(a.Space, b.Space) }
	for _, l := range [][]Finding{j.fatal, j.other} {
		slices.SortStableFunc(l, bySpace) // spaces were judged before what is in them
	}
	l := append(j.fatal, j.other...)
	l = l[:min(len(l), maxFindings)]
	j.cert.More = j.found - uint64(len(l))
	j.cert.Findings = append(l, j.orphaned[:min(len(j.orphaned), maxFindings-len(l))]...)
}

// String is the finding in one line.
func (f Finding) String() string {
	where := f.At
	if f.Space != "" {
		where = cmp.Or(f.SpaceName, f.Space) + ":" + f.Path
	}
	where = shellword.Quote(where)
	switch {
	case f.Trash != "":
		where += " (in the trash)"
	case f.Version != "":
		where += " (version " + f.Version + ")"
	}
	s := fmt.Sprintf("%s: %s: %s", where, f.Class, f.Text)
	if f.Accepted {
		s += " (accepted by accept_lost)"
	}
	return s
}

// Line sums the certificate up in a few words.
func (c *Certificate) Line() string {
	nodes := func(n uint64) string {
		if n == 1 {
			return "1 node"
		}
		return humanize.Comma(int64(n)) + " nodes"
	}
	s := fmt.Sprintf("%s in %s", nodes(c.Nodes), plural(c.Spaces, "space"))
	switch {
	case c.Fatal == 0 && c.Accepted == 0:
		s += ", every blob present"
	case c.Fatal == 0:
		s += ", every other blob present"
	default:
		s = fmt.Sprintf("%s of %s have lost data: %s", humanize.Comma(int64(c.Fatal)), nodes(c.Nodes), c.causes())
	}
	if c.Accepted > 0 {
		s += fmt.Sprintf("; %s lost, which accept_lost names", humanize.Comma(int64(c.Accepted)))
	}
	if n := c.Classes[Pending].Count; n > 0 {
		s += fmt.Sprintf("; %s still being processed", plural(n, "upload"))
	}
	return s
}

// causes says of which classes the fatal findings are, the most frequent first, and how
// many of each there are where all of them are listed.
func (c *Certificate) causes() string {
	counts := map[Class]uint64{}
	listed := uint64(0)
	for _, f := range c.Findings {
		if f.Fatal {
			counts[f.Class]++
			listed++
		}
	}
	l := slices.Sorted(maps.Keys(counts))
	slices.SortStableFunc(l, func(a, b Class) int { return cmp.Compare(counts[b], counts[a]) })
	parts := make([]string, len(l))
	for i, k := range l {
		if parts[i] = string(k); listed == c.Fatal {
			parts[i] = fmt.Sprintf("%s %s", humanize.Comma(int64(counts[k])), k)
		}
	}
	return strings.Join(parts, ", ")
}

func plural(n uint64, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return humanize.Comma(int64(n)) + " " + what + "s"
}
