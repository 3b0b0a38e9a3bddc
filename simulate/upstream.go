package simulate

import (
	"math"
	"time"

	"github.com/weir-project/weir/limiter"
)

// reply is the upstream's answer to a call.
type reply struct {
	class      limiter.Class // ClassOK, or why it was refused
	retryAfter time.Duration
	named      limiter.Meter
	hasNamed   bool
	headers    [3]limiter.HeaderState
}

// upstream is the state of an Upstream.
type upstream struct {
	spec   *Upstream
	chance chance
	start  limiter.Instant
	factor float64
	change int // the next of spec.Changes

	enforced [3]bucket
	shown    [3]bucket // what headers tell: a bucket of a minute
	ramps    [3]*ramp  // nil where there is none

	producing float64    // output tokens a second of ours
	initial   [3]float64 // what the buckets held at first
	refill    [3]float64 // what was added since
	ours      [3]float64 // what our calls used
	foreign   [3]float64 // what others used

	foreignSent, foreignRefused int
}

func newUpstream(now limiter.Instant, spec *Upstream, seed uint64) *upstream {
	u := &upstream{spec: spec, chance: newChance(seed, 3), start: now, factor: 1}
	for m, perMinute := range spec.Limits.vector() {
		u.enforced[m] = newBucket(now, perMinute, spec.Interval.Seconds(), 1)
		u.shown[m] = newBucket(now, perMinute, 60, 1)
		u.initial[m] = u.enforced[m].capacity
		if spec.Acceleration != nil && limiter.Meter(m) != limiter.OutputTokens {
			u.ramps[m] = newRamp(now, spec.Acceleration, perMinute)
		}
	}
	return u
}

// advance brings the upstream to now, through the changes of its limits.
func (u *upstream) advance(now limiter.Instant) {
	for u.change < len(u.spec.Changes) {
		c := u.spec.Changes[u.change]
		at := u.start.Add(time.Duration(c.At))
		if at > now {
			break
		}
		u.flow(at)
		u.factor = c.Factor
		u.change++
		for m, perMinute := range u.spec.Limits.vector() {
			u.enforced[m].resize(perMinute*u.factor, u.spec.Interval.Seconds(), 1)
			u.shown[m].resize(perMinute*u.factor, 60, 1)
			if u.ramps[m] != nil {
				u.ramps[m].full = perMinute * u.factor / 60
			}
		}
	}
	u.flow(now)
}

// flow lets what drains drain until now.
func (u *upstream) flow(now limiter.Instant) {
	dt := max(0, now.Sub(u.enforced[0].at).Seconds())
	u.ours[limiter.OutputTokens] += u.producing * dt
	for m := range u.enforced {
		u.refill[m] += u.enforced[m].rate * dt
		u.enforced[m].advance(now)
		u.shown[m].advance(now)
		if u.ramps[m] != nil {
			u.ramps[m].advance(now)
		}
	}
}

// limitPerMinute returns the limit in force.
func (u *upstream) limitPerMinute(m limiter.Meter) float64 {
	return u.spec.Limits.vector()[m] * u.factor
}

// needs returns what must be there for a call at its start.
func (u *upstream) needs(guess, maxTokens float64) [3]float64 {
	if u.spec.ReservesMaxTokens {
		return [3]float64{1, guess, maxTokens}
	}
	// Output counts as it is produced: a call may begin unless there is debt.
	return [3]float64{1, guess, 1}
}

// wait returns in how many seconds there is room, 0 if there is; which meter says so;
// and whether it is the acceleration that does.
func (u *upstream) wait(needs [3]float64) (longest float64, by limiter.Meter, ramped bool) {
	for m, n := range needs {
		if w := u.enforced[m].wait(n); w > longest {
			longest, by, ramped = w, limiter.Meter(m), false
		}
		if r := u.ramps[m]; r != nil {
			if w := r.bucket.wait(n); w > longest {
				longest, by, ramped = w, limiter.Meter(m), true
			}
		}
	}
	return longest, by, ramped
}

// charge takes what a call takes at its start.
func (u *upstream) charge(needs [3]float64) {
	for m, n := range needs {
		if limiter.Meter(m) == limiter.OutputTokens && !u.spec.ReservesMaxTokens {
			continue
		}
		u.take(m, n)
		if u.ramps[m] != nil {
			u.ramps[m].take(n)
		}
	}
}

func (u *upstream) take(m int, n float64) {
	u.enforced[m].level -= n
	u.shown[m].level -= n
}

// give puts back, as far as there is room.
func (u *upstream) give(m int, n float64) {
	u.enforced[m].level = min(u.enforced[m].capacity, u.enforced[m].level+n)
	u.shown[m].level = min(u.shown[m].capacity, u.shown[m].level+n)
}

