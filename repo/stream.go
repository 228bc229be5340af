package repo

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// afterExit is how long output may fail to come once restic has ended: something that
// it started keeps the pipe open then.
const afterExit = 5 * time.Second

// stream hands a child's standard output on for as long as somebody takes it. Left to
// os/exec, what is in the pipe when the child ends would be lost whenever it is not
// taken within seconds: a slow reader would be given less than the child wrote, and no error.
type stream struct {
	in, out *os.File
	copied  chan error
	ended   chan struct{} // closed when the child has ended
}

// openStream makes a stream into to; nil stands for none, of which the methods do nothing.
func openStream(to io.Writer) (*stream, error) {
	if to == nil {
		return nil, nil
	}
	in, out, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	s := &stream{in: in, out: out, copied: make(chan error, 1), ended: make(chan struct{})}
	go func() { s.copied <- s.copy(to) }()
	return s, nil
}

// writer is what the child writes to.
func (s *stream) writer() io.Writer {
	if s == nil {
		return nil
	}
	return s.out
}

// finish waits until all has been handed on that a child wrote which has ended.
func (s *stream) finish() error {
	if s == nil {
		return nil
	}
	_ = s.out.Close() // the child has its own
	close(s.ended)
	_ = s.in.SetReadDeadline(time.Now().Add(afterExit)) // for a read that waits already
	err := <-s.copied
	_ = s.in.Close()
	return err
}

func (s *stream) copy(to io.Writer) error {
	buf := make([]byte, 128<<10)
	for {
		select {
		case <-s.ended:
			_ = s.in.SetReadDeadline(time.Now().Add(afterExit))
		default:
		}
		n, err := s.in.Read(buf)
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				_ = s.in.Close() // ends a child that goes on writing
				return nil       // the sink has told why
			}
		}
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, os.ErrDeadlineExceeded):
			return nil
		case err != nil:
			return fmt.Errorf("read its output: %w", err)
		}
	}
}
