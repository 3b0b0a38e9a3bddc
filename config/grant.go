package config

import (
	"fmt"
	"slices"
	"strings"

	"github.com/weir-project/weir/limiter"
)

// Grant is what the provider says that it grants an organisation for one class of
// models.
type Grant struct {
	// Class is the value of the attribute model_class for Models.
	Class  string
	Models []string
	// Limits are those per minute that the provider told.
	Limits []limiter.LimitSpec
}

// WithGrants returns l as it is with what the provider told: which models are of one
// class, and, if no files were given, a quota for each class that begins with what is
// granted for it. Limits that prev (which may be nil) has too keep their counters. The
// result is l itself if nothing was told. It keeps no reference to grants.
func (l *Loaded) WithGrants(grants []Grant, prev *limiter.Plan) (*Loaded, error) {
	if len(grants) == 0 {
		return l, nil
	}
	next := *l
	next.ModelClasses = map[string]string{}
	next.Spec.Quotas = slices.Clone(l.Spec.Quotas)
	seen := map[string]bool{}
	for _, g := range slices.SortedFunc(slices.Values(grants), func(a, b Grant) int { return strings.Compare(a.Class, b.Class) }) {
		class := distinct(g.Class, seen)
		for _, m := range g.Models {
			next.ModelClasses[strings.Clone(m)] = class
		}
		if l.isBuiltin() && len(g.Limits) > 0 {
			next.grant(class, g.Limits)
		}
	}
	if l.isBuiltin() {
		plan, err := limiter.Compile(next.Spec, prev)
		if err != nil {
			return nil, fmt.Errorf("what the provider grants is no plan: %w", err)
		}
		next.Plan, next.Quotas = plan, len(next.Spec.Quotas)
	}
	var err error
	next.Digest, err = digest(&next, &Background{})
	return &next, err
}

func (l *Loaded) isBuiltin() bool { return len(l.Sources) == 1 && l.Sources[0] == Builtin }

// distinct returns class, or another name if that is seen already. A star would be a
// pattern.
func distinct(class string, seen map[string]bool) string {
	class = strings.ReplaceAll(strings.ToValidUTF8(class, "?"), "*", "?")
	name := class
	for i := 2; seen[name]; i++ {
		name = fmt.Sprint(class, " ", i)
	}
	seen[name] = true
	return name
}

// grant adds a quota for a class, and takes the class from the quota of all others.
func (l *Loaded) grant(class string, limits []limiter.LimitSpec) {
	of := limiter.AttributePattern{Key: ModelClass, Pattern: class}
	rest := &l.Spec.Quotas[0]
	q := *rest
	q.Name, q.Match, q.Except, q.Limits = rest.Name+" "+class, []limiter.AttributePattern{of}, nil, slices.Clone(limits)
	rest.Except = append(slices.Clip(rest.Except), of)
	l.Spec.Quotas = append(l.Spec.Quotas, q)
}
