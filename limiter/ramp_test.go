package limiter

import (
	"testing"
	"time"
)

// states is a refusal's word on how much may be used of the input tokens for now.
func states(rate, next uint64) func(*Outcome) {
	return func(o *Outcome) { o.Named, o.HasNamed, o.Ramp, o.RampNext = InputTokens, true, rate, next }
}

// t0 is 20 seconds after a full minute.
const fullMinute = 40 * time.Second

func (w *timeline) wantRamp(now Instant, rate, ramp float64) {
	w.t.Helper()
	if v := w.pace(now, InputTokens); !near(v.Rate, rate, 0.01) || !near(v.Ramp, ramp, 0.01) {
		w.t.Errorf("%s: %.2f a minute, a ramp of %.2f; want %.2f, %.2f", now.Sub(t0), v.Rate, v.Ramp, rate, ramp)
	}
}

// tokens asks for so many input tokens.
func (w *timeline) tokens(now Instant, n uint64) Decision {
	w.t.Helper()
	return w.estimated(now, Estimate{Requests: 1, InputTokens: n, HasInput: true, MaxTokens: 1, HasMax: true, Exact: true})
}

// An upstream says that use grew too fast: 58,276 a minute are in force, and 10,000 more
// with each full minute. The pace keeps to that, and then to the limit, which was not
// cut.
func TestAStatedRampIsKeptTo(t *testing.T) {
	w := newTimeline(t, paced(CapLimits, 6000, 100_000, 0), Options{})
	id := w.tokens(t0, 1000).ID
	before := w.pace(t0, InputTokens)
	w.report(at(time.Second), id, ClassAcceleration, states(58_276, 68_276), after(3*time.Second))
	v := w.pace(at(time.Second), InputTokens)
	if v.LastEvent != RampEvent || v.LastClass != ClassAcceleration || v.Probes != 0 || v.GateUntil != at(4*time.Second) ||
		v.Burst != before.Burst || v.Limit != 100_000 {
		t.Errorf("%+v", v)
	}
	for _, s := range []struct {
		at         time.Duration
		rate, ramp float64
	}{
		{time.Second, 58_276, 58_276},
		{fullMinute - 1, 58_276, 58_276},
		{fullMinute, 68_276, 68_276},
		{fullMinute + time.Minute, 78_276, 78_276},
		{fullMinute + 4*time.Minute - 1, 98_276, 98_276},
		{fullMinute + 4*time.Minute, 100_000, 0},
	} {
		w.wantRamp(at(s.at), s.rate, s.ramp)
	}
}

// What is let in meanwhile is no more than the ramp.
func TestNoMoreThanTheRampIsLetIn(t *testing.T) {
	w := newTimeline(t, paced(CapLimits, 60_000, 10_000, 0), Options{})
	w.report(at(time.Second), w.ask(t0).ID, ClassAcceleration, states(600, 900), after(time.Second))
	burst := int(firstBurst * 15)
	// 2 s to 40 s: 10 a second; the next minute: 15 a second.
	if n := w.busy(at(2*time.Second), at(fullMinute-time.Millisecond), 3, ClassOK); n < 370 || n > 380+burst {
		t.Errorf("%d tokens in the first 38 s", n)
	}
	if n := w.busy(at(fullMinute), at(fullMinute+time.Minute-time.Millisecond), 0, ClassOK); n < 890 || n > 900+burst {
		t.Errorf("%d tokens in the next minute", n)
	}
}

// A refusal of the minute before states what is over; one that states no step is taken to
// mean a tenth; a later one is right.
func TestWhatARampMeans(t *testing.T) {
	begin := func(t *testing.T, change ...func(*Outcome)) *timeline {
		w := newTimeline(t, paced(CapLimits, 6000, 100_000, 0), Options{})
		id := w.tokens(at(fullMinute-time.Second), 1000).ID
		w.report(at(fullMinute+time.Second), id, ClassAcceleration, change...)
		return w
	}
	t.Run("of the minute before", func(t *testing.T) {
		w := begin(t, states(50_000, 55_000))
		w.wantRamp(at(fullMinute+time.Second), 55_000, 55_000)
	})
	t.Run("sent in this minute", func(t *testing.T) {
		w := begin(t, states(50_000, 55_000), func(o *Outcome) { o.Sent = at(fullMinute) })
		w.wantRamp(at(fullMinute+time.Second), 50_000, 50_000)
	})
	t.Run("without a step", func(t *testing.T) {
		w := begin(t, states(50_000, 0))
		w.wantRamp(at(fullMinute+time.Minute), 60_000, 60_000)
	})
	t.Run("stated again", func(t *testing.T) {
		w := begin(t, states(50_000, 55_000))
		now := at(fullMinute + 30*time.Second)
		w.report(now, w.tokens(now, 100).ID, ClassAcceleration, states(51_000, 53_000))
		w.wantRamp(now, 51_000, 51_000)
		w.wantRamp(at(fullMinute+time.Minute), 53_000, 53_000)
	})
	t.Run("long ago", func(t *testing.T) {
		w := begin(t, states(1, 2))
		w.wantRamp(at(fullMinute+23*time.Hour), 1382, 1382)
		w.wantRamp(at(100*24*time.Hour), 100_000, 0)
	})
	// What is not less than the rate explains no refusal, and neither does what is about
	// no meter: it is learned from, as if nothing had been stated.
	for name, o := range map[string]func(*Outcome){
		"more than the rate": states(200_000, 210_000),
		"of no meter": func(o *Outcome) {
			o.Ramp, o.RampNext = 50_000, 60_000
			o.Headers[InputTokens] = HeaderState{100_000, 0, true, true}
		},
		"nothing stated":   named(InputTokens),
		"of another class": func(o *Outcome) { states(50_000, 60_000)(o); o.Class = ClassQuota },
	} {
		t.Run(name, func(t *testing.T) {
			w := begin(t, o)
			if v := w.pace(at(fullMinute+time.Second), InputTokens); v.Ramp != 0 || v.LastEvent != RateEvent || v.Rate >= 100_000 {
				t.Errorf("%+v", v)
			}
		})
	}
}

