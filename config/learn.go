package config

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/weir-project/weir/limiter"
	configv1 "github.com/weir-project/weir/proto/weir/config/v1"
)

// learns says whether the limits of a provider's quotas are learned where the
// configuration does not say: its answers tell what was refused, and why.
func learns(provider string) bool { return provider != "generic" }

// control translates how the limits of the quota at n are kept.
func (f *native) control(spec *limiter.QuotaSpec, q *configv1.Quota, n *yaml.Node) {
	spec.Learn = learns(spec.Provider)
	if q.Control != nil {
		spec.Learn = q.GetControl() == "learn"
	}
	if q.GetLimitMode() == "hint" {
		spec.Mode = limiter.HintLimits
	}
	at := child(n, "limit_mode")
	if at == nil || spec.Learn || f.bad[child(n, "control")] || f.bad[child(n, "provider")] {
		return
	}
	f.complain(at, "limit_mode where the limits are fixed, expected control: learn")
}

// tenants translates the terms of a quota's tenants.
func (f *native) tenants(spec *limiter.QuotaSpec, t *configv1.Tenants, n *yaml.Node) {
	if n == nil || t == nil {
		return
	}
	if d := t.GetDefault(); d != nil {
		spec.DefaultTenant = f.terms(d, child(n, "default"))
	}
	named := child(n, "named")
	floors := 0.0
	for _, name := range slices.Sorted(maps.Keys(t.GetNamed())) {
		if spec.Tenants == nil {
			spec.Tenants = make(map[string]limiter.TenantSpec, len(t.GetNamed()))
		}
		terms := f.terms(t.GetNamed()[name], child(named, name))
		spec.Tenants[name] = terms
		floors += terms.Floor
	}
	if floors > 1+1e-9 {
		f.complain(named, "the floors are %s together, expected at most 100%%", strconv.FormatFloat(floors*100, 'f', -1, 64)+"%")
	}
}

// terms translates the terms at n.
func (f *native) terms(t *configv1.TenantTerms, n *yaml.Node) limiter.TenantSpec {
	s := limiter.TenantSpec{
		Weight: 1, Priority: limiter.Interactive,
		Floor:   f.share(t.GetFloor(), "floor", child(n, "floor")),
		Ceiling: f.share(t.GetCeiling(), "ceiling", child(n, "ceiling")),
	}
	if t.GetWeight() > 0 {
		s.Weight = float64(t.GetWeight())
	}
	if p, ok := ParsePriority(t.GetPriority()); ok {
		s.Priority = p
	}
	switch at := child(n, "ceiling"); {
	case t.Ceiling != nil && s.Ceiling == 0:
		f.complain(at, "ceiling is %s, expected more than 0%%; to keep a tenant out, give it a rule with amount: 0", quoteShort(t.GetCeiling()))
	case s.Ceiling > 0 && s.Floor > s.Ceiling:
		f.complain(at, "ceiling is %s, which is below the floor, expected at least %s", shorten(t.GetCeiling()), shorten(t.GetFloor()))
	}
	return s
}

// share reads a part of a whole, from 0 to 1. What does not look like one broke a rule
// of the .proto and was reported.
func (f *native) share(s, field string, n *yaml.Node) float64 {
	digits, percent := strings.CutSuffix(s, "%")
	v, err := strconv.ParseFloat(digits, 64)
	if err != nil || n == nil || f.bad[n] {
		return 0
	}
	if percent {
		v /= 100
	}
	if v > 1 {
		f.complain(n, "%s is %s, expected at most 100%%", field, shorten(s))
		return 0
	}
	return v
}

// ParsePriority returns the priority of that name: interactive, default or batch. It is
// false for any other.
func ParsePriority(name string) (limiter.Priority, bool) {
	switch name {
	case "interactive":
		return limiter.Interactive, true
	case "default":
		return limiter.Standard, true
	case "batch":
		return limiter.Batch, true
	}
	return limiter.PriorityUnset, false
}
