package limiter

import (
	"math"
	"time"
)

// Instant is a point in time, in nanoseconds since the Unix epoch. It comes from
// the caller's clock, which should not go back: an Instant earlier than one seen
// before is taken as that one, unless it is earlier by more than a limit's window.
// Then the limit's counts are taken as charged now, so that nobody waits longer
// than a window for a clock that was wrong.
type Instant int64

// Never is the instant that does not come.
const Never Instant = math.MaxInt64

// InstantOf converts t, dropping its location and monotonic reading.
func InstantOf(t time.Time) Instant { return Instant(t.UnixNano()) }

// Time converts to a UTC time.
func (i Instant) Time() time.Time { return time.Unix(0, int64(i)).UTC() }

// Add returns i+d, saturating at the ends of the range.
func (i Instant) Add(d time.Duration) Instant {
	s := int64(i) + int64(d)
	switch {
	case d > 0 && s < int64(i):
		return Never
	case d < 0 && s > int64(i):
		return math.MinInt64
	}
	return Instant(s)
}

// Sub returns i-o, saturating at the ends of the range.
func (i Instant) Sub(o Instant) time.Duration {
	d := int64(i) - int64(o)
	switch {
	case i > o && d < 0:
		return math.MaxInt64
	case i < o && d > 0:
		return math.MinInt64
	}
	return time.Duration(d)
}

// MaxAmount is the largest amount of one charge, of one limit, and of one
// counter: 2^53, the largest integer up to which every integer is exact in JSON
// and in a double. Sums saturate there.
const MaxAmount uint64 = 1 << 53

// Meter is what a limit counts.
type Meter uint8

// The meters. Tokens counts input and output tokens together.
const (
	Requests Meter = iota
	InputTokens
	OutputTokens
	Tokens
	numMeters
)

var meterNames = [numMeters]string{"requests", "input_tokens", "output_tokens", "tokens"}

// String returns the meter's name as used in configuration, metrics and errors.
func (m Meter) String() string {
	if m < numMeters {
		return meterNames[m]
	}
	return "unknown"
}

// ParseMeter returns the meter of that name.
func ParseMeter(name string) (Meter, bool) {
	for i, n := range meterNames {
		if n == name {
			return Meter(i), true
		}
	}
	return 0, false
}

// Usage is an amount of each upstream meter, in requests and in tokens.
type Usage struct {
	Requests     uint64
	InputTokens  uint64
	OutputTokens uint64
}

// Of returns the amount that u means for a limit on meter m.
func (u Usage) Of(m Meter) uint64 {
	switch m {
	case Requests:
		return u.Requests
	case InputTokens:
		return u.InputTokens
	case OutputTokens:
		return u.OutputTokens
	case Tokens:
		return addSat(u.InputTokens, u.OutputTokens)
	}
	return 0
}

// addSat returns a+b, at most MaxAmount.
func addSat(a, b uint64) uint64 {
	if a > MaxAmount || b > MaxAmount-a {
		return MaxAmount
	}
	return a + b
}

// subFloor returns a-b, at least 0.
func subFloor(a, b uint64) uint64 {
	if b > a {
		return 0
	}
	return a - b
}
