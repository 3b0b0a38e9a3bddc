package simulate

import "testing"

// Where the upstream's bucket is large and learning
// has earned a burst, a restart must not spend that burst again: what the upstream has not
// drained yet is owed after the restart too.
func TestARestartDoesNotSpendTheBurstAgain(t *testing.T) {
	for _, up := range []string{"U1", "U1n", "U7", "U8u"} {
		for _, mode := range []Mode{Queue, Deny} {
			for seed := uint64(301); seed <= 303; seed++ {
				sc, err := Named(up, "W3r")
				if err != nil {
					t.Fatal(err)
				}
				sc.Seed, sc.Duration, sc.Mode = seed, sec(1200), mode
				sc.RestartAt = []Duration{sec(300), sec(600), sec(900)}
				forgets, keeps := played(t, sc, false), played(t, sc, true)
				t.Logf("%s, %s, seed %d: forgets %.2f %.3f, keeps %.2f %.3f", up, mode, seed,
					forgets.Utilization, forgets.RejectedShare(), keeps.Utilization, keeps.RejectedShare())
				if keeps.Utilization < forgets.Utilization-0.5 || keeps.RejectedShare() > forgets.RejectedShare()+0.05 {
					t.Errorf("%s, %s, seed %d: util %.2f %%, 429 %.3f %%; %.2f and %.3f where all is forgotten", up, mode, seed,
						keeps.Utilization, keeps.RejectedShare(), forgets.Utilization, forgets.RejectedShare())
				}
			}
		}
	}
}
