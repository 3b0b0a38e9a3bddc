package config

import (
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/weir-project/weir/limiter"
)

// A file of envoyproxy/ratelimit is read as it is. What it refuses is refused here
// in the same words, with the place and what was expected added. Where it looks away
// (keys given twice, later documents), the file is refused. Where it takes two keys for
// one (a_b, and a with the value b), they are two.

// ratelimitKeys are the words of such files. A word in a place where it means
// nothing is accepted there and ignored here.
var ratelimitKeys = []string{
	"domain", "descriptors", "key", "value", "rate_limit", "unit", "requests_per_unit", "unlimited", "name",
	"replaces", "shadow_mode", "quota_mode", "detailed_metric", "value_to_metric", "share_threshold", "metadata",
}

// ratelimitUnits are the windows of limits.
var ratelimitUnits = map[string]time.Duration{
	"second": time.Second,
	"minute": time.Minute,
	"hour":   time.Hour,
	"day":    24 * time.Hour,
	"week":   7 * 24 * time.Hour,
	"month":  30 * 24 * time.Hour,
	"year":   365 * 24 * time.Hour,
}

const expectedUnits = "one of second, minute, hour, day, week, month, year"

// ratelimitFile is a file of envoyproxy/ratelimit.
type ratelimitFile struct {
	doc    *document
	report *report
	build  *builder
	domain string
	llm    bool // its domain is that of LLM calls
}

// isRatelimit says whether a document is a file of envoyproxy/ratelimit.
func isRatelimit(d *document) bool {
	return keyNode(d.root, "domain") != nil || keyNode(d.root, "descriptors") != nil
}

// readRatelimit adds the rules of a document to b.
func readRatelimit(d *document, b *builder) {
	f := &ratelimitFile{doc: d, report: b.report, build: b}
	f.keys(d.root, "domain, descriptors")
	name, ok := f.text(d.root, "domain")
	if !ok {
		return
	}
	at := place{d, d.root}
	if n := child(d.root, "domain"); n != nil {
		at.node = n
	}
	if name == "" {
		f.report.at(d, at.node, "config file cannot have empty domain, expected the domain that requests name")
		return
	}
	domain := b.domain(name)
	if domain.ratelimit != nil && !b.mergeDomains {
		f.report.at(d, at.node, "duplicate domain '%s' in config file, expected each domain in one file; also at %s",
			shorten(name), domain.ratelimit)
		return
	}
	domain.ratelimit = &at
	f.domain, f.llm = name, b.vocabulary.IsLLM(name)
	f.descriptors(d.root, &domain.root, nil)
}

// descriptors adds the descriptors of a mapping below a node, to which above leads.
func (f *ratelimitFile) descriptors(n *yaml.Node, parent *ruleNode, above *ratelimitLevel) {
	list := child(n, "descriptors")
	switch {
	case list == nil || isNull(list):
		return
	case list.Kind != yaml.SequenceNode:
		f.wrongType(list, "[]config.YamlDescriptor", "descriptors", "a list")
		return
	case above.deep() >= MaxDepth:
		f.report.at(f.doc, list, "descriptors are nested too deep, expected at most %d levels", MaxDepth)
		return
	}
	for _, c := range list.Content {
		if c.Kind != yaml.MappingNode {
			f.report.at(f.doc, c, "config error, yaml file contains list of type other than map: %s, expected a mapping with key", shownAs(c))
			continue
		}
		f.descriptor(c, parent, above)
	}
}

// descriptor adds one descriptor and what is below it.
func (f *ratelimitFile) descriptor(n *yaml.Node, parent *ruleNode, above *ratelimitLevel) {
	f.keys(n, "key, value, rate_limit, descriptors, shadow_mode, quota_mode, detailed_metric, value_to_metric, share_threshold, metadata")
	key, keyOK := f.text(n, "key")
	value, valueOK := f.text(n, "value")
	if !keyOK || !valueOK {
		return
	}
	if key == "" {
		f.report.at(f.doc, n, "descriptor has empty key, expected the key of an entry")
		return
	}
	level := &ratelimitLevel{above: above, depth: above.deep() + 1, key: key, value: value, valueToMetric: f.flag(n, "value_to_metric")}
	if isPattern(key) || isPattern(value) {
		level.pattern = level.text()
	}
	level.share = f.share(n, level)
	level.shares = level.share || above != nil && above.shares
	node := f.node(n, parent, level)
	if node == nil {
		return
	}
	if f.build.strict {
		if other := parent.sameText(level.text(), node); other != nil {
			f.duplicate(n, level, "texts of key and value that differ", other.first)
			return
		}
	}
	f.fill(n, node, level)
	f.descriptors(n, node, level)
}

// duplicate reports a descriptor that is there already.
func (f *ratelimitFile) duplicate(n *yaml.Node, level *ratelimitLevel, expected string, other place) {
	f.report.at(f.doc, n, "duplicate descriptor composite key '%s', expected %s; also at %s", shorten(level.path(f.domain)), expected, other)
}

// node returns the node of a descriptor below parent; nil if there is none to be had.
func (f *ratelimitFile) node(n *yaml.Node, parent *ruleNode, level *ratelimitLevel) *ruleNode {
	at := place{f.doc, n}
	if isPattern(level.key) && f.llm {
		f.report.at(f.doc, child(n, "key"), "a pattern as key in a domain of LLM calls, whose attributes are found by name, expected * only in value")
		return nil
	}
	node, isNew := parent.child(level.key, level.value, at)
	switch {
	case isNew:
		node.spec.ShareValues, node.spec.KeyPattern = level.share, isPattern(level.key)
	case node.ratelimit:
		f.duplicate(n, level, "each once", node.first)
		return nil
	case node.spec.ShareValues != level.share:
		f.report.at(f.doc, n, "share_threshold is not as share_values of the rule that begins alike, expected the same; also at %s", node.first)
		return nil
	case isPattern(level.key):
		f.report.at(f.doc, n, "a rule has the same key, in which * is no pattern, expected only one of them; also at %s", node.first)
		return nil
	}
	node.first, node.ratelimit = at, true
	return node
}

