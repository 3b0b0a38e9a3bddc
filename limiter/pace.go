package limiter

import "math"

// pace is the learned limit of one meter of a quota: a twin of the upstream's own
// bucket, in the form of GCRA (a backlog that drains at the rate, and a tolerance in
// seconds of the rate), whose rate and tolerance are learned from what the upstream
// answers. It admits at most rate·(W+burst) in any interval W.
//
// The rate is lowered only by refusals, once for each event of congestion, and comes
// back on a cubic curve around the rate at which the refusal came, as TCP's CUBIC does
// (RFC 9438). The tolerance starts at one second, since a limit of 60 a minute may be
// enforced as one a second, and grows only while it is what holds callers up.
type pace struct {
	meter  Meter
	late   bool    // what it counts is used up only while a call goes on
	held   bool    // what it counts is held from the start of a call, and given back at its end
	unit   float64 // the least that the bucket must hold: one request
	limit  float64 // the learned rate, in units a minute
	most   float64 // what it may not exceed: +Inf if nobody knows
	target float64 // the rate that the curve leads back to

	burst float64 // the tolerance, in seconds of the rate
	top   float64 // what the burst may grow to for now
	probe float64 // how long that holds, in seconds; doubles with each failure

	backlog     float64 // units that the upstream has not drained yet
	debited     float64 // units charged since the start
	outstanding float64 // units charged and not reported yet
	minute      float64 // units charged in the last minute or so
	peak        float64 // the most units a minute that went through, forgotten over peakMemory
	recent      float64 // units charged lately, forgotten over recentMemory

	curve  float64 // seconds of growth since the last cut
	period float64 // seconds from a cut to the target
	depth  float64 // of the last cut, as a share of the target
	failed float64 // the rate at the last cut
	inRow  int     // cuts that followed on one another
	passed int     // accepted since the last event

	startup bool // the limit is unknown, and doubles until something refuses
	blocked bool // this pace is what holds callers up

	at, idle, empty, fixed, calm, until, event, grew Instant
	gate                                             Instant // closed until then, after a refusal
	heldUp                                           Instant // blocked until then, where nobody queues
	headerSent                                       Instant
	lastKind                                         EventKind
	ramp                                             ramp

	trail
}

// The constants of learning. All are flat: halving or doubling one changes
// utilisation by a point or two.
const (
	recentMemory = 10.0
	peakMemory   = 900.0
	firstBurst   = 1.0  // seconds: the short interval that Anthropic documents
	leastBurst   = 0.2  // seconds
	mostBurst    = 54.0 // seconds: a minute less a tenth for estimates and clocks
	burstCut     = 0.6
	firstProbe   = 60.0 // seconds before a burst that failed is tried again
	mostProbe    = 3600.0
	cutShare     = 0.03 // the smallest cut that ends an event
	leastPeriod  = 10.0 // seconds
	greatestRate = float64(MaxAmount)
	leastRate    = 0.1 // units a minute: what no number of cuts goes below
	mostPeriod   = 60.0
	doubling     = 10.0 // seconds in which an unknown limit doubles
	fastDoubling = 20.0 // seconds in which a rate well above its target doubles
	// probeRequests is the number of accepted requests per probe of a higher rate: the
	// one knob of policy, 1/(2·150) = 0.33 % of refusals.
	probeRequests     = 150.0
	probeRequestsNear = 50.0 // where the rate is near what is configured
)

// EventKind says what the last refusal was taken for.
type EventKind uint8

// The kinds of events.
const (
	NoEvent EventKind = iota
	// BurstEvent: too much at once; the burst was cut.
	BurstEvent
	// RateEvent: too much for too long; the rate was cut.
	RateEvent
	// StartupEvent: an unknown limit was found.
	StartupEvent
	// RampEvent: use grew too fast, and the upstream stated by how much it may.
	RampEvent
)

// String returns the kind in lower case.
func (k EventKind) String() string { return [...]string{"none", "burst", "rate", "startup", "ramp"}[k] }

// firstRates are what an unknown limit starts from, in units a minute: less than any
// paying customer has.
func firstRate(m Meter) float64 {
	switch m {
	case Requests:
		return 60
	case OutputTokens:
		return 8_000
	case InputTokens, Tokens:
	}
	return 40_000
}

func newPace(now Instant, m Meter, configured float64, known, capped bool) *pace {
	p := &pace{
		meter: m, limit: configured, most: math.Inf(1), burst: firstBurst, top: mostBurst, probe: firstProbe,
		curve: leastPeriod, period: leastPeriod, at: now, idle: now, empty: now, grew: math.MinInt64 / 2,
		event: math.MinInt64 / 2, until: math.MinInt64 / 2, fixed: math.MinInt64 / 2, headerSent: math.MinInt64 / 2,
	}
	if m == Requests {
		p.unit = 1
	}
	if !known {
		p.limit = firstRate(m)
	}
	if known && capped {
		p.most = p.limit
	}
	p.target = p.limit
	p.startup = !known || !capped
	return p
}

