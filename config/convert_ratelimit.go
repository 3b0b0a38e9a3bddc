package config

import (
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/weir-project/weir/limiter"
	configv1 "github.com/weir-project/weir/proto/weir/config/v1"
)

// ratelimit converts files of envoyproxy/ratelimit. They are read as ever, so that the rules
// are those of the plan that weir would serve, and mistakes are told in the same words.
func (c *converter) ratelimit(docs []*document) {
	b := newBuilder(c.report)
	b.mergeDomains = true // some are served so, and to others it makes no difference
	for _, d := range docs {
		readRatelimit(d, b)
	}
	if c.report.failed() {
		return
	}
	for _, d := range docs {
		(&noter{c: c, doc: d}).root()
	}
	for _, d := range b.domains {
		if len(d.name) > maxWord {
			continue
		}
		for _, n := range d.root.children {
			c.rulesBelow(d.name, nil, n)
		}
	}
}

// rulesBelow writes the rules of a node and of those below it, in the order in which they
// match. above is the match of its parent.
func (c *converter) rulesBelow(domain string, above []*configv1.Match, n *ruleNode) {
	s := &n.spec
	if unsayable(s) != "" {
		return
	}
	m := &configv1.Match{Key: &s.Key}
	if s.Value != "" {
		m.Value = &s.Value
	}
	if s.ShareValues {
		m.ShareValues = &s.ShareValues
	}
	match := append(slices.Clip(above), m)
	leaf := !slices.ContainsFunc(n.children, func(c *ruleNode) bool { return unsayable(&c.spec) == "" })
	if leaf || n.rule != nil {
		c.ratelimitRule(domain, match, n)
	}
	for _, below := range n.children {
		if c.report.failed() {
			return
		}
		c.rulesBelow(domain, match, below)
	}
}

// unsayable says why a node cannot be kept, with all that is below it; empty if it can.
func unsayable(s *limiter.RuleSpec) string {
	switch {
	case isPattern(s.Key):
		return "a key that is a pattern; write a rule for each key that it stands for"
	case len(s.Key) > maxWord:
		return "a key has at most 256 bytes"
	case len(s.Value) > maxWord:
		return "a value has at most 256 bytes"
	}
	return ""
}

// ratelimitRule writes the rule of a node. One without a limit admits what ends there, and
// keeps it from others: as an unlimited rule does.
func (c *converter) ratelimitRule(domain string, match []*configv1.Match, n *ruleNode) {
	at := n.first
	r := &configv1.Rule{Domain: &domain, Match: match}
	if n.rule != nil {
		at = *n.rule
	}
	if v := DefaultVocabulary(); v.IsLLM(domain) && hasTwice(match) {
		c.note(at, "left out: a rule of an LLM domain has each key once")
		return
	}
	r.Limits = ruleLimitsOf(n.spec.Limits)
	if n.spec.Shadow {
		r.Shadow = new(true)
	}
	if len(r.Limits) == 0 {
		r.Unlimited = new(true)
	}
	if v := DefaultVocabulary(); !v.IsLLM(domain) {
		if n.spec.Soft {
			r.Soft = new(true)
		}
		r.Replaces = c.replaces(at, n.spec.Replaces)
	}
	c.rule(r, []place{at})
}

// replaces returns the names in a rule's replaces that can be kept.
func (c *converter) replaces(at place, names []string) (kept []string) {
	for _, name := range names {
		switch {
		case len(name) > maxShown:
			c.note(at, "a name in replaces is left out: a name has at most %d bytes", maxShown)
		case len(kept) == maxReplaces:
			c.note(at, "names in replaces are left out: there are at most %d", maxReplaces)
			return kept
		case !slices.Contains(kept, name):
			kept = append(kept, name)
		}
	}
	return kept
}

// maxReplaces is how many names a rule can have in replaces.
const maxReplaces = 32

// ruleLimitsOf are limits on requests in the words of a file.
func ruleLimitsOf(specs []limiter.LimitSpec) []*configv1.Limit {
	var limits []*configv1.Limit
	for _, l := range specs {
		limit := &configv1.Limit{Amount: &l.Amount, Per: new(lengthOf(l.Window))}
		if l.Name != "" && len(l.Name) <= maxShown {
			limit.Name = &l.Name
		}
		limits = append(limits, limit)
	}
	return limits
}

