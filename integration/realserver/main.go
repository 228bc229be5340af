// Command realserver has the scenarios run on a real OpenCloud server: it wraps the
// binary that $OPENCLOUD_BIN names into the command line of integration/standin.
//
// The server listens on this machine only, on ports that are shifted by as much as
// $PROXY_HTTP_ADDR is from 9200. It is filled over HTTP at its first start, and
// while it runs files are uploaded in a known order, so that a copy can be checked.
package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/ocbackup/ocbackup/integration/objects"
)

const usage = `usage: realserver COMMAND
  init      write a configuration; the admin's password is "admin"
  server    serve until SIGTERM
  check [DIR]  is the tree consistent? 0 yes, 1 no, 3 attributes lost (no server needed)
               DIR has the bucket's objects as files, instead of the S3 server
  indexed   print the ids of the spaces in which the running server's search finds something
  verify    does the running server serve all that it was filled with (expected.tsv)?
anything else is a command of the server itself`

// exitError is an error with an exit code of its own.
type exitError struct {
	code int
	text string
}

func (e *exitError) Error() string { return e.text }

func main() {
	err := run(os.Args[1:])
	if err == nil {
		return
	}
	fmt.Fprintln(os.Stderr, "standin:", err) // the word by which the scenarios know that a server ended
	var exit *exitError
	if errors.As(err, &exit) {
		os.Exit(exit.code)
	}
	os.Exit(1)
}

func run(args []string) error {
	i, err := instanceFromEnv()
	if err != nil {
		return err
	}
	switch strings.Join(args, " ") {
	case "":
		return &exitError{2, usage}
	case "init":
		return i.exec("init", "--insecure", "true", "--admin-password", adminPassword)
	case "server":
		return i.serve()
	case "check":
		return i.check(objects.FromEnv())
	case "indexed":
		return i.printIndexed()
	case "verify":
		return i.verify()
	}
	if len(args) == 2 && args[0] == "check" {
		return i.check(objects.Dir(args[1]))
	}
	return i.exec(args...)
}

// exec becomes the server's own program.
func (i *instance) exec(args ...string) error {
	if err := os.MkdirAll(i.config, 0o700); err != nil {
		return err
	}
	return syscall.Exec(i.binary, append([]string{filepath.Base(i.binary)}, args...), i.environ())
}
