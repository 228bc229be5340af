package s3mirror

import (
	"bytes"
	"context"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/integration/env"
)

const day = 24 * time.Hour

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// expire expires at a time, in days after noon.
func (w *world) expire(days int, o ExpireOptions, sets ...testSet) (*Expired, error) {
	w.t.Helper()
	if o.Grace == 0 {
		o.Grace = 10 * day
	}
	o.Now = noon.Add(time.Duration(days) * day)
	return w.pool().Expire(w.t.Context(), testOwner, inventories(sets...), o)
}

func (w *world) mustExpire(days int, o ExpireOptions, sets ...testSet) *Expired {
	w.t.Helper()
	x, err := w.expire(days, o, sets...)
	if err != nil {
		w.t.Fatal(err)
	}
	return x
}

// history is a bucket with two sets: the second lacks objects of the first, has others,
// and one with other content.
func (w *world) history() (one, two testSet) {
	w.t.Helper()
	objects := w.fillKinds()
	one = w.keepSet("one", objects)
	list := plainKeys(objects)
	for _, key := range append(slices.Clone(list[:4]), "Odd Space/with blanks & ümlauts") {
		w.server.Delete(w.t, testBucket, key)
		delete(objects, key)
	}
	later := map[string][]byte{list[5]: altered(objects[list[5]]), newKey(uuid.NewString()): newContent(99)}
	w.put(later)
	maps.Copy(objects, later)
	return one, w.keepSet("two", objects)
}

// Objects that no set needs leave the pool after the grace period, and no others;
// afterwards every retained set can be restored, and backups go on as before.
func TestExpire(t *testing.T) {
	for _, tc := range poolKinds[:3] {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t)
			tc.make(w)
			one, two := w.history()
			before := w.held()
			if x := w.mustExpire(0, ExpireOptions{}, one, two); x.Unreferenced != 0 || !x.Next.IsZero() {
				t.Errorf("all is needed: %+v", x)
			}
			state := filesBelow(t, w.set.StateDir)
			if x := w.mustExpire(0, ExpireOptions{DryRun: true}, two); x.Unreferenced != 6 || x.Waiting != 6 || x.Deleted != 0 {
				t.Errorf("dry run: %+v", x)
			}
			sameSums(t, filesBelow(t, w.set.StateDir), state)
			// The dry run has not begun the grace period: this does.
			if x := w.mustExpire(5, ExpireOptions{}, two); x.Waiting != 6 || x.Deleted != 0 || !x.Next.Equal(noon.Add(15*day)) {
				t.Errorf("seen first: %+v", x)
			}
			if x := w.mustExpire(14, ExpireOptions{}, two); x.Waiting != 6 || x.Deleted != 0 {
				t.Errorf("in the grace period: %+v", x)
			}
			sameSums(t, w.held(), before)
			if x := w.mustExpire(15, ExpireOptions{DryRun: true}, two); x.Deleted != 6 || x.Waiting != 0 {
				t.Errorf("dry run: %+v", x)
			}
			sameSums(t, w.held(), before)
			if x := w.mustExpire(15, ExpireOptions{}, two); x.Deleted != 6 || x.Waiting != 0 || x.Resumed {
				t.Errorf("after it: %+v", x)
			}
			if n := len(w.held()); n != len(before)-6 {
				t.Errorf("the pool holds %d objects, held %d", n, len(before))
			}
			if u := w.usage(two); u.Unreferenced != 0 || len(u.Lost) != 0 {
				t.Errorf("usage: %+v", u)
			}
			// The index knows: nothing is missed, and what comes again is copied again.
			key := plainKeys(one.objects)[0]
			w.server.Put(t, testBucket, key, one.objects[key])
			c := w.mustCopy(CopyOptions{})
			if c.New != 1 || len(c.Findings) != 0 || c.Reconciled {
				t.Errorf("the next copy: %+v", c)
			}
			if c := w.mustCopy(CopyOptions{Reconcile: true}); c.New != 0 || len(c.Findings) != 0 {
				t.Errorf("a reconcile: %+v", c)
			}
			w.mustRestore(two, Destination{Bucket: &w.bucket}, RestoreOptions{DeleteExtra: true})
			bucketHolds(t, w.server, testBucket, two.objects)
			if dir := w.pool().Local(); dir != "" {
				for _, empty := range emptyDirs(t, dir) {
					if top := filepath.Dir(empty); top != dir && top != filepath.Join(dir, encryptedDir) {
						t.Errorf("an empty directory is left: %s", empty)
					}
				}
			}
		})
	}
}

