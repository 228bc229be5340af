package s3mirror

import (
	"maps"
	"strings"
	"testing"

	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/integration/env"
)

// Reading all data finds what a listing can't see, and has it copied again.
func TestReconcileReadData(t *testing.T) {
	for _, tc := range poolKinds[:3] {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t)
			tc.make(w)
			objects := w.fillKinds()
			set := w.keepSet("s", objects)
			list := plainKeys(objects)
			lost, damaged := list[0], list[1]
			w.spoil(lost, func([]byte) []byte { return nil })
			w.spoil(damaged, altered)
			reconcile := func(read bool) *Reconciled {
				t.Helper()
				r, err := w.pool().Reconcile(t.Context(), set.Open, ReconcileOptions{ReadData: read})
				if err != nil {
					t.Fatal(err)
				}
				return r
			}
			if r := reconcile(false); len(r.Findings) != 1 || r.Findings[0].Key != lost || r.Findings[0].Kind != Lost || r.Read != 0 {
				t.Errorf("listed: %+v", r)
			}
			r := reconcile(true)
			kinds := map[string]string{}
			for _, f := range r.Findings {
				kinds[f.Key] = f.Kind
			}
			// What is lost is known from the last inventory again.
			if want := map[string]string{lost: Lost, damaged: Damaged}; !maps.Equal(kinds, want) || r.Read != uint64(len(objects)-2) {
				t.Errorf("read %d, findings %v, want %v", r.Read, r.Findings, want)
			}
			if u := w.usage(set); u.Unreferenced != 1 || len(u.Lost) != 2 {
				t.Errorf("the damaged object was not put aside: %+v", u)
			}
			// A loss that Usage has seen has the pool listed.
			if c := w.mustCopy(CopyOptions{}); c.New != 2 || len(c.Findings) != 0 || !c.Reconciled {
				t.Errorf("the next copy: %+v", c)
			}
			if r := reconcile(true); len(r.Findings) != 0 || r.Read != uint64(len(objects)) {
				t.Errorf("afterwards: %+v", r)
			}
			to := otherBucket(t, w.server, "another")
			w.mustRestore(set, Destination{Bucket: to}, RestoreOptions{})
			bucketHolds(t, w.server, "another", objects)
		})
	}
}

// Objects that nothing is known of get their hashes, so that the next copy reads none.
func TestReconcileHashes(t *testing.T) {
	w := newWorld(t)
	source, pool := w.proxied(), w.onS3(env.S3Server(t))
	objects := w.fill(9)
	w.keepSet("s", objects)
	w.set.StateDir = t.TempDir()
	if r, err := w.pool().Reconcile(t.Context(), nil, ReconcileOptions{ReadData: true}); err != nil || r.Adopted != 9 || r.Read != 9 {
		t.Errorf("%+v, %v", r, err)
	}
	source.Forget()
	pool.Forget()
	c := w.mustCopy(CopyOptions{})
	if c.New != 0 || len(c.Findings) != 0 || c.Reconciled {
		t.Errorf("%+v", c)
	}
	for _, r := range append(source.Requests(), pool.Requests()...) {
		if r.Kind == env.Get && !strings.HasSuffix(r.Key, markerFile) {
			t.Errorf("it was read again: %s", r.Key)
		}
	}
	w.exact(c, objects)
}

// What can't be read for another reason is no damage.
func TestReconcileUnreachable(t *testing.T) {
	w := newWorld(t)
	proxy := env.S3Proxy(t, w.server)
	w.onServer(w.server, proxy.Endpoint)
	objects := w.fill(5)
	set := w.keepSet("s", objects)
	proxy.Add(env.Rule{Kind: env.Get, Key: blobsDir, Do: env.Refuse(403, "AccessDenied")})
	r, err := w.pool().Reconcile(t.Context(), set.Open, ReconcileOptions{ReadData: true})
	w.fails(err, fail.Repository, "blobs/", "keys")
	if len(r.Findings) != 0 {
		t.Errorf("%v", r.Findings)
	}
	proxy.Clear()
	if c := w.mustCopy(CopyOptions{}); c.New != 0 || len(c.Findings) != 0 {
		t.Errorf("the next copy: %+v", c)
	}
	w.exact(w.mustCopy(CopyOptions{}), objects)
}
