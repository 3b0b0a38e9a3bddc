package limiter

import (
	"math"
	"testing"
	"time"
)

// Money that is spent stops everybody for as long as the upstream says, at most a
// quarter of an hour; what was learned of the limits stays.
func TestSpentMoneyStopsEverybody(t *testing.T) {
	for told, want := range map[time.Duration]time.Duration{
		0: 15 * time.Minute, time.Minute: time.Minute, time.Hour: 15 * time.Minute,
	} {
		w := newTimeline(t, paced(CapLimits, 600, 0, 0), Options{})
		id := w.admit(t0)
		w.report(at(time.Second), id, ClassSpend, after(told))
		w.wantPace(at(2*time.Second), 600, 1, NoEvent)
		if d := w.ask(at(2 * time.Second)); d.Verdict != Denied {
			t.Errorf("told %s: %s", told, d.Verdict)
		}
		first := Instant(0)
		for range 3 {
			w.held(at(2*time.Second), waits(at(time.Hour)))
		}
		w.pass(at(20*time.Minute), func(now Instant, d Decision) {
			if d.Verdict == Allowed && first == 0 {
				first = now
			}
		})
		if first != at(time.Second+want) {
			t.Errorf("told %s: the first was let in after %s, want %s", told, first.Sub(t0), want+time.Second)
		}
	}
}

// An upstream that is overloaded is tried at a trickle, whatever its limits, and its
// limits are not doubted: neither rate nor burst nor backlog change, and an unknown
// limit does not grow because callers wait for the upstream's health.
func TestAnOverloadedUpstreamIsSparedAndItsLimitsAreNotDoubted(t *testing.T) {
	for _, s := range []struct {
		perMinute uint64
		mode      LimitMode
		trickle   float64 // calls a second
	}{{600, CapLimits, 0.5}, {600, HintLimits, 0.5}, {6000, CapLimits, 5}} {
		w := newTimeline(t, paced(s.mode, s.perMinute, 0, 0), Options{})
		before := w.fresh(t0)
		var ids []ID
		for range 6 {
			ids = append(ids, w.admit(t0))
		}
		for _, id := range ids {
			w.report(at(100*time.Millisecond), id, ClassOverload, after(30*time.Second))
		}
		n := w.busy(at(100*time.Millisecond), at(20100*time.Millisecond), 10, ClassOverload)
		if want := 20 * s.trickle; float64(n) < 0.8*want || float64(n) > 1.2*want+2 {
			t.Errorf("%d a minute: %d calls in 20 s, want %.0f", s.perMinute, n, want)
		}
		got := w.pace(at(20100*time.Millisecond), Requests)
		if got.Rate != before.Rate || got.Burst != before.Burst || got.Backlog > 1 || got.LastEvent != NoEvent || got.GateUntil > at(0) {
			t.Errorf("%d a minute: %+v became %+v", s.perMinute, before, got)
		}
		// It recovers: what it accepts is doubled and doubled.
		n = w.busy(at(20100*time.Millisecond), at(60*time.Second), 1, ClassOK)
		if full := float64(s.perMinute) / 60 * 20; float64(n) < full {
			t.Errorf("%d a minute: %d calls in the 40 s after it recovered, want %.0f at least", s.perMinute, n, full)
		}
	}
}

// An overloaded upstream is spared by callers that come back too.
func TestCallersThatComeBackSpareAnOverloadedUpstream(t *testing.T) {
	w := newTimeline(t, paced(CapLimits, 600, 0, 0), Options{})
	var ids []ID
	for range 6 {
		ids = append(ids, w.admit(t0))
	}
	for _, id := range ids {
		w.report(at(100*time.Millisecond), id, ClassOverload)
	}
	n := 0
	for i := range 200 {
		now := at(100*time.Millisecond + time.Duration(i)*50*time.Millisecond)
		if d := w.ask(now); d.Verdict == Allowed {
			n++
			w.report(now.Add(d.Delay), d.ID, ClassOverload)
		}
	}
	if n > 7 {
		t.Errorf("%d calls in 10 s, want a trickle of one every two seconds", n)
	}
}

// fresh is the pace of requests of a quota that was asked for nothing yet.
func (w *timeline) fresh(now Instant) PaceView {
	w.t.Helper()
	w.report(now, w.admit(now), ClassUnused)
	return w.pace(now, Requests)
}

