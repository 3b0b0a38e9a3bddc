package limiter

import (
	"slices"
	"testing"
	"time"
)

func in(p Priority) func(*Ask) { return func(a *Ask) { a.Priority = p } }

// slow is one call a second, whose callers mostly wait. Its limit is known to the
// upstream, so that its rate stays.
func slow(tenants map[string]TenantSpec) QuotaSpec {
	q := paced(CapLimits, 60, 0, 0)
	q.Tenants = tenants
	return q
}

// names waits until end and returns, by the names given to tickets, who was let in.
func (w *timeline) names(end Instant, names map[Ticket]string) []string {
	w.t.Helper()
	w.pass(end, func(now Instant, d Decision) {
		if d.Verdict == Allowed {
			w.report(now, d.ID, ClassOK)
		}
	})
	var out []string
	for _, t := range w.order {
		out = append(out, names[t])
	}
	return out
}

func count(names []string, name string) (n int) {
	for _, x := range names {
		if x == name {
			n++
		}
	}
	return n
}

// A lower priority goes after higher ones, but not for ever: from 10 s on it is served
// after every three of them.
func TestPrioritiesCannotStarveOneAnother(t *testing.T) {
	w := newTimeline(t, slow(nil), Options{MaxHeldPerTenant: 1000})
	w.admit(t0)
	names := map[Ticket]string{}
	for range 3 {
		names[w.held(t0, in(Batch))] = "batch"
	}
	for range 60 {
		names[w.held(t0, in(Interactive))] = "interactive"
	}
	w.names(at(40*time.Second), names)
	var last, between int
	for i, ticket := range w.order {
		when := w.times[ticket].Sub(t0)
		if names[ticket] == "interactive" {
			between++
			continue
		}
		if when < 10*time.Second {
			t.Errorf("a batch call was let in at %s, while interactive ones waited", when)
		}
		if last == 0 && when > 12*time.Second {
			t.Errorf("the first batch call waited for %s", when)
		}
		if last > 0 && between != 3 {
			t.Errorf("%d interactive calls between two batch calls, want 3", between)
		}
		last, between = i, 0
	}
	if got := count(w.names(at(40*time.Second), names), "batch"); got != 3 {
		t.Errorf("%d batch calls were let in, want all 3", got)
	}
}

// Above its ceiling a tenant is turned away, though nobody else wants the room.
func TestACeilingIsKeptInTheLongRun(t *testing.T) {
	w := newTimeline(t, slow(map[string]TenantSpec{"bounded": {Ceiling: 0.25}}), Options{})
	n := 0
	for s := range 600 {
		now := at(time.Duration(s) * time.Second)
		if d := w.ask(now, of("bounded")); d.Verdict == Allowed {
			n++
			w.report(now, d.ID, ClassOK)
		} else if d.RetryAt <= now || d.RetryAt > now.Add(61*time.Second) {
			t.Fatalf("%d s: told to come back %s later", s, d.RetryAt.Sub(now))
		}
	}
	if n < 145 || n > 150 { // a quarter of 600, less a sixtieth
		t.Errorf("%d calls in ten minutes, want a quarter of 600", n)
	}
	if d := w.ask(at(601*time.Second), of("other")); d.Verdict != Allowed {
		t.Errorf("another tenant: %s", d.Verdict)
	}
}

// A call that the upstream refused goes before all that wait, of any priority, and its
// tenant is not charged twice: its next call stands where it would have stood.
func TestARetryGoesToTheFrontAndIsNotCharged(t *testing.T) {
	for _, retries := range []int{0, 3} {
		w := newTimeline(t, slow(nil), Options{})
		w.admit(t0, of("z"))
		names := map[Ticket]string{}
		for range 2 {
			names[w.held(t0, of("b"))] = "b"
		}
		for range retries {
			names[w.held(t0, of("a"), again, in(Batch))] = "retry"
		}
		names[w.held(t0, of("a"))] = "a"
		got := w.names(at(30*time.Second), names)
		want := append(slices.Repeat([]string{"retry"}, retries), "b", "a", "b")
		if !slices.Equal(got, want) {
			t.Errorf("%d retries: served %v, want %v", retries, got, want)
		}
	}
}

// Who cannot be let in before its time is up is told at once, not when it is up.
func TestWhoCannotMakeItIsToldAtOnce(t *testing.T) {
	w := newTimeline(t, slow(nil), Options{})
	w.admit(t0)
	for range 10 {
		w.held(t0)
	}
	for _, s := range []struct {
		patience time.Duration
		want     Verdict
	}{{500 * time.Millisecond, Denied}, {5 * time.Second, Denied}, {8 * time.Second, Denied}, {15 * time.Second, Held}} {
		d := w.ask(t0, waits(t0.Add(s.patience)))
		if d.Verdict != s.want {
			t.Errorf("ten wait, who has %s is %s, want %s", s.patience, d.Verdict, s.want)
		}
		if d.Verdict == Denied && d.RetryAt <= t0 {
			t.Errorf("who has %s is told to come back at once", s.patience)
		}
	}
	// And nobody who waits is let in after its time.
	w.pass(at(time.Minute), func(now Instant, d Decision) {
		if d.Verdict != Allowed {
			t.Errorf("%s: %s, though it was held", now.Sub(t0), d.Verdict)
		}
	})
}

