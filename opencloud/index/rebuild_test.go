package index

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/ocbackup/ocbackup/opencloud/control"
	"github.com/ocbackup/ocbackup/opencloud/spaces"
	"github.com/ocbackup/ocbackup/proc"
)

// server plays "search index" of a server version.
type server struct {
	help  string
	calls []string // the arguments after "search index --space"
	// answer decides on call n (from 1) for a space.
	answer func(id string, n int) (string, error)
	counts map[string]int
}

func (s *server) exec(ctx context.Context, args ...string) (string, error) {
	if err := ctx.Err(); err != nil {
		return "", err
	}
	if slices.Equal(args, []string{"search", "index", "--help"}) {
		return s.help, nil
	}
	if len(args) < 4 || !slices.Equal(args[:3], []string{"search", "index", "--space"}) {
		return "", fmt.Errorf("unexpected command %q", args)
	}
	s.calls = append(s.calls, strings.Join(args[3:], " "))
	if s.counts == nil {
		s.counts = map[string]int{}
	}
	s.counts[args[3]]++
	if s.answer == nil {
		return "", nil
	}
	return s.answer(args[3], s.counts[args[3]])
}

// Recorded and documented help texts, as far as they matter.
const (
	help40 = "OPTIONS:\n   --space value, -s value  the id\n   --all-spaces  index all\n"
	help72 = "Flags:\n      --all-spaces     index all\n      --force-rescan   force\n  -s, --space string"
	help74 = help72 + "\n      --concurrency int   number (default 3)\n      --insecure          disable TLS"
)

// rc1 is how a server command fails: with 1, and its words on standard error.
func rc1(words string) error {
	return fmt.Errorf("run in container: %w", &proc.ExitError{Name: "opencloud search", Code: 1, Stderr: words})
}

func space(id string) spaces.Space {
	return spaces.Space{ID: "s$" + id, Name: id, Type: "project", Root: "/users/" + id}
}

func all(ids ...string) (list []spaces.Space) {
	for _, id := range ids {
		list = append(list, space(id))
	}
	return list
}

func ids(list []Outcome) string {
	var s []string
	for _, o := range list {
		s = append(s, strings.TrimPrefix(o.ID, "s$"))
	}
	return strings.Join(s, " ")
}

func check(t *testing.T, r *Report, indexed, skipped, failed string) {
	t.Helper()
	if ids(r.Indexed) != indexed || ids(r.Skipped) != skipped || ids(r.Failed) != failed {
		t.Errorf("indexed %q, skipped %q, failed %q; want %q, %q, %q\n%+v", ids(r.Indexed), ids(r.Skipped), ids(r.Failed), indexed, skipped, failed, r)
	}
	if (r.Err() != nil) != (failed != "") {
		t.Errorf("Err: %v", r.Err())
	}
}

func marked(t *testing.T, m Marker) string {
	t.Helper()
	dir := t.TempDir()
	m.Reason = Absent
	must(t, MarkRequired(dir, m))
	return dir
}

func TestRebuildSkipsAndClears(t *testing.T) {
	list := all("a", "b", "c")
	list[1].Disabled = true
	list = append(list, spaces.Space{ID: "a0$v", Name: "Shares", Type: "virtual"})
	dir, srv := marked(t, Marker{}), &server{help: help40}
	var told []string
	r, err := Rebuild(context.Background(), RebuildOptions{Exec: srv.exec, Spaces: list, Dir: dir, OnSpace: func(done, total int, name string) {
		told = append(told, fmt.Sprint(done, "/", total, " ", name))
	}})
	must(t, err)
	check(t, r, "a c", "b a0$v", "")
	if m, err := Required(dir); m != nil || err != nil || r.Required {
		t.Errorf("marker %+v, %v, report %v", m, err, r.Required)
	}
	if want := []string{"0/2 a", "1/2 c"}; !slices.Equal(told, want) {
		t.Errorf("told %q, want %q", told, want)
	}
	if !r.Incremental {
		t.Error("4.0 can't be made to index again what it knows, and the report does not say so")
	}
}

