package server

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/weir-project/weir/config"
	"github.com/weir-project/weir/limiter"
	"github.com/weir-project/weir/provider"
)

// maxClasses bounds how many models' classes are remembered. Those of others are found
// out each time.
const maxClasses = 2048

// modelKey is what a class depends on.
type modelKey struct{ provider, model string }

// modelClasses finds the classes of models, and remembers them: asking for one that is
// known takes no lock and allocates nothing. It is safe for concurrent use.
type modelClasses struct {
	given map[string]string // what the provider itself said, by model
	known atomic.Pointer[map[modelKey]string]
	mu    sync.Mutex // of who adds
}

// newModelClasses returns nil for a configuration that asks for no classes.
func newModelClasses(l *config.Loaded) *modelClasses {
	if !asksForClass(&l.Spec) {
		return nil
	}
	c := &modelClasses{given: l.ModelClasses}
	c.known.Store(&map[modelKey]string{})
	return c
}

// asksForClass says whether a quota or a rule names the attribute.
func asksForClass(spec *limiter.Spec) bool {
	for i := range spec.Quotas {
		q := &spec.Quotas[i]
		if slices.Contains(q.Per, config.ModelClass) {
			return true
		}
		for _, m := range q.Match {
			if m.Key == config.ModelClass {
				return true
			}
		}
	}
	for i := range spec.Domains {
		if rulesAskForClass(spec.Domains[i].Rules) {
			return true
		}
	}
	return false
}

func rulesAskForClass(rules []limiter.RuleSpec) bool {
	for i := range rules {
		if rules[i].Key == config.ModelClass || rulesAskForClass(rules[i].Rules) {
			return true
		}
	}
	return false
}

// of returns the class of a model.
func (c *modelClasses) of(k modelKey) string {
	known := *c.known.Load()
	if class, ok := known[k]; ok {
		return class
	}
	class := c.find(k)
	if len(known) < maxClasses {
		c.add(k, class)
	}
	return class
}

func (c *modelClasses) find(k modelKey) string {
	if k.provider == "" || k.provider == "anthropic" {
		if class, ok := c.given[k.model]; ok {
			return class
		}
		if class, ok := c.given[provider.ModelName(k.model)]; ok {
			return class
		}
	}
	return provider.ModelClass(k.provider, k.model)
}

// add remembers a class. The strings may be those of a message, and are copied.
func (c *modelClasses) add(k modelKey, class string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	known := *c.known.Load()
	if len(known) >= maxClasses {
		return
	}
	next := make(map[modelKey]string, len(known)+1)
	maps.Copy(next, known)
	next[modelKey{strings.Clone(k.provider), strings.Clone(k.model)}] = strings.Clone(class)
	c.known.Store(&next)
}

// classOf returns the class of the model that attributes name; false if they name none
// or if nothing depends on it.
func (a *active) classOf(attributes []limiter.Entry) (string, bool) {
	if a.classes == nil {
		return "", false
	}
	k := modelKey{provider: a.provider}
	for i := len(attributes) - 1; i >= 0; i-- { // of a key that is there twice the first one counts
		switch e := &attributes[i]; {
		case e.Key == attributeNames[wordModel]:
			k.model = e.Value
		case e.Key == attributeNames[wordProvider] && e.Value != "":
			k.provider = e.Value
		}
	}
	if k.model == "" {
		return "", false
	}
	return a.classes.of(k), true
}

// match adds to s.ask what attributes match, among which is the class of their model.
// One that the caller says counts only where no model is named.
func (a *active) match(s *scratch, domain string, ordinal int, attributes []limiter.Entry, est limiter.Estimate) int {
	if class, ok := a.classOf(attributes); ok {
		// The first one counts.
		s.classed = append(s.classed[:0], limiter.Entry{Key: config.ModelClass, Value: class})
		s.classed = append(s.classed, attributes...)
		attributes = s.classed
	}
	return a.Plan.MatchAttributes(&s.ask, domain, ordinal, attributes, est)
}
