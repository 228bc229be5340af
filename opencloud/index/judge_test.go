package index

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	bolt "go.etcd.io/bbolt"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// unpack extracts the search directory of a recorded instance, or of a testdata
// archive, which holds nothing else.
func unpack(t *testing.T, archive string) (searchDir string) {
	t.Helper()
	f, err := os.Open(archive)
	if errors.Is(err, fs.ErrNotExist) {
		t.Skipf("%s is not there", archive)
	}
	must(t, err)
	defer f.Close()
	z, err := gzip.NewReader(f)
	must(t, err)
	dir := t.TempDir()
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return dir
		}
		must(t, err)
		_, rel, ok := strings.Cut(h.Name, "search/")
		if !ok || h.Typeflag != tar.TypeReg {
			continue
		}
		b, err := io.ReadAll(r)
		must(t, err)
		path := filepath.Join(dir, rel)
		must(t, os.MkdirAll(filepath.Dir(path), 0o700))
		must(t, os.WriteFile(path, b, 0o600))
	}
}

const recorded40 = "../../integration/testdata/opencloud-4.0-posix.tar.gz"

func judge(dir string, deep bool) Verdict { return Judge(context.Background(), dir, deep) }

// TestJudgeRecorded: indexes that real servers have made. Both builds have the
// same mapping, and the counts are what bleve's own DocCount says.
func TestJudgeRecorded(t *testing.T) {
	const openCloud = "1f7644b8b587e53fc3038557fb24a8dbc53933d80fdfc1c5b150623420d179ce"
	for archive, want := range map[string]struct {
		docs   uint64
		schema string
	}{
		recorded40: {36, openCloud},
		"../../integration/testdata/opencloud-4.0-decomposed.tar.gz": {36, openCloud},
		"../../integration/testdata/opencloud-posix.tar.gz":          {28, openCloud},
		"../../integration/testdata/opencloud-decomposed.tar.gz":     {28, openCloud},
		// Made with bleve itself: 40 documents, every third deleted again, in segments of version 17.
		"testdata/bleve-2.6.tar.gz": {26, ""},
	} {
		t.Run(filepath.Base(archive), func(t *testing.T) {
			dir := unpack(t, archive)
			for _, deep := range []bool{false, true} {
				v := judge(dir, deep)
				if v.State != Sound || v.Docs != want.docs || want.schema != "" && v.Schema != want.schema {
					t.Errorf("deep %v: got %+v, want %d documents", deep, v, want.docs)
				}
			}
		})
	}
}

