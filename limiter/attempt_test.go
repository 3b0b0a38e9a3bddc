package limiter

import (
	"testing"
	"time"
)

func attempt(n uint32) func(*Outcome) { return func(o *Outcome) { o.Attempt = n } }

// tried reports that an attempt was refused.
func (w *timeline) tried(now Instant, id ID, n uint32, change ...func(*Outcome)) Settlement {
	w.t.Helper()
	o := outcomeOf(ClassQuota, append([]func(*Outcome){attempt(n), func(o *Outcome) { o.Progress = true }}, change...)...)
	return w.l.Report(now, id, "", o)
}

// ended reports the end of a call of so many attempts.
func (w *timeline) ended(now Instant, id ID, class Class, attempts uint32, change ...func(*Outcome)) Settlement {
	w.t.Helper()
	s := w.l.Report(now, id, "", outcomeOf(class, append(change, attempt(attempts))...))
	if s.Ending != Settled || !s.Applied {
		w.t.Fatalf("%s: the end was not applied: %+v", now.Sub(t0), s)
	}
	return s
}

func goesOn(o *Outcome) { *o = Outcome{Progress: true, Trusted: true} }

// An attempt that was refused teaches once it is known that there was another one: by that
// one's refusal, by a word that the call goes on, or by its end.
func TestARefusedAttemptTeaches(t *testing.T) {
	for name, then := range map[string]func(w *timeline, id ID) Settlement{
		"the second is refused": func(w *timeline, id ID) Settlement { return w.tried(at(time.Second), id, 2) },
		"it goes on": func(w *timeline, id ID) Settlement {
			return w.l.Report(at(time.Second), id, "", outcomeOf(ClassOK, goesOn))
		},
		"it ends well":        func(w *timeline, id ID) Settlement { return w.ended(at(time.Second), id, ClassOK, 2) },
		"its caller left":     func(w *timeline, id ID) Settlement { return w.ended(at(time.Second), id, ClassUnknown, 1) },
		"the upstream failed": func(w *timeline, id ID) Settlement { return w.ended(at(time.Second), id, ClassServer, 2) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newTimeline(t, paced(CapLimits, 600, 0, 0), Options{})
			id := w.admit(t0)
			if s := w.tried(at(500*time.Millisecond), id, 1, after(5*time.Second)); s.Ending != Open || !s.Applied || s.Quota != "" {
				t.Fatalf("the attempt: %+v", s)
			}
			if v := w.pace(at(500*time.Millisecond), Requests); v.LastEvent != NoEvent || v.GateUntil > at(500*time.Millisecond) {
				t.Fatalf("it may have been the last: %+v", v)
			}
			if s := then(w, id); s.Attempt != ClassQuota || s.Quota != "q" || s.Event != RateEvent || s.Refused != ClassUnset {
				t.Errorf("%+v", s)
			}
			// The wait counts from when it was asked for.
			if v := w.pace(at(time.Second), Requests); v.LastClass != ClassQuota || v.GateUntil != at(5500*time.Millisecond) || v.Probes != 1 || !near(v.Rate, 582, 0.01) {
				t.Errorf("%+v", v)
			}
		})
	}
}

// The refusal that ends a call is told twice, and learned from once: the end knows more.
func TestTheLastAttemptIsLearnedFromOnce(t *testing.T) {
	for name, end := range map[string]struct {
		class    Class
		attempts uint32
		quota    uint64 // probes
		gate     time.Duration
	}{
		"the same":             {ClassQuota, 1, 1, 3 * time.Second},
		"of a number not said": {ClassQuota, 0, 1, 3 * time.Second},
		"for a right":          {ClassEntitlement, 1, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			w := newTimeline(t, paced(CapLimits, 600, 0, 0), Options{})
			id := w.admit(t0)
			w.tried(at(900*time.Millisecond), id, 1, after(20*time.Second))
			s := w.ended(at(time.Second), id, end.class, end.attempts, after(2*time.Second))
			if s.Attempt != ClassUnset || s.Refused != end.class {
				t.Errorf("%+v", s)
			}
			v := w.pace(at(time.Second), Requests)
			if v.Probes != end.quota || (end.gate > 0 && v.GateUntil != at(end.gate)) || (end.gate == 0 && v.GateUntil > at(time.Second)) {
				t.Errorf("%+v", v)
			}
		})
	}
	t.Run("which was learned from already", func(t *testing.T) {
		w := newTimeline(t, paced(CapLimits, 600, 0, 0), Options{})
		id := w.admit(t0)
		w.tried(at(time.Second), id, 1, after(5*time.Second))
		w.l.Report(at(2*time.Second), id, "", outcomeOf(ClassOK, goesOn))
		before := w.pace(at(3*time.Second), Requests)
		s := w.ended(at(3*time.Second), id, ClassQuota, 1, after(30*time.Second))
		v := w.pace(at(3*time.Second), Requests)
		if s.Refused != ClassUnset || s.Charged != (Usage{}) || v.Probes != 1 || v.GateUntil != before.GateUntil || v.Rate != before.Rate {
			t.Errorf("%+v, %+v", s, v)
		}
	})
}

