package s3mirror

import (
	"context"
	"crypto/md5"
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"syscall"

	"github.com/rclone/rclone/backend/crypt"
	"github.com/rclone/rclone/fs"
	"github.com/rclone/rclone/fs/fserrors"
)

// verdict is what is wrong with an object of the pool.
type verdict struct{ kind, text string }

func (v *verdict) Error() string { return v.text }

// proven is a pool that is read only as what a record says: other content ends in an
// error, a verdict, before its last byte, so that nothing is made of it.
type proven struct {
	fs.Fs
	want *Object
}

// NewObject finds an object.
func (p proven) NewObject(ctx context.Context, path string) (fs.Object, error) {
	o, err := p.Fs.NewObject(ctx, path)
	if err != nil {
		return nil, judged(err)
	}
	return &provenObject{Object: o, want: p.want}, nil
}

// judged makes a verdict of errors that say something about the object itself.
func judged(err error) error {
	var v *verdict
	switch {
	case missing(err):
		v = &verdict{Lost, "the pool no longer holds it"}
	case errors.Is(err, syscall.EIO):
		v = &verdict{Damaged, "the pool's disk can't read it: " + err.Error()}
	case errors.Is(err, crypt.ErrorEncryptedBadBlock), errors.Is(err, crypt.ErrorEncryptedBadMagic),
		errors.Is(err, crypt.ErrorEncryptedFileBadHeader), errors.Is(err, crypt.ErrorEncryptedFileTooShort):
		v = &verdict{Damaged, "the pool's object can't be decrypted: " + err.Error()}
	default:
		return err
	}
	return fserrors.NoLowLevelRetryError(v)
}

// provenObject holds its content, as it is read, against the record.
type provenObject struct {
	fs.Object
	want *Object
	read int64
	sum  hash.Hash // nil: nothing is known
	is   string    // what sum has to be in the end
}

// Open begins to read, or goes on where reading ended.
func (p *provenObject) Open(ctx context.Context, options ...fs.OpenOption) (io.ReadCloser, error) {
	begin := true
	for _, o := range options {
		switch x := o.(type) {
		case *fs.RangeOption:
			begin = x.Start <= 0
		case *fs.SeekOption:
			begin = x.Offset <= 0
		}
	}
	if begin {
		p.read, p.sum = 0, nil
		switch {
		case p.want.SHA1 != "":
			p.sum, p.is = sha1.New(), p.want.SHA1
		case p.want.MD5 != "":
			p.sum, p.is = md5.New(), p.want.MD5
		}
	}
	r, err := p.Object.Open(ctx, options...)
	if err != nil {
		return nil, judged(err)
	}
	return &provenReader{r, p}, nil
}

type provenReader struct {
	io.ReadCloser
	p *provenObject
}

func (r *provenReader) Read(b []byte) (int, error) {
	n, err := r.ReadCloser.Read(b)
	p := r.p
	p.read += int64(n)
	if p.sum != nil {
		_, _ = p.sum.Write(b[:n]) // a hash takes everything
	}
	wrong := ""
	switch end := errors.Is(err, io.EOF); {
	case err != nil && !end:
		return n, judged(err)
	case p.read > p.want.Size:
		wrong = fmt.Sprintf("the pool's object has more than the %d bytes that were stored", p.want.Size)
	case p.read < p.want.Size && end:
		wrong = fmt.Sprintf("the pool's object has %d bytes, stored were %d", p.read, p.want.Size)
	case p.read == p.want.Size && p.sum != nil && hex.EncodeToString(p.sum.Sum(nil)) != p.is:
		wrong = "the pool's object has other content than was stored"
	}
	if wrong != "" {
		return 0, fserrors.NoLowLevelRetryError(&verdict{Damaged, wrong})
	}
	return n, err
}

// readOnly reads an object of this machine's to its end, and keeps nothing of it.
func readOnly(ctx context.Context, f fs.Fs, path string) error {
	o, err := f.NewObject(ctx, path)
	if err != nil {
		return err
	}
	in, err := o.Open(ctx)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, in)
	return errors.Join(err, in.Close())
}

// twice does something with an object of the pool, again where what arrived is not
// what was sent. A verdict is given when a second look comes to the same.
func twice(ctx context.Context, do func() error) (err error) {
	for i := range attempts {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		err = do()
		var wrong *verdict
		switch {
		case errors.As(err, &wrong):
			if wrong.kind == Lost || i > 0 {
				return err
			}
		case !errors.Is(err, errOther):
			return err
		}
	}
	return err
}
