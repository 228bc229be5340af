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

	"github.com/ocbackup/ocbackup/certificate"
	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/manifest"
	"github.com/ocbackup/ocbackup/opencloud"
	"github.com/ocbackup/ocbackup/repo"
)

func listCommand() *cli.Command {
	return &cli.Command{
		Name:    "list",
		Aliases: []string{"sets"},
		Usage:   "list the sets in the repository",
		Description: `A set is everything that one backup stored. COMPLETE says whether an instance can be
restored from it: proven (every file, version and trash item has its content), yes (it
could not be told whether they have), LOST (so many have lost it, see "ocbackup show
--findings SET"), no. TAKEN says how its data was read: from snapshots of the file system
(btrfs, zfs, lvm, command), in a final pass while OpenCloud was stopped, or both.

EXAMPLES:
   ocbackup list
   ocbackup list --version 4.0                      sets of OpenCloud 4.0.x
   ocbackup --json list | jq -r '.sets[-1].set'     the newest set's id
   ocbackup --json list | jq .trend                 how long OpenCloud has been away

` + exitCodes,
		Flags:        append(repositoryFlags(), &cli.StringFlag{Name: "version", Usage: "only sets of this OpenCloud `VERSION` (a prefix)"}),
		OnUsageError: onUsageError,
		Action: func(c *cli.Context) error {
			if c.NArg() > 0 {
				return fail.Usagef("see \"ocbackup list --help\"; one set is shown by \"ocbackup show SET\"", "list takes no arguments")
			}
			e, r, err := openRepository(c)
			if err != nil {
				return err
			}
			sets, err := readSets(c, e, r)
			if err != nil {
				return err
			}
			var views []setView
			local := e.localCopies()
			for i := range sets {
				if v := view(&sets[i], local); strings.HasPrefix(v.OpenCloud, c.String("version")) {
					views = append(views, v)
				}
			}
			if e.json {
				return e.printJSON(struct {
					Repository string    `json:"repository"`
					Sets       []setView `json:"sets"`
					Trend      *trend    `json:"trend,omitempty"`
				}{r.Location(), append([]setView{}, views...), trendOf(views)})
			}
			if len(views) == 0 && len(sets) > 0 {
				fmt.Fprintf(e.out, "None of the %d sets is of OpenCloud %s.\n", len(sets), c.String("version"))
				return nil
			}
			printSets(e.out, views, time.Now())
			printTrend(e.out, views)
			return nil
		},
	}
}

// readSets reads all sets, telling that it does: the first time takes a while.
func readSets(c *cli.Context, e *env, r *repo.Repo) ([]manifest.Set, error) {
	if _, err := r.Prepare(c.Context); err != nil {
		return nil, r.Failure(err, "run restic")
	}
	step := quiet(e).Step("read")
	step.Update("reading the sets")
	sets, err := manifest.List(c.Context, r, e.cacheDir())
	var damaged *repo.DamagedSnapshotsError
	if err != nil && !errors.As(err, &damaged) {
		err = r.Failure(err, "read the sets")
		step.Fail(err)
		return nil, err
	}
	step.Skip("")
	if damaged != nil {
		e.log.Warn().Err(err).Msg("the repository is damaged, see \"ocbackup verify\"")
	}
	return sets, nil
}

// setView is a set as list and show tell of it; docs/json.md describes it.
type setView struct {
	Set        string                `json:"set"`
	Instance   string                `json:"instance,omitempty"`
	Frozen     time.Time             `json:"frozen,omitzero"`
	OpenCloud  string                `json:"opencloud,omitempty"`
	Driver     opencloud.Driver      `json:"driver,omitempty"`
	Components []opencloud.Component `json:"components,omitempty"`
	Files      uint64                `json:"files"`
	Bytes      uint64                `json:"bytes"` // of files and the bucket's objects
	Added      uint64                `json:"added"` // in the repository, compressed, and in the pool
	Downtime   float64               `json:"downtime_s"`
	// Parts is nil where OpenCloud was not running.
	Parts *manifest.Downtime `json:"downtime,omitempty"`
	Taken string             `json:"taken,omitempty"`
	// Certificate says how the set's nodes fared; nil of a set that could not be proven.
	Certificate *manifest.Proof `json:"certificate,omitempty"`
	Search      string          `json:"search,omitempty"`
	// Local is the time until which snapshots of the set are kept on this host; zero: none are.
	Local time.Time `json:"local,omitzero"`
	// State is complete, partial (not all components), inconsistent (data of users was lost
	// already when it was made), broken (snapshots are gone) or damaged (the manifest can't
	// be read).
	State string `json:"state"`
	Error string `json:"error,omitempty"`
}

