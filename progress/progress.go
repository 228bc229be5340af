// Package progress tells people and logs how a run is going, step by step.
package progress

// Reporter is told about the steps of a run. Implementations are safe for use
// from several goroutines.
type Reporter interface {
	// Step begins a step. Steps run one after the other.
	Step(name string) Step
	// Note tells one thing that is worth a line of its own.
	Note(text string)
}

// Step is a step that is under way. Exactly one of Done, Skip and Fail ends it.
type Step interface {
	// Update says what the step is doing right now. It may be called often.
	Update(text string)
	// Done ends the step well; summary is its one line.
	Done(summary string)
	// Skip ends a step that had nothing to do. Without a reason it leaves no trace.
	Skip(reason string)
	// Fail ends the step with an error.
	Fail(err error)
}

// Discard is a Reporter that tells nobody.
var Discard Reporter = discard{}

type discard struct{}

func (discard) Step(string) Step { return discard{} }
func (discard) Note(string)      {}
func (discard) Update(string)    {}
func (discard) Done(string)      {}
func (discard) Skip(string)      {}
func (discard) Fail(error)       {}
