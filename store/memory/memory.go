// Package memory is the store in this process: a limiter.Limiter, a lock for each of
// its shards, and the timers that it asks for. It may import limiter and the standard
// library.
package memory

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"slices"
	"sync"
	"time"

	"github.com/weir-project/weir/limiter"
)

// Store keeps counters and reservations in this process. It is safe for concurrent
// use. Locks are taken in the order of their shards; no other lock is taken while one
// is held.
type Store struct {
	l      *limiter.Limiter
	shards []shard
	left   left
	clock  func() limiter.Instant
	stop   chan struct{}
	done   chan struct{}
	once   sync.Once
}

// shard is the lock of one shard and what it guards beside the limiter's own state.
type shard struct {
	mu      sync.Mutex
	waiting map[limiter.Ticket]chan limiter.Decision
	timer   *time.Timer
	armed   limiter.Instant // when timer goes off; Never if it does not
	_       [64]byte        // keeps neighbours off this cache line
}

// housekeeping is the period in which expired reservations are ended and idle keys
// looked for; every key is looked at once in sweepPeriod.
const (
	housekeeping = 250 * time.Millisecond
	sweepPeriod  = 5 * time.Second
)

// New returns an empty store. Zero fields of o take its defaults, except that there
// are limiter.MaxShards shards, and the seed is random. Close it when it is not used
// any more.
func New(o limiter.Options) *Store { return NewWithClock(o, nil) }

// NewWithClock is New with a clock for the instants at which the store acts by
// itself. It must agree with the instants that calls are given. nil is the system's
// clock, which goes on by its monotonic reading once the store is made.
func NewWithClock(o limiter.Options, clock func() limiter.Instant) *Store {
	if o.Shards == 0 {
		o.Shards = limiter.MaxShards
	}
	if o.Seed == 0 {
		var b [8]byte
		_, _ = rand.Read(b[:]) // never fails
		o.Seed = binary.LittleEndian.Uint64(b[:])
	}
	if clock == nil {
		start := time.Now()
		base := limiter.InstantOf(start)
		clock = func() limiter.Instant { return base.Add(time.Since(start)) }
	}
	s := &Store{l: limiter.New(o), clock: clock, stop: make(chan struct{}), done: make(chan struct{})}
	s.shards = make([]shard, s.l.Shards())
	for i := range s.shards {
		s.shards[i].waiting = map[limiter.Ticket]chan limiter.Decision{}
		s.shards[i].armed = limiter.Never
	}
	go s.keepHouse()
	return s
}

// Close stops the store's own goroutine and timers. Calls made later still work, but
// nothing happens by itself.
func (s *Store) Close() {
	s.once.Do(func() { close(s.stop) })
	<-s.done
	for i := range s.shards {
		h := &s.shards[i]
		h.mu.Lock()
		if h.timer != nil {
			h.timer.Stop()
		}
		h.mu.Unlock()
	}
}

// Name says what kind of store this is.
func (s *Store) Name() string { return "memory" }

func (s *Store) lock(set limiter.ShardSet) {
	for ; set != 0; set = set.Rest() {
		s.shards[set.First()].mu.Lock()
	}
}

func (s *Store) unlock(set limiter.ShardSet) {
	for ; set != 0; set = set.Rest() {
		s.shards[set.First()].mu.Unlock()
	}
}

// Decide answers a, into d. Where a asks to be held, that may take until
// a.HoldUntil; if ctx ends before, a is withdrawn, nothing is charged, and the
// context's error is returned. There are no other errors.
func (s *Store) Decide(ctx context.Context, now limiter.Instant, a *limiter.Ask, d *limiter.Decision) error {
	for {
		set := s.l.Route(a)
		s.lock(set)
		s.l.Decide(now, a, d)
		if d.Verdict == limiter.Held {
			return s.wait(ctx, set, d)
		}
		s.unlock(set)
		if d.Verdict != limiter.Reroute {
			return nil
		}
	}
}

// wait waits for the decision of the Ask that was just held, whose shards are
// locked.
func (s *Store) wait(ctx context.Context, set limiter.ShardSet, d *limiter.Decision) error {
	ticket := d.Ticket
	home := s.l.HomeOfTicket(ticket).First()
	answer := make(chan limiter.Decision, 1)
	s.shards[home].waiting[ticket] = answer
	s.unlock(set)
	s.drive(home)
	select {
	case *d = <-answer:
		return nil
	case <-ctx.Done():
	}
	now := s.clock()
	h := &s.shards[home]
	h.mu.Lock()
	cancelled := s.l.Cancel(now, ticket)
	if cancelled {
		delete(h.waiting, ticket)
	}
	h.mu.Unlock()
	if cancelled {
		s.drive(home)
		return context.Cause(ctx)
	}
	// Decision and cancellation crossed: give back what nobody will use.
	if *d = <-answer; d.Opened && !d.Replayed {
		s.settle(d.ID, func() { s.l.Release(now, d.ID, "") })
	}
	return context.Cause(ctx)
}

// find returns the reservation that ref names.
func (s *Store) find(ref limiter.Ref) (limiter.ID, bool) {
	if ref.ID != (limiter.ID{}) || ref.RequestID == "" {
		return ref.ID, ref.ID != limiter.ID{}
	}
	set := s.l.HomeOfRequest(ref.RequestID)
	s.lock(set)
	defer s.unlock(set)
	return s.l.Find(ref.RequestID)
}