// The states of a set.
const (
	setComplete     = "complete"
	setPartial      = "partial"
	setInconsistent = "INCONSISTENT"
	setBroken       = "BROKEN"
	setDamaged      = "DAMAGED"
)

// view says of a set what there is to say. local is what localCopies returned.
func view(s *manifest.Set, local map[string]time.Time) setView {
	v := setView{Set: s.ID, Local: local[s.ID]}
	if s.Err != nil {
		v.State, v.Error = setDamaged, s.Err.Error()
		return v
	}
	m := s.Manifest
	v.Instance, v.Frozen, v.OpenCloud, v.Driver = m.Instance, m.Frozen, m.OpenCloud, m.Layout.Driver
	v.Components, v.Downtime, v.Taken, v.Search = m.Components, m.Downtime.Total, m.Taken, string(m.Search.State)
	v.Certificate = m.Certificate
	if m.WasRunning {
		v.Parts = &m.Downtime
	}
	for _, r := range m.Roots {
		v.Files += r.Files
		v.Bytes += r.Bytes
		v.Added += r.Added
	}
	if b := m.Bucket; b != nil {
		v.Bytes += b.Bytes
		v.Added += b.NewBytes
	}
	switch {
	case len(s.Missing) > 0:
		v.State, v.Error = setBroken, "snapshots are gone: "+strings.Join(s.Missing, ", ")
	case s.Inconsistent():
		v.State = setInconsistent
	case !m.Full:
		v.State = setPartial
	default:
		v.State = setComplete
	}
	return v
}

func printSets(w io.Writer, sets []setView, now time.Time) {
	if len(sets) == 0 {
		fmt.Fprintln(w, "There are no sets yet. Make one with \"ocbackup backup\".")
		return
	}
	t := newTable(w)
	t.AppendHeader(table.Row{"SET", "AGE", "SIZE", "ADDED", "DOWNTIME", "TAKEN", "VERSION", "INDEX", "COMPLETE"})
	local := false
	for _, s := range sets {
		if s.State == setDamaged {
			t.AppendRow(table.Row{s.Set, "", "", "", "", "", "", "", s.State})
			continue
		}
		taken := strings.ReplaceAll(s.Taken, " pass", "")
		if !s.Local.IsZero() {
			taken, local = taken+" *", true
		}
		state := s.State
		switch s.State {
		case setComplete:
			state = "yes"
			if s.Certificate != nil {
				state = "proven"
			}
		case setInconsistent:
			state = humanize.Comma(int64(s.Certificate.Fatal)) + " LOST"
		case setPartial:
			state = "no: only " + joinComponents(s.Components)
		}
		t.AppendRow(table.Row{
			s.Set, age(now.Sub(s.Frozen)), humanize.IBytes(s.Bytes), humanize.IBytes(s.Added),
			seconds(s.Downtime), taken, s.OpenCloud, s.Search, state,
		})
	}
	t.Render()
	if local {
		fmt.Fprintln(w, "* Its snapshots are still on this host: a restore from them is fast.")
	}
	for _, s := range sets {
		if s.Error != "" {
			fmt.Fprintf(w, "%s: %s\n", s.Set, s.Error)
		}
	}
}

// proven says of a certificate what there is to say in a line.
func proven(p *manifest.Proof) string {
	s := humanize.Comma(int64(p.Nodes)) + " nodes"
	switch {
	case p.Fatal == 0 && p.Accepted == 0:
		s += ", every blob present"
	case p.Fatal == 0:
		s += fmt.Sprintf(", every blob present but for %s (accept_lost)", english.Plural(int(p.Accepted), "accepted loss", "accepted losses"))
	default:
		s += fmt.Sprintf(", OF %s THE DATA IS LOST", humanize.Comma(int64(p.Fatal)))
	}
	for _, c := range []struct {
		class certificate.Class
		text  string
	}{
		{certificate.OKHash, "%s with its hash"},
		{certificate.Pending, "%s still being uploaded"},
		{certificate.Orphan, "%s blobs of no node"},
	} {
		if n := p.Classes[c.class].Count; n > 0 {
			s += ", " + fmt.Sprintf(c.text, humanize.Comma(int64(n)))
		}
	}
	if n := p.Findings; n > p.Fatal {
		s += ", " + english.Plural(int(n-p.Fatal), "finding", "") + " of less weight"
	}
	return s
}

// age shows how old something is, in its two largest units at the most.
func age(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%d s", int(max(d, 0).Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", int(d.Hours()))
	default:
		return fmt.Sprintf("%d d", int(d.Hours()/24))
	}
}
