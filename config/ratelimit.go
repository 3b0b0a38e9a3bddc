package config

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/weir-project/weir/limiter"
)

// A file of envoyproxy/ratelimit is read as it is. What it refuses is refused here
// in the same words, with the place and what was expected added. Where it looks away
// (keys given twice, later documents, a key that is a pattern) and where weir cannot
// do the same (replaces, quota_mode), the file is refused.

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
	f.descriptors(d.root, &domain.root, name, 1)
}

// descriptors adds the descriptors of a mapping below a node. path is how
// envoyproxy/ratelimit names the node.
func (f *ratelimitFile) descriptors(n *yaml.Node, parent *ruleNode, path string, depth int) {
	list := child(n, "descriptors")
	switch {
	case list == nil || isNull(list):
		return
	case list.Kind != yaml.SequenceNode:
		f.report.at(f.doc, list, "descriptors is %s, expected a list", kindOf(list))
		return
	case depth > MaxDepth:
		f.report.at(f.doc, list, "descriptors are nested too deep, expected at most %d levels", MaxDepth)
		return
	}
	for _, c := range list.Content {
		if c.Kind != yaml.MappingNode {
			f.report.at(f.doc, c, "config error, yaml file contains list of type other than map: %s, expected a mapping with key", kindOf(c))
			continue
		}
		f.descriptor(c, parent, path, depth)
	}
}

// descriptor adds one descriptor and what is below it.
func (f *ratelimitFile) descriptor(n *yaml.Node, parent *ruleNode, path string, depth int) {
	f.keys(n, "key, value, rate_limit, descriptors, shadow_mode, detailed_metric, value_to_metric, share_threshold, metadata")
	key, keyOK := f.text(n, "key")
	value, valueOK := f.text(n, "value")
	if !keyOK || !valueOK {
		return
	}
	if key == "" {
		f.report.at(f.doc, n, "descriptor has empty key, expected the key of an entry")
		return
	}
	composite := key
	if value != "" {
		composite += "_" + value
	}
	path += "." + composite
	if isPattern(key) {
		f.report.at(f.doc, child(n, "key"), "a pattern as key is not supported, expected * only in value")
		return
	}
	at := place{f.doc, n}
	node, isNew := parent.child(key, value, at)
	if !isNew && node.ratelimit {
		f.report.at(f.doc, n, "duplicate descriptor composite key '%s', expected each once; also at %s", shorten(path), node.first)
		return
	}
	share := f.share(n, path)
	if isNew {
		node.spec.ShareValues = share
	} else if node.spec.ShareValues != share {
		f.report.at(f.doc, n, "share_threshold is not as share_values of the rule that begins alike, expected the same; also at %s", node.first)
		return
	}
	node.first, node.ratelimit = at, true
	f.fill(n, node, path, at)
	f.descriptors(n, node, path, depth+1)
}

// fill gives a node what its descriptor says of it.
func (f *ratelimitFile) fill(n *yaml.Node, node *ruleNode, path string, at place) {
	shadow := f.flag(n, "shadow_mode")
	f.flag(n, "detailed_metric")
	f.flag(n, "value_to_metric")
	if f.flag(n, "quota_mode") {
		f.unsupported(n, "quota_mode")
	}
	if m := child(n, "metadata"); m != nil && m.Kind != yaml.MappingNode && !isNull(m) {
		f.report.at(f.doc, m, "error parsing metadata: it is %s, expected a mapping", kindOf(m))
	}
	limits, unlimited, ok := f.rateLimit(n)
	if !ok {
		return
	}
	if node.rule != nil {
		f.report.at(f.doc, n, "duplicate descriptor composite key '%s', expected each once; also at %s", shorten(path), node.rule)
		return
	}
	node.rule = &at
	node.spec.Limits, node.spec.Unlimited, node.spec.Shadow = limits, unlimited, shadow
	f.build.countRule(at)
}

// share says whether a descriptor counts all values of its pattern together.
func (f *ratelimitFile) share(n *yaml.Node, path string) bool {
	share := f.flag(n, "share_threshold")
	if value, _ := f.text(n, "value"); share && !isPattern(value) {
		f.report.at(f.doc, child(n, "share_threshold"),
			"share_threshold can only be used with wildcard values (containing '*'), but found key '%s', expected a * in value", shorten(path))
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
		f.report.at(f.doc, l, "rate_limit is %s, expected a mapping with unit and requests_per_unit", kindOf(l))
		return nil, false, false
	}
	f.keys(l, "unit, requests_per_unit, unlimited, name")
	f.replaces(l)
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
	return []limiter.LimitSpec{{Name: name, Meter: limiter.Requests, Amount: amount, Window: window}}, false, true
}

// replaces refuses what changes decisions in a way that weir does not know.
func (f *ratelimitFile) replaces(l *yaml.Node) {
	if r := child(l, "replaces"); r != nil && !isNull(r) && (r.Kind != yaml.SequenceNode || len(r.Content) > 0) {
		f.unsupported(l, "replaces")
	}
}

func (f *ratelimitFile) unsupported(n *yaml.Node, key string) {
	f.report.at(f.doc, keyNode(n, key), "%s is not supported, expected a file without it: ignoring it would change decisions", key)
}

// keys reports keys that such files do not have anywhere.
func (f *ratelimitFile) keys(n *yaml.Node, expected string) {
	for i := 0; i+1 < len(n.Content); i += 2 {
		k := n.Content[i]
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

// text reads a text; a whole number, a truth value and a date are text as written.
func (f *ratelimitFile) text(n *yaml.Node, key string) (string, bool) {
	v := child(n, key)
	switch {
	case v == nil || isNull(v):
		return "", true
	case v.Kind == yaml.ScalarNode && v.Tag == "!!float":
		f.report.at(f.doc, v, "error checking config: %s is %s, expected text; put it in quotes", key, kindOf(v))
		return "", false
	case v.Kind != yaml.ScalarNode:
		f.report.at(f.doc, v, "error checking config: %s is %s, expected text", key, kindOf(v))
		return "", false
	}
	return v.Value, true
}

// flag is truth, with false for what is none.
func (f *ratelimitFile) flag(n *yaml.Node, key string) bool {
	v, _ := f.truth(n, key)
	return v
}

// truth reads a truth value, in all the spellings of such files.
func (f *ratelimitFile) truth(n *yaml.Node, key string) (value, ok bool) {
	v := child(n, key)
	if v == nil || isNull(v) {
		return false, true
	}
	if v.Kind == yaml.ScalarNode {
		switch strings.ToLower(v.Value) {
		case "true", "yes", "on", "y":
			return true, true
		case "false", "no", "off", "n":
			return false, true
		}
	}
	f.report.at(f.doc, v, "error checking config: %s is %s, expected true or false", key, kindOf(v))
	return false, false
}

// amount reads requests_per_unit; absent means 0, which admits nothing.
func (f *ratelimitFile) amount(n *yaml.Node) uint64 {
	v := child(n, "requests_per_unit")
	if v == nil || isNull(v) {
		return 0
	}
	if v.Kind == yaml.ScalarNode && v.Tag == "!!int" {
		// Base 0 with underscores: what such files may write.
		if u, err := strconv.ParseUint(strings.ReplaceAll(v.Value, "_", ""), 0, 32); err == nil {
			return u
		}
	}
	f.report.at(f.doc, v, "error checking config: requests_per_unit is %s, expected a whole number from 0 to 4294967295", kindOf(v))
	return 0
}
