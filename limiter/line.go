package limiter

import (
	"container/heap"
	"slices"
	"time"
)

// waiter is a held Ask.
type waiter struct {
	ask     Ask
	ticket  Ticket
	state   *quotaState
	heapAt  int // in lines.deadlines
	bandAt  int // in its band
	spot        // among all who wait for the quota
	flow    *flow
	seconds float64
	since   Instant
	due     Instant // while it is parked: when that ends
	parkAt  int     // in lines.parked
}

// lines are the held asks of one shard.
type lines struct {
	byTicket  map[Ticket]*waiter
	active    []*quotaState // those with a line, in the order in which it formed
	deadlines deadlines
	parked    parked
	made      uint64
}

// deadlines orders waiters by the instant until which they can be held.
type deadlines []*waiter

func (d deadlines) Len() int           { return len(d) }
func (d deadlines) Less(i, j int) bool { return d[i].ask.HoldUntil < d[j].ask.HoldUntil }
func (d deadlines) Swap(i, j int) {
	d[i], d[j] = d[j], d[i]
	d[i].heapAt, d[j].heapAt = i, j
}

// Push is for container/heap.
func (d *deadlines) Push(x any) {
	w := x.(*waiter)
	w.heapAt = len(*d)
	*d = append(*d, w)
}

// Pop is for container/heap.
func (d *deadlines) Pop() any {
	old := *d
	w := old[len(old)-1]
	old[len(old)-1] = nil
	*d = old[:len(old)-1]
	return w
}

// shardBits is the part of a Ticket that says in which shard it waits.
const shardBits = 6

// HomeOfTicket returns the shard that Cancel of t touches.
func (l *Limiter) HomeOfTicket(t Ticket) ShardSet {
	return 1 << (uint64(t) & uint64(len(l.shards)-1))
}

// mustWait reports whether somebody waits already for a quota of a.
func (a *Ask) mustWait() bool {
	for i := range a.quotas {
		if st := a.quotas[i].state; st != nil && st.line.len() > 0 {
			return true
		}
	}
	return false
}

// join puts a, which was checked into d, into the line of its quota, or denies it
// where it cannot be held.
func (l *Limiter) join(now Instant, a *Ask, d *Decision) {
	if d.Verdict == Infeasible {
		return
	}
	r := a.mainQuota()
	st := r.state
	f := st.flow(now, a.Tenant)
	need := a.secondsOf(r)
	if a.mayHold(now, d.RetryAt) && l.held.Load() < int64(l.opts.MaxHeld) && f.n+f.parked < l.opts.MaxHeldPerTenant {
		start := st.line.virtual
		if !a.Retry {
			start = st.line.tag(f, st.terms(a.Tenant), need)
		}
		if st.line.len() == 0 {
			st.line.virtual = max(st.line.virtual, start) // nobody is ahead of the first
		}
		// Its turn comes when all that is ahead of it was served.
		ahead := (start - st.line.virtual) * max(st.line.active, f.weight)
		if a.Retry || ahead <= 1.1*a.HoldUntil.Sub(now).Seconds() || st.guesses(now, r.paced) {
			d.Ticket = l.hold(now, a, d, f, start, need)
			d.Verdict = Held
			return
		}
		st.line.untag(f, need)
	}
	l.denyForLine(now, a, d)
}

// denyForLine makes d a denial, also where there is room but others wait for it.
func (l *Limiter) denyForLine(now Instant, a *Ask, d *Decision) {
	if d.Verdict != Allowed {
		return
	}
	d.Verdict = Denied
	for i := range a.charges {
		if a.charges[i].ofQuota {
			d.RefusedBy, d.Checks[i].Remaining = i, 0
			break
		}
	}
	d.Refusal.Cause = CauseLine
	d.RetryAt = now + 1
	if st := a.mainQuota().state; st.line.len() > 0 {
		d.RetryAt = max(d.RetryAt, st.line.tryAt)
	}
	d.Refusal.Until = d.RetryAt
}