func TestRebuildFlagsOfServerVersions(t *testing.T) {
	for name, tc := range map[string]struct{ help, want string }{
		"4.0":                 {help40, "s$a"},
		"7.2":                 {help72, "s$a --force-rescan"},
		"7.4":                 {help74, "s$a --force-rescan --concurrency 1 --insecure"},
		"help is not offered": {"", "s$a"},
	} {
		t.Run(name, func(t *testing.T) {
			srv := &server{help: tc.help}
			_, err := Rebuild(context.Background(), RebuildOptions{Exec: srv.exec, Spaces: all("a"), Dir: t.TempDir()})
			must(t, err)
			if !slices.Equal(srv.calls, []string{tc.want}) {
				t.Errorf("calls %q", srv.calls)
			}
		})
	}
}

// TestRebuildRetry: one failing space does not keep the others from being indexed,
// is tried once more, and keeps the marker when that fails, too.
func TestRebuildRetry(t *testing.T) {
	notYet := rc1(`{"id":"go.micro.client","code":500,"detail":"service eu.opencloud.api.search: not found"}`)
	for name, tc := range map[string]struct {
		help            string
		failures        int
		err             error
		out             string
		calls           int
		indexed, failed string
		words           string
	}{
		"4.0, not registered yet":         {help: help40, failures: 1, err: notYet, calls: 2, indexed: "a c b"},
		"4.0, never there":                {help: help40, failures: 9, err: notYet, calls: 2, indexed: "a c", failed: "b", words: "not found"},
		"4.0, half way: no retry":         {help: help40, failures: 1, err: rc1("error: internal error: list container"), calls: 1, indexed: "a c", failed: "b", words: "half indexed"},
		"4.0, time-out: no retry":         {help: help40, failures: 1, err: rc1(`{"id":"go.micro.client","code":408,"detail":"call timeout: context deadline exceeded"}`), calls: 1, indexed: "a c", failed: "b", words: "half indexed"},
		"7.2, half way: a forced retry":   {help: help72, failures: 1, err: rc1("error: internal error: list container"), calls: 2, indexed: "a c b"},
		"7.4, TLS: retried the other way": {help: help74, failures: 1, err: rc1("code = Unavailable"), calls: 2, indexed: "a c b"},
		"7.4, fails with exit code 0":     {help: help74, failures: 9, out: "[1/1] failed to index space s$b: boom\n", calls: 2, indexed: "a c", failed: "b", words: "boom"},
		"7.4, ended with exit code 0":     {help: help74, failures: 9, out: "aborted, indexing has been stopped\n", calls: 2, indexed: "a c", failed: "b", words: "stopped"},
	} {
		t.Run(name, func(t *testing.T) {
			dir, srv := marked(t, Marker{}), &server{help: tc.help}
			srv.answer = func(id string, n int) (string, error) {
				if id == "s$b" && n <= tc.failures {
					return tc.out, tc.err
				}
				return "[1/1] indexed space " + id + " in 1s\n", nil
			}
			r, err := Rebuild(context.Background(), RebuildOptions{Exec: srv.exec, Spaces: all("a", "b", "c"), Dir: dir})
			must(t, err)
			check(t, r, tc.indexed, "", tc.failed)
			if srv.counts["s$b"] != tc.calls {
				t.Errorf("tried %d times: %q", srv.counts["s$b"], srv.calls)
			}
			m, err := Required(dir)
			must(t, err)
			if (m != nil) != (tc.failed != "") || r.Required != (m != nil) {
				t.Errorf("marker %+v", m)
			}
			if tc.failed != "" && !strings.Contains(r.Err().Error(), tc.words) {
				t.Errorf("the report does not say why: %v", r.Err())
			}
		})
	}
}

func TestRebuildRemembersHowToConnect(t *testing.T) {
	srv := &server{help: help74}
	srv.answer = func(string, int) (string, error) {
		if strings.HasSuffix(srv.calls[len(srv.calls)-1], "--insecure") {
			return "", rc1("code = Unavailable")
		}
		return "", nil
	}
	x := newIndexer(context.Background(), srv.exec)
	for i, want := range []bool{false, true} { // first try fails, retry without works; then without at once
		err := x.index(context.Background(), "s$a", false)
		if (err == nil) != want {
			t.Fatalf("try %d: %v", i, err)
		}
		if err != nil {
			must(t, x.index(context.Background(), "s$a", true))
		}
	}
}

