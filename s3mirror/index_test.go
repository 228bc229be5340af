package s3mirror

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/integration/env"
)

// Whatever becomes of the index: the pool is listed, nothing is copied again, and
// the hashes come from the last inventory, or else from reading the pool.
func TestIndexLost(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.proxied()
	objects := w.fill(30)
	last := kept(t, w.mustCopy(CopyOptions{}))
	dir := filepath.Join(w.set.StateDir, "bucket")
	index, state := filepath.Join(dir, indexFile), filepath.Join(dir, stateFile)
	whole, err := os.ReadFile(index)
	if err != nil {
		t.Fatal(err)
	}
	write := func(path string, b []byte) {
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	rows := map[string]func(){
		"all of it":       func() { _ = os.RemoveAll(dir) },
		"the index":       func() { _ = os.Remove(index) },
		"the state":       func() { _ = os.Remove(state) },
		"an empty state":  func() { write(state, nil) },
		"a damaged state": func() { write(state, []byte(`{"pool":`)) },
		"another pool's":  func() { write(state, []byte(`{"pool":"another"}`)) },
		"empty segments":  func() { _ = os.Mkdir(filepath.Join(dir, workDir), 0o700) },
		"older segments":  func() { _ = os.Mkdir(filepath.Join(dir, beforeDir), 0o700) },
		"damaged segments": func() {
			_ = os.Mkdir(filepath.Join(dir, workDir), 0o700)
			write(filepath.Join(dir, workDir, "index-x"), []byte("{\x00\n{}\n"))
		},
		"a damaged byte": func() { b := bytes.Clone(whole); b[len(b)/2] ^= 1; write(index, b) },
		"cut at a line":  func() { write(index, whole[:bytes.IndexByte(whole, '\n')+1]) },
		"cut to nothing": func() { write(index, nil) },
	}
	for at := 1; at < len(whole); at += len(whole) / 3 {
		rows["cut at "+strconv.Itoa(at)] = func() { write(index, whole[:at]) }
	}
	i := 0
	for name, lose := range rows {
		for _, with := range []LastInventory{last, nil} {
			if i++; i%3 == 0 {
				continue // each row with one of them at least
			}
			lose()
			p.Forget()
			c, err := w.copy(t.Context(), with, CopyOptions{})
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if c.New != 0 || len(c.Findings) != 0 || !c.Reconciled || p.Count(env.Get) != 0 {
				t.Errorf("%s: %d objects were read of the bucket; %+v", name, p.Count(env.Get), c)
			}
			w.exact(c, objects)
			if c, err = w.copy(t.Context(), with, CopyOptions{}); err != nil || c.Reconciled {
				t.Errorf("%s: then %+v %v", name, c, err)
			}
			if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) != 3 {
				t.Errorf("%s: there are %v", name, left)
			}
		}
	}
}

// An inventory that can't be used is done without; one that can't be had is an error.
func TestLastInventory(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	objects := w.fill(6)
	w.mustCopy(CopyOptions{})
	lose := func() { _ = os.RemoveAll(filepath.Join(w.set.StateDir, "bucket")) }
	lose()
	c, err := w.copy(t.Context(), func(context.Context) (io.ReadCloser, error) {
		return io.NopCloser(strings.NewReader(`{"key":"a`)), nil
	}, CopyOptions{})
	if err != nil {
		t.Fatal(err)
	}
	w.exact(c, objects)
	lose()
	broken := errors.New("the repository is broken")
	if _, err = w.copy(t.Context(), func(context.Context) (io.ReadCloser, error) { return nil, broken }, CopyOptions{}); !errors.Is(err, broken) {
		t.Error(err)
	}
	w.exact(w.mustCopy(CopyOptions{}), objects)
}

