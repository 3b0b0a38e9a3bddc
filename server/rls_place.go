package server

import (
	"context"
	"time"

	"github.com/weir-project/weir/limiter"
)

// place gives the ask of c its place in the order of a learned quota: the one that an
// earlier denial to the same caller left, or else that of a newcomer, or of a call
// that the upstream refused.
func (s *rls) place(now limiter.Instant, a *active, c *rlsCall) {
	k, sp := &c.scratch.ask, &c.spoken
	if len(a.learned) == 0 || !k.Open || len(sp.asks) == 0 {
		return
	}
	k.Priority = priorityOf(sp.asks[0].attributes)
	c.scratch.claim = 0
	for i := range sp.asks {
		c.scratch.claim += s.d.seals.claim(sp.asks[i].attributes)
	}
	k.Turn = s.d.places.take(now, c.scratch.claim, sp.again)
	k.Retry = sp.again && k.Turn == 0
}

// follow does what a proxy cannot do with an answer: it keeps the place of a caller
// that was denied, and waits where the call may be sent a little later. It returns the
// instant of the answer.
func (s *rls) follow(ctx context.Context, now limiter.Instant, c *rlsCall) (limiter.Instant, error) {
	d := &c.scratch.decision
	switch {
	case d.Verdict == limiter.Denied && d.Turn != 0:
		s.d.places.put(now, c.scratch.claim, d.Turn, d.RetryAt)
	case d.Verdict == limiter.Allowed && d.Delay > 0:
		until := now.Add(d.Delay)
		if s.d.holdUntil(ctx, now, d.Delay) < until {
			return now, nil // the answer would come too late
		}
		if err := s.d.pause(ctx, until); err != nil {
			s.d.giveBack(now, d)
			return now, err
		}
		return s.d.now(), nil
	}
	return now, nil
}

// giveBack releases a reservation whose caller will not hear of it.
func (d *decider) giveBack(now limiter.Instant, made *limiter.Decision) {
	if !made.Opened || made.Replayed {
		return
	}
	ctx, stop := context.WithTimeout(context.Background(), time.Second)
	defer stop()
	if st, err := d.store.Release(ctx, now, Ref{ID: made.ID}, ""); err == nil {
		d.metrics.settled(st)
	}
}
