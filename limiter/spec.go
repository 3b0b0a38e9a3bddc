package limiter

import "time"

// Spec is a whole configuration, before it is compiled. Compile checks it.
type Spec struct {
	// Quotas are matched by attributes; a request is charged to all that match.
	Quotas []QuotaSpec
	// Domains hold the rules, matched by descriptors. Names are unique.
	Domains []DomainSpec
}

// QuotaSpec is one upstream allotment shared by many callers.
type QuotaSpec struct {
	// Name is unique among quotas and not empty.
	Name string
	// Provider names the upstream's profile, for example "anthropic". It is
	// carried, not interpreted.
	Provider string
	// Match says which requests belong to the quota: each named attribute must
	// match its pattern. Attributes that are not named match anything. A pattern
	// is a text in which each `*` stands for any number of bytes; a request that
	// lacks the attribute matches only the pattern `*`.
	Match []AttributePattern
	// Except says which of those do not belong to it after all: a request of which any
	// named attribute is there and matches its pattern.
	Except []AttributePattern
	// Per lists the attributes by whose values quotas of this name are told apart;
	// nil means {"org"}. A request that lacks one has the empty value.
	Per []string
	// Limits hold for each such quota. No two share meter and window.
	Limits []LimitSpec
	// Learn says that the pace of requests, input and output tokens is learned from
	// what the upstream answers. Limits per minute are then what learning starts from
	// and, with CapLimits, stays below; meters without one are found out. Limits on
	// other windows stay hard.
	Learn bool
	// Mode says what the configured limits mean to a learned quota.
	Mode LimitMode
	// Tenants are those with terms of their own; the others have DefaultTenant's.
	Tenants       map[string]TenantSpec
	DefaultTenant TenantSpec
	// Hold is how long a caller that can wait may be held, see Ask.Hold.
	Hold time.Duration
	// JointTokens says that the upstream has one limit per minute for input and output
	// tokens together. A learned quota then has one pace for both, unless Limits has
	// one of output tokens per minute.
	JointTokens bool
	// ReservesMaxTokens says that the upstream itself holds max_tokens from the
	// start of a call, so that less must not be reserved.
	ReservesMaxTokens bool
	// CountsCacheReads says that the upstream counts input tokens read from its
	// prompt cache.
	CountsCacheReads bool
	// CacheReadModels are patterns of models, as in Match, of which it counts them
	// even if CountsCacheReads is false.
	CacheReadModels []string
}

// AttributePattern is one condition of a quota.
type AttributePattern struct {
	Key     string
	Pattern string
}

// LimitSpec is an amount of one meter per window.
type LimitSpec struct {
	// Name is shown beside the limit, and may be empty.
	Name string
	// Meter is what is counted.
	Meter Meter
	// Amount is the number of units admitted in any interval of the window's
	// length, at most MaxAmount. 0 admits nothing.
	Amount uint64
	// Window is from 1 ms to 366 days.
	Window time.Duration
	// Fixed says that windows do not slide: each begins at a multiple of Window after
	// the Unix epoch, and with nothing used, so that up to twice Amount can be admitted
	// around its beginning. Nothing is owed beyond its end. What it counts is told apart
	// by the keys and values of a whole descriptor, whichever rule of its domain that
	// leads to: rules with the same window, and overrides, then share a counter.
	Fixed bool `json:",omitempty"`
}

// DomainSpec is a set of rules that belong together; a request names its domain.
type DomainSpec struct {
	// Name is not empty.
	Name string
	// Rules are the first level of the tree.
	Rules []RuleSpec
	// Fixed says that overrides have fixed windows, see LimitSpec.Fixed.
	Fixed bool `json:",omitempty"`
}

// RuleSpec is a node of a domain's tree of rules. A descriptor descends by one
// entry a level: to the node with the entry's key and exactly its value; else to
// the first one in the order given whose Key is the entry's and whose Value is a
// pattern that matches, or that has a KeyPattern which does; else to the node with the
// key and no value. It never goes back. The limits of the node that its last entry
// reaches are those it is charged to.
type RuleSpec struct {
	// Name is shown for the rule; where it is empty the path of keys and values is.
	Name string
	// Key is the entry's key, not empty.
	Key string
	// Value is the entry's value. Empty matches any value. One with a `*` is a
	// pattern in which each `*` stands for any number of bytes.
	Value string
	// KeyPattern says that Key (where there is a Value: Key, an underscore and Value) is
	// a pattern of the entry's key, an underscore and its value.
	KeyPattern bool `json:",omitempty"`
	// ShareValues counts all values that a pattern matches together, instead of
	// each by itself.
	ShareValues bool
	// Limits are charged to callers that end at this node. No two share meter and
	// window.
	Limits []LimitSpec
	// Shadow limits are counted, but never refuse.
	Shadow bool
	// Soft limits refuse only if all soft limits of an Ask would.
	Soft bool `json:",omitempty"`
	// Unlimited says that whoever ends here is admitted and not counted.
	Unlimited bool
	// Replaces names limits: whoever ends here is not charged to them, see
	// Ask.DropReplaced.
	Replaces []string `json:",omitempty"`
	// Note is carried to the Limits, not interpreted.
	Note any `json:"-"`
	// Rules are the next level.
	Rules []RuleSpec
}

// LimitMode says what configured limits mean to a learned quota.
type LimitMode uint8

// The modes.
const (
	// CapLimits are not exceeded, whatever the upstream would accept.
	CapLimits LimitMode = iota
	// HintLimits are where learning starts.
	HintLimits
)

// Priority is a band of the queue. Higher bands go first, but cannot starve lower ones.
type Priority uint8

// The priorities, highest first.
const (
	// PriorityUnset leaves it to the tenant's terms, and else is Interactive.
	PriorityUnset Priority = iota
	Interactive
	Standard
	Batch
	numPriorities
)

// TenantSpec are the terms of a tenant of a quota.
type TenantSpec struct {
	// Weight is the tenant's part of what is scarce, relative to other tenants' that
	// want it too. 0 means 1.
	Weight float64
	// Priority is that of asks which set none.
	Priority Priority
	// Floor is the share of the quota, from 0 to 1, up to which the tenant goes before
	// others. 0 is none.
	Floor float64
	// Ceiling is the share of the quota, from 0 to 1, that the tenant may not exceed
	// over a minute. 0 is none.
	Ceiling float64
}
