package simulate

import (
	"context"
	"fmt"
	"io"
	"math"
	"text/tabwriter"
)

// Metric is a number of a run that a bar is about.
type Metric string

// The metrics.
const (
	// Utilization, Rejected and ForeignRejected are in percent.
	Utilization     Metric = "util %"
	Rejected        Metric = "429 %"
	ForeignRejected Metric = "others refused %"
	// Fairness is Jain's index.
	Fairness Metric = "fair"
	// Makespan, Settle and Raise are in seconds: Settle after the first change that
	// lowers the limits, Raise after the first that raises them.
	Makespan Metric = "makespan s"
	Settle   Metric = "settle s"
	Raise    Metric = "raise s"
	// RejectedPerItem, AsksPerItem, PeakAsks and Overloaded are counts.
	RejectedPerItem Metric = "429s per item"
	AsksPerItem     Metric = "asks per completed"
	PeakAsks        Metric = "peak asks in 100 ms"
	Overloaded      Metric = "529s"
)

// Of returns the metric of a run.
func (m Metric) Of(r *Result) float64 {
	switch m {
	case Utilization:
		return r.Utilization
	case Rejected:
		return r.RejectedShare()
	case ForeignRejected:
		return r.ForeignRejectedShare()
	case Fairness:
		return r.Jain
	case Makespan:
		if r.Makespan == 0 {
			return math.Inf(1)
		}
		return r.Makespan
	case Settle, Raise:
		return m.ofChange(r)
	case RejectedPerItem:
		return r.RejectedPerItem()
	case AsksPerItem:
		return r.AsksPerItem()
	case PeakAsks:
		return float64(r.PeakAsks)
	case Overloaded:
		return float64(r.Overloaded)
	}
	return math.NaN()
}

func (m Metric) ofChange(r *Result) float64 {
	before := 1.0
	for _, c := range r.Changes {
		if m == Settle && c.Factor < before {
			return c.Settle
		}
		if m == Raise && c.Factor > before {
			return c.Raise
		}
		before = c.Factor
	}
	return 0
}

// leeway is by how much the worst seed may miss a bound on the mean: three points of
// what is in percent; what is counted or timed is judged by its mean.
func (m Metric) leeway(c *Check) float64 {
	switch {
	case c.Against == AsRatio && (m == Utilization || m == Makespan), m == Fairness:
		return 0.03
	case m == Utilization, m == Rejected, m == ForeignRejected:
		return 3
	}
	return math.Inf(1)
}

// Comparison is how a check looks at the other scenario of its bar.
type Comparison uint8

// The comparisons.
const (
	// Alone: it does not.
	Alone Comparison = iota
	// AsRatio: at the ratio to the other's metric.
	AsRatio
	// AsDifference: at what is more than the other's metric.
	AsDifference
)

// Check is a bound on a metric: at least Bound, if AtLeast, or else at most.
type Check struct {
	Metric  Metric
	AtLeast bool
	Bound   float64
	Against Comparison
}

// Bar is a scenario and how it must come out, by the mean over seeds.
type Bar struct {
	Scenario Scenario
	// Other is what Scenario is compared with, where a check asks for that.
	Other  *Scenario
	Checks []Check
}

// Judgement is how a check of a bar came out.
type Judgement struct {
	Scenario string
	Check    Check
	// Mean over all seeds, and the Worst of them.
	Mean, Worst float64
	Passed      bool
}

// judge reports whether the mean meets the bound, and the worst seed nearly does.
func (j *Judgement) judge() bool {
	return j.passes(j.Mean, 0) && j.passes(j.Worst, j.Check.Metric.leeway(&j.Check))
}

// passes reports whether v meets the bound, but for a leeway.
func (j *Judgement) passes(v, leeway float64) bool {
	if j.Check.AtLeast {
		return v >= j.Check.Bound-leeway
	}
	return v <= j.Check.Bound+leeway
}

// String says what was measured, and what was asked.
func (j *Judgement) String() string {
	word := "at most"
	if j.Check.AtLeast {
		word = "at least"
	}
	return fmt.Sprintf("%s: %s: mean %.3g, worst %.3g, want %s %g", j.Scenario, j.Check.title(), j.Mean, j.Worst, word, j.Check.Bound)
}

func (c *Check) title() string {
	switch c.Against {
	case AsRatio:
		return string(c.Metric) + " (ratio)"
	case AsDifference:
		return string(c.Metric) + " (difference)"
	case Alone:
	}
	return string(c.Metric)
}

// Judge plays the bar with every seed.
func (b *Bar) Judge(ctx context.Context, seeds ...uint64) ([]Judgement, error) {
	runs := Seeds(b.Scenario, seeds...)
	if b.Other != nil {
		runs = append(runs, Seeds(*b.Other, seeds...)...)
	}
	results, err := RunAll(ctx, runs)
	if err != nil {
		return nil, err
	}
	out := make([]Judgement, 0, len(b.Checks))
	for _, c := range b.Checks {
		j := Judgement{Scenario: b.Scenario.Name, Check: c, Worst: math.Inf(-1)}
		if c.AtLeast {
			j.Worst = math.Inf(1)
		}
		for i := range seeds {
			v := c.Metric.Of(results[i])
			switch c.Against {
			case AsRatio:
				v /= c.Metric.Of(results[len(seeds)+i])
			case AsDifference:
				v -= c.Metric.Of(results[len(seeds)+i])
			case Alone:
			}
			j.Mean += v / float64(len(seeds))
			if c.AtLeast {
				j.Worst = min(j.Worst, v)
			} else {
				j.Worst = max(j.Worst, v)
			}
		}
		j.Passed = j.judge()
		out = append(out, j)
	}
	return out, nil
}

