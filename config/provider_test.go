package config_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weir-project/weir/config"
	"github.com/weir-project/weir/limiter"
	"github.com/weir-project/weir/provider"
)

// TestEveryProviderIsAllowed: a quota may be of each provider that has a profile, and
// counts what that profile counts.
func TestEveryProviderIsAllowed(t *testing.T) {
	for _, name := range provider.Names() {
		t.Run(name, func(t *testing.T) {
			t.Chdir(t.TempDir())
			write(t, "weir.yaml", fmt.Sprintf("quotas:\n- name: a\n  provider: %s\n  limits: {requests_per_minute: 5}\n", name))
			q := mustLoad(t, "weir.yaml").Spec.Quotas[0]
			if want := provider.Named(name).JointTokens; q.JointTokens != want {
				t.Errorf("tokens are counted together: %t, want %t", q.JointTokens, want)
			}
			if want := provider.Named(name).ReservesMaxTokens; q.ReservesMaxTokens != want {
				t.Errorf("holds max_tokens: %t, want %t", q.ReservesMaxTokens, want)
			}
			if want := provider.Named(name).CountsCacheReads; q.Provider != name || q.CountsCacheReads != want {
				t.Errorf("provider %q counts cache reads: %t, want %q and %t", q.Provider, q.CountsCacheReads, name, want)
			}
		})
	}
}

// TestCacheReadModels: the models of which cache reads count are known, unless the quota
// says something of all of them.
func TestCacheReadModels(t *testing.T) {
	for line, want := range map[string]bool{"": true, "  counts_cache_reads: false\n": false, "  counts_cache_reads: true\n": false} {
		t.Chdir(t.TempDir())
		write(t, "weir.yaml", "quotas:\n- name: a\n  provider: anthropic\n"+line)
		q := mustLoad(t, "weir.yaml").Spec.Quotas[0]
		if got := slices.Contains(q.CacheReadModels, "*claude-3-5-haiku*"); got != want {
			t.Errorf("%q: cache reads of Claude 3.5 Haiku count by model: %t, want %t", line, got, want)
		}
	}
}

const ownProviders = `
providers:
- name: gateway
  based_on: openai
  rules:
  - {status: 420, code: Enhance_Your_Calm, class: quota}
  - {status: 500, status_to: 599, text: No Free Worker, class: overload, retry_after: false}
  - {code: tired, class: unused}
  - {status: 500, code: server_error, class: server, begun: true}
  - {code: too_busy, class: concurrency, meter: in_flight}
  - {code: too_long, class: quota, meter: input_tokens}
  - {code: too_quick, class: acceleration, meter: tokens}
  - {code: too_many_today, class: spend, meter: requests}
  headers:
    requests: {limit: X-Calls}
    input_tokens: {limit: x-in, remaining: x-in-left}
    output_tokens: {limit: x-out, reset: x-out-reset}
    tokens: {remaining: x-tokens-left}
    retry_after: [{header: X-Wait}, {header: x-wait-ms, unit: ms}, {header: x-until, unit: date}]
  counts_cache_reads: false
  output_accounting: reserved
  charges_refused: false
  joint_tokens: false
- {name: plain}
- {name: haikus, based_on: anthropic, charges_refused: true}
quotas:
- {name: a, provider: gateway}
- {name: b, provider: plain}
- {name: c, provider: haikus}
`

