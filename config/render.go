package config

import (
	"bytes"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/weir-project/weir/limiter"
	configv1 "github.com/weir-project/weir/proto/weir/config/v1"
)

// Render writes what decides in l as one of weir's own files, with the defaults filled
// in, whichever files it came from. It decides like l, with two exceptions: nodes of a
// file of envoyproxy/ratelimit that have no limit are left out, and so is what a
// provider granted, see [Loaded.WithGrants]. The server block is not part of it. Nor are
// rules of such files that weir's own words cannot say, with a pattern as key; a comment
// counts them. Fixed windows are written as if they slid.
func (l *Loaded) Render() ([]byte, error) {
	c := &configv1.Config{Llm: llmOf(&l.Vocabulary), Providers: l.described}
	if len(l.Gateways) > 0 {
		c.Trust = &configv1.Trust{Gateways: l.Gateways}
	}
	for i := range l.Spec.Quotas {
		c.Quotas = append(c.Quotas, quotaOf(&l.Spec.Quotas[i]))
	}
	unsaid := 0
	for _, d := range l.Spec.Domains {
		for i := range d.Rules {
			c.Rules = rulesBelow(c.Rules, &unsaid, d.Name, nil, &d.Rules[i])
		}
	}
	root := mappingOf(c.ProtoReflect())
	for i := range l.Spec.Quotas {
		if len(l.Spec.Quotas[i].Per) == 0 { // which is not what an absent list means
			q := item(child(root, "quotas"), i)
			q.Content = append(q.Content, text("per"), &yaml.Node{Kind: yaml.SequenceNode, Style: yaml.FlowStyle})
		}
	}
	var b bytes.Buffer
	e := yaml.NewEncoder(&b)
	e.SetIndent(2)
	if err := e.Encode(root); err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	if err := e.Close(); err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	if unsaid > 0 {
		fmt.Fprintf(&b, "# Left out: %d of the rules, which only files of envoyproxy/ratelimit can say.\n", unsaid)
	}
	return b.Bytes(), nil
}

// quotaOf is a quota in the words of a file.
func quotaOf(s *limiter.QuotaSpec) *configv1.Quota {
	q := &configv1.Quota{
		Name: &s.Name, Provider: &s.Provider, Per: s.Per, Match: make(map[string]string),
		Control: new("fixed"), OutputAccounting: new(accounting(s.ReservesMaxTokens)),
		Limits: &configv1.QuotaLimits{},
	}
	if len(s.CacheReadModels) == 0 { // else it is the provider's, by model, which a file cannot say
		q.CountsCacheReads = &s.CountsCacheReads
	}
	for _, m := range s.Match {
		q.Match[m.Key] = m.Pattern
	}
	if s.Learn {
		q.Control, q.LimitMode = new("learn"), new("cap")
		if s.Mode == limiter.HintLimits {
			q.LimitMode = new("hint")
		}
	}
	if s.Hold > 0 {
		q.Hold = new(s.Hold.String())
	}
	limits := q.Limits.ProtoReflect()
	for _, l := range s.Limits {
		for i := range limits.Descriptor().Fields().Len() {
			field := limits.Descriptor().Fields().Get(i)
			if meter, window := meterAndWindow(string(field.Name())); meter == l.Meter && window == l.Window {
				limits.Set(field, protoreflect.ValueOfUint64(l.Amount))
			}
		}
	}
	if len(s.Limits) == 0 {
		q.Limits = nil
	}
	if len(s.Tenants) > 0 || s.DefaultTenant != (limiter.TenantSpec{}) {
		q.Tenants = &configv1.Tenants{Default: termsOf(s.DefaultTenant), Named: make(map[string]*configv1.TenantTerms)}
		for name, t := range s.Tenants {
			q.Tenants.Named[name] = termsOf(t)
		}
	}
	return q
}

// termsOf are a tenant's terms in the words of a file; nil for none.
func termsOf(s limiter.TenantSpec) *configv1.TenantTerms {
	if s == (limiter.TenantSpec{}) {
		return nil
	}
	t := &configv1.TenantTerms{Weight: new(uint64(max(s.Weight, 1)))}
	for _, name := range []string{"interactive", "default", "batch"} {
		if p, _ := ParsePriority(name); p == s.Priority {
			t.Priority = new(name)
		}
	}
	if s.Floor > 0 {
		t.Floor = new(percent(s.Floor))
	}
	if s.Ceiling > 0 {
		t.Ceiling = new(percent(s.Ceiling))
	}
	return t
}

// percent writes a share as exactly as a file may say it.
func percent(share float64) string {
	return strconv.FormatFloat(math.Round(share*1e8)/1e6, 'f', -1, 64) + "%"
}

