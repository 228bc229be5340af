package secretfile

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ocbackup/ocbackup/fail"
)

func TestFiles(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct {
		name, text  string
		mode        os.FileMode
		check, read string // part of the errors
	}{
		{"good", "s3cret\r\n", 0o600, "", ""},
		{"group", "s3cret", 0o640, "", ""},
		{"for all to read", "s3cret", 0o604, "everybody", "everybody"},
		{"for all to change", "s3cret", 0o602, "everybody", "everybody"},
		{"two lines", "a\nb\n", 0o600, "", "one line"},
		{"empty", "\n", 0o600, "", "one line"},
		{"big", strings.Repeat("x", most+1), 0o600, "", "too big"},
	} {
		path := filepath.Join(dir, c.name)
		if err := os.WriteFile(path, []byte(c.text), c.mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, c.mode); err != nil {
			t.Fatal(err)
		}
		expect(t, c.name, Check("key", path), c.check)
		secret, err := Read("key", path)
		if expect(t, c.name, err, c.read); err == nil && secret != "s3cret" {
			t.Errorf("%s: %q", c.name, secret)
		}
	}
	expect(t, "missing", Check("key", filepath.Join(dir, "no")), "there is no file")
	expect(t, "directory", Check("key", dir), "is no file")
}

func expect(t *testing.T, name string, err error, want string) {
	t.Helper()
	if (err == nil) != (want == "") || err != nil && (!strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "key: ") || fail.CodeOf(err) != fail.Usage) {
		t.Errorf("%s: %v, want %q", name, err, want)
	}
}
