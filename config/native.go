package config

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/weir-project/weir/limiter"
	configv1 "github.com/weir-project/weir/proto/weir/config/v1"
	"github.com/weir-project/weir/provider"
)

const (
	minWindow = time.Millisecond
	maxWindow = 366 * 24 * time.Hour
	maxHold   = 15 * time.Minute
)

// native is one of weir's own files.
type native struct {
	binder
	config *configv1.Config
}

// readNative binds a document and checks it against the rules of the .proto.
func readNative(d *document, r *report) *native {
	f := &native{
		binder: binder{doc: d, report: r, bad: map[*yaml.Node]bool{}},
		config: &configv1.Config{},
	}
	f.message(d.root, f.config.ProtoReflect())
	f.checkRules(f.config)
	return f
}

// complain reports a problem at a node that has none yet.
func (f *native) complain(n *yaml.Node, format string, args ...any) {
	if !f.bad[n] {
		f.problem(n, format, args...)
	}
}

// translate adds the file's quotas and rules to b. The vocabulary must be known.
func (f *native) translate(b *builder) {
	quotas := child(f.doc.root, "quotas")
	for i, q := range f.config.GetQuotas() {
		f.quota(b, q, item(quotas, i))
	}
	rules := child(f.doc.root, "rules")
	for i, r := range f.config.GetRules() {
		f.rule(b, r, item(rules, i))
	}
}

// quota adds one quota.
func (f *native) quota(b *builder, q *configv1.Quota, n *yaml.Node) {
	if q.GetName() != "" {
		b.takeName(q.GetName(), place{f.doc, child(n, "name")})
	}
	spec := limiter.QuotaSpec{Name: q.GetName(), Provider: q.GetProvider(), Per: q.GetPer()}
	if spec.Provider == "" {
		spec.Provider = "generic"
	}
	f.checkProvider(b, spec.Provider, child(n, "provider"))
	meter(&spec, q, b.profile(spec.Provider))
	if per := child(n, "per"); len(spec.Per) == 0 {
		// A list that is there and empty says: one allotment for all.
		spec.Per = []string{"org"}
		if per != nil && per.Kind == yaml.SequenceNode {
			spec.Per = []string{}
		}
	}
	for _, key := range slices.Sorted(maps.Keys(q.GetMatch())) {
		spec.Match = append(spec.Match, limiter.AttributePattern{Key: key, Pattern: q.GetMatch()[key]})
	}
	f.control(&spec, q, n)
	spec.Limits = f.quotaLimits(q.GetLimits(), n, !spec.Learn)
	f.tenants(&spec, q.GetTenants(), child(n, "tenants"))
	if q.GetHold() != "" {
		spec.Hold = f.duration(q.GetHold(), "hold", child(n, "hold"), 0, maxHold)
	}
	b.quotas = append(b.quotas, spec)
}

// meter says what the upstream counts: what the quota says, or else what is known of its
// provider.
func meter(spec *limiter.QuotaSpec, q *configv1.Quota, p *provider.Profile) {
	spec.JointTokens = p.JointTokens
	spec.ReservesMaxTokens, spec.CountsCacheReads = p.ReservesMaxTokens, p.CountsCacheReads
	if q.OutputAccounting != nil {
		spec.ReservesMaxTokens = q.GetOutputAccounting() == reserved
	}
	if q.CountsCacheReads != nil {
		spec.CountsCacheReads = q.GetCountsCacheReads()
		return
	}
	spec.CacheReadModels = cacheReadModels(p)
}

// cacheReadModels are the patterns of the models whose cache reads count.
func cacheReadModels(p *provider.Profile) []string {
	var patterns []string
	for _, model := range p.CacheReadModels {
		patterns = append(patterns, "*"+model+"*")
	}
	return patterns
}

// quotaLimits translates the limits of the quota at n.
func (f *native) quotaLimits(l *configv1.QuotaLimits, n *yaml.Node, needed bool) []limiter.LimitSpec {
	at := child(n, "limits")
	switch {
	case at == nil && needed && n.Kind == yaml.MappingNode:
		f.report.at(f.doc, n, "limits is missing, expected a mapping with %s", fewNames(l.ProtoReflect().Descriptor()))
		return nil
	case at == nil || f.bad[at]:
		return nil
	}
	var limits []limiter.LimitSpec
	m := l.ProtoReflect()
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		if field := fields.Get(i); m.Has(field) {
			meter, window := meterAndWindow(string(field.Name()))
			limits = append(limits, limiter.LimitSpec{Meter: meter, Amount: m.Get(field).Uint(), Window: window})
		}
	}
	// A field with a problem would have been a limit.
	if len(limits) == 0 && len(at.Content) == 0 && needed {
		f.complain(at, "limits is empty, expected at least one, such as requests_per_minute")
	}
	return limits
}

// meterAndWindow splits the name of a field of QuotaLimits.
func meterAndWindow(field string) (limiter.Meter, time.Duration) {
	name, unit, _ := strings.Cut(field, "_per_")
	meter, _ := limiter.ParseMeter(name)
	return meter, map[string]time.Duration{
		"second": time.Second, "minute": time.Minute, "hour": time.Hour, "day": 24 * time.Hour,
	}[unit]
}

