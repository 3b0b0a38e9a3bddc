package limiter

import (
	"testing"
	"time"
)

// What is read from the prompt cache is charged to each quota that counts it, and to no
// other, whether it was reserved for or not.
func TestCacheReadsAreChargedWhereTheyCount(t *testing.T) {
	quota := func(name string, counts bool, models ...string) QuotaSpec {
		return QuotaSpec{
			Name: name, CountsCacheReads: counts, CacheReadModels: models,
			Limits: []LimitSpec{
				{Meter: InputTokens, Amount: 10_000, Window: time.Minute},
				{Meter: Tokens, Amount: 20_000, Window: time.Minute},
			},
		}
	}
	usage := Outcome{Trusted: true, Usage: Usage{Requests: 1, InputTokens: 100, OutputTokens: 7}, HasInput: true, HasOutput: true, CacheReads: 4000}
	for name, tc := range map[string]struct {
		quotas  []QuotaSpec
		outcome Outcome
		charged uint64   // input tokens, as the report is answered
		used    []uint64 // of each limit
	}{
		"counted":                    {[]QuotaSpec{quota("a", true)}, usage, 4100, []uint64{4100, 4107}},
		"not counted":                {[]QuotaSpec{quota("a", false)}, usage, 100, []uint64{100, 107}},
		"counted by model":           {[]QuotaSpec{quota("a", false, "*opus*", "*-haiku-*")}, usage, 4100, []uint64{4100, 4107}},
		"not by that model":          {[]QuotaSpec{quota("a", false, "*opus*")}, usage, 100, []uint64{100, 107}},
		"by the first of two quotas": {[]QuotaSpec{quota("a", true), quota("b", false)}, usage, 4100, []uint64{4100, 4107, 100, 107}},
		"by the second":              {[]QuotaSpec{quota("a", false), quota("b", true)}, usage, 100, []uint64{100, 107, 4100, 4107}},
		"not where no input is said": {[]QuotaSpec{quota("a", true)}, Outcome{CacheReads: 4000, RefundInput: true, RefundOutput: true}, 0, []uint64{0, 0}},
		"sums that saturate": {
			[]QuotaSpec{quota("a", true)},
			Outcome{Trusted: true, Usage: Usage{InputTokens: MaxAmount}, HasInput: true, HasOutput: true, CacheReads: 1 << 63},
			MaxAmount,
			[]uint64{MaxAmount, MaxAmount},
		},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := Compile(Spec{Quotas: tc.quotas}, nil)
			if err != nil {
				t.Fatal(err)
			}
			l := New(Options{})
			attrs := []Entry{{"org", "acme"}, {"model", "claude-3-haiku-20240307"}}
			a := &Ask{Open: true, ID: ID{1}}
			p.MatchAttributes(a, "", -1, attrs, Estimate{InputTokens: 50, HasInput: true, MaxTokens: 5, HasMax: true})
			d := decide(l, t0, a)
			if s := l.Report(t0, d.ID, "", tc.outcome); s.Charged.InputTokens != tc.charged {
				t.Errorf("charged %+v, want %d input tokens", s.Charged, tc.charged)
			}
			a.Reset()
			a.DryRun = true
			p.MatchAttributes(a, "", -1, attrs, Estimate{Exact: true})
			for i, k := range decide(l, t0, a).Checks {
				if k.Used != tc.used[i] {
					t.Errorf("limit %d of %s: used %d, want %d", i, k.Limit.Owner, k.Used, tc.used[i])
				}
			}
		})
	}
}

// Where only rules matched, the provider decides.
func TestCacheReadsWithoutAQuota(t *testing.T) {
	p, err := Compile(Spec{Domains: []DomainSpec{{Name: "llm", Rules: []RuleSpec{{
		Key: "user", Limits: []LimitSpec{{Meter: InputTokens, Amount: 10_000, Window: time.Minute}},
	}}}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for counts, want := range map[bool]uint64{true: 4100, false: 100} {
		l := New(Options{})
		a := &Ask{Open: true, ID: ID{1}}
		p.MatchAttributes(a, "llm", -1, []Entry{{"user", "ann"}}, Estimate{InputTokens: 50, HasInput: true})
		d := decide(l, t0, a)
		o := Outcome{Trusted: true, Usage: Usage{InputTokens: 100}, HasInput: true, CacheReads: 4000, CountCacheReads: counts}
		if s := l.Report(t0, d.ID, "", o); s.Charged.InputTokens != want {
			t.Errorf("charged %+v, want %d input tokens", s.Charged, want)
		}
	}
}

// What was used by a call that nobody had asked for is charged like any other.
func TestCacheReadsOfExactEstimates(t *testing.T) {
	e := Estimate{Exact: true, Requests: 1, InputTokens: 4100, CachedInputTokens: 4000, HasInput: true}
	for counts, want := range map[bool]uint64{true: 4100, false: 100} {
		if got := costOf(&e, nil, nil, counts).InputTokens; got != want {
			t.Errorf("costs %d, want %d", got, want)
		}
	}
}
