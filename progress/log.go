package progress

import (
	"sync"
	"time"

	"github.com/rs/zerolog"
)

// every is how often a long step says that it is still going on.
const every = 30 * time.Second

// Log returns a Reporter that writes one log line per step: when it ends, and, when
// it is long, now and then while it lasts.
func Log(log zerolog.Logger) Reporter { return logger{log} }

type logger struct{ log zerolog.Logger }

func (l logger) Step(name string) Step {
	now := time.Now()
	return &logStep{log: l.log.With().Str("step", name).Logger(), start: now, last: now}
}

func (l logger) Note(text string) { l.log.Info().Msg(text) }

type logStep struct {
	mu    sync.Mutex
	log   zerolog.Logger
	start time.Time
	last  time.Time
}

func (s *logStep) Update(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Since(s.last) < every {
		return
	}
	s.last = time.Now()
	s.event(s.log.Info()).Str("state", "running").Msg(text)
}

func (s *logStep) Done(summary string) { s.event(s.log.Info()).Str("state", "ok").Msg(summary) }

func (s *logStep) Skip(reason string) {
	if reason != "" {
		s.event(s.log.Info()).Str("state", "skipped").Msg(reason)
	}
}

func (s *logStep) Fail(err error) { s.event(s.log.Error()).Str("state", "failed").Msg(err.Error()) }

func (s *logStep) event(e *zerolog.Event) *zerolog.Event {
	return e.Float64("seconds", float64(time.Since(s.start).Milliseconds())/1000)
}
