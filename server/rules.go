package server

import (
	"strings"

	"github.com/weir-project/weir/limiter"
)

// rulePath is a rule with those above it, outermost first.
type rulePath []*limiter.RuleSpec

// rule is the rule itself.
func (p rulePath) rule() *limiter.RuleSpec { return p[len(p)-1] }

// name is the name by which the rule's limits call their owner: the rule's own, or
// else its path.
func (p rulePath) name() string {
	if name := p.rule().Name; name != "" {
		return name
	}
	return strings.Join(p.match(), ",")
}

// match says what leads to the rule, one `key` or `key=value` for each entry.
func (p rulePath) match() []string {
	out := make([]string, len(p))
	for i, r := range p {
		out[i] = r.Key
		if r.Value != "" {
			out[i] += "=" + r.Value
		}
	}
	return out
}

// eachRule calls f for every rule of d that decides something, in the order of the
// configuration. The path is valid during the call only.
func eachRule(d *limiter.DomainSpec, f func(rulePath)) { walkRules(nil, d.Rules, f) }

func walkRules(above rulePath, rules []limiter.RuleSpec, f func(rulePath)) {
	for i := range rules {
		r := &rules[i]
		at := append(above, r)
		if len(r.Limits) > 0 || r.Unlimited {
			f(at)
		}
		walkRules(at, r.Rules, f)
	}
}
