package limiter_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/weir-project/weir/limiter"
)

// threeMeters is a quota for each org, with a limit for each meter, and a rule in the
// domain "d" on the same attribute.
func threeMeters() limiter.Spec {
	limits := []limiter.LimitSpec{
		{Meter: limiter.Requests, Amount: 1000, Window: time.Minute},
		{Meter: limiter.InputTokens, Amount: 1_000_000, Window: time.Minute},
		{Meter: limiter.OutputTokens, Amount: 1_000_000, Window: time.Minute},
		{Meter: limiter.Tokens, Amount: 1_000_000, Window: time.Minute},
	}
	return limiter.Spec{
		Quotas:  []limiter.QuotaSpec{{Name: "q", Limits: limits}},
		Domains: []limiter.DomainSpec{{Name: "d", Rules: []limiter.RuleSpec{{Key: "org", Limits: limits}}}},
	}
}

// usedBy returns what each limit of org "a" holds at now.
func usedBy(l *limiter.Limiter, p *limiter.Plan, now limiter.Instant) map[string]uint64 {
	var a limiter.Ask
	var d limiter.Decision
	a.DryRun = true
	p.MatchAttributes(&a, "d", 0, []limiter.Entry{{Key: "org", Value: "a"}}, limiter.Estimate{Exact: true})
	l.Route(&a)
	l.Decide(now, &a, &d)
	used := map[string]uint64{}
	for _, c := range d.Checks {
		used[c.Limit.Owner+" "+c.Limit.Meter.String()] = c.Used
	}
	return used
}

// TestOneRequestInManyParts asks for one quota in as many parts as a caller likes, one
// meter each for example, and reports once: what is charged in the end is what was
// used, as if it had been asked for in one part.
func TestOneRequestInManyParts(t *testing.T) {
	p := compile(t, threeMeters(), nil)
	rapid.Check(t, func(rt *rapid.T) {
		l := limiter.New(limiter.Options{Shards: 4})
		a := limiter.Ask{Open: true, ID: limiter.ID{1: 1}}
		sum := limiter.Usage{}
		for range rapid.IntRange(1, 4).Draw(rt, "parts") {
			part := limiter.Usage{
				Requests:     rapid.Uint64Range(0, 2).Draw(rt, "requests"),
				InputTokens:  rapid.Uint64Range(0, 100).Draw(rt, "input"),
				OutputTokens: rapid.Uint64Range(0, 100).Draw(rt, "output"),
			}
			p.MatchAttributes(&a, "d", 0, []limiter.Entry{{Key: "org", Value: "a"}}, limiter.Estimate{
				Requests: part.Requests, InputTokens: part.InputTokens, MaxTokens: part.OutputTokens, Exact: true,
			})
			sum.Requests += part.Requests
			sum.InputTokens += part.InputTokens
			sum.OutputTokens += part.OutputTokens
		}
		var d limiter.Decision
		l.Route(&a)
		l.Decide(newYear, &a, &d)
		if d.Verdict != limiter.Allowed || d.Reserved != sum {
			rt.Fatalf("%v, reserved %+v, want %+v", d.Verdict, d.Reserved, sum)
		}
		if diff := cmp.Diff(amounts(sum), usedBy(l, p, newYear)); diff != "" {
			rt.Fatalf("after the ask (-want +got):\n%s", diff)
		}
		o := limiter.Outcome{
			Trusted:  true,
			HasInput: rapid.Bool().Draw(rt, "input known"), HasOutput: rapid.Bool().Draw(rt, "output known"),
			RefundRequests: rapid.Bool().Draw(rt, "refund requests"),
			Usage:          limiter.Usage{InputTokens: rapid.Uint64Range(0, 500).Draw(rt, "used input"), OutputTokens: rapid.Uint64Range(0, 500).Draw(rt, "used output")},
		}
		want := sum
		if o.HasInput {
			want.InputTokens = o.Usage.InputTokens
		}
		if o.HasOutput {
			want.OutputTokens = o.Usage.OutputTokens
		}
		if o.RefundRequests {
			want.Requests = 0
		}
		if s := l.Report(newYear, d.ID, "", o); s.Charged != want {
			rt.Fatalf("%+v: charged %+v, want %+v", o, s.Charged, want)
		}
		if diff := cmp.Diff(amounts(want), usedBy(l, p, newYear)); diff != "" {
			rt.Fatalf("after the report %+v (-want +got):\n%s", o, diff)
		}
	})
}

// amounts is what each limit of threeMeters holds after u.
func amounts(u limiter.Usage) map[string]uint64 {
	m := map[string]uint64{}
	for _, meter := range []limiter.Meter{limiter.Requests, limiter.InputTokens, limiter.OutputTokens, limiter.Tokens} {
		m["q "+meter.String()], m["org "+meter.String()] = u.Of(meter), u.Of(meter)
	}
	return m
}
