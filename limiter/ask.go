package limiter

import "time"

// Entry is a key and a value: of a descriptor, where the order of entries counts,
// or of a set of attributes, where it does not.
type Entry struct {
	Key   string
	Value string
}

// Estimate is what a caller expects to use. A nil-like field is one whose Has
// flag is false: what is missing is learned.
type Estimate struct {
	// Requests is the number of upstream requests; 0 means 1.
	Requests uint64
	// InputTokens is meaningful if HasInput.
	InputTokens uint64
	// CachedInputTokens of InputTokens are expected to be read from the prompt cache.
	CachedInputTokens uint64
	// BodyBytes stands in for InputTokens if HasBody and not HasInput.
	BodyBytes uint64
	// MaxTokens bounds the output, if HasMax.
	MaxTokens uint64

	HasInput, HasBody, HasMax bool
	// Exact says that the numbers are what was used, not what is expected: they are
	// charged as they are (MaxTokens being the output, and CachedInputTokens charged
	// where the quota counts them).
	Exact bool
}

// ID names a reservation. Its holder can settle it, so it must not be guessable:
// 128 random bits, given by the caller of Decide.
type ID [16]byte

// Ask is a wish: what is to be charged, for whom. Fill the exported fields, let
// [Plan.MatchDescriptor] or [Plan.MatchAttributes] add what it concerns, and pass it
// to [Limiter.Decide]. An Ask can be used again after Reset, and then allocates
// nothing. It keeps no reference to the strings given once Decide has returned. It
// is not safe for concurrent use.
type Ask struct {
	// Tenant is who asks, for estimates and for the ownership of the reservation.
	Tenant string
	// RequestID, if not empty, is another name of the reservation: reports may use
	// it. Request ids are unique within a Limiter only as far as callers make them.
	RequestID string
	// IdempotencyKey, if not empty, makes a second Ask of the same tenant and key
	// answer with the reservation of the first.
	IdempotencyKey string
	// Open asks for a reservation if the answer is Allowed. ID must then be random.
	Open bool
	// ID is the reservation's name.
	ID ID
	// TTL is the reservation's time to live: 0 means DefaultTTL, more than MaxTTL
	// means MaxTTL.
	TTL time.Duration
	// HoldUntil is the instant until which the caller may be held. Zero, or one
	// that has passed, asks for an answer at once.
	HoldUntil Instant
	// Priority is the band of the queue.
	Priority Priority
	// Retry says that this repeats a call which the upstream refused: it goes to the
	// front and is not counted against its tenant's turn again.
	Retry bool
	// Trusted says that whoever asks is a gateway, whose word on Retry is taken.
	Trusted bool
	// Turn is that of an earlier denial, which keeps the caller's place; zero for none.
	Turn Turn
	// Deadline, unless zero, is the instant after which an answer is of no use.
	Deadline Instant
	// Force charges without checking: units that were spent already. They can leave
	// debt. The answer is always Allowed. If RequestID is known already, nothing is
	// charged and the Decision says Replayed.
	Force bool
	// OneByOne decides each charge by itself, in the order in which they were matched: it
	// is made if it fits, if its limit only looks on, or if its limit's window is fixed.
	// A Check is how the limit stands after its charge and before the next. The answer is
	// Denied if all had to fit and one did not. It is for asks that concern rules alone,
	// and open nothing.
	OneByOne bool
	// Soft takes all limits for soft ones. Spare says that there is something soft beside
	// the limits that has room.
	Soft, Spare bool
	// DryRun asks what an Ask that cannot be held would be told, without charging,
	// reserving or taking a turn.
	DryRun bool

	charges  []charge
	spends   bool // a charge is of what was spent of a budget already
	quotas   []quotaRef
	keys     []byte
	replaces []string // the names of limits that are not to be charged

	scratch []byte

	counted bool   // its Retry was counted against the tenant
	rights  span   // in keys: what a refused right is about; empty if nobody said
	right   uint64 // its hash, and that of the tenant, where there is one
	tenant  uint64

	tagged bool // start is its place in the order of its quota
	start  float64

	// Set by Route.
	shards          ShardSet
	home, idemShard uint8
	idem, request   digest
}

