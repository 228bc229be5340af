package fail

import (
	"context"
	"errors"
	"fmt"
	"testing"
)

func TestCodeOf(t *testing.T) {
	notBack := &Error{Code: NotBack, What: "start"}
	for _, tc := range []struct {
		name string
		err  error
		want Code
	}{
		{"no error", nil, OK},
		{"an error without a code", errors.New("x"), Failed},
		{"an Error without a code", &Error{What: "x"}, Failed},
		{"wrapped", fmt.Errorf("outer: %w", New(Locked, "x", "")), Locked},
		{"the instance is not back outranks all", errors.Join(New(Interrupted, "", ""), notBack, New(Repository, "", "")), NotBack},
		{"a signal outranks what it caused", errors.Join(New(Interrupted, "", ""), Wrap(Repository, context.Canceled, "store", "")), Interrupted},
		{"the deadline outranks what it caused", Wrap(Failed, errors.Join(New(Deadline, "", ""), New(Repository, "", "")), "cold", ""), Deadline},
		{"an outer Error without a better code", &Error{Step: "cold", Err: New(Incomplete, "x", "")}, Incomplete},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := CodeOf(tc.err); got != tc.want {
				t.Errorf("got %d, want %d", got, tc.want)
			}
		})
	}
}

func TestDetails(t *testing.T) {
	err := &Error{Step: "cold", State: "running", Err: errors.Join(
		&Error{Code: Repository, What: "store", Hint: "look at the repository"},
		&Error{Code: NotBack, What: "start", Hint: "start it by hand"},
	)}
	step, state, hint := Details(err)
	if step != "cold" || state != "running" {
		t.Errorf("step %q, state %q", step, state)
	}
	if hint != "start it by hand" {
		t.Errorf("the hint of what matters most is wanted, got %q", hint)
	}
}
