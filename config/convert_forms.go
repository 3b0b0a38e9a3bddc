package config

import (
	"fmt"
	"slices"
	"strings"

	"github.com/weir-project/weir/limiter"
	configv1 "github.com/weir-project/weir/proto/weir/config/v1"
)

// maxMeters is how many limits a rule can have.
const maxMeters = 16

// everything is the entry of descriptors for limits that apply to all of a namespace:
// Envoy's generic_key by its default name.
const everything = "generic_key"

// forms writes the rules of limits, one namespace after the other.
func (c *converter) forms(limits []foreignLimit) {
	ranks := c.ranks(limits)
	var namespaces []string
	of := map[string][]*foreignLimit{}
	forms, same := map[string]bool{}, map[string]place{}
	for i := range limits {
		l := &limits[i]
		form, ok := c.arrange(l, ranks[l.namespace])
		if !ok {
			continue
		}
		if !forms[form] {
			forms[form] = true
			c.noteForm(l)
		}
		id := l.identity()
		if twin, ok := same[id]; ok {
			c.note(l.at, "the same limit is at %s; Limitador keeps one of them, and here the lower one is", twin)
		} else {
			same[id] = l.at
		}
		if of[l.namespace] == nil {
			namespaces = append(namespaces, l.namespace)
		}
		of[l.namespace] = append(of[l.namespace], l)
	}
	for _, n := range namespaces {
		c.rulesOf(nil, of[n])
	}
}

// arrange puts the entries of a limit into the order of its namespace, and returns the form
// of descriptors that it applies to; ok is false if it has none, which is noted.
func (c *converter) arrange(l *foreignLimit, rank map[string]int) (form string, ok bool) {
	if len(l.entries) == 0 {
		if _, taken := rank[everything]; taken {
			c.note(l.at, "left out: it has neither conditions nor variables, and the key %s, which would stand for that, is one of others", everything)
			return "", false
		}
		l.whole, l.entries = true, []foreignEntry{{everything, l.namespace, true}}
	}
	slices.SortFunc(l.entries, func(a, b foreignEntry) int { return rank[a.key] - rank[b.key] })
	form = l.namespace
	for _, e := range l.entries {
		form += "\x00" + e.key
	}
	return form, true
}

// ranks says, by namespace, in which order keys came up first: that is their order in
// descriptors.
func (c *converter) ranks(limits []foreignLimit) map[string]map[string]int {
	ranks := map[string]map[string]int{}
	for i := range limits {
		l := &limits[i]
		rank := ranks[l.namespace]
		if rank == nil {
			rank = map[string]int{}
			ranks[l.namespace] = rank
			c.noteLLM(place{l.at.doc, child(l.at.node, "namespace")}, l.namespace)
		}
		for _, e := range l.entries {
			if _, ok := rank[e.key]; !ok {
				rank[e.key] = len(rank)
			}
		}
	}
	return ranks
}

// identity is the same for limits that differ in nothing but their amounts and names.
func (l *foreignLimit) identity() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%q %s", l.namespace, l.spec.Window)
	for _, e := range l.entries {
		fmt.Fprintf(&b, " %q=%q %t", e.key, e.value, e.exact)
	}
	return b.String()
}

// noteForm says what the proxy is to send for a limit, and for those alike.
func (c *converter) noteForm(l *foreignLimit) {
	if l.whole {
		c.note(l.at, "it applies to every request of its namespace there, and here to descriptors that are exactly %s=%s: "+
			"have the proxy send one with each request", everything, l.namespace)
		return
	}
	var keys []string
	for _, e := range l.entries {
		keys = append(keys, e.key)
	}
	c.note(l.at, "it applies to every descriptor with these entries there, and here to those that have exactly them, in this order: %s; "+
		"have the proxy send such a descriptor with each request", shorten(strings.Join(keys, ", ")))
}

// rulesOf writes the rules that begin with match. limits are those that begin so, too, or
// with any value where match has one: since a descriptor takes the rule with its own value
// before the one with any, and does not come back, these are repeated below each value.
// Their counters are apart by that value anyway.
func (c *converter) rulesOf(match []*configv1.Match, limits []*foreignLimit) {
	if c.full(limits[0].at) {
		return
	}
	at := len(match)
	var ends []*foreignLimit
	var keys []string
	below := map[string][]*foreignLimit{}
	for _, l := range limits {
		if len(l.entries) == at {
			ends = append(ends, l)
			continue
		}
		key := l.entries[at].key
		if below[key] == nil {
			keys = append(keys, key)
		}
		below[key] = append(below[key], l)
	}
	if len(ends) > 0 {
		c.limitsRule(match, ends)
	}
	for _, key := range keys {
		c.rulesOfKey(match, key, below[key])
	}
}

// rulesOfKey writes the rules that go on with a key, each of its values first.
func (c *converter) rulesOfKey(match []*configv1.Match, key string, limits []*foreignLimit) {
	at := len(match)
	var values []string
	var rest []*foreignLimit
	seen := map[string]bool{}
	for _, l := range limits {
		switch e := l.entries[at]; {
		case !e.exact:
			rest = append(rest, l)
		case !seen[e.value]:
			seen[e.value] = true
			values = append(values, e.value)
		}
	}
	for _, v := range values {
		var some []*foreignLimit
		for _, l := range limits {
			if e := l.entries[at]; !e.exact || e.value == v {
				some = append(some, l)
			}
		}
		c.rulesOf(append(slices.Clip(match), &configv1.Match{Key: &key, Value: new(v)}), some)
	}
	if len(rest) > 0 {
		c.rulesOf(append(slices.Clip(match), &configv1.Match{Key: &key}), rest)
	}
}

// limitsRule writes the rule at which descriptors end that limits apply to. Of two limits
// over the same time the lower one is what matters.
func (c *converter) limitsRule(match []*configv1.Match, limits []*foreignLimit) {
	var specs []limiter.LimitSpec
	var from []place
	for _, l := range limits {
		if len(from) < maxPlaces {
			from = append(from, l.at)
		}
		i := slices.IndexFunc(specs, func(s limiter.LimitSpec) bool { return s.Window == l.spec.Window })
		switch {
		case i >= 0 && l.spec.Amount < specs[i].Amount:
			specs[i] = l.spec
		case i >= 0:
		case len(specs) == maxMeters:
			c.note(l.at, "left out where it meets %d others: a rule has at most %d limits", maxMeters, maxMeters)
		default:
			specs = append(specs, l.spec)
		}
	}
	c.rule(&configv1.Rule{Domain: &limits[0].namespace, Match: match, Limits: ruleLimitsOf(specs)}, from)
}
