package simulate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"
	"text/tabwriter"
)

// RunAll plays scenarios, several at a time, and returns their results in the same
// order. It stops at the first error.
func RunAll(ctx context.Context, scenarios []Scenario) ([]*Result, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	results, errs := make([]*Result, len(scenarios)), make([]error, len(scenarios))
	next := make(chan int)
	var wg sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), len(scenarios)) {
		wg.Go(func() {
			for i := range next {
				if results[i], errs[i] = Run(ctx, scenarios[i]); errs[i] != nil {
					cancel()
				}
			}
		})
	}
	for i := range scenarios {
		next <- i
	}
	close(next)
	wg.Wait()
	for _, err := range errs {
		if err != nil && !errors.Is(err, context.Canceled) {
			return nil, err
		}
	}
	return results, errors.Join(errs...)
}

// Seeds returns s once for each seed.
func Seeds(s Scenario, seeds ...uint64) []Scenario {
	out := make([]Scenario, 0, len(seeds))
	for _, seed := range seeds {
		s.Seed = seed
		out = append(out, s)
	}
	return out
}

// Summary are the means of the results of one scenario and limiter over all seeds.
type Summary struct {
	Scenario string `json:"scenario"`
	Limiter  Kind   `json:"limiter"`
	Mode     Mode   `json:"mode"`
	Runs     int    `json:"runs"`
	// Utilization and Rejected are percentages, as in Result; LeastUtilization and
	// MostRejected those of the worst seeds.
	Utilization      float64 `json:"utilization"`
	LeastUtilization float64 `json:"least_utilization"`
	Rejected         float64 `json:"rejected"`
	MostRejected     float64 `json:"most_rejected"`
	Jain             float64 `json:"jain"`
	WaitP50          float64 `json:"wait_p50"`
	WaitP95          float64 `json:"wait_p95"`
	// Makespan is 0 unless there were items and all runs did them.
	Makespan        float64 `json:"makespan,omitempty"`
	AsksPerItem     float64 `json:"asks_per_item"`
	PeakAsks        float64 `json:"peak_asks"`
	Overloaded      float64 `json:"overloaded"`
	ForeignRejected float64 `json:"foreign_rejected"`
}

// Title names the limiter, and its mode where that is not Queue.
func (s *Summary) Title() string { return title(s.Limiter, s.Mode) }

func title(k Kind, m Mode) string {
	if k == Weir && m == Deny {
		return "weir, deny"
	}
	return string(k)
}

// Summarize groups results by scenario, limiter and mode, in the order in which each
// group comes first.
func Summarize(results []*Result) []Summary {
	type key struct {
		scenario string
		limiter  Kind
		mode     Mode
	}
	var order []key
	groups := map[key][]*Result{}
	for _, r := range results {
		k := key{r.Scenario, r.Limiter, r.Mode}
		if groups[k] == nil {
			order = append(order, k)
		}
		groups[k] = append(groups[k], r)
	}
	out := make([]Summary, 0, len(order))
	for _, k := range order {
		out = append(out, summaryOf(groups[k]))
	}
	return out
}

func summaryOf(runs []*Result) Summary {
	first := runs[0]
	s := Summary{
		Scenario: first.Scenario, Limiter: first.Limiter, Mode: first.Mode, Runs: len(runs),
		LeastUtilization: first.Utilization, MostRejected: first.RejectedShare(),
	}
	mean := func(of func(*Result) float64) float64 {
		var sum float64
		for _, r := range runs {
			sum += of(r)
		}
		return sum / float64(len(runs))
	}
	s.Utilization = mean(func(r *Result) float64 { return r.Utilization })
	s.Rejected = mean((*Result).RejectedShare)
	s.Jain = mean(func(r *Result) float64 { return r.Jain })
	s.WaitP50 = mean(func(r *Result) float64 { return r.WaitP50 })
	s.WaitP95 = mean(func(r *Result) float64 { return r.WaitP95 })
	s.Makespan = mean(func(r *Result) float64 { return r.Makespan })
	s.AsksPerItem = mean((*Result).AsksPerItem)
	s.PeakAsks = mean(func(r *Result) float64 { return float64(r.PeakAsks) })
	s.Overloaded = mean(func(r *Result) float64 { return float64(r.Overloaded) })
	s.ForeignRejected = mean((*Result).ForeignRejectedShare)
	for _, r := range runs {
		s.LeastUtilization = min(s.LeastUtilization, r.Utilization)
		s.MostRejected = max(s.MostRejected, r.RejectedShare())
		if r.Makespan == 0 {
			s.Makespan = 0
		}
	}
	return s
}

// WriteTable writes summaries as a text table.
func WriteTable(w io.Writer, rows []Summary) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "scenario\tlimiter\tutil %\t429 %\tfair\twait p50\twait p95\tmakespan\tasks/done\tpeak/100ms\t529s\t")
	last := ""
	for i := range rows {
		r := &rows[i]
		name := r.Scenario
		if name == last {
			name = ""
		}
		last = r.Scenario
		fmt.Fprintf(t, "%s\t%s\t%.1f\t%.2f\t%.2f\t%.1fs\t%.1fs\t%s\t%.1f\t%.0f\t%.0f\t\n", name, r.Title(),
			r.Utilization, r.Rejected, r.Jain, r.WaitP50, r.WaitP95, r.makespan(), r.AsksPerItem, r.PeakAsks, r.Overloaded)
	}
	return t.Flush()
}

func (s *Summary) makespan() string {
	if s.Makespan == 0 {
		return "-"
	}
	return fmt.Sprintf("%.0fs", s.Makespan)
}
