package simulate

import (
	"errors"
	"testing"
)

var errNotTaken = errors.New("what was learned was not taken in")

// keeping is weir with a memory that outlives it, as a server's snapshots are.
type keeping struct{ *weir }

func (k keeping) restart() {
	kept := k.l.Learned(k.s.now, 0)
	k.weir.restart()
	for i := range kept {
		if !k.l.Restore(k.s.now, k.plan, &kept[i]) {
			k.s.fault = errNotTaken
		}
	}
}

// played runs s, with a weir that keeps what it learned over restarts, or one that does
// not.
func played(t *testing.T, s Scenario, keeps bool) *Result {
	t.Helper()
	if err := s.Validate(); err != nil {
		t.Fatal(err)
	}
	s = s.withDefaults()
	sim := newSimulation(&s)
	if w, ok := sim.gate.(*weir); ok && keeps {
		sim.gate = keeping{w}
	}
	for {
		e, ok := sim.agenda.next()
		if !ok || e.at >= sim.end || sim.fault != nil {
			break
		}
		sim.now = e.at
		e.do()
	}
	if sim.fault != nil {
		t.Fatal(sim.fault)
	}
	sim.now = sim.end
	return sim.result()
}

// Three restarts in twenty minutes: who keeps what was learned is refused less, and uses no
// less.
func TestWhoKeepsWhatItLearnedLosesLess(t *testing.T) {
	for _, s := range []struct {
		upstream string
		part     float64 // at most so much of the refusals of who forgets
	}{{"U2", 0.6}, {"U2n", 0.8}, {"U8x2n", 0.7}, {"U8un", 0.95}} {
		var kept, lost float64
		for seed := uint64(301); seed <= 303; seed++ {
			sc, err := Named(s.upstream, "W3r")
			if err != nil {
				t.Fatal(err)
			}
			sc.Seed, sc.Duration = seed, sec(1200)
			sc.RestartAt = []Duration{sec(300), sec(600), sec(900)}
			forgets, keeps := played(t, sc, false), played(t, sc, true)
			if keeps.Utilization < forgets.Utilization-0.3 {
				t.Errorf("%s, seed %d: util %.2f %%, %.2f %% where all is forgotten", s.upstream, seed, keeps.Utilization, forgets.Utilization)
			}
			kept, lost = kept+keeps.RejectedShare(), lost+forgets.RejectedShare()
		}
		if kept > s.part*lost {
			t.Errorf("%s: 429 %.3f %%, %.3f %% where all is forgotten", s.upstream, kept/3, lost/3)
		}
	}
}
