package limiter

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
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

// keptIDs bounds how many identities of limits that are gone a Plan remembers.
const keptIDs = 100_000

// overrideWindows returns the windows that an Override may have: those of the units of
// Envoy's rate limit protocol, with 30 days for a month and 365 for a year.
func overrideWindows() []time.Duration {
	const day = 24 * time.Hour
	return []time.Duration{time.Second, time.Minute, time.Hour, day, 7 * day, 30 * day, 365 * day}
}

// Compile checks and compiles spec. Limits that prev has too, with the same owner,
// meter and window, keep their counters, whatever their amount; prev is nil for the
// first plan. The error joins everything that is wrong.
func Compile(spec Spec, prev *Plan) (*Plan, error) { return CompileBeside(spec, prev, func() {}) }

// CompileBeside is Compile for who decides by prev meanwhile: it calls rest every few dozen
// microseconds, from which it may return when it likes to.
func CompileBeside(spec Spec, prev *Plan, rest func()) (*Plan, error) {
	c := compiler{
		plan: &Plan{domains: map[string]*domain{}, byOrg: map[string][]*quota{}, ids: map[string]uint32{}, nextID: 1},
		rest: rest,
	}
	if prev != nil {
		c.plan.nextID = prev.nextID
		if len(prev.ids) < keptIDs {
			c.plan.ids = maps.Clone(prev.ids)
		} else {
			c.old = prev.ids
		}
	}
	for i := range spec.Quotas {
		c.quota(&spec.Quotas[i])
	}
	for i := range spec.Domains {
		c.domain(&spec.Domains[i])
	}
	if len(c.errs) > 0 {
		return nil, errors.Join(c.errs...)
	}
	c.plan.inherit(prev)
	return c.plan, nil
}

// Limits returns every limit of the plan, overrides included, in a fixed order. The
// slice is the plan's: do not change it.
func (p *Plan) Limits() []*Limit { return p.limits }

// HasDomain reports whether the plan has rules for a domain of that name.
func (p *Plan) HasDomain(name string) bool { return p.domains[name] != nil }

type compiler struct {
	plan  *Plan
	whole string // the identity of the domain at hand
	old   map[string]uint32
	errs  []error
	names map[string]bool
	rest  func()
}

func (c *compiler) fail(format string, args ...any) {
	c.errs = append(c.errs, fmt.Errorf(format, args...))
}

// id returns the number of an identity, the same as in the plan before.
func (c *compiler) id(identity string) uint32 {
	if id, ok := c.plan.ids[identity]; ok {
		return id
	}
	id, ok := c.old[identity]
	if !ok {
		id = c.plan.nextID
		c.plan.nextID++
	}
	c.plan.ids[identity] = id
	return id
}

func (c *compiler) quota(s *QuotaSpec) {
	if c.names == nil {
		c.names = map[string]bool{}
	}
	switch {
	case s.Name == "":
		c.fail("a quota has no name")
	case c.names[s.Name]:
		c.fail("quota %q: there are two of this name", s.Name)
	}
	c.names[s.Name] = true
	per := s.Per
	if per == nil {
		per = []string{"org"}
	}
	id := []byte("q" + strconv.Quote(s.Name))
	for _, k := range per {
		id = strconv.AppendQuote(append(id, '/'), k)
	}
	identity := string(id)
	q := &quota{
		name: s.Name, provider: s.Provider, per: per, hold: s.Hold, id: c.id(identity),
		reservesMax: s.ReservesMaxTokens, countsCacheReads: s.CountsCacheReads,
	}
	for _, m := range s.CacheReadModels {
		q.cacheReadModels = append(q.cacheReadModels, compilePattern(m))
	}
	q.limits = c.limits(s.Limits, s.Name, identity, false)
	c.learn(s, q, identity)
	org := ""
	for _, m := range s.Match {
		p := compilePattern(m.Pattern)
		if m.Key == "org" && p.exact && org == "" {
			org = m.Pattern
		}
		if !p.any() {
			q.match = append(q.match, attributeMatch{key: m.Key, pattern: p})
		}
	}
	for _, m := range s.Except {
		q.except = append(q.except, attributeMatch{key: m.Key, pattern: compilePattern(m.Pattern)})
	}
	if q.org = org; org != "" {
		c.plan.byOrg[org] = append(c.plan.byOrg[org], q)
	} else {
		c.plan.quotas = append(c.plan.quotas, q)
	}
}

// learn sets up what a learned quota has beyond its limits.
func (c *compiler) learn(s *QuotaSpec, q *quota, identity string) {
	q.learn, q.mode, q.defaultTenant = s.Learn, s.Mode, s.DefaultTenant
	q.tenants = make(map[string]*TenantSpec, len(s.Tenants))
	for name, t := range s.Tenants {
		q.tenants[name] = &t
	}
	if !s.Learn {
		return
	}
	apart := func(l LimitSpec) bool { return l.Meter == OutputTokens && l.Window == time.Minute }
	meters := []Meter{Requests, InputTokens, OutputTokens}
	if q.joint = s.JointTokens && !slices.ContainsFunc(s.Limits, apart); q.joint {
		meters = []Meter{Requests, Tokens}
	}
	var found [numMeters]bool
	for _, l := range q.limits {
		if slices.Contains(meters, l.Meter) && l.Window == time.Minute {
			l.paced, l.capped = true, s.Mode == CapLimits
			found[l.Meter] = true
		}
	}
	for _, m := range meters {
		if !found[m] {
			l := c.limits([]LimitSpec{{Meter: m, Amount: MaxAmount, Window: time.Minute}}, s.Name, identity, false)[0]
			l.paced, l.unknown = true, true
			q.limits = append(q.limits, l)
		}
	}
}