// fill gives a node what its descriptor says of it.
func (f *ratelimitFile) fill(n *yaml.Node, node *ruleNode, level *ratelimitLevel) {
	shadow, soft := f.flag(n, "shadow_mode"), f.flag(n, "quota_mode")
	note := &RatelimitRule{Metadata: f.metadata(n), level: level, detailed: f.flag(n, "detailed_metric")}
	limits, unlimited, ok := f.rateLimit(n)
	if !ok {
		return
	}
	at := place{f.doc, n}
	if node.rule != nil {
		f.duplicate(n, level, "each once", *node.rule)
		return
	}
	node.rule = &at
	node.spec.Limits, node.spec.Unlimited, node.spec.Shadow, node.spec.Soft = limits, unlimited, shadow, soft
	node.spec.Replaces, node.spec.Note = f.replaces(child(n, "rate_limit")), note
	f.build.countRule(at)
}

// share says whether a descriptor counts all values of its pattern together.
func (f *ratelimitFile) share(n *yaml.Node, level *ratelimitLevel) bool {
	share := f.flag(n, "share_threshold")
	if share && level.pattern == "" {
		f.report.at(f.doc, child(n, "share_threshold"),
			"share_threshold can only be used with wildcard values (containing '*'), but found key '%s', expected a * in value", shorten(level.text()))
		return false
	}
	return share
}

// rateLimit reads the limit of a descriptor; ok is false if there is none.
func (f *ratelimitFile) rateLimit(n *yaml.Node) (limits []limiter.LimitSpec, unlimited, ok bool) {
	l := child(n, "rate_limit")
	if l == nil || isNull(l) {
		return nil, false, false
	}
	if l.Kind != yaml.MappingNode {
		f.wrongType(l, "config.YamlRateLimit", "rate_limit", "a mapping with unit and requests_per_unit")
		return nil, false, false
	}
	f.keys(l, "unit, requests_per_unit, unlimited, name, replaces")
	name, _ := f.text(l, "name")
	unit, unitOK := f.text(l, "unit")
	window, known := ratelimitUnits[strings.ToLower(unit)]
	amount := f.amount(l)
	at := child(l, "unit")
	unlimited, flagOK := f.truth(l, "unlimited")
	switch {
	case !flagOK:
		return nil, false, false
	case unlimited && known:
		f.report.at(f.doc, at, "should not specify rate limit unit when unlimited, expected only one of unit and unlimited")
		return nil, false, false
	case unlimited:
		return nil, true, true
	case !unitOK:
		return nil, false, false
	case !known && at == nil:
		f.report.at(f.doc, l, "invalid rate limit unit '', expected unit to be %s", expectedUnits)
		return nil, false, false
	case !known:
		f.report.at(f.doc, at, "invalid rate limit unit '%s', expected %s", shorten(unit), expectedUnits)
		return nil, false, false
	}
	return []limiter.LimitSpec{{Name: name, Meter: limiter.Requests, Amount: amount, Window: window, Fixed: f.build.strict}}, false, true
}

// replaces reads the names of the limits that a limit replaces.
func (f *ratelimitFile) replaces(l *yaml.Node) []string {
	list := child(l, "replaces")
	if list == nil || isNull(list) {
		return nil
	}
	if list.Kind != yaml.SequenceNode {
		f.wrongType(list, "[]config.yamlReplaces", "replaces", "a list of mappings with name")
		return nil
	}
	own := ""
	if n := child(l, "name"); n != nil && !isNull(n) {
		own = n.Value
	}
	var names []string
	for _, c := range list.Content {
		if c.Kind != yaml.MappingNode {
			f.report.at(f.doc, c, "config error, yaml file contains list of type other than map: %s, expected a mapping with name", shownAs(c))
			continue
		}
		f.keys(c, "name")
		switch name, ok := f.text(c, "name"); {
		case !ok:
		case name == "":
			f.report.at(f.doc, c, "should not have an empty replaces entry, expected the name of another limit")
		case name == own:
			f.report.at(f.doc, c, "replaces should not contain name of same descriptor, expected the name of another limit")
		default:
			names = append(names, name)
		}
	}
	return names
}

// keys reports keys that such files do not have anywhere.
func (f *ratelimitFile) keys(n *yaml.Node, expected string) {
	for i := 0; i+1 < len(n.Content); i += 2 {
		k := n.Content[i]
		if _, truth := truthOf(k); truth || k.Tag != "!!str" {
			f.report.at(f.doc, k, "config error, key is not of type string: %s, expected one of %s", shownAs(k), expected)
			continue
		}
		if slices.Contains(ratelimitKeys, k.Value) {
			continue
		}
		hint := ""
		if n == f.doc.root && slices.Contains([]string{"quotas", "rules", "llm", "trust"}, k.Value) {
			hint = "; put weir's own fields into a file of their own"
		} else if s := closest(k.Value, strings.Split(expected, ", ")); s != "" {
			hint = "; did you mean " + s + "?"
		}
		f.report.at(f.doc, k, "config error, unknown key '%s', expected one of %s%s", shorten(k.Value), expected, hint)
	}
}
