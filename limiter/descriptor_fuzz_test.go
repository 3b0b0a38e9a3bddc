package limiter_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weir-project/weir/limiter"
	"github.com/weir-project/weir/limiter/limitertest"
)

// anyKey has rules for a few keys, three levels deep, so that arbitrary values meet
// exact values, patterns and keys alone on every level.
func anyKey() limiter.Spec {
	ten := []limiter.LimitSpec{{Meter: limiter.Requests, Amount: 10, Window: time.Hour}}
	var level []limiter.RuleSpec
	for range 3 {
		level = []limiter.RuleSpec{
			{Key: "a", Limits: ten, Rules: level},
			{Key: "a", Value: "b_c", Limits: ten, Rules: level},
			{Key: "a", Value: "x*y*", Limits: ten, Rules: level},
			{Key: "a", Value: "*z", ShareValues: true, Limits: ten, Rules: level},
			{Key: "a_b", Limits: ten, Rules: level},
			{Key: "*b", Value: "c*", KeyPattern: true, Limits: ten, Rules: level},
		}
	}
	return limiter.Spec{Domains: []limiter.DomainSpec{{Name: "d", Rules: level}, {Name: "d2", Rules: level}, {Name: "f", Fixed: true, Rules: fixedRules(level)}}}
}

// fixedRules are rules whose windows are fixed.
func fixedRules(rules []limiter.RuleSpec) []limiter.RuleSpec {
	out := slices.Clone(rules)
	for i := range out {
		out[i].Limits = slices.Clone(out[i].Limits)
		for j := range out[i].Limits {
			out[i].Limits[j].Fixed = true
		}
		out[i].Rules = fixedRules(out[i].Rules)
	}
	return out
}

// FuzzDescriptor matches and charges two arbitrary descriptors: nothing panics, both
// find the limits that the model finds, and they share a counter only if the model
// says that it is the same one.
func FuzzDescriptor(f *testing.F) {
	for _, seed := range [][2]string{
		{"a=b", "a_b="},
		{"a=b_c", "a_b=c"},
		{"a=\x00", "a="},
		{"a=\x01a", "a=a"},
		{"a=1\na=2", "a=1\x012"},
		{"a=xy", "a=x1y2"},
		{"a=z", "a=zz"},
		{"a=z\na=1", "a=zz\na=1"},
		{"a=\xff\xfe", "a=\xff\xff"},
		{"a=\x80", "a=\x80\x01"},
		{"a=" + strings.Repeat("v", 70_000), "a=" + strings.Repeat("v", 70_001)},
		{"a=0123456;\xa7\xca\x84\x85\xae\x67\xbbAAAAAAAA", "a=0123456;\xa7\xca\x84\x85\xae\x67\xbbBBBBBBBB"},
	} {
		f.Add("d", seed[0], "d", seed[1], uint64(1), false)
		f.Add("d", seed[1], "d2", seed[0], uint64(1)<<63, true)
		f.Add("f", seed[1], "f", seed[0], uint64(3), false)
		f.Add("f", "x"+seed[1], "d", seed[0], uint64(4), true)
	}
	plan := anyKey()
	f.Fuzz(func(t *testing.T, domain1, text1, domain2, text2 string, amount uint64, override bool) {
		w := limitertest.NewWorld(t, t, limitertest.NewBare, limiter.Options{Shards: 8, Seed: amount}, plan)
		hits := limiter.Hits{Amount: amount%10 + 1}
		if override {
			hits.Override = limiter.Override{Amount: 10, Window: time.Hour}
		}
		one := limitertest.Descriptor{Domain: domain1, Entries: entriesOf(text1), Hits: hits}
		two := limitertest.Descriptor{Domain: domain2, Entries: entriesOf(text2), Hits: limiter.Hits{Amount: amount}}
		for _, d := range []limitertest.Descriptor{one, two} {
			var a limiter.Ask
			want, _ := limitertest.MatchDescriptor(plan, d.Domain, 0, d.Entries, d.Hits)
			if got := w.Plan.MatchDescriptor(&a, d.Domain, 0, d.Entries, d.Hits); got != want {
				t.Fatalf("%q %q: matched as %d, want %d", d.Domain, d.Entries, got, want)
			}
		}
		if w.Beyond = len(one.Entries) > 50 || len(two.Entries) > 50; w.Beyond {
			w.Decide(0, limitertest.Request{Descriptors: []limitertest.Descriptor{one}}) // keys that are too long share a counter
			return
		}
		now := limiter.Instant(1767225600000000000)
		w.Decide(now, limitertest.Request{Descriptors: []limitertest.Descriptor{one}})
		w.Decide(now, limitertest.Request{Descriptors: []limitertest.Descriptor{two}})
		w.Decide(now, limitertest.Request{Descriptors: []limitertest.Descriptor{one, two}, DryRun: true})
	})
}

// entriesOf makes key=value lines entries; a line without a = is a key alone.
func entriesOf(text string) []limiter.Entry {
	var entries []limiter.Entry
	for line := range strings.SplitSeq(text, "\n") {
		k, v, _ := strings.Cut(line, "=")
		entries = append(entries, limiter.Entry{Key: k, Value: v})
	}
	return entries
}