func emptyDirs(t testing.TB, dir string) (list []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.IsDir() {
			if in, rerr := os.ReadDir(path); rerr == nil && len(in) == 0 {
				list = append(list, path)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// Whoever is not sure that he knows all sets deletes nothing.
func TestExpireRefuses(t *testing.T) {
	w := newWorld(t)
	one, two := w.history()
	before := w.held()
	w.mustExpire(0, ExpireOptions{}, two)
	refused := func(code fail.Code, text, hint string, x *Expired, err error) {
		t.Helper()
		w.fails(err, code, text, hint)
		sameSums(t, w.held(), before)
	}
	x, err := w.expire(99, ExpireOptions{})
	refused(fail.Usage, "no sets", "", x, err)
	bad := two
	bad.Open, bad.Digest = broken, ""
	x, err = w.expire(99, ExpireOptions{}, two, bad)
	refused(fail.Repository, "the repository is gone", "", x, err)
	bad.Open, bad.Digest = one.Open, sum([]byte("x"))
	x, err = w.expire(99, ExpireOptions{}, bad)
	refused(fail.Failed, "SHA-256", "", x, err)
	x, err = w.pool().Expire(t.Context(), Owner{testOwner.Instance, "repo-2"}, inventories(two), ExpireOptions{})
	refused(fail.Usage, "repo-2", "", x, err)
	x, err = w.pool().Expire(t.Context(), Owner{"another.example.com", "repo-1"}, inventories(two), ExpireOptions{})
	refused(fail.Usage, "another.example.com", "", x, err)
	x, err = w.expire(-1, ExpireOptions{}, two)
	refused(fail.Failed, "one of the times is wrong", "timedatectl", x, err)
	if _, err := w.pool().Create(t.Context(), Owner{testOwner.Instance, "repo-2"}); err != nil {
		t.Fatal(err)
	}
	x, err = w.expire(99, ExpireOptions{}, two)
	refused(fail.Usage, "repo-2", "not know", x, err)
}

// The grace period begins anew when an object was needed in between, and when the
// record of it is lost.
func TestExpireGrace(t *testing.T) {
	w := newWorld(t)
	one, two := w.history()
	w.mustExpire(0, ExpireOptions{}, two)
	w.mustExpire(5, ExpireOptions{}, one, two)
	if x := w.mustExpire(12, ExpireOptions{}, two); x.Deleted != 0 || x.Waiting != 6 {
		t.Errorf("they were needed on day 5: %+v", x)
	}
	record := filepath.Join(w.set.StateDir, "bucket", unreferencedFile)
	whole, err := os.ReadFile(record)
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{"lost": nil, "damaged": append(whole[:len(whole)/2:len(whole)/2], "}{\n"...), "another's": []byte(`{"pool":"x"}` + "\n")} {
		if err := os.WriteFile(record, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if b == nil {
			os.Remove(record)
		}
		if x := w.mustExpire(30, ExpireOptions{}, two); x.Deleted != 0 || x.Waiting != 6 {
			t.Errorf("the record is %s: %+v", name, x)
		}
	}
	// What is deleted, comes again, and is not needed again, has a grace period of its own.
	w.mustExpire(40, ExpireOptions{}, two)
	key := plainKeys(one.objects)[0]
	w.server.Put(t, testBucket, key, one.objects[key])
	w.keepSet("three", nil)
	if x := w.mustExpire(60, ExpireOptions{}, two); x.Deleted != 0 || x.Waiting != 1 {
		t.Errorf("it came again: %+v", x)
	}
}

// A run that is interrupted is ended by the next; what a set needs by then stays.
func TestExpireResumes(t *testing.T) {
	w := newWorld(t)
	w.set.Transfers = 1
	proxy := env.S3Proxy(t, w.server)
	w.onServer(w.server, proxy.Endpoint)
	one, two := w.history()
	w.mustExpire(0, ExpireOptions{}, two)
	before := w.held()
	ctx, cancel := context.WithCancel(t.Context())
	proxy.Add(env.Rule{Kind: env.Delete, Times: 1, Do: env.Before(func(env.Request) {
		// By now everything is written down, and the index claims none of it.
		journal, _ := os.ReadFile(filepath.Join(w.set.StateDir, "bucket", journalFile))
		if n := bytes.Count(journal, []byte("\n")); n != 7 {
			t.Errorf("the journal has %d lines", n)
		}
		for key := range inventory(t, filepath.Join(w.set.StateDir, "bucket", indexFile)) {
			if _, kept := two.objects[key]; !kept {
				t.Errorf("the index still has %s", key)
			}
		}
	})})
	proxy.Add(env.Rule{Kind: env.Delete, Skip: 2, Do: env.Before(func(env.Request) { cancel() })})
	x, err := w.pool().Expire(ctx, testOwner, inventories(two), ExpireOptions{Grace: 10 * day, Now: noon.Add(10 * day)})
	if err == nil {
		t.Fatalf("it was not interrupted: %+v", x)
	}
	proxy.Clear()
	after := w.held()
	deleted := len(before) - len(after)
	if deleted < 2 || deleted == 6 {
		t.Fatalf("%d objects were deleted before the interruption", deleted)
	}
	// A backup in between finds nothing amiss, and one of them is needed again.
	var again string
	for _, key := range plainKeys(one.objects)[:4] {
		if _, held := after[blobsDir+"/"+key]; held {
			again = key
		}
	}
	w.server.Put(t, testBucket, again, one.objects[again])
	now := maps.Clone(two.objects)
	now[again] = one.objects[again]
	three := w.keepSet("three", now)
	if c := w.mustCopy(CopyOptions{Reconcile: true}); len(c.Findings) != 0 {
		t.Errorf("findings %v", c.Findings)
	}
	if x := w.mustExpire(10, ExpireOptions{}, two, three); !x.Resumed || x.Deleted != uint64(6-deleted-1) {
		t.Errorf("the next run: %+v, %d were deleted by the first", x, deleted)
	}
	if x := w.mustExpire(11, ExpireOptions{}, two, three); x.Resumed || x.Unreferenced != 0 {
		t.Errorf("the one after: %+v", x)
	}
	w.mustRestore(three, Destination{Bucket: &w.bucket}, RestoreOptions{DeleteExtra: true})
	bucketHolds(t, w.server, testBucket, now)
}

// What a server does not let be deleted is told, and tried again later.
func TestExpireRefused(t *testing.T) {
	w := newWorld(t)
	proxy := env.S3Proxy(t, w.server)
	w.onServer(w.server, proxy.Endpoint)
	one, two := w.history()
	w.mustExpire(0, ExpireOptions{}, two)
	locked := plainKeys(one.objects)[1]
	proxy.Add(env.Rule{Kind: env.Delete, Key: locked, Do: env.Refuse(403, "AccessDenied")})
	x := w.mustExpire(10, ExpireOptions{}, two)
	if x.Deleted != 5 || x.Refused != 1 || len(x.Findings) != 1 || x.Findings[0].Key != locked || x.Findings[0].Kind != Refused {
		t.Errorf("one is locked: %+v", x)
	}
	proxy.Clear()
	if x := w.mustExpire(10, ExpireOptions{}, two); x.Deleted != 1 || x.Resumed {
		t.Errorf("it is not locked any more: %+v", x)
	}
}

// An object of the first content is not overwritten when the second has expired.
func TestExpireChanged(t *testing.T) {
	w := newWorld(t)
	for i, key := range []string{newKey("s"), "Odd/Key"} {
		first, second := newContent(100), newContent(100)
		w.server.Put(t, testBucket, key, first)
		one := w.keepSet("one", map[string][]byte{key: first})
		w.server.Put(t, testBucket, key, second)
		w.keepSet("two", nil)
		if x := w.mustExpire(100*i, ExpireOptions{Grace: time.Nanosecond}, one); x.Waiting == 0 {
			t.Fatalf("%+v", x)
		}
		w.mustExpire(100*i+1, ExpireOptions{Grace: time.Nanosecond}, one)
		w.keepSet("three", nil)
		w.mustRestore(one, Destination{Bucket: &w.bucket}, RestoreOptions{DeleteExtra: true})
		bucketHolds(t, w.server, testBucket, one.objects)
		w.server.Wipe(t, testBucket)
	}
}

// Left-overs of interrupted copies and objects that were put aside leave the pool, too.
func TestExpireLeftOvers(t *testing.T) {
	w := newWorld(t)
	_, two := w.history()
	for _, name := range []string{"blobs/s/x" + partialSuffix, "damaged/blobs/s/y.20260101T000000Z", "damaged/odd/z.20260101T000000Z"} {
		path := filepath.Join(w.target.Location, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if u := w.usage(two); u.Unreferenced != 8 || u.Partial != 1 {
		t.Errorf("usage %+v", u)
	}
	w.mustExpire(0, ExpireOptions{}, two)
	if x := w.mustExpire(10, ExpireOptions{}, two); x.Deleted != 9 {
		t.Errorf("%+v", x)
	}
	for path := range w.held() {
		if filepath.Dir(path) == "damaged" || filepath.Ext(path) == partialSuffix {
			t.Errorf("left: %s", path)
		}
	}
}

// What was put aside stays as long as a set names it, and the pool holds nothing better.
func TestExpireKeepsDamaged(t *testing.T) {
	w := newWorld(t)
	objects := w.fillKinds()
	set := w.keepSet("s", objects)
	list := plainKeys(objects)
	odd := place("Odd Space/with blanks & ümlauts")
	cut := func(b []byte) []byte { return b[1:] }
	for _, path := range []string{list[0], list[1], list[2]} {
		w.spoil(path, cut)
	}
	oddFile := filepath.Join(w.target.Location, odd)
	if err := os.Truncate(oddFile, 1); err != nil {
		t.Fatal(err)
	}
	w.server.Delete(t, testBucket, list[0])                           // it can't be copied again
	w.server.Delete(t, testBucket, "Odd Space/with blanks & ümlauts") // nor this
	w.server.Delete(t, testBucket, list[2])                           // this one comes back, cut off
	if c := w.mustCopy(CopyOptions{Reconcile: true}); len(c.Findings) != 4 || c.New != 1 {
		t.Fatalf("%+v", c)
	}
	half := filepath.Join(w.target.Location, blobsDir, list[2])
	if err := os.MkdirAll(filepath.Dir(half), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(half, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	aside := func() (from []string) {
		for path := range w.held() {
			if of := damagedFrom(path); of != "" {
				from = append(from, of)
			}
		}
		slices.Sort(from)
		return from
	}
	if n := len(aside()); n != 4 {
		t.Fatalf("%d were put aside", n)
	}
	w.mustExpire(0, ExpireOptions{}, set)
	w.mustExpire(20, ExpireOptions{}, set)
	want := []string{blobsDir + "/" + list[0], blobsDir + "/" + list[2], odd}
	slices.Sort(want)
	if got := aside(); !slices.Equal(got, want) {
		t.Errorf("kept %q, want %q", got, want)
	}
	// No set names them any more.
	w.server.Delete(t, testBucket, list[3])
	other := w.keepSet("other", nil)
	w.mustExpire(40, ExpireOptions{}, other)
	w.mustExpire(60, ExpireOptions{}, other)
	if got := aside(); len(got) != 0 {
		t.Errorf("left: %q", got)
	}
}
