package manifest

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/ocbackup/ocbackup/certificate"
	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/repo"
)

// ReadCertificate reads the certificate of a set, with all its findings.
func ReadCertificate(ctx context.Context, r *repo.Repo, s *Set) (*certificate.Certificate, error) {
	if s.Err != nil {
		return nil, fmt.Errorf("set %s: %w", s.ID, s.Err)
	}
	if s.Manifest.Certificate == nil {
		return nil, fail.Usagef("\"ocbackup verify "+s.ID+"\" tells whether it can be restored", "set %s has no certificate: it does not hold both metadata and contents, or is older than certificates are", s.ID)
	}
	data, err := File(ctx, r, s, certificate.FileName)
	if err != nil {
		return nil, r.Failure(err, "read the certificate")
	}
	var c certificate.Certificate
	if err := json.Unmarshal(data, &c); err != nil {
		return nil, fail.Wrap(fail.Inconsistent, err, "the certificate of set "+s.ID+" is damaged", "\"ocbackup verify "+s.ID+"\" makes it again")
	}
	if c.Format != certificate.Format {
		return nil, fail.Usagef("use the version of ocbackup that made the set: "+s.Manifest.Tool, "the certificate of set %s has format %d; this version of ocbackup reads format %d", s.ID, c.Format, certificate.Format)
	}
	return &c, nil
}
