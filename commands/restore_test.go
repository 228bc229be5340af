package commands

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/restore"
)

// A restore that failed when its data was in place still tells what it did, and how
// to take it back.
func TestResultOfAFailedRestore(t *testing.T) {
	failed := fail.New(fail.Failed, "build the search index again", "ocbackup reindex")
	res := &restore.Result{Set: "s", Aside: []string{"/a"}, Undo: "ocbackup restore --undo", Delete: "rm -rf /a", Reindex: restore.ReindexPending, ReindexBy: "ocbackup reindex"}
	var out bytes.Buffer
	e := &env{out: &out, json: true}
	err := e.printRestored(res, failed)
	var told *reportedError
	var got restore.Result
	if !errors.As(err, &told) || fail.CodeOf(err) != fail.Failed || json.Unmarshal(out.Bytes(), &got) != nil || got.Undo != res.Undo {
		t.Errorf("%v; %s", err, out.String())
	}
	out.Reset()
	e.json = false
	err = e.printRestored(res, failed)
	if text := out.String(); !errors.Is(err, failed) || !strings.Contains(text, res.Undo) || !strings.Contains(text, "ocbackup reindex") || strings.Contains(text, "Done in") {
		t.Errorf("%v; %s", err, text)
	}
	out.Reset()
	if err := e.printRestored(nil, failed); !errors.Is(err, failed) || out.Len() > 0 {
		t.Errorf("%v; %s", err, out.String())
	}
}
