package limitertest

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/weir-project/weir/limiter"
)

// Charge is one limit that a request concerns, as the model sees it.
type Charge struct {
	// Descriptor is the ordinal of the descriptor that led here, -1 for attributes.
	Descriptor int
	// Counter names the counter; equal names are the same counter.
	Counter string
	// Owner is the rule's or quota's name.
	Owner string
	// Limit is the limit as configured.
	Limit limiter.LimitSpec
	// Amount is how much is asked for.
	Amount uint64
	// Refund takes Amount off instead.
	Refund bool
	// Stated says that who asks chose Amount, see [limiter.Hits]. Rule names the limit, of
	// whatever key: where one key was a budget, those of which nothing is known are, too.
	Stated bool
	Rule   string
	// Shadow limits never refuse, and Soft ones only together.
	Shadow, Soft bool
	// Settled says that a report replaces Amount by what was used.
	Settled bool
}

// MatchDescriptor returns what the rules of domain in spec say about a descriptor. It
// is the slow twin of [limiter.Plan.MatchDescriptor].
func MatchDescriptor(spec limiter.Spec, domain string, ordinal int, entries []limiter.Entry, hits limiter.Hits) (limiter.Match, []Charge) {
	d := domainOf(spec, domain)
	if d == nil {
		return limiter.NoDomain, nil
	}
	if hits.Override.Window != 0 {
		return limiter.Matched, []Charge{overridden(d, ordinal, entries, hits)}
	}
	t := descend(d, entries)
	switch {
	case t.node == nil:
		return limiter.NoRule, nil
	case t.node.Unlimited:
		return limiter.UnlimitedRule, nil
	}
	owner := t.node.Name
	if owner == "" {
		owner = strings.Join(t.path, ",")
	}
	var charges []Charge
	for _, l := range t.node.Limits {
		if l.Meter != limiter.Requests {
			continue // hits are requests
		}
		apart := t.fields
		if l.Fixed {
			apart = t.whole
		}
		charges = append(charges, Charge{
			Descriptor: ordinal, Counter: counterOf(l, apart), Owner: owner, Limit: l,
			Amount: hits.Amount, Refund: hits.Refund, Shadow: t.node.Shadow, Soft: t.node.Soft,
			Stated: hits.Stated, Rule: counterOf(l, t.rule),
		})
	}
	if charges == nil {
		return limiter.NoRule, nil
	}
	return limiter.Matched, charges
}

// trail is the way of a descriptor down the rules of a domain.
type trail struct {
	node *limiter.RuleSpec // where it ends; nil if it leads nowhere
	path []string          // keys and values of the rules, for people
	// fields tell counters apart, whole those of fixed windows, and rule only the limits.
	fields, whole, rule []string
}

// descend follows entries down the rules of d.
func descend(d *limiter.DomainSpec, entries []limiter.Entry) trail {
	t := trail{fields: []string{"rule", d.Name}, whole: []string{"whole", d.Name}, rule: []string{"rule", d.Name}}
	level := d.Rules
	for _, e := range entries {
		i := choose(level, e)
		if i < 0 {
			t.node = nil
			return t
		}
		t.node = &level[i]
		value := e.Value
		if t.node.ShareValues {
			if value = t.node.Value; t.node.KeyPattern {
				value = textOf(*t.node)
			}
		}
		t.fields = append(t.fields, strconv.Itoa(i), e.Key, value)
		t.rule = append(t.rule, strconv.Itoa(i))
		t.whole = append(t.whole, e.Key, value)
		name := t.node.Key
		if t.node.Value != "" {
			name += "=" + t.node.Value
		}
		t.path = append(t.path, name)
		level = t.node.Rules
	}
	return t
}

// overridden returns the charge for a descriptor that brings its own limit: it is
// counted by domain, window and the whole descriptor, whatever rules there are.
func overridden(d *limiter.DomainSpec, ordinal int, entries []limiter.Entry, hits limiter.Hits) Charge {
	l := limiter.LimitSpec{Meter: limiter.Requests, Amount: hits.Override.Amount, Window: hits.Override.Window, Fixed: d.Fixed}
	fields := []string{"override", d.Name}
	if d.Fixed {
		fields[0] = "whole"
	}
	for _, e := range entries {
		fields = append(fields, e.Key, e.Value)
	}
	return Charge{
		Descriptor: ordinal, Counter: counterOf(l, fields), Owner: d.Name, Limit: l,
		Amount: hits.Amount, Refund: hits.Refund,
		Stated: hits.Stated, Rule: counterOf(l, []string{"override", d.Name}),
	}
}