// How many calls may be in flight is learned from refusals that say so, and from
// nothing else; success lets it grow.
func TestCallsInFlightAreLearnedFromConcurrencyRefusals(t *testing.T) {
	w := newTimeline(t, paced(CapLimits, 60_000, 0, 0), Options{MaxHeldPerTenant: 1000})
	var ids []ID
	for range 40 {
		ids = append(ids, w.admit(t0))
	}
	now := at(100 * time.Millisecond)
	w.report(now, ids[0], ClassConcurrency)
	w.wantPace(now, 60_000, 1, NoEvent)
	// 39 are in flight, 35 may be.
	for range 100 {
		w.held(now)
	}
	open := 39
	finish := func(now Instant, n int) {
		for range n {
			w.report(now, ids[1], ClassOK)
			ids = append(ids[:1], ids[2:]...)
			open--
		}
	}
	collect := func(to Instant) {
		w.pass(to, func(_ Instant, d Decision) {
			if d.Verdict == Allowed {
				ids = append(ids, d.ID)
				open++
			}
		})
	}
	collect(at(2 * time.Second))
	if open != 39 {
		t.Fatalf("%d in flight, want the 39 that were", open)
	}
	finish(at(2*time.Second), 5)
	collect(at(3 * time.Second))
	if open != 36 { // 35 and a bit: five successes earned a seventh of one
		t.Errorf("%d in flight, want 36", open)
	}
	for i := range 8 {
		finish(at(time.Duration(3+i)*time.Second), 10)
		collect(at(time.Duration(4+i) * time.Second))
	}
	if open < 37 || open > 39 {
		t.Errorf("%d in flight after 85 successes, want two or three more", open)
	}
}

func TestOtherRefusalsTeachNothingOfCallsInFlight(t *testing.T) {
	for _, class := range []Class{ClassQuota, ClassOverload, ClassServer, ClassCaller} {
		w := newTimeline(t, paced(CapLimits, 60_000, 0, 0), Options{})
		var ids []ID
		for range 40 {
			ids = append(ids, w.admit(t0))
		}
		w.report(at(100*time.Millisecond), ids[0], class, after(time.Second))
		for i := range 40 {
			if d := w.ask(at(60*time.Second + time.Duration(i)*time.Millisecond)); d.Verdict != Allowed {
				t.Fatalf("%v: call %d: %s", class, i, d.Verdict)
			}
		}
	}
}

// Output that counts as it is produced is known late: what exceeds the reservation is
// owed, what falls short is given back. Other meters are not corrected for what a later
// fix of the position has absorbed.
func TestOutputIsSettledWhenItIsKnown(t *testing.T) {
	e := Estimate{Requests: 1, InputTokens: 100, HasInput: true, MaxTokens: 100, HasMax: true, Exact: true}
	for _, reserves := range []bool{false, true} {
		q := paced(CapLimits, 600, 60_000, 12_000) // 200 tokens of output a second
		q.ReservesMaxTokens = reserves
		w := newTimeline(t, q, Options{})
		more, less := w.estimated(t0, e), w.estimated(t0, e)
		if v := w.pace(t0, OutputTokens); v.Backlog != 200 {
			t.Fatalf("a backlog of %v, want what two have reserved", v.Backlog)
		}
		w.report(t0, more.ID, ClassOK, used(100, 400))
		if v := w.pace(t0, OutputTokens); v.Backlog != 500 {
			t.Errorf("reserves %v: a backlog of %v after 300 more were used", reserves, v.Backlog)
		}
		w.report(t0, less.ID, ClassOK, used(100, 40))
		if v := w.pace(t0, OutputTokens); v.Backlog != 440 {
			t.Errorf("reserves %v: a backlog of %v after 60 fewer were used", reserves, v.Backlog)
		}
	}
}

