package simulate

import "testing"

// Calls whose end nobody reports stay charged as estimated, and expire: of twenty reports
// one may be lost, and what is learned from the others is enough.
func TestLostReportsCostLittle(t *testing.T) {
	for _, up := range []string{"U1", "U2"} {
		for _, mode := range []Mode{Queue, Deny} {
			for seed := uint64(301); seed <= 305; seed++ {
				r := run(t, up, "W3r", func(s *Scenario) {
					s.Seed, s.Duration, s.Mode, s.LostReports = seed, sec(1200), mode, 0.05
				})
				if r.Utilization < 98 || r.RejectedShare() > 0.3 { // 99.5 and 0, 99.9 and 0.05
					t.Errorf("%s, %s, seed %d: util %.2f %%, 429 %.2f %%", up, mode, seed, r.Utilization, r.RejectedShare())
				}
			}
		}
	}
}
