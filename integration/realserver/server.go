package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

func init() {
	// The server is killed when the thread that started it ends: it has to be the main one.
	runtime.LockOSThread()
}

// serve runs the server until SIGTERM or SIGINT.
func (i *instance) serve() error {
	if _, on := i.quirk("fail-start"); on {
		return errors.New("told to fail")
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, os.Interrupt)
	i.event("start")
	if i.pause("slow-start", stop) {
		i.event("stop")
		return nil
	}
	for _, on := i.quirk("never-ready"); on; _, on = i.quirk("never-ready") {
		select { // a server that nobody can reach
		case <-stop:
			i.event("stop")
			return nil
		case <-time.After(100 * time.Millisecond):
		}
	}

	cmd := exec.Command(i.binary, "server")
	cmd.Env, cmd.Stdout, cmd.Stderr = i.environ(), os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()

	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	users := make(chan error, 1)
	go func() { users <- i.use(ctx) }()
	for {
		select {
		case err := <-ended:
			i.event("fail")
			return errors.Join(errors.New("the server ended"), err)
		case err := <-users:
			if err != nil {
				i.event("fail")
				return errors.Join(err, cmd.Process.Kill(), <-ended)
			}
			users = nil // told not to write
		case <-stop:
			if _, on := i.quirk("ignore-term"); on {
				i.event("ignored-term")
				continue
			}
			i.pause("slow-stop", nil)
			cancel()
			var err error
			if users != nil {
				err = <-users
			}
			err = errors.Join(err, cmd.Process.Signal(syscall.SIGTERM), <-ended)
			i.event("stop")
			return err
		}
	}
}

// use waits until the server is ready, and uses it then.
func (i *instance) use(ctx context.Context) error {
	c := i.client()
	err := poll(ctx, 2*time.Minute, func() error { return c.ready(ctx) })
	if err == nil {
		err = i.fill(ctx, c)
	}
	var w *writer
	if err == nil && os.Getenv("STANDIN_WRITE") != "0" {
		w, err = newWriter(ctx, c)
	}
	if ctx.Err() != nil {
		return nil
	}
	if err != nil {
		return err
	}
	i.event("ready")
	if w == nil {
		return nil
	}
	return w.run(ctx)
}

// ready tells whether people can log in, and whether files can be downloaded: the
// frontend, which serves them, comes after Graph.
func (c *client) ready(ctx context.Context) error {
	if _, err := c.drives(ctx, admin); err != nil {
		return err
	}
	_, err := c.do(ctx, "", http.MethodGet, "/ocs/v1.php/cloud/capabilities?format=json", "", http.StatusOK)
	return err
}

// quirk tells whether the server is to misbehave: see integration/standin. Only
// never-ready does nothing to a server that has started.
func (i *instance) quirk(name string) (value string, on bool) {
	if v := os.Getenv("STANDIN_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))); v != "" && v != "0" {
		return v, true
	}
	b, err := os.ReadFile(filepath.Join(i.config, "standin."+name))
	return strings.TrimSpace(string(b)), err == nil
}

// pause waits as long as the named quirk says.
func (i *instance) pause(name string, cancel <-chan os.Signal) (cancelled bool) {
	v, _ := i.quirk(name)
	d, err := time.ParseDuration(v)
	if err != nil {
		return false
	}
	select {
	case <-time.After(d):
		return false
	case <-cancel:
		return true
	}
}

// event appends to the log by which a test sees what was started and stopped.
func (i *instance) event(name string) {
	f, err := os.OpenFile(i.events, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
	if err != nil {
		fmt.Fprintln(os.Stderr, "realserver: events:", err)
		return
	}
	_, _ = fmt.Fprintf(f, "%s %s %d\n", time.Now().UTC().Format(time.RFC3339Nano), name, os.Getpid())
	_ = f.Close()
}
