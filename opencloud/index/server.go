package index

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/ocbackup/ocbackup/proc"
)

// indexer runs "search index" of one server version.
type indexer struct {
	exec func(ctx context.Context, args ...string) (string, error)

	// force: the server has --force-rescan (since 7.x). Without it, it skips every
	// folder that it has already indexed, with all that is below it, even when it
	// was interrupted before it got there: a second try then does nothing and
	// succeeds (services/search/pkg/search/service.go, IndexSpace: "subtree hasn't
	// changed. Skipping.").
	force bool
	// serial: the server has --concurrency (since 7.4). Its default is refused where
	// the configured maximum is lower.
	serial bool
	// plain: the server has --insecure (since 7.4): the command talks to the search
	// service directly, which has no TLS by default, and upgrade instructions of the
	// server call it like that. noPlain is set once it was seen to fail.
	plain, noPlain bool
}

// newIndexer asks the server's command which flags it has.
func newIndexer(ctx context.Context, exec func(context.Context, ...string) (string, error)) *indexer {
	x := &indexer{exec: exec}
	// No help is no failure: that shows when the first space is indexed.
	help, err := exec(ctx, "search", "index", "--help")
	if err == nil {
		x.force = strings.Contains(help, "--force-rescan")
		x.serial = strings.Contains(help, "--concurrency")
		x.plain = strings.Contains(help, "--insecure")
	}
	return x
}

// index has one space indexed. Server versions differ in how they tell of a
// failure: by exit code, or by text alone.
func (x *indexer) index(ctx context.Context, id string, retry bool) error {
	args := []string{"search", "index", "--space", id}
	if x.force {
		args = append(args, "--force-rescan")
	}
	if x.serial {
		args = append(args, "--concurrency", "1")
	}
	// A retry tries the other way: an admin may have given the service TLS.
	plain := x.plain && x.noPlain == retry
	if plain {
		args = append(args, "--insecure")
	}
	out, err := x.exec(ctx, args...)
	if err == nil && (strings.Contains(out, "failed to index space") || strings.Contains(out, "indexing has been stopped")) {
		err = errors.New(lastLine(out))
	}
	if err != nil && ctx.Err() != nil {
		return ctx.Err()
	}
	if err == nil && x.plain {
		x.noPlain = !plain
	}
	return err
}

// neverBegun tells from the words of the server whether it did not even begin to
// index: the service could not be reached, or the root of the space not be opened.
func neverBegun(err error) bool {
	var exit *proc.ExitError
	if !errors.As(err, &exit) {
		return true // the command itself could not be run
	}
	words := exit.Stderr
	for _, w := range []string{
		"no servers available",                       // the registry is not there yet
		"service eu.opencloud.api.search: not found", // the service is not registered yet
		"stat: error: not found",                     // only the root of a walk is asked for by stat
		"invalid space id",
	} {
		if strings.Contains(words, w) {
			return true
		}
	}
	return strings.Contains(words, "go.micro.client") && strings.Contains(words, "Error while dialing")
}

// explain adds what a failure means where the server can't make good for it.
func (x *indexer) explain(err error) error {
	if x.force || neverBegun(err) {
		return err
	}
	return fmt.Errorf("%w (%s)", err, halfIndexed)
}

const halfIndexed = "it may be half indexed, and this version of the server takes that for done: it needs a new index"

func lastLine(s string) string {
	s = strings.TrimSpace(s)
	return s[strings.LastIndexByte(s, '\n')+1:]
}
