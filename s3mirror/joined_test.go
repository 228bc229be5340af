package s3mirror

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// The inventory of a moment between two listings holds what was there at both, what the
// moment needs of the rest, and nothing else.
func TestJoinInventories(t *testing.T) {
	for name, tc := range map[string]struct {
		before, after, needs, want string
	}{
		"nothing has happened":             {"a/1 a/2", "a/1 a/2", "a/1 a/2", "a/1 a/2"},
		"an orphan stays":                  {"a/1 a/9", "a/1 a/9", "a/1", "a/1 a/9"},
		"uploaded before the moment":       {"a/1", "a/1 a/2", "a/1 a/2", "a/1 a/2"},
		"uploaded after it":                {"a/1", "a/1 a/2", "a/1", "a/1"},
		"purged after it":                  {"a/1 a/2", "a/1", "a/1 a/2", "a/1 a/2"},
		"purged before it":                 {"a/1 a/2", "a/1", "a/1", "a/1"},
		"uploaded before, purged after":    {"a/1", "a/1", "a/1 a/2", "a/1"},
		"spaces stay together":             {"a/1 b/1", "a/1 a/2 b/1 c/1", "a/1 a/2 b/1 c/1", "a/1 a/2 b/1 c/1"},
		"a space that was removed":         {"a/1 a/2 b/1", "b/1", "a/1 b/1", "a/1 b/1"},
		"an empty bucket before the first": {"", "a/1", "a/1", "a/1"},
		"all is gone":                      {"a/1", "", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			file := func(name, keys string) string {
				path := filepath.Join(dir, name)
				if err := writeObjects(path, func(write func(*Object) error) error {
					for _, k := range strings.Fields(keys) {
						if err := write(&Object{Key: k, Size: 10}); err != nil {
							return err
						}
					}
					return nil
				}); err != nil {
					t.Fatal(err)
				}
				return path
			}
			needs := func(key string) bool { return slices.Contains(strings.Fields(tc.needs), key) }
			inv, err := joinInventories(file("before", tc.before), file("after", tc.after), filepath.Join(dir, "joined"), needs)
			if err != nil {
				t.Fatal(err)
			}
			data, err := os.ReadFile(inv.Path)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for r := newReader(strings.NewReader(string(data)), "joined"); r.next(); {
				got = append(got, r.at.Key)
			}
			if s := strings.Join(got, " "); s != tc.want {
				t.Errorf("joined %q, want %q", s, tc.want)
			}
			sum := sha256.Sum256(data)
			if inv.Objects != uint64(len(got)) || inv.Bytes != 10*inv.Objects || inv.Digest != hex.EncodeToString(sum[:]) {
				t.Errorf("%+v does not describe the file", inv)
			}
		})
	}
}

// What was in the bucket at one of several listings after the moment is in the pool, and
// needed, however short it was there.
func TestJoinAgain(t *testing.T) {
	dir := t.TempDir()
	list := func(keys ...string) string {
		path := filepath.Join(dir, "listed")
		if err := writeObjects(path, func(write func(*Object) error) error {
			for _, k := range keys {
				if err := write(&Object{Key: k, Size: 10}); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		return path
	}
	needs := func(key string) bool { return key != "a/9" }
	before, joined := filepath.Join(dir, "before"), filepath.Join(dir, "joined")
	if err := os.Rename(list("a/1"), before); err != nil {
		t.Fatal(err)
	}
	inv, err := joinTo(joined, before, list("a/1", "a/2", "a/9"), needs)
	if err != nil {
		t.Fatal(err)
	}
	if inv, err = joinTo(joined, inv.Path, list("a/1", "a/3", "a/9"), needs); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(joined)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for r := newReader(strings.NewReader(string(data)), "joined"); r.next(); {
		got = append(got, r.at.Key)
	}
	if want := []string{"a/1", "a/2", "a/3"}; !slices.Equal(got, want) || inv.Path != joined {
		t.Errorf("joined %q in %s, want %q in %s", got, inv.Path, want, joined)
	}
}

// A torn list is an error, not a shorter inventory.
func TestJoinTornInventories(t *testing.T) {
	dir := t.TempDir()
	whole, torn := filepath.Join(dir, "whole"), filepath.Join(dir, "torn")
	for path, text := range map[string]string{
		whole: `{"key":"a/1","size":1,"modified":"2026-01-01T00:00:00Z"}` + "\n",
		torn:  `{"key":"a/1","size":1,"modified":"2026-01-01T00:00:00Z"}` + "\n" + `{"key":"a/2","si`,
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	all := func(string) bool { return true }
	for _, pair := range [][2]string{{whole, torn}, {torn, whole}} {
		if _, err := joinInventories(pair[0], pair[1], filepath.Join(dir, "joined"), all); err == nil || !strings.Contains(err.Error(), "torn") {
			t.Errorf("got %v, want an error that names the file", err)
		}
	}
}