// TestJudgeMutations damages copies of a real index. What each row says was
// compared with what bleve itself does with it.
func TestJudgeMutations(t *testing.T) {
	root := func(d string) string { return filepath.Join(d, "bleve/store/root.bolt") }
	meta := func(d string) string { return filepath.Join(d, "bleve/index_meta.json") }
	segment := func(d string) string { return filepath.Join(d, "bleve/store/00000000001c.zap") }
	write := func(name func(string) string, text string) func(string) error {
		return func(d string) error { return os.WriteFile(name(d), []byte(text), 0o600) }
	}
	remove := func(name func(string) string) func(string) error {
		return func(d string) error { return os.RemoveAll(name(d)) }
	}
	change := func(name func(string) string, f func([]byte) []byte) func(string) error {
		return func(d string) error {
			b, err := os.ReadFile(name(d))
			if err != nil {
				return err
			}
			return os.WriteFile(name(d), f(b), 0o600)
		}
	}
	half := func(b []byte) []byte { return b[:len(b)/2] }
	// With bbolt, as a server would write it; the value must stay as long as it is or get shorter.
	put := func(bucket, key, value string) func(string) error {
		return func(d string) error {
			return edit(root(d), func(newest *bolt.Bucket) error {
				b := newest.Bucket([]byte(bucket))
				return b.Put([]byte(key), []byte(value))
			})
		}
	}
	for name, tc := range map[string]struct {
		do            func(dir string) error
		shallow, deep State
		words         string
	}{
		"nothing":                  {func(string) error { return nil }, Sound, Sound, "36 documents"},
		"search directory missing": {func(d string) error { return os.RemoveAll(d) }, Absent, Absent, ""},
		"search directory empty":   {func(d string) error { return os.RemoveAll(d + "/bleve") }, Absent, Absent, ""},
		"index directory empty":    {func(d string) error { return errors.Join(os.RemoveAll(d+"/bleve"), os.Mkdir(d+"/bleve", 0o700)) }, Damaged, Damaged, "index_meta.json"},
		"index directory is a file": {func(d string) error {
			return errors.Join(os.RemoveAll(d+"/bleve"), os.WriteFile(d+"/bleve", nil, 0o600))
		}, Damaged, Damaged, ""},
		"index_meta.json missing":     {remove(meta), Damaged, Damaged, "missing"},
		"index_meta.json no JSON":     {write(meta, `{"storage":`), Damaged, Damaged, "index_meta.json"},
		"index_meta.json empty":       {write(meta, ""), Damaged, Damaged, "index_meta.json"},
		"another index type":          {write(meta, `{"storage":"boltdb","index_type":"upside_down"}`), Schema, Schema, "upside_down"},
		"another storage":             {write(meta, `{"storage":"moss","index_type":"scorch"}`), Schema, Schema, "moss"},
		"index type left out":         {write(meta, `{"storage":"boltdb"}`), Schema, Schema, ""},
		"root.bolt missing":           {remove(root), Damaged, Damaged, "missing"},
		"root.bolt empty":             {write(root, ""), Damaged, Damaged, "empty"},
		"root.bolt garbage":           {write(root, strings.Repeat("garbage ", 4096)), Damaged, Damaged, "no bolt"},
		"root.bolt half":              {change(root, func(b []byte) []byte { return b[:16384] }), Damaged, Damaged, "cut off"},
		"root.bolt one meta page bad": {change(root, func(b []byte) []byte { clear(b[:100]); return b }), Sound, Sound, ""},
		"root.bolt meta pages bad":    {change(root, func(b []byte) []byte { clear(b[:100]); clear(b[4096:4200]); return b }), Damaged, Damaged, "no bolt"},
		"root.bolt other pages bad":   {change(root, func(b []byte) []byte { clear(b[8192:]); return b }), Damaged, Damaged, ""},
		"root.bolt without snapshots": {func(d string) error { return bare(root(d)) }, Damaged, Damaged, "missing"},
		"mapping no JSON":             {put("i", "_mapping", `{"default_mapping":`), Damaged, Damaged, "mapping"},
		"mapping no object":           {put("i", "_mapping", `null`), Damaged, Damaged, "mapping"},
		"mapping no UTF-8":            {put("i", "_mapping", "{\"default_analyzer\":\"\xff\"}"), Damaged, Damaged, "mapping"},
		"segments of another kind":    {put("m", "type", "ice"), Schema, Schema, "ice"},
		"segments of an old format":   {put("m", "version", "\x00\x00\x00\x0a"), Schema, Schema, "10"},
		"segments of a later format":  {put("m", "version", "\x00\x00\x00\x12"), Unknown, Unknown, "18"},
		"segment version cut off":     {put("m", "version", "\x00"), Damaged, Damaged, "version"},
		"segment missing":             {remove(segment), Damaged, Damaged, "00000000001c.zap"},
		"segment empty":               {write(segment, ""), Damaged, Damaged, "cut off"},
		"segment half":                {change(segment, half), Damaged, Damaged, "00000000001c.zap"},
		"segment a byte short":        {change(segment, func(b []byte) []byte { return b[:len(b)-1] }), Damaged, Damaged, "00000000001c.zap"},
		"segment a byte long":         {change(segment, func(b []byte) []byte { return append(b, 0) }), Damaged, Damaged, "00000000001c.zap"},
		"segment bit flipped":         {change(segment, func(b []byte) []byte { b[len(b)/2] ^= 1; return b }), Sound, Damaged, "checksum"},
		"segment checksum flipped":    {change(segment, func(b []byte) []byte { b[len(b)-1] ^= 1; return b }), Sound, Damaged, "checksum"},
		"segment is a directory":      {func(d string) error { return errors.Join(os.Remove(segment(d)), os.Mkdir(segment(d), 0o700)) }, Damaged, Damaged, ""},
		"a file with a wrong name":    {func(d string) error { return os.WriteFile(d+"/bleve/store/copy.zap", nil, 0o600) }, Damaged, Damaged, "copy.zap"},
		"a segment nobody needs":      {func(d string) error { return os.WriteFile(d+"/bleve/store/0000000000ff.zap", nil, 0o600) }, Sound, Sound, ""},
		"more deleted than there are": {func(d string) error {
			return edit(root(d), func(newest *bolt.Bucket) error {
				return newest.ForEachBucket(func(k []byte) error {
					if k[0] == 'i' || k[0] == 'm' {
						return nil
					}
					return newest.Bucket(k).Put([]byte("d"), []byte("\x3b\x30\x00\x00\x01\x00\x00\xe7\x03\x01\x00\x00\x00\xe7\x03"))
				})
			})
		}, Damaged, Damaged, "deleted"},
		"an older snapshot's page bad":               {func(d string) error { return addOlder(root(d)) }, Damaged, Damaged, "older snapshot"},
		"all segments dropped":                       {func(d string) error { return edit(root(d), dropSegments) }, Empty, Empty, "no document"},
		"newest snapshot broken, an older one whole": {func(d string) error { return addSnapshot(root(d)) }, Damaged, Damaged, "missing"},
		"of OpenCloud 8":                             {func(d string) error { return os.Rename(d+"/bleve", d+"/bleve-v5") }, Sound, Sound, ""},
		"of OpenCloud 8, with a damaged leftover": {func(d string) error {
			return errors.Join(os.CopyFS(d+"/bleve-v10", os.DirFS(d+"/bleve")), os.Mkdir(d+"/bleve-v9", 0o700), os.Remove(meta(d)))
		}, Sound, Sound, ""},
	} {
		t.Run(name, func(t *testing.T) {
			dir := unpack(t, recorded40)
			must(t, tc.do(dir))
			before := digest(t, dir)
			for _, deep := range []bool{false, true} {
				want := tc.shallow
				if deep {
					want = tc.deep
				}
				if v := judge(dir, deep); v.State != want || want == tc.deep && !strings.Contains(v.Detail, tc.words) {
					t.Errorf("deep %v: got %s: %s; want %s", deep, v.State, v.Detail, want)
				}
			}
			if after := digest(t, dir); !bytes.Equal(before, after) {
				t.Error("the index was changed")
			}
		})
	}
}

