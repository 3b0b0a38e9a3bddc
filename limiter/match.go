package limiter

import (
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"time"
)

// Match says what a descriptor led to.
type Match uint8

// The matches.
const (
	// NoDomain: the plan has no such domain.
	NoDomain Match = iota
	// NoRule: no rule with limits ends where the descriptor does.
	NoRule
	// UnlimitedRule: the rule admits everything, and counts nothing.
	UnlimitedRule
	// Matched: charges were added.
	Matched
)

// Hits is what a descriptor asks for.
type Hits struct {
	// Amount of units; 0 only looks, and is refused only if more than the limit is
	// used already.
	Amount uint64
	// Refund takes Amount off the counters instead, not below zero. It is never
	// refused.
	Refund bool
	// Stated says that who asks chose Amount: it is not what any request counts. A stated
	// 0 that is admitted makes budgets of the counters that it looks at, and a stated
	// Amount is what was spent of a budget already: it is charged whatever is left of it,
	// and whatever becomes of the rest of the Ask. See Check.Spent.
	Stated bool
	// Override, if its Window is not 0, replaces the limits that rules say.
	Override Override
}

// Override is a limit that came with a descriptor.
type Override struct {
	// Amount of units per window.
	Amount uint64
	// Window is that of a unit of Envoy's protocol: 1 s, 1 min, 1 h, 24 h, 7, 30 or
	// 365 days. Others are not matched.
	Window time.Duration
}

// charge is one limit that an Ask concerns.
type charge struct {
	limit      *Limit
	max        uint64 // the limit's amount, or an override
	amount     uint64
	total      uint64 // amount, and that of other charges to the same counter
	hash       uint64
	key        span // in Ask.keys
	descriptor int32
	quota      int16 // index in Ask.quotas whose estimate sets amount; -1: amount is set
	ofQuota    bool  // a limit of that quota, not of a rule
	refund     bool
	stated     bool // see Hits
	spent      bool // of a budget
	overflow   bool
	found      bool
	shard      uint8
	id         uint32 // under which the counter is kept
	counter    uint32
}

// quotaRef is one quota that an Ask concerns.
type quotaRef struct {
	quota *quota // nil: only rules matched, the estimate is taken as it is
	key   span   // the values that tell quotas of this name apart
	hash  uint64
	shard uint8
	est   Estimate
	// counts says that the quota counts tokens of this model that are read from the
	// cache.
	counts bool
	cost   Usage
	// likely is what will probably be charged in the end, where cost is more: the measure
	// of turns and of fairness.
	likely cost
	// paced is what the paces are charged until the call is reported.
	paced cost
	// overflow says that the quota shares its name's overflow quota.
	overflow   bool
	descriptor int32
	state      *quotaState
	flow       *flow // of the tenant that asks; nil where nobody asked
	leases     leases
}

// span is a part of Ask.keys.
type span struct{ from, to uint32 }

func (s span) len() int { return int(s.to - s.from) }

// Reset empties a for another use; it keeps its memory.
func (a *Ask) Reset() {
	a.Tenant, a.RequestID, a.IdempotencyKey = "", "", ""
	a.Open, a.Force, a.DryRun = false, false, false
	a.Trusted, a.counted, a.rights, a.right, a.tenant = false, false, span{}, 0, 0
	a.Priority, a.Retry, a.Turn, a.Deadline, a.tagged, a.start = 0, false, 0, 0, false, 0
	a.ID, a.TTL, a.HoldUntil = ID{}, 0, 0
	a.OneByOne, a.Soft, a.Spare = false, false, false
	if len(a.replaces) > 0 {
		clear(a.replaces)
	}
	a.charges, a.quotas, a.keys, a.replaces = a.charges[:0], a.quotas[:0], a.keys[:0], a.replaces[:0]
}

// Len returns the number of limits that a concerns so far.
func (a *Ask) Len() int { return len(a.charges) }

// HasQuota reports whether a concerns a quota.
func (a *Ask) HasQuota() bool {
	for i := range a.quotas {
		if a.quotas[i].quota != nil {
			return true
		}
	}
	return false
}

// Hold returns how long the quotas that a concerns let a caller be held: the
// shortest of their times, 0 if there is none.
func (a *Ask) Hold() time.Duration {
	var d time.Duration
	seen := false
	for i := range a.quotas {
		if q := a.quotas[i].quota; q != nil && (!seen || q.hold < d) {
			d, seen = q.hold, true
		}
	}
	return d
}

func (a *Ask) bytes(s span) []byte { return a.keys[s.from:s.to] }

// capture appends a value to the key that is being built. The length in front makes
// keys injective whatever bytes they hold. Of a long value the digest stands for it, so
// that keys stay short.
func (a *Ask) capture(value string) {
	if len(value) < 0x80 { // most: their length is one byte
		a.keys = append(append(a.keys, byte(len(value))), value...)
		return
	}
	a.keys = binary.AppendUvarint(a.keys, uint64(len(value)))
	if len(value) > longValue {
		a.captureDigest(value)
		return
	}
	a.keys = append(a.keys, value...)
}

