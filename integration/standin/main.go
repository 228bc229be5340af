// Command standin plays the OpenCloud server in tests: the same command line,
// files, locks, ports and traps, in a static binary that fits an image built
// from scratch.
//
// While it runs it keeps writing pairs of files that belong together, so that
// a copy of its data taken meanwhile is visibly inconsistent ("standin check").
package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/ocbackup/ocbackup/integration/objects"
)

const usage = `usage: standin COMMAND
  init                                   write a configuration with new secrets
  server                                 serve until SIGTERM
  version [--skip-services]              print the version
  search index --space ID|--all-spaces   index spaces of the running server
  check [DIR]                            are the written pairs consistent? 0 yes, 1 no, 3 xattrs lost
                                         DIR has the bucket's objects as files, instead of the S3 server
  indexed                                print the ids of the indexed spaces`

// exitError is an error with an exit code of its own.
type exitError struct {
	code int
	text string
}

func (e *exitError) Error() string { return e.text }

func main() {
	var err error
	if strings.TrimLeft(filepath.Base(os.Args[0]), "-") == "sh" {
		err = shell(os.Args[1:])
	} else {
		err = run(os.Args[1:])
	}
	if err == nil {
		return
	}
	fmt.Fprintln(os.Stderr, "standin:", err)
	var exit *exitError
	if errors.As(err, &exit) {
		os.Exit(exit.code)
	}
	os.Exit(1)
}

func run(args []string) error {
	l := layoutFromEnv()
	switch strings.Join(args, " ") {
	case "init":
		return initConfig(l)
	case "server":
		return serve(l)
	case "version", "version --skip-services":
		fmt.Printf("Version: %s\nCompiled: 2026-01-01 00:00:00 +0000 UTC\n", env("STANDIN_VERSION", "4.0.0-standin"))
		return nil
	case "check":
		return check(l)
	case "indexed":
		return printIndexed(l)
	}
	if len(args) == 2 && args[0] == "check" && l.driver == "decomposeds3" {
		l.blobs = objects.Dir(args[1])
		return check(l)
	}
	if len(args) >= 3 && args[0] == "search" && args[1] == "index" {
		return searchIndex(l, args[2:])
	}
	return &exitError{2, usage}
}

// shell does the little of /bin/sh that OpenCloud's compose file asks of it
// ("opencloud init || true; opencloud server"), for images without a shell.
func shell(args []string) error {
	if len(args) != 2 || args[0] != "-c" {
		return &exitError{2, "this sh knows only -c"}
	}
	var err error
	for line := range strings.SplitSeq(args[1], ";") {
		line, ignore := strings.CutSuffix(strings.TrimSpace(line), "|| true")
		words := strings.Fields(line)
		if len(words) > 0 && words[0] == "exec" {
			words = words[1:]
		}
		if len(words) == 0 {
			continue
		}
		err = run(words[1:])
		if err != nil && ignore {
			fmt.Fprintln(os.Stderr, "standin:", err)
			err = nil
		}
	}
	return err
}

// layout is where the instance keeps what, by the same variables as the real server.
type layout struct {
	config    string        // OC_CONFIG_DIR
	data      string        // OC_BASE_DATA_PATH
	driver    string        // STORAGE_USERS_DRIVER
	users     string        // storage root of the driver
	blobs     objects.Store // contents of files: below users, or in a bucket
	idm       string        // idm.boltdb
	index     string        // the bleve index directory
	proxyAddr string
	ldapsAddr string
	debugAddr string // the search service's
}

func layoutFromEnv() layout {
	l := layout{
		config:    env("OC_CONFIG_DIR", "/etc/opencloud"),
		data:      env("OC_BASE_DATA_PATH", "/var/lib/opencloud"),
		driver:    env("STORAGE_USERS_DRIVER", "posix"),
		proxyAddr: env("PROXY_HTTP_ADDR", "127.0.0.1:9200"),
		ldapsAddr: env("IDM_LDAPS_ADDR", "127.0.0.1:9235"),
		debugAddr: env("SEARCH_DEBUG_ADDR", "127.0.0.1:9224"),
	}
	l.users = env("STORAGE_USERS_"+strings.ToUpper(l.driver)+"_ROOT", filepath.Join(l.data, "storage/users"))
	l.blobs = objects.Dir(l.users)
	if l.driver == "decomposeds3" {
		l.blobs = objects.FromEnv()
	}
	l.idm = env("IDM_DATABASE_PATH", filepath.Join(l.data, "idm/idm.boltdb"))
	l.index = filepath.Join(env("SEARCH_ENGINE_BLEVE_DATA_PATH", filepath.Join(l.data, "search")), "bleve")
	return l
}

func env(name, fallback string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return fallback
}
