package config

import (
	"errors"
	"math"
	"slices"
	"strconv"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/weir-project/weir/limiter"
)

// A limit of Limitador applies to every descriptor that has its entries, whatever else
// the descriptor has, and several limits may apply to one. A descriptor of weir's ends at
// one rule, whose entries are exactly its own. So each combination of keys that limits
// name becomes a form of descriptor, which the proxy is to send, and where limits of one
// form overlap there is a rule for what they have in common.

// limitadorKeys are the words of a limit.
var limitadorKeys = []string{"id", "namespace", "max_value", "seconds", "name", "conditions", "variables"}

// foreignLimit is a limit of Limitador.
type foreignLimit struct {
	at        place
	namespace string
	spec      limiter.LimitSpec
	entries   []foreignEntry
	// whole says that it has no entries of its own, and applies to the whole namespace.
	whole bool
}

// foreignEntry is an entry that a descriptor must have: with that value, or else any,
// each counted by itself.
type foreignEntry struct {
	key, value string
	exact      bool
}

// limitador converts limits files of Limitador.
func (c *converter) limitador(docs []*document) {
	var limits []foreignLimit
	for _, d := range docs {
		first := true
		for _, n := range d.root.Content {
			if l, ok := c.limit(place{d, n}); ok {
				if first {
					c.note(l.at, "this limit and those below hold there from a first request on, and begin anew after that time; "+
						"here they hold in any interval of that length")
					first = false
				}
				limits = append(limits, l)
			}
			if len(limits) > MaxRules {
				c.report.at(d, n, "too many limits to convert, expected at most %d", MaxRules)
				return
			}
		}
	}
	if !c.report.failed() {
		c.forms(limits)
	}
}

// limit reads one limit; ok is false if it is not valid or cannot be kept, which is said.
func (c *converter) limit(at place) (l foreignLimit, ok bool) {
	d, n := at.doc, at.node
	if n.Kind != yaml.MappingNode {
		c.report.at(d, n, "a limit is %s, expected a mapping with namespace, max_value and seconds", kindOf(n))
		return l, false
	}
	l.at = at
	c.limitWords(at)
	namespace, ok1 := c.textOf(d, n, "namespace", true)
	name, ok2 := c.textOf(d, n, "name", false)
	seconds, ok3 := c.wholeOf(d, n, "seconds", true)
	amount, ok4 := c.wholeOf(d, n, "max_value", false)
	entries, ok5, kept := c.entries(at)
	if !ok1 || !ok2 || !ok3 || !ok4 || !ok5 {
		return l, false
	}
	if child(n, "max_value") == nil {
		c.note(at, "max_value is missing, which is 0: nothing is admitted")
	}
	l.namespace, l.entries = namespace, entries
	l.spec = limiter.LimitSpec{Name: name, Meter: limiter.Requests, Amount: amount}
	return l, c.bounds(&l, seconds) && kept
}

// limitWords notes the words of a limit that are not kept.
func (c *converter) limitWords(at place) {
	for i := 0; i+1 < len(at.node.Content); i += 2 {
		k := at.node.Content[i]
		switch {
		case k.Value == "id":
			c.note(place{at.doc, k}, "id is left out: weir needs no name to keep a counter by")
		case !slices.Contains(limitadorKeys, k.Value):
			hint := ""
			if s := closest(k.Value, limitadorKeys); s != "" {
				hint = "; did you mean " + s + "?"
			}
			c.note(place{at.doc, k}, "unknown field %s is left out%s", quoteShort(k.Value), hint)
		}
	}
}

// bounds checks what weir's own files bound, and fills in the window.
func (c *converter) bounds(l *foreignLimit, seconds uint64) bool {
	n := l.at.node
	switch {
	case l.namespace == "" || len(l.namespace) > maxWord:
		c.note(place{l.at.doc, child(n, "namespace")}, "left out: a domain has from 1 to %d bytes", maxWord)
		return false
	case seconds == 0:
		c.note(place{l.at.doc, child(n, "seconds")}, "left out: a limit over no time limits nothing")
		return false
	case seconds > uint64(maxWindow/time.Second):
		c.note(place{l.at.doc, child(n, "seconds")}, "left out: a limit is over at most 366 days")
		return false
	}
	l.spec.Window = time.Duration(seconds) * time.Second //nolint:gosec // at most 366 days
	if l.spec.Amount > limiter.MaxAmount {
		c.note(place{l.at.doc, child(n, "max_value")}, "is written as %d, the most that an amount can be", limiter.MaxAmount)
		l.spec.Amount = limiter.MaxAmount
	}
	if len(l.spec.Name) > maxShown {
		c.note(place{l.at.doc, child(n, "name")}, "the name is left out: a name has at most %d bytes", maxShown)
		l.spec.Name = ""
	}
	return true
}

