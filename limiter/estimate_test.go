package limiter

import (
	"fmt"
	"testing"
	"time"
)

// seen is a quota with what is learned of the first n tenants, one a second.
func seen(t *testing.T, n int) (*learnedBench, *quotaState) {
	t.Helper()
	tenants := make([]string, 2*maxTenants)
	l := newLearnedBench(t, 1e12, 1)
	for i := range tenants {
		tenants[i] = fmt.Sprintf("t%04d", i)
	}
	l.tenants = tenants
	for i := range n {
		l.now = l.now.Add(2 * time.Second)
		l.call(i)
	}
	return l, l.l.shards[0].order[0]
}

// Where there are too many tenants, those that did not call for the longest time are
// forgotten, and never one with a call under way.
func TestTenantsLeastRecentlySeenAreForgotten(t *testing.T) {
	l, st := seen(t, maxTenants)
	l.now = l.now.Add(time.Second)
	l.ask(1, time.Minute, 0) // under way
	open := l.d
	for i := range 200 { // many names, each for the first time
		l.now = l.now.Add(time.Second / 2)
		l.call(7) // seen again and again
		l.call(maxTenants + i)
	}
	if n := len(st.calibrations); n > maxTenants {
		t.Errorf("%d tenants are told apart, want at most %d", n, maxTenants)
	}
	for i, want := range map[int]bool{
		0: false, 1: true, 2: false, 7: true, maxTenants - 1: true, maxTenants: true, maxTenants + 199: true,
	} {
		if _, ok := st.calibrations[l.tenants[i]]; ok != want {
			t.Errorf("tenant %d is known: %v, want %v", i, ok, want)
		}
	}
	if st.calibrations[otherTenants] != nil {
		t.Error("tenants share what is learned, though there was room to be made")
	}
	before := *st.calibrations[l.tenants[1]]
	if l.l.Report(l.now, open.ID, "", Outcome{Usage: Usage{InputTokens: 5}, HasInput: true, Learn: true}); st.calibrations[l.tenants[1]].inputs == before.inputs {
		t.Error("the report of a call that was under way taught nothing")
	}
	if n := st.calibrations[l.tenants[1]].open; n != 0 {
		t.Errorf("%d calls are under way, want none", n)
	}
}

// Where each tenant has a call under way, new ones share what is learned.
func TestTenantsBeyondTheBoundShare(t *testing.T) {
	l, st := seen(t, 1)
	for i := range maxTenants + 10 {
		l.ask(i, time.Minute, 0)
	}
	if n := len(st.calibrations); n != maxTenants+1 || st.calibrations[otherTenants] == nil {
		t.Errorf("%d tenants are told apart, want %d and one for the others", n, maxTenants)
	}
}

// A tenant that did not call for a day is forgotten, also while others do.
func TestTenantsUnseenForADayAreForgotten(t *testing.T) {
	l, st := seen(t, 3)
	for range 25 {
		l.now = l.now.Add(time.Hour)
		l.call(2)
		l.l.Advance(l.now, 0, 1)
		l.l.Sweep(l.now, 0, 1)
	}
	if len(st.calibrations) != 1 || st.calibrations[l.tenants[2]] == nil {
		t.Errorf("%d tenants are known, want the last alone", len(st.calibrations))
	}
}

// A sweep forgets the turns of a quota at rest, and not those of one in use.
func TestSweepForgetsTurnsAtRest(t *testing.T) {
	l, kept := tickets(t, 20)
	st := l.l.shards[0].order[0]
	if l.l.Sweep(l.now, 0, 1); st.pacer.turns.len() != len(kept) || len(st.line.flows) == 0 {
		t.Errorf("%d places are kept, want %d", st.pacer.turns.len(), len(kept))
	}
	l.now = l.now.Add(time.Hour)
	l.l.Advance(l.now, 0, 1) // what is open keeps its tenant's lane
	if l.l.Sweep(l.now, 0, 1); st.pacer.turns.len() != 0 || st.line.flows != nil {
		t.Errorf("%d places and %d tenants are kept, want none", st.pacer.turns.len(), len(st.line.flows))
	}
}
