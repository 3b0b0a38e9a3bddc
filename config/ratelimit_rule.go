package config

import (
	"strings"

	"google.golang.org/protobuf/types/known/structpb"

	"github.com/weir-project/weir/limiter"
)

// RatelimitRule is what a file of envoyproxy/ratelimit says of a descriptor beside its
// limit: the Note of its [limiter.RuleSpec], and of its limits. It is immutable and safe
// for concurrent use.
type RatelimitRule struct {
	// Metadata goes with the answers to descriptors that passed; nil for none.
	Metadata *structpb.Struct

	level    *ratelimitLevel // the last
	detailed bool            // detailed_metric of the last level
}

// ratelimitLevel is one level of the way to a descriptor.
type ratelimitLevel struct {
	above         *ratelimitLevel // nil for the first
	depth         int             // 1 for the first
	key, value    string
	pattern       string // what entries are matched with, if that is a pattern
	share         bool   // share_threshold
	valueToMetric bool
	shares        bool // it, or one above, has share_threshold
}

// path is how envoyproxy/ratelimit names a level below a domain.
func (l *ratelimitLevel) path(domain string) string {
	if l == nil {
		return domain
	}
	return l.above.path(domain) + "." + l.text()
}

// text is the key, or the key and the value.
func (l *ratelimitLevel) text() string {
	if l.value == "" {
		return l.key
	}
	return l.key + "_" + l.value
}

// AppendMetric appends the path by which envoyproxy/ratelimit counts a descriptor whose
// entries led here: for each level `key` or `key_value`, joined with dots, with the
// entries' values where the file asks for them. There are as many entries as levels.
func (r *RatelimitRule) AppendMetric(b []byte, entries []limiter.Entry) []byte {
	l := r.level
	for ; l != nil && l.depth > len(entries); l = l.above {
	}
	return r.appendLevels(b, l, entries[:min(l.deep(), len(entries))])
}

// deep is the number of levels that end at l.
func (l *ratelimitLevel) deep() int {
	if l == nil {
		return 0
	}
	return l.depth
}

// appendLevels appends the levels that end at l, for as many entries.
func (r *RatelimitRule) appendLevels(b []byte, l *ratelimitLevel, entries []limiter.Entry) []byte {
	if l == nil {
		return b
	}
	last := len(entries) - 1
	if l.above != nil {
		b = append(r.appendLevels(b, l.above, entries[:last]), '.')
	}
	e := &entries[last]
	wild := l.pattern != "" && (l.key != e.Key || l.value != e.Value)
	switch {
	case wild && l.share, wild && !l.valueToMetric && !r.detailed:
		b = append(append(b, e.Key...), '_')
		return append(b, l.patternBelow(e.Key)...)
	case r.detailed && !r.level.shares: // the underscore is there even without a value
		return append(append(append(b, e.Key...), '_'), e.Value...)
	case r.detailed, wild, l.value != "", l.valueToMetric:
		return appendEntry(b, e)
	}
	return append(b, e.Key...)
}

// patternBelow is the pattern without the key and the underscore, if it begins so.
func (l *ratelimitLevel) patternBelow(key string) string {
	if rest, ok := strings.CutPrefix(l.pattern, key); ok && strings.HasPrefix(rest, "_") {
		return rest[1:]
	}
	return l.pattern
}

// AppendOverrideMetric appends the path by which envoyproxy/ratelimit counts a
// descriptor that brought its own limit.
func AppendOverrideMetric(b []byte, entries []limiter.Entry) []byte {
	for i := range entries {
		if i > 0 {
			b = append(b, '.')
		}
		b = appendEntry(b, &entries[i])
	}
	return b
}

// appendEntry appends `key_value`, or `key` if there is no value.
func appendEntry(b []byte, e *limiter.Entry) []byte {
	b = append(b, e.Key...)
	if e.Value != "" {
		b = append(append(b, '_'), e.Value...)
	}
	return b
}