// TestOwnProviders: all that can be said of a provider arrives, before what is known of
// the one that it is based on.
func TestOwnProviders(t *testing.T) {
	t.Chdir(t.TempDir())
	write(t, "weir.yaml", ownProviders)
	l := mustLoad(t, "weir.yaml")
	want := *provider.Named("openai")
	want.Name, want.CountsCacheReads, want.ReservesMaxTokens, want.JointTokens = "gateway", false, true, false
	want.Rules = slices.Concat([]provider.Rule{
		{From: 420, To: 420, Code: "enhance_your_calm", Class: limiter.ClassQuota},
		{From: 500, To: 599, Text: "no free worker", Class: limiter.ClassOverload, Mute: true},
		{From: 400, To: 599, Code: "tired", Class: limiter.ClassUnused},
		{From: 500, To: 500, Code: "server_error", Class: limiter.ClassServer, Begun: true},
		{From: 400, To: 599, Code: "too_busy", Class: limiter.ClassConcurrency},
		{From: 400, To: 599, Code: "too_long", Class: limiter.ClassQuota, Meter: limiter.InputTokens, HasMeter: true},
		{From: 400, To: 599, Code: "too_quick", Class: limiter.ClassAcceleration, Meter: limiter.Tokens, HasMeter: true},
		{From: 400, To: 599, Code: "too_many_today", Class: limiter.ClassSpend, Meter: limiter.Requests, HasMeter: true, Narrow: true},
	}, want.Rules)
	want.Types = slices.Concat([]provider.TypeStatus{{Type: "enhance_your_calm", Status: 420}, {Type: "tired", Status: 400}, {Type: "too_busy", Status: 400}, {Type: "too_long", Status: 400}, {Type: "too_quick", Status: 400}, {Type: "too_many_today", Status: 400}}, want.Types)
	want.Headers = slices.Concat([]provider.HeaderRule{
		{Name: "x-calls", Part: provider.PartLimit},
		{Name: "x-in", Part: provider.PartLimit, Meter: limiter.InputTokens},
		{Name: "x-in-left", Part: provider.PartRemaining, Meter: limiter.InputTokens},
		{Name: "x-out", Part: provider.PartLimit, Meter: limiter.OutputTokens},
		{Name: "x-out-reset", Part: provider.PartReset, Meter: limiter.OutputTokens},
		{Name: "x-tokens-left", Part: provider.PartRemaining, Meter: limiter.Tokens},
		{Name: "x-wait", Part: provider.PartWaitSeconds},
		{Name: "x-wait-ms", Part: provider.PartWaitMillis},
		{Name: "x-until", Part: provider.PartWaitDate},
	}, want.Headers)
	for _, c := range []limiter.Class{limiter.ClassQuota, limiter.ClassAcceleration, limiter.ClassConcurrency} {
		want.Refunds[c].Requests = true
	}
	if diff := cmp.Diff(&want, l.Profile("gateway")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if err := l.Profile("gateway").Check(); err != nil {
		t.Error(err)
	}
	plain := provider.Generic()
	plain.Name = "plain"
	if diff := cmp.Diff(&plain, l.Profile("plain")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if l.Profile("haikus").Refunds[limiter.ClassQuota].Requests || !provider.Anthropic().Refunds[limiter.ClassQuota].Requests {
		t.Error("a refusal is counted by weir's own provider too, or by neither")
	}
	for name, want := range map[string]string{"": "anthropic", "openai": "openai", "nobody": "generic"} {
		if got := l.Profile(name).Name; got != want {
			t.Errorf("provider %q is %s, want %s", name, got, want)
		}
	}
	if q := l.Spec.Quotas; q[0].CountsCacheReads || !q[0].ReservesMaxTokens || !q[0].Learn || !q[1].CountsCacheReads || len(q[2].CacheReadModels) == 0 {
		t.Errorf("the quotas do not take after their providers: %+v", q)
	}
	if wrong := checkAgainstSchema(t, ownProviders); len(wrong) > 0 {
		t.Errorf("the schema refuses it: %q", wrong)
	}
}

// TestOwnAnswers: answers are read as the configuration says, and others as usual.
func TestOwnAnswers(t *testing.T) {
	t.Chdir(t.TempDir())
	write(t, "weir.yaml", ownProviders)
	p := mustLoad(t, "weir.yaml").Profile("gateway")
	for name, tc := range map[string]struct {
		answer provider.Answer
		class  limiter.Class
		wait   time.Duration
		refund provider.Refund
	}{
		"a refusal": {
			provider.Answer{Status: 420, ErrorType: "enhance_your_calm", Headers: []limiter.Entry{{Key: "x-wait-ms", Value: "1500"}}},
			limiter.ClassQuota, 1500 * time.Millisecond,
			provider.Refund{Requests: true, Input: true, Output: true},
		},
		"in a stream": {provider.Answer{Status: 200, ErrorType: "enhance_your_calm", MidStream: true}, limiter.ClassQuota, 0, provider.Refund{}},
		"a wait that is not meant": {
			provider.Answer{Status: 503, Message: "there is NO free worker", RetryAfter: "9"},
			limiter.ClassOverload, 0,
			provider.Refund{Input: true, Output: true},
		},
		"never begun":    {provider.Answer{Status: 503, ErrorType: "tired"}, limiter.ClassUnused, 0, provider.Refund{Requests: true, Input: true, Output: true}},
		"begun":          {provider.Answer{Status: 500, ErrorType: "server_error"}, limiter.ClassServer, 0, provider.Refund{}},
		"the base's own": {provider.Answer{Status: 429, ErrorType: "insufficient_quota"}, limiter.ClassSpend, 0, provider.Refund{Requests: true, Input: true, Output: true}},
	} {
		got := p.Read(&tc.answer, 0)
		if got.Class != tc.class || got.RetryAfter != tc.wait || got.Refund != tc.refund {
			t.Errorf("%s: %s, wait %v, %+v", name, provider.ClassName(got.Class), got.RetryAfter, got.Refund)
		}
	}
}

// TestOwnMeters: a rule says what its refusals are about, whatever the message names.
func TestOwnMeters(t *testing.T) {
	t.Chdir(t.TempDir())
	write(t, "weir.yaml", ownProviders)
	p := mustLoad(t, "weir.yaml").Profile("gateway")
	text := "limit of requests per min: Limit 500, Used 500"
	for code, want := range map[string]limiter.Outcome{
		"too_long":       {Class: limiter.ClassQuota, Named: limiter.InputTokens, HasNamed: true},
		"too_quick":      {Class: limiter.ClassAcceleration, Named: limiter.InputTokens, HasNamed: true},
		"too_many_today": {Class: limiter.ClassSpend, Narrow: true},
		"too_busy":       {Class: limiter.ClassConcurrency},
	} {
		r := p.Read(&provider.Answer{Status: 400, ErrorType: code, Message: text}, 0)
		got := p.Outcome(&r, &provider.Usage{})
		if got.Class != want.Class || got.Named != want.Named || got.HasNamed != want.HasNamed || got.Narrow != want.Narrow {
			t.Errorf("%s: %+v", code, got)
		}
	}
}

// TestProvidersAreShared: a provider of one file serves the quotas of another, and
// another provider is another configuration.
func TestProvidersAreShared(t *testing.T) {
	t.Chdir(t.TempDir())
	write(t, "a.yaml", "quotas:\n- {name: a, provider: ours}\n")
	write(t, "b.yaml", "providers:\n- {name: ours, rules: [{status: 420, class: quota}]}\n")
	before := mustLoad(t, ".")
	write(t, "b.yaml", "providers:\n- {name: ours, rules: [{status: 420, class: spend}]}\n")
	after := mustLoad(t, ".")
	if before.Digest == after.Digest {
		t.Error("the digests are the same")
	}
	if before.Profile("ours").Rules[0].Class != limiter.ClassQuota || after.Profile("ours").Rules[0].Class != limiter.ClassSpend {
		t.Error("the rules did not change")
	}
}

// TestTooManyProviders: the bound holds over all files.
func TestTooManyProviders(t *testing.T) {
	t.Chdir(t.TempDir())
	for file := range 2 {
		var b strings.Builder
		b.WriteString("providers:\n")
		for i := range config.MaxProviders/2 + 1 {
			fmt.Fprintf(&b, "- {name: p%d-%d}\n", file, i)
		}
		write(t, fmt.Sprintf("%d.yaml", file), b.String()+"quotas: [{name: q"+fmt.Sprint(file)+", provider: anthropic}]\n")
	}
	if _, err := config.Load([]string{"."}, nil); err == nil || !strings.Contains(err.Error(), "too many providers, expected at most 256") {
		t.Errorf("got %v", err)
	}
}
