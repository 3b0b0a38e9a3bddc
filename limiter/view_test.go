package limiter

import (
	"testing"
	"time"
)

// onlooker drives one learned quota by hand, and looks on.
type onlooker struct {
	t   *testing.T
	l   *Limiter
	p   *Plan
	ids byte
}

func newOnlooker(t *testing.T, q QuotaSpec) *onlooker {
	t.Helper()
	p, err := Compile(Spec{Quotas: []QuotaSpec{q}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return &onlooker{t: t, l: New(Options{}), p: p}
}

// ask asks for one request, as o changes it.
func (w *onlooker) ask(now Instant, tenant string, o func(*Ask)) Decision {
	w.t.Helper()
	w.ids++
	a := &Ask{Open: true, ID: ID{0, w.ids}, Tenant: tenant}
	w.p.MatchAttributes(a, "", -1, []Entry{{"org", "acme"}}, Estimate{
		Requests: 1, InputTokens: 1, HasInput: true, MaxTokens: 1, HasMax: true, Exact: true,
	})
	if o != nil {
		o(a)
	}
	return decide(w.l, now, a)
}

// sent asks, and must be let in.
func (w *onlooker) sent(now Instant) ID {
	w.t.Helper()
	d := w.ask(now, "chat", nil)
	if d.Verdict != Allowed {
		w.t.Fatalf("at %v: %s", now.Sub(t0), d.Verdict)
	}
	return d.ID
}

func (w *onlooker) report(now Instant, id ID, o Outcome) Settlement {
	w.t.Helper()
	s := w.l.Report(now, id, "", o)
	if s.Ending != Settled {
		w.t.Fatalf("at %v: %s", now.Sub(t0), s.Ending)
	}
	return s
}

func (w *onlooker) look(now Instant) QuotaView {
	w.t.Helper()
	v := w.l.Quotas(now, 0)
	if len(v) != 1 {
		w.t.Fatalf("%d quotas", len(v))
	}
	return v[0]
}

func TestTheClassOfEachRefusalIsSeen(t *testing.T) {
	for _, c := range []struct {
		name   string
		o      Outcome
		event  EventKind
		probes uint64
		whole  func(QuotaView) bool
	}{
		{"quota", Outcome{Class: ClassQuota, RetryAfter: 2 * time.Second}, RateEvent, 1, nil},
		{"acceleration", Outcome{Class: ClassAcceleration}, RateEvent, 1, nil},
		{"overload", Outcome{Class: ClassOverload}, NoEvent, 0, func(v QuotaView) bool { return v.OverloadRate > 0 }},
		{"spend", Outcome{Class: ClassSpend}, NoEvent, 0, func(v QuotaView) bool { return v.SpendUntil == at(time.Second+spendProbe) }},
		{"concurrency", Outcome{Class: ClassConcurrency}, NoEvent, 0, func(v QuotaView) bool { return v.InFlightCap == 1 }},
		{"entitlement", Outcome{Class: ClassEntitlement}, NoEvent, 0, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newOnlooker(t, known(600))
			id := w.sent(t0)
			if v := w.look(t0).Paces[0]; v.LastClass != ClassUnset || v.Probes != 0 || v.Limit != 600 || v.Source != ConfiguredLimit {
				t.Fatalf("before: %+v", v)
			}
			w.report(at(time.Second), id, c.o)
			q := w.look(at(time.Second))
			v := q.Paces[0]
			if v.LastClass != c.o.Class || v.LastClassAt != at(time.Second) || v.LastEvent != c.event || v.Probes != c.probes {
				t.Errorf("after: %+v", v)
			}
			if c.whole != nil && !c.whole(q) {
				t.Errorf("the quota: %+v", q)
			}
		})
	}
}

func TestAStatedLimitIsSeenBesideWhatItReplaced(t *testing.T) {
	q := known(60)
	q.Mode = HintLimits
	w := newOnlooker(t, q)
	id := w.sent(t0)
	if v := w.look(t0).Paces[0]; v.Source != NoLimit || v.Limit != 0 {
		t.Fatalf("a hint is shown as a limit: %+v", v)
	}
	o := Outcome{Class: ClassOK}
	o.Headers[Requests] = HeaderState{Limit: 4000, HasLimit: true}
	w.report(at(time.Second), id, o)
	if v := w.look(at(time.Second)).Paces[0]; v.Source != StatedLimit || v.Limit != 4000 || v.Before != 60 {
		t.Errorf("%+v", v)
	}
}

// Ten calls are accepted before one is refused: the probe is a tenth of them.
func TestProbesAreShownAsAShareOfWhatWasAccepted(t *testing.T) {
	w := newOnlooker(t, known(600))
	for i := range 10 {
		now := at(time.Duration(i) * time.Second)
		w.report(now, w.sent(now), Outcome{Class: ClassOK})
	}
	id := w.sent(at(20 * time.Second))
	w.report(at(21*time.Second), id, Outcome{Class: ClassQuota})
	if v := w.look(at(21 * time.Second)).Paces[0]; v.Probes != 1 || v.ProbeShare != 0.1 {
		t.Errorf("%+v", v)
	}
}

func TestTheQueueIsShownByTenant(t *testing.T) {
	q := known(60)
	q.Tenants = map[string]TenantSpec{"batch": {Weight: 3}}
	w := newOnlooker(t, q)
	w.sent(t0)
	// One caller comes back by itself; two of chat and three of batch are held.
	if d := w.ask(t0, "later", nil); d.Turn == 0 {
		t.Fatalf("no place was kept: %+v", d)
	}
	for i, tenant := range []string{"chat", "chat", "batch", "batch", "batch"} {
		if d := w.ask(t0, tenant, func(a *Ask) { a.HoldUntil = at(time.Minute) }); d.Verdict != Held {
			t.Fatalf("ask %d of %s is %s", i, tenant, d.Verdict)
		}
	}
	v := w.look(t0).Tenants
	if len(v) != 3 || v[0].Tenant != "batch" || v[0].Waiting != 3 || v[0].Weight != 3 ||
		v[1].Tenant != "chat" || v[1].Waiting != 2 || v[2].Tenant != "later" || v[2].Tickets != 1 || v[2].Waiting != 0 {
		t.Errorf("%+v", v)
	}
	if v := w.look(at(5 * time.Minute)).Tenants; len(v) != 2 {
		t.Errorf("who did not come back is still shown: %+v", v)
	}
}