// hold gives a copy of a its place in the line of its quota.
func (l *Limiter) hold(now Instant, a *Ask, d *Decision, f *flow, start, seconds float64) Ticket {
	r := a.mainQuota()
	st := r.state
	s := &l.shards[r.shard]
	s.lines.made++
	w := &waiter{
		ask: a.clone(), ticket: Ticket(s.lines.made<<shardBits | uint64(r.shard)), state: st,
		spot: spot{band: st.band(a), start: start, cost: r.likely}, flow: f, seconds: seconds, since: now,
	}
	if a.Retry {
		w.band = PriorityUnset // before all bands
	}
	w.ask.tagged, w.ask.start = true, start
	w.ask.countRepeat(f)
	if st.line.len() == 0 {
		st.line.tryAt = st.lookAt(now, d.RetryAt)
		s.lines.active = append(s.lines.active, st)
	}
	st.line.push(w)
	if st.line.first(now) == w {
		st.line.tryAt = min(st.line.tryAt, st.lookAt(now, d.RetryAt))
	}
	s.lines.byTicket[w.ticket] = w
	heap.Push(&s.lines.deadlines, w)
	l.held.Add(1)
	return w.ticket
}

// band returns the priority of a.
func (s *quotaState) band(a *Ask) Priority {
	p, own := a.Priority, s.terms(a.Tenant).Priority
	if p == PriorityUnset || p >= numPriorities || (p < own && own < numPriorities) {
		p = own
	}
	if p == PriorityUnset || p >= numPriorities {
		p = Interactive
	}
	return p
}

// secondsOf returns what a takes of a quota, in seconds of its scarcest meter.
func (a *Ask) secondsOf(r *quotaRef) float64 {
	if p := r.state.pacer; p != nil {
		return p.seconds(r.likely)
	}
	var s float64
	for i := range a.charges {
		if c := &a.charges[i]; c.ofQuota && &a.quotas[c.quota] == r && c.limit.Amount > 0 {
			s = max(s, float64(c.amount)/float64(c.limit.Amount)*c.limit.Window.Seconds())
		}
	}
	return s
}

// clone copies a, with what it refers to.
func (a *Ask) clone() Ask {
	c := *a
	c.charges, c.quotas = slices.Clone(a.charges), slices.Clone(a.quotas)
	c.keys, c.scratch = slices.Clone(a.keys), nil
	c.Tenant, c.RequestID, c.IdempotencyKey = clone(a.Tenant), clone(a.RequestID), clone(a.IdempotencyKey)
	return c
}

// clone copies a text that its owner will overwrite.
func clone(s string) string { return string([]byte(s)) }

// leave takes w out of its line.
func (l *Limiter) leave(now Instant, s *shard, w *waiter, served bool) {
	q := &w.state.line
	if q.first(now) == w {
		q.tryAt = now
	}
	q.remove(w)
	if served {
		q.serve(w)
	} else if !w.ask.Retry {
		q.untag(w.flow, w.seconds)
	}
	if q.len() == 0 {
		if p := w.state.pacer; p != nil {
			p.unblocked()
		}
		s.lines.active = slices.DeleteFunc(s.lines.active, func(st *quotaState) bool { return st == w.state })
	}
	delete(s.lines.byTicket, w.ticket)
	heap.Remove(&s.lines.deadlines, w.heapAt)
	l.held.Add(-1)
}

// Cancel takes a held Ask out of its line, as if it had never asked. It reports
// false if the Ask is not held any more: then its decision is, or was, among the
// events. It touches HomeOfTicket(t).
func (l *Limiter) Cancel(now Instant, t Ticket) bool {
	s := &l.shards[l.HomeOfTicket(t).First()]
	w := s.lines.byTicket[t]
	if w == nil {
		return false
	}
	if w.due != 0 {
		l.unpark(s, w)
	} else {
		l.leave(now, s, w, false)
	}
	return true
}

// wake lets the first in each line of the shards be looked at again.
func (l *Limiter) wake(now Instant, shards ShardSet) {
	for ; shards != 0; shards = shards.Rest() {
		for _, st := range l.shards[shards.First()].lines.active {
			st.line.tryAt = min(st.line.tryAt, now)
		}
	}
}

// Event is something that was decided without being asked at that moment.
type Event struct {
	// Ticket is that of a held Ask which is decided, or 0.
	Ticket Ticket
	// Decision is its answer.
	Decision Decision
	// Expired is a reservation that expired, if Ticket is 0.
	Expired ID
}

// Ready returns the events of a shard since it was last called, in order. The
// caller owns them. It touches that shard.
func (l *Limiter) Ready(shard int) []Event {
	e := l.shards[shard].events
	l.shards[shard].events = nil
	return e
}