// edit changes the newest snapshot of a root.bolt.
func edit(path string, f func(newest *bolt.Bucket) error) error {
	return update(path, func(tx *bolt.Tx) error {
		s := tx.Bucket([]byte("s"))
		k, _ := s.Cursor().Last()
		return f(s.Bucket(k))
	})
}

func update(path string, f func(*bolt.Tx) error) error {
	db, err := bolt.Open(path, 0o600, nil)
	if err != nil {
		return err
	}
	return errors.Join(db.Update(f), db.Close())
}

func bare(path string) error {
	return update(path, func(tx *bolt.Tx) error { return tx.DeleteBucket([]byte("s")) })
}

func dropSegments(newest *bolt.Bucket) error {
	var keys [][]byte
	if err := newest.ForEachBucket(func(k []byte) error {
		if k[0] != 'i' && k[0] != 'm' {
			keys = append(keys, bytes.Clone(k))
		}
		return nil
	}); err != nil {
		return err
	}
	for _, k := range keys {
		if err := newest.DeleteBucket(k); err != nil {
			return err
		}
	}
	return nil
}

func addSnapshot(path string) error {
	return update(path, func(tx *bolt.Tx) error {
		_, err := tx.Bucket([]byte("s")).CreateBucket([]byte{0xfc, 1, 1, 1, 1, 1, 1, 1})
		return err
	})
}

