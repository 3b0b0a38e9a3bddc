package limiter

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"strings"
	"time"
)

// calibration is what is known of how a tenant's estimates for a quota compare with
// what was used: sums that forget exponentially. A ratio of sums, not a mean of
// ratios, is unbiased under heavy tails.
type calibration struct {
	actual, estimate, estimates float64 // input tokens, of requests that had an estimate
	input, inputs               float64 // input tokens of all requests
	output, outputs             float64 // output tokens

	used uint32 // when it was last looked for, by calibrationClock
	open uint32 // reservations that will add to it
}

// calibrationClock is now in units of about a second.
func calibrationClock(now Instant) uint32 { return uint32(now >> 30) }

// calibrationMemory is how long the estimates of a tenant that does not call are
// remembered, by calibrationClock: a day.
const calibrationMemory = uint32(24 * time.Hour >> 30)

// The constants of the estimates. With a memory of 0.993 a request weighs half after
// a hundred others. A new tenant counts as one that has made priorInputs (priorOutputs)
// requests just as it estimates, so that a few odd ones do not carry it off.
const (
	memory       = 0.993
	priorInputs  = 5
	priorOutputs = 3
	// priorOutput is the output expected of a call about which nothing is known, in
	// tokens; less if its max_tokens is less.
	priorOutput = 1000
	// priorInput is the input expected of a call about which nothing is known.
	priorInput = 1000
	// bytesPerToken is Anthropic's figure for English text; a tenant's own ratio is
	// learned on top of it.
	bytesPerToken = 3.5
)

// rawInput is the caller's word on input tokens, 0 if it gave none.
func rawInput(e *Estimate, countsCacheReads bool) float64 {
	switch {
	case e.HasInput && countsCacheReads:
		return float64(e.InputTokens)
	case e.HasInput:
		return float64(subFloor(e.InputTokens, e.CachedInputTokens))
	case e.HasBody:
		return float64(e.BodyBytes) / bytesPerToken
	}
	return 0
}

// costOf says what to reserve for e: what is likely, given what cal (may be nil)
// knows, not what is possible. counts says that what is read from the cache counts.
func costOf(e *Estimate, cal *calibration, q *quota, counts bool) Usage {
	u := Usage{Requests: max(e.Requests, 1)}
	if e.Exact {
		u.Requests, u.InputTokens, u.OutputTokens = e.Requests, e.InputTokens, e.MaxTokens
		if !counts {
			u.InputTokens = subFloor(e.InputTokens, e.CachedInputTokens)
		}
		return u
	}
	if cal == nil {
		cal = &calibration{}
	}
	raw := rawInput(e, counts)
	u.InputTokens = toAmount(cal.expectInput(raw, e.HasInput || e.HasBody))
	u.OutputTokens = toAmount(cal.expectOutput(e, q != nil && q.reservesMax))
	return u
}

// likelyCost is what e will probably be charged in the end, where cost is reserved.
func likelyCost(e *Estimate, cal *calibration, prior float64, q *quota, reserved Usage) cost {
	v := costVector(reserved)
	if !e.Exact {
		if cal == nil {
			cal = &calibration{}
		}
		v[OutputTokens] = cal.likelyOutput(e, prior)
	}
	return q.fold(v)
}

func (c *calibration) expectInput(raw float64, given bool) float64 {
	if !given {
		return (c.input + priorInputs*priorInput) / (c.inputs + priorInputs)
	}
	mean := raw
	if c.estimates > 0 {
		mean = c.estimate / c.estimates
	}
	if mean == 0 {
		return raw
	}
	return raw * (c.actual + priorInputs*mean) / (c.estimate + priorInputs*mean)
}

func (c *calibration) expectOutput(e *Estimate, reservesMax bool) float64 {
	bound := math.Inf(1)
	if e.HasMax {
		bound = float64(e.MaxTokens)
		if reservesMax {
			return bound
		}
	}
	return c.blend(bound, priorOutput)
}

// likelyOutput is what e will probably have as output, where others have prior.
func (c *calibration) likelyOutput(e *Estimate, prior float64) float64 {
	if e.HasMax {
		return c.blend(float64(e.MaxTokens), prior)
	}
	return c.blend(math.Inf(1), prior)
}

// blend is the output expected of a call that has no more than bound.
func (c *calibration) blend(bound, prior float64) float64 {
	return min(bound, (c.output+priorOutputs*min(bound, prior))/(c.outputs+priorOutputs))
}

// learnInput takes in a completed request's input; raw is 0 if it had no estimate.
func (c *calibration) learnInput(raw float64, actual uint64) {
	c.input = c.input*memory + float64(actual)
	c.inputs = c.inputs*memory + 1
	if raw > 0 {
		c.actual = c.actual*memory + float64(actual)
		c.estimate = c.estimate*memory + raw
		c.estimates = c.estimates*memory + 1
	}
}

func (c *calibration) learnOutput(actual uint64) {
	c.output = c.output*memory + float64(actual)
	c.outputs = c.outputs*memory + 1
}

// toAmount rounds up to whole units.
func toAmount(f float64) uint64 {
	if f >= float64(MaxAmount) {
		return MaxAmount
	}
	if f <= 0 || math.IsNaN(f) {
		return 0
	}
	return uint64(math.Ceil(f))
}

// known returns what is known of a tenant, or nil.
func (s *quotaState) known(tenant string) *calibration {
	if c := s.calibrations[tenant]; c != nil {
		return c
	}
	return s.calibrations[otherTenants]
}

// calibration returns what is known of a tenant, to be added to.
func (s *quotaState) calibration(now Instant, tenant string) *calibration {
	c := s.calibrations[tenant]
	if c == nil && len(s.calibrations) >= maxTenants && !s.forgetSome(now) {
		tenant = otherTenants // all have calls under way
		c = s.calibrations[tenant]
	}
	if c == nil {
		c = &calibration{}
		if s.calibrations == nil {
			s.calibrations = map[string]*calibration{}
		}
		s.calibrations[strings.Clone(tenant)] = c
	}
	c.used = calibrationClock(now)
	return c
}

// forgetTenants forgets those that did not call for a day.
func (s *quotaState) forgetTenants(now Instant) {
	clock := calibrationClock(now)
	maps.DeleteFunc(s.calibrations, func(_ string, c *calibration) bool {
		old := c.open == 0 && clock > c.used && clock-c.used > calibrationMemory
		if old {
			s.pool.move(c.mean(), mean{})
		}
		return old
	})
}

// forgetSome makes room for more tenants, if it can: where a day is too long, it
// forgets an eighth of all, those that did not call for the longest time, so that many
// new ones share the cost of the search.
func (s *quotaState) forgetSome(now Instant) bool {
	s.forgetTenants(now)
	if len(s.calibrations) < maxTenants {
		return true
	}
	type entry struct {
		name string
		used uint32
	}
	var old []entry
	for name, c := range s.calibrations {
		if c.open == 0 {
			old = append(old, entry{name, c.used})
		}
	}
	slices.SortFunc(old, func(a, b entry) int {
		return cmp.Or(cmp.Compare(a.used, b.used), strings.Compare(a.name, b.name))
	})
	for _, e := range old[:min(len(old), maxTenants/8)] {
		s.pool.move(s.calibrations[e.name].mean(), mean{})
		delete(s.calibrations, e.name)
	}
	return len(old) > 0
}