func hasTwice(match []*configv1.Match) bool {
	seen := map[string]bool{}
	for _, m := range match {
		if seen[m.GetKey()] {
			return true
		}
		seen[m.GetKey()] = true
	}
	return false
}

// noter notes what weir's own files cannot say of a valid file of envoyproxy/ratelimit.
type noter struct {
	c     *converter
	doc   *document
	timed bool // the note on windows is made
	llm   bool // the domain is one of LLM calls
}

func (f *noter) note(n *yaml.Node, format string, args ...any) {
	f.c.note(place{f.doc, n}, format, args...)
}

func (f *noter) root() {
	root := f.doc.root
	f.misplaced(root, "domain", "descriptors")
	domain := child(root, "domain")
	f.c.noteLLM(place{f.doc, domain}, domain.Value)
	v := DefaultVocabulary()
	f.llm = v.IsLLM(domain.Value)
	if len(domain.Value) > maxWord {
		f.note(domain, "left out, with all its limits: a domain has at most %d bytes", maxWord)
		return
	}
	f.descriptors(root)
}

// misplaced notes words of such files in places where they mean nothing.
func (f *noter) misplaced(n *yaml.Node, known ...string) {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if k := n.Content[i]; !slices.Contains(known, k.Value) {
			f.note(k, "%s means nothing in this place, there and here, and is left out", k.Value)
		}
	}
}

func (f *noter) descriptors(n *yaml.Node) {
	list := child(n, "descriptors")
	if list == nil {
		return
	}
	for _, d := range list.Content {
		s := &limiter.RuleSpec{Key: child(d, "key").Value}
		if v := child(d, "value"); v != nil {
			s.Value = v.Value
		}
		if why := unsayable(s); why != "" {
			at := child(d, "key")
			if len(s.Value) > maxWord {
				at = child(d, "value")
			}
			f.note(at, "left out, with all that is below it: %s", why)
			continue
		}
		f.descriptor(d)
		f.descriptors(d)
	}
}

func (f *noter) descriptor(d *yaml.Node) {
	f.misplaced(d, "key", "value", "rate_limit", "descriptors", "shadow_mode", "quota_mode", "detailed_metric",
		"value_to_metric", "share_threshold", "metadata")
	for _, word := range []string{"detailed_metric", "value_to_metric"} {
		if saysYes(d, word) {
			f.note(keyNode(d, word), "%s is left out: rules of weir's own do not name metrics", word)
		}
	}
	if m := child(d, "metadata"); m != nil && len(m.Content) > 0 {
		f.note(keyNode(d, "metadata"), "metadata is left out: rules of weir's own return none")
	}
	if l := child(d, "rate_limit"); l != nil && !isNull(l) {
		f.rateLimit(d, l)
		return
	}
	for _, word := range []string{"shadow_mode", "quota_mode"} {
		if saysYes(d, word) {
			f.note(keyNode(d, word), "%s means nothing without rate_limit, there and here, and is left out", word)
		}
	}
}

func (f *noter) rateLimit(d, l *yaml.Node) {
	f.misplaced(l, "unit", "requests_per_unit", "unlimited", "name", "replaces")
	if r := child(l, "replaces"); f.llm && r != nil && len(r.Content) > 0 {
		f.note(keyNode(l, "replaces"), "replaces is left out: rules of an LLM domain have none")
	}
	if f.llm && saysYes(d, "quota_mode") {
		f.note(keyNode(d, "quota_mode"), "quota_mode is left out: rules of an LLM domain have none")
	}
	unlimited := saysYes(l, "unlimited")
	if n := child(l, "name"); n != nil && !isNull(n) && n.Value != "" {
		switch {
		case unlimited:
			f.note(keyNode(l, "name"), "the name is left out: what is unlimited shows no limit")
		case len(n.Value) > maxShown:
			f.note(n, "the name is left out: a name has at most %d bytes", maxShown)
		}
	}
	if !unlimited && !f.timed {
		f.timed = true
		f.note(l, "this limit and those below hold there from one turn of the clock's minute, hour or day to the next, and what they refuse "+
			"counts; here they hold in any interval of that length, and what is refused does not count")
	}
}

// saysYes says whether a key is there and true.
func saysYes(n *yaml.Node, key string) bool {
	v := child(n, key)
	return v != nil && v.Kind == yaml.ScalarNode && slices.Contains([]string{"true", "yes", "on", "y"}, strings.ToLower(v.Value))
}