// What somebody has done to the pool's objects is found when it is listed, and made
// good in the same run; what was damaged is kept.
func TestPoolDamaged(t *testing.T) {
	t.Parallel()
	for _, password := range []string{"", "correct horse"} {
		w := newWorld(t)
		w.target.Password = password
		objects := w.fill(10)
		odd := "Odd Key/ä"
		objects[odd] = newContent(300)
		w.put(map[string][]byte{odd: objects[odd]})
		c := w.mustCopy(CopyOptions{})
		var paths, keys []string
		for k, o := range inventory(t, c.Inventory.Path) {
			if k != odd {
				keys, paths = append(keys, k), append(paths, o.Path())
			}
		}
		_, pool, err := w.open()
		if err != nil {
			t.Fatal(err)
		}
		ctx := pool.with(t.Context())
		remove := func(path string) {
			o, err := pool.data.NewObject(ctx, path)
			if err == nil {
				err = o.Remove(ctx)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		remove(paths[0])
		remove(place(odd))
		remove(paths[1])
		if err := write(ctx, pool.data, paths[1], []byte("cut")); err != nil {
			t.Fatal(err)
		}
		if err := write(ctx, pool.data, paths[2]+partialSuffix, []byte("half")); err != nil {
			t.Fatal(err)
		}
		if err := write(ctx, pool.data, oddDir+"/x"+partialSuffix, []byte("half")); err != nil {
			t.Fatal(err)
		}
		c = w.mustCopy(CopyOptions{Reconcile: true})
		var found []string
		for _, f := range c.Findings {
			found = append(found, f.Kind+" "+f.Key)
		}
		slices.Sort(found)
		want := []string{Damaged + " " + keys[1], Lost + " " + keys[0], Lost + " " + odd}
		slices.Sort(want)
		if !slices.Equal(found, want) || c.New != 3 {
			t.Errorf("%d new; found %q, want %q", c.New, found, want)
		}
		var aside string
		for path, content := range w.held() {
			if strings.HasPrefix(path, damagedDir+"/"+paths[1]+".") && content == sum([]byte("cut")) {
				aside = path
			}
		}
		if aside == "" {
			t.Error("what was damaged is not kept")
		}
		w.exact(c, objects, aside)
		if c = w.mustCopy(CopyOptions{Reconcile: true}); len(c.Findings) != 0 || c.New != 0 {
			t.Errorf("%+v", c)
		}
	}
}

// A bucket that lists nothing, and had objects, is not taken for an empty one.
func TestEmptyBucket(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.proxied()
	w.exact(w.mustCopy(CopyOptions{}), nil) // a new instance's
	objects := w.fill(10)
	w.exact(w.mustCopy(CopyOptions{}), objects)
	for _, skip := range []int{0, 1} { // all listings, or those of the spaces only
		p.Add(env.Rule{Kind: env.List, Skip: skip, Do: env.NoObjects})
		_, err := w.copy(t.Context(), nil, CopyOptions{})
		w.fails(err, fail.Incomplete, "lists no object at all; at the last backup it had 10", "--accept-empty-bucket")
		var empty *EmptyError
		if !errors.As(err, &empty) || empty.Before != 10 {
			t.Errorf("got %v", err)
		}
		p.Clear()
		w.exact(w.mustCopy(CopyOptions{}), objects)
	}
	w.server.Wipe(t, testBucket)
	_, err := w.copy(t.Context(), nil, CopyOptions{})
	w.fails(err, fail.Incomplete, "lists no object", "")
	c := w.mustCopy(CopyOptions{AcceptEmpty: true})
	if c.Listed != 0 || c.Inventory.Objects != 0 || len(w.held()) != len(objects) {
		t.Errorf("%+v", c)
	}
	w.mustCopy(CopyOptions{}) // it is known to be empty now
}

func init() {
	children["copy"] = func() int {
		ctx := context.Background()
		set := Settings{StateDir: os.Getenv("S3MIRROR_STATE"), Transfers: 64}
		src, err := OpenBucket(ctx, Bucket{Endpoint: os.Getenv("S3MIRROR_ENDPOINT"), Name: testBucket, Keys: Keys{Access: os.Getenv("AWS_ACCESS_KEY_ID"), Secret: os.Getenv("AWS_SECRET_ACCESS_KEY")}}, set)
		if err != nil {
			return 1
		}
		pool, err := OpenPool(ctx, Target{Location: os.Getenv("S3MIRROR_POOL")}, set)
		if err != nil {
			return 1
		}
		if _, err := pool.Create(ctx, testOwner); err != nil {
			return 1
		}
		m, err := NewMirror(src, pool, nil)
		if err == nil {
			_, err = m.Copy(ctx, CopyOptions{})
		}
		if err != nil {
			return 1
		}
		return 0
	}
}

// Whenever it is killed: what was copied is not copied again, and nothing half copied
// counts.
func TestKilled(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, after := range []int{0, 7, 25} {
		w := newWorld(t)
		p := w.proxied()
		objects := w.fill(40)
		key := newKey("large")
		objects[key] = newContent(8 << 20)
		w.put(map[string][]byte{key: objects[key]})
		child := exec.Command(self)
		child.Env = append(append(os.Environ(), w.server.AWSEnv()...), "S3MIRROR_CHILD=copy", "S3MIRROR_STATE="+w.set.StateDir,
			"S3MIRROR_ENDPOINT="+p.Endpoint, "S3MIRROR_POOL="+w.target.Location)
		// The large object is half written, and the others wait, when it is killed.
		half := p.Add(env.Rule{Kind: env.Get, Key: "^large", Times: 1, Do: env.CutAnswer(4 << 20)})
		hang := env.NewHang()
		p.Add(env.Rule{Kind: env.Get, Key: "^large", Skip: 1, Do: hang.Do})
		others := env.NewHang()
		p.Add(env.Rule{Kind: env.Get, Key: "^[^l]", Skip: after, Do: others.Do})
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		<-others.Reached
		<-hang.Reached
		_ = child.Process.Kill()
		_ = child.Wait()
		hang.Release()
		others.Release()
		p.Clear()
		before := w.held()
		partial := 0
		for path := range before {
			if strings.HasSuffix(path, partialSuffix) {
				partial++
			}
		}
		if p.Hits(half) != 1 || partial == 0 {
			t.Errorf("killed after %d: %d partial files", after, partial)
		}
		p.Forget()
		c := w.mustCopy(CopyOptions{})
		w.exact(c, objects)
		if want := len(objects) - (len(before) - partial); p.Count(env.Get) != want || c.New != uint64(want) {
			t.Errorf("killed after %d: %d objects were read again and %d copied, %d were missing", after, p.Count(env.Get), c.New, want)
		}
	}
}
