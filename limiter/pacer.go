package limiter

import (
	"math"
	"time"
)

// pacer is what a learned quota knows of its upstream: a pace for each of requests,
// input and output tokens, and how well the upstream is.
type pacer struct {
	paces      [3]*pace
	capped     bool
	joint      bool       // the pace of input is that of all tokens, and output has none
	configured [3]float64 // per minute; 0 where nothing was

	at       Instant
	attempts float64 // sent, forgotten exponentially over healthMemory
	sick     float64 // of these, answered as overloaded
	load     float64 // calls that a sick upstream has not drained yet
	latency  float64 // mean time of an answer, in seconds
	accepted float64 // accepted calls, forgotten over acceptMemory
	answered uint64  // accepted calls since the start
	spend    Instant // until when the money is spent
	inFlight float64 // the most calls at a time; 0 while nothing complained

	spent   bool    // until then by a refusal; what comes after is a probe
	looking Instant // until when one call looks whether there is money, and the others wait
	spentAt Instant // when that refusal was reported
	purse   *purse  // of whoever pays for the quota, while that has no money; see seePurse

	turns turns
	trust witnesses
}

const (
	healthMemory = 5.0
	acceptMemory = 30.0
	spendProbe   = 15 * time.Minute
	// spendWait is how long the others wait for the one that looks whether there is
	// money again.
	spendWait = time.Minute
	// fit is the tolerance of "there is room", in seconds: less than a clock can tell.
	fit = 1e-9
)

// newPacer makes the pacer of a quota whose limits per minute are known as far as they
// are configured.
func newPacer(now Instant, q *quota) *pacer {
	p := &pacer{at: now, capped: q.mode == CapLimits, joint: q.joint}
	for _, l := range q.limits {
		if l.paced && !l.unknown {
			p.configured[l.pace()] = float64(l.Amount)
		}
	}
	for m := range p.paces {
		p.paces[m] = newPace(now, Meter(m), p.configured[m], p.configured[m] > 0, p.capped)
		p.paces[m].held = (Meter(m) == OutputTokens || q.joint && Meter(m) == InputTokens) && q.reservesMax
		p.paces[m].late = Meter(m) == OutputTokens && !q.reservesMax
	}
	return p
}

func (p *pacer) advance(now Instant) {
	for _, d := range p.paces {
		d.advance(now)
	}
	dt := now.Sub(p.at).Seconds()
	if dt <= 0 {
		return
	}
	p.at = now
	p.load = max(0, p.load-p.healthRate()*dt)
	forget := math.Exp(-dt / healthMemory)
	p.attempts *= forget
	p.sick *= forget
	p.trust.forget(dt)
	p.doubt(now)
	p.accepted *= math.Exp(-dt / acceptMemory)
}

func (p *pacer) acceptRate() float64 { return p.accepted / acceptMemory }

func (p *pacer) isSick() bool { return p.sick > 0.5 && p.sick > 0.1*p.attempts }

// healthRate is how many calls a second are tried while the upstream is overloaded:
// about twice what it accepted lately, but never fewer than a twentieth of the pace
// (after Google's client-side throttling, "Site Reliability Engineering", ch. 21).
func (p *pacer) healthRate() float64 {
	full := p.paces[Requests].rate()
	return min(full, max(0.5, 0.05*full, 2*(p.attempts-p.sick)/healthMemory))
}

// cost is a Usage as amounts by meter.
type cost [3]float64

func costVector(u Usage) cost {
	return cost{float64(u.Requests), float64(u.InputTokens), float64(u.OutputTokens)}
}

// cost is u as the paces of q count it.
func (q *quota) cost(u Usage) cost {
	return q.fold(costVector(u))
}

// fold counts output under input, where they have one pace.
func (q *quota) fold(c cost) cost {
	if q.joint {
		c[InputTokens] += c[OutputTokens]
		c[OutputTokens] = 0
	}
	return c
}

