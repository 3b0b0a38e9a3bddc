package limiter

import (
	"math"
	"time"
)

// A tenant reserves by what is known of itself: others may call in quite another way. But
// until a tenant has had answers of its own, what others had is a better guess at how long it
// holds a bucket than a constant, and that is what turns and paces go by. At first, when
// next to nothing is known, a wrong guess is all that keeps callers waiting.

// pool is what is known of the outputs of all tenants of a quota. Each counts alike,
// whatever it calls: so one that is greedy, or lies, is one of many.
type pool struct {
	means   float64 // sum over the tenants
	tenants float64
	answers float64 // of all of them
	moved   float64 // what was expected when turns were last moved by that; 0 if never
}

// mean is the mean output of a tenant, if it had answers: in steps of which sums are
// exact, so that the order in which tenants come and go does not count.
type mean struct {
	of    float64
	known bool
}

// mostMean is more than an answer has, in tokens.
const mostMean = 1e9

func (c *calibration) mean() mean {
	if c.outputs <= 0 {
		return mean{}
	}
	return mean{math.Round(min(c.output/c.outputs, mostMean)*1024) / 1024, true}
}

// move replaces what a tenant counts for.
func (p *pool) move(before, after mean) {
	if before.known {
		p.means, p.tenants = max(0, p.means-before.of), p.tenants-1
	}
	if after.known {
		p.means, p.tenants = p.means+after.of, p.tenants+1
	}
	if p.tenants < 1 {
		*p = pool{}
	}
}

// expect is the output expected of a tenant that had no answers, in tokens.
func (p *pool) expect() float64 {
	if p.tenants < 1 {
		return priorOutput
	}
	return (p.answers*p.means/p.tenants + priorOutput) / (p.answers + 1)
}

// prior is the output expected of a tenant that had no answers. Where the limit is known, a
// wrong guess costs next to nothing.
func (s *quotaState) prior() float64 {
	if s.outputUnknown() {
		return s.pool.expect()
	}
	return priorOutput
}

func (s *quotaState) outputUnknown() bool {
	p := s.pacer
	return p != nil && !p.joint && p.paces[OutputTokens].startup && p.configured[OutputTokens] == 0
}

// learnOutput takes in a completed request's output, and moves turns if that makes
// what is expected of all quite another.
func (s *quotaState) learnOutput(now Instant, c *calibration, actual uint64) {
	before := c.mean()
	c.learnOutput(actual)
	s.pool.move(before, c.mean())
	s.pool.answers++
	was, is := s.pool.moved, s.pool.expect()
	if was == 0 {
		was = priorOutput
	}
	if s.pacer != nil && (is > jump*was || is < was/jump) {
		s.pool.moved = is
		s.reestimate(now)
	}
}

// firstLook is after how long a caller is told to come back, and how long a wait may be
// at most that is told, while turns are guesses.
const firstLook = time.Second

// fewAnswers are so few that what was assumed at first still weighs as much as they do.
const fewAnswers = 20

// guesses says whether a wait for the pace of m is little more than a guess: its limit is
// not known, and few answers have come yet. The next may change it altogether.
func (p *pacer) guesses(now Instant, m Meter) bool {
	d := p.paces[m]
	return p.answered < fewAnswers && d.startup && p.configured[m] == 0 && d.gate <= now && p.moneyAt() <= now && !p.isSick()
}

// told is what a caller is told that it has to wait for the pace of m, where it is w, in
// seconds.
func (p *pacer) told(now Instant, m Meter, w float64) float64 {
	if p.guesses(now, m) {
		return min(w, firstLook.Seconds())
	}
	return w
}

// guesses says whether the turn of a call that costs c is little more than a guess.
func (s *quotaState) guesses(now Instant, c cost) bool {
	if s.pacer == nil {
		return false
	}
	_, by := s.pacer.wait(now, c, cost{}, s.open)
	return s.pacer.guesses(now, by)
}
