package s3mirror

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"

	"github.com/ocbackup/ocbackup/fail"
)

// attempts is how often an object is copied anew when what arrived is not what was
// sent. Requests that fail are tried again further down.
const attempts = 3

// errGone says that an object that was listed is not there any more.
var errGone = errors.New("it was listed, and is gone")

// errOther says that what arrived is not what was sent.
var errOther = errors.New("what arrived is not what was sent")

// bring finds out what has to be done about an object and does it; k is what the
// pool holds under its key.
func (p *pass) bring(ctx context.Context, l, k *Object) (Object, error) {
	o := *l
	o.MD5, o.Tag, o.At = "", "", place(l.Key)
	if k == nil && o.At != "" {
		// A place that tells nothing about the key: after the index was lost, too.
		size, held, err := p.Mirror.pool.look(p.to, o.At)
		if err != nil {
			return o, p.Mirror.pool.fail(err, "look for "+o.At)
		}
		if held {
			k = &Object{Key: l.Key, Size: size, At: o.At}
		}
	}
	if k != nil {
		// Is it the same content under another tag, or one that was never read?
		same, err := p.compare(ctx, l, k)
		if err != nil || same.Key != "" {
			return same, err
		}
		o.At = changedPath(l)
	}
	o, err := p.copy(ctx, o, l)
	if err == nil && k != nil {
		p.find(Finding{Changed, l.Key, "it has other content than before under the same key; both are kept"})
	}
	return o, err
}

// changedPath is where an object goes whose key has other content in the pool.
func changedPath(l *Object) string {
	version := digestOf(tagOf(l) + l.Modified.String() + strconv.FormatInt(l.Size, 10))
	return fmt.Sprintf("%s/%s.%s", changedDir, digestOf(l.Key)[:16], version[:16])
}

// compare reads the bucket's object and holds it against the one in the pool. It
// gives the pool's record, brought up to date, when they are the same, else an empty one.
func (p *pass) compare(ctx context.Context, l, k *Object) (now Object, err error) {
	if k.Size != l.Size {
		return Object{}, nil
	}
	var read atomic.Int64 // nothing is copied
	now = *k
	if k.MD5 == "" && k.SHA1 == "" { // the pool's was never read by us
		pool := p.Mirror.pool
		if now.MD5, now.SHA1, err = hashOnly(p.to, pool.data, k.Path(), k, &read); err != nil {
			return now, pool.fail(err, "read "+k.Path())
		}
	}
	md5, sha1 := now.MD5, now.SHA1
	if md5 != l.MD5 {
		err = p.reading(ctx, l, func() (err error) {
			md5, sha1, err = hashOnly(p.from, p.Mirror.src.f, l.Key, l, &read)
			return err
		})
		if err != nil {
			return now, err
		}
		if now.MD5 != "" && now.MD5 != md5 || now.SHA1 != "" && now.SHA1 != sha1 {
			return Object{}, nil
		}
	}
	now.MD5, now.SHA1, now.Modified, now.Tag = md5, cmp.Or(sha1, now.SHA1), l.Modified, ""
	if tag := tagOf(l); tag != md5 {
		now.Tag = tag
	}
	p.progress.skip(l.Size)
	return now, nil
}

// reading does something that reads an object of the bucket. What is not found is
// looked for in the listing, and asked for once more, before it counts as gone.
func (p *pass) reading(ctx context.Context, l *Object, do func() error) error {
	err := do()
	var read *readError
	if errors.As(err, &read) && missing(err) {
		there, lerr := p.Mirror.src.api.exists(p.from, asRclone.FromStandardPath(l.Key))
		switch {
		case lerr != nil:
			return p.Mirror.src.fail(lerr, "look for "+l.Key+" in")
		case !there:
			return errGone
		case context.Cause(ctx) == nil:
			err = do()
		}
	}
	if errors.As(err, &read) {
		return p.Mirror.src.fail(err, "read "+l.Key+" of")
	}
	return err
}