// pace is the meter under which a learned limit's pace is kept.
func (l *Limit) pace() Meter {
	if l.Meter == Tokens {
		return InputTokens
	}
	return l.Meter
}

// seconds of the scarcest meter that c takes: the measure of fairness.
func (p *pacer) seconds(c cost) float64 {
	var s float64
	for m, d := range p.paces {
		s = max(s, c[m]/d.rate())
	}
	return s
}

// wait returns how long until c fits, in seconds, and the meter that says so. before
// is what others, whose turn is earlier, will take.
func (p *pacer) wait(now Instant, c, before cost, open int) (float64, Meter) {
	longest, by := math.Inf(-1), Requests
	for m, d := range p.paces {
		w := d.wait(c[m]) + before[m]/d.rate()
		if d.gate > now {
			w = max(w, d.gate.Sub(now).Seconds(), 2*fit)
		}
		if w > longest {
			longest, by = w, Meter(m)
		}
	}
	if until := p.moneyAt(); until > now {
		longest, by = max(longest, until.Sub(now).Seconds()), Requests
	}
	if p.isSick() && p.load > 0 {
		if w := p.load / p.healthRate(); w > longest {
			longest, by = w, Requests
		}
	}
	if p.inFlight > 0 && float64(open) >= p.inFlight {
		if w := p.inFlightWait(); w > longest {
			longest, by = w, Requests
		}
	}
	return longest, by
}

// inFlightWait is how long it takes about until one of the calls in flight ends, in
// seconds, but longer than callers are let in ahead of time: what counts is that it ended.
func (p *pacer) inFlightWait() float64 {
	return max(max(p.latency, 0.1)/p.inFlight, maxDelay+0.05)
}

// moneyAt is until when a spent budget keeps calls off.
func (p *pacer) moneyAt() Instant { return max(p.spend, p.looking, p.purse.shutUntil()) }

// blockedBy notes which paces hold the next caller up: only those may learn that they
// could be faster.
func (p *pacer) blockedBy(c, before cost) {
	for m, d := range p.paces {
		d.blocked = d.wait(c[m])+before[m]/d.rate() > fit
	}
}

func (p *pacer) unblocked() {
	for _, d := range p.paces {
		d.blocked = false
	}
}

// leases are what is remembered of an admitted call.
type leases struct {
	of      [3]lease
	decided Instant
	sent    Instant
	likely  cost // what the call was expected to be charged in the end
}

func (p *pacer) charge(now Instant, c cost, delay time.Duration) leases {
	l := leases{decided: now, sent: now.Add(delay)}
	for m, d := range p.paces {
		l.of[m] = d.charge(c[m])
	}
	p.attempts++
	if p.isSick() {
		p.load++
	}
	if p.spent && p.spend <= now && p.looking <= now { // one tries, the others wait for what becomes of it
		p.looking = now.Add(spendWait)
	}
	return l
}

// report takes in what became of an admitted call, or of one that goes on, what its headers
// say; used is what it is charged now.
func (p *pacer) report(now Instant, l *leases, o *Outcome, used cost, open int, f *flow) {
	sent := l.sent
	if o.Sent > l.decided && o.Sent <= now {
		sent = o.Sent
	}
	if o.Progress {
		if !o.Class.Refuses() { // the upstream said how it stands when it began to answer
			p.hear(now, sent, l, o, f)
		}
		return
	}
	p.notedWhole(now, o.Class)
	switch o.Class {
	case ClassQuota, ClassAcceleration:
		p.refused(now, sent, l, o, used, f)
		return
	case ClassOverload:
		p.takeBack(l, used)
		p.sick++
		p.attempts = max(p.attempts, p.sick)
		return
	case ClassSpend:
		p.takeBack(l, used)
		p.outOfMoney(now, o, f)
		return
	case ClassConcurrency:
		p.takeBack(l, used)
		if p.credence(now, f, o.Trusted) >= agreed {
			p.inFlight = max(1, math.Floor(0.9*float64(open-1)))
		} else {
			f.close(now, time.Second)
		}
		return
	case ClassUnused, ClassEntitlement, ClassCaller, ClassCredential, ClassServer:
		p.takeBack(l, used)
	case ClassUnset, ClassOK, ClassUnknown:
		for m, d := range p.paces {
			d.settle(&l.of[m], used[m], sent)
		}
		if o.Class != ClassUnknown {
			p.succeeded(now, l.decided, sent)
		}
	}
	p.hear(now, sent, l, o, f)
}

