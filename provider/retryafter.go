package provider

import (
	"math"
	"time"

	"github.com/weir-project/weir/limiter"
)

const (
	// MaxRetryAfter bounds how long an upstream's retry-after is believed: a wrong one
	// must not hold a quota shut for longer.
	MaxRetryAfter = time.Hour
	// MaxUntil bounds how far off the date may be on which a budget comes back: the next
	// month.
	MaxUntil = 32 * 24 * time.Hour
	// absurdRetryAfter is more than any upstream means.
	absurdRetryAfter = 366 * 24 * time.Hour
)

// datesTable has the forms of a date in HTTP, the usual one first.
var datesTable = [...]string{
	"Mon, 02 Jan 2006 15:04:05 GMT", "Monday, 02-Jan-06 15:04:05 GMT", time.ANSIC,
}

// RetryAfter reads the headers retry-after (seconds, fractions allowed, or a date) and
// retry-after-ms, which is finer and goes first; an empty text is a header that did
// not come. The duration is in (0, MaxRetryAfter]. It is false where the upstream said
// nothing that can be meant: nothing at all, zero, the past, more than a year, or a
// text of another form.
func RetryAfter(seconds, millis string, now limiter.Instant) (time.Duration, bool) {
	d, _ := readWait(millis, time.Millisecond, now)
	if d == 0 {
		d, _ = readWait(seconds, time.Second, now)
	}
	return d, d > 0
}

// readWait reads a number of units, or a date; 0 if nothing is said, or nothing that
// can be meant. odd says that it is not what was said.
func readWait(text string, unit time.Duration, now limiter.Instant) (d time.Duration, odd bool) {
	text = trimmed(text)
	if text == "" {
		return 0, false
	}
	if len(text) > 64 {
		return 0, true
	}
	if f, ok := decimal(text); ok {
		return believable(f * float64(unit))
	}
	if t, ok := dateOf(text); ok && unit == time.Second {
		// The past is what remains of a wait on a slow way.
		return believable(max(0, float64(t.Sub(now.Time()))))
	}
	return 0, true
}

// dateOf reads a date as headers have it: as HTTP writes it, or RFC 3339.
func dateOf(text string) (time.Time, bool) {
	if len(text) < len("2006-01-02T15:04:05Z") || len(text) > 40 {
		return time.Time{}, false
	}
	if isDigit(text[0]) {
		t, err := time.Parse(time.RFC3339, text)
		return t, err == nil
	}
	for _, layout := range datesTable {
		if t, err := time.Parse(layout, text); err == nil {
			return t, true
		}
	}
	return time.Time{}, false
}

// believable cuts a number of nanoseconds to what is believed of it. odd says that it
// is not what was said.
func believable(ns float64) (d time.Duration, odd bool) {
	switch {
	case ns == 0:
		return 0, false
	case !(ns > 0) || ns > float64(absurdRetryAfter):
		return 0, true
	case ns > float64(MaxRetryAfter):
		return MaxRetryAfter, true
	}
	return time.Duration(max(1, math.Round(ns))), false
}
