package limiter

import (
	"testing"
	"time"
)

// Who came first is let in first, also where the first answer shows that the upstream
// grants a hundred times what was thought: turns that were minutes off come at once.
func TestTurnsComeSoonerWhereMoreIsGranted(t *testing.T) {
	for name, states := range map[string][3]uint64{
		"of all meters":    {6000, 6_000_000, 6_000_000},
		"of requests only": {6000, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			w := newTimeline(t, paced(HintLimits, 60, 600_000, 600_000), Options{MaxHeldPerTenant: 1000})
			first := w.admit(t0, of("early"))
			names := map[Ticket]string{}
			for range 20 { // a second each, as far as anybody knows
				names[w.held(t0, of("early"))] = "early"
			}
			now := at(500 * time.Millisecond)
			w.report(now, first, ClassOK, func(o *Outcome) {
				for m, limit := range states {
					o.Headers[m] = HeaderState{Limit: limit, Remaining: limit, HasLimit: limit > 0, HasRemaining: limit > 0}
				}
			})
			for range 20 {
				names[w.held(now, of("late"))] = "late"
			}
			got := w.names(at(1500*time.Millisecond), names)
			early := 0
			for _, name := range got[:min(20, len(got))] {
				if name == "early" {
					early++
				}
			}
			if early < 10 {
				t.Errorf("of the first 20 let in, %d are of those who came first: %v", early, got)
			}
		})
	}
}