// WriteJudgements writes them as a text table.
func WriteJudgements(w io.Writer, all []Judgement) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "scenario\tmetric\tmean\tworst seed\tbar\t")
	for i := range all {
		j := &all[i]
		word, verdict := "<=", "ok"
		if j.Check.AtLeast {
			word = ">="
		}
		if !j.Passed {
			verdict = "MISSED"
		}
		fmt.Fprintf(t, "%s\t%s\t%.3f\t%.3f\t%s %g\t%s\n", j.Scenario, j.Check.title(), j.Mean, j.Worst, word, j.Check.Bound, verdict)
	}
	return t.Flush()
}

// Bars are what weir must reach on the scenarios that Named knows.
func Bars() []Bar {
	bars := []Bar{
		on("U1 W3r", util(98), rejected(0.1), fair(0.98)),
		on("U1 W3i", util(98), rejected(0.1), fair(0.98)),
		on("U1 W5", util(97), rejected(0.1)),
		on("U2 W3r", util(98), rejected(0.3)),
		on("U2 W3r", util(98), rejected(0.3)).with(" over 50-250 ms", func(s *Scenario) { s.Network.Far = ms(50, 250) }),
		on("U2 W1", most(Makespan, 1.10, AsRatio), most(RejectedPerItem, 0.04, Alone)).against(Perfect),
		on("U1 W1", most(Makespan, 1.03, AsRatio), most(RejectedPerItem, 0.04, Alone)).against(Perfect),
		on("U3 W1", most(Makespan, 1.10, AsRatio), most(RejectedPerItem, 0.04, Alone)).against(Perfect),
		on("U2 W3i", util(82), rejected(2.5)),
		on("U2 W5", util(62), rejected(2.5)),
		on("U3 W3r", least(Utilization, 0.97, AsRatio), rejected(0.5)).against(Perfect),
		on("U3 W5", least(Utilization, 0.95, AsRatio), rejected(0.5)).against(Perfect),
		on("U4 W3r", util(98), rejected(0.1), most(Raise, 10, Alone), most(Settle, 5, Alone)),
		on("U4n W3r", util(98), rejected(1), most(Raise, 90, Alone), most(Settle, 60, Alone)),
		on("U5 W3r", util(97), rejected(0.2), most(ForeignRejected, 1, Alone)),
		on("U5n W3r", util(97), rejected(1), most(ForeignRejected, 8, Alone)),
		on("U6 W3r", util(96), rejected(0.1), most(Overloaded, 0.5, AsRatio)).against(SlidingWindow),
		on("U8x2n W3r", util(98), rejected(0.8)),
		on("U8d2n W3r", util(98), rejected(0.8)),
		on("U8un W3r", util(93), rejected(1)),
		on("U8d2 W3r", util(98), rejected(0.1)),
		on("U8u W3r", util(98), rejected(0.1)),
		on("U9 W5", util(95), rejected(0.1)),
	}
	for _, u := range []string{"U1", "U2", "U7"} {
		b := on(u+" W3r", least(Utilization, -1, AsDifference), most(Rejected, 0.3, AsDifference)).against(Weir)
		bars = append(bars, b.with(", restarted", func(s *Scenario) { s.RestartAt = []Duration{sec(600)} }))
	}
	for _, u := range []string{"U1", "U2", "U3", "U4", "U5"} {
		b := on(u+" W3r", rejected(1.2), most(AsksPerItem, 8, Alone), most(PeakAsks, 3, AsRatio), fair(0.90)).against(Weir)
		if u != "U3" {
			b.Checks = append(b.Checks, util(96))
		}
		bars = append(bars, b.with(", deny", func(s *Scenario) { s.Mode = Deny }))
	}
	for _, b := range []Bar{
		on("U1 W3r", util(98), rejected(0.1)), on("U2 W3r", util(98), rejected(0.3)), on("U4n W3r", util(98), rejected(1)),
		on("U8un W3r", util(93), rejected(1)), on("U2 W3i", util(82), rejected(2.5)),
	} {
		bars = append(bars, b.with(", tenants", func(s *Scenario) { s.Tenants = true }))
	}
	for _, b := range []Bar{on("U2 W3i", util(89), rejected(1.3)), on("U2 W5", util(91), rejected(0.5)), on("U1 W3i", util(98), rejected(0.1))} {
		bars = append(bars, b.with(", told early", func(s *Scenario) { s.Progress = true }))
	}
	b := on("U3 W3r", least(Utilization, 0.96, AsRatio)).against(Perfect)
	return append(bars, b.with(", deny", func(s *Scenario) { s.Mode = Deny }))
}

// on is a bar on an upstream and a workload.
func on(names string, checks ...Check) Bar {
	var upstream, workload string
	if _, err := fmt.Sscan(names, &upstream, &workload); err != nil {
		panic("simulate: a bar on " + names)
	}
	s, err := Named(upstream, workload)
	if err != nil {
		panic("simulate: a bar on " + names + ": " + err.Error())
	}
	return Bar{Scenario: s, Checks: checks}
}

// against compares b with the same scenario under another limiter.
func (b Bar) against(k Kind) Bar {
	other := b.Scenario
	other.Limiter = k
	b.Other = &other
	return b
}

// with changes b's scenario, but not the other.
func (b Bar) with(name string, change func(*Scenario)) Bar {
	b.Scenario.Name += name
	change(&b.Scenario)
	return b
}

func util(bound float64) Check     { return least(Utilization, bound, Alone) }
func rejected(bound float64) Check { return most(Rejected, bound, Alone) }
func fair(bound float64) Check     { return least(Fairness, bound, Alone) }

func least(m Metric, bound float64, c Comparison) Check { return Check{m, true, bound, c} }
func most(m Metric, bound float64, c Comparison) Check  { return Check{m, false, bound, c} }