// MatchQuotas returns the limits of the quotas in spec that attrs belong to, with
// amounts from use. It is the slow twin of [limiter.Plan.MatchAttributes] for an exact
// estimate and a domain without rules.
func MatchQuotas(spec limiter.Spec, ordinal int, attrs []limiter.Entry, use limiter.Usage) []Charge {
	var charges []Charge
	for _, q := range inOrder(spec.Quotas) {
		if !quotaMatches(q, attrs) {
			continue
		}
		fields := []string{"quota", q.Name}
		per := q.Per
		if per == nil {
			per = []string{"org"}
		}
		for _, k := range per {
			fields = append(fields, attribute(attrs, k))
		}
		for _, l := range q.Limits {
			charges = append(charges, Charge{
				Descriptor: ordinal, Counter: counterOf(l, fields), Owner: q.Name, Limit: l,
				Amount: use.Of(l.Meter), Settled: true,
			})
		}
	}
	return charges
}

// inOrder returns the quotas as they are matched: first those of one org.
func inOrder(quotas []limiter.QuotaSpec) []limiter.QuotaSpec {
	ofOneOrg := func(q limiter.QuotaSpec) bool {
		for _, m := range q.Match {
			if m.Key == "org" && m.Pattern != "" && !strings.Contains(m.Pattern, "*") {
				return true
			}
		}
		return false
	}
	var one, any []limiter.QuotaSpec
	for _, q := range quotas {
		if ofOneOrg(q) {
			one = append(one, q)
		} else {
			any = append(any, q)
		}
	}
	return append(one, any...)
}

func domainOf(spec limiter.Spec, name string) *limiter.DomainSpec {
	for i := range spec.Domains {
		if spec.Domains[i].Name == name {
			return &spec.Domains[i]
		}
	}
	return nil
}

// choose returns the index of the rule that e descends to: exact, then the first
// pattern, then the key alone; -1 if none.
func choose(rules []limiter.RuleSpec, e limiter.Entry) int {
	for i, r := range rules {
		if r.Key == e.Key && r.Value == e.Value && r.Value != "" {
			return i
		}
	}
	for i, r := range rules {
		if r.KeyPattern && glob(textOf(r), e.Key+"_"+e.Value) {
			return i
		}
		if !r.KeyPattern && r.Key == e.Key && strings.Contains(r.Value, "*") && glob(r.Value, e.Value) {
			return i
		}
	}
	for i, r := range rules {
		if r.Key == e.Key && r.Value == "" {
			return i
		}
	}
	return -1
}

// textOf is what a rule with a pattern as key is matched by.
func textOf(r limiter.RuleSpec) string {
	if r.Value == "" {
		return r.Key
	}
	return r.Key + "_" + r.Value
}

// DropReplaced leaves out what rules that were matched replace.
func DropReplaced(charges []Charge, names []string) []Charge {
	return slices.DeleteFunc(charges, func(c Charge) bool {
		return !c.Settled && c.Limit.Name != "" && slices.Contains(names, c.Limit.Name)
	})
}

// Replaced returns the names of the limits that whoever the entries lead to is not
// charged to.
func Replaced(spec limiter.Spec, domain string, entries []limiter.Entry) []string {
	d := domainOf(spec, domain)
	if d == nil {
		return nil
	}
	level := d.Rules
	var node *limiter.RuleSpec
	for _, e := range entries {
		i := choose(level, e)
		if i < 0 {
			return nil
		}
		node, level = &level[i], level[i].Rules
	}
	if node == nil || len(node.Limits) == 0 && !node.Unlimited {
		return nil
	}
	return node.Replaces
}

func quotaMatches(q limiter.QuotaSpec, attrs []limiter.Entry) bool {
	for _, m := range q.Match {
		present := false
		for _, a := range attrs {
			present = present || a.Key == m.Key
		}
		if !present && m.Pattern != "*" || present && !glob(m.Pattern, attribute(attrs, m.Key)) {
			return false
		}
	}
	for _, m := range q.Except {
		for _, a := range attrs {
			if a.Key == m.Key {
				if glob(m.Pattern, a.Value) {
					return false
				}
				break
			}
		}
	}
	return true
}

func attribute(attrs []limiter.Entry, key string) string {
	for _, a := range attrs {
		if a.Key == key {
			return a.Value
		}
	}
	return ""
}

// glob says whether text matches pattern, in which each * is any number of bytes.
func glob(pattern, text string) bool {
	if pattern == "" {
		return text == ""
	}
	if pattern[0] == '*' {
		for i := 0; i <= len(text); i++ {
			if glob(pattern[1:], text[i:]) {
				return true
			}
		}
		return false
	}
	return text != "" && pattern[0] == text[0] && glob(pattern[1:], text[1:])
}

// counterOf names the counter of a limit, so that no two lists of fields have the same
// name: each is quoted.
func counterOf(l limiter.LimitSpec, fields []string) string {
	return fmt.Sprintf("%q %v %v", fields, l.Meter, l.Window)
}
