package limiter

import (
	"testing"
	"time"
)

// Ten at once are too much at once: the burst falls to 0.6 of what failed, the rate
// stays, and however many of the ten are refused, that is one event.
func TestABurstThatIsRefusedCutsTheBurstOnce(t *testing.T) {
	w := newTimeline(t, paced(CapLimits, 600, 0, 0), Options{})
	var ids []ID
	for range 10 {
		ids = append(ids, w.admit(t0))
	}
	for i := range 5 { // the last ones first
		w.report(at(time.Duration(100+i)*time.Millisecond), ids[9-i], ClassQuota, after(time.Second))
	}
	w.wantPace(at(200*time.Millisecond), 600, 0.6, BurstEvent)
	for _, id := range ids[:5] {
		w.report(at(300*time.Millisecond), id, ClassOK)
	}
	// Ten seconds of callers who wait do not make it grow before a minute has passed.
	w.busy(at(2*time.Second), at(50*time.Second), 3, ClassOK)
	w.wantPace(at(50*time.Second), 600, 0.6, BurstEvent)
	w.busy(at(50*time.Second), at(80*time.Second), 3, ClassOK)
	if b := w.pace(at(80*time.Second), Requests).Burst; b < 1 || b > 3.5 {
		t.Errorf("20 s after the minute the burst is %.2f s, want it to grow by a tenth of the time", b)
	}
}

// What was not a burst is the rate: 3 % less, and twice as much each time that follows
// at once; what is sent meanwhile belongs to the same event.
func TestRefusalsInARowCutTheRateMoreAndMore(t *testing.T) {
	w := newTimeline(t, paced(CapLimits, 600, 0, 0), Options{})
	rate, burst := 600.0, 1.0
	for i, cut := range []float64{0.03, 0.06, 0.12, 0.24, 0.48, 0.5} {
		now := at(time.Duration(20*i) * time.Second) // all that was sent before is done
		id := w.admit(now)
		w.report(now.Add(100*time.Millisecond), id, ClassQuota, after(time.Second))
		if 60/rate < 0.9*burst { // the bucket was not full: it may be smaller as well
			burst *= 0.8
		}
		rate *= 1 - cut
		w.wantPace(now.Add(101*time.Millisecond), rate, burst, RateEvent)
		if g := w.pace(now.Add(time.Second), Requests).GateUntil; g != now.Add(1100*time.Millisecond) {
			t.Errorf("refusal %d: closed until %s", i, g.Sub(t0))
		}
	}
}

// Eight calls that are accepted and time under load part one event from the next: the
// cut starts at 3 % again.
func TestARefusalAfterSuccessIsNotInARow(t *testing.T) {
	w := newTimeline(t, paced(CapLimits, 600, 0, 0), Options{})
	w.report(at(100*time.Millisecond), w.admit(t0), ClassQuota, after(time.Second))
	w.busy(at(2*time.Second), at(6*time.Second), 3, ClassOK)
	before := w.pace(at(6*time.Second), Requests)
	// The callers who still wait are let in, refused, and the burst is small by then:
	// the event is one of the rate.
	w.pass(at(30*time.Second), func(now Instant, d Decision) {
		if d.Verdict == Allowed {
			w.report(now, d.ID, ClassOK)
		}
	})
	now := at(60 * time.Second)
	w.report(now.Add(100*time.Millisecond), w.admit(now), ClassQuota, after(time.Second))
	got := w.pace(now.Add(101*time.Millisecond), Requests)
	if got.LastEvent != RateEvent || !near(got.Rate/before.Rate, 0.97, 0.005) {
		t.Errorf("%s from %.1f to %.1f a minute, want 3 %% less", got.LastEvent, before.Rate, got.Rate)
	}
}

// The rate comes back as a cubic curve: quickly at first, flat around the target, then
// faster and faster, and not beyond what is configured. Only time in which callers wait
// counts.
func TestTheRateComesBackOnACubicCurve(t *testing.T) {
	w := newTimeline(t, paced(CapLimits, 600, 0, 0), Options{})
	w.report(at(100*time.Millisecond), w.admit(t0), ClassQuota, after(time.Second))
	w.wantPace(at(60*time.Second), 582, 0.8, RateEvent) // nobody waited
	from := at(60 * time.Second)
	for _, s := range []struct {
		seconds float64
		rate    float64
	}{
		{2, 591 - 9*0.512},
		{5, 591 - 9*0.125},
		{8, 591 - 9*0.008},
		{10, 591},
		{14, 591 * (1 + 0.03*0.064)},
		{16, 591 * (1 + 0.03*0.216)},
		{19, 600},
		{30, 600},
	} {
		now := at(60*time.Second + time.Duration(s.seconds*float64(time.Second)))
		w.busy(from, now, 1, ClassOK)
		from = now
		// What is blocked is known at the first look: up to a tenth of a second late.
		if v := w.pace(now, Requests); !near(v.Rate, s.rate, 1.2) {
			t.Errorf("after %v s of waiting: %.2f a minute, want %.2f", s.seconds, v.Rate, s.rate)
		}
	}
}