// settle runs f with the shards of reservation id locked, and then lets those who
// wait for them try again.
func (s *Store) settle(id limiter.ID, f func()) {
	home := s.l.HomeOf(id)
	for {
		s.lock(home)
		set := s.l.ShardsOf(id) | home
		s.unlock(home)
		s.lock(set)
		if s.l.ShardsOf(id)&^set != 0 { // another reservation has taken its name
			s.unlock(set)
			continue
		}
		f()
		s.unlock(set)
		for ; set != 0; set = set.Rest() {
			if i := set.First(); s.hasWaiters(i) {
				s.drive(i)
			}
		}
		return
	}
}

func (s *Store) hasWaiters(i int) bool {
	h := &s.shards[i]
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.waiting) > 0
}

// Report settles the reservation that ref names.
func (s *Store) Report(_ context.Context, now limiter.Instant, ref limiter.Ref, tenant string, o limiter.Outcome) (limiter.Settlement, error) {
	var r limiter.Settlement
	if id, ok := s.find(ref); ok {
		s.settle(id, func() { r = s.l.Report(now, id, tenant, o) })
	}
	return r, nil
}

// Release gives the reservation that ref names back.
func (s *Store) Release(_ context.Context, now limiter.Instant, ref limiter.Ref, tenant string) (limiter.Settlement, error) {
	var r limiter.Settlement
	if id, ok := s.find(ref); ok {
		s.settle(id, func() { r = s.l.Release(now, id, tenant) })
	}
	return r, nil
}

// Renew moves the expiry of the reservation that ref names to now+ttl.
func (s *Store) Renew(_ context.Context, now limiter.Instant, ref limiter.Ref, tenant string, ttl time.Duration) (limiter.Settlement, error) {
	var r limiter.Settlement
	if id, ok := s.find(ref); ok {
		s.settle(id, func() { r = s.l.Renew(now, id, tenant, ttl) })
	}
	return r, nil
}

// Zero forgets the counters of owner (and meter, unless nil) that a is matched to.
func (s *Store) Zero(_ context.Context, now limiter.Instant, a *limiter.Ask, owner string, meter *limiter.Meter) (int, error) {
	set := s.l.Route(a)
	s.lock(set)
	n := s.l.Zero(now, a, owner, meter)
	s.unlock(set)
	for ; set != 0; set = set.Rest() {
		s.drive(set.First())
	}
	return n, nil
}

// ClearGates opens the gates of the quotas called owner (that of meter, unless nil) that a
// is matched to.
func (s *Store) ClearGates(_ context.Context, now limiter.Instant, a *limiter.Ask, owner string, meter *limiter.Meter) (int, error) {
	set := s.l.Route(a)
	s.lock(set)
	n := s.l.ClearGates(now, a, owner, meter)
	s.unlock(set)
	for ; set != 0; set = set.Rest() {
		s.drive(set.First())
	}
	return n, nil
}

// Quotas lists the quotas that have been asked for, by name and attributes.
func (s *Store) Quotas(_ context.Context, now limiter.Instant) ([]limiter.QuotaView, error) {
	var out []limiter.QuotaView
	for i := range s.shards {
		s.shards[i].mu.Lock()
		out = append(out, s.l.Quotas(now, i)...)
		s.shards[i].mu.Unlock()
	}
	slices.SortFunc(out, limiter.CompareQuotas)
	return out, nil
}

// Stats sums all shards up.
func (s *Store) Stats(context.Context) (limiter.Stats, error) {
	var sum limiter.Stats
	for i := range s.shards {
		s.shards[i].mu.Lock()
		sum = sum.Add(s.l.Stats(i))
		s.shards[i].mu.Unlock()
	}
	return sum, nil
}

// drive does what is due in shard i and arms its timer for what is next.
func (s *Store) drive(i int) {
	h := &s.shards[i]
	for {
		now := s.clock()
		h.mu.Lock()
		at, set := s.l.Next(i)
		if at > now {
			s.arm(i, at, now)
			h.mu.Unlock()
			return
		}
		h.mu.Unlock()
		s.lock(set)
		s.l.Advance(now, i, set)
		s.deliver(i)
		s.unlock(set)
	}
}

// deliver hands the decisions of shard i, which is locked, to those who wait.
func (s *Store) deliver(i int) {
	h := &s.shards[i]
	for _, e := range s.l.Ready(i) {
		if c := h.waiting[e.Ticket]; e.Ticket != 0 && c != nil {
			delete(h.waiting, e.Ticket)
			c <- e.Decision
		}
	}
}

// arm sets the timer of shard i, which is locked, if somebody waits there and it is
// not set for an earlier instant. Without waiters the housekeeping is soon enough.
func (s *Store) arm(i int, at, now limiter.Instant) {
	h := &s.shards[i]
	if len(h.waiting) == 0 || (h.armed <= at && h.armed > now) {
		return
	}
	h.armed = at
	if h.timer != nil {
		h.timer.Stop()
	}
	h.timer = time.AfterFunc(at.Sub(now), func() {
		h.mu.Lock()
		h.armed = limiter.Never
		h.mu.Unlock()
		s.drive(i)
	})
}

// keepHouse ends what expired and forgets what is idle.
func (s *Store) keepHouse() {
	defer close(s.done)
	tick := time.NewTicker(housekeeping)
	defer tick.Stop()
	for {
		select {
		case <-s.stop:
			return
		case <-tick.C:
		}
		for i := range s.shards {
			s.drive(i)
			h := &s.shards[i]
			now := s.clock()
			h.mu.Lock()
			s.l.Sweep(now, i, s.l.SweepShare(i, int(sweepPeriod/housekeeping)))
			h.mu.Unlock()
		}
	}
}
