package config

import (
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/weir-project/weir/limiter"
	configv1 "github.com/weir-project/weir/proto/weir/config/v1"
	"github.com/weir-project/weir/provider"
)

// The statuses of failures, which a rule that names none is about.
const (
	firstFailure = 400
	lastFailure  = 599
)

// profile returns what is known of a provider so far.
func (b *builder) profile(name string) *provider.Profile {
	if p := b.providers[name]; p != nil {
		return p
	}
	return provider.Named(name)
}

// takeProviders adds the providers that the file describes. One with a problem is added
// too, so that quotas may name it.
func (f *native) takeProviders(b *builder) {
	list := child(f.doc.root, "providers")
	for i, p := range f.config.GetProviders() {
		n := item(list, i)
		if p.GetName() == "" || !f.takesProviderName(b, p.GetName(), child(n, "name")) {
			continue
		}
		if b.providers == nil {
			b.providers = map[string]*provider.Profile{}
		}
		profile := f.profile(p, n)
		if err := profile.Check(); err != nil && !b.report.failed() {
			f.complain(n, "%s", err)
		}
		b.providers[p.GetName()] = profile
		b.words = append(b.words, p)
	}
}

// takesProviderName notes the name of a provider, and reports one that is taken.
func (f *native) takesProviderName(b *builder, name string, n *yaml.Node) bool {
	other, taken := b.described[name]
	switch {
	case slices.Contains(provider.Names(), name):
		f.complain(n, "%s is a provider that weir knows by itself, expected another name", quoteShort(name))
		return false
	case taken:
		f.complain(n, "the provider %s is there twice, expected each once; also at %s", quoteShort(name), other)
		return false
	}
	b.described[name] = place{f.doc, n}
	if len(b.described) == MaxProviders+1 {
		f.complain(n, "too many providers, expected at most %d in all files", MaxProviders)
	}
	return true
}

// checkProvider reports a quota's provider that nobody knows.
func (f *native) checkProvider(b *builder, name string, n *yaml.Node) {
	known := provider.Names()
	if _, ok := b.described[name]; ok || n == nil || slices.Contains(known, name) {
		return
	}
	own := make([]string, 0, len(b.described))
	for name := range b.described {
		own = append(own, name)
	}
	slices.Sort(own)
	all := append(known, own...)
	expected := oneOf(all)
	if len(own) > 8 {
		expected = oneOf(known) + ", or one of providers"
	}
	if s := closest(name, all); s != "" {
		expected += "; did you mean " + s + "?"
	}
	f.complain(n, "unknown provider %s, expected %s", quoteShort(name), expected)
}

// profile translates the provider at n.
func (f *native) profile(p *configv1.Provider, n *yaml.Node) *provider.Profile {
	base := p.GetBasedOn()
	if base == "" {
		base = "generic"
	}
	own := *provider.Named(base)
	own.Name = p.GetName()
	var rules []provider.Rule
	for i, r := range p.GetRules() {
		if rule, ok := f.answerRule(r, item(child(n, "rules"), i)); ok {
			rules = append(rules, rule)
		}
	}
	own.Types = typesOf(rules, own.Types)
	own.Rules = slices.Concat(rules, own.Rules)
	own.Headers = slices.Concat(f.headers(p.GetHeaders(), child(n, "headers")), own.Headers)
	if p.CountsCacheReads != nil {
		own.CountsCacheReads, own.CacheReadModels = p.GetCountsCacheReads(), nil
	}
	if p.JointTokens != nil {
		own.JointTokens = p.GetJointTokens()
	}
	if p.OutputAccounting != nil {
		own.ReservesMaxTokens = p.GetOutputAccounting() == reserved
	}
	if p.ChargesRefused != nil {
		for _, c := range []limiter.Class{limiter.ClassQuota, limiter.ClassAcceleration, limiter.ClassConcurrency} {
			own.Refunds[c].Requests = !p.GetChargesRefused()
		}
	}
	return &own
}

// answerRule translates the rule at n; false if it has a problem.
func (f *native) answerRule(r *configv1.ProviderRule, n *yaml.Node) (provider.Rule, bool) {
	class, ok := provider.ParseClass(r.GetClass())
	if !ok || n.Kind != yaml.MappingNode {
		return provider.Rule{}, false
	}
	rule := provider.Rule{
		From: firstFailure, To: lastFailure,
		Code: lowerASCII(r.GetCode()), Text: lowerASCII(r.GetText()),
		Class: class, Begun: r.GetBegun(), Mute: r.RetryAfter != nil && !r.GetRetryAfter(),
	}
	if r.Status != nil {
		rule.From, rule.To = statusOf(r.GetStatus()), statusOf(r.GetStatus())
	}
	if r.StatusTo != nil {
		rule.To = statusOf(r.GetStatusTo())
	}
	f.ruleMeter(&rule, r, child(n, "meter"))
	switch at := child(n, "status_to"); {
	case r.Status == nil && r.StatusTo == nil && r.GetCode() == "" && r.GetText() == "":
		// What it names and is wrong was reported.
		if child(n, "status") == nil && at == nil && child(n, "code") == nil && child(n, "text") == nil {
			f.complain(n, "the rule names no status, code or text, expected at least one of them")
		}
		return rule, false
	case r.StatusTo != nil && r.Status == nil && child(n, "status") == nil:
		f.complain(at, "status_to without status, expected the first status of the range too")
	case r.Status != nil && r.StatusTo != nil && rule.To < rule.From:
		f.complain(at, "status_to is %d, which is below status, expected at least %d", rule.To, rule.From)
	}
	return rule, !f.bad[n] && !f.bad[child(n, "status")] && !f.bad[child(n, "status_to")]
}

