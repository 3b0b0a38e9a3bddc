package limiter

import (
	"reflect"
	"testing"
	"time"
)

// causes are ways to come to a denial: each drives a quota to an instant at which the next
// ask of tenant chat is refused for the cause.
func causes() map[Cause]struct {
	quota QuotaSpec
	drive func(*onlooker) Instant
	until time.Duration // from then; 0: not checked
} {
	share := known(60)
	share.Tenants = map[string]TenantSpec{"chat": {Ceiling: 0.1}}
	day := known(600)
	day.Limits = append(day.Limits, LimitSpec{Meter: Requests, Amount: 1, Window: 24 * time.Hour})
	return map[Cause]struct {
		quota QuotaSpec
		drive func(*onlooker) Instant
		until time.Duration
	}{
		CauseLimit: {day, func(w *onlooker) Instant { w.sent(t0); return at(time.Second) }, 0},
		CausePace:  {known(60), func(w *onlooker) Instant { w.sent(t0); return t0 }, time.Second},
		CauseGate: {known(600), func(w *onlooker) Instant {
			w.report(t0, w.sent(t0), Outcome{Trusted: true, Class: ClassQuota, RetryAfter: 7 * time.Second})
			return at(time.Second)
		}, 6 * time.Second},
		CauseSpend: {known(600), func(w *onlooker) Instant {
			w.report(t0, w.sent(t0), Outcome{Trusted: true, Class: ClassSpend})
			return at(time.Minute)
		}, 14 * time.Minute},
		CauseCeiling: {share, func(w *onlooker) Instant {
			for i := range 6 {
				w.sent(at(time.Duration(i) * time.Second))
			}
			return at(6 * time.Second)
		}, 55 * time.Second},
		CauseLine: {known(60), func(w *onlooker) Instant {
			w.sent(t0)
			for _, tenant := range []string{"a", "b", "c"} {
				w.ask(t0, tenant, nil) // each is told when to come back
			}
			return at(1100 * time.Millisecond)
		}, 0},
		CauseInFlight: {known(600), func(w *onlooker) Instant {
			w.report(at(3*time.Second), w.sent(t0), Outcome{Trusted: true, Class: ClassOK}) // calls take 3 s
			one, _ := w.sent(at(4*time.Second)), w.sent(at(4*time.Second))
			w.report(at(5*time.Second), one, Outcome{Trusted: true, Class: ClassConcurrency})
			return at(time.Minute)
		}, 3 * time.Second},
		CauseOverload: {known(600), func(w *onlooker) Instant {
			w.report(at(100*time.Millisecond), w.sent(t0), Outcome{Trusted: true, Class: ClassOverload})
			w.sent(at(time.Second)) // one call in two seconds is tried
			return at(2 * time.Second)
		}, time.Second},
	}
}

func TestADenialSaysWhatRefused(t *testing.T) {
	for cause, c := range causes() {
		t.Run(cause.String(), func(t *testing.T) {
			w := newOnlooker(t, c.quota)
			now := c.drive(w)
			d := w.ask(now, "chat", nil)
			if d.Verdict != Denied || d.Refusal.Cause != cause || d.RefusedBy < 0 {
				t.Fatalf("%s for %q: %+v", d.Verdict, d.Refusal.Cause, d.Refusal)
			}
			if left := d.Refusal.Until.Sub(now).Round(time.Millisecond); c.until > 0 && left != c.until {
				t.Errorf("until %v from then, want %v", left, c.until)
			}
			if k := d.Checks[d.RefusedBy]; k.Remaining != 0 {
				t.Errorf("%d of %d are said to be left", k.Remaining, k.Amount)
			}
		})
	}
}

// A dry ask is told what a real one would be, and leaves no trace.
func TestADryAskIsToldWhatARealOneWouldBe(t *testing.T) {
	for cause, c := range causes() {
		t.Run(cause.String(), func(t *testing.T) {
			w := newOnlooker(t, c.quota)
			now := c.drive(w)
			before := w.look(now)
			var dry Decision
			for range 3 {
				dry = w.ask(now, "chat", func(a *Ask) { a.DryRun, a.Open = true, false })
			}
			if after := w.look(now); !reflect.DeepEqual(before, after) {
				t.Errorf("it left a trace:\n%+v\n%+v", before, after)
			}
			real := w.ask(now, "chat", nil)
			if dry.Verdict != real.Verdict || dry.Refusal != real.Refusal || dry.RefusedBy != real.RefusedBy || !reflect.DeepEqual(dry.Checks, real.Checks) {
				t.Errorf("dry  %s %+v %+v\nreal %s %+v %+v", dry.Verdict, dry.Refusal, dry.Checks, real.Verdict, real.Refusal, real.Checks)
			}
		})
	}
}
