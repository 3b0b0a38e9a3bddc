package limiter

import (
	"container/heap"
	"time"
)

// turns are the places of callers that were told to come back, in the order in which
// they will be served: that of the queue. Each caller comes back at its own time, so
// that there is no herd, and finds its place kept for a little while.
type turns struct {
	order order
	byID  map[Turn]*turn
	dying []*turn // a heap by when they are given up
	free  *turn   // to be used again, linked by next
	made  uint64
}

// turn is one place of a caller.
type turn struct {
	spot    // its order is its id
	seconds float64
	flow    *flow
	since   Instant // when it was told so first
	due     Instant // when its turn comes, as it was foreseen
	dies    Instant // when the place is given up
	dyingAt int     // in turns.dying
	next    *turn
}

func (n *turn) id() Turn { return Turn(n.order) }

const (
	// maxDelay is the longest time for which a caller that does not queue is allowed
	// ahead: longer promises go stale when the rate falls.
	maxDelay = 0.2
	// nearTurn is up to where a caller is told its exact turn, in seconds; farther ones
	// come back half way, since the rate may change meanwhile, but within farTurn.
	nearTurn = 4.0
	farTurn  = 30.0
	// maxTurns bounds the places of one quota.
	maxTurns = 4096
)

func (t *turns) len() int { return t.order.n }

// before sums up what those take whose turn is before (b, start).
func (t *turns) before(b Priority, start float64) cost { return t.order.before(b, start) }

// keep keeps a new place.
func (t *turns) keep(n turn) *turn {
	if t.byID == nil {
		t.byID = map[Turn]*turn{}
	}
	t.made++
	n.order = t.made
	p := t.free
	if p == nil {
		p = &turn{}
	} else {
		t.free = p.next
	}
	*p = n
	t.order.insert(&p.spot)
	t.byID[p.id()] = p
	heap.Push((*dying)(&t.dying), p)
	return p
}

// until lets n die at dies.
func (t *turns) until(n *turn, dies Instant) {
	n.dies = dies
	heap.Fix((*dying)(&t.dying), n.dyingAt)
}

// drop gives the place n up; n is not to be used any more. A quota for which nobody
// is to come back keeps no memory for those who were.
func (t *turns) drop(n *turn) {
	t.order.remove(&n.spot)
	delete(t.byID, n.id())
	heap.Remove((*dying)(&t.dying), n.dyingAt)
	*n = turn{next: t.free}
	t.free = n
	if t.len() == 0 {
		*t = turns{made: t.made}
	}
}

// expire gives up the places of those who did not come back.
func (t *turns) expire(now Instant, q *line) {
	for len(t.dying) > 0 && t.dying[0].dies <= now {
		n := t.dying[0]
		q.untag(n.flow, n.seconds)
		t.giveUp(n, q)
	}
}

// giveUp drops a place in the order of q.
func (t *turns) giveUp(n *turn, q *line) {
	n.flow.tickets--
	q.exit(n.flow)
	t.drop(n)
}

// dying orders turns by when they are given up.
type dying []*turn

func (d dying) Len() int { return len(d) }
func (d dying) Less(i, j int) bool {
	if d[i].dies != d[j].dies {
		return d[i].dies < d[j].dies
	}
	return d[i].order < d[j].order
}

func (d dying) Swap(i, j int) {
	d[i], d[j] = d[j], d[i]
	d[i].dyingAt, d[j].dyingAt = i, j
}

// Push is for container/heap.
func (d *dying) Push(x any) {
	n := x.(*turn)
	n.dyingAt = len(*d)
	*d = append(*d, n)
}

// Pop is for container/heap.
func (d *dying) Pop() any {
	old := *d
	n := old[len(old)-1]
	old[len(old)-1] = nil
	*d = old[:len(old)-1]
	return n
}

func (c cost) plus(o cost) cost { return cost{c[0] + o[0], c[1] + o[1], c[2] + o[2]} }

// appoint decides an Ask of a learned quota that does not queue: now, within maxDelay,
// or by an appointment.
func (l *Limiter) appoint(now Instant, a *Ask, d *Decision, r *quotaRef, f *flow) {
	st, p := r.state, r.state.pacer
	p.turns.expire(now, &st.line)
	if l.check(now, a, d); d.Verdict != Allowed {
		l.views(now, a, d)
		return
	}
	c, band := r.paced, st.band(a)
	start := st.line.virtual
	kept := p.turns.kept(a.Turn, f)
	switch {
	case kept != nil:
		start, band = kept.start, kept.band
		p.turns.order.reweigh(&kept.spot, r.likely)
	case !a.Retry:
		start = st.line.tag(f, st.terms(a.Tenant), a.secondsOf(r))
	}
	w, by := p.turnIn(now, a, c, band, start, kept, st)
	switch {
	case w > maxDelay:
		l.views(now, a, d)
		told := p.told(now, by, w)
		l.denyByPace(now, a, d, r, by, told)
		l.keepTurn(now, a, d, r, f, kept, turn{
			spot: spot{band: band, start: start, cost: r.likely}, seconds: a.secondsOf(r),
		}, w, told)
	case l.room(now, a, d):
		if kept != nil {
			p.turns.giveUp(kept, &st.line)
		}
		if !a.Retry {
			st.line.count(band, &p.turns)
		}
		st.line.virtual = max(st.line.virtual, start)
		if w > fit {
			d.Delay = secondsOf(w)
		}
		l.commit(now, a, d)
	default:
		l.views(now, a, d)
	}
}