// Each attempt counts once, in whatever order it is told of, and as long as the reservation
// is open. What was sent before the one before it was learned from belongs to that event.
func TestEachAttemptCountsOnce(t *testing.T) {
	w := newTimeline(t, paced(CapLimits, 600, 0, 0), Options{})
	id := w.admit(t0)
	for _, c := range []struct {
		at      time.Duration
		n       uint32
		applied bool
		taught  Class
		probes  uint64
	}{
		{time.Second, 1, true, ClassUnset, 0},
		{time.Second, 1, false, ClassUnset, 0}, // told again
		{10 * time.Second, 2, true, ClassQuota, 1},
		{11 * time.Second, 1, false, ClassUnset, 1}, // late
		{11 * time.Second, 2, false, ClassUnset, 1},
		{30 * time.Second, 3, true, ClassQuota, 1},
	} {
		s := w.tried(at(c.at), id, c.n)
		if v := w.pace(at(c.at), Requests); s.Ending != Open || s.Applied != c.applied || s.Attempt != c.taught || v.Probes != c.probes {
			t.Errorf("%s: attempt %d: %+v, %d probes", c.at, c.n, s, v.Probes)
		}
	}
	// The fourth is refused too: it ends the call, and the third was one more.
	if s := w.ended(at(60*time.Second), id, ClassQuota, 4); s.Attempt != ClassQuota || s.Refused != ClassQuota {
		t.Errorf("the end: %+v", s)
	}
	if s := w.tried(at(61*time.Second), id, 4); s.Applied || s.Ending != Settled {
		t.Errorf("after the end: %+v", s)
	}
	if v := w.pace(at(61*time.Second), Requests); v.Probes != 2 {
		t.Errorf("%d probes", v.Probes)
	}
	var unknown ID
	unknown[15] = 77
	if s := w.tried(at(61*time.Second), unknown, 1); s.Ending != Unknown {
		t.Errorf("of nobody's call: %+v", s)
	}
}

// The reservation stays charged for the attempt that comes, in the window and in the pace,
// and is settled by what that used.
func TestARefusedAttemptStaysCharged(t *testing.T) {
	w := newTimeline(t, paced(CapLimits, 600, 6000, 0), Options{})
	id := w.tokens(t0, 500).ID
	w.tried(at(time.Second), id, 1, named(InputTokens), after(time.Second))
	w.l.Report(at(1100*time.Millisecond), id, "", outcomeOf(ClassOK, goesOn))
	// Refused at 1 s, with a second to wait: then 500 of the bucket of a second fit, and are
	// taken by the next attempt.
	q := w.l.Quotas(at(1100*time.Millisecond), 0)[0]
	if used := q.Checks[1].Used; used != 500 || q.Open != 1 {
		t.Errorf("%d tokens are charged, %d calls open", used, q.Open)
	}
	p := q.Paces[InputTokens]
	room := p.Rate / 60 * p.Burst
	if want := room + p.Rate/60*0.9 - min(500, room) + 500; !near(p.Backlog, want, 1) {
		t.Errorf("a backlog of %.1f, want %.1f", p.Backlog, want)
	}
	w.ended(at(5*time.Second), id, ClassOK, 2, used(100, 1))
	q = w.l.Quotas(at(5*time.Second), 0)[0]
	if used := q.Checks[1].Used; used != 100 || q.Open != 0 {
		t.Errorf("%d tokens are charged in the end, %d calls open", used, q.Open)
	}
	if b := q.Paces[InputTokens].Backlog; b > max(0, p.Backlog-400) {
		t.Errorf("a backlog of %.1f: what was not used is not given back", b)
	}
}

// One that was learned from and is told again teaches nothing, also if the call goes on.
func TestAnAttemptToldAgainLaterTeachesNothing(t *testing.T) {
	w := newTimeline(t, paced(CapLimits, 600, 0, 0), Options{})
	id := w.admit(t0)
	w.tried(at(time.Second), id, 1, after(time.Second))
	for i := range 3 {
		now := at(time.Duration(10*i+2) * time.Second)
		w.l.Report(now, id, "", outcomeOf(ClassOK, goesOn))
		if s := w.tried(now.Add(time.Second), id, 1, after(time.Second)); s.Applied {
			t.Errorf("%s: %+v", now.Sub(t0), s)
		}
	}
	if v := w.pace(at(30*time.Second), Requests); v.Probes != 1 || v.LastClassAt != at(2*time.Second) {
		t.Errorf("%+v", v)
	}
}

// What a tenant tells of attempts moves what is shared no more than other refusals of its.
func TestLiesAboutAttempts(t *testing.T) {
	honest := newGang(t, 1, func(*Outcome) {}).play(10 * time.Minute)
	c := newGang(t, 1, func(*Outcome) {})
	c.lie = func(*Outcome) {
		// All that are open, of the liar, had refused attempts.
		for _, call := range c.open {
			if call.tenant == 0 {
				for n := range uint32(3) {
					o := outcomeOf(ClassQuota, attempt(n+1), after(time.Minute))
					o.Progress, o.Trusted = true, false
					c.l.Report(c.now, call.id, "", o)
				}
			}
		}
	}
	if n := c.play(10 * time.Minute); n < honest*9/10 {
		t.Errorf("the others made %d calls in ten minutes, and %d without the liar", n, honest)
	}
}
