package provider

import (
	"time"

	"github.com/weir-project/weir/limiter"
)

// Answer is what is known of an upstream's answer. The zero value says that nothing is.
// Its texts are read during a call only.
type Answer struct {
	// Status is the HTTP status; 0 if none came.
	Status int
	// ErrorType is the error's type or code, and Message its text, if the answer was an
	// error. A Message may be the whole body: what is looked for is found in it.
	ErrorType, Message string
	// Model is the model that was asked, where it matters to what is counted.
	Model string
	// RetryAfter is the text of retry-after, where it came otherwise than as a header.
	RetryAfter string
	// RetryIn is a wait that was read already; 0 or less: none. It goes before
	// RetryAfter.
	RetryIn time.Duration
	// Headers are those of the answer, each name a Key, in any order and any case. At
	// most MaxHeaders are read.
	Headers []limiter.Entry
	// MidStream says that the error came inside an answer that had begun with a
	// status of success.
	MidStream bool
	// Unsent says that the call never reached the upstream. Nothing else is read then.
	Unsent bool
}

// Usage is what an upstream said was used, in tokens and in its own terms.
type Usage struct {
	// Input are the tokens that were neither written to nor read from a cache.
	Input uint64
	// CacheCreation and CacheRead are those written to and read from it.
	CacheCreation, CacheRead uint64
	// Output are the tokens produced.
	Output uint64
	// The flags say which of these are known.
	HasInput, HasCacheCreation, HasCacheRead, HasOutput bool
}

// Any says whether anything is known.
func (u *Usage) Any() bool {
	return u.HasInput || u.HasCacheCreation || u.HasCacheRead || u.HasOutput
}

// Counted returns the input tokens that count against a quota, at most
// limiter.MaxAmount; what was read from the cache only if cacheReads. It is false if
// they are not known.
func (u *Usage) Counted(cacheReads bool) (uint64, bool) {
	if !u.HasInput && !u.HasCacheCreation {
		return 0, false
	}
	n := min(u.Input, limiter.MaxAmount) + min(u.CacheCreation, limiter.MaxAmount)
	if cacheReads {
		n += min(u.CacheRead, limiter.MaxAmount)
	}
	return min(n, limiter.MaxAmount), true
}

// Reading is what an Answer means. Readings can be compared with ==.
type Reading struct {
	// Class is what it means; limiter.ClassUnset if nothing was said of how the call
	// went.
	Class limiter.Class
	// Named is the meter whose limit refused, if HasNamed.
	Named    limiter.Meter
	HasNamed bool
	// Begun says that the upstream was, or may have been, at work on the call when it
	// failed: what the call used until then counts.
	Begun bool
	// Narrow says that spent money is not all the organisation's; see Rule.
	Narrow bool
	// Refund is what the upstream did not count.
	Refund Refund
	// RetryAfter is how long a failed call is asked to wait: until Until, if that was
	// said, else in (0, MaxRetryAfter]; 0 if nothing was said.
	RetryAfter time.Duration
	// Until is when a refused credit or budget comes back, at most MaxUntil from
	// now; 0 if it was not said.
	Until limiter.Instant
	// Retry is the upstream's own word on whether to try again.
	Retry Retry
	// Limit is what a refusal says the limit is, in units of Named per minute, and
	// Requested what it says was asked for; 0 if it does not say.
	Limit, Requested uint64
	// Ramp is the lower limit per minute that is in force while use grows too fast, and
	// RampNext what it becomes at the next minute; 0 if that was not said.
	Ramp, RampNext uint64
	// Headers are how the limits per minute stand, by meter.
	Headers [4]limiter.HeaderState
	// Reset is how long until all that is used up is whole again, at most
	// MaxRetryAfter. It is not when to try again, which is often much earlier.
	Reset time.Duration
	// Aside counts headers about limits that are none of a minute's: of a day or month,
	// of a priority tier, of a subscription.
	Aside int
	// Weight is how often an output token counts; at least 1.
	Weight uint64
	// Odd is what was clamped or ignored because nobody can mean it.
	Odd Oddities
}

// Refund says which meters the upstream did not count a failed call on, so that what
// was reserved for it can be given back. What is known to have been used is not
// subject to it.
type Refund struct{ Requests, Input, Output bool }

// Retry is an upstream's word on whether a failed call should be tried again.
type Retry uint8

// What an upstream may say.
const (
	RetryUnsaid Retry = iota
	RetryYes
	RetryNo
)

// Oddities are the things in an answer that nobody can mean.
type Oddities uint8

// The oddities.
const (
	// OddRetryAfter: a wait that is negative, no number, or longer than is believed.
	OddRetryAfter Oddities = 1 << iota
	// OddHeader: a rate-limit header that is negative, no number, or larger than any
	// limit.
	OddHeader
	// OddText: an error text longer than is read.
	OddText
	// OddDate: a date that has passed, or is further off than is believed.
	OddDate
	// OddStatus: no status that HTTP has.
	OddStatus
	// OddCount: more headers than are read.
	OddCount
	numOddities = 6
)

var oddityNames = [numOddities]string{"retry_after", "header", "text", "date", "status", "count"}

// Names calls yield with the name of each oddity, as used in metrics and logs, until it
// says to stop.
func (o Oddities) Names(yield func(string) bool) {
	for i, name := range oddityNames {
		if o&(1<<i) != 0 && !yield(name) {
			return
		}
	}
}

// AllOddities has every oddity: its Names are all the names.
const AllOddities Oddities = 1<<numOddities - 1

var classNames = [numClasses]string{
	"unset", "ok", "quota", "acceleration", "concurrency", "entitlement", "spend",
	"overload", "server", "caller", "credential", "unused", "unknown",
}

const numClasses = limiter.ClassUnknown + 1

// ClassName returns a class in lower case, as used in configurations, metrics and logs.
// What is no class is unknown.
func ClassName(c limiter.Class) string {
	if c < numClasses {
		return classNames[c]
	}
	return classNames[limiter.ClassUnknown]
}

// ParseClass returns the class of that name. It is false for unset and for what is no
// name of a class.
func ParseClass(name string) (limiter.Class, bool) {
	for i, n := range classNames {
		if n == name && limiter.Class(i) != limiter.ClassUnset {
			return limiter.Class(i), true
		}
	}
	return limiter.ClassUnset, false
}