// kept returns the place that f kept under id, or nil.
func (t *turns) kept(id Turn, f *flow) *turn {
	if n := t.byID[id]; n != nil && n.flow == f {
		return n
	}
	return nil
}

// turnIn returns in how many seconds it is the turn of an ask of cost c with this
// start tag, and which meter says so.
func (p *pacer) turnIn(now Instant, a *Ask, c cost, b Priority, start float64, kept *turn, st *quotaState) (float64, Meter) {
	var before cost
	if !a.Retry {
		before = p.turns.before(b, start).plus(st.line.ahead.before(b, start))
	}
	if kept != nil && st.line.served >= relief && now.Sub(kept.since) > starving {
		before = cost{} // it is the turn of a lower band
	}
	w, by := p.wait(now, c, before, st.open)
	if a.Retry || (kept != nil && now >= kept.due) {
		// It is due: it does not wait for others that are late.
		if alone, m := p.wait(now, c, cost{}, st.open); alone <= maxDelay {
			return alone, m
		}
	}
	if w > maxDelay {
		p.holdsUp(now, c, before)
	}
	return w, by
}

// keepTurn gives an ask that was denied a time to come back, and keeps its place: its turn
// is in w seconds, as far as anybody knows, and told is what it is told.
func (l *Limiter) keepTurn(now Instant, a *Ask, d *Decision, r *quotaRef, f *flow, kept *turn, n turn, w, told float64) {
	q, t := &r.state.line, &r.state.pacer.turns
	if kept == nil {
		late := a.Deadline != 0 && now.Add(secondsOf(w)) > a.Deadline
		if late || t.len() >= maxTurns {
			if !a.Retry {
				q.untag(f, n.seconds)
			}
			return
		}
		if a.Retry {
			n.seconds = 0
		}
		n.flow = f
		n.since = now
		kept = t.keep(n)
		f.tickets++
		q.enter(f)
	}
	if a.Deadline != 0 && now.Add(secondsOf(w)) > a.Deadline { // it will not be back in time
		q.untag(f, kept.seconds)
		t.giveUp(kept, q)
		return
	}
	back := t.returnIn(told, kept)
	d.RetryAt, d.Turn = now.Add(back), kept.id()
	kept.due = now.Add(secondsOf(w - maxDelay))
	t.until(kept, d.RetryAt.Add(max(time.Second, back/10)))
}

// returnIn says when to come back for a turn in w seconds: a little early, by an
// amount of its own, so that those with one turn do not come in one instant.
func (t *turns) returnIn(w float64, n *turn) time.Duration {
	if w > nearTurn {
		w = min(farTurn, nearTurn+(w-nearTurn)/2)
	}
	spread := float64(mix(n.order^mixA, mixB)>>11) / (1 << 53)
	return secondsOf(max(0.01, w-maxDelay*spread))
}

// holdsUp notes, where nobody queues, which paces hold callers up.
func (p *pacer) holdsUp(now Instant, c, before cost) {
	until := now.Add(secondsOf(max(0.5, 3/max(p.acceptRate(), 0.05))))
	for m, d := range p.paces {
		if d.wait(c[m]) > fit {
			d.heldUp = max(d.heldUp, until)
			d.blocked = true
		}
	}
}

// leastWait keeps waits above what a backlog of any size can tell apart.
const leastWait = 100 * time.Microsecond

// denyByPace makes d a denial by the pace of meter m, for w seconds.
func (l *Limiter) denyByPace(now Instant, a *Ask, d *Decision, r *quotaRef, m Meter, w float64) {
	d.Verdict = Denied
	d.RetryAt = max(d.RetryAt, now.Add(max(leastWait, secondsOf(w))))
	if d.RefusedBy < 0 {
		d.Refusal = r.state.pacer.why(now, costVector(r.cost), m, w, r.state.open)
	}
	for i := range a.charges {
		c := &a.charges[i]
		if c.ofQuota && &a.quotas[c.quota] == r && c.limit.paced && c.limit.pace() == m {
			d.Checks[i].Over, d.Checks[i].RetryAt, d.Checks[i].Remaining = true, d.RetryAt, 0
			if d.RefusedBy < 0 {
				d.RefusedBy = i
			}
		}
	}
}
