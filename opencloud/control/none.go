package control

import "context"

// none is the controller of an instance that nobody controls: a copy of its
// files, say. It can't tell whether a server runs on them; the locks can
// (opencloud.LocksFree).
type none struct{}

func newNone(cfg Config) (Controller, error) { return none{}, checkNoAlso(cfg) }

func (none) String() string { return "an instance without control" }

func (none) Status(context.Context) (Status, error) {
	return Status{State: Stopped, Detail: "not controlled"}, nil
}

func (none) Stop(context.Context) error                      { return nil }
func (none) Start(context.Context, []string) error           { return nil }
func (none) Exec(context.Context, ...string) (string, error) { return "", ErrNoExec }
func (none) Image(context.Context) (Image, error)            { return Image{}, nil }