// Where no limit is configured the curve goes on: 10 % above its target it doubles
// every 20 s.
func TestBeyondItsTargetTheRateGrowsFasterAndFaster(t *testing.T) {
	w := newTimeline(t, paced(HintLimits, 600, 0, 0), Options{})
	w.report(at(100*time.Millisecond), w.admit(t0), ClassQuota, after(time.Second))
	w.wantPace(at(200*time.Millisecond), 291, 1, StartupEvent)
	w.busy(at(5*time.Second), at(15*time.Second), 1, ClassOK)
	if v := w.pace(at(15*time.Second), Requests); !near(v.Rate, 300, 0.5) {
		t.Errorf("at the end of its period: %.2f a minute, want the target, 300", v.Rate)
	}
	w.busy(at(15*time.Second), at(30*time.Second), 1, ClassOK)
	if v := w.pace(at(30*time.Second), Requests); !near(v.Rate, 330, 2) {
		t.Errorf("15 s later: %.2f a minute, want 330", v.Rate)
	}
	before := w.pace(at(30*time.Second), Requests).Rate
	w.busy(at(30*time.Second), at(50*time.Second), 1, ClassOK)
	if v := w.pace(at(50*time.Second), Requests); !near(v.Rate/before, 2, 0.05) {
		t.Errorf("20 s later: %.2f a minute, want twice %.2f", v.Rate, before)
	}
}

// A limit that nobody knows doubles every ten seconds while it holds callers up, and
// only then; a refusal ends that at half of the rate.
func TestAnUnknownLimitDoublesUntilSomethingRefuses(t *testing.T) {
	w := newTimeline(t, paced(CapLimits, 0, 0, 0), Options{})
	for i := range 10 { // one call every five seconds is held up by nothing
		now := at(time.Duration(5*i) * time.Second)
		w.report(now.Add(time.Millisecond), w.admit(now), ClassOK)
	}
	now := at(50 * time.Second)
	w.wantPace(now, 60, 1, NoEvent)
	w.busy(now, now.Add(10*time.Second), 1, ClassOK)
	before := w.pace(now.Add(10*time.Second), Requests)
	w.busy(now.Add(10*time.Second), now.Add(30*time.Second), 1, ClassOK)
	got := w.pace(now.Add(30*time.Second), Requests)
	if !got.Startup || !near(got.Rate/before.Rate, 4, 0.1) {
		t.Errorf("from %.1f to %.1f a minute in 20 s, want four times; startup %v", before.Rate, got.Rate, got.Startup)
	}
	w.pass(at(2*time.Minute), func(now Instant, d Decision) { w.report(now, d.ID, ClassOK) })
	last := w.pace(at(2*time.Minute), Requests).Rate
	w.report(at(121*time.Second), w.admit(at(2*time.Minute)), ClassQuota, after(time.Second))
	if v := w.pace(at(122*time.Second), Requests); v.Startup || v.LastEvent != StartupEvent || !near(v.Rate, last/2*0.97, 0.01) {
		t.Errorf("%s made %.2f of %.2f a minute, startup %v", v.LastEvent, v.Rate, last, v.Startup)
	}
}

// What the upstream states is adopted at once: its limit, up to a configured cap, and
// what remains of it, which shows what others use.
func TestHeadersFixLimitAndPosition(t *testing.T) {
	w := newTimeline(t, paced(CapLimits, 600, 0, 0), Options{})
	rates := []struct {
		stated uint64
		rate   float64
	}{{300, 300}, {450, 450}, {10_000, 600}, {598, 600}} // less than half a percent is rounding
	for i, s := range rates {
		now := at(time.Duration(i) * time.Second)
		w.report(now.Add(100*time.Millisecond), w.admit(now), ClassOK, header(Requests, s.stated, s.stated-1))
		w.wantPace(now.Add(100*time.Millisecond), s.rate, 1, NoEvent)
	}
	// 10 s: one call is sent, and three more before its answer, which says that 500 of
	// 600 are used. Those three come on top, and 0.2 s of draining is seen already.
	now := at(10 * time.Second)
	id := w.admit(now)
	for range 3 {
		w.admit(now.Add(100 * time.Millisecond))
	}
	w.report(now.Add(200*time.Millisecond), id, ClassOK, header(Requests, 600, 100))
	if v := w.pace(now.Add(200*time.Millisecond), Requests); !near(v.Backlog, 500+3-2, 1.5) {
		t.Errorf("a backlog of %.2f, want about 501", v.Backlog)
	}
	d := w.ask(now.Add(200 * time.Millisecond))
	if d.Verdict != Denied {
		t.Errorf("with a backlog of 500: %s", d.Verdict)
	}
	// An older answer that comes late says nothing.
	now = at(2 * time.Minute)
	older := w.admit(now)
	newer := w.admit(now.Add(100 * time.Millisecond))
	w.report(now.Add(200*time.Millisecond), newer, ClassOK, header(Requests, 600, 590))
	before := w.pace(now.Add(300*time.Millisecond), Requests)
	w.report(now.Add(300*time.Millisecond), older, ClassOK, header(Requests, 60, 0))
	if got := w.pace(now.Add(300*time.Millisecond), Requests); got != before {
		t.Errorf("a late answer changed %+v to %+v", before, got)
	}
}