// TestRebuildResumes: an interrupted run leaves in the marker what is done, and the
// next one goes on there.
func TestRebuildResumes(t *testing.T) {
	for name, tc := range map[string]struct{ help, indexed, failed string }{
		"7.2": {help72, "b c", ""},
		"4.0": {help40, "c", "b"}, // b may be half indexed, and would be skipped by the server
	} {
		t.Run(name, func(t *testing.T) {
			dir := marked(t, Marker{Set: "x"})
			ctx, cancel := context.WithCancel(context.Background())
			srv := &server{help: tc.help, answer: func(id string, _ int) (string, error) {
				if id == "s$b" {
					cancel()
					return "", ctx.Err()
				}
				return "", nil
			}}
			o := RebuildOptions{Exec: srv.exec, Spaces: all("a", "b", "c"), Dir: dir}
			if _, err := Rebuild(ctx, o); !errors.Is(err, context.Canceled) {
				t.Fatalf("got %v", err)
			}
			m, err := Required(dir)
			must(t, err)
			if m.Set != "x" || !slices.Equal(m.Done, []string{"s$a"}) || !slices.Equal(m.Begun, []string{"s$b"}) {
				t.Fatalf("marker %+v", m)
			}
			srv.answer = nil
			r, err := Rebuild(context.Background(), o)
			must(t, err)
			check(t, r, tc.indexed, "a", tc.failed)
			if r.Required != (tc.failed != "") {
				t.Errorf("required: %v", r.Required)
			}
			o.Restart = true
			r, err = Rebuild(context.Background(), o)
			must(t, err)
			check(t, r, "a b c", "", "")
			if m, err := Required(dir); m != nil || err != nil {
				t.Errorf("marker %+v, %v", m, err)
			}
		})
	}
}

func TestRebuildOnly(t *testing.T) {
	dir, srv := marked(t, Marker{Done: []string{"s$a"}}), &server{help: help72}
	o := RebuildOptions{Exec: srv.exec, Spaces: all("a", "b"), Dir: dir, Only: []string{"s$a"}}
	r, err := Rebuild(context.Background(), o)
	must(t, err)
	check(t, r, "a", "", "")
	if !r.Required {
		t.Error("the marker was cleared with a space missing")
	}
	o.Only = []string{"s$b"}
	r, err = Rebuild(context.Background(), o)
	must(t, err)
	check(t, r, "b", "", "")
	if r.Required {
		t.Error("the marker is still there, with every space done")
	}
	o.Only = []string{"s$nope"}
	if _, err := Rebuild(context.Background(), o); err == nil || !strings.Contains(err.Error(), "s$nope") {
		t.Errorf("got %v", err)
	}
}

func TestRebuildUnreadableSpace(t *testing.T) {
	dir, srv := marked(t, Marker{}), &server{help: help40}
	list := append(all("a"), spaces.Space{Root: "/users/b", Err: errors.New("has lost its attributes")})
	r, err := Rebuild(context.Background(), RebuildOptions{Exec: srv.exec, Spaces: list, Dir: dir})
	must(t, err)
	if ids(r.Indexed) != "a" || len(r.Failed) != 1 || r.Failed[0].Name != "/users/b" || !r.Required {
		t.Errorf("got %+v", r)
	}
}

func TestRebuildCannotBegin(t *testing.T) {
	dir, srv := marked(t, Marker{}), &server{help: help40}
	if _, err := Rebuild(context.Background(), RebuildOptions{Exec: srv.exec, Dir: dir}); err == nil {
		t.Error("no spaces, and no error")
	}
	srv.answer = func(string, int) (string, error) { return "", control.ErrNoExec }
	if _, err := Rebuild(context.Background(), RebuildOptions{Exec: srv.exec, Spaces: all("a", "b"), Dir: dir}); !errors.Is(err, control.ErrNoExec) {
		t.Errorf("got %v", err)
	}
	if len(srv.calls) != 1 {
		t.Errorf("calls %q", srv.calls)
	}
	if m, err := Required(dir); m == nil || err != nil {
		t.Errorf("the marker is gone: %v", err)
	}
}