func (c *compiler) domain(s *DomainSpec) {
	if s.Name == "" {
		c.fail("a domain has no name")
		return
	}
	if c.plan.domains[s.Name] != nil {
		c.fail("domain %q: there are two of this name", s.Name)
		return
	}
	identity := "d" + strconv.Quote(s.Name)
	d := &domain{name: s.Name, overrides: map[time.Duration]*Limit{}, whole: s.Fixed, shaped: map[string]bool{}}
	c.whole = identity
	d.root = c.level(s.Rules, s.Name, "", identity, nil, d)
	for _, w := range overrideWindows() {
		spec := []LimitSpec{{Meter: Requests, Window: w, Fixed: s.Fixed}}
		d.overrides[w] = c.limits(spec, s.Name, identity+"!", false)[0]
	}
	d.shaped = nil
	c.plan.domains[s.Name] = d
}

// rulesAtOnce is how many rules of a level are compiled without a rest.
const rulesAtOnce = 64

// level compiles the rules of one level. path is for people, identity for counters,
// keys are the keys of the levels above.
func (c *compiler) level(rules []RuleSpec, domainName, path, identity string, keys []string, d *domain) level {
	var l level
	seen := map[Entry]bool{}
	for i := range rules {
		if i%rulesAtOnce == rulesAtOnce-1 {
			c.rest()
		}
		s := &rules[i]
		here := s.Key
		if s.Value != "" {
			here += "=" + s.Value
		}
		if path != "" {
			here = path + "," + here
		}
		if s.Key == "" {
			c.fail("domain %q: a rule below %q has no key", domainName, path)
			continue
		}
		if e := (Entry{s.Key, s.Value}); seen[e] {
			c.fail("domain %q: there are two rules %q", domainName, here)
			continue
		} else {
			seen[e] = true
		}
		below := append(slices.Clip(keys), s.Key)
		n := c.node(s, domainName, here, identity+"/"+strconv.Quote(s.Key)+strconv.Quote(s.Value), below, d)
		b := l.find(s.Key)
		if b == nil {
			b = l.add(s.Key)
		}
		l.place(b, s, n, i)
	}
	return l
}

// place makes n the node of rule i of the level, of which b is the branch of its key.
func (l *level) place(b *branch, s *RuleSpec, n *node, i int) {
	value := compilePattern(s.Value)
	if s.ShareValues {
		n.shared = s.Value
	}
	switch {
	case s.KeyPattern:
		text := s.Key
		if s.Value != "" {
			text += "_" + s.Value
		}
		n.captures = capturedKey
		if s.ShareValues {
			n.shared = text
		} else {
			n.captures |= capturedValue
		}
		m := l.extend()
		m.wild = append(m.wild, patternNode{compilePattern(text), n, i})
	case s.Value == "":
		n.captures = capturedValue
	case !value.exact:
		if !s.ShareValues {
			n.captures = capturedValue
		}
		b.patterns = append(b.patterns, patternNode{value, n, i})
	}
	if s.Value == "" {
		b.other = n
		return
	}
	if b.exact == nil {
		b.exact = map[string]*node{}
	}
	b.exact[s.Value] = n
}

func (c *compiler) node(s *RuleSpec, domainName, path, identity string, keys []string, d *domain) *node {
	owner := s.Name
	if owner == "" {
		owner = path
	}
	n := &node{unlimited: s.Unlimited, limits: c.limits(s.Limits, owner, identity, s.Shadow), replaces: s.Replaces}
	for _, l := range n.limits {
		l.Soft, l.Note = s.Soft, s.Note
		if l.Fixed && !d.whole {
			c.fail("domain %q: the rule %q has fixed windows, and the domain does not", domainName, path)
		}
	}
	if len(n.limits) > 0 {
		d.addShape(keys)
	}
	n.next = c.level(s.Rules, domainName, path, identity, keys, d)
	return n
}

func (d *domain) addShape(keys []string) {
	var text []byte
	for _, k := range keys {
		text = strconv.AppendQuote(text, k)
	}
	if !d.shaped[string(text)] {
		d.shaped[string(text)] = true
		d.shapes = append(d.shapes, keys)
	}
}

func (c *compiler) limits(specs []LimitSpec, owner, identity string, shadow bool) []*Limit {
	var out []*Limit
	for _, s := range specs {
		switch {
		case s.Meter >= numMeters:
			c.fail("%s: a limit has no meter", owner)
		case s.Amount > MaxAmount:
			c.fail("%s: limit of %d %s, more than %d", owner, s.Amount, s.Meter, MaxAmount)
		case s.Window < MinWindow || s.Window > MaxWindow:
			c.fail("%s: limit of %s per %s, the window must be from %s to %s", owner, s.Meter, s.Window, MinWindow, MaxWindow)
		}
		l := &Limit{
			Owner: owner, Name: s.Name, Meter: s.Meter, Amount: s.Amount, Window: s.Window, Shadow: shadow,
			Fixed: s.Fixed, Index: len(c.plan.limits), width: bucketWidth(int64(s.Window)),
		}
		for _, o := range out {
			if o.Meter == l.Meter && o.Window == l.Window {
				c.fail("%s: there are two limits of %s per %s", owner, s.Meter, s.Window)
			}
		}
		kind := "#" + s.Meter.String() + "/" + strconv.FormatInt(int64(s.Window), 10)
		if s.Fixed {
			kind += "!"
			l.width = int64(s.Window)
		}
		l.id = c.id(identity + kind)
		l.alone = l.id
		if s.Fixed {
			l.id = c.id(c.whole + kind)
		}
		c.plan.limits = append(c.plan.limits, l)
		out = append(out, l)
	}
	return out
}
