package s3mirror

import (
	"maps"
	"testing"

	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/integration/env"
)

// Each object that is wanted is read, and of what is not what was stored it is told what
// it is now.
func TestReadObjects(t *testing.T) {
	for _, tc := range poolKinds[:3] {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t)
			tc.make(w)
			objects := w.fillKinds()
			set := w.keepSet("s", objects)
			list := plainKeys(objects)
			lost, other, short, unwanted := list[0], list[1], list[2], list[3]
			w.spoil(lost, func([]byte) []byte { return nil })
			w.spoil(other, altered)
			w.spoil(short, func(b []byte) []byte { return b[:len(b)-1] })
			w.spoil(unwanted, altered)
			in := set.reader(t)
			defer in.Close()
			faults, read := map[string]string{}, 0
			err := w.pool().ReadObjects(t.Context(), in, ReadOptions{
				Wanted: func(o *Object) bool { return o.Key != unwanted },
				OnRead: func(o *Object, r Reading) {
					read++
					switch {
					case r.Fault != nil:
						faults[o.Key] = r.Fault.Kind
						if r.SHA1 == o.SHA1 && o.SHA1 != "" {
							t.Errorf("%s: the hash of what was stored is given for %v", o.Key, r.Fault)
						}
					case r.Size != int64(len(objects[o.Key])) || r.MD5 == "" || o.MD5 != "" && r.MD5 != o.MD5:
						t.Errorf("%s: %+v, stored was %+v", o.Key, r, o)
					}
				},
			})
			want := map[string]string{lost: Lost, other: Damaged, short: Damaged}
			if err != nil || read != len(objects)-1 || !maps.Equal(faults, want) {
				t.Errorf("read %d of %d, faults %v, want %v: %v", read, len(objects)-1, faults, want, err)
			}
		})
	}
}

// A pool that can't be asked says nothing about its objects.
func TestReadObjectsUnreachable(t *testing.T) {
	w := newWorld(t)
	proxy := env.S3Proxy(t, w.server)
	w.onServer(w.server, proxy.Endpoint)
	set := w.keepSet("s", w.fill(5))
	proxy.Add(env.Rule{Kind: env.Get, Key: blobsDir, Do: env.Refuse(403, "AccessDenied")})
	in := set.reader(t)
	defer in.Close()
	err := w.pool().ReadObjects(t.Context(), in, ReadOptions{OnRead: func(o *Object, r Reading) {
		if r.Fault != nil {
			t.Errorf("%s: %v", o.Key, r.Fault)
		}
	}})
	w.fails(err, fail.Repository, "blobs/", "keys")
}
