package verify

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/dustin/go-humanize"

	"github.com/ocbackup/ocbackup/certificate"
	"github.com/ocbackup/ocbackup/holdings"
	"github.com/ocbackup/ocbackup/manifest"
	"github.com/ocbackup/ocbackup/opencloud"
	"github.com/ocbackup/ocbackup/proc"
	"github.com/ocbackup/ocbackup/progress"
	"github.com/ocbackup/ocbackup/repo"
	"github.com/ocbackup/ocbackup/s3mirror"
)

// verification is a Run under way.
type verification struct {
	o       Options
	rep     *Report
	broken  broken
	objects *objects
	// noInventory is why the inventory of a set can't be used.
	noInventory map[string]error
}

// inventories reads the inventories of sets, of which the pool is asked for what sound
// ones name.
func (v *verification) inventories(ctx context.Context, sets []manifest.Set) error {
	v.noInventory = map[string]error{}
	for i := range sets {
		s := &sets[i]
		if s.Err != nil || s.Manifest.Bucket == nil {
			continue
		}
		err := v.inventory(ctx, s, func(in io.Reader) error {
			return s3mirror.EachObject(in, "its inventory", func(*s3mirror.Object) error { return nil })
		})
		switch {
		case err == nil:
		case unknown(ctx, err):
			return v.o.Repo.Failure(err, "read the inventory of set "+s.ID)
		default:
			v.noInventory[s.ID] = err
		}
	}
	return nil
}

// inventory reads the inventory of a set.
func (v *verification) inventory(ctx context.Context, s *manifest.Set, read func(io.Reader) error) error {
	in, err := manifest.Inventory(ctx, v.o.Repo, s)
	if err != nil {
		return err
	}
	err = read(in)
	return errors.Join(err, in.Close())
}

// unknown tells whether an error of reading something from the repository says nothing
// about it: the network, a lock, a disk of this host that is full, the end of the context.
func unknown(ctx context.Context, err error) bool {
	if err == nil || lost(err) {
		return false
	}
	var x *proc.ExitError
	return local(err) || ctx.Err() != nil || errors.As(err, &x) || errors.Is(err, repo.ErrLocked) || errors.Is(err, repo.ErrUnreachable) ||
		errors.Is(err, repo.ErrNoRepository) || errors.Is(err, repo.ErrWrongPassword) || errors.Is(err, context.Canceled)
}

// sets verifies the sets. unread is why a part of the pool could not be read.
func (v *verification) sets(ctx context.Context, sets []manifest.Set) (unread, err error) {
	step := v.o.Report.Step("sets")
	var last *certificate.Certificate
	for i := range sets {
		about := ""
		if len(sets) > 1 {
			about = fmt.Sprintf("%d of %d, ", i+1, len(sets))
		}
		s := &setVerification{verification: v, set: &sets[i], rep: SetReport{Set: sets[i].ID}, step: step, about: about + sets[i].ID + ": "}
		err := s.run(ctx)
		if err == nil {
			err = context.Cause(ctx)
		}
		if err != nil {
			step.Fail(err)
			return nil, err
		}
		unread = errors.Join(unread, s.unread)
		v.rep.Sound = v.rep.Sound && s.rep.Sound()
		v.rep.Sets = append(v.rep.Sets, s.rep)
		last = s.rep.Certificate
	}
	bad := 0
	for i := range v.rep.Sets {
		if !v.rep.Sets[i].Sound() {
			bad++
		}
	}
	switch {
	case unread != nil:
		step.Fail(unread)
	case bad > 0 && len(sets) > 1:
		step.Fail(fmt.Errorf("%d of %d are damaged", bad, len(sets)))
	case bad > 0 && last != nil && !last.Sound():
		step.Fail(errors.New(last.Line()))
	case bad > 0:
		step.Fail(errors.New("damaged"))
	case len(sets) == 1 && last != nil:
		step.Done(last.Line() + readText(v.rep.Sets))
	default:
		step.Done(fmt.Sprintf("%d looked at", len(sets)) + readText(v.rep.Sets))
	}
	return unread, nil
}

