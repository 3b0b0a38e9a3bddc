package limiter

import (
	"testing"
	"time"
)

const t0 = Instant(1_700_000_000_000_000_000)

func at(d time.Duration) Instant { return t0.Add(d) }

func onePlan(t testing.TB, amount uint64, window time.Duration) *Plan {
	t.Helper()
	p, err := Compile(Spec{
		Domains: []DomainSpec{{Name: "edge", Rules: []RuleSpec{{
			Key: "user", Limits: []LimitSpec{{Meter: Requests, Amount: amount, Window: window}},
		}}}},
		Quotas: []QuotaSpec{{
			Name: "opus", Match: []AttributePattern{{Key: "model", Pattern: "claude-opus-*"}},
			Limits: []LimitSpec{
				{Meter: Requests, Amount: 10, Window: time.Minute},
				{Meter: InputTokens, Amount: 10_000, Window: time.Minute},
				{Meter: OutputTokens, Amount: 2_000, Window: time.Minute},
			},
		}},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func askUser(p *Plan, user string, n uint64) *Ask {
	a := &Ask{}
	p.MatchDescriptor(a, "edge", 0, []Entry{{"user", user}}, Hits{Amount: n})
	return a
}

func decide(l *Limiter, now Instant, a *Ask) Decision {
	var d Decision
	for {
		l.Route(a)
		l.Decide(now, a, &d)
		if d.Verdict != Reroute {
			return d
		}
	}
}

func TestWindowIsNeverOvershotAndComesBack(t *testing.T) {
	p := onePlan(t, 10, time.Minute)
	l := New(Options{})
	for i, s := range []struct {
		at      time.Duration
		n       uint64
		verdict Verdict
		used    uint64
		retry   time.Duration
	}{
		{0, 10, Allowed, 10, 0},
		{0, 1, Denied, 10, 61 * time.Second},
		{60 * time.Second, 1, Denied, 10, 61 * time.Second},
		{61*time.Second - 1, 1, Denied, 10, 61 * time.Second},
		{61 * time.Second, 4, Allowed, 4, 61 * time.Second},
		{62 * time.Second, 6, Allowed, 10, 62 * time.Second},
		{63 * time.Second, 11, Infeasible, 10, 0},
	} {
		base := t0 - t0%Instant(time.Second)
		d := decide(l, base.Add(s.at), askUser(p, "ann", s.n))
		if d.Verdict != s.verdict || d.Checks[0].Used != s.used {
			t.Fatalf("step %d: got %s used %d, want %s used %d", i, d.Verdict, d.Checks[0].Used, s.verdict, s.used)
		}
		if s.verdict == Denied && d.RetryAt != base.Add(s.retry) {
			t.Fatalf("step %d: retry at +%s, want +%s", i, d.RetryAt.Sub(base), s.retry)
		}
	}
}

func TestReservationSettlesOnceAndLeavesDebt(t *testing.T) {
	p := onePlan(t, 10, time.Minute)
	l := New(Options{Shards: 4, Seed: 7})
	a := &Ask{Tenant: "chat", Open: true, ID: ID{9, 1}, RequestID: "r1"}
	p.MatchAttributes(a, "llm", -1, []Entry{{"org", "acme"}, {"model", "claude-opus-4-8"}},
		Estimate{InputTokens: 4000, HasInput: true, MaxTokens: 500, HasMax: true})
	d := decide(l, t0, a)
	if d.Verdict != Allowed || !d.Opened || d.Reserved != (Usage{1, 4000, 500}) {
		t.Fatalf("got %+v", d)
	}
	id, ok := l.Find("r1")
	if !ok || id != d.ID {
		t.Fatal("request id not found")
	}
	o := Outcome{Trusted: true, Usage: Usage{InputTokens: 25_000, OutputTokens: 100}, HasInput: true, HasOutput: true, Learn: true}
	if s := l.Report(t0, id, "other", o); s.Ending != Unknown {
		t.Fatalf("another tenant's report: %+v", s)
	}
	s := l.Report(t0, id, "chat", o)
	if !s.Applied || s.Ending != Settled || s.Charged != (Usage{1, 25_000, 100}) {
		t.Fatalf("got %+v", s)
	}
	if s := l.Report(t0, id, "chat", Outcome{Usage: Usage{InputTokens: 9}, HasInput: true}); s.Applied || s.Charged.InputTokens != 25_000 {
		t.Fatalf("replay: %+v", s)
	}
	a.Reset()
	a.DryRun = true
	p.MatchAttributes(a, "llm", -1, []Entry{{"org", "acme"}, {"model", "claude-opus-4-8"}},
		Estimate{InputTokens: 1, HasInput: true, Exact: true})
	d = decide(l, t0, a)
	// 25,000 of 10,000: two whole turns of the window and half of one.
	if d.Verdict != Denied || d.Checks[1].Used != 25_000 || d.RetryAt.Sub(t0) < 120*time.Second || d.RetryAt.Sub(t0) > 125*time.Second+2*time.Minute {
		t.Fatalf("got %s used %d retry +%s", d.Verdict, d.Checks[1].Used, d.RetryAt.Sub(t0))
	}
	before, after := d.RetryAt-1, d.RetryAt
	if d := decide(l, before, a); d.Verdict != Denied {
		t.Fatal("passed before its time")
	}
	if d := decide(l, after, a); d.Verdict != Allowed {
		t.Fatalf("did not pass at its time: %+v", d.Checks[1])
	}
}

func BenchmarkDecideOne(b *testing.B) {
	p := onePlan(b, 1<<40, time.Minute)
	l := New(Options{Shards: 64})
	a := &Ask{}
	var d Decision
	e := []Entry{{"user", "ann"}}
	now := t0
	b.ReportAllocs()
	for b.Loop() {
		a.Reset()
		p.MatchDescriptor(a, "edge", 0, e, Hits{Amount: 1})
		l.Route(a)
		now += 1000
		l.Decide(now, a, &d)
	}
}