func TestAnErrorThatAFixHasAbsorbedIsNotAddedAgain(t *testing.T) {
	w := newTimeline(t, paced(CapLimits, 600, 60_000, 0), Options{})
	first, second := w.admit(t0), w.admit(t0)
	w.report(at(100*time.Millisecond), first, ClassQuota, named(InputTokens), after(10*time.Second))
	before := w.pace(at(200*time.Millisecond), InputTokens).Backlog
	w.report(at(200*time.Millisecond), second, ClassOK, used(5000, 1))
	if got := w.pace(at(200*time.Millisecond), InputTokens).Backlog; got != before {
		t.Errorf("the backlog went from %v to %v", before, got)
	}
	// One that was sent after the fix counts.
	third := w.ask(at(11*time.Second), func(*Ask) {})
	before = w.pace(at(11*time.Second), InputTokens).Backlog
	w.report(at(11*time.Second), third.ID, ClassOK, used(5000, 1))
	if got := w.pace(at(11*time.Second), InputTokens).Backlog; !near(got-before, 4999, 0.001) {
		t.Errorf("the backlog grew by %v, want 4999", got-before)
	}
}

// A refusal for output that is counted late belongs to the event of the calls that were
// decided while its cause was not known yet.
func TestLateRefusalsAreOneEvent(t *testing.T) {
	w := newTimeline(t, paced(CapLimits, 6000, 0, 60_000), Options{})
	e := Estimate{Requests: 1, MaxTokens: 10, Exact: true}
	for i := range 40 { // calls that take ten seconds each
		now := at(time.Duration(i) * time.Second)
		d := w.estimated(now, e)
		w.report(now.Add(10*time.Second), d.ID, ClassOK, used(0, 10))
	}
	one, two := w.estimated(at(60*time.Second), e), w.estimated(at(60*time.Second), e)
	w.report(at(61*time.Second), one.ID, ClassQuota, named(OutputTokens), after(time.Second))
	rate := w.pace(at(61*time.Second), OutputTokens).Rate
	w.report(at(61*time.Second), two.ID, ClassQuota, named(OutputTokens), after(time.Second))
	three := w.estimated(at(65*time.Second), e)
	w.report(at(66*time.Second), three.ID, ClassQuota, named(OutputTokens), after(time.Second))
	if got := w.pace(at(66*time.Second), OutputTokens).Rate; got != rate || !near(rate, 60_000*0.97, 1) {
		t.Errorf("%v after the first refusal, %v after those that belong to it", rate, got)
	}
	four := w.estimated(at(75*time.Second), e)
	w.report(at(76*time.Second), four.ID, ClassQuota, named(OutputTokens), after(time.Second))
	if got := w.pace(at(76*time.Second), OutputTokens); got.LastEventAt != at(76*time.Second) {
		t.Errorf("the last event was at %s, want 76 s", got.LastEventAt.Sub(t0))
	}
}

// Estimates are corrected by what the tenant's calls really used: a ratio of sums, one
// for each tenant.
func TestEstimatesAreLearnedByTenant(t *testing.T) {
	w := newTimeline(t, paced(CapLimits, 60_000, 60_000_000, 60_000_000), Options{})
	e := Estimate{InputTokens: 1000, HasInput: true}
	now := t0
	reserved := func(tenant string) Usage {
		d := w.estimated(now, e, of(tenant))
		w.report(now, d.ID, ClassUnused)
		return d.Reserved
	}
	if u := reserved("half"); u.InputTokens != 1000 || u.OutputTokens != 1000 {
		t.Fatalf("nothing is known, and %+v is reserved", u)
	}
	for i := range 300 {
		now = at(time.Duration(i) * 100 * time.Millisecond)
		w.report(now, w.estimated(now, e, of("half")).ID, ClassOK, used(500, 200))
		w.report(now, w.estimated(now, e, of("twice")).ID, ClassOK, used(2000, 4000))
	}
	for tenant, want := range map[string][2]float64{"half": {500, 200}, "twice": {2000, 4000}, "new": {1000, 1000}} {
		u := reserved(tenant)
		if math.Abs(float64(u.InputTokens)/want[0]-1) > 0.05 || math.Abs(float64(u.OutputTokens)/want[1]-1) > 0.11 {
			t.Errorf("%s: %d and %d tokens are reserved, want %v", tenant, u.InputTokens, u.OutputTokens, want)
		}
	}
	e.MaxTokens, e.HasMax = 50, true
	if u := reserved("twice"); u.OutputTokens != 50 {
		t.Errorf("%d are reserved, with max_tokens of 50", u.OutputTokens)
	}
}
