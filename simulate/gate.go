package simulate

import (
	"time"

	"github.com/weir-project/weir/limiter"
)

// newGate makes the limiter of a scenario.
func newGate(s *simulation) gate {
	switch s.sc.Limiter {
	case None, SDK:
		s.near = Range{}
		return &open{s: s, repeats: s.sc.Limiter == SDK}
	case FixedWindow:
		return newFixed(s)
	case SlidingWindow:
		return newSliding(s)
	case AWS:
		s.near = Range{}
		return newAdaptive(s)
	case Oracle, Perfect:
		return newOracle(s)
	default:
		return newWeir(s)
	}
}

// told returns the limits per minute that a limiter is configured with. Where it is
// told none, it has those of somebody new: 60 requests, 40,000 and 8,000 tokens.
func (s *simulation) told() [3]float64 {
	v := s.sc.Upstream.Limits.vector()
	if s.sc.Told.Unknown {
		return [3]float64{60, 40_000, 8_000}
	}
	for m := range v {
		v[m] *= s.sc.Told.Factor
	}
	return v
}

// open lets everybody through.
type open struct {
	s       *simulation
	repeats bool
}

// sdkRepeats is how often Anthropic's SDKs repeat a call.
const sdkRepeats = 2

func (o *open) ask(c *call)                   { o.s.grant(c, 0) }
func (o *open) arrived(*call)                 {}
func (o *open) begun(*call)                   {}
func (o *open) report(*call, *reply)          {}
func (o *open) restart()                      {}
func (o *open) learned(limiter.Meter) float64 { return 0 }

func (o *open) retry(c *call, r *reply) (time.Duration, bool) {
	if !o.repeats || c.attempts > sdkRepeats {
		return 0, false
	}
	return backoff(o.s.luck, c.attempts-1, r.retryAfter), true
}