func (p *pace) rate() float64 { return p.perMinute() / 60 }

// room is what the bucket holds when it is empty.
func (p *pace) room() float64 { return max(p.unit, p.rate()*p.burst) }

// advance brings the pace to now: the backlog drains, and what may grow grows.
func (p *pace) advance(now Instant) {
	p.climb(now)
	p.pass(now)
}

// pass is advance up to an instant before which no ramp rises.
func (p *pace) pass(now Instant) {
	dt := now.Sub(p.at).Seconds()
	if dt <= 0 {
		return
	}
	p.at = now
	p.minute -= p.minute * min(1, dt/60)
	p.peak = max(p.peak-p.peak*min(1, dt/peakMemory), p.minute)
	p.recent *= math.Exp(-dt / recentMemory)
	if p.blocked && now > p.calm && !p.binds() {
		p.grow(now, dt)
	}
	if p.heldUp != 0 && now > p.heldUp {
		p.blocked, p.heldUp = false, 0
	}
	p.follow()
	p.backlog -= p.rate() * dt
	if p.backlog <= 0 {
		p.backlog = 0
		p.empty = now
		if !p.blocked {
			p.idle = now
		}
	}
}

// grow lets time count for learning: this pace is what holds callers up, and the
// upstream does not complain.
func (p *pace) grow(now Instant, dt float64) {
	p.curve += dt
	settled := p.limit >= 0.99*p.most || (math.IsInf(p.most, 1) && !p.startup && p.curve >= p.period)
	if settled && p.burst < p.top {
		before := p.burst
		switch {
		case now <= p.until:
			p.burst = min(p.top, p.burst+dt)
		case p.top < mostBurst:
			p.burst = min(mostBurst, p.burst+dt/10)
		default:
			p.burst = min(mostBurst, p.burst+dt)
		}
		if p.burst > before {
			p.grew = now
		}
	} else if settled && now > p.until && p.top < mostBurst {
		p.burst = min(mostBurst, p.burst+dt/10)
		p.grew = now
	}
	if p.startup && p.recent/recentMemory > 0.25*p.rate() {
		p.limit = min(p.most, greatestRate, p.limit*math.Exp2(min(dt/doubling, 64)))
	}
}

// follow puts the rate where the curve says.
func (p *pace) follow() {
	if p.startup {
		p.target, p.curve = p.limit, p.period
		return
	}
	x := (p.curve - p.period) / p.period
	steep := cutShare
	if x < 0 {
		steep = p.depth
	}
	f := 1 + steep*x*x*x
	if f > 1.1 {
		turn := p.period * (1 + math.Cbrt(0.1/cutShare))
		f = 1.1 * math.Exp2(min((p.curve-turn)/fastDoubling, 64))
	}
	p.limit = min(p.most, greatestRate, p.target*f)
}

// wait returns how long, in seconds, until amount fits; 0 or less if it does. What is
// larger than the bucket needs it empty.
func (p *pace) wait(amount float64) float64 {
	room := p.room()
	return (p.backlog + min(amount, room) - room) / p.rate()
}

// lease is what a pace must remember of a request that it admitted.
type lease struct {
	amount  float64 // charged
	backlog float64 // after it was charged
	debited float64 // after it was charged
	before  float64 // outstanding before it
}

func (p *pace) charge(amount float64) lease {
	l := lease{amount: amount, before: p.outstanding}
	p.backlog += amount
	p.debited += amount
	p.outstanding += amount
	p.recent += amount
	p.minute += amount
	l.backlog, l.debited = p.backlog, p.debited
	return l
}

// settle replaces what was charged by what was used. What a later fix of the position,
// or an emptied bucket, has absorbed already is not added again.
func (p *pace) settle(l *lease, used float64, sent Instant) {
	p.outstanding = max(0, p.outstanding-l.amount)
	p.passed++
	if p.meter == OutputTokens || (sent > p.fixed && sent >= p.empty) {
		p.backlog = max(0, p.backlog+used-l.amount)
		if p.held {
			p.debited += used - l.amount
		}
	}
}

// takeBack undoes a charge that the upstream did not make, except for kept units.
func (p *pace) takeBack(l *lease, kept float64) {
	back := max(0, l.amount-kept)
	p.outstanding = max(0, p.outstanding-l.amount)
	p.backlog = max(0, p.backlog-back)
	p.debited -= back
	p.recent = max(0, p.recent-back)
	p.minute = max(0, p.minute-back)
}

// observe takes in what the upstream's headers say of a request.
func (p *pace) observe(now Instant, h *HeaderState, l *lease, sent Instant, refused, capped bool, configured float64) {
	if !h.HasLimit || h.Limit == 0 || sent < p.headerSent { // late: a newer one was seen
		return
	}
	p.headerSent = sent
	limit := float64(h.Limit)
	p.adopt(limit, capped, configured)
	if !h.HasRemaining {
		return
	}
	z, tolerance := p.position(now, h, l, sent, refused)
	switch {
	case z > p.backlog+tolerance:
		p.backlog = z - tolerance/2
	case !refused && !p.late && p.empty <= sent && z < p.backlog-tolerance:
		p.backlog = max(0, (p.backlog+z)/2)
	}
}