// rulesBelow appends the rules of a node and of those below it to rules, and counts those
// that it cannot say. above is the match of its parent.
func rulesBelow(rules []*configv1.Rule, unsaid *int, domain string, above []*configv1.Match, s *limiter.RuleSpec) []*configv1.Rule {
	if s.KeyPattern {
		*unsaid += countRules(s)
		return rules
	}
	m := &configv1.Match{Key: &s.Key}
	if s.Value != "" {
		m.Value = &s.Value
	}
	if s.ShareValues {
		m.ShareValues = &s.ShareValues
	}
	match := append(slices.Clip(above), m)
	if len(s.Limits) > 0 || s.Unlimited {
		r := &configv1.Rule{Domain: &domain, Match: match, Replaces: s.Replaces}
		if s.Name != "" {
			r.Name = &s.Name
		}
		if s.Shadow {
			r.Shadow = &s.Shadow
		}
		if s.Unlimited {
			r.Unlimited = &s.Unlimited
		}
		if s.Soft {
			r.Soft = &s.Soft
		}
		for _, l := range s.Limits {
			limit := &configv1.Limit{Meter: new(l.Meter.String()), Amount: &l.Amount, Per: new(lengthOf(l.Window))}
			if l.Name != "" {
				limit.Name = &l.Name
			}
			r.Limits = append(r.Limits, limit)
		}
		rules = append(rules, r)
	}
	for i := range s.Rules {
		rules = rulesBelow(rules, unsaid, domain, match, &s.Rules[i])
	}
	return rules
}

// countRules counts the rules at a node and below.
func countRules(s *limiter.RuleSpec) int {
	n := 0
	if len(s.Limits) > 0 || s.Unlimited {
		n++
	}
	for i := range s.Rules {
		n += countRules(&s.Rules[i])
	}
	return n
}

// lengthOf writes a window in the largest unit of which it is a multiple.
func lengthOf(d time.Duration) string {
	for _, u := range slices.Backward(durationUnits) {
		if unit := time.Duration(u.unit); d%unit == 0 { //nolint:gosec // at most a day
			return strconv.FormatInt(int64(d/unit), 10) + u.name
		}
	}
	return d.String()
}

// llmOf says how a vocabulary differs from the default; nil if it does not.
func llmOf(v *Vocabulary) *configv1.Llm {
	usual := DefaultVocabulary()
	llm, keys := &configv1.Llm{}, &configv1.LlmKeys{}
	m := keys.ProtoReflect()
	for i := range m.Descriptor().Fields().Len() {
		field := m.Descriptor().Fields().Get(i)
		if word := *v.word(string(field.Name())); word != *usual.word(string(field.Name())) {
			m.Set(field, protoreflect.ValueOfString(word))
			llm.Keys = keys
		}
	}
	if !slices.Equal(v.Domains, usual.Domains) {
		llm.Domains = v.Domains
	}
	if !slices.Equal(v.MetadataNamespaces, usual.MetadataNamespaces) {
		llm.MetadataNamespaces = v.MetadataNamespaces
	}
	if proto.Size(llm) == 0 {
		return nil
	}
	return llm
}

// mappingOf is a message as a mapping, its fields in the order of the .proto.
func mappingOf(m protoreflect.Message) *yaml.Node {
	n := &yaml.Node{Kind: yaml.MappingNode}
	switch m.Interface().(type) {
	case *configv1.Match, *configv1.Limit, *configv1.TenantTerms,
		*configv1.ProviderRule, *configv1.LimitHeaders, *configv1.RetryAfterHeader:
		n.Style = yaml.FlowStyle
	}
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		if f := fields.Get(i); m.Has(f) {
			n.Content = append(n.Content, text(string(f.Name())), nodeOf(f, m.Get(f)))
		}
	}
	return n
}

// nodeOf is the value of a field.
func nodeOf(f protoreflect.FieldDescriptor, v protoreflect.Value) *yaml.Node {
	switch {
	case f.IsList():
		n := &yaml.Node{Kind: yaml.SequenceNode}
		for i := range v.List().Len() {
			n.Content = append(n.Content, scalarOrMapping(f, v.List().Get(i)))
		}
		if f.Message() == nil {
			n.Style = yaml.FlowStyle
		}
		return n
	case f.IsMap():
		n := &yaml.Node{Kind: yaml.MappingNode}
		if f.MapValue().Message() == nil {
			n.Style = yaml.FlowStyle
		}
		values := make(map[string]protoreflect.Value)
		v.Map().Range(func(k protoreflect.MapKey, v protoreflect.Value) bool {
			values[k.String()] = v
			return true
		})
		for _, k := range slices.Sorted(maps.Keys(values)) {
			n.Content = append(n.Content, text(k), scalarOrMapping(f.MapValue(), values[k]))
		}
		return n
	}
	return scalarOrMapping(f, v)
}

func scalarOrMapping(f protoreflect.FieldDescriptor, v protoreflect.Value) *yaml.Node {
	switch {
	case f.Message() != nil:
		return mappingOf(v.Message())
	case f.Kind() == protoreflect.StringKind:
		return text(v.String())
	}
	return &yaml.Node{Kind: yaml.ScalarNode, Value: fmt.Sprint(v.Interface())}
}

// text is a value that YAML shall take for text.
func text(s string) *yaml.Node {
	n := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: s}
	if strings.Contains(s, "*") || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' }) {
		n.Style = yaml.DoubleQuotedStyle // in which what does not print is an escape, as files need it
	}
	return n
}