// Under a ramp nothing is learned of the limit that is not in force: neither more, however
// long callers wait, nor how much may be sent at once.
func TestARampTeachesNothingOfTheLimit(t *testing.T) {
	for name, mode := range map[string]LimitMode{"known": CapLimits, "a hint": HintLimits} {
		t.Run(name, func(t *testing.T) {
			w := newTimeline(t, paced(mode, 60_000, 6000, 0), Options{})
			w.report(at(time.Second), w.ask(t0).ID, ClassAcceleration, states(1000, 1100))
			burst := w.pace(at(time.Second), InputTokens).Burst
			w.busy(at(2*time.Second), at(fullMinute+30*time.Second), 3, ClassOK)
			v := w.pace(at(fullMinute+30*time.Second), InputTokens)
			if v.Rate != 1100 || v.Burst != burst || v.Startup != (mode == HintLimits) {
				t.Errorf("%+v, the burst was %.1f", v, burst)
			}
		})
	}
}

// While a limit is unknown what is looked for stays below the ramp, however fast it is
// asked.
func TestAnUnknownLimitIsLookedForBelowTheRamp(t *testing.T) {
	w := newTimeline(t, paced(HintLimits, 60_000, 100, 0), Options{})
	w.report(at(time.Second), w.ask(t0).ID, ClassAcceleration, states(150, 160))
	w.busy(at(2*time.Second), at(fullMinute+time.Minute-time.Second), 3, ClassOK)
	w.wantRamp(at(fullMinute+time.Minute-time.Second), 160, 160)
	w.busy(at(fullMinute+time.Minute), at(fullMinute+10*time.Minute-time.Second), 3, ClassOK)
	if v := w.pace(at(fullMinute+10*time.Minute-time.Second), InputTokens); v.Rate < 200 || v.Rate > 250 || !v.Startup {
		t.Errorf("ten minutes later: %+v", v)
	}
}

// A ramp is kept over a restart, if it can have been one.
func TestARampIsKeptOverARestart(t *testing.T) {
	w := newTimeline(t, paced(CapLimits, 6000, 100_000, 0), Options{})
	w.report(at(time.Second), w.tokens(t0, 1000).ID, ClassAcceleration, states(50_000, 60_000))
	kept := w.l.Learned(at(2*time.Second), 0)
	for name, c := range map[string]struct {
		change func(*LearnedPace)
		rate   float64
	}{
		"as it was":   {func(*LearnedPace) {}, 60_000},
		"no step":     {func(p *LearnedPace) { p.RampStep = 0 }, 100_000},
		"long ago":    {func(p *LearnedPace) { p.RampAt = 0 }, 100_000},
		"in a year":   {func(p *LearnedPace) { p.RampAt = at(365 * 24 * time.Hour) }, 100_000},
		"of nothing":  {func(p *LearnedPace) { p.Ramp = -1 }, 100_000},
		"of too much": {func(p *LearnedPace) { p.Ramp = 1e300 }, 100_000},
	} {
		t.Run(name, func(t *testing.T) {
			s := kept[0]
			s.Paces = append([]LearnedPace(nil), s.Paces...)
			c.change(&s.Paces[InputTokens])
			w := newTimeline(t, paced(CapLimits, 6000, 100_000, 0), Options{})
			if !w.l.Restore(at(fullMinute+time.Second), w.p, &s) {
				t.Fatal("not restored")
			}
			if v := w.pace(at(fullMinute+2*time.Second), InputTokens); v.Rate != c.rate {
				t.Errorf("%.0f a minute, want %.0f", v.Rate, c.rate)
			}
		})
	}
}

// A tenant that asks alone is believed, until others come; of one of several a ramp is
// learned from as if it stated nothing.
func TestARampOfTenants(t *testing.T) {
	w := newTimeline(t, paced(CapLimits, 60_000, 100_000, 0), Options{})
	tenants := func(o *Outcome) { o.Trusted = false }
	w.report(at(time.Second), w.admit(t0, of("a")), ClassAcceleration, states(40_000, 50_000), tenants)
	w.wantRamp(at(2*time.Second), 40_000, 40_000)
	w.report(at(3*time.Second), w.admit(at(3*time.Second), of("b")), ClassOK, tenants)
	w.wantRamp(at(3*time.Second), 100_000, 0)
	now := at(4 * time.Second)
	for _, id := range []ID{w.admit(now, of("a")), w.admit(now, of("b"))} {
		w.report(now, id, ClassAcceleration, states(40_000, 50_000), tenants)
	}
	if v := w.pace(now, InputTokens); v.Ramp != 0 || v.LastEvent != RateEvent || v.Rate < 90_000 {
		t.Errorf("%+v", v)
	}
}

// What the upstream has not drained drains at the rate that was in force when, also where
// nobody looks in between.
func TestABacklogDrainsAtTheRampOfEachMinute(t *testing.T) {
	w := newTimeline(t, paced(CapLimits, 6000, 100_000, 0), Options{})
	w.report(at(time.Second), w.tokens(t0, 1000).ID, ClassAcceleration, states(6000, 60_000), after(200*time.Second))
	// 1s: 200 s of 100 a second; 40s: 39 s less; 50s: 10 s of 1000 a second less.
	if v := w.pace(at(fullMinute+10*time.Second), InputTokens); !near(v.Backlog, 20_000-3900-10_000, 0.01) {
		t.Errorf("%.1f are left", v.Backlog)
	}
}
