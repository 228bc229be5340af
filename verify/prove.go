package verify

import (
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/dustin/go-humanize"

	"github.com/ocbackup/ocbackup/catalog"
	"github.com/ocbackup/ocbackup/certificate"
	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/manifest"
	"github.com/ocbackup/ocbackup/opencloud"
	ocnodes "github.com/ocbackup/ocbackup/opencloud/nodes"
)

// prove makes the certificate anew.
func (s *setVerification) prove(ctx context.Context) error {
	m := s.set.Manifest
	if m.Catalog == nil {
		if m.Certificate != nil {
			s.found("its manifest is damaged: it names a certificate and no catalog")
		}
		s.rep.Uncertified = "the set was made without a catalog: files were counted only"
		return nil
	}
	c, err := manifest.OpenCatalog(ctx, s.o.Repo, s.set, "", func(done, total uint64) {
		s.update(fmt.Sprintf("catalog, %s of %s", humanize.IBytes(done), humanize.IBytes(total)))
	})
	if err != nil {
		if unknown(ctx, err) {
			return s.o.Repo.Failure(err, "read the catalog of set "+s.set.ID)
		}
		if fail.CodeOf(err) == fail.Usage { // of a format that a later version writes
			s.rep.Uncertified = err.Error()
			return nil
		}
		s.found("its catalog can't be used: %v", err)
		return nil
	}
	defer c.Close() //nolint:errcheck // it was only read
	if err := c.Check(*m.Catalog); local(err) {
		return fail.Wrap(fail.Failed, err, "read the catalog of set "+s.set.ID, "it is a temporary file, below $TMPDIR")
	} else if err != nil {
		s.found("its catalog can't be used: %v", err)
		return nil
	}
	if !holdsContents(m) {
		s.rep.Uncertified = "the set does not hold both metadata and contents"
		return nil
	}
	if err := s.bucket(ctx); err != nil {
		return err
	}
	if err := s.contents(ctx, c); err != nil {
		return err
	}
	s.update("certificate")
	if err := s.otherwise(c); err != nil {
		return err
	}
	if s.blobs != nil {
		s.blobs.blobs(s.h)
	}
	lost, err := nodes(ctx, c, s.blobs, s.meta, s.h)
	if err == nil {
		s.rep.Certificate, err = certificate.Judge(ctx, s.set.ID, c, s.h, certificate.Options{
			Catalog:   m.Catalog.Digest,
			Accepted:  m.AcceptLost,
			MaybeBlob: func(at string) bool { return ocnodes.HoldsBlob(c.Driver(), at) },
			OnProgress: func(n uint64) {
				s.update(fmt.Sprintf("certificate, %s of %s nodes", humanize.Comma(int64(n)), humanize.Comma(int64(m.Catalog.Nodes()))))
			},
		})
	}
	if err != nil {
		return err
	}
	add(s.rep.Certificate, lost)
	return nil
}

// holdsContents tells whether a set holds the contents of nodes, by what it stores and not
// by whether it was certified.
func holdsContents(m *manifest.Manifest) bool {
	return m.Bucket != nil || slices.ContainsFunc(m.Roots, func(r manifest.Root) bool { return r.Has(opencloud.Blobs) })
}

// add adds fatal findings to a certificate, before the others.
func add(c *certificate.Certificate, lost []certificate.Finding) {
	const most = 1000 // as Judge lists
	for i := range lost {
		t := c.Classes[lost[i].Class]
		t.Count++
		c.Classes[lost[i].Class] = t
	}
	c.Fatal += uint64(len(lost))
	all := append(lost, c.Findings...)
	c.Findings = all[:min(len(all), most)]
	c.More += uint64(len(all) - len(c.Findings))
}

// bucket tells the certificate which objects the backup holds, and reads a part of them.
func (s *setVerification) bucket(ctx context.Context) error {
	if s.set.Manifest.Bucket == nil || s.noInventory[s.set.ID] != nil {
		return nil
	}
	s.update("objects")
	err := s.inventory(ctx, s.set, func(in io.Reader) error { return s.objects.hold(in, s.set.Manifest, s.h) })
	if err != nil {
		return s.o.Repo.Failure(err, "read the inventory of set "+s.set.ID)
	}
	if !s.objects.here(s.set.Manifest) {
		where := "the pool, which could not be"
		if s.objects.pool != nil {
			where = "another pool (" + s.set.Manifest.Bucket.Pool.Location + "), which was not"
		}
		s.rep.Uncertified = "its objects are in " + where + " looked at: the certificate is by the set's inventory alone"
	}
	if !s.o.Part.contents() || !s.objects.here(s.set.Manifest) {
		return nil
	}
	s.faults = map[string]fault{}
	s.unread = s.inventory(ctx, s.set, func(in io.Reader) error {
		var err error
		s.rep.Read, s.rep.ReadBytes, err = s.objects.readPart(ctx, in, s.o.Part, s.h, s.faults, s.verification.rep, s.update)
		return err
	})
	return nil
}

// otherwise tells the certificate what objects hold that have other content than was
// stored: where it is the inventory that the metadata belie, that tells already.
func (s *setVerification) otherwise(c *catalog.File) error {
	if len(s.faults) == 0 {
		return nil
	}
	for n, err := range c.All() {
		if err != nil {
			return err
		}
		f, ok := s.faults[n.At]
		if ok && (n.SHA1 == "" || f.stored.SHA1 == "" || n.SHA1 == f.stored.SHA1) {
			s.h.Read(n.At, f.is)
		}
	}
	return nil
}

// contents reads a part of the contents that the repository holds.
func (s *setVerification) contents(ctx context.Context, c *catalog.File) error {
	if !s.o.Part.contents() || s.blobs == nil {
		return nil
	}
	r := &contents{
		repo: s.o.Repo, root: s.blobs.root, catalog: c, part: s.o.Part, h: s.h, update: s.update,
		damaged: !s.blobs.empty(),
	}
	if err := r.read(ctx); err != nil {
		return s.o.Repo.Failure(err, "read the contents of set "+s.set.ID)
	}
	s.rep.Read, s.rep.ReadBytes = r.files, r.bytes
	if r.unread > 0 {
		s.found("%s contents were not read: too much around them is damaged", humanize.Comma(int64(r.unread)))
	}
	return nil
}