// Next says when a shard will change by itself, Never if it will not, and which
// shards Advance touches then. It touches that shard.
func (l *Limiter) Next(shard int) (Instant, ShardSet) {
	s := &l.shards[shard]
	at, set := Never, ShardSet(0)
	if _, r := s.book.nextExpiry(); r != nil {
		at, set = r.expires, r.shards
	}
	for _, st := range s.lines.active {
		if st.line.tryAt < at {
			at, set = st.line.tryAt, st.line.shards()
		}
	}
	if p := s.lines.parked; len(p) > 0 && p[0].due < at {
		at, set = p[0].due, p[0].ask.shards
	}
	if d := s.lines.deadlines; len(d) > 0 && d[0].ask.HoldUntil < at {
		at, set = d[0].ask.HoldUntil, d[0].ask.shards
	}
	return at, set | 1<<uint(shard)
}

// Advance does what is due in a shard at now, as far as it touches no shards but
// those of set: expires reservations, and decides held asks. With one shard, once is
// enough; with more, call it until Next says a later instant.
func (l *Limiter) Advance(now Instant, shard int, set ShardSet) {
	s := &l.shards[shard]
	for {
		i, r := s.book.nextExpiry()
		if r == nil || r.expires > now || r.shards&^set != 0 {
			break
		}
		l.expire(now, shard, i)
	}
	l.unparkDue(now, s, set)
	for _, st := range slices.Clone(s.lines.active) {
		for st.line.len() > 0 && st.line.tryAt <= now {
			if w := st.line.first(now); w.ask.shards&^set != 0 || !l.try(now, s, w) {
				break
			}
		}
	}
	for len(s.lines.deadlines) > 0 {
		w := s.lines.deadlines[0]
		if w.ask.HoldUntil > now || w.ask.shards&^set != 0 {
			break
		}
		l.timeout(now, s, w)
	}
}

// lookAt says when to look again at the first of a line that should fit at at: a
// learned pace may grow meanwhile.
func (s *quotaState) lookAt(now, at Instant) Instant {
	if s.pacer == nil {
		return at
	}
	return min(at, now.Add(lookAgain))
}

// lookAgain is how late a held ask may profit from a pace that has grown.
const lookAgain = 250 * time.Millisecond

// try decides the first of a line, and reports whether it left.
func (l *Limiter) try(now Instant, s *shard, w *waiter) bool {
	d := Decision{RefusedBy: -1, RetryAt: now}
	if !l.known(now, &w.ask, &d) {
		if !l.resolve(now, &w.ask) {
			return false // its shards are others now; Next will say so
		}
		w.state.line.ahead.reweigh(&w.spot, w.ask.mainQuota().likely)
		l.settleVerdict(now, &w.ask, &d)
		if d.Verdict == Denied && d.RetryAt <= w.ask.HoldUntil && w.ask.HoldUntil > now {
			w.state.line.tryAt = w.state.lookAt(now, d.RetryAt)
			l.tellInTime(now, s, w.state)
			return false
		}
	}
	l.leave(now, s, w, d.Verdict == Allowed)
	s.events = append(s.events, Event{Ticket: w.ticket, Decision: d})
	return true
}

// tellInTime tells those at once whose time is up before a gate opens.
func (l *Limiter) tellInTime(now Instant, s *shard, st *quotaState) {
	if st.pacer == nil {
		return
	}
	opens := st.pacer.moneyAt()
	for _, d := range st.pacer.paces {
		opens = max(opens, d.gate)
	}
	for opens > now && len(s.lines.deadlines) > 0 {
		w := s.lines.deadlines[0]
		if w.state != st || w.ask.HoldUntil >= opens || w.ask.shards&^st.line.shards() != 0 {
			return
		}
		l.timeout(now, s, w)
		d := &s.events[len(s.events)-1].Decision
		d.RetryAt = max(d.RetryAt, opens)
		d.Refusal = Refusal{Cause: CauseGate, Until: opens}
	}
}

// timeout denies a waiter whose time has come before its turn.
func (l *Limiter) timeout(now Instant, s *shard, w *waiter) {
	d := Decision{RefusedBy: -1, RetryAt: now}
	if l.resolve(now, &w.ask) {
		l.check(now, &w.ask, &d)
		l.views(now, &w.ask, &d)
	}
	if w.due != 0 {
		l.unpark(s, w)
	} else {
		l.leave(now, s, w, false)
	}
	l.denyForLine(now, &w.ask, &d)
	s.events = append(s.events, Event{Ticket: w.ticket, Decision: d})
}