// hear takes in headers of a call that was not refused, as far as their reporter is
// believed.
func (p *pacer) hear(now, sent Instant, l *leases, o *Outcome, f *flow) {
	switch {
	case o.Trusted:
		p.trust.stated = [3]statement{}
		p.observe(now, sent, l, o, false)
	case p.believes(now, f, false):
		p.observeSole(now, sent, l, o, f, false)
	default:
		p.hearsay(now, sent, l, o, f)
	}
}

func (p *pacer) succeeded(now, decided, sent Instant) {
	if p.spent && decided > p.spentAt { // what was let in before shows nothing
		p.spent, p.spend, p.looking = false, min(p.spend, now), 0
	}
	p.accepted++
	p.answered++
	took := max(0, now.Sub(sent).Seconds())
	if p.latency == 0 {
		p.latency = took
	}
	p.latency += 0.05 * (took - p.latency)
	if p.inFlight > 0 {
		p.inFlight += 1 / p.inFlight
	}
}

// spendFor is how long a spent budget keeps calls off: what the upstream said, but
// only until it is worth a look, since raising a budget restores it at once.
func spendFor(after time.Duration) time.Duration {
	if after > 0 {
		return min(after, spendProbe)
	}
	return spendProbe
}

func (p *pacer) takeBack(l *leases, kept cost) {
	for m, d := range p.paces {
		d.takeBack(&l.of[m], kept[m])
	}
}

func (p *pacer) observe(now, sent Instant, l *leases, o *Outcome, refused bool) {
	for m, d := range p.paces {
		d.observe(now, &o.Headers[m], &l.of[m], sent, refused, p.capped, p.configured[m])
	}
}

// refused takes in a refusal for the quota: first of all a fix of the position.
func (p *pacer) refused(now, sent Instant, l *leases, o *Outcome, kept cost, f *flow) {
	p.takeBack(l, kept)
	after := o.RetryAfter.Seconds()
	if after <= 0 {
		after = 1
	}
	c := p.credence(now, f, o.Trusted)
	switch {
	case o.Trusted:
		p.observe(now, sent, l, o, true)
	case c == believed:
		after = min(after, laneClosed.Seconds())
		p.observeSole(now, sent, l, o, f, true)
	default:
		f.close(now, secondsOf(after))
		p.hearsay(now, sent, l, o, f)
	}
	if c == heard && now.Sub(p.trust.moved) >= hearEvery {
		p.trust.moved = now
		after = min(after, hearAfter)
	} else if c < agreed {
		return
	}
	m := p.blame(l, o)
	if p.joint && m == OutputTokens {
		m = InputTokens
	}
	p.paces[m].noted(now, o.Class)
	was := p.paces[m].limit
	lag := 0.0
	if p.paces[m].late {
		lag = p.latency
	}
	if p.followRamp(now, sent, l, o, c) {
		p.paces[m].shut(now, &l.of[m], after, lag)
		return
	}
	h := &o.Headers[m]
	roomLeft := o.HasNamed && m != Requests && h.HasLimit && h.HasRemaining && float64(h.Remaining) > 0.1*float64(h.Limit)
	p.paces[m].refuse(now, l.decided, sent, &l.of[m], after, lag, p.acceptRate(), roomLeft, !o.HasNamed && h.HasLimit && h.HasRemaining && float64(h.Remaining) > 0.1*float64(h.Limit))
	if c == heard {
		p.keepFloor(m, was)
	}
}

