package server

import (
	"context"
	"sync"
	"time"

	"github.com/weir-project/weir/limiter"
)

// earlyContext ends a little before the caller's own, so that there is time to answer.
// It costs a timer only if somebody waits for it.
type earlyContext struct {
	context.Context
	deadline time.Time // zero: none
	late     bool      // it had passed when the call came

	once    sync.Once
	waited  context.Context
	release context.CancelFunc
}

// beforeDeadline returns a context for a store to wait by: it ends before ctx does,
// but after the instant until which the call may be held. Call its stop when done.
func (d *decider) beforeDeadline(ctx context.Context, now limiter.Instant) *earlyContext {
	e := &earlyContext{Context: ctx}
	if deadline, ok := ctx.Deadline(); ok {
		left := deadline.Sub(d.base) - now.Sub(d.wall)
		e.late = left <= 0
		e.deadline = deadline.Add(-answerMargin(left) / 2)
	}
	return e
}

// Deadline implements context.Context.
func (e *earlyContext) Deadline() (time.Time, bool) { return e.deadline, !e.deadline.IsZero() }

// Done implements context.Context.
func (e *earlyContext) Done() <-chan struct{} {
	if e.deadline.IsZero() {
		return e.Context.Done()
	}
	e.once.Do(func() { e.waited, e.release = context.WithDeadline(e.Context, e.deadline) })
	return e.waited.Done()
}

// Err implements context.Context.
func (e *earlyContext) Err() error {
	if err := e.Context.Err(); err != nil {
		return err
	}
	if e.late || !e.deadline.IsZero() && !time.Now().Before(e.deadline) {
		return context.DeadlineExceeded
	}
	return nil
}

// stop gives the timer back, if there is one.
func (e *earlyContext) stop() {
	e.once.Do(func() { e.waited = e.Context })
	if e.release != nil {
		e.release()
	}
}
