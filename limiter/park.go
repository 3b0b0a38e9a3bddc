package limiter

import "container/heap"

// parked are held asks whose tenant must pause: it is over its ceiling, or its own lane
// is closed. They take no place in line, so that nobody waits behind them, and ask
// again when the pause is over.
type parked []*waiter

func (p parked) Len() int { return len(p) }
func (p parked) Less(i, j int) bool {
	if p[i].due != p[j].due {
		return p[i].due < p[j].due
	}
	return p[i].order < p[j].order
}

func (p parked) Swap(i, j int) {
	p[i], p[j] = p[j], p[i]
	p[i].parkAt, p[j].parkAt = i, j
}

// Push is for container/heap.
func (p *parked) Push(x any) {
	w := x.(*waiter)
	w.parkAt = len(*p)
	*p = append(*p, w)
}

// Pop is for container/heap.
func (p *parked) Pop() any {
	old := *p
	w := old[len(old)-1]
	old[len(old)-1] = nil
	*p = old[:len(old)-1]
	return w
}

// park holds a, which was denied until d.RetryAt, if its caller can wait for that.
func (l *Limiter) park(now Instant, a *Ask, d *Decision, r *quotaRef, f *flow) {
	if d.Verdict != Denied || !a.mayHold(now, d.RetryAt) || d.RetryAt <= now ||
		l.held.Load() >= int64(l.opts.MaxHeld) || f.n+f.parked >= l.opts.MaxHeldPerTenant {
		return
	}
	s := &l.shards[r.shard]
	s.lines.made++
	w := &waiter{
		ask: a.clone(), ticket: Ticket(s.lines.made<<shardBits | uint64(r.shard)), state: r.state,
		flow: f, since: now, due: d.RetryAt, spot: spot{order: s.lines.made},
	}
	f.parked++
	r.state.parked++
	heap.Push(&s.lines.parked, w)
	heap.Push(&s.lines.deadlines, w)
	s.lines.byTicket[w.ticket] = w
	l.held.Add(1)
	d.Verdict, d.Ticket = Held, w.ticket
}

// unpark takes w from where it is parked.
func (l *Limiter) unpark(s *shard, w *waiter) {
	heap.Remove(&s.lines.parked, w.parkAt)
	heap.Remove(&s.lines.deadlines, w.heapAt)
	delete(s.lines.byTicket, w.ticket)
	w.flow.parked--
	w.state.parked--
	l.held.Add(-1)
}

// unparkDue lets those ask again whose pause is over.
func (l *Limiter) unparkDue(now Instant, s *shard, set ShardSet) {
	for len(s.lines.parked) > 0 {
		w := s.lines.parked[0]
		if w.due > now || w.ask.shards&^set != 0 {
			return
		}
		d := Decision{RefusedBy: -1, RetryAt: now}
		known := l.known(now, &w.ask, &d)
		if !known && !l.resolve(now, &w.ask) {
			return // its shards are others now; Next will say so
		}
		l.unpark(s, w)
		if !known {
			l.decideFairly(now, &w.ask, &d, w.ask.mainQuota())
		}
		if d.Verdict == Held { // under the ticket that its caller knows
			n := s.lines.byTicket[d.Ticket]
			delete(s.lines.byTicket, d.Ticket)
			n.ticket, n.since = w.ticket, w.since
			s.lines.byTicket[n.ticket] = n
			continue
		}
		s.events = append(s.events, Event{Ticket: w.ticket, Decision: d})
	}
}