// addOlder adds a snapshot before all others, on a page of its own, and blanks that.
func addOlder(path string) error {
	var page int64
	err := update(path, func(tx *bolt.Tx) error {
		b, err := tx.Bucket([]byte("s")).CreateBucket([]byte{0x88})
		if err != nil {
			return err
		}
		return b.Put([]byte("x"), make([]byte, 3000))
	})
	if err != nil {
		return err
	}
	err = update(path, func(tx *bolt.Tx) error {
		page = int64(tx.Bucket([]byte("s")).Bucket([]byte{0x88}).Root())
		return nil
	})
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(make([]byte, 4096), 4096*page)
	return errors.Join(err, f.Close())
}

// digest is all that is in dir, but for access times.
func digest(t *testing.T, dir string) []byte {
	t.Helper()
	var b []byte
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		must(t, err)
		info, err := e.Info()
		must(t, err)
		b = append(b, info.Name()+info.Mode().String()...)
		b = binary.LittleEndian.AppendUint64(b, uint64(info.ModTime().UnixNano()))
		if info.Mode().IsRegular() {
			content, err := os.ReadFile(path)
			must(t, err)
			b = append(b, content...)
		}
		return nil
	})
	must(t, err)
	return b
}

// TestJudgeAnyCut: wherever root.bolt or a segment is cut off, or one of its pages
// blanked or scrambled, the verdict comes without a crash, and a cut file is never sound.
func TestJudgeAnyCut(t *testing.T) {
	dir := unpack(t, recorded40)
	for _, name := range []string{"root.bolt", "00000000001c.zap"} {
		path := filepath.Join(dir, "bleve/store", name)
		whole, err := os.ReadFile(path)
		must(t, err)
		inUse := len(whole)
		if name == "root.bolt" {
			inUse = 4096 * int(binary.NativeEndian.Uint64(whole[4096*newer(whole)+16+40:])) // high-water mark
		}
		for n := 0; n < len(whole); n += 1021 {
			must(t, os.WriteFile(path, whole[:n], 0o600))
			if v := judge(dir, false); v.State != Damaged && n < inUse {
				t.Errorf("%s cut to %d bytes: %+v", name, n, v)
			}
		}
		for at := 0; at < len(whole); at += 4096 {
			for _, fill := range []byte{0, 0xff, 0x5a} {
				b := bytes.Clone(whole)
				for i := at; i < min(at+4096, len(b)); i++ {
					b[i] = fill
				}
				must(t, os.WriteFile(path, b, 0o600))
				judge(dir, true)
			}
		}
		must(t, os.WriteFile(path, whole, 0o600))
	}
}

// newer tells which meta page of a bolt database is the newer one.
func newer(b []byte) int {
	txid := func(page int) uint64 { return binary.NativeEndian.Uint64(b[4096*page+16+48:]) }
	if txid(1) > txid(0) {
		return 1
	}
	return 0
}

func TestBoltPageInCircles(t *testing.T) {
	dir := unpack(t, recorded40)
	path := filepath.Join(dir, "bleve/store/root.bolt")
	b, err := os.ReadFile(path)
	must(t, err)
	// The root page as a branch whose one child is itself.
	root := binary.NativeEndian.Uint64(b[4096*newer(b)+16+16:])
	page := b[4096*root:]
	ne := binary.NativeEndian
	ne.PutUint16(page[8:], boltBranch)
	ne.PutUint16(page[10:], 1)
	ne.PutUint64(page[boltPageHeader+8:], root)
	must(t, os.WriteFile(path, b, 0o600))
	if v := judge(dir, true); v.State != Damaged || !strings.Contains(v.Detail, "twice") {
		t.Errorf("got %+v", v)
	}
}

