package commands

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/dustin/go-humanize/english"
	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/urfave/cli/v2"

	"github.com/ocbackup/ocbackup/bucket"
	"github.com/ocbackup/ocbackup/catalog"
	"github.com/ocbackup/ocbackup/certificate"
	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/manifest"
)

func showCommand() *cli.Command {
	return &cli.Command{
		Name:      "show",
		Usage:     "show one set: what it holds, how it was taken",
		ArgsUsage: "[SET]",
		Description: `SET is an id, a prefix of one, or "latest": the newest from which an instance can be
restored without loss. Without SET it is the newest, also when data of users is missing in it.

With --findings it also lists what is not in order with the set's files, versions and
trash, by space and path: what its certificate says.

EXAMPLES:
   ocbackup show
   ocbackup show --findings
   ocbackup show 20261123
   ocbackup --json show latest | jq .manifest.downtime

` + exitCodes,
		Flags:        append(repositoryFlags(), &cli.BoolFlag{Name: "findings", Usage: "list what the set's certificate found"}),
		OnUsageError: onUsageError,
		Action: func(c *cli.Context) error {
			if c.NArg() > 1 {
				return fail.Usagef("see \"ocbackup show --help\"", "show takes one SET")
			}
			e, r, err := openRepository(c)
			if err != nil {
				return err
			}
			sets, err := readSets(c, e, r)
			if err != nil {
				return err
			}
			set, err := newest(sets, c.Args().First(), r.Host())
			if err != nil {
				return err
			}
			var cert *certificate.Certificate
			if c.Bool("findings") && set.Err == nil {
				if cert, err = manifest.ReadCertificate(c.Context, r, set); err != nil {
					return err
				}
			}
			if e.json {
				return e.printJSON(struct {
					setView
					Manifest *manifest.Manifest       `json:"manifest,omitempty"`
					Proof    *certificate.Certificate `json:"proof,omitempty"`
				}{view(set, e.localCopies()), set.Manifest, cert})
			}
			if set.Err != nil {
				return fail.Wrap(fail.Inconsistent, set.Err, "set "+set.ID, "other sets may be sound: \"ocbackup list\"; \"ocbackup verify\" tells more")
			}
			printSet(e.out, set, e.localCopies())
			printFindings(e.out, cert)
			return nil
		},
	}
}

// newest picks the set that is shown: when none is named the newest that is full, also when
// data of users is missing in it.
func newest(sets []manifest.Set, ref, instance string) (*manifest.Set, error) {
	set, err := manifest.Pick(sets, ref, instance)
	var several *manifest.InstancesError
	if ids := manifest.PassedOver(sets, ref); ref == "" && len(ids) > 0 && !errors.As(err, &several) {
		return manifest.Pick(sets, ids[len(ids)-1], instance)
	}
	return set, err
}

// printFindings lists what a certificate found; nothing without one.
func printFindings(w io.Writer, c *certificate.Certificate) {
	if c == nil {
		return
	}
	fmt.Fprintln(w)
	if len(c.Findings) == 0 {
		fmt.Fprintln(w, "Nothing was found that is not in order.")
	}
	for _, f := range c.Findings {
		weight := ""
		if f.Fatal {
			weight = "LOST  "
		}
		fmt.Fprintln(w, weight+f.String())
	}
	if c.More > 0 {
		fmt.Fprintf(w, "... and %s more\n", humanize.Comma(int64(c.More)))
	}
}

// counts says what a catalog lists.
func counts(c *catalog.Summary) string {
	s := fmt.Sprintf("%s, %s files (%s), %s folders, %s versions (%s)",
		english.Plural(int(c.Spaces), "space", ""), humanize.Comma(int64(c.Files)), humanize.IBytes(c.Bytes),
		humanize.Comma(int64(c.Folders)), humanize.Comma(int64(c.Versions)), humanize.IBytes(c.VersionBytes))
	if c.Trash > 0 {
		s += fmt.Sprintf(", %s in the trash (%s)", humanize.Comma(int64(c.Trash)), humanize.IBytes(c.TrashBytes))
	}
	return s
}