// The time to live of reservations.
const (
	// DefaultTTL is long enough for most answers and short enough that a caller
	// that died gives its place back soon.
	DefaultTTL = 120 * time.Second
	// MaxTTL bounds what a caller may ask for, also by renewing.
	MaxTTL = 15 * time.Minute
)

// Verdict is the answer to an Ask.
type Verdict uint8

// The verdicts.
const (
	// Allowed: all charges were made.
	Allowed Verdict = iota
	// Denied: at least one limit has no room. Nothing was charged but what says Check.Spent.
	Denied
	// Infeasible: the amount is larger than a limit ever admits. Nothing was charged but
	// what says Check.Spent.
	Infeasible
	// Overloaded: the bound on open reservations was reached. Nothing was charged but what
	// says Check.Spent.
	Overloaded
	// Held: the answer comes later, through Ready, under Decision.Ticket.
	Held
	// Reroute: a key is to share an overflow counter that lives in a shard outside
	// Route's answer. Nothing was changed: call Route and Decide again.
	Reroute
)

// String returns the verdict in lower case, as used in metrics and logs.
func (v Verdict) String() string {
	return [...]string{"allowed", "denied", "infeasible", "overloaded", "held", "reroute"}[v]
}

// Check is one limit as the Ask met it.
type Check struct {
	// Limit is the limit, shared and read-only.
	Limit *Limit
	// Descriptor is the ordinal that MatchDescriptor was called with; -1 for what
	// attributes led to.
	Descriptor int
	// Amount is the limit's size, in units per window: the Limit's, or an override.
	Amount uint64
	// Requested is what the Ask wants of this limit.
	Requested uint64
	// Used is what is charged in the window after the decision, debt included.
	Used uint64
	// Remaining is what would be admitted after the decision.
	Remaining uint64
	// RetryAt is the earliest instant at which Requested would be admitted by this
	// limit alone if nobody else asked: now if it is, Never if it is too large.
	RetryAt Instant
	// ResetAt is the instant at which the limit is entirely unused again if nobody
	// asks: now if it is.
	ResetAt Instant
	// Over says that the limit has no room for Requested (and, where the limit is a
	// shadow, would have refused).
	Over bool
	// Spent says that Requested was charged although the answer refuses it: it is what was
	// spent of a budget already, see Hits.Stated. What is beyond the limit is debt. RetryAt
	// is then as it was before that.
	Spent bool
	// Overflow says that the key shares its owner's overflow bucket, because the
	// bound on keys was reached.
	Overflow bool
}

// Decision is an answer. The caller owns it and may use it again for the next
// call; its slices are then overwritten.
type Decision struct {
	Verdict Verdict
	// RefusedBy is the index in Checks of the first limit that refused; -1 if none.
	RefusedBy int
	// RetryAt is the earliest instant at which the same Ask would be allowed if
	// nobody else asked. Never if Infeasible; now if Allowed.
	RetryAt Instant
	// Refusal says why, if not Allowed.
	Refusal Refusal
	// Checks are the limits, in the order in which they were matched.
	Checks []Check
	// Reserved is what the charges mean in terms of the upstream, if attributes were
	// matched.
	Reserved Usage
	// ID names the reservation, if one was opened (or found by idempotency key).
	ID ID
	// Opened says that ID is a reservation.
	Opened bool
	// ExpiresAt is when the reservation expires.
	ExpiresAt Instant
	// Replayed says that an idempotency key was known, and nothing was charged anew.
	Replayed bool
	// Ticket names a held Ask.
	Ticket Ticket
	// Delay is how long to wait before sending, if Allowed: at most maxDelay.
	Delay time.Duration
	// Turn, if Denied and not zero, keeps the caller's place until shortly after RetryAt.
	Turn Turn
}

// Turn is a place in the order of callers that come back by themselves. It is unique
// within a quota's shard, and guessable: what hands it out must make it unforgeable.
type Turn uint64

// Ticket names an Ask that is held. It is unique within a Limiter.
type Ticket uint64
