package backup

import (
	"context"
	"errors"
	"testing"
)

func TestNobodyWaitsForWhatHangs(t *testing.T) {
	hangs := make(chan struct{})
	defer close(hangs)
	over := errors.New("time is up")
	ctx, end := context.WithCancelCause(t.Context())
	end(over)
	if err := unlessHung(ctx, 0, func() error { <-hangs; return nil }); !errors.Is(err, over) {
		t.Errorf("what hangs: %v", err)
	}
	own := errors.New("it was called off")
	if err := unlessHung(ctx, giveUp, func() error { return own }); !errors.Is(err, own) {
		t.Errorf("what ends in order: %v", err)
	}
}