func TestJudgeReadOnly(t *testing.T) {
	dir := unpack(t, recorded40)
	must(t, filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		must(t, err)
		if e.IsDir() {
			return nil
		}
		return os.Chmod(path, 0o400)
	}))
	for _, d := range []string{"bleve/store", "bleve", "."} {
		must(t, os.Chmod(filepath.Join(dir, d), 0o500))
		defer os.Chmod(filepath.Join(dir, d), 0o700)
	}
	if v := judge(dir, true); v.State != Sound {
		t.Errorf("got %+v", v)
	}
}

// TestJudgeInUse: a server holds the lock that bbolt takes. The verdict comes at
// once, and neither lock nor file is touched.
func TestJudgeInUse(t *testing.T) {
	dir := unpack(t, recorded40)
	path := filepath.Join(dir, "bleve/store/root.bolt")
	db, err := bolt.Open(path, 0o600, nil)
	must(t, err)
	for _, deep := range []bool{false, true} {
		if v := judge(dir, deep); v.State != Unknown || !strings.Contains(v.Detail, "in use") || v.NeedsReindex() {
			t.Errorf("got %+v", v)
		}
	}
	must(t, db.Update(func(*bolt.Tx) error { return nil }))
	must(t, db.Close())
	if v := judge(dir, true); v.State != Sound {
		t.Errorf("after the server has gone: %+v", v)
	}
	// And the other way round: judging leaves no lock behind.
	f, err := os.Open(path)
	must(t, err)
	defer f.Close()
	must(t, syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB))
}

func TestJudgeCanceled(t *testing.T) {
	dir := unpack(t, recorded40)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if v := Judge(ctx, dir, true); v.State != Unknown {
		t.Errorf("got %+v", v)
	}
}

func TestSchemaDependsOnTheMappingOnly(t *testing.T) {
	a, err := schemaOf([]byte(`{"a":1,"b":{"c":[true,"x"],"d":null}}`))
	must(t, err)
	b, err := schemaOf([]byte("{\n \"b\": {\"d\": null, \"c\": [true, \"x\"]},\n \"a\": 1 }"))
	must(t, err)
	c, err := schemaOf([]byte(`{"a":2,"b":{"c":[true,"x"],"d":null}}`))
	must(t, err)
	if a != b || a == c {
		t.Errorf("%s, %s, %s", a, b, c)
	}
}

// TestRoaringCount: bitmaps as the library that scorch uses writes them.
func TestRoaringCount(t *testing.T) {
	array := "\x3a\x30\x00\x00\x01\x00\x00\x00" + "\x00\x00\x02\x00" + "\x10\x00\x00\x00" + "\x01\x00\x05\x00\x09\x00"
	run := "\x3b\x30\x00\x00" + "\x01" + "\x00\x00\xe7\x03" + "\x01\x00\x00\x00\xe7\x03" // 0 to 999
	set := "\x3a\x30\x00\x00\x01\x00\x00\x00" + "\x00\x00\x87\x13" + "\x10\x00\x00\x00" + strings.Repeat("\xff", 625) + strings.Repeat("\x00", 8192-625)
	for name, tc := range map[string]struct {
		b    string
		want uint64
	}{
		"none": {"\x3a\x30\x00\x00\x00\x00\x00\x00", 0}, "array": {array, 3}, "run": {run, 1000}, "set": {set, 5000},
	} {
		if got, err := roaringCount([]byte(tc.b)); err != nil || got != tc.want {
			t.Errorf("%s: got %d, %v", name, got, err)
		}
		for n := range len(tc.b) {
			if _, err := roaringCount([]byte(tc.b[:n])); err == nil {
				t.Errorf("%s cut to %d bytes: no error", name, n)
				break
			}
		}
	}
	if _, err := roaringCount([]byte("\x00\x00\x00\x00\x00\x00\x00\x00")); err == nil {
		t.Error("zeros: no error")
	}
}
