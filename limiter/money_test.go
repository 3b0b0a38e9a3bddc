package limiter

import (
	"encoding/binary"
	"fmt"
	"testing"
	"time"
)

// firm drives several quotas in several shards: of two models of one provider, and of
// another provider's.
type firm struct {
	t   *testing.T
	p   *Plan
	l   *Limiter
	now Instant
	ids uint64
}

func newFirm(t *testing.T) *firm {
	t.Helper()
	quota := func(name, provider, model string) QuotaSpec {
		return QuotaSpec{
			Name: name, Provider: provider, Learn: true, Limits: minute(6000),
			Match: []AttributePattern{{"model", model}}, Per: []string{"org", "model"},
		}
	}
	p, err := Compile(Spec{Quotas: []QuotaSpec{
		quota("opus", "anthropic", "opus"), quota("sonnet", "anthropic", "sonnet"), quota("gpt", "openai", "gpt"),
	}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return &firm{t: t, p: p, l: New(Options{Shards: 64}), now: t0}
}

func (w *firm) matched(org, model, tenant string) *Ask {
	w.ids++
	a := &Ask{Tenant: tenant, Open: true}
	binary.LittleEndian.PutUint64(a.ID[8:], w.ids)
	w.p.MatchAttributes(a, "", -1, []Entry{{"org", org}, {"model", model}}, one)
	return a
}

func (w *firm) ask(org, model string) Decision {
	w.t.Helper()
	return decide(w.l, w.now, w.matched(org, model, "t"))
}

func (w *firm) admit(org, model string) ID {
	w.t.Helper()
	d := w.ask(org, model)
	if d.Verdict != Allowed {
		w.t.Fatalf("%s: %s of %s: %s, %+v", w.now.Sub(t0), model, org, d.Verdict, d.Refusal)
	}
	return d.ID
}

func (w *firm) spent(id ID) {
	w.t.Helper()
	w.report(id, Outcome{Class: ClassSpend, Trusted: true, RefundRequests: true, RefundInput: true, RefundOutput: true})
}

func (w *firm) report(id ID, o Outcome) {
	w.t.Helper()
	if s := w.l.Report(w.now, id, "", o); !s.Applied {
		w.t.Fatalf("the report was not taken: %+v", s)
	}
}

// wants says which of acme's quotas are open now, and undoes looking.
func (w *firm) wants(opus, sonnet, gpt Verdict) {
	w.t.Helper()
	for model, want := range map[string]Verdict{"opus": opus, "sonnet": sonnet, "gpt": gpt} {
		a := w.matched("acme", model, "t")
		a.DryRun = true
		if d := decide(w.l, w.now, a); d.Verdict != want {
			w.t.Errorf("%s: %s: %s, want %s (%+v)", w.now.Sub(t0), model, d.Verdict, want, d.Refusal)
		}
	}
}

// pass lets time go by in all shards, and returns what became decided.
func (w *firm) pass(d time.Duration) []Event {
	w.t.Helper()
	var events []Event
	end := w.now.Add(d)
	for w.now < end {
		w.now = min(end, w.now.Add(250*time.Millisecond))
		for i := range w.l.Shards() {
			for n := 0; ; n++ {
				at, set := w.l.Next(i)
				if at > w.now {
					break
				}
				if n > 1000 {
					w.t.Fatal("a shard is never done")
				}
				w.l.Advance(w.now, i, set)
			}
			events = append(events, w.l.Ready(i)...)
		}
	}
	return events
}

// A spent budget is the organisation's: it closes all its quotas at the provider, whatever
// their models and shards, and nobody else's. One call looks whether there is money again,
// for all of them.
func TestASpentBudgetClosesTheOrganisation(t *testing.T) {
	w := newFirm(t)
	w.admit("acme", "sonnet") // has been asked for; gpt has not
	before := w.admit("acme", "sonnet")
	w.pass(time.Second)
	w.spent(w.admit("acme", "opus"))
	// 1s: closed for a quarter of an hour.
	w.wants(Denied, Denied, Allowed)
	if d := w.ask("acme", "sonnet"); d.Refusal.Cause != CauseSpend || d.Refusal.Org != "acme" || d.Refusal.Until != w.now.Add(spendProbe) {
		t.Errorf("sonnet: %s: %+v", d.Verdict, d.Refusal)
	}
	w.admit("zeta", "opus")
	for i := range w.l.Shards() {
		for _, v := range w.l.Quotas(w.now, i) {
			if shut := v.SpendUntil > w.now; shut != (v.Attributes[0].Value == "acme" && v.Name != "gpt") {
				t.Errorf("%s of %s is shown shut: %t", v.Name, v.Attributes[0].Value, shut)
			}
		}
	}
	// A call that was let in before does not show that there is money now.
	w.pass(time.Second)
	w.report(before, Outcome{Class: ClassOK, Trusted: true})
	w.wants(Denied, Denied, Allowed)
	// 15m1s: one looks, and the others of both models wait for it, a minute at most.
	w.pass(spendProbe)
	w.admit("acme", "sonnet")
	w.wants(Denied, Denied, Allowed)
	w.pass(spendWait)
	probe := w.admit("acme", "opus")
	w.wants(Denied, Denied, Allowed)
	// Still none: again for a quarter of an hour.
	w.spent(probe)
	w.pass(spendProbe - time.Second)
	w.wants(Denied, Denied, Allowed)
	w.pass(time.Second)
	probe = w.admit("acme", "opus")
	w.report(probe, Outcome{Class: ClassOK, Trusted: true})
	w.wants(Allowed, Allowed, Allowed)
	if w.l.money.of.Load() != nil {
		t.Error("what has money is remembered")
	}
}

// What is spent of an allowance of one model closes that quota.
func TestASpentAllowanceClosesItsQuota(t *testing.T) {
	w := newFirm(t)
	w.report(w.admit("acme", "opus"), Outcome{Class: ClassSpend, Trusted: true, Narrow: true})
	w.pass(time.Second)
	w.wants(Denied, Allowed, Allowed)
	if d := w.ask("acme", "opus"); d.Refusal.Cause != CauseSpend || d.Refusal.Org != "" {
		t.Errorf("%+v", d.Refusal)
	}
}

// Nothing that tenants say closes more than it did: their lanes, or the quota that only one
// of them asks for.
func TestTenantsCannotCloseTheOrganisation(t *testing.T) {
	w := newFirm(t)
	lie := Outcome{Class: ClassSpend, RefundRequests: true, RetryAfter: time.Hour}
	w.report(w.admit("acme", "opus"), lie) // the only one there
	w.pass(time.Second)
	w.wants(Denied, Allowed, Allowed)
	// Nor do they keep it closed, once a gateway did: what one says that looks is its own.
	w.spent(w.admit("acme", "sonnet"))
	for range 5 {
		w.pass(spendProbe)
		d := decide(w.l, w.now, w.matched("acme", "sonnet", "liar"))
		if d.Verdict == Allowed {
			w.report(d.ID, lie)
		}
		w.pass(spendWait)
		honest := decide(w.l, w.now, w.matched("acme", "sonnet", "honest"))
		if honest.Verdict != Allowed {
			t.Fatalf("%s: a minute after the liar looked: %s, %+v", w.now.Sub(t0), honest.Verdict, honest.Refusal)
		}
		w.spent(honest.ID)
	}
}

// Who is held for one model is let in when the call that looks is of another one, in
// another shard.
func TestThereIsMoneyAgainForWhoWaits(t *testing.T) {
	w := newFirm(t)
	w.spent(w.admit("acme", "opus"))
	w.pass(spendProbe - 30*time.Second)
	a := w.matched("acme", "sonnet", "t")
	a.HoldUntil = w.now.Add(5 * time.Minute)
	b := w.matched("acme", "opus", "t")
	b.HoldUntil = a.HoldUntil
	first, second := decide(w.l, w.now, a), decide(w.l, w.now, b)
	if first.Verdict != Held || second.Verdict != Held {
		t.Fatalf("%s and %s, want both held", first.Verdict, second.Verdict)
	}
	// When it is worth a look one of them goes, whichever that is.
	events := w.pass(35 * time.Second)
	if len(events) != 1 || events[0].Decision.Verdict != Allowed {
		t.Fatalf("%+v", events)
	}
	w.report(events[0].Decision.ID, Outcome{Class: ClassOK, Trusted: true})
	events = w.pass(time.Second)
	if len(events) != 1 || events[0].Decision.Verdict != Allowed {
		t.Errorf("once there is money: %+v", events)
	}
}

// An operator who has paid says so of any of the quotas.
func TestAnOperatorSaysThatThereIsMoney(t *testing.T) {
	w := newFirm(t)
	w.spent(w.admit("acme", "opus"))
	w.admit("acme", "gpt")
	clearOf := func(model string, meter *Meter) int {
		a := w.matched("acme", model, "t")
		w.l.Route(a)
		return w.l.ClearGates(w.now, a, model, meter)
	}
	requests := Requests
	if n := clearOf("gpt", nil) + clearOf("opus", &requests); n != 0 {
		t.Errorf("%d of others were open", n)
	}
	w.wants(Denied, Denied, Allowed)
	w.admit("zeta", "sonnet")
	w.ask("acme", "sonnet")
	if n := clearOf("sonnet", nil); n != 1 {
		t.Errorf("%d were shut, want the one of the money", n)
	}
	w.wants(Allowed, Allowed, Allowed)
}

// It is kept over a restart, and clipped to what can be meant.
func TestTheOrganisationsMoneyIsKeptOverARestart(t *testing.T) {
	w := newFirm(t)
	w.ask("acme", "sonnet")
	w.spent(w.admit("acme", "opus"))
	var kept []Learned
	for i := range w.l.Shards() {
		kept = append(kept, w.l.Learned(w.now, i)...)
	}
	w.l = New(Options{Shards: 8})
	w.now = w.now.Add(time.Minute)
	for i := range kept {
		if _, ok := w.l.RouteLearned(w.p, &kept[i]); !ok {
			t.Fatal("not known any more")
		}
		if kept[i].OrgSpend != 0 {
			kept[i].OrgSpend = Instant(1 << 62)
		}
		w.l.Restore(w.now, w.p, &kept[i])
	}
	w.wants(Denied, Denied, Allowed)
	w.pass(spendProbe)
	w.report(w.admit("acme", "sonnet"), Outcome{Class: ClassOK, Trusted: true})
	w.wants(Allowed, Allowed, Allowed)
}

// What is remembered is bounded; beyond, the quota itself closes. What nobody looked into
// for a day makes room.
func TestPursesAreBounded(t *testing.T) {
	w := newFirm(t)
	for i := range maxPurses {
		w.spent(w.admit(fmt.Sprint("org ", i), "opus"))
	}
	w.spent(w.admit("acme", "opus"))
	w.wants(Denied, Allowed, Allowed)
	if n := len(*w.l.money.of.Load()); n != maxPurses {
		t.Fatalf("%d purses", n)
	}
	w.now = w.now.Add(spendProbe + purseMemory + time.Second)
	w.spent(w.admit("zeta", "opus"))
	if n := len(*w.l.money.of.Load()); n != 1 {
		t.Errorf("%d purses a day later, want that of zeta", n)
	}
}

// Looking whether there is money costs no memory.
func TestASpentBudgetIsAskedWithoutAllocating(t *testing.T) {
	w := newFirm(t)
	w.admit("acme", "sonnet")
	w.spent(w.admit("acme", "opus"))
	a, d := w.matched("acme", "sonnet", "t"), Decision{}
	attrs := []Entry{{"org", "acme"}, {"model", "sonnet"}}
	a.DryRun = true
	n := testing.AllocsPerRun(100, func() {
		a.Reset()
		a.DryRun, a.Tenant = true, "t"
		w.p.MatchAttributes(a, "", -1, attrs, one)
		w.l.Route(a)
		w.l.Decide(w.now, a, &d)
	})
	if d.Verdict != Denied || n > 0 {
		t.Errorf("%s, %.0f allocations", d.Verdict, n)
	}
}
