package limiter

import (
	"math"
	"time"
)

// Who reports may lie, or be wrong about why it was refused. A gateway is believed at
// once. Anybody else's refusal closes that tenant's own lane at once, for as long as it
// says; the pace that all share moves by it only as far as others bear it out:
//
//   - the only tenant that asks is believed, since nobody else is touched;
//   - one whose share of refusals is no more than three times that of the others is
//     believed: what it says is explained by what they say;
//   - several are heard together if what was refused lately is a fifth of what was
//     admitted, and one alone is heard twice a minute. What is heard closes the quota for
//     no more than a second, every other second, and lowers the rate to half of what is
//     known at most, as long as more is accepted than refused: a quarter is left.

// The bounds of what those who are not trusted can do to others.
const (
	trustMemory  = 10.0             // seconds: what "lately" is
	quorumShare  = 0.2              // of what was admitted lately must be refused
	explained    = 3.0              // times the others' share of refusals
	aloneEvery   = 30.0             // seconds for which one tenant's word alone counts once
	mostAlone    = 2.0              // times that it counts in a row
	hearEvery    = 2 * time.Second  // how often the word of tenants moves what is shared
	hearAfter    = 1.0              // seconds for which it closes what is shared
	floorShare   = 0.5              // of what was configured
	peakShare    = 0.25             // of the most that went through, where nothing was
	laneClosed   = time.Minute      // what a lane is closed for at most
	othersLately = 0.5              // calls of others: fewer, and a tenant is the only one
	repeatsAhead = 8                // repeats that may come before the report that earns them
	mostRepeats  = 64               // that are remembered
	repeatEarned = 0.25             // repeats that a call which was charged for earns
	firstRepeats = 4.0              // that a new tenant has
	agreeWithin  = 10 * time.Second // of one another, for two to agree
	sameLimit    = 0.005            // by which two statements of a limit may differ
)

// standing is what is remembered of a tenant as a reporter.
type standing struct {
	open   int     // reservations
	parked int     // asks that are held, but not in line yet
	shut   Instant // until when its own lane is closed

	admitted float64 // calls lately, as of seen
	seen     Instant
	denials  float64 // refusals that it reported lately, as of seen
	alone    float64 // how often its word alone counts, as of weighed
	weighed  Instant

	refused float64 // calls that were refused and not repeated yet
	earned  float64 // repeats that it may make without being trusted
}

func newStanding() standing { return standing{earned: firstRepeats, alone: mostAlone} }

// close closes the tenant's own lane.
func (f *flow) close(now Instant, after time.Duration) {
	if f != nil {
		f.shut = max(f.shut, now.Add(min(after, laneClosed)))
	}
}

// see brings what f did lately to now.
func (f *flow) see(now Instant) {
	if now > f.seen {
		keep := math.Exp(-now.Sub(f.seen).Seconds() / trustMemory)
		f.admitted *= keep
		f.denials *= keep
		f.seen = now
	}
}

// mayRepeat says whether the caller's word that it repeats a refused call is taken:
// such calls go first and are not charged to their tenant's turn again.
func (f *flow) mayRepeat(trusted bool) bool {
	return f.refused > -repeatsAhead && (trusted || f.earned >= 1)
}

// countRepeat counts a's repeat against its tenant, once.
func (a *Ask) countRepeat(f *flow) {
	if !a.Retry || a.counted || f == nil {
		return
	}
	a.counted = true
	f.refused--
	if !a.Trusted {
		f.earned--
	}
}

// heard notes what a report says of the call itself.
func (r *reservation) heard(now Instant, o *Outcome) {
	if r.flow != nil && o.Class.Refuses() {
		r.flow.refused = min(r.flow.refused+1, mostRepeats)
	}
	r.bar(now, o)
}

// mostTimes what was reserved is the most that a tenant is believed to have used, and to
// be wrong by in its estimates.
const mostTimes = 4

// fewTokens are believed whatever was reserved: they move nothing.
const fewTokens = 64

// clamp bounds the usage that somebody who is not trusted states.
func (r *reservation) clamp(o *Outcome) {
	times := func(n uint64) uint64 { return max(min(mostTimes*min(n, MaxAmount), MaxAmount), fewTokens) }
	in, out := times(r.reserved.InputTokens), max(times(r.reserved.OutputTokens), min(r.most, mostOutput))
	o.Usage.InputTokens, o.Usage.OutputTokens = min(o.Usage.InputTokens, in), min(o.Usage.OutputTokens, out)
	o.CacheReads = min(o.CacheReads, in)
}

// mostOutput is the longest answer that a provider documents, in tokens.
const mostOutput = 131_072

