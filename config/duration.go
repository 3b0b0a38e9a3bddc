package config

import (
	"errors"
	"math/bits"
	"time"
)

var (
	errDurationForm  = errors.New("not a duration")
	errDurationRange = errors.New("out of range")
)

// durationUnits are the units of a length of time, the longer of two that begin
// alike first. The .proto has a pattern of the same form, for editors.
var durationUnits = []struct {
	name string
	unit uint64
}{
	{"ms", uint64(time.Millisecond)},
	{"s", uint64(time.Second)},
	{"m", uint64(time.Minute)},
	{"h", uint64(time.Hour)},
	{"d", uint64(24 * time.Hour)},
}

// parseDuration reads a length of time: numbers, each with one of the units ms, s,
// m, h and d (of 24 hours), which are added up. A number has at most nine digits on
// either side of its point; what is finer than a nanosecond is cut off. The whole
// must be from low to high.
func parseDuration(s string, low, high time.Duration) (time.Duration, error) {
	if s == "" || len(s) > 128 {
		return 0, errDurationForm
	}
	var sum uint64
	large := false
	for s != "" {
		whole, rest := digitsOf(s)
		if len(whole) == 0 || len(whole) > 9 {
			return 0, errDurationForm
		}
		fraction := ""
		if rest != "" && rest[0] == '.' {
			if fraction, rest = digitsOf(rest[1:]); len(fraction) == 0 || len(fraction) > 9 {
				return 0, errDurationForm
			}
		}
		unit := uint64(0)
		if unit, s = unitOf(rest); unit == 0 {
			return 0, errDurationForm
		}
		nanos, ok := nanosOf(whole, fraction, unit, uint64(high))
		sum += nanos
		large = large || !ok || sum > uint64(high)
	}
	if large || sum < uint64(low) {
		return 0, errDurationRange
	}
	return time.Duration(sum), nil //nolint:gosec // at most high
}

// digitsOf splits the digits off that s begins with.
func digitsOf(s string) (digits, rest string) {
	i := 0
	for i < len(s) && s[i] >= '0' && s[i] <= '9' {
		i++
	}
	return s[:i], s[i:]
}

// unitOf splits the unit off that s begins with; it is 0 if there is none.
func unitOf(s string) (unit uint64, rest string) {
	for _, u := range durationUnits {
		if len(s) >= len(u.name) && s[:len(u.name)] == u.name {
			return u.unit, s[len(u.name):]
		}
	}
	return 0, s
}

// nanosOf returns whole.fraction units in nanoseconds; ok is false if that is more
// than high. Both numbers have at most nine digits.
func nanosOf(whole, fraction string, unit, high uint64) (nanos uint64, ok bool) {
	n := number(whole)
	if n > high/unit {
		return 0, false
	}
	scale := uint64(1)
	for range len(fraction) {
		scale *= 10
	}
	hi, lo := bits.Mul64(number(fraction), unit)
	part, _ := bits.Div64(hi, lo, scale) // the fraction is below scale, so this fits
	return n*unit + part, true
}

// number returns the value of at most nine digits.
func number(digits string) (n uint64) {
	for _, c := range []byte(digits) {
		n = n*10 + uint64(c-'0')
	}
	return n
}