// position works out from what remains how much the upstream has not drained yet, and
// by how much that can be wrong.
func (p *pace) position(now Instant, h *HeaderState, l *lease, sent Instant, refused bool) (z, tolerance float64) {
	z = float64(h.Limit) - float64(min(h.Remaining, h.Limit)) + (p.debited - l.debited) - p.rate()*now.Sub(sent).Seconds()
	if refused {
		z += l.amount
	}
	if p.late {
		z += 0.5*l.before + l.amount
	}
	tolerance = 1500.0
	if p.meter == Requests {
		tolerance = 1.5
	}
	return z, tolerance
}

// adopt takes the limit that the upstream states.
func (p *pace) adopt(limit float64, capped bool, configured float64) {
	want := limit
	if capped && configured > 0 {
		want = min(limit, configured)
	}
	known := p.most
	if !math.IsInf(known, 1) && math.Abs(want/known-1) <= 0.005 {
		return
	}
	p.was = p.limit
	p.most, p.limit, p.target = want, want, want
	p.curve, p.startup = p.period, false
}

// refuse takes in that the upstream refused for this meter.
func (p *pace) refuse(now, decided, sent Instant, l *lease, after, lag, acceptRate float64, roomLeft, passing bool) {
	if decided > p.event.Add(secondsOf(lag)) {
		p.learn(now, sent, l, acceptRate, roomLeft, passing)
		p.event = now
		p.events[p.lastKind]++
	}
	p.shut(now, l, after, lag)
}

// shut takes in where a refusal says that the upstream's bucket stands, and that nothing
// more is to be sent for a while.
func (p *pace) shut(now Instant, l *lease, after, lag float64) {
	room := p.room()
	if p.late {
		p.backlog = max(p.backlog, room+p.rate()*after+0.5*p.outstanding)
	} else {
		p.backlog = max(p.backlog, room+p.rate()*after-min(l.amount, room))
	}
	p.fixed = now
	p.gate = max(p.gate, now.Add(secondsOf(after)))
	p.calm = max(p.calm, now.Add(secondsOf(after+lag)))
}

// learn decides what an event of congestion means: too much at once, or for too long.
func (p *pace) learn(now, sent Instant, l *lease, acceptRate float64, roomLeft, passing bool) {
	used := l.backlog / p.rate()
	sinceIdle := sent.Sub(p.idle).Seconds()
	switch {
	case l.backlog > 1.01*l.amount && p.burst > 0.3 && (sinceIdle < 1.2*used+3 || now.Sub(p.grew).Seconds() < 3):
		p.burst = max(leastBurst, burstCut*min(p.burst, used))
		p.top = p.burst
		p.until = now.Add(secondsOf(p.probe))
		p.probe = min(mostProbe, 2*p.probe)
		p.lastKind = BurstEvent
	case p.startup:
		p.startup = false
		p.target, p.depth, p.curve, p.period = p.limit/2, cutShare, 0, leastPeriod
		p.peak = min(p.peak, p.target) // what filled a bucket that was empty is no rate
		p.lastKind = StartupEvent
	default:
		p.cutRate(now, used, acceptRate, roomLeft, passing)
		p.lastKind = RateEvent
	}
	p.passed = 0
}

func (p *pace) cutRate(now Instant, used, acceptRate float64, roomLeft, passing bool) {
	if used < 0.9*p.burst {
		p.burst = max(leastBurst, 0.8*p.burst)
		p.top = p.burst
		p.until = now.Add(secondsOf(60))
	}
	if p.passed >= 8 && p.curve > p.period/4 {
		p.inRow = 0
	}
	limit := max(leastRate, p.limit*(1-min(0.5, cutShare*math.Exp2(float64(min(p.inRow, 10))))))
	if p.inRow >= 2 {
		p.target = limit
	} else {
		p.target = (max(p.target, (p.target+p.limit)/2) + limit) / 2
	}
	p.inRow++
	if roomLeft && !math.IsInf(p.most, 1) { // noise within an interval, not the rate
		p.target, limit = max(p.target, 0.9*p.most), max(limit, 0.9*p.most)
	}
	if !passing && p.failed > 0 && math.Abs(p.limit/p.failed-1) < 0.1 {
		requests := probeRequests
		if p.target > 0.8*p.most {
			requests = probeRequestsNear
		}
		bound := min(max(requests/max(acceptRate, 1e-3), leastPeriod), mostPeriod)
		p.period = min(2*p.period, bound)
	} else {
		p.period = leastPeriod
	}
	p.failed = p.limit
	p.target = max(p.target, limit)
	p.depth = 1 - limit/p.target
	p.curve = 0
	p.limit = limit
}
