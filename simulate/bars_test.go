package simulate

import (
	"math"
	"os"
	"slices"
	"strings"
	"testing"
)

// quick are the bars that are played where WEIR_BARS is not set, one for each mechanism.
var quick = []string{
	"U1 x W3r", "U2 x W3r", "U2 x W1", "U2 x W3i", "U3 x W3r", "U4 x W3r", "U4n x W3r", "U5n x W3r", "U6 x W3r", "U8un x W3r",
	"U9 x W5", "U7 x W3r, restarted", "U2 x W3r, deny",
}

// TestBars plays some bars with one seed, which may miss them by as much as the worst
// of many may. With WEIR_BARS set to "all", or to a part of the names of those to play,
// it plays them with ten seeds, and judges the mean as well.
func TestBars(t *testing.T) {
	part := os.Getenv("WEIR_BARS")
	seeds := []uint64{101}
	if part != "" {
		seeds = []uint64{201, 202, 203, 204, 205, 206, 207, 208, 209, 210}
	}
	var all []Judgement
	for _, b := range Bars() {
		name := b.Scenario.Name
		if (part == "" && !slices.Contains(quick, name)) || (part != "all" && !strings.Contains(name, part)) {
			continue
		}
		j, err := b.Judge(t.Context(), seeds...)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		all = append(all, j...)
	}
	var text strings.Builder
	if err := WriteJudgements(&text, all); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d seeds\n%s", len(seeds), text.String())
	for i := range all {
		j := &all[i]
		if !j.Passed && (part != "" || !j.passes(j.Worst, j.Check.Metric.leeway(&j.Check))) {
			t.Error(j.String())
		}
	}
}

func TestABarIsJudgedByItsMeanAndItsWorstSeed(t *testing.T) {
	for _, s := range []struct {
		check       Check
		mean, worst float64
		want        bool
	}{
		{util(98), 98, 95, true},
		{util(98), 97.9, 97.9, false},
		{util(98), 99, 94.9, false},
		{rejected(1), 1, 4, true},
		{rejected(1), 0.5, 4.1, false},
		{most(Raise, 10, Alone), 10, 500, true},
		{most(Makespan, 1.1, AsRatio), 1.05, 1.14, false},
		{most(Makespan, 1.1, AsRatio), math.Inf(1), math.Inf(1), false},
		{least(Utilization, 0.97, AsRatio), 0.98, 0.93, false},
	} {
		j := Judgement{Check: s.check, Mean: s.mean, Worst: s.worst}
		if got := j.judge(); got != s.want {
			t.Errorf("%s: %v", j.String(), got)
		}
	}
}