// longValue is the length up to which values are captured as they are.
const longValue = 512

// captureDigest appends a value's SHA-256.
func (a *Ask) captureDigest(value string) {
	h := sha256.New()
	for len(value) > 0 {
		var part [sha256.BlockSize]byte
		n := copy(part[:], value)
		h.Write(part[:n])
		value = value[n:]
	}
	a.keys = h.Sum(a.keys)
}

// addCharge appends a charge and returns it to be completed; it is valid until the next.
func (a *Ask) addCharge(l *Limit, most uint64, key span, ordinal int) *charge {
	n := len(a.charges)
	if n == cap(a.charges) {
		a.charges = slices.Grow(a.charges, 1)
	}
	a.charges = a.charges[:n+1]
	c := &a.charges[n]
	c.limit, c.max, c.key, c.descriptor, c.id = l, most, key, int32(ordinal), l.id
	c.amount, c.total, c.counter, c.quota = 0, 0, 0, -1
	c.ofQuota, c.refund, c.overflow, c.found, c.stated, c.spent = false, false, false, false, false, false
	return c
}

func (a *Ask) mark() uint32 { return uint32(len(a.keys)) }

// MatchDescriptor adds to a what the rules of a domain say about a descriptor.
// ordinal is echoed in Check.Descriptor. Limits on meters other than requests are
// not charged: hits are requests.
func (p *Plan) MatchDescriptor(a *Ask, domain string, ordinal int, entries []Entry, hits Hits) Match {
	d := p.domains[domain]
	if d == nil {
		return NoDomain
	}
	if hits.Override.Window != 0 {
		return d.override(a, ordinal, entries, hits)
	}
	from := a.mark()
	n := d.root.walk(a, entries, d.whole)
	if n == nil || (len(n.limits) == 0 && !n.unlimited) {
		a.keys = a.keys[:from]
		return NoRule
	}
	if len(n.replaces) > 0 {
		a.replaces = append(a.replaces, n.replaces...)
	}
	if n.unlimited {
		a.keys = a.keys[:from]
		return UnlimitedRule
	}
	before := len(a.charges)
	key := span{from, a.mark()}
	for _, l := range n.limits {
		if l.Meter == Requests {
			c := a.addCharge(l, l.Amount, key, ordinal)
			c.amount, c.refund, c.stated, c.quota = hits.Amount, hits.Refund, hits.Stated, -1
		}
	}
	if len(a.charges) == before {
		return NoRule
	}
	return Matched
}

// walk follows entries down the tree and captures what tells counters apart: the values
// that rules leave open or, if whole, each key and value, a pattern in place of what it
// matches where that is counted together. It returns nil where the tree ends before the
// entries do.
func (l *level) walk(a *Ask, entries []Entry, whole bool) *node {
	var n *node
	for i := range entries {
		e := &entries[i]
		b := l.find(e.Key)
		switch {
		case l.more != nil && len(l.more.wild) > 0:
			n = l.findWild(b, e)
		case b != nil:
			n = b.find(e.Value)
		default:
			return nil
		}
		switch {
		case n == nil:
			return nil
		case whole:
			n.captureWhole(a, e)
		case n.captures == capturedValue:
			a.capture(e.Value)
		case n.captures != 0:
			n.captureOf(a, e)
		}
		l = &n.next
	}
	return n
}

// captureOf captures what of e, which led to n, tells counters apart.
func (n *node) captureOf(a *Ask, e *Entry) {
	if n.captures&capturedKey != 0 {
		a.capture(e.Key)
	}
	if n.captures&capturedValue != 0 {
		a.capture(e.Value)
	}
}

// captureWhole captures the key and the value of e, which led to n.
func (n *node) captureWhole(a *Ask, e *Entry) {
	a.capture(e.Key)
	if n.shared != "" {
		a.capture(n.shared)
		return
	}
	a.capture(e.Value)
}

func (b *branch) find(value string) *node {
	if b.exact != nil {
		if n := b.exact[value]; n != nil {
			return n
		}
	}
	for i := range b.patterns {
		if b.patterns[i].pattern.matches(value) {
			return b.patterns[i].node
		}
	}
	return b.other
}

// findWild is find in a level with patterns of whole entries. b is the branch of e's
// key, or nil.
func (l *level) findWild(b *branch, e *Entry) *node {
	var of []patternNode
	if b != nil {
		if n := b.exact[e.Value]; n != nil {
			return n
		}
		of = b.patterns
	}
	for i := range l.more.wild {
		w := &l.more.wild[i]
		for ; len(of) > 0 && of[0].order < w.order; of = of[1:] {
			if of[0].pattern.matches(e.Value) {
				return of[0].node
			}
		}
		if w.pattern.matchesEntry(e) {
			return w.node
		}
	}
	for i := range of {
		if of[i].pattern.matches(e.Value) {
			return of[i].node
		}
	}
	if b == nil {
		return nil
	}
	return b.other
}