// A refusal that names a token limit closes that meter and leaves requests alone.
func TestANamedRefusalConcernsThatMeterAlone(t *testing.T) {
	w := newTimeline(t, paced(CapLimits, 600, 60_000, 12_000), Options{})
	w.report(at(100*time.Millisecond), w.admit(t0), ClassQuota, after(7*time.Second), named(InputTokens))
	now := at(200 * time.Millisecond)
	w.wantPace(now, 600, 1, NoEvent)
	if v := w.pace(now, OutputTokens); v.LastEvent != NoEvent || v.GateUntil > now {
		t.Errorf("output tokens: %+v", v)
	}
	if v := w.pace(now, InputTokens); v.LastEvent != RateEvent || !near(v.Rate, 60_000*0.97, 1) || v.GateUntil != at(7100*time.Millisecond) {
		t.Errorf("input tokens: %+v", v)
	}
}

// Too fast a start is told apart by its class, closes the gate, and is an event too.
func TestAccelerationIsAnEvent(t *testing.T) {
	w := newTimeline(t, paced(CapLimits, 600, 0, 0), Options{})
	w.report(at(100*time.Millisecond), w.admit(t0), ClassAcceleration, after(4*time.Second))
	w.wantPace(at(200*time.Millisecond), 582, 0.8, RateEvent)
	w.held(at(200 * time.Millisecond))
	w.pass(at(10*time.Second), func(now Instant, _ Decision) {
		if d := now.Sub(at(4100 * time.Millisecond)); d < 0 || d > time.Microsecond {
			t.Errorf("let in at %s, want 4.1 s", now.Sub(t0))
		}
	})
}

// After a refusal nobody goes before the upstream said, and then not all at once: one by
// one at the rate.
func TestAfterAGateCallersGoAtTheRate(t *testing.T) {
	w := newTimeline(t, paced(CapLimits, 600, 0, 0), Options{MaxHeldPerTenant: 1000})
	var ids []ID
	for range 10 {
		ids = append(ids, w.admit(t0))
	}
	for range 100 {
		w.held(t0)
	}
	w.report(at(50*time.Millisecond), ids[9], ClassQuota, after(5*time.Second))
	var times []Instant
	w.pass(at(20*time.Second), func(now Instant, d Decision) {
		times = append(times, now)
		w.report(now, d.ID, ClassOK)
	})
	gate := at(5050 * time.Millisecond)
	first, second := 0, 0
	for _, x := range times {
		switch {
		case x < gate:
			t.Fatalf("let in at %s, before the gate", x.Sub(t0))
		case x < gate.Add(time.Second):
			first++
		case x < gate.Add(2*time.Second):
			second++
		}
	}
	if first < 9 || first > 11 || second < 9 || second > 11 {
		t.Errorf("%d in the first second, %d in the next; want ten in each", first, second)
	}
	for i := 2; i < len(times); i++ {
		if gap := times[i].Sub(times[i-1]); gap < 90*time.Millisecond {
			t.Fatalf("two within %s, at %s", gap, times[i].Sub(t0))
		}
	}
}

// The same for callers that come back by themselves: each is told an instant of its own.
func TestAfterAGateCallersComeBackOneByOne(t *testing.T) {
	w := newTimeline(t, paced(CapLimits, 600, 0, 0), Options{})
	var ids []ID
	for range 10 {
		ids = append(ids, w.admit(t0))
	}
	w.report(at(50*time.Millisecond), ids[9], ClassQuota, after(2*time.Second))
	gate := at(2050 * time.Millisecond)
	var in, early int
	type visit struct {
		at   Instant
		turn Turn
	}
	var due []visit
	for range 60 {
		due = append(due, visit{at: at(60 * time.Millisecond)})
	}
	for len(due) > 0 {
		i := 0
		for j := range due {
			if due[j].at < due[i].at {
				i = j
			}
		}
		v := due[i]
		due = append(due[:i], due[i+1:]...)
		if v.at > gate.Add(time.Second) {
			continue
		}
		d := w.ask(v.at, func(a *Ask) { a.Turn = v.turn })
		switch {
		case d.Verdict == Denied:
			due = append(due, visit{d.RetryAt, d.Turn})
		case v.at.Add(d.Delay) < gate:
			early++
		default:
			in++
		}
	}
	if early > 0 || in < 8 || in > 13 {
		t.Errorf("%d before the gate, %d in the second after it; want none and about ten", early, in)
	}
}
