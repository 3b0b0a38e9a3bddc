package limitertest

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/weir-project/weir/limiter"
)

// Store is what the suite needs of a store. Its methods are safe for concurrent use.
// An error means that the store is sick, never that a limit refused.
type Store interface {
	// Decide answers a, into d; a held ask is answered when it is decided, or with
	// ctx's error when ctx ends.
	Decide(ctx context.Context, now limiter.Instant, a *limiter.Ask, d *limiter.Decision) error
	// Report settles the reservation that ref names.
	Report(ctx context.Context, now limiter.Instant, ref limiter.Ref, tenant string, o limiter.Outcome) (limiter.Settlement, error)
	// Release gives a reservation back.
	Release(ctx context.Context, now limiter.Instant, ref limiter.Ref, tenant string) (limiter.Settlement, error)
	// Renew moves a reservation's expiry to now+ttl.
	Renew(ctx context.Context, now limiter.Instant, ref limiter.Ref, tenant string, ttl time.Duration) (limiter.Settlement, error)
	// Zero forgets the counters of owner (and meter, unless nil) that a is matched to.
	Zero(ctx context.Context, now limiter.Instant, a *limiter.Ask, owner string, meter *limiter.Meter) (int, error)
}

// Factory makes an empty store that lives as long as the test. If the store does
// anything by itself, it goes by clock, which agrees with the instants that calls are
// given; inside of a [testing/synctest] bubble that is the bubble's clock.
type Factory func(tb testing.TB, o limiter.Options, clock func() limiter.Instant) Store

// Bare is the least store there can be: a [limiter.Limiter] behind one lock. Before
// each call it does what has become due. It is there to run the suite on the core
// itself.
type Bare struct {
	mu      sync.Mutex
	lim     *limiter.Limiter
	waiting map[limiter.Ticket]chan limiter.Decision
}

// NewBare returns a Bare over a new limiter. It is a [Factory]; it does nothing by
// itself.
func NewBare(_ testing.TB, o limiter.Options, _ func() limiter.Instant) Store {
	return &Bare{lim: limiter.New(o), waiting: map[limiter.Ticket]chan limiter.Decision{}}
}

// Limiter returns the limiter behind b, for a look at it between calls.
func (b *Bare) Limiter() *limiter.Limiter { return b.lim }

// Decide implements Store.
func (b *Bare) Decide(ctx context.Context, now limiter.Instant, a *limiter.Ask, d *limiter.Decision) error {
	b.mu.Lock()
	b.due(now)
	for d.Verdict = limiter.Reroute; d.Verdict == limiter.Reroute; {
		b.lim.Route(a)
		b.lim.Decide(now, a, d)
	}
	if d.Verdict != limiter.Held {
		b.mu.Unlock()
		return nil
	}
	answer := make(chan limiter.Decision, 1)
	b.waiting[d.Ticket] = answer
	b.mu.Unlock()
	return b.wait(ctx, now, d.Ticket, answer, d)
}

// wait returns when the ticket is decided. The clock goes on from now.
func (b *Bare) wait(ctx context.Context, now limiter.Instant, t limiter.Ticket, answer chan limiter.Decision, d *limiter.Decision) error {
	start := time.Now()
	for {
		b.mu.Lock()
		elapsed := now.Add(time.Since(start))
		b.due(elapsed)
		next := b.next()
		b.mu.Unlock()
		timer := time.NewTimer(max(next.Sub(elapsed), 1))
		select {
		case *d = <-answer:
			timer.Stop()
			return nil
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			b.mu.Lock()
			withdrawn := b.lim.Cancel(now.Add(time.Since(start)), t)
			delete(b.waiting, t)
			b.mu.Unlock()
			if withdrawn {
				return ctx.Err()
			}
			*d = <-answer
			return nil
		}
	}
}

// next returns when something will change by itself.
func (b *Bare) next() limiter.Instant {
	first := limiter.Never
	for s := range b.lim.Shards() {
		at, _ := b.lim.Next(s)
		first = min(first, at)
	}
	return first
}

// due does what is due by now and hands out what was decided.
func (b *Bare) due(now limiter.Instant) {
	for range 1000 {
		again := false
		for s := range b.lim.Shards() {
			if at, set := b.lim.Next(s); at <= now {
				b.lim.Advance(now, s, set)
				again = true
			}
		}
		b.handOut()
		if !again {
			return
		}
	}
}

// handOut gives decided asks their answers.
func (b *Bare) handOut() {
	for s := range b.lim.Shards() {
		for _, e := range b.lim.Ready(s) {
			if c := b.waiting[e.Ticket]; c != nil {
				delete(b.waiting, e.Ticket)
				d := e.Decision
				d.Checks = append([]limiter.Check(nil), d.Checks...)
				c <- d
			}
		}
	}
}

// named returns the id that ref means.
func (b *Bare) named(ref limiter.Ref) limiter.ID {
	if ref.ID != (limiter.ID{}) {
		return ref.ID
	}
	id, _ := b.lim.Find(ref.RequestID)
	return id
}

// Report implements Store.
func (b *Bare) Report(_ context.Context, now limiter.Instant, ref limiter.Ref, tenant string, o limiter.Outcome) (limiter.Settlement, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.due(now)
	s := b.lim.Report(now, b.named(ref), tenant, o)
	b.due(now)
	return s, nil
}

// Release implements Store.
func (b *Bare) Release(_ context.Context, now limiter.Instant, ref limiter.Ref, tenant string) (limiter.Settlement, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.due(now)
	s := b.lim.Release(now, b.named(ref), tenant)
	b.due(now)
	return s, nil
}

// Renew implements Store.
func (b *Bare) Renew(_ context.Context, now limiter.Instant, ref limiter.Ref, tenant string, ttl time.Duration) (limiter.Settlement, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.due(now)
	return b.lim.Renew(now, b.named(ref), tenant, ttl), nil
}

// Zero implements Store.
func (b *Bare) Zero(_ context.Context, now limiter.Instant, a *limiter.Ask, owner string, meter *limiter.Meter) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.due(now)
	b.lim.Route(a)
	n := b.lim.Zero(now, a, owner, meter)
	b.due(now)
	return n, nil
}
