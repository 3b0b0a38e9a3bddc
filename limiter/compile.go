package limiter

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"
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