// arrive answers a call. One that is accepted goes on with begin and finish.
func (u *upstream) arrive(now limiter.Instant, c *call) reply {
	u.advance(now)
	if p := u.overload(now); p > 0 && u.chance.uniform() < p {
		return reply{class: limiter.ClassOverload}
	}
	needs := u.needs(c.guess, c.max)
	w, by, ramped := u.wait(needs)
	if w <= 0 {
		u.charge(needs)
		u.ours[limiter.Requests]++
		u.ours[limiter.InputTokens] += c.input
		return reply{class: limiter.ClassOK, headers: u.headers()}
	}
	if u.spec.ChargesRefused {
		u.take(int(limiter.Requests), 1)
	}
	r := reply{class: limiter.ClassQuota, headers: u.headers()}
	if ramped {
		r.class = limiter.ClassAcceleration
	} else if !u.spec.NoMeter {
		r.named, r.hasNamed = by, true
	}
	if !u.spec.NoRetryAfter {
		r.retryAfter = seconds(math.Ceil(max(w, 1)))
	}
	return r
}

// begin is when an answer begins: the input is counted, output starts to flow. It
// completes the headers that were made when the call arrived.
func (u *upstream) begin(now limiter.Instant, c *call) {
	u.advance(now)
	out := limiter.OutputTokens
	c.headers[out] = u.headers()[out]
	if d := c.input - c.guess; d > 0 {
		u.take(int(limiter.InputTokens), d)
	} else {
		u.give(int(limiter.InputTokens), -d)
	}
	u.produce(c.speed)
}

// finish is when an answer ends.
func (u *upstream) finish(now limiter.Instant, c *call) {
	u.advance(now)
	u.produce(-c.speed)
	if u.spec.ReservesMaxTokens {
		u.give(int(limiter.OutputTokens), c.max-c.output)
	}
}

func (u *upstream) produce(speed float64) {
	u.producing = max(0, u.producing+speed)
	if !u.spec.ReservesMaxTokens {
		u.enforced[limiter.OutputTokens].drain = u.producing
		u.shown[limiter.OutputTokens].drain = u.producing
	}
}

// overload returns the share of calls that are answered with 529 now.
func (u *upstream) overload(now limiter.Instant) float64 {
	for _, o := range u.spec.Overloads {
		since := now.Sub(u.start) - time.Duration(o.At)
		if since >= 0 && since < time.Duration(o.For) {
			return o.Share
		}
	}
	return 0
}

// headers tell how the buckets stand: of tokens, what remains is rounded to thousands.
func (u *upstream) headers() [3]limiter.HeaderState {
	var h [3]limiter.HeaderState
	if u.spec.NoHeaders {
		return h
	}
	for m := range h {
		remaining := math.Floor(max(0, u.shown[m].level) + slack)
		if limiter.Meter(m) != limiter.Requests {
			remaining = math.Round(remaining/1000) * 1000
		}
		h[m] = limiter.HeaderState{
			Limit: uint64(math.Round(u.limitPerMinute(limiter.Meter(m)))), Remaining: uint64(remaining),
			HasLimit: true, HasRemaining: true,
		}
	}
	return h
}

// foreignOn returns whether foreign traffic is on at now, or else when it will be.
func (u *upstream) foreignOn(now limiter.Instant) (bool, limiter.Instant) {
	f := u.spec.Foreign
	since := now.Sub(u.start) - time.Duration(f.From)
	if since < 0 {
		return false, now.Add(-since)
	}
	cycle := time.Duration(f.On + f.Off)
	if into := since % cycle; into >= time.Duration(f.On) {
		return false, now.Add(cycle - into)
	}
	return true, now
}

// foreignRate returns how many foreign requests come a second while they come.
func (u *upstream) foreignRate() float64 {
	return u.spec.Foreign.Share * u.spec.Limits.Requests / 60
}

// arriveForeign is a request of others, with its part of each limit. It does not try
// again.
func (u *upstream) arriveForeign(now limiter.Instant) {
	u.advance(now)
	u.foreignSent++
	l := u.spec.Limits
	amounts := [3]float64{1, l.InputTokens / l.Requests, l.OutputTokens / l.Requests}
	if w, _, _ := u.wait(amounts); w > 0 {
		u.foreignRefused++
		return
	}
	for m, n := range amounts {
		u.take(m, n)
		u.foreign[m] += n
		if u.ramps[m] != nil {
			u.ramps[m].take(n)
		}
	}
}

// couldServe returns what u could have served of m until now, without foreign use.
func (u *upstream) couldServe(m limiter.Meter) float64 {
	return u.initial[m] + u.refill[m] - u.foreign[m]
}
