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

	levels   []ratelimitLevel
	detailed bool // detailed_metric of the last level
	shares   bool // a level has share_threshold
}

// ratelimitLevel is one level of the way to a descriptor.
type ratelimitLevel struct {
	key, value    string
	pattern       string // what entries are matched with, if that is a pattern
	share         bool   // share_threshold
	valueToMetric bool
}

// AppendMetric appends the path by which envoyproxy/ratelimit counts a descriptor whose
// entries led here: for each level `key` or `key_value`, joined with dots, with the
// entries' values where the file asks for them. There are as many entries as levels.
func (r *RatelimitRule) AppendMetric(b []byte, entries []limiter.Entry) []byte {
	for i := range entries {
		if i > 0 {
			b = append(b, '.')
		}
		e, l := &entries[i], ratelimitLevel{}
		if i < len(r.levels) {
			l = r.levels[i]
		}
		wild := l.pattern != "" && (l.key != e.Key || l.value != e.Value)
		switch {
		case wild && l.share, wild && !l.valueToMetric && !r.detailed:
			b = append(append(b, e.Key...), '_')
			b = append(b, l.patternBelow(e.Key)...)
		case r.detailed && !r.shares: // the underscore is there even without a value
			b = append(append(append(b, e.Key...), '_'), e.Value...)
		case r.detailed, wild, l.value != "", l.valueToMetric:
			b = appendEntry(b, e)
		default:
			b = append(b, e.Key...)
		}
	}
	return b
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