func readText(sets []SetReport) string {
	var n, bytes uint64
	for i := range sets {
		n += sets[i].Read
		bytes += sets[i].ReadBytes
	}
	if n == 0 {
		return ""
	}
	return fmt.Sprintf("; %s contents read, %s", humanize.Comma(int64(n)), humanize.IBytes(bytes))
}

// setVerification verifies one set.
type setVerification struct {
	*verification
	set    *manifest.Set
	rep    SetReport
	step   progress.Step
	about  string
	unread error // why a part of the pool could not be read
	faults map[string]fault

	h *certificate.Holdings
	// What is damaged of the roots that hold contents and metadata; nil: there is none, or
	// it is gone.
	blobs, meta *damage
}

func (s *setVerification) found(format string, args ...any) {
	s.rep.Findings = append(s.rep.Findings, fmt.Sprintf(format, args...))
}

func (s *setVerification) update(text string) { s.step.Update(s.about + text) }

// run holds what the set says of itself against what the repository and the pool have.
// Its error says that this can't be told right now.
func (s *setVerification) run(ctx context.Context) error {
	if s.set.Err != nil {
		s.found("%v", s.set.Err)
		return nil
	}
	m := s.set.Manifest
	s.rep.Full = m.Full
	if b := m.Bucket; b != nil {
		s.rep.Objects = b.Objects
	}
	if p := m.Certificate; p != nil && p.Fatal > 0 {
		s.rep.LostBefore = p.Fatal
		s.found("%s nodes had lost data when the set was made: it is inconsistent", humanize.Comma(int64(p.Fatal)))
	}
	s.reset()
	defer func() { s.h.Close() }() //nolint:errcheck // a temporary file that is gone already
	if err := s.roots(ctx); err != nil {
		return err
	}
	if s.broken.more {
		s.found("too much of the repository is damaged to tell all files that lie in it: more than those below may be lost")
	}
	if err := s.noInventory[s.set.ID]; err != nil {
		s.found("its inventory of the bucket can't be used: %v", err)
	}
	return s.prove(ctx)
}

func (s *setVerification) reset() {
	if s.h != nil {
		_ = s.h.Close() // a temporary file that is gone already
	}
	s.h = certificate.NewHoldings(s.o.TempDir)
}

// roots lists the roots, and remembers what they hold of the nodes' contents.
func (s *setVerification) roots(ctx context.Context) error {
	r, m := s.o.Repo, s.set.Manifest
	for _, name := range s.set.Missing {
		s.found("root %s: its snapshot is gone from the repository", name)
	}
	for i := range m.Roots {
		root := &m.Roots[i]
		if root.Snapshot == "" || slices.Contains(s.set.Missing, root.Name) {
			continue
		}
		d := newDamage(root)
		begin, take := func() {}, func(repo.Node) {}
		if root.Has(opencloud.Metadata) {
			s.meta = d
		}
		if root.Has(opencloud.Blobs) {
			s.blobs = d
			begin, take = s.reset, func(n repo.Node) { holdings.Add(s.h, root, n) }
		}
		s.update(root.Name)
		var seen uint64
		l, unreadable, err := d.list(ctx, r, begin, func(n repo.Node) {
			take(n)
			if seen++; seen%4096 == 0 && n.Type == "file" {
				s.update(fmt.Sprintf("root %s, %s of %s files", root.Name, humanize.Comma(int64(min(seen, root.Files))), humanize.Comma(int64(root.Files))))
			}
		})
		if err != nil {
			return r.Failure(err, "read the file list of root "+root.Name)
		}
		s.rep.Files += l.files
		s.rep.Bytes += l.bytes
		switch {
		case unreadable > 0:
			s.found("root %s: the lists of %d folders can't be read: %d files were stored, %d can be told", root.Name, unreadable, root.Files, l.files)
		case l.files != root.Files:
			s.found("root %s: %d files were stored, the repository has %d", root.Name, root.Files, l.files)
		case root.Has(opencloud.Config) && root.Name == "config" && l.files == 0:
			s.found("root config: it is empty, without opencloud.yaml")
		}
		if err := d.find(ctx, r, s.broken); err != nil {
			return err
		}
		if n := len(d.files); n > 0 {
			s.found("root %s: %d files can't be read in full%s", root.Name, n, d.examples())
		}
	}
	return nil
}
