package limiter

import "time"

// A proxy may try a call again that the upstream refused, without asking anew. What it
// tells of the attempt is a refusal like any other, but for two things: the reservation
// stays open, for the next attempt; and if there is none, the end of the call tells of the
// same refusal again, and more of it. So an attempt is learned from once something shows
// that it was not the last.

// refusedAttempt is what was told of an attempt that was refused, until then.
type refusedAttempt struct {
	o    Outcome
	seen Instant
}

// attempted takes in that an attempt was refused. One that was taken in before, or that
// an earlier one came after, is not again.
func (l *Limiter) attempted(now Instant, r *reservation, o *Outcome) Settlement {
	s := Settlement{Ending: Open, Charged: r.charged, ExpiresAt: r.expires}
	p := r.refused
	if o.Attempt <= r.taught || (p != nil && o.Attempt <= p.o.Attempt) {
		return s
	}
	s.Applied = true
	l.learnAttempt(now, r, &s)
	r.refused = &refusedAttempt{*o, now}
	return s
}

// concludeAttempt decides what an attempt that was refused was, now that o tells more of
// its call. What o tells of an attempt that was learned from is not learned again.
func (l *Limiter) concludeAttempt(now Instant, r *reservation, o *Outcome, s *Settlement) {
	refuses := !o.Progress && o.Class.Refuses()
	if p := r.refused; p != nil && refuses && o.Attempt <= p.o.Attempt {
		r.refused = nil // the same: o tells of it
	}
	l.learnAttempt(now, r, s)
	if refuses && o.Attempt != 0 && o.Attempt <= r.taught {
		o.Class, o.Headers = ClassCaller, [3]HeaderState{} // charged as stated, nothing else
	}
}

// learnAttempt learns from the attempt that is remembered, if there is one. What was
// charged stays, for the attempt after it, which is sent now at the earliest.
func (l *Limiter) learnAttempt(now Instant, r *reservation, s *Settlement) {
	p := r.refused
	if p == nil {
		return
	}
	r.refused, r.taught = nil, p.o.Attempt
	q := r.quota
	if q == nil || q.pacer == nil {
		return
	}
	o := p.o
	o.Progress = false
	if passed := now.Sub(p.seen); passed > 0 {
		o.RetryAfter = max(time.Nanosecond, max(o.RetryAfter, time.Second)-passed) // none is a second
	}
	d := q.pacer
	d.advance(now)
	before, rates := d.mark(), d.rates()
	l.learnMoney(now, r, &o)
	d.report(now, &r.leases, &o, q.quota.cost(r.actual(&o)), q.open, r.flow)
	var again cost
	for m := range again {
		again[m] = r.leases.of[m].amount
	}
	likely := r.leases.likely
	r.leases = d.charge(now, again, 0)
	r.leases.likely, r.leases.sent = likely, now+1 // after what the refusal fixed
	q.rescale(now, rates)
	s.since(&before, d)
	s.Quota, s.Attempt = q.quota.name, o.Class
}
