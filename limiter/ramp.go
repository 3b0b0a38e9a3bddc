package limiter

import "time"

// ramp is the limit that an upstream states while use grows too fast: less than the
// limit proper, and a step more at each full minute. The pace keeps to it. The learned
// rate is not touched by it, and is in force again once the ramp has passed it. While a
// limit is unknown, what is looked for stays below the ramp. One that is made up would
// close the quota for hours; so it is taken of a gateway, or of who asks alone.
type ramp struct {
	rate float64 // in force, in units a minute; 0: there is none
	step float64 // that it rises by
	at   Instant // when it does
}

const (
	// rampShare is the step, relative to the ramp, where the upstream states none.
	rampShare = 0.1
	// rampMemory is how long a ramp that nothing moved is believed.
	rampMemory = 24 * time.Hour
)

// binds says whether p keeps to a ramp, and not to its own rate.
func (p *pace) binds() bool { return p.ramp.rate > 0 && p.ramp.rate < p.limit }

// perMinute is the rate in force, in units a minute.
func (p *pace) perMinute() float64 {
	if p.binds() {
		return p.ramp.rate
	}
	return p.limit
}

// climb brings the ramp to now, and p to each instant at which it rises.
func (p *pace) climb(now Instant) {
	if p.ramp.rate > 0 && now.Sub(p.ramp.at) > rampMemory {
		p.ramp = ramp{}
	}
	for p.ramp.rate > 0 && p.ramp.at <= now {
		p.pass(p.ramp.at)
		p.ramp.rate += p.ramp.step
		p.ramp.at = p.ramp.at.Add(time.Minute)
		if p.ramp.rate >= greatestRate || (!p.startup && p.ramp.rate >= p.limit) {
			p.ramp = ramp{}
		}
	}
}

// keepTo takes in a ramp that the upstream stated to a call that was sent then. It
// reports false if what is sent is below it already: that is no reason to refuse.
func (p *pace) keepTo(now, sent Instant, rate, next float64) bool {
	step := next - rate
	if step <= 0 {
		step = rampShare * rate
	}
	p.ramp = ramp{}
	if rate < leastRate || (!p.startup && rate >= p.limit) {
		return false
	}
	p.ramp = ramp{rate: rate, step: step, at: nextMinute(sent)}
	p.climb(now)
	return true
}

// nextMinute is the first full minute, of UTC, after t.
func nextMinute(t Instant) Instant { return t - t%Instant(time.Minute) + Instant(time.Minute) }

// rampOf returns the meter that a refusal's stated ramp is for, if it states one.
func (p *pacer) rampOf(o *Outcome) (Meter, bool) {
	switch {
	case o.Class != ClassAcceleration || o.Ramp == 0 || o.Ramp > MaxAmount || !o.HasNamed:
		return 0, false
	case p.joint && (o.Named == OutputTokens || o.Named == Tokens):
		return InputTokens, true
	}
	return o.Named, o.Named <= OutputTokens
}

// followRamp lets a refusal that states a ramp set the pace, if it is believed, and
// reports whether it did.
func (p *pacer) followRamp(now, sent Instant, l *leases, o *Outcome, c credence) bool {
	m, ok := p.rampOf(o)
	if !ok || c < believed {
		return false
	}
	d := p.paces[m]
	if !d.keepTo(now, sent, float64(o.Ramp), float64(min(o.RampNext, MaxAmount))) {
		return false
	}
	if l.decided > d.event {
		d.event, d.lastKind = now, RampEvent
		d.events[RampEvent]++
	}
	return true
}

// restore takes in a ramp of before a restart, if it can have been one.
func (r *ramp) restore(now Instant, s *LearnedPace) {
	within := func(v, most float64) bool { return v >= leastRate && v <= most }
	if !within(s.Ramp, greatestRate) || !within(s.RampStep, greatestRate) ||
		s.RampAt > nextMinute(now) || now.Sub(s.RampAt) > rampMemory {
		return
	}
	*r = ramp{s.Ramp, s.RampStep, s.RampAt}
}