// When the upstream refuses for longer than those who wait can, they are told at once.
func TestARefusalForTooLongIsToldAtOnce(t *testing.T) {
	w := newTimeline(t, slow(nil), Options{})
	id := w.admit(t0)
	for range 5 {
		w.held(t0, waits(at(20*time.Second)))
	}
	now := at(50 * time.Millisecond)
	w.report(now, id, ClassQuota, after(time.Minute))
	w.pass(now, func(when Instant, d Decision) {
		if d.Verdict != Denied || d.RetryAt < now.Add(time.Minute) {
			t.Errorf("%s: %s until %s", when.Sub(t0), d.Verdict, d.RetryAt.Sub(t0))
		}
	})
	if len(w.times) != 5 {
		t.Errorf("%d of 5 know it", len(w.times))
	}
}

// Cancelled callers leave nothing behind: those who stay are let in at the instants at
// which they would have been without them, in whichever order the others leave.
func TestCancelledCallersLeaveNothingBehind(t *testing.T) {
	tenants := []string{"a", "b", "a", "c", "b", "a"}
	leave := []int{1, 3, 4}
	run := func(order []int) []time.Duration {
		w := newTimeline(t, slow(map[string]TenantSpec{"c": {Weight: 3}}), Options{})
		w.admit(t0, of("z"))
		var tickets []Ticket
		for i, tenant := range tenants {
			if order == nil && slices.Contains(leave, i) {
				tickets = append(tickets, 0)
				continue
			}
			tickets = append(tickets, w.held(t0, of(tenant)))
		}
		for _, i := range order {
			if !w.l.Cancel(at(100*time.Millisecond), tickets[i]) || w.l.Cancel(at(100*time.Millisecond), tickets[i]) {
				t.Fatal("a ticket is cancelled once")
			}
		}
		if q := w.l.Quotas(at(100*time.Millisecond), 0)[0]; q.Held != 3 || q.Open != 1 {
			t.Fatalf("%d are held, %d open; want 3 and 1", q.Held, q.Open)
		}
		w.pass(at(time.Minute), func(now Instant, d Decision) { w.report(now, d.ID, ClassOK) })
		if len(w.times) != 3 {
			t.Fatalf("%d were decided, want the 3 that stayed", len(w.times))
		}
		out := make([]time.Duration, 0, 3)
		for i, ticket := range tickets {
			if !slices.Contains(leave, i) {
				out = append(out, w.times[ticket].Sub(t0).Round(time.Millisecond))
			}
		}
		return out
	}
	want := run(nil)
	for _, order := range [][]int{{1, 3, 4}, {1, 4, 3}, {3, 1, 4}, {3, 4, 1}, {4, 1, 3}, {4, 3, 1}} {
		if got := run(order); !slices.Equal(got, want) {
			t.Errorf("cancelled in the order %v: let in at %v, want %v", order, got, want)
		}
	}
}

// Nobody fills the line: a tenant has a bound, and all together have one. Beyond it they
// are answered at once, and who leaves makes room.
func TestTheLineIsBounded(t *testing.T) {
	w := newTimeline(t, slow(nil), Options{MaxHeld: 5, MaxHeldPerTenant: 2})
	w.admit(t0)
	long := waits(at(10 * time.Minute))
	var first Ticket
	for i, s := range []struct {
		tenant string
		want   Verdict
	}{
		{"a", Held},
		{"a", Held},
		{"a", Denied}, // two of one tenant
		{"b", Held},
		{"b", Held},
		{"c", Held},
		{"c", Denied}, // five in all
		{"d", Denied},
	} {
		d := w.ask(t0, of(s.tenant), long)
		if d.Verdict != s.want {
			t.Fatalf("ask %d, of %s: %s, want %s", i, s.tenant, d.Verdict, s.want)
		}
		if d.Verdict == Denied && (d.RetryAt <= t0 || d.Ticket != 0) {
			t.Errorf("ask %d: %+v", i, d)
		}
		if i == 0 {
			first = d.Ticket
		}
	}
	w.l.Cancel(t0, first)
	if d := w.ask(t0, of("b"), long); d.Verdict != Denied {
		t.Errorf("a third of b: %s", d.Verdict)
	}
	if d := w.ask(t0, of("d"), long); d.Verdict != Held {
		t.Errorf("after one left: %s", d.Verdict)
	}
}

// With room for everybody, as many are let in as there is room for, and no event is
// needed for it: the first looks again when its turn comes.
func TestCallersOfOneLineAreLetInAtTheirTurns(t *testing.T) {
	w := newTimeline(t, slow(nil), Options{})
	w.admit(t0)
	for range 5 {
		w.held(t0)
	}
	var gaps []time.Duration
	last := t0
	w.pass(at(time.Minute), func(now Instant, _ Decision) {
		gaps = append(gaps, now.Sub(last))
		last = now
	})
	for i, g := range gaps {
		// The burst grows while somebody waits, by at most as much as time passes.
		if g < 450*time.Millisecond || g > 1010*time.Millisecond {
			t.Errorf("gap %d is %s", i, g)
		}
	}
	if len(gaps) != 5 {
		t.Errorf("%d were let in", len(gaps))
	}
}

// Who did not ask for a while has no claim on the past: from when it comes it has its
// share, and no more.
func TestANewcomerDoesNotCatchUp(t *testing.T) {
	w := newTimeline(t, slow(nil), Options{MaxHeldPerTenant: 1000})
	w.admit(t0, of("a"))
	names := map[Ticket]string{}
	for range 150 {
		names[w.held(t0, of("a"))] = "a"
	}
	w.names(at(30*time.Second), names)
	before := len(w.order)
	for range 20 {
		names[w.held(at(30*time.Second), of("b"))] = "b"
	}
	got := w.names(at(40*time.Second), names)[before:]
	if a, b := count(got, "a"), count(got, "b"); len(got) < 8 || a-b > 1 || b-a > 1 {
		t.Errorf("after b came: %v, want one of each in turn", got)
	}
}