// blame returns the meter that a refusal is about: the one that it names; else the one
// that the headers say is used up; else the one whose own bucket is the fullest, if it
// is nearly full; else requests.
func (p *pacer) blame(l *leases, o *Outcome) Meter {
	if o.HasNamed && o.Named <= OutputTokens {
		return o.Named
	}
	by, most := Requests, 0.9
	headers := false
	for m := range o.Headers {
		h := &o.Headers[m]
		if h.HasLimit && h.HasRemaining && h.Limit > 0 {
			headers = true
			if u := 1 - float64(h.Remaining)/float64(h.Limit); u > most {
				by, most = Meter(m), u
			}
		}
	}
	if headers && most > 0.9 {
		return by
	}
	most = 0
	for m, d := range p.paces {
		if u := l.of[m].backlog / d.room(); u > most {
			by, most = Meter(m), u
		}
	}
	return by
}

func secondsOf(s float64) time.Duration {
	switch {
	case s <= 0:
		return 0
	case s > 1e9:
		return 1e9 * time.Second
	}
	return time.Duration(math.Ceil(s * float64(time.Second)))
}

// PaceView is what was learned of one meter of a quota.
type PaceView struct {
	// Meter is what is counted.
	Meter Meter
	// Rate is the rate in force, in units a minute, and Burst how many seconds of it may
	// be sent at once. It is the learned one, unless there is a Ramp: the lower one that the
	// upstream stated while use grows too fast; 0 if it did not.
	Rate, Burst, Ramp float64
	// Backlog is how many units the upstream has not drained yet.
	Backlog float64
	// GateUntil is when the meter opens again after a refusal; in the past if it is open.
	GateUntil Instant
	// LastEvent is what the last refusal was taken for, at LastEventAt.
	LastEvent   EventKind
	LastEventAt Instant
	// Startup says that the limit is unknown and still being looked for.
	Startup bool
	// Limit is what the rate stays below, in units a minute, and Source who says so; 0 if
	// nobody does. Before is what the rate was when a stated limit was last adopted.
	Limit, Before float64
	Source        LimitSource
	// Probes counts refusals since the start that were taken for an event, and ProbeShare
	// is their number relative to the calls that were accepted.
	Probes     uint64
	ProbeShare float64
	// LastClass is the class of the last refusal about this meter, at LastClassAt; those
	// about the whole quota are shown with Requests. ClassUnset if there was none.
	LastClass   Class
	LastClassAt Instant
}

func (p *pacer) views(now Instant) []PaceView {
	out := make([]PaceView, 0, len(p.paces))
	for m, d := range p.paces {
		meter := d.meter
		switch {
		case p.joint && Meter(m) == InputTokens:
			meter = Tokens
		case p.joint && Meter(m) == OutputTokens:
			continue
		}
		v := PaceView{
			Meter: meter, Rate: d.perMinute(), Burst: d.burst, Backlog: d.backlog, GateUntil: max(d.gate, p.spend, p.purse.spentUntil()),
			LastEvent: d.lastKind, Startup: d.startup,
		}
		if d.binds() {
			v.Ramp = d.ramp.rate
		}
		if d.lastKind != NoEvent {
			v.LastEventAt = d.event
		}
		p.more(d.meter, &v)
		out = append(out, v)
	}
	return out
}

// ceiling is how many units of a learned limit any window may hold: what the pace
// admits in it, its burst included. The ring counts up to a bucket more than a window.
func (l *Limit) ceiling(p *pacer) uint64 {
	if l.unknown || !l.capped || p == nil || p.paces[l.pace()].held {
		return MaxAmount
	}
	over := p.paces[l.pace()].burst + float64(l.width)/float64(time.Second)
	return addSat(l.Amount, toAmount(float64(l.Amount)*over/l.Window.Seconds()))
}

// stated is the amount to show for a learned limit: the configured one, or else what
// was learned.
func (l *Limit) stated(p *pacer) uint64 {
	if l.unknown && p != nil {
		return toAmount(p.paces[l.pace()].perMinute())
	}
	return l.Amount
}
