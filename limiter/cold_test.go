package limiter

import (
	"fmt"
	"math"
	"testing"
	"time"
)

// cold is twenty callers that ask again as soon as they have an answer, of an upstream
// of which nothing is known at first.
type cold struct {
	*timeline
	hold    time.Duration
	headers func(o *Outcome)

	calls   []coldCall
	agenda  map[Instant][]func(now Instant)
	waiting map[Ticket]int
}

type coldCall struct {
	tenant string
	asked  Instant
	wait   time.Duration // Never if it was not sent
}

// begin is when a caller wants to send one more call.
func (c *cold) begin(now Instant, tenant string) {
	c.calls = append(c.calls, coldCall{tenant, now, time.Duration(Never)})
	c.ask(now, len(c.calls)-1, 0)
}

func (c *cold) ask(now Instant, i int, turn Turn) {
	e := Estimate{Requests: 1, InputTokens: 10, HasInput: true}
	d := c.estimated(now, e, of(c.calls[i].tenant), waits(now.Add(c.hold)), func(a *Ask) { a.Turn = turn })
	if d.Verdict == Held {
		c.waiting[d.Ticket] = i
		return
	}
	c.decided(now, i, d)
}

// decided sends a call, which takes 200 ms and has 20 tokens, or comes back when told to.
func (c *cold) decided(now Instant, i int, d Decision) {
	if d.Verdict != Allowed {
		c.agenda[d.RetryAt] = append(c.agenda[d.RetryAt], func(now Instant) { c.ask(now, i, d.Turn) })
		return
	}
	call := &c.calls[i]
	call.wait = now.Add(d.Delay).Sub(call.asked)
	end := now.Add(d.Delay + 200*time.Millisecond)
	c.agenda[end] = append(c.agenda[end], func(now Instant) {
		c.report(now, d.ID, ClassOK, used(10, 20), c.headers)
		c.begin(now, c.calls[i].tenant)
	})
}

func (c *cold) run(until Instant) {
	for {
		now, set := c.l.Next(0)
		for at := range c.agenda {
			now = min(now, at)
		}
		if now > until {
			return
		}
		todo := c.agenda[now]
		delete(c.agenda, now)
		for _, f := range todo {
			f(now)
		}
		c.l.Advance(now, 0, set|1)
		for _, e := range c.l.Ready(0) {
			if i, ok := c.waiting[e.Ticket]; ok {
				delete(c.waiting, e.Ticket)
				c.decided(now, i, e.Decision)
			}
		}
	}
}

// What is assumed of an upstream and of tenants that nothing is known of must not keep
// callers waiting once the first answers tell more: those of other tenants too. The
// upstream has room for all of them at any time.
func TestNobodyOfTheFirstSecondWaitsForWhatWasAssumed(t *testing.T) {
	requests := header(Requests, 1200, 1180)
	all := func(o *Outcome) {
		requests(o)
		header(InputTokens, 1_000_000, 1_000_000)(o)
		header(OutputTokens, 1_000_000, 1_000_000)(o)
	}
	const long = 10 * time.Minute
	for _, s := range []struct {
		name    string
		tenants int
		hold    time.Duration
		headers func(o *Outcome)
		bound   time.Duration // of the wait of whoever asks in the first second
		calls   int           // in half a minute, at least
	}{
		{"all is stated, and callers wait", 2, long, all, 500 * time.Millisecond, 2500},
		{"all is stated, and callers wait ten seconds", 20, 10 * time.Second, all, time.Second, 2500},
		{"all is stated, and callers come back", 2, 0, all, time.Second, 1500},
		{"all is stated, and callers of many tenants come back", 20, 0, all, time.Second, 1500},
		{"output is hidden, and callers wait", 2, long, requests, 3 * time.Second, 700},
		{"output is hidden, and callers wait ten seconds", 2, 10 * time.Second, requests, 3 * time.Second, 700},
		{"output is hidden, and callers of many tenants wait", 20, long, requests, 5 * time.Second, 700},
		{"output is hidden, and callers come back", 2, 0, requests, 7 * time.Second, 600},
		{"output is hidden, and callers of many tenants come back", 20, 0, requests, 10 * time.Second, 600},
	} {
		t.Run(s.name, func(t *testing.T) {
			c := &cold{
				timeline: newTimeline(t, paced(HintLimits, 0, 0, 0), Options{MaxHeldPerTenant: 1000}),
				hold:     s.hold, headers: s.headers,
				agenda: map[Instant][]func(Instant){}, waiting: map[Ticket]int{},
			}
			for i := range 20 {
				c.begin(t0.Add(time.Duration(i)*10*time.Millisecond), fmt.Sprint(i%s.tenants))
			}
			c.run(at(30 * time.Second))
			for i, call := range c.calls {
				if call.asked < at(time.Second) && call.wait > s.bound {
					t.Errorf("call %d, of tenant %s after %s, waited %s, want %s at most",
						i, call.tenant, call.asked.Sub(t0), call.wait, s.bound)
				}
			}
			if len(c.calls) < s.calls {
				t.Errorf("%d calls in half a minute, want %d at least", len(c.calls), s.calls)
			}
		})
	}
}

// A tenant that calls much, and says that it had nothing or a lot, is one of many.
func TestATenantIsOneOfManyInWhatIsExpected(t *testing.T) {
	for _, said := range []uint64{0, 4000} {
		s := &quotaState{}
		for i := range 10 {
			c := s.calibration(t0, fmt.Sprint(i))
			if i == 0 {
				for range 10_000 {
					s.learnOutput(t0, c, said)
				}
			}
			for range 10 {
				s.learnOutput(t0, c, 100)
			}
		}
		if got, most := s.pool.expect(), 100+0.1*float64(said); got < 90 || got > most+5 {
			t.Errorf("one of ten says %d, the others 100: %.1f are expected, want between 90 and %.0f", said, got, most)
		}
	}
}

// Who is forgotten does not count any more, and who is restored does again.
func TestWhatIsExpectedIsOfThoseWhoAreKnown(t *testing.T) {
	l, st := seen(t, maxTenants)
	check := func(st *quotaState) {
		t.Helper()
		var tenants, means float64
		for _, c := range st.calibrations {
			if m := c.mean(); m.known {
				tenants, means = tenants+1, means+m.of
			}
		}
		if st.pool.tenants != tenants || math.Abs(st.pool.means-means) > 1e-6*means {
			t.Errorf("%+v counts, want %.0f with %.3f", st.pool, tenants, means)
		}
	}
	for i := range 200 { // some make room
		l.now = l.now.Add(time.Second)
		l.call(maxTenants + i)
	}
	check(st)
	kept := l.l.Learned(l.now, 0)
	again := New(Options{})
	if !again.Restore(l.now, l.p, &kept[0]) {
		t.Fatal("nothing was restored")
	}
	check(again.shards[0].order[0])
	l.now = l.now.Add(48 * time.Hour)
	l.l.Advance(l.now, 0, 1)
	st.forgetTenants(l.now)
	check(st)
	if got := st.pool.expect(); got != priorOutput {
		t.Errorf("all are forgotten, and %.0f are expected", got)
	}
}
