package index

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestMarker(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state") // made when needed
	if m, err := Required(dir); m != nil || err != nil {
		t.Fatalf("without a marker: %v, %v", m, err)
	}
	want := Marker{Set: "20261123T021500Z-7f3a", Reason: Damaged, Detail: "root.bolt is missing", Since: time.Unix(1795400000, 0).UTC(), Done: []string{"s$1"}}
	must(t, MarkRequired(dir, want))
	got, err := Required(dir)
	must(t, err)
	if !reflect.DeepEqual(*got, want) {
		t.Errorf("got  %+v\nwant %+v", *got, want)
	}
	want.Done = append(want.Done, "s$2")
	must(t, MarkRequired(dir, want))
	if got, err = Required(dir); err != nil || len(got.Done) != 2 {
		t.Errorf("got %+v, %v", got, err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("left in the state directory: %v, %v", entries, err)
	}
	must(t, ClearRequired(dir))
	must(t, ClearRequired(dir))
	if m, err := Required(dir); m != nil || err != nil {
		t.Errorf("after clearing: %v, %v", m, err)
	}
}

func TestDamagedMarkerIsAMarker(t *testing.T) {
	for name, text := range map[string]string{"empty": "", "garbage": "{", "list": "[]", "cut off": `{"set":"x","done":["a"`} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			must(t, os.WriteFile(filepath.Join(dir, markerFile), []byte(text), 0o600))
			m, err := Required(dir)
			must(t, err)
			if m == nil || m.Reason != Unknown || len(m.Done) != 0 || !strings.Contains(m.Detail, "damaged") || m.Since.IsZero() {
				t.Errorf("got %+v", m)
			}
		})
	}
}

func TestMarkerCannotBeWritten(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	must(t, os.WriteFile(file, nil, 0o600))
	if err := MarkRequired(filepath.Join(file, "state"), Marker{}); err == nil {
		t.Error("no error")
	}
}

func TestMarkerCannotBeRead(t *testing.T) {
	dir := t.TempDir()
	must(t, os.Mkdir(filepath.Join(dir, markerFile), 0o700))
	if m, err := Required(dir); err == nil {
		t.Errorf("got %+v and no error", m)
	}
}