// Concerns reports whether a concerns a limit by the descriptor of that ordinal.
func (a *Ask) Concerns(ordinal int) bool {
	for i := range a.charges {
		if a.charges[i].descriptor == int32(ordinal) {
			return true
		}
	}
	return false
}

// DropReplaced takes back the charges to limits that rules which a was matched to
// replace. Call it when all descriptors are matched.
func (a *Ask) DropReplaced() {
	if len(a.replaces) == 0 {
		return
	}
	a.charges = slices.DeleteFunc(a.charges, func(c charge) bool {
		return c.quota < 0 && slices.Contains(a.replaces, c.limit.Name)
	})
}

func (d *domain) override(a *Ask, ordinal int, entries []Entry, hits Hits) Match {
	l := d.overrides[hits.Override.Window]
	if l == nil {
		return NoRule
	}
	from := a.mark()
	for i := range entries {
		a.capture(entries[i].Key)
		a.capture(entries[i].Value)
	}
	c := a.addCharge(l, min(hits.Override.Amount, MaxAmount), span{from, a.mark()}, ordinal)
	c.amount, c.refund, c.stated, c.quota = hits.Amount, hits.Refund, hits.Stated, -1
	return Matched
}

// MatchAttributes adds to a the quotas that match attrs, and the rules of the domain
// whose keys are all among attrs, in whatever order. The amounts are made from est
// when a is decided. It returns how many limits it added; a domain that the plan
// does not have just has no rules. Where a key occurs twice the first one counts.
func (p *Plan) MatchAttributes(a *Ask, domain string, ordinal int, attrs []Entry, est Estimate) int {
	before := len(a.charges)
	first := len(a.quotas)
	if len(p.byOrg) > 0 {
		org, _ := find(attrs, "org")
		for _, q := range p.byOrg[org] {
			q.add(a, ordinal, attrs, &est)
		}
	}
	for _, q := range p.quotas {
		q.add(a, ordinal, attrs, &est)
	}
	if d := p.domains[domain]; d != nil {
		d.addByAttributes(a, ordinal, attrs, &est, first)
	}
	if len(a.quotas) > first {
		a.captureRight(attrs)
	}
	return len(a.charges) - before
}

func find(attrs []Entry, key string) (string, bool) {
	for i := range attrs {
		if attrs[i].Key == key {
			return attrs[i].Value, true
		}
	}
	return "", false
}

func (q *quota) add(a *Ask, ordinal int, attrs []Entry, est *Estimate) {
	for i := range q.match {
		m := &q.match[i]
		if v, ok := find(attrs, m.key); !ok || !m.pattern.matches(v) {
			return
		}
	}
	for i := range q.except {
		m := &q.except[i]
		if v, ok := find(attrs, m.key); ok && m.pattern.matches(v) {
			return
		}
	}
	from := a.mark()
	for _, k := range q.per {
		v, _ := find(attrs, k)
		a.capture(v)
	}
	key := span{from, a.mark()}
	index := int16(len(a.quotas))
	a.quotas = append(a.quotas, quotaRef{quota: q, key: key, est: *est, counts: q.countsReads(attrs), descriptor: int32(ordinal)})
	for _, l := range q.limits {
		c := a.addCharge(l, l.Amount, key, ordinal)
		c.quota, c.ofQuota = index, true
	}
}

// countsReads says whether the quota counts what the model that attrs name reads from
// the cache.
func (q *quota) countsReads(attrs []Entry) bool {
	if q.countsCacheReads || len(q.cacheReadModels) == 0 {
		return q.countsCacheReads
	}
	model, _ := find(attrs, "model")
	for i := range q.cacheReadModels {
		if q.cacheReadModels[i].matches(model) {
			return true
		}
	}
	return false
}

// addByAttributes adds the rules that attrs lead to. Their amounts come from the
// estimate of the first quota that these attributes matched; without one, from a
// reference to no quota, which learns nothing.
func (d *domain) addByAttributes(a *Ask, ordinal int, attrs []Entry, est *Estimate, first int) {
	var path [maxShape]Entry
	for _, shape := range d.shapes {
		if len(shape) > maxShape || !collect(path[:], shape, attrs) {
			continue
		}
		from := a.mark()
		n := d.root.walk(a, path[:len(shape)], d.whole)
		if n == nil || n.unlimited || len(n.limits) == 0 {
			a.keys = a.keys[:from]
			continue
		}
		if first == len(a.quotas) {
			a.quotas = append(a.quotas, quotaRef{key: span{from, from}, est: *est, descriptor: int32(ordinal)})
		}
		key := span{from, a.mark()}
		for _, l := range n.limits {
			a.addCharge(l, l.Amount, key, ordinal).quota = int16(first)
		}
	}
}

// maxShape is the largest number of keys in a rule that attributes can match: as
// many as a descriptor may have entries.
const maxShape = 32

// collect fills path with the entries of attrs named by shape, in its order.
func collect(path []Entry, shape []string, attrs []Entry) bool {
	for i, k := range shape {
		v, ok := find(attrs, k)
		if !ok {
			return false
		}
		path[i] = Entry{k, v}
	}
	return true
}
