package limiter

import "container/heap"

// Turns are in seconds of the scarcest meter. When an upstream states limits that are
// quite different from what was thought, what was a minute may be a second: turns that
// were given out at the old rate would then be kept by callers who come later and pay less,
// and those who came first would wait the longest.

// jump is by which factor a rate must have changed for turns to be moved.
const jump = 1.5

// rates returns the rates by meter.
func (p *pacer) rates() cost {
	var r cost
	for m, d := range p.paces {
		r[m] = d.rate()
	}
	return r
}

// rescale moves the turns that were given out at rates before, so that each tenant's are
// as far off as they would be had the rates been known.
func (s *quotaState) rescale(now Instant, before cost) {
	q, t := &s.line, &s.pacer.turns
	if !jumped(before, s.pacer.rates()) {
		return
	}
	if q.n+t.len() > 0 {
		s.respace(now)
		return
	}
	for _, f := range q.flows { // nobody waits: what was taken at the old rates is history
		f.finish = min(f.finish, q.virtual)
	}
}

// reestimate moves the turns of those who wait after what calls are expected to cost has
// changed.
func (s *quotaState) reestimate(now Instant) {
	if s.line.n == 0 || !s.outputUnknown() {
		return
	}
	for _, w := range s.line.waiters() {
		r := w.ask.mainQuota()
		r.likely = likelyCost(&r.est, s.known(w.ask.Tenant), s.prior(), r.quota, r.cost)
		w.cost = r.likely
	}
	s.respace(now)
}

// respace moves turns by tenant, as what their calls take of the scarcest meter changed.
func (s *quotaState) respace(now Instant) {
	q, t := &s.line, &s.pacer.turns
	shares := map[*flow]*[2]float64{} // seconds of those who wait, as they were and as they are
	var all [2]float64
	note := func(f *flow, was, is float64) {
		shares[f] = addSeconds(shares[f], was, is)
		all[0], all[1] = all[0]+was, all[1]+is
	}
	for _, w := range q.waiters() {
		note(w.flow, w.seconds, s.pacer.seconds(w.ask.mainQuota().likely))
	}
	for _, n := range t.dying {
		note(n.flow, n.seconds, s.pacer.seconds(n.cost))
	}
	scale := func(f *flow) float64 {
		if sum := shares[f]; sum != nil && sum[0] > 0 {
			return sum[1] / sum[0]
		}
		if all[0] > 0 { // its calls are under way: they cost about what others' do
			return all[1] / all[0]
		}
		return 1
	}
	for _, f := range q.flows {
		f.finish = q.virtual + (f.finish-q.virtual)*scale(f)
	}
	q.move(now, scale)
	t.move(q.virtual, scale)
}

func jumped(before, after cost) bool {
	for m := range after {
		if k := after[m] / before[m]; k > jump || k < 1/jump {
			return true
		}
	}
	return false
}

func addSeconds(sum *[2]float64, was, is float64) *[2]float64 {
	if sum == nil {
		sum = new([2]float64)
	}
	sum[0] += was
	sum[1] += is
	return sum
}

// waiters lists all who wait, in no order that counts.
func (q *line) waiters() []*waiter {
	all := append([]*waiter(nil), q.front...)
	for i := range q.bands {
		all = append(all, q.bands[i]...)
	}
	return all
}

// move puts each waiter's start tag at a multiple of how far off it was.
func (q *line) move(now Instant, by func(*flow) float64) {
	all := q.waiters()
	q.ahead = order{}
	for _, w := range all {
		k := by(w.flow)
		w.start, w.seconds = q.virtual+(w.start-q.virtual)*k, w.seconds*k
		w.ask.start = w.start
		q.ahead.insert(&w.spot)
	}
	heap.Init(&q.front)
	for i := range q.bands {
		heap.Init(&q.bands[i])
	}
	q.tryAt = min(q.tryAt, now) // another one may be first
}

// move is the same for those who come back.
func (t *turns) move(virtual float64, by func(*flow) float64) {
	t.order = order{}
	for _, n := range t.dying {
		k := by(n.flow)
		n.start, n.seconds = virtual+(n.start-virtual)*k, n.seconds*k
		t.order.insert(&n.spot)
	}
}
