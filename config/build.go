package config

import (
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/weir-project/weir/limiter"
	configv1 "github.com/weir-project/weir/proto/weir/config/v1"
	"github.com/weir-project/weir/provider"
)

// place is where something was defined.
type place struct {
	doc  *document
	node *yaml.Node
}

func (p place) String() string {
	if p.doc.from != nil {
		return strings.TrimSuffix(p.doc.path+" "+p.doc.from.field(p.node.Line, p.node.Column), " ")
	}
	return fmt.Sprintf("%s:%d:%d", p.doc.path, p.node.Line, p.node.Column)
}

// builder puts the contents of all files together.
type builder struct {
	report     *report
	vocabulary Vocabulary
	llm        *place // the llm block, if there is one
	trust      *place // the trust block, if there is one
	gateways   []string
	server     *place // the server block, if there is one
	settings   []Setting
	quotas     []limiter.QuotaSpec
	names      map[string]place // of quotas and rules
	providers  map[string]*provider.Profile
	words      []*configv1.Provider // what the files say of providers
	described  map[string]place     // the names of providers
	domains    []*domainTree
	byName     map[string]*domainTree
	rules      int

	mergeDomains, strict bool // see Options
}

func newBuilder(r *report) *builder {
	return &builder{report: r, vocabulary: DefaultVocabulary(), names: map[string]place{}, described: map[string]place{}, byName: map[string]*domainTree{}}
}

// domainTree is a domain as it grows.
type domainTree struct {
	name string
	root ruleNode
	// ratelimit is where a file of envoyproxy/ratelimit defined the domain: only one
	// may, unless domains are merged.
	ratelimit *place
}

// ruleNode is a node of a domain's tree of rules.
type ruleNode struct {
	spec  limiter.RuleSpec // without Rules
	first place            // where the node came up first
	// ratelimit says that a file of envoyproxy/ratelimit has it: the next descriptor
	// alike in such a file is a duplicate.
	ratelimit bool
	rule      *place // the rule that ends here, if one does
	children  []*ruleNode
	index     map[limiter.Entry]*ruleNode
	// texts are the children by key, underscore and value, which envoyproxy/ratelimit
	// tells them by; only of its files, and if they are read as strictly as there.
	texts map[string]*ruleNode
}

// domain returns the domain of that name, new if need be.
func (b *builder) domain(name string) *domainTree {
	d := b.byName[name]
	if d == nil {
		d = &domainTree{name: name}
		b.byName[name] = d
		b.domains = append(b.domains, d)
	}
	return d
}

// child returns the node below n with that key and value, new if need be.
func (n *ruleNode) child(key, value string, at place) (c *ruleNode, isNew bool) {
	e := limiter.Entry{Key: key, Value: value}
	if c := n.index[e]; c != nil {
		return c, false
	}
	if n.index == nil {
		n.index = map[limiter.Entry]*ruleNode{}
	}
	c = &ruleNode{spec: limiter.RuleSpec{Key: key, Value: value}, first: at}
	n.index[e] = c
	n.children = append(n.children, c)
	return c, true
}

// sameText returns the child that has another key and value with the same text, nil if
// there is none, and notes that c has this text.
func (n *ruleNode) sameText(text string, c *ruleNode) *ruleNode {
	if n.texts == nil {
		n.texts = map[string]*ruleNode{}
	}
	other := n.texts[text]
	if other == c {
		return nil
	}
	n.texts[text] = c
	return other
}

// countRule counts a rule, and reports the first one that is too many.
func (b *builder) countRule(at place) {
	b.report.beside.giveWay(b.rules)
	if b.rules++; b.rules == MaxRules+1 {
		b.report.at(at.doc, at.node, "too many rules, expected at most %d in all files", MaxRules)
	}
}

// takeName notes the name of a quota or rule, and reports one that is taken.
func (b *builder) takeName(name string, at place) {
	if other, ok := b.names[name]; ok {
		b.report.at(at.doc, at.node, "the name %s is used twice, expected each quota and rule to have its own; also at %s",
			quoteShort(name), other)
		return
	}
	b.names[name] = at
}

// ratelimit returns the domains of files of envoyproxy/ratelimit.
func (b *builder) ratelimit() map[string]bool {
	var names map[string]bool
	for _, d := range b.domains {
		if d.ratelimit != nil {
			if names == nil {
				names = map[string]bool{}
			}
			names[d.name] = true
		}
	}
	return names
}

// spec returns what was built.
func (b *builder) spec() limiter.Spec {
	s := limiter.Spec{Quotas: b.quotas}
	for _, d := range b.domains {
		s.Domains = append(s.Domains, limiter.DomainSpec{Name: d.name, Rules: rulesOf(&d.root), Fixed: b.strict && d.ratelimit != nil})
	}
	return s
}

func rulesOf(n *ruleNode) []limiter.RuleSpec {
	if len(n.children) == 0 {
		return nil
	}
	rules := make([]limiter.RuleSpec, 0, len(n.children))
	for _, c := range n.children {
		r := c.spec
		r.Rules = rulesOf(c)
		rules = append(rules, r)
	}
	return rules
}

// isPattern says whether a value is a pattern.
func isPattern(value string) bool { return strings.Contains(value, "*") }
