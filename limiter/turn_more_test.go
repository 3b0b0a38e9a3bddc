package limiter

import (
	"testing"
	"time"
)

// Lower priorities are not starved either where callers come back by themselves.
func TestPrioritiesOfThoseWhoComeBackCannotStarve(t *testing.T) {
	w := newTimeline(t, paced(CapLimits, 600, 0, 0), Options{})
	all := append(comers(100, "a", Interactive), comers(10, "b", Batch)...)
	w.come(all, at(5*time.Minute))
	a, b := servedOf(all, "a"), servedOf(all, "b")
	t.Logf("interactive %d, batch %d", a, b)
	if b < 20 || b > a {
		t.Errorf("interactive %d, batch %d: want the lower band to have something, and less", a, b)
	}
}

// A floor is kept as well where callers come back.
func TestAFloorOfThoseWhoComeBackIsKept(t *testing.T) {
	q := paced(CapLimits, 600, 0, 0)
	q.Tenants = map[string]TenantSpec{"small": {Weight: 0.1, Floor: 0.3}}
	w := newTimeline(t, q, Options{})
	all := append(comers(100, "big", Interactive), comers(60, "small", Interactive)...)
	w.come(all, at(5*time.Minute))
	a, b := servedOf(all, "big"), servedOf(all, "small")
	if share := float64(b) / float64(a+b); share < 0.25 {
		t.Errorf("a floor of 30 %% gave %.1f %%", 100*share)
	}
}

// Those whose time is up before a gate opens are told at once, all of them.
func TestAGateBeyondTheirTimeIsToldAtOnce(t *testing.T) {
	w := newTimeline(t, paced(CapLimits, 600, 0, 0), Options{MaxHeldPerTenant: 1000})
	var ids []ID
	for range 10 {
		ids = append(ids, w.admit(t0))
	}
	names := map[Ticket]bool{}
	for i := range 20 {
		patience := 10 * time.Second
		if i%4 == 3 {
			patience = 2 * time.Minute
		}
		names[w.held(t0, waits(at(patience)))] = patience > time.Minute
	}
	now := at(50 * time.Millisecond)
	w.report(now, ids[9], ClassQuota, after(time.Minute))
	told := 0
	w.pass(at(2*time.Second), func(at Instant, d Decision) {
		if d.Verdict != Denied || d.RetryAt < now.Add(time.Minute) {
			t.Errorf("%s: %s, back at %s", at.Sub(t0), d.Verdict, d.RetryAt.Sub(t0))
		}
		told++
	})
	if told != 15 {
		t.Errorf("%d of the 15 whose time is up before the gate opens know it two seconds later", told)
	}
}

// Spent money is remembered over a restart, as a closed gate is.
func TestSpentMoneyIsKeptOverARestart(t *testing.T) {
	w := newTimeline(t, paced(CapLimits, 600, 0, 0), Options{})
	w.report(at(time.Second), w.admit(t0), ClassSpend)
	kept := w.l.Learned(at(2*time.Second), 0)
	w.l = New(Options{})
	if !w.l.Restore(at(3*time.Second), w.p, &kept[0]) {
		t.Fatal("not restored")
	}
	if d := w.ask(at(4 * time.Second)); d.Verdict != Denied {
		t.Errorf("a few seconds after the money was spent: %s", d.Verdict)
	}
}
