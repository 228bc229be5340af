package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// The writer uploads a small set of files in turn, each upload numbered. Uploads
// follow each other, so a copy of one moment holds, with the newest number that is
// in it, all those before it.

const (
	slots    = 8
	slotSize = 4 << 10
	interval = 200 * time.Millisecond
)

type writer struct {
	c      *client
	folder string
	seq    uint64
}

// newWriter goes on after the newest number that the server has, with a first
// round where there is none.
func newWriter(ctx context.Context, c *client) (*writer, error) {
	id, err := c.personal(ctx, admin)
	if err != nil {
		return nil, err
	}
	w := &writer{c: c, folder: space(id) + "/standin"}
	if _, err := c.do(ctx, admin, "MKCOL", w.folder, "", http.StatusCreated, http.StatusMethodNotAllowed); err != nil {
		return nil, err
	}
	have := 0
	for slot := range slots {
		b, err := c.get(ctx, admin, w.path(uint64(slot)))
		if err != nil {
			continue
		}
		seq, err := contentSeq(b)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", w.path(uint64(slot)), err)
		}
		w.seq = max(w.seq, seq)
		have++
	}
	for ; have < slots; have++ {
		if err := w.write(ctx); err != nil {
			return nil, err
		}
	}
	return w, nil
}

func (w *writer) path(seq uint64) string { return fmt.Sprintf("%s/slot-%d.dat", w.folder, seq%slots) }

// write uploads the next file. One whose upload was interrupted by a kill may be
// locked by it for ever; it goes to the trash then.
func (w *writer) write(ctx context.Context) error {
	path, content := w.path(w.seq+1), makeContent(w.seq+1)
	err := w.c.put(ctx, admin, path, content)
	if err != nil && ctx.Err() == nil {
		_, derr := w.c.do(ctx, admin, http.MethodDelete, path, "", http.StatusNoContent, http.StatusNotFound)
		if err = errors.Join(err, derr); derr == nil {
			err = w.c.put(ctx, admin, path, content)
		}
	}
	if err == nil {
		w.seq++
	}
	return err
}

// run writes until ctx is done. An upload that has begun is finished first: a server
// in order is stopped by people who know that nobody works on it.
func (w *writer) run(ctx context.Context) error {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if err := w.write(context.WithoutCancel(ctx)); err != nil {
				return err
			}
		}
	}
}

// makeContent is a line with number and checksum, and a body.
func makeContent(seq uint64) string {
	body := strings.Repeat(fmt.Sprintf("%016d", seq), slotSize/16)
	return fmt.Sprintf("seq=%d sha256=%s\n%s", seq, hashHex([]byte(body)), body)
}

// contentSeq is the number in content that agrees with its checksum.
func contentSeq(content []byte) (seq uint64, err error) {
	var sum string
	line, body, _ := strings.Cut(string(content), "\n")
	if _, err := fmt.Sscanf(line, "seq=%d sha256=%s", &seq, &sum); err != nil || sum != hashHex([]byte(body)) {
		return seq, errors.New("content torn")
	}
	return seq, nil
}
