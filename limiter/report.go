package limiter

import "time"

// Class is what an upstream's answer means.
type Class uint8

// The classes.
const (
	ClassUnset Class = iota
	// ClassOK: it worked.
	ClassOK
	// ClassQuota: refused, a rate limit is reached.
	ClassQuota
	// ClassAcceleration: refused, the rate grew too fast.
	ClassAcceleration
	// ClassConcurrency: refused, too many calls are in flight.
	ClassConcurrency
	// ClassEntitlement: refused, the credential may not do this.
	ClassEntitlement
	// ClassSpend: refused, the money is spent.
	ClassSpend
	// ClassOverload: the upstream itself is overloaded.
	ClassOverload
	// ClassServer: the upstream failed.
	ClassServer
	// ClassCaller: the request was wrong.
	ClassCaller
	// ClassCredential: the credential was not accepted.
	ClassCredential
	// ClassUnused: it was never sent.
	ClassUnused
	// ClassUnknown: nobody knows.
	ClassUnknown
)

// HeaderState is what an upstream's headers say of one limit.
type HeaderState struct {
	// Limit per minute, and what remains of it, in units of the meter.
	Limit, Remaining       uint64
	HasLimit, HasRemaining bool
}

// Outcome says, for each meter, what a call really used.
type Outcome struct {
	// Usage is what is known to have been used, where the flags say so.
	Usage Usage
	// CacheReads are the input tokens, beside Usage.InputTokens, that were read from the
	// upstream's prompt cache. They are charged where the quota counts them; what only
	// rules matched is charged them if CountCacheReads.
	CacheReads      uint64
	CountCacheReads bool
	// HasInput and HasOutput say that Usage.InputTokens and Usage.OutputTokens are
	// known. What is not known stays charged as reserved, or is given back if the
	// Refund flags say so.
	HasInput, HasOutput bool
	// OutputFloor says that the known output is a lower bound: the larger of it and
	// what was reserved is charged.
	OutputFloor bool
	// RefundRequests, RefundInput and RefundOutput give back what is not known to
	// have been used: the upstream did not count it.
	RefundRequests, RefundInput, RefundOutput bool
	// Progress says that the call goes on: what exceeds the reservation is charged,
	// nothing is given back, and the reservation stays open. Headers count already.
	Progress bool
	// Attempt is which attempt of the call this is about, the first being 1, or, at its end,
	// how many there were; 0 if nobody said. A report of Progress with an attempt and a
	// Class that Refuses is about one which may have been tried again: it is learned from,
	// once, if a later report shows that it was, or that the call goes on.
	Attempt uint32
	// Class is what the upstream's answer means. ClassUnset is ClassOK if usage is known
	// and ClassUnknown otherwise.
	Class Class
	// Named is the meter that a refusal named, if HasNamed.
	Named    Meter
	HasNamed bool
	// Narrow says that what ClassSpend says is spent is not all that the organisation has at
	// the provider, but what it has for the quota: an allowance of a day, of one model.
	Narrow bool
	// RetryAfter is what a refusal asked for; 0 if it did not.
	RetryAfter time.Duration
	// Ramp is the limit per minute, of Named, that ClassAcceleration says is in force while
	// use grows too fast, and RampNext what it becomes at the next full minute; 0 if that was
	// not said.
	Ramp, RampNext uint64
	// Headers say how the upstream's limits stand, by Requests, InputTokens and
	// OutputTokens.
	Headers [3]HeaderState
	// Sent is when the call was sent upstream; 0 means when it was admitted.
	Sent Instant
	// Trusted says that the reporter is a gateway: its word alone moves the pace that
	// all share. That of others does as far as several of them agree.
	Trusted bool
	// Learn says that the usage may teach estimates: the call completed.
	Learn bool
}

// countReads adds what was read from the cache to the input that is known, if it counts.
func (o *Outcome) countReads(r *reservation) {
	if o.HasInput && (r.counts || r.quota == nil && o.CountCacheReads) {
		o.Usage.InputTokens = addSat(o.Usage.InputTokens, o.CacheReads)
	}
}

// recount makes of what r's own quota is charged what h's is, where only one of them
// counts what was read from the cache.
func (o *Outcome) recount(r *reservation, h *hold, charged uint64) uint64 {
	switch {
	case !o.HasInput || o.Progress || h.counts == r.counts:
		return charged
	case h.counts:
		return addSat(charged, o.CacheReads)
	}
	return subFloor(charged, o.CacheReads)
}

// Ending says how a reservation stands.
type Ending uint8

// The endings.
const (
	// Unknown: no such reservation, or one so old that it was forgotten.
	Unknown Ending = iota
	// Open: neither settled, released nor expired.
	Open
	// Settled by a report.
	Settled
	// Released unused.
	Released
	// Expired without a report; the estimate stays charged.
	Expired
)

// String returns the ending in lower case, as used in metrics and logs.
func (e Ending) String() string {
	return [...]string{"unknown", "open", "settled", "released", "expired"}[e]
}

// Settlement is the answer to a Report, Release or Renew.
type Settlement struct {
	// Ending is how the reservation stands after the call.
	Ending Ending
	// Applied says that this call changed it.
	Applied bool
	// Charged is what the call is charged in all.
	Charged Usage
	// ExpiresAt is when it expires, while it is open.
	ExpiresAt Instant
	// Refused is how the upstream refused the call, and Quota the name of the quota that
	// it was for, if this report said that it did.
	Refused Class
	Quota   string
	// Attempt is how an earlier attempt of the call was refused, if it is this report that
	// makes it learned from. Quota is then set too.
	Attempt Class
	// Event is what the refusal was taken for, and EventMeter whose pace it changed.
	Event      EventKind
	EventMeter Meter
	// Adopted says that the upstream's headers stated a limit that was not in force.
	Adopted bool
}

// Refuses says whether the upstream turned a call away that was right as it was: for a
// limit, for money, for a right that the credential lacks, or because it is overloaded.
func (c Class) Refuses() bool { return c >= ClassQuota && c <= ClassOverload }

// Ref names a reservation: by its ID, or, where that is zero, by its request id.
type Ref struct {
	ID        ID
	RequestID string
}