// believable bounds what a tenant's own word teaches about its estimates.
func (r *reservation) believable(o *Outcome, input uint64) uint64 {
	if o.Trusted || r.estimate == 0 {
		return input
	}
	return min(input, toAmount(mostTimes*r.estimate))
}

// witnesses are what a quota remembers of its reporters.
type witnesses struct {
	admitted, refused float64  // calls of all tenants, lately
	last, before      sighting // the latest tenant that was refused, and the latest other one
	moved             Instant  // when the word of tenants last moved what is shared; 0 if never
	sole              *flow    // the one that asked alone when its refusals were believed
	stated            [3]statement
}

type sighting struct {
	by *flow
	at Instant
}

// statement is a limit that somebody who is not trusted stated.
type statement struct {
	sighting
	limit   uint64
	backlog float64
	agreed  Instant // when two last agreed on the limit; 0 if it does not rest on that
}

func (w *witnesses) forget(dt float64) {
	keep := math.Exp(-dt / trustMemory)
	w.admitted *= keep
	w.refused *= keep
}

// saw notes that a call was admitted.
func (p *pacer) saw(now Instant, f *flow, a *Ask) {
	p.trust.admitted++
	if f == nil {
		return
	}
	f.see(now)
	f.admitted++
	if !a.Retry {
		f.earned = min(f.earned+repeatEarned, mostRepeats)
	}
}

// meet undoes what somebody that asked alone made weir believe, as far as tenants may,
// now that f asks too. What was true, the upstream says again to both.
func (p *pacer) meet(now Instant, f *flow) {
	if p.trust.sole == nil || p.trust.sole == f {
		return
	}
	p.trust.sole = nil
	soon := now.Add(secondsOf(hearAfter))
	for m, d := range p.paces {
		d.gate, d.calm = min(d.gate, soon), min(d.calm, soon)
		if floor := p.usual(Meter(m)); d.limit < floor {
			d.lift(min(floor, d.most))
		}
		d.ramp = ramp{}
		d.backlog = min(d.backlog, d.room()+hearAfter*d.rate())
	}
	p.spend, p.looking, p.spent = min(p.spend, now), 0, false
	p.inFlight = 0
}

// observeSole takes in headers of somebody who asks alone; a limit that they state rests
// on that.
func (p *pacer) observeSole(now, sent Instant, l *leases, o *Outcome, f *flow, refused bool) {
	p.observe(now, sent, l, o, refused)
	for m := range p.paces {
		if h := &o.Headers[m]; h.HasLimit && h.Limit > 0 {
			p.trust.stated[m] = statement{sighting{f, now}, h.Limit, 0, now}
		}
	}
}

// credence is how far a refusal moves what is shared.
type credence uint8

const (
	doubted  credence = iota // not at all
	heard                    // a little
	agreed                   // as it is, but for what headers say
	believed                 // as it is
)

// believes says whether the word of a reporter is taken as it is.
func (p *pacer) believes(now Instant, f *flow, trusted bool) bool {
	if trusted || f == nil {
		return trusted
	}
	f.see(now)
	return p.trust.admitted-f.admitted < othersLately
}

// credence weighs a refusal that f reported. A call that nobody asked for convinces
// nobody.
func (p *pacer) credence(now Instant, f *flow, trusted bool) credence {
	w := &p.trust
	w.refused++
	if f != nil {
		f.see(now)
		f.denials++
		if w.last.by != f {
			w.before = w.last
		}
		w.last = sighting{f, now}
	}
	switch {
	case p.believes(now, f, trusted):
		if !trusted {
			w.sole = f
		}
		return believed
	case f == nil:
		return doubted
	case f.denials*(w.admitted-f.admitted) <= explained*f.admitted*(w.refused-f.denials):
		return agreed
	case w.before.by != nil && now.Sub(w.before.at) <= agreeWithin && w.refused >= quorumShare*w.admitted, f.mayBeAlone(now):
		return heard
	}
	return doubted
}

// mayBeAlone says whether f's word alone counts once more.
func (f *flow) mayBeAlone(now Instant) bool {
	f.alone = min(mostAlone, f.alone+max(0, now.Sub(f.weighed).Seconds())/aloneEvery)
	f.weighed = now
	if f.alone < 1 {
		return false
	}
	f.alone--
	return true
}

// keepFloor undoes what the word of tenants did to the rate of m beyond its floor,
// and lets it come back from there as fast as it can.
func (p *pacer) keepFloor(m Meter, was float64) {
	d := p.paces[m]
	if floor := min(was, p.floor(m)); d.limit < floor {
		d.lift(floor)
	}
}

