package config_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/weir-project/weir/limiter"
)

func requests(n uint64, window time.Duration) []limiter.LimitSpec {
	return []limiter.LimitSpec{{Meter: limiter.Requests, Amount: n, Window: window}}
}

// withoutNotes leaves out what files of envoyproxy/ratelimit say beside limits.
var withoutNotes = cmpopts.IgnoreFields(limiter.RuleSpec{}, "Note")

// TestRatelimitFile: a file of envoyproxy/ratelimit means what it means there.
func TestRatelimitFile(t *testing.T) {
	const day = 24 * time.Hour
	t.Chdir(t.TempDir())
	write(t, "config.yaml", `
# All that such a file can say and weir understands.
domain: mongo_cps
descriptors:
  - key: database
    value: users
    rate_limit: {unit: second, requests_per_unit: 500}
  - key: database
    value: default
    rate_limit:
      name: default limit
      unit: Minute
      requests_per_unit: 4294967295
    descriptors:
      - key: user
        detailed_metric: true
        rate_limit: {unit: HOUR, requests_per_unit: 0}
      - key: user
        value: 42
        value_to_metric: true
        rate_limit: {unlimited: true}
      - key: user
        value: true
        shadow_mode: true
        rate_limit: {unit: day, requests_per_unit: 1_000}
  - key: path
    value: /api/*
    rate_limit: {unit: week, requests_per_unit: 7}
  - key: path
    value: "*.png"
    share_threshold: yes
    rate_limit: {unit: month, requests_per_unit: 8}
  - key: allowed
    metadata: {team: {name: a, on_call: [b, 1.5]}}
  - key: a_b
    value: c
    rate_limit: {unit: year, requests_per_unit: 0x10, replaces: []}
  - key: a
    value: b_c
    quota_mode: false
    shadow_mode: off
    rate_limit:
      unit: minute
      shadow_mode: true
`)
	want := limiter.Spec{Domains: []limiter.DomainSpec{{Name: "mongo_cps", Rules: []limiter.RuleSpec{
		{Key: "database", Value: "users", Limits: requests(500, time.Second)},
		{
			Key: "database", Value: "default",
			Limits: []limiter.LimitSpec{{Name: "default limit", Meter: limiter.Requests, Amount: 4294967295, Window: time.Minute}},
			Rules: []limiter.RuleSpec{
				{Key: "user", Limits: requests(0, time.Hour)},
				{Key: "user", Value: "42", Unlimited: true},
				{Key: "user", Value: "true", Shadow: true, Limits: requests(1000, day)},
			},
		},
		{Key: "path", Value: "/api/*", Limits: requests(7, 7*day)},
		{Key: "path", Value: "*.png", ShareValues: true, Limits: requests(8, 30*day)},
		{Key: "allowed"},
		{Key: "a_b", Value: "c", Limits: requests(16, 365*day)},
		// shadow_mode below rate_limit is a word in a place where it means nothing.
		{Key: "a", Value: "b_c", Limits: requests(0, time.Minute)},
	}}}}
	l := mustLoad(t, "config.yaml")
	if diff := cmp.Diff(want, l.Spec, withoutNotes); diff != "" {
		t.Errorf("spec (-want +got):\n%s", diff)
	}
	if l.Rules != 9 || l.Quotas != 0 {
		t.Errorf("got %d rules and %d quotas, want 9 and 0", l.Rules, l.Quotas)
	}
}

// TestRatelimitDecides: the plan made of such a file decides like it.
func TestRatelimitDecides(t *testing.T) {
	t.Chdir(t.TempDir())
	write(t, "config.yaml", `
domain: edge
descriptors:
- {key: none, rate_limit: {unit: minute, requests_per_unit: 0}}
- {key: all, rate_limit: {unlimited: true}}
- {key: whitelisted}
- {key: one, rate_limit: {unit: second, requests_per_unit: 1}}
`)
	l := mustLoad(t, "config.yaml")
	for key, want := range map[string]limiter.Match{
		"none": limiter.Matched, "all": limiter.UnlimitedRule, "whitelisted": limiter.NoRule, "other": limiter.NoRule, "one": limiter.Matched,
	} {
		var a limiter.Ask
		if got := l.Plan.MatchDescriptor(&a, "edge", 0, []limiter.Entry{{Key: key, Value: "x"}}, limiter.Hits{Amount: 1}); got != want {
			t.Errorf("%s: matched %v, want %v", key, got, want)
		}
	}
	lim := limiter.New(limiter.Options{})
	decide := func(key string) limiter.Verdict {
		var a limiter.Ask
		var d limiter.Decision
		l.Plan.MatchDescriptor(&a, "edge", 0, []limiter.Entry{{Key: key, Value: "x"}}, limiter.Hits{Amount: 1})
		lim.Route(&a)
		lim.Decide(limiter.InstantOf(time.Unix(1_700_000_000, 0)), &a, &d)
		return d.Verdict
	}
	if got := decide("none"); got == limiter.Allowed {
		t.Error("a limit of 0 allowed one")
	}
	if got := decide("one"); got != limiter.Allowed {
		t.Errorf("the first of 1: %s, want allowed", got)
	}
	if got := decide("one"); got != limiter.Denied {
		t.Errorf("the second of 1: %s, want denied", got)
	}
}

// TestMixedDirectory: files of both kinds are one configuration, and may share a
// domain as long as they do not speak of the same path.
func TestMixedDirectory(t *testing.T) {
	t.Chdir(t.TempDir())
	write(t, "a-ratelimit.yaml", `
domain: edge
descriptors:
- key: user
  descriptors:
  - {key: path, rate_limit: {unit: minute, requests_per_unit: 1}}
`, "b-weir.yaml", `
quotas:
- {name: q, limits: {requests_per_minute: 1}}
rules:
- {domain: edge, match: [{key: user}], limits: [{amount: 2, per: 1s}]}
- {domain: other, match: [{key: user}], limits: [{amount: 3, per: 1s}]}
`, "c-ratelimit.yml", `
domain: empty
`)
	l := mustLoad(t, ".")
	want := []limiter.DomainSpec{
		{Name: "edge", Rules: []limiter.RuleSpec{{
			Key: "user", Limits: requests(2, time.Second),
			Rules: []limiter.RuleSpec{{Key: "path", Limits: requests(1, time.Minute)}},
		}}},
		{Name: "other", Rules: []limiter.RuleSpec{{Key: "user", Limits: requests(3, time.Second)}}},
		{Name: "empty"},
	}
	if diff := cmp.Diff(want, l.Spec.Domains, withoutNotes); diff != "" {
		t.Errorf("domains (-want +got):\n%s", diff)
	}
	if l.Quotas != 1 || l.Rules != 3 {
		t.Errorf("got %d quotas and %d rules, want 1 and 3", l.Quotas, l.Rules)
	}
}
