package limiter

import (
	"testing"
	"time"
)

// Three bands that all have callers are all served: starving ones share what relief there
// is, and the highest one is not starved by them.
func TestThreeBandsAreAllServed(t *testing.T) {
	w := newTimeline(t, slow(nil), Options{MaxHeldPerTenant: 1000})
	w.admit(t0)
	names := map[Ticket]string{}
	for range 60 {
		names[w.held(t0, in(Interactive))] = "interactive"
		names[w.held(t0, in(Standard))] = "standard"
		names[w.held(t0, in(Batch))] = "batch"
	}
	got := w.names(at(60*time.Second), names)
	t.Logf("%v", got)
	i, s, b := count(got, "interactive"), count(got, "standard"), count(got, "batch")
	if i < len(got)/2 || s < 4 || b < 2 {
		t.Errorf("of %d: interactive %d, standard %d, batch %d; want at least half, 4 and 2", len(got), i, s, b)
	}
}

// A ceiling holds over a minute, as TenantSpec says, also the first one.
func TestACeilingIsKeptInAnyMinute(t *testing.T) {
	w := newTimeline(t, slow(map[string]TenantSpec{"bounded": {Ceiling: 0.25}}), Options{})
	n := 0
	for s := range 60 {
		now := at(time.Duration(s) * time.Second)
		if d := w.ask(now, of("bounded")); d.Verdict == Allowed {
			n++
			w.report(now, d.ID, ClassOK)
		}
	}
	if n > 16 {
		t.Errorf("%d calls in the first minute, with a ceiling of 15", n)
	}
}

// What bounds the calls in flight bounds callers that come back too: they are not let in
// with a little delay.
func TestCallersThatComeBackKeepToTheCallsInFlight(t *testing.T) {
	w := newTimeline(t, paced(CapLimits, 60_000, 0, 0), Options{})
	var ids []ID
	for range 40 {
		ids = append(ids, w.admit(t0))
	}
	w.report(at(100*time.Millisecond), ids[0], ClassConcurrency) // 39 are in flight, 35 may be
	for i := range 20 {
		if d := w.ask(at(time.Second)); d.Verdict != Denied {
			t.Fatalf("ask %d: %s with a delay of %s", i, d.Verdict, d.Delay)
		}
	}
}

// A tenant below its floor is not told that it cannot be served in time because its weight
// is small.
func TestAFloorCountsWhereATurnIsForeseen(t *testing.T) {
	w := newTimeline(t, slow(map[string]TenantSpec{"small": {Weight: 0.001, Floor: 0.5}}), Options{})
	w.admit(t0, of("big"))
	for range 3 {
		w.held(t0, of("big"))
	}
	for i := range 3 { // each two seconds one: 6 s for all
		if d := w.ask(t0, of("small"), waits(at(time.Minute))); d.Verdict != Held {
			t.Errorf("ask %d: %s", i, d.Verdict)
		}
	}
}

// A tenant below its floor goes before others, whatever its weight; beyond it, it shares.
func TestAFloorIsKeptUnderLoad(t *testing.T) {
	w := newTimeline(t, slow(map[string]TenantSpec{"small": {Weight: 0.1, Floor: 0.3}, "big": {Weight: 1}}),
		Options{MaxHeldPerTenant: 1000})
	w.admit(t0, of("big"))
	names := map[Ticket]string{}
	begin := func(now Instant, tenant string) { names[w.held(now, of(tenant))] = tenant }
	for range 5 {
		begin(t0, "small")
		begin(t0, "big")
	}
	served := map[string]int{}
	for s := range 200 {
		before := len(w.order)
		now := at(time.Duration(s) * time.Second)
		w.pass(now, func(now Instant, d Decision) { w.report(now, d.ID, ClassOK) })
		for _, ticket := range w.order[before:] {
			served[names[ticket]]++
			begin(now, names[ticket])
		}
	}
	if share := float64(served["small"]) / float64(served["small"]+served["big"]); share < 0.25 || share > 0.36 {
		t.Errorf("a floor of 30 %% and a tenth of the weight gave %.0f %%: %v", 100*share, served)
	}
}