// lift puts the rate at limit, from where it comes back as fast as it can.
func (d *pace) lift(limit float64) {
	d.limit, d.target = limit, max(d.target, limit)
	d.curve, d.period, d.depth = 0, leastPeriod, 1-d.limit/d.target
}

// floor is below what the word of tenants does not get the rate of m, as long as more is
// accepted than refused: a share of what was configured, or else of what went through.
func (p *pacer) floor(m Meter) float64 {
	if p.trust.refused > 0.5*p.trust.admitted {
		return 0
	}
	return p.usual(m)
}

// usual is the least that is known of the rate of m: half of what was configured, or a
// quarter of what went through.
func (p *pacer) usual(m Meter) float64 {
	if p.configured[m] > 0 {
		return floorShare * p.configured[m]
	}
	return peakShare * p.paces[m].peak
}

// hearsay takes in headers that somebody who is not trusted saw: a limit, once a second
// tenant states the same, and that little is left, as far as an empty bucket.
func (p *pacer) hearsay(now, sent Instant, l *leases, o *Outcome, f *flow) {
	if f == nil {
		return
	}
	for m, d := range p.paces {
		h := &o.Headers[m]
		if !h.HasLimit || h.Limit == 0 {
			continue
		}
		s := &p.trust.stated[m]
		same := math.Abs(float64(h.Limit)-float64(s.limit)) <= sameLimit*float64(s.limit)
		if same && s.by != nil && s.by != f && now.Sub(s.at) <= agreeWithin {
			was := d.limit
			d.adopt(max(float64(h.Limit), p.floor(Meter(m))), p.capped, p.configured[m])
			if d.limit < was { // what a smaller bucket holds at most
				d.backlog = min(d.backlog, d.room())
			}
			s.agreed = now
		}
		z, tolerance := 0.0, 0.0
		if h.HasRemaining {
			z, tolerance = d.position(now, h, &l.of[m], sent, o.Class.Refuses())
			before := s.backlog - d.rate()*now.Sub(s.at).Seconds()
			if both := min(z, before); s.by != nil && s.by != f && both > d.backlog+tolerance {
				d.backlog = max(d.backlog, min(both-tolerance/2, d.room()))
			}
		}
		s.sighting, s.limit, s.backlog = sighting{f, now}, h.Limit, z
	}
}

// doubt drops a limit that tenants agreed on, once they do not any more.
func (p *pacer) doubt(now Instant) {
	for m, d := range p.paces {
		s := &p.trust.stated[m]
		if s.agreed == 0 || now.Sub(s.agreed) <= agreeWithin || p.believes(now, s.by, false) {
			continue
		}
		s.agreed = 0
		if d.most = math.Inf(1); p.capped && p.configured[m] > 0 {
			d.most = p.configured[m]
		}
	}
}

// outOfMoney takes in that a budget is spent.
func (p *pacer) outOfMoney(now Instant, o *Outcome, f *flow) {
	after := spendFor(o.RetryAfter)
	c := p.credence(now, f, o.Trusted)
	if o.closesOrg() && p.purse != nil { // it closes this quota too
		return
	}
	if c < believed {
		if f != nil {
			f.shut = max(f.shut, now.Add(after))
		}
		return
	}
	p.spend, p.spent, p.spentAt = max(p.spend, now.Add(after)), true, now
}

// owe charges the tenant's turn what its call cost beyond what was expected, or gives
// that back: who is not trusted, and is wrong about its calls or lies, pays for it itself.
func (s *quotaState) owe(f *flow, l *leases, used cost) {
	if f == nil {
		return
	}
	expected := cost{}
	for m := range expected {
		expected[m] = l.likely[m]
	}
	more := (s.pacer.seconds(used) - s.pacer.seconds(expected)) / max(f.weight, 1e-9)
	f.finish = max(s.line.virtual, f.finish+more)
}

// largest is the greatest amount of m that one call can be let in for: the pace of an
// hour or so where nobody knows the limit, and else a little more than it.
func (p *pacer) largest(m Meter) float64 {
	d := p.paces[m]
	if math.IsInf(d.most, 1) {
		return vastUnknown * max(d.limit, firstRate(m))
	}
	return vastKnown * d.most
}

const (
	vastUnknown = 32.0 // minutes
	vastKnown   = 2.0  // minutes
)

// vast says whether c, of a learned limit, is for more than that can ever admit.
func (a *Ask) vast(c *charge) bool {
	st := a.quotas[c.quota].state
	return st != nil && st.pacer != nil && float64(c.total) > st.pacer.largest(c.limit.pace())
}
