package config_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weir-project/weir/config"
	"github.com/weir-project/weir/limiter"
)

// TestRatelimitModes: quota_mode, replaces and patterns as keys mean what they mean in
// envoyproxy/ratelimit, and with Strict so do the windows.
func TestRatelimitModes(t *testing.T) {
	t.Chdir(t.TempDir())
	write(t, "a.yaml", `
domain: edge
descriptors:
- {key: "p*", value: x, quota_mode: true, rate_limit: {unit: minute, requests_per_unit: +5, name: five, replaces: [{name: six}, {name: nobody}]}}
- {key: free, rate_limit: {unlimited: true, unit: fortnight, replaces: [{name: five}]}}
`, "b.yaml", `
domain: edge
descriptors:
- {key: "*", share_threshold: y, rate_limit: {unit: week, requests_per_unit: 010}}
`, "c.yaml", `
rules:
- {domain: edge, match: [{key: "p*"}], limits: [{amount: 9, per: 1m}]}
`)
	fixed := func(n uint64, w time.Duration, name string) []limiter.LimitSpec {
		return []limiter.LimitSpec{{Name: name, Meter: limiter.Requests, Amount: n, Window: w, Fixed: true}}
	}
	want := []limiter.DomainSpec{{Name: "edge", Fixed: true, Rules: []limiter.RuleSpec{
		{Key: "p*", Limits: requests(9, time.Minute)},
		{Key: "p*", Value: "x", KeyPattern: true, Soft: true, Limits: fixed(5, time.Minute, "five"), Replaces: []string{"six", "nobody"}},
		{Key: "free", Unlimited: true, Replaces: []string{"five"}},
		{Key: "*", KeyPattern: true, ShareValues: true, Limits: fixed(8, 7*24*time.Hour, "")},
	}}}
	o := config.Options{MergeDomains: true, Strict: true}
	l, err := o.Load([]string{"."}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, l.Spec.Domains, withoutNotes); diff != "" {
		t.Errorf("domains (-want +got):\n%s", diff)
	}
	if !l.Strict || !l.Ratelimit["edge"] || len(l.Ratelimit) != 1 {
		t.Errorf("strict %t, domains %v", l.Strict, l.Ratelimit)
	}
}

// TestRatelimitMetrics: the path of a descriptor in metrics is that of the file, with the
// request's values where the file asks for them.
func TestRatelimitMetrics(t *testing.T) {
	t.Chdir(t.TempDir())
	write(t, "a.yaml", `
domain: edge
descriptors:
- key: a
  rate_limit: {unit: day}
  descriptors:
  - {key: b, value: c, rate_limit: {unit: day}}
  - {key: v, value_to_metric: true, rate_limit: {unit: day}}
  - {key: d, detailed_metric: true, rate_limit: {unit: day}}
  - {key: w, value: "x*", rate_limit: {unit: day}}
  - {key: w, value: "y*", value_to_metric: true, rate_limit: {unit: day}}
  - {key: w, value: "z*", value_to_metric: true, share_threshold: true, rate_limit: {unit: day}}
  - {key: w, value: "s*", detailed_metric: true, share_threshold: true, rate_limit: {unit: day}}
- {key: "k*", rate_limit: {unit: day}}
- {key: m, value_to_metric: true, descriptors: [{key: n, rate_limit: {unit: day}}]}
`)
	l := mustLoad(t, "a.yaml")
	entry := func(kv ...string) (e []limiter.Entry) {
		for i := 0; i < len(kv); i += 2 {
			e = append(e, limiter.Entry{Key: kv[i], Value: kv[i+1]})
		}
		return e
	}
	for _, tc := range []struct {
		want    string
		entries []limiter.Entry
	}{
		{"a", entry("a", "1")},
		{"a.b_c", entry("a", "1", "b", "c")},
		{"a.v_7", entry("a", "1", "v", "7")},
		{"a.v", entry("a", "1", "v", "")},
		{"a_1.d_7", entry("a", "1", "d", "7")},
		{"a_1.d_", entry("a", "1", "d", "")},
		{"a.w_x*", entry("a", "1", "w", "xyz")},
		{"a.w_x*", entry("a", "1", "w", "x*")},
		{"a.w_yes", entry("a", "1", "w", "yes")},
		{"a.w_z*", entry("a", "1", "w", "zoo")},
		{"a_1.w_s*", entry("a", "1", "w", "some")},
		{"kay_k*", entry("kay", "1")},
		{"m_1.n", entry("m", "1", "n", "2")},
	} {
		var ask limiter.Ask
		var d limiter.Decision
		if got := l.Plan.MatchDescriptor(&ask, "edge", 0, tc.entries, limiter.Hits{}); got != limiter.Matched {
			t.Errorf("%v: matched as %d", tc.entries, got)
			continue
		}
		lim := limiter.New(limiter.Options{})
		lim.Route(&ask)
		lim.Decide(0, &ask, &d)
		note := d.Checks[0].Limit.Note.(*config.RatelimitRule)
		if got := string(note.AppendMetric(nil, tc.entries)); got != tc.want {
			t.Errorf("%v: %s, want %s", tc.entries, got, tc.want)
		}
	}
	if got := string(config.AppendOverrideMetric(nil, entry("a", "1", "b", ""))); got != "a_1.b" {
		t.Errorf("an override: %s", got)
	}
}

// TestRatelimitStrictly: what envoyproxy/ratelimit looks away from, Strict does too, and
// what it refuses is refused in its words.
func TestRatelimitStrictly(t *testing.T) {
	for _, tc := range []struct{ text, strict, usual string }{
		{"domain: a\ndomain: d\ndescriptors:\n- {key: k, key: l, value: x}\n", "", `"domain" is given twice`},
		{"domain: d\n---\nanything: [else]\n", "", "a second document"},
		{"domain: d\n---\n{broken\n", "", "not valid YAML"},
		{"domain: d\ndescriptors:\n\t- key: k\n", "error loading config file: ", "not valid YAML"},
		{"domain: d\ndescriptors:\n- {key: k, value: v}\n- {key: k_v}\n", "duplicate descriptor composite key 'd.k_v'", ""},
		{"domain: d\ndescriptors:\n- {key: k, 1: 2}\n", "config error, key is not of type string: 1", "config error, key is not of type string: 1"},
		{"rules:\n- {domain: d, match: [{key: a}], unlimited: true}\nrules: []\n", `"rules" is given twice`, `"rules" is given twice`},
	} {
		t.Chdir(t.TempDir())
		write(t, "a.yaml", tc.text)
		for strict, want := range map[bool]string{true: tc.strict, false: tc.usual} {
			l, err := config.Options{Strict: strict}.Load([]string{"a.yaml"}, nil)
			switch {
			case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
				t.Errorf("%q, strict %t: %v, want %s", tc.text, strict, err, want)
			case want == "" && err != nil:
				t.Errorf("%q, strict %t: %v", tc.text, strict, err)
			case want == "" && strict && (len(l.Spec.Domains) != 1 || l.Spec.Domains[0].Name != "d" || len(l.Spec.Domains[0].Rules) > 0 && l.Spec.Domains[0].Rules[0].Key != "l"):
				t.Errorf("%q: %+v", tc.text, l.Spec.Domains)
			}
		}
	}
}
