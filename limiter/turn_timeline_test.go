package limiter

import (
	"testing"
	"time"
)

// comer is a caller that is told when to come back, and does so.
type comer struct {
	tenant string
	band   Priority
	at     Instant
	turn   Turn
	served int
	asked  int
}

// come lets callers come, and come back when they are told to, until end. Whoever is let
// in is done at once and comes anew.
func (w *timeline) come(all []*comer, end Instant) {
	w.t.Helper()
	for {
		c := all[0]
		for _, o := range all[1:] {
			if o.at < c.at {
				c = o
			}
		}
		if c.at >= end {
			return
		}
		d := w.ask(c.at, of(c.tenant), in(c.band), func(a *Ask) { a.Turn = c.turn })
		c.asked++
		c.turn = d.Turn
		switch d.Verdict {
		case Allowed:
			c.served++
			w.report(c.at.Add(d.Delay), d.ID, ClassOK)
			c.at = c.at.Add(d.Delay + time.Millisecond)
		case Denied:
			if d.RetryAt <= c.at || d.RetryAt > c.at.Add(31*time.Second) {
				w.t.Fatalf("%s: told to come back %s later", c.at.Sub(t0), d.RetryAt.Sub(c.at))
			}
			c.at = d.RetryAt
		case Infeasible, Overloaded, Held, Reroute:
			w.t.Fatalf("%s: %s", c.at.Sub(t0), d.Verdict)
		}
	}
}

// comers are n callers of a tenant, who come first within a second.
func comers(n int, tenant string, b Priority) []*comer {
	out := make([]*comer, 0, n)
	for i := range n {
		out = append(out, &comer{tenant: tenant, band: b, at: at(time.Duration(i) * time.Second / time.Duration(n))})
	}
	return out
}

func servedOf(all []*comer, tenant string) (n int) {
	for _, c := range all {
		if c.tenant == tenant {
			n += c.served
		}
	}
	return n
}

// Those who come back find their places: tenants share by weight, nobody is forgotten, and
// hardly anybody comes in vain more than a few times.
func TestThoseWhoComeBackShareByWeight(t *testing.T) {
	q := paced(CapLimits, 600, 0, 0)
	q.Tenants = map[string]TenantSpec{"b": {Weight: 3}}
	w := newTimeline(t, q, Options{})
	all := append(comers(60, "a", Interactive), comers(60, "b", Interactive)...)
	w.come(all, at(5*time.Minute))
	a, b := servedOf(all, "a"), servedOf(all, "b")
	if share := float64(b) / float64(a+b); share < 0.72 || share > 0.78 || a+b < 2950 {
		t.Errorf("a has %d, b with three times its weight %d", a, b)
	}
	asked := 0
	for i, c := range all {
		asked += c.asked
		if c.served < 5 {
			t.Errorf("caller %d, of %s, was served %d times", i, c.tenant, c.served)
		}
	}
	if perCall := float64(asked) / float64(a+b); perCall > 8 {
		t.Errorf("%.1f asks for each call", perCall)
	}
}

// Who is told to come back is let in at its turn, though others come meanwhile.
func TestATurnIsKept(t *testing.T) {
	w := newTimeline(t, paced(CapLimits, 60, 0, 0), Options{})
	w.admit(t0)
	first := w.ask(t0)
	second := w.ask(t0)
	if first.Verdict != Denied || second.Verdict != Denied || first.Turn == 0 || second.RetryAt < first.RetryAt {
		t.Fatalf("%+v, then %+v", first, second)
	}
	// Newcomers of the same tenant go behind at that instant, and it goes in.
	now := first.RetryAt
	if d := w.ask(now); d.Verdict != Denied || d.RetryAt <= second.RetryAt.Add(-200*time.Millisecond) {
		t.Errorf("a newcomer is %s until %s, who came before it until %s", d.Verdict, d.RetryAt.Sub(t0), second.RetryAt.Sub(t0))
	}
	if d := w.ask(now, func(a *Ask) { a.Turn = first.Turn }); d.Verdict != Allowed {
		t.Errorf("at its turn it is %s", d.Verdict)
	}
	if d := w.ask(now.Add(10*time.Millisecond), func(a *Ask) { a.Turn = first.Turn }); d.Verdict == Allowed {
		t.Error("a turn was good twice")
	}
}

// A place that nobody comes back to is given up, and those behind it move up.
func TestAPlaceIsGivenUp(t *testing.T) {
	w := newTimeline(t, paced(CapLimits, 60, 0, 0), Options{})
	w.admit(t0)
	for range 5 {
		w.ask(t0)
	}
	last := w.ask(t0)
	if d := last.RetryAt.Sub(t0); d < 4*time.Second || d > 7*time.Second {
		t.Fatalf("the seventh is told to come back after %s", d)
	}
	// Ten seconds later all places have been given up: whoever comes goes in.
	if d := w.ask(at(12*time.Second), func(a *Ask) { a.Turn = last.Turn }); d.Verdict != Allowed || d.Delay > 0 {
		t.Errorf("when all places were given up: %s, delay %s", d.Verdict, d.Delay)
	}
}
