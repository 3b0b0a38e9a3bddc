package limiter

import (
	"sync/atomic"
	"time"
)

// Plan is a compiled Spec. It does not change, but for noting which limits are budgets (see
// Hits.Stated), and is safe for concurrent use.
type Plan struct {
	limits  []*Limit
	domains map[string]*domain
	// Quotas by the exact value that they want of `org`, and those that want none.
	byOrg  map[string][]*quota
	quotas []*quota

	ids    map[string]uint32 // identity of every limit and quota to its number
	nextID uint32
}

// Limit is a compiled limit. Its exported fields do not change, and it is safe for
// concurrent use.
type Limit struct {
	// Owner is the name of the quota or rule.
	Owner string
	// Name is the limit's own name, and may be empty.
	Name string
	// Meter is what is counted.
	Meter Meter
	// Amount is the number of units admitted per window.
	Amount uint64
	// Window is the window.
	Window time.Duration
	// Shadow says that the limit is counted but never refuses.
	Shadow bool
	// Soft says that the limit refuses only if all soft limits of an Ask do.
	Soft bool
	// Fixed says that its windows are fixed, see LimitSpec.
	Fixed bool
	// Index is the limit's place in Plan.Limits.
	Index int
	// Note is that of the rule; nil for quotas and overrides.
	Note any

	paced   bool // the limit of a learned quota on one of its meters, per minute
	unknown bool // nobody configured it
	capped  bool // it is not exceeded, whatever the upstream would accept

	id    uint32 // of the counters; the same as long as owner, meter and window are
	alone uint32 // of the counter that is shared beyond the bound on keys: id, or one of the rule's own
	width int64

	// budgets says that a key of it was asked with a stated 0, and charged what was spent.
	// It is set while the plan is in use, and by nobody but [Limit.open].
	budgets atomic.Bool
}

type domain struct {
	name string
	root level
	// whole says that counters are told apart by whole descriptors.
	whole bool
	// shapes are the sequences of keys that lead to limits, for matching by attributes.
	shapes [][]string
	shaped map[string]bool // the same, while compiling
	// overrides are the limits for descriptors that bring their own, by window.
	overrides map[time.Duration]*Limit
}

// level is what one entry of a descriptor can lead to, by key. Most have a handful of
// keys, which are found faster one after another than by hash.
type level struct {
	branches []*branch
	more     *moreOfLevel // nil for most
}

// moreOfLevel is what only some levels have.
type moreOfLevel struct {
	byKey map[string]*branch // if there are more than fewKeys
	wild  []patternNode      // those with a pattern of the whole entry, in order
}

const fewKeys = 8

type branch struct {
	key      string
	exact    map[string]*node
	patterns []patternNode
	other    *node
}

func (l *level) find(key string) *branch {
	if l.more != nil && l.more.byKey != nil {
		return l.more.byKey[key]
	}
	for _, b := range l.branches {
		if b.key == key {
			return b
		}
	}
	return nil
}

func (l *level) add(key string) *branch {
	b := &branch{key: key}
	l.branches = append(l.branches, b)
	if len(l.branches) <= fewKeys {
		return b
	}
	m := l.extend()
	if m.byKey == nil {
		m.byKey = map[string]*branch{}
		for _, o := range l.branches {
			m.byKey[o.key] = o
		}
	}
	m.byKey[key] = b
	return b
}

// extend returns what l has beside its branches.
func (l *level) extend() *moreOfLevel {
	if l.more == nil {
		l.more = &moreOfLevel{}
	}
	return l.more
}

type patternNode struct {
	pattern pattern
	node    *node
	order   int // among the rules of the level
}

// node is what a descriptor is led by: its first cache line.
type node struct {
	limits    []*Limit
	unlimited bool
	captures  captured
	next      level

	shared   string // the pattern, if all values that it matches count together
	replaces []string
}

// captured says what of an entry is part of a counter's key.
type captured uint8

const (
	capturedValue captured = 1 << iota
	capturedKey
)

type quota struct {
	name     string
	provider string
	org      string // the only one that it is for; empty if there are others
	id       uint32
	match    []attributeMatch
	except   []attributeMatch
	per      []string
	limits   []*Limit
	hold     time.Duration

	learn         bool
	joint         bool // input and output tokens have one pace, that of input
	mode          LimitMode
	tenants       map[string]*TenantSpec
	defaultTenant TenantSpec

	reservesMax, countsCacheReads bool
	cacheReadModels               []pattern
}

type attributeMatch struct {
	key     string
	pattern pattern
}

// The bounds of what Compile accepts.
const (
	MinWindow = time.Millisecond
	MaxWindow = 366 * 24 * time.Hour
)

// Limits returns every limit of the plan, overrides included, in a fixed order. The
// slice is the plan's: do not change it.
func (p *Plan) Limits() []*Limit { return p.limits }

// HasDomain reports whether the plan has rules for a domain of that name.
func (p *Plan) HasDomain(name string) bool { return p.domains[name] != nil }
