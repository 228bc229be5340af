package extract

import (
	"context"
	"io"
)

// stdout takes one file as it comes: whether it was what the metadata says is known
// only at its end.
type stdout struct{ to io.Writer }

func (s *stdout) begin(context.Context) error                     { return nil }
func (s *stdout) folder(context.Context, *item) error             { return nil }
func (s *stdout) create(_ context.Context, _ *item) (file, error) { return s, nil }
func (s *stdout) Write(b []byte) (int, error)                     { return s.to.Write(b) }
func (s *stdout) commit() error                                   { return nil }
func (s *stdout) discard()                                        {}
func (s *stdout) finish() error                                   { return nil }
func (s *stdout) close()                                          {}
func (s *stdout) parallel() int                                   { return 1 }