// copy copies a listed object into the pool, where its record says, and completes
// the record.
func (p *pass) copy(ctx context.Context, o Object, l *Object) (Object, error) {
	var err error
	for range attempts {
		if cause := context.Cause(ctx); cause != nil {
			return o, cause
		}
		err = p.reading(ctx, l, func() (err error) {
			o, err = p.copyOnce(o, l)
			return err
		})
		if err == nil {
			err = p.hold(ctx, &o, l)
		}
		if !errors.Is(err, errOther) {
			break
		}
	}
	if err != nil {
		if errors.Is(err, errOther) {
			discard(p.to, p.Mirror.pool.data, o.Path()) // nobody must take it for the object
		}
		var told *fail.Error
		if errors.Is(err, errGone) || errors.As(err, &told) {
			return o, err
		}
		return o, p.Mirror.pool.fail(err, "copy "+o.Key+" to "+o.Path())
	}
	p.progress.objects.Add(1)
	p.progress.stored.Add(o.Size)
	return o, nil
}

// copyOnce stores an object and looks at what was stored.
func (p *pass) copyOnce(o Object, l *Object) (Object, error) {
	m := p.Mirror
	if !m.apart.Load() && !m.sourceTagsLie.Load() && !m.poolTagsLie.Load() && o.Size < maxOnServer {
		done, err := p.copyOnServer(o, l)
		switch {
		case err == nil || p.to.Err() != nil:
			return done, err
		case isNotFound(err):
			return o, &readError{err}
		}
		if !errors.Is(err, errOther) && !m.apart.Swap(true) {
			m.src.Log(fmt.Sprintf("the server does not copy from the bucket to the pool by itself (%v): objects go through this machine", err))
		}
	}
	var err error
	if o.MD5, o.SHA1, err = put(p.to, m.src.f, o.Key, m.pool.data, o.Path(), &o, &p.progress.read); err != nil {
		return o, err
	}
	if m.pool.api != nil {
		err = p.confirm(&o)
	}
	if err != nil {
		p.progress.read.Add(-o.Size)
	}
	return o, err
}

// confirm asks the target how it has stored an object.
func (p *pass) confirm(o *Object) error {
	m := p.Mirror
	s, err := m.pool.api.head(p.to, o.Path())
	switch {
	case isNotFound(err):
		return fmt.Errorf("%w: the target says that it has stored the object, and has not", errOther)
	case err != nil:
		return fmt.Errorf("look at what was stored: %w", err)
	case s.size != o.Size:
		return fmt.Errorf("%w: %d bytes were sent, %d were stored", errOther, o.Size, s.size)
	}
	o.Version = s.version
	if !isMD5(s.tag) || s.tag == o.MD5 || m.poolTagsLie.Load() {
		return nil
	}
	var read atomic.Int64
	md5, _, err := hashOnly(p.to, m.pool.data, o.Path(), o, &read)
	switch {
	case err != nil:
		var read *readError
		if errors.As(err, &read) {
			err = read.err // it would be taken for the bucket's
		}
		return fmt.Errorf("read what was stored: %w", err)
	case md5 != o.MD5:
		return fmt.Errorf("%w: sent was content with the MD5 %s, stored is %s", errOther, o.MD5, md5)
	}
	m.poolTagsLie.Store(true)
	return nil
}

// hold holds what was read against the entity tag that was listed. Where they differ,
// reading it once more tells which is wrong.
func (p *pass) hold(ctx context.Context, o *Object, l *Object) error {
	m := p.Mirror
	if tag := tagOf(l); tag != o.MD5 {
		o.Tag = tag
	}
	if l.MD5 == "" || o.MD5 == "" || l.MD5 == o.MD5 || m.sourceTagsLie.Load() {
		return nil
	}
	var read atomic.Int64
	var md5 string
	err := p.reading(ctx, l, func() (err error) {
		md5, _, err = hashOnly(p.from, m.src.f, l.Key, l, &read)
		return err
	})
	switch {
	case err != nil:
		return err
	case md5 != o.MD5:
		o.Tag = ""
		p.progress.read.Add(-o.Size)
		return fmt.Errorf("%w: its MD5 is %s, the listing says %s", errOther, o.MD5, l.MD5)
	}
	m.sourceTagsLie.Store(true)
	return nil
}