// rule adds one rule to the tree of its domain.
func (f *native) rule(b *builder, r *configv1.Rule, n *yaml.Node) {
	at := place{f.doc, n}
	if r.GetName() != "" {
		b.takeName(r.GetName(), place{f.doc, child(n, "name")})
	}
	llm := b.vocabulary.IsLLM(r.GetDomain())
	limits := f.ruleLimits(r, child(n, "limits"), llm)
	if !f.checkRule(r, n, llm) {
		return
	}
	node := f.path(&b.domain(r.GetDomain()).root, r, n)
	if node == nil {
		return
	}
	if node.rule != nil {
		f.complain(child(n, "match"), "another rule of domain %s has the same match, expected each match once; also at %s",
			quoteShort(r.GetDomain()), node.rule)
		return
	}
	node.rule = &at
	node.spec.Name = r.GetName()
	node.spec.Limits = limits
	node.spec.Shadow = r.GetShadow()
	node.spec.Unlimited = r.GetUnlimited()
	node.spec.Soft, node.spec.Replaces = r.GetSoft(), r.GetReplaces()
	b.countRule(at)
}

// checkPlain checks what only rules for plain descriptors can say.
func (f *native) checkPlain(r *configv1.Rule, n *yaml.Node, llm bool) {
	if llm && r.GetSoft() {
		f.complain(child(n, "soft"), "soft in the LLM domain %s, expected a domain of plain descriptors", quoteShort(r.GetDomain()))
	}
	replaces := child(n, "replaces")
	if llm && len(r.GetReplaces()) > 0 {
		f.complain(replaces, "replaces in the LLM domain %s, expected a domain of plain descriptors", quoteShort(r.GetDomain()))
	}
	for i, name := range r.GetReplaces() {
		for _, l := range r.GetLimits() {
			if l.GetName() == name && name != "" {
				f.complain(item(replaces, i), "replaces has the name %s of the rule's own limit, expected that of another", quoteShort(name))
			}
		}
	}
}

// checkRule checks what the rules of the .proto cannot say, and whether the rule has
// all that it takes to have a place in the tree.
func (f *native) checkRule(r *configv1.Rule, n *yaml.Node, llm bool) bool {
	limits := child(n, "limits")
	f.checkPlain(r, n, llm)
	switch {
	case n.Kind != yaml.MappingNode || f.bad[n]:
		return false
	case len(r.GetLimits()) == 0 && !r.GetUnlimited() && limits != nil:
		f.complain(limits, "limits is empty, expected at least one, or unlimited: true")
	case len(r.GetLimits()) == 0 && !r.GetUnlimited() && !f.bad[child(n, "unlimited")]:
		f.complain(n, "the rule has neither limits nor unlimited: true, expected one of them")
	case len(r.GetLimits()) > 0 && r.GetUnlimited():
		f.complain(child(n, "unlimited"), "the rule has limits and is unlimited, expected one of them")
	}
	if len(r.GetMatch()) == 0 || r.GetDomain() == "" {
		return false
	}
	seen := map[string]bool{}
	match := child(n, "match")
	for i, m := range r.GetMatch() {
		if m.GetKey() == "" {
			return false
		}
		if llm && seen[m.GetKey()] {
			f.complain(item(match, i), "the key %s is there twice, expected once: the attributes of a call are a set", quoteShort(m.GetKey()))
			return false
		}
		seen[m.GetKey()] = true
		if m.GetShareValues() && !isPattern(m.GetValue()) {
			f.complain(child(item(match, i), "share_values"), "share_values without a pattern, expected a * in value")
		}
	}
	return true
}

// path returns the node to which the rule's match leads, new if need be; nil if it
// contradicts another rule.
func (f *native) path(root *ruleNode, r *configv1.Rule, n *yaml.Node) *ruleNode {
	node := root
	match := child(n, "match")
	for i, m := range r.GetMatch() {
		at := place{f.doc, item(match, i)}
		next, isNew := node.child(m.GetKey(), m.GetValue(), at)
		if isNew {
			next.spec.ShareValues = m.GetShareValues()
		} else if next.spec.ShareValues != m.GetShareValues() {
			f.complain(at.node, "share_values is not as in the rule that begins alike, expected the same; also at %s", next.first)
			return nil
		}
		node = next
	}
	return node
}

// ruleLimits translates the limits of a rule.
func (f *native) ruleLimits(r *configv1.Rule, n *yaml.Node, llm bool) []limiter.LimitSpec {
	type kind struct {
		meter  limiter.Meter
		window time.Duration
	}
	seen := map[kind]bool{}
	var limits []limiter.LimitSpec
	for i, l := range r.GetLimits() {
		at := item(n, i)
		if f.bad[at] {
			continue
		}
		meter := limiter.Requests
		if l.GetMeter() != "" {
			meter, _ = limiter.ParseMeter(l.GetMeter())
		}
		if meter != limiter.Requests && !llm && r.GetDomain() != "" {
			f.complain(child(at, "meter"), "meter %s in the domain %s, expected requests: descriptors say tokens only in an LLM domain (see llm.domains)",
				meter, quoteShort(r.GetDomain()))
		}
		window := f.duration(l.GetPer(), "per", child(at, "per"), minWindow, maxWindow)
		if k := (kind{meter, window}); window != 0 && seen[k] {
			f.complain(at, "another limit of this rule counts %s over the same time, expected one", meter)
		} else {
			seen[k] = true
		}
		limits = append(limits, limiter.LimitSpec{Name: l.GetName(), Meter: meter, Amount: l.GetAmount(), Window: window})
	}
	return limits
}

// duration reads a length of time. What does not look like one broke a rule of the
// .proto and was reported.
func (f *native) duration(s, field string, n *yaml.Node, low, high time.Duration) time.Duration {
	d, err := parseDuration(s, low, high)
	if errors.Is(err, errDurationRange) && n != nil {
		f.complain(n, "%s is %s, expected a duration from %s to %s", field, s, short(low), short(high))
	}
	return d
}

// short writes a bound as people do.
func short(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if d == maxWindow {
		text = "366d"
	}
	return text
}