func printSet(w io.Writer, s *manifest.Set, local map[string]time.Time) {
	m, v := s.Manifest, view(s, local)
	line := func(k, format string, args ...any) { fmt.Fprintf(w, "%-14s %s\n", k, fmt.Sprintf(format, args...)) }
	line("set", "%s (%s)", s.ID, v.State)
	line("instance", "%s, on host %s", m.Instance, m.Host)
	line("state of", "%s (%s ago)", m.Frozen.Local().Format(time.DateTime), age(time.Since(m.Frozen)))
	line("OpenCloud", "%s, driver %s", m.OpenCloud, m.Layout.Driver)
	if m.Image != nil {
		line("image", "%s, %s", m.Image.Ref, m.Image.Digest)
	}
	line("taken", "%s, by ocbackup %s with restic %s", m.Taken, m.Tool, m.Restic)
	if !v.Local.IsZero() {
		line("on this host", "its snapshots, until %s at least: a restore from them is fast", v.Local.Local().Format(time.DateTime))
	}
	if m.WasRunning {
		d := m.Downtime
		line("downtime", "%s: %s", seconds(d.Total), parts(d))
		if m.Bucket != nil {
			line("", "of store, the bucket took %s beside the rest, and %s alone", seconds(d.Bucket), seconds(d.BucketAlone))
		}
		if d.Predicted > 0 {
			line("", "predicted: %s", seconds(d.Predicted))
		}
	} else {
		line("downtime", "none: OpenCloud was not running")
	}
	index := string(m.Search.State)
	if m.Search.Docs > 0 {
		index += fmt.Sprintf(", %s documents", humanize.Comma(int64(m.Search.Docs)))
	}
	if m.Search.Detail != "" {
		index += " (" + m.Search.Detail + ")"
	}
	line("search index", "%s", index)
	line("size", "%s in %s files; added %s to the repository", humanize.IBytes(v.Bytes), humanize.Comma(int64(v.Files)), humanize.IBytes(v.Added))
	if b := m.Bucket; b != nil {
		line("bucket", "%s at %s: %s, added %s to the pool", b.Name, b.Endpoint, objects(b.Objects, b.Bytes), objects(b.New, b.NewBytes))
		line("pool", "%s", b.Pool.Location)
		for _, f := range b.Findings {
			line("finding", "%s", bucket.String(f))
		}
	}
	if p := m.Certificate; p != nil {
		line("proven", "%s", proven(p))
	} else {
		line("proven", "no: the set has no certificate")
	}
	if c := m.Catalog; c != nil {
		line("holds", "%s", counts(c))
	}
	for _, n := range m.NotProtected {
		line("not protected", "%s", n)
	}
	fmt.Fprintln(w)
	t := newTable(w)
	t.AppendHeader(table.Row{"ROOT", "COMPONENTS", "FILES", "SIZE", "ADDED", "TAKEN", "SNAPSHOT", "PATH"})
	for _, r := range m.Roots {
		id := r.Snapshot
		if len(id) > 8 {
			id = id[:8]
		}
		if id == "" {
			id = "(was absent)"
		}
		path := r.Path
		if len(r.Command) > 0 {
			path = "(output of a command)"
		}
		t.AppendRow(table.Row{r.Name, joinComponents(r.Components), humanize.Comma(int64(r.Files)), humanize.IBytes(r.Bytes), humanize.IBytes(r.Added), r.Taken, id, path})
	}
	t.Render()
	if v.Error != "" {
		fmt.Fprintln(w, "\n"+v.Error)
	}
}

// parts says what a downtime consists of.
func parts(d manifest.Downtime) string {
	var out []string
	for _, p := range []struct {
		what   string
		took   float64
		always bool
	}{
		{"stop", d.Stop, true},
		{"freeze", d.Freeze, false},
		{"store", d.Store, false},
		{"bucket", d.Bucket, false}, // beside store
		{"start", d.Start, true},
		{"ready", d.Ready, true},
	} {
		if p.always || p.took > 0 {
			out = append(out, p.what+" "+seconds(p.took))
		}
	}
	return strings.Join(out, ", ")
}
