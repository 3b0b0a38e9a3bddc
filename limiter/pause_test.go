package limiter

import (
	"encoding/binary"
	"testing"
	"time"
)

// world drives one quota by hand.
type pauseWorld struct {
	t   *testing.T
	p   *Plan
	l   *Limiter
	now Instant
	ids uint64
}

func newPauseWorld(t *testing.T, q QuotaSpec) *pauseWorld {
	t.Helper()
	q.Name, q.Learn = "q", true
	p, err := Compile(Spec{Quotas: []QuotaSpec{q}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return &pauseWorld{t: t, p: p, l: New(Options{}), now: Instant(time.Hour)}
}

func (w *pauseWorld) ask(tenant string, hold time.Duration, e Estimate, attrs ...Entry) Decision {
	w.t.Helper()
	w.ids++
	if e == (Estimate{}) {
		e = Estimate{InputTokens: 1, HasInput: true, MaxTokens: 1, HasMax: true}
	}
	a := Ask{Tenant: tenant, Open: true}
	if hold > 0 {
		a.HoldUntil = w.now.Add(hold)
	}
	binary.LittleEndian.PutUint64(a.ID[8:], w.ids)
	w.p.MatchAttributes(&a, "", -1, append([]Entry{{"org", "acme"}}, attrs...), e)
	w.l.Route(&a)
	var d Decision
	w.l.Decide(w.now, &a, &d)
	return d
}

// pass lets time go by, and returns what became decided.
func (w *pauseWorld) pass(d time.Duration) []Event {
	end := w.now.Add(d)
	for at, set := w.l.Next(0); at <= end; at, set = w.l.Next(0) {
		w.now = max(w.now, at)
		w.l.Advance(w.now, 0, set)
	}
	w.now = end
	return w.l.Ready(0)
}

func (w *pauseWorld) report(d Decision, o Outcome) {
	w.t.Helper()
	if s := w.l.Report(w.now, d.ID, "", o); !s.Applied {
		w.t.Fatalf("the report was not taken: %+v", s)
	}
}

func minute(requests uint64) []LimitSpec {
	return []LimitSpec{{Meter: Requests, Amount: requests, Window: time.Minute}}
}

// A refused right closes that credential, model and long context, and nothing else; ten
// minutes later one call tries it.
func TestARefusedRight(t *testing.T) {
	w := newPauseWorld(t, QuotaSpec{Limits: minute(6000)})
	right := []Entry{{"credential", "key-1"}, {"model", "opus"}, {"long_context", "true"}}
	d := w.ask("a", 0, Estimate{}, right...)
	w.report(d, Outcome{Class: ClassEntitlement, Trusted: true, RefundRequests: true, RefundInput: true, RefundOutput: true})
	w.pass(time.Second)
	before := w.l.Quotas(w.now, 0)[0].Paces
	if d := w.ask("b", 0, Estimate{}, right...); d.Verdict != Denied || d.RetryAt < w.now.Add(9*time.Minute) {
		t.Errorf("the same right: %v until %v", d.Verdict, d.RetryAt.Sub(w.now))
	}
	for name, other := range map[string][]Entry{
		"another credential": {{"credential", "key-2"}, {"model", "opus"}, {"long_context", "true"}},
		"another model":      {{"credential", "key-1"}, {"model", "sonnet"}, {"long_context", "true"}},
		"a short context":    {{"credential", "key-1"}, {"model", "opus"}, {"long_context", "false"}},
		"nothing said":       {{"credential", "key-1"}, {"model", "opus"}},
	} {
		d := w.ask("a", 0, Estimate{}, other...)
		if d.Verdict != Allowed {
			t.Errorf("%s: %v", name, d.Verdict)
		} else {
			w.l.Release(w.now, d.ID, "")
		}
		w.pass(time.Second)
	}
	if after := w.l.Quotas(w.now, 0)[0].Paces; before[Requests].Rate != after[Requests].Rate || before[Requests].Burst != after[Requests].Burst {
		t.Errorf("the quota learned from it: %+v, then %+v", before[Requests], after[Requests])
	}
	w.pass(10 * time.Minute)
	probe := w.ask("a", 0, Estimate{}, right...)
	if probe.Verdict != Allowed {
		t.Fatalf("ten minutes later: %v", probe.Verdict)
	}
	if d := w.ask("b", 0, Estimate{}, right...); d.Verdict != Denied {
		t.Errorf("beside the one that tries: %v", d.Verdict)
	}
	w.report(probe, Outcome{Class: ClassOK, Trusted: true})
	w.pass(time.Second)
	if d := w.ask("b", 0, Estimate{}, right...); d.Verdict != Allowed {
		t.Errorf("after it worked: %v", d.Verdict)
	}
}

// What one tenant says of a right holds for that tenant only.
func TestARefusedRightByATenant(t *testing.T) {
	w := newPauseWorld(t, QuotaSpec{Limits: minute(6000)})
	right := []Entry{{"credential", "key-1"}, {"model", "opus"}, {"long_context", "true"}}
	w.report(w.ask("a", 0, Estimate{}, right...), Outcome{Class: ClassEntitlement})
	w.pass(time.Second)
	if d := w.ask("a", 0, Estimate{}, right...); d.Verdict != Denied {
		t.Errorf("the tenant itself: %v", d.Verdict)
	}
	if d := w.ask("b", 0, Estimate{}, right...); d.Verdict != Allowed {
		t.Errorf("another: %v", d.Verdict)
	}
}

// After a spent budget one call looks whether there is money again, and the others wait
// for what becomes of it.
func TestASpentBudgetIsProbed(t *testing.T) {
	w := newPauseWorld(t, QuotaSpec{Limits: minute(6000)})
	w.report(w.ask("a", 0, Estimate{}), Outcome{Class: ClassSpend, Trusted: true, RefundRequests: true})
	w.pass(14 * time.Minute)
	if d := w.ask("a", 0, Estimate{}); d.Verdict != Denied {
		t.Fatalf("a minute too soon: %v", d.Verdict)
	}
	w.pass(time.Minute)
	probe := w.ask("a", 0, Estimate{})
	if probe.Verdict != Allowed {
		t.Fatalf("after a quarter of an hour: %v", probe.Verdict)
	}
	if d := w.ask("b", 0, Estimate{}); d.Verdict != Denied {
		t.Errorf("beside the one that looks: %v", d.Verdict)
	}
	w.report(probe, Outcome{Class: ClassOK, Trusted: true})
	if d := w.ask("b", 0, Estimate{}); d.Verdict != Allowed {
		t.Errorf("once there is money: %v", d.Verdict)
	}
}

// Who is over its ceiling and can wait is held until it is not, and nobody waits behind
// it; who leaves meanwhile has consumed nothing.
func TestACeilingHolds(t *testing.T) {
	w := newPauseWorld(t, QuotaSpec{
		Limits: minute(60), Hold: time.Hour, Tenants: map[string]TenantSpec{"greedy": {Ceiling: 0.1}},
	})
	var held []Ticket
	var events []Event
	for range 10 {
		if d := w.ask("greedy", 10*time.Minute, Estimate{}); d.Verdict == Held {
			held = append(held, d.Ticket)
		}
		events = append(events, w.pass(2*time.Second)...)
	}
	if len(held) < 3 {
		t.Fatalf("%d were held, want those beyond six a minute", len(held))
	}
	events = append(events, w.pass(time.Second)...)
	if d := w.ask("other", 0, Estimate{}); d.Verdict != Allowed {
		t.Errorf("another tenant, beside them: %v", d.Verdict)
	}
	if !w.l.Cancel(w.now, held[len(held)-1]) {
		t.Error("the last one could not leave")
	}
	decided := 0
	for _, e := range append(events, w.pass(5*time.Minute)...) {
		if e.Ticket != 0 {
			decided++
			if e.Decision.Verdict != Allowed {
				t.Errorf("ticket %d: %v", e.Ticket, e.Decision.Verdict)
			}
		}
	}
	if decided != len(held)-1 {
		t.Errorf("%d of %d were let in", decided, len(held)-1)
	}
}

// What no limit could ever admit is infeasible also where nobody knows the limits, and
// shuts nobody out.
func TestVastAsksOfUnknownLimits(t *testing.T) {
	w := newPauseWorld(t, QuotaSpec{Mode: HintLimits})
	for name, e := range map[string]Estimate{
		"input":    {InputTokens: MaxAmount, HasInput: true},
		"body":     {BodyBytes: MaxAmount, HasBody: true},
		"output":   {MaxTokens: MaxAmount, HasMax: true, Exact: true},
		"requests": {Requests: 1 << 32},
	} {
		if d := w.ask("a", 0, e); d.Verdict != Infeasible || d.RefusedBy < 0 || d.RetryAt != Never {
			t.Errorf("%s: %v by %d", name, d.Verdict, d.RefusedBy)
		}
	}
	if d := w.ask("a", 0, Estimate{InputTokens: 200_000, HasInput: true}); d.Verdict != Allowed {
		t.Errorf("a long prompt: %v", d.Verdict)
	}
}

// A tenant's calls may be of less priority than its terms say, not of more.
func TestPriorityIsNotTheCallersToRaise(t *testing.T) {
	w := newPauseWorld(t, QuotaSpec{Tenants: map[string]TenantSpec{"nightly": {Priority: Batch}, "chat": {Priority: Interactive}}})
	w.ask("chat", 0, Estimate{})
	st := w.l.shards[0].order[0]
	for _, c := range []struct {
		tenant     string
		said, want Priority
	}{
		{"nightly", Interactive, Batch},
		{"nightly", PriorityUnset, Batch},
		{"chat", Batch, Batch},
		{"chat", PriorityUnset, Interactive},
		{"anybody", Batch, Batch},
		{"anybody", Interactive, Interactive},
	} {
		if got := st.band(&Ask{Tenant: c.tenant, Priority: c.said}); got != c.want {
			t.Errorf("%s says %d: %d, want %d", c.tenant, c.said, got, c.want)
		}
	}
}

// A spent budget, and a gate of twenty minutes, survive a restart.
func TestGatesSurviveARestart(t *testing.T) {
	for name, o := range map[string]Outcome{
		"spend": {Class: ClassSpend, RetryAfter: 12 * time.Minute, Trusted: true},
		"quota": {Class: ClassQuota, RetryAfter: 12 * time.Minute, Trusted: true},
	} {
		w := newPauseWorld(t, QuotaSpec{Limits: minute(600)})
		w.report(w.ask("a", 0, Estimate{}), o)
		kept := w.l.Learned(w.now, 0)
		w.l = New(Options{})
		for i := range kept {
			if set, ok := w.l.RouteLearned(w.p, &kept[i]); !ok || set == 0 {
				t.Fatal("not known any more")
			}
			w.l.Restore(w.now, w.p, &kept[i])
		}
		w.pass(11 * time.Minute)
		if d := w.ask("a", 0, Estimate{}); d.Verdict != Denied {
			t.Errorf("%s: a minute too soon: %v", name, d.Verdict)
		}
		w.pass(90 * time.Second)
		if d := w.ask("a", 0, Estimate{}); d.Verdict != Allowed {
			t.Errorf("%s: when it is over: %v", name, d.Verdict)
		}
	}
}