// inFlight is the word for the meter of calls at a time, which class concurrency is about.
const inFlight = "in_flight"

// ruleMeter takes the meter of a rule, at n, which must be one that its class can be about.
func (f *native) ruleMeter(rule *provider.Rule, r *configv1.ProviderRule, n *yaml.Node) {
	if r.Meter == nil || f.bad[n] {
		return
	}
	switch rule.Class {
	case limiter.ClassConcurrency:
		if r.GetMeter() != inFlight {
			f.complain(n, "meter is %s with class concurrency, expected in_flight, or class quota", r.GetMeter())
		}
		return
	case limiter.ClassQuota, limiter.ClassAcceleration, limiter.ClassSpend:
	default:
		f.complain(n, "meter with class %s, expected class quota, acceleration, concurrency or spend", r.GetClass())
		return
	}
	if r.GetMeter() == inFlight {
		f.complain(n, "meter is in_flight with class %s, expected class concurrency", r.GetClass())
		return
	}
	for m := limiter.Requests; m <= limiter.Tokens; m++ {
		if m.String() == r.GetMeter() {
			rule.Meter, rule.HasMeter = m, true
		}
	}
	rule.Narrow = rule.Class == limiter.ClassSpend
}

// statusOf is a status that was checked, or 0, which is none.
func statusOf(n uint64) int {
	if n > 999 {
		return 0
	}
	return int(n)
}

// typesOf puts the codes of rules before types, where no type says the same: by them
// errors inside a stream are read, which have no status.
func typesOf(rules []provider.Rule, types []provider.TypeStatus) []provider.TypeStatus {
	var own []provider.TypeStatus
	for _, r := range rules {
		known := func(t provider.TypeStatus) bool {
			return t.Type == r.Code && r.From <= t.Status && t.Status <= r.To
		}
		if r.Code != "" && !slices.ContainsFunc(types, known) && !slices.ContainsFunc(own, known) {
			own = append(own, provider.TypeStatus{Type: r.Code, Status: r.From})
		}
	}
	return slices.Concat(own, types)
}

// headers translates the headers at n. One name says one thing.
func (f *native) headers(h *configv1.ProviderHeaders, n *yaml.Node) []provider.HeaderRule {
	var rules []provider.HeaderRule
	taken := map[string]bool{}
	add := func(name string, part provider.Part, meter limiter.Meter, at *yaml.Node) {
		name = lowerASCII(name)
		switch {
		case name == "":
		case taken[name]:
			f.complain(at, "the header %s is there twice, expected each once", quoteShort(name))
		default:
			rules = append(rules, provider.HeaderRule{Name: name, Part: part, Meter: meter})
		}
		taken[name] = true
	}
	for i, of := range [...]*configv1.LimitHeaders{
		limiter.Requests: h.GetRequests(), limiter.InputTokens: h.GetInputTokens(),
		limiter.OutputTokens: h.GetOutputTokens(), limiter.Tokens: h.GetTokens(),
	} {
		meter := limiter.Meter(i)
		at := child(n, meter.String())
		add(of.GetLimit(), provider.PartLimit, meter, child(at, "limit"))
		add(of.GetRemaining(), provider.PartRemaining, meter, child(at, "remaining"))
		add(of.GetReset_(), provider.PartReset, meter, child(at, "reset"))
	}
	for i, w := range h.GetRetryAfter() {
		part := provider.PartWaitSeconds
		switch w.GetUnit() {
		case "ms":
			part = provider.PartWaitMillis
		case "date":
			part = provider.PartWaitDate
		}
		add(w.GetHeader(), part, limiter.Requests, child(item(child(n, "retry_after"), i), "header"))
	}
	return rules
}

// lowerASCII returns s with its ASCII letters in lower case: no others are compared
// without regard to case.
func lowerASCII(s string) string {
	return strings.Map(func(c rune) rune {
		if 'A' <= c && c <= 'Z' {
			return c + 'a' - 'A'
		}
		return c
	}, s)
}

// The words for how output tokens are counted.
const (
	produced = "produced"
	reserved = "reserved"
)

func accounting(reservesMax bool) string {
	if reservesMax {
		return reserved
	}
	return produced
}
