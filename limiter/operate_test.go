package limiter

import (
	"testing"
	"time"
)

// clearGates opens gates of org's quota, as an operator would.
func (w *onlooker) clearGates(now Instant, org string, meter *Meter) int {
	a := &Ask{}
	w.p.MatchAttributes(a, "", -1, []Entry{{"org", org}}, Estimate{})
	w.l.Route(a)
	return w.l.ClearGates(now, a, "q", meter)
}

func TestClearedGatesAreOpenAndNothingElseChanges(t *testing.T) {
	w := newOnlooker(t, known(600))
	w.report(at(time.Second), w.sent(t0), Outcome{Class: ClassQuota, RetryAfter: time.Minute})
	// 2s: shut for a minute. Others' quotas and other meters are not touched.
	shut := w.look(at(2 * time.Second)).Paces[0]
	if shut.GateUntil != at(61*time.Second) {
		t.Fatalf("%+v", shut)
	}
	input := InputTokens
	if n := w.clearGates(at(2*time.Second), "globex", nil) + w.clearGates(at(2*time.Second), "acme", &input); n != 0 {
		t.Fatalf("%d cleared of others", n)
	}
	requests := Requests
	if n := w.clearGates(at(2*time.Second), "acme", &requests); n != 1 {
		t.Fatalf("%d cleared", n)
	}
	v := w.look(at(2 * time.Second)).Paces[0]
	if v.GateUntil > at(2*time.Second) || v.Backlog != 0 || v.Rate != shut.Rate || v.Burst != shut.Burst {
		t.Errorf("%+v, was %+v", v, shut)
	}
	// At once as many pass as the learned burst holds, and no more.
	n := 0
	for w.ask(at(2*time.Second), "chat", nil).Delay == 0 && n < 100 {
		n++
	}
	if room := int(v.Rate / 60 * v.Burst); n < room || n > room+1 {
		t.Errorf("%d were let in at once, the burst holds %d", n, room)
	}
	// Cleared twice: nothing was shut.
	if n := w.clearGates(at(3*time.Second), "acme", nil); n != 0 {
		t.Errorf("%d cleared again", n)
	}
}
