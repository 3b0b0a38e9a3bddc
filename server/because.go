package server

import (
	"strconv"
	"time"

	"github.com/weir-project/weir/limiter"
)

// appendCause appends what refused, if that was something else than a limit's own window,
// of which k is the limit that it is shown with.
func appendCause(b []byte, now limiter.Instant, k *limiter.Check, r *limiter.Refusal) []byte {
	owner := k.Limit.Owner
	switch r.Cause {
	case limiter.CausePace:
		b = append(append(append(append(b, "the learned pace of "...), owner...), '/'), k.Limit.Meter.String()...)
		b = strconv.AppendFloat(append(b, " ("...), r.Rate, 'f', decimals(r.Rate), 64)
		b = strconv.AppendFloat(append(b, " a minute, burst "...), r.Burst, 'f', 1, 64)
		b = appendSeconds(append(b, " s) has room in "...), until(now, r.Until))
	case limiter.CauseGate:
		b = append(append(append(append(b, "the upstream refused "...), owner...), '/'), k.Limit.Meter.String()...)
		b = appendSeconds(append(b, " and is asked again in "...), until(now, r.Until))
	case limiter.CauseSpend:
		b = append(b, "the money of "...)
		if r.Org != "" {
			b = append(append(append(append(b, r.Org...), ", which pays for "...), owner...), ',')
		} else {
			b = append(b, owner...)
		}
		b = append(b, " is spent: the spend gate is shut until "...)
		b = r.Until.Time().UTC().AppendFormat(b, time.RFC3339)
	case limiter.CauseCeiling:
		b = append(append(append(b, "the tenant has had its share of "...), owner...), ", and gets more in "...)
		b = appendSeconds(b, until(now, r.Until))
	case limiter.CauseLane:
		b = append(append(append(b, "the upstream refused this tenant's calls of "...), owner...), ", which are let in again in "...)
		b = appendSeconds(b, until(now, r.Until))
	case limiter.CauseRight:
		b = append(append(append(b, "the upstream of "...), owner...), " refused this credential the long context of the model; it is tried again in "...)
		b = appendSeconds(b, until(now, r.Until))
	case limiter.CauseLine:
		b = append(append(append(b, "others wait for "...), owner...), " whose turn is earlier"...)
	case limiter.CauseInFlight:
		b = append(append(append(b, "the upstream of "...), owner...), " takes "...)
		b = append(strconv.AppendFloat(b, r.Rate, 'f', 0, 64), " calls at a time, and as many are open"...)
	case limiter.CauseOverload:
		b = append(append(append(b, "the upstream of "...), owner...), " is overloaded: "...)
		b = append(strconv.AppendFloat(b, r.Rate, 'f', 0, 64), " calls a minute are tried"...)
	case limiter.CauseNone, limiter.CauseLimit:
	}
	return b
}

// decimals is how many are worth showing of a rate.
func decimals(rate float64) int {
	if rate < 10 {
		return 1
	}
	return 0
}

// appendSeconds appends d in tenths of seconds, rounded up: sooner would be too soon.
func appendSeconds(b []byte, d time.Duration) []byte {
	return append(strconv.AppendFloat(b, float64(ceilDiv(d, 100*time.Millisecond))/10, 'f', 1, 64), " s"...)
}