// entries reads conditions and variables. ok is false if they are not valid, kept if they
// cannot be kept, which is said.
func (c *converter) entries(at place) (entries []foreignEntry, ok, kept bool) {
	conditions, ok1 := c.textsOf(at.doc, at.node, "conditions")
	variables, ok2 := c.textsOf(at.doc, at.node, "variables")
	ok, kept = ok1 && ok2, true
	fail := func(n *yaml.Node, what string, err error) {
		if errors.Is(err, errNoText) {
			c.report.at(at.doc, n, "%s %s has %s", what, quoteShort(n.Value), err)
			ok = false
			return
		}
		c.note(place{at.doc, n}, "the limit is left out because of its %s %s: %s", what, quoteShort(n.Value), err)
		kept = false
	}
	for _, n := range conditions {
		equalities, err := equalitiesOf(n.Value)
		if err != nil {
			fail(n, "condition", err)
		}
		for _, e := range equalities {
			if e.bare {
				c.note(place{at.doc, n}, "%s is taken for a text, as Limitador did before version 1", quoteShort(e.value))
			}
			entries, err = withEntry(entries, foreignEntry{e.key, e.value, true})
			if err != nil {
				fail(n, "condition", err)
			}
		}
	}
	for _, n := range variables {
		key, err := variableOf(n.Value)
		if err == nil {
			entries, err = withEntry(entries, foreignEntry{key: key})
		}
		if err != nil {
			fail(n, "variable", err)
		}
	}
	return entries, ok, kept
}

// maxParts is how many entries a rule can match.
const maxParts = 32

// withEntry adds an entry to those that a limit wants. One of the same key, and with a
// value, is as good as one with any.
func withEntry(entries []foreignEntry, e foreignEntry) ([]foreignEntry, error) {
	switch {
	case e.key == "" || len(e.key) > maxWord:
		return entries, inexpressible("a key has from 1 to " + strconv.Itoa(maxWord) + " bytes")
	case e.exact && (e.value == "" || len(e.value) > maxWord):
		return entries, inexpressible("a value has from 1 to " + strconv.Itoa(maxWord) + " bytes")
	case isPattern(e.value):
		return entries, inexpressible("a value with a * is a pattern here")
	}
	for i := range entries {
		switch have := entries[i]; {
		case have.key != e.key:
		case e.exact && have.exact && have.value != e.value:
			return entries, inexpressible("another condition wants " + quoteShort(have.value) + ", so that it never applies")
		default:
			return entries, nil
		}
	}
	if len(entries) == maxParts {
		return entries, inexpressible("a rule has at most " + strconv.Itoa(maxParts) + " entries")
	}
	return append(entries, e), nil
}

// textOf reads a text.
func (c *converter) textOf(d *document, n *yaml.Node, key string, needed bool) (string, bool) {
	v := child(n, key)
	switch {
	case (v == nil || isNull(v)) && !needed:
		return "", true
	case v == nil:
		c.report.at(d, n, "%s is missing, expected text", key)
		return "", false
	case v.Kind != yaml.ScalarNode || v.Tag != "!!str":
		c.report.at(d, v, "%s is %s, expected text, in quotes if it looks like something else", key, kindOf(v))
		return "", false
	}
	return v.Value, true
}

// textsOf reads a list of texts; nothing is an empty list.
func (c *converter) textsOf(d *document, n *yaml.Node, key string) ([]*yaml.Node, bool) {
	v := child(n, key)
	switch {
	case v == nil || isNull(v):
		return nil, true
	case v.Kind != yaml.SequenceNode:
		c.report.at(d, v, "%s is %s, expected a list of texts", key, kindOf(v))
		return nil, false
	}
	ok := true
	for _, e := range v.Content {
		if e.Kind != yaml.ScalarNode || e.Tag != "!!str" {
			c.report.at(d, e, "an item of %s is %s, expected text", key, kindOf(e))
			ok = false
		}
	}
	return v.Content, ok
}

// wholeOf reads a whole number.
func (c *converter) wholeOf(d *document, n *yaml.Node, key string, needed bool) (uint64, bool) {
	v := child(n, key)
	if v == nil && !needed {
		return 0, true
	}
	if v == nil {
		c.report.at(d, n, "%s is missing, expected a whole number", key)
		return 0, false
	}
	if v.Kind == yaml.ScalarNode && v.Tag == "!!int" {
		if u, err := strconv.ParseUint(v.Value, 0, 64); err == nil {
			return u, true
		}
	}
	c.report.at(d, v, "%s is %s, expected a whole number from 0 to %d", key, kindOf(v), uint64(math.MaxUint64))
	return 0, false
}
