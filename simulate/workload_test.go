package simulate

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestDistributionsHaveTheirMedianAndTail(t *testing.T) {
	for _, kind := range []string{"lognormal", "pareto"} {
		d := Dist{Kind: kind, Median: 1000, P99: 30_000, Max: 200_000}
		for u, want := range map[float64]float64{0.5: 1000, 0.99: 30_000, 0.9999999999: 200_000} {
			if got := d.quantile(u); math.Abs(got-want) > 1 {
				t.Errorf("%s: quantile %v is %v, want %v", kind, u, got, want)
			}
		}
		c := newChance(1, 1)
		var sum float64
		const n = 200_000
		for range n {
			sum += d.quantile(c.uniform())
		}
		if got, want := sum/n, d.mean(); math.Abs(got/want-1) > 0.03 {
			t.Errorf("%s: mean of samples %v, mean %v", kind, got, want)
		}
	}
}

func TestAnOpenWorkloadOffersItsLoadInItsShares(t *testing.T) {
	for name, want := range map[string]float64{"W2": 0.7, "W3r": 1.5, "W3i": 1.5, "W3o": 1.5, "W5": 1.3} {
		s, err := Named("U1", name)
		if err != nil {
			t.Fatal(err)
		}
		s = s.withDefaults()
		src := newSource(&s.Workload, 7)
		m := s.Workload.binding()
		var sum, greedy float64
		const n = 100_000
		for range n {
			c := src.next(start, -1, nil)
			sum += c.amounts()[m]
			if c.tenant == 0 {
				greedy++
			}
		}
		s.Limiter, s.Duration = None, Duration(30*time.Minute)
		r, err := Run(t.Context(), s)
		if err != nil {
			t.Fatal(err)
		}
		load := sum / n * float64(r.Arrived) / 30 / s.Upstream.Limits.vector()[m]
		if math.Abs(load/want-1) > 0.05 {
			t.Errorf("%s: offered %v of the limit, want %v", name, load, want)
		}
		if got := greedy / n; len(s.Workload.Tenants) > 1 && math.Abs(got-0.4) > 0.01 {
			t.Errorf("%s: the greedy one sends %v, want 0.4", name, got)
		}
	}
}

func TestReadTrace(t *testing.T) {
	got, err := ReadTrace(strings.NewReader(
		"TIMESTAMP,ContextTokens,GeneratedTokens\n" +
			"2023-11-16 18:15:46.6805900,374,44\n" +
			"2023-11-16 18:15:50.9951690,396,109\n" +
			"2023-11-16T18:15:45.6805900Z,10,0\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := []Arrival{
		{0, 10, 0}, {time.Second, 374, 44}, {5_314_579 * time.Microsecond, 396, 109},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for text, want := range map[string]string{
		"":                    "no header line",
		"TIMESTAMP,Context\n": "line 1: the header has the columns",
		"TIMESTAMP,ContextTokens,GeneratedTokens\n":                                  "no requests",
		"TIMESTAMP,ContextTokens,GeneratedTokens\n1,2,3\nsoon,1,2\n":                 `line 3: "soon" is neither a time`,
		"TIMESTAMP,ContextTokens,GeneratedTokens\n1,-2,3\n":                          `line 2: "-2" is not a number of tokens`,
		"TIMESTAMP,ContextTokens,GeneratedTokens\n1,2\n":                             "wrong number of fields",
		"TIMESTAMP,ContextTokens,GeneratedTokens\n1,2,3\n99999999,1,1\n":             "it lasts",
		"GeneratedTokens,TIMESTAMP,ContextTokens,More\n1,1970-01-01T00:00:02Z,9,x\n": "",
	} {
		_, err := ReadTrace(strings.NewReader(text))
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

func TestATraceIsReplayedAtItsTimes(t *testing.T) {
	s, err := Named("U1", "W3r")
	if err != nil {
		t.Fatal(err)
	}
	s.Workload = Workload{Trace: []Arrival{{0, 100, 10}, {90 * time.Second, 5000, 6000}}}
	s.Duration = Duration(5 * time.Minute)
	r, err := Run(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	if r.Completed != 2 || r.Series.Sent[1] != 1 || r.Series.Sent[91] != 1 {
		t.Errorf("completed %d", r.Completed)
	}
	if got := sum(r.Series.Accepted[1]) / 60; math.Abs(got-5100) > 1 {
		t.Errorf("used %v input tokens, want 5100", got)
	}
}

func TestFairSharesAreByWeightAndNoMoreThanAskedFor(t *testing.T) {
	tenants := []Tenant{{"a", 1, 1}, {"b", 1, 1}, {"c", 2, 1}, {"d", 4, 1}}
	got := fairShares(tenants, []float64{100, 100, 100, 10}, []float64{25, 25, 50, 0})
	if diff := cmp.Diff([]float64{22.5, 22.5, 45, 10}, got); diff != "" {
		t.Error(diff)
	}
	if j := jain(tenants, []float64{100, 100, 100, 10}, []float64{22.5, 22.5, 45, 10}); math.Abs(j-1) > 1e-9 {
		t.Errorf("fair is %v", j)
	}
	if j := jain(tenants[:2], []float64{100, 100}, []float64{50, 0}); math.Abs(j-0.5) > 1e-9 {
		t.Errorf("one of two is %v", j)
	}
}
