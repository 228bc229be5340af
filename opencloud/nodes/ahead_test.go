package nodes

import (
	"context"
	"slices"
	"testing"
)

// TestAheadOrder: what is walked over first is read first, and no more than the window.
func TestAheadOrder(t *testing.T) {
	a := newAhead(context.Background(), 1, 1)
	defer a.close()
	ran, begun, block := make(chan string), make(chan struct{}), make(chan struct{})
	a.submit(newJob("", func() int { close(begun); <-block; return 0 }))
	<-begun
	for _, at := range []string{"c", "a b", "a/b", "a"} {
		a.submit(newJob(at, func() int { ran <- at; return 1 }))
	}
	close(block)
	var order []string
	for range 4 {
		order = append(order, <-ran)
		select {
		case at := <-ran:
			t.Errorf("%s was read beyond the window", at)
		default:
		}
		a.walked(1)
	}
	if want := []string{"a", "a/b", "a b", "c"}; !slices.Equal(order, want) {
		t.Errorf("got %q, want %q", order, want)
	}
}

// TestAheadNeed: a walk does not wait for what nobody has begun, nor after the end.
func TestAheadNeed(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	a := newAhead(ctx, 0, 1)
	defer a.close()
	runs := 0
	j := newJob("a", func() int { runs++; return 5 })
	a.submit(j)
	must(t, a.need(j))
	must(t, a.need(j))
	if runs != 1 || a.held != 5 {
		t.Errorf("it ran %d times, and %d are held", runs, a.held)
	}
	cancel()
	if err := a.need(newJob("b", func() int { t.Error("it ran"); return 0 })); err == nil {
		t.Error("no error after the end")
	}
}
