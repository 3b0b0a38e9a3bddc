package main

import (
	"fmt"

	"github.com/weir-project/weir/bench/internal/messages"
	"github.com/weir-project/weir/bench/internal/process"
	"github.com/weir-project/weir/bench/internal/stats"
	"github.com/weir-project/weir/bench/internal/workload"
)

// measureLatency asks weir and the echo at half of what the echo can answer.
func measureLatency(b *bench) ([]row, error) {
	weir, err := b.weir(messages.RulesPlan(1))
	if err != nil {
		return nil, err
	}
	echo, err := b.echo()
	if err != nil {
		return nil, err
	}
	w := workload.Spec{Kind: "one", Keys: 1000, Order: "zipf"}
	for _, s := range []*process.Server{weir, echo} {
		if _, err := b.ask(s, w, 0, b.period()/2); err != nil {
			return nil, err
		}
	}
	best, err := b.ask(echo, w, 0, b.period())
	if err != nil {
		return nil, err
	}
	rate := float64(best.OK) / best.Elapsed.Seconds() / 2
	times, err := b.latencies([]*process.Server{weir, echo}, w, rate)
	if err != nil {
		return nil, err
	}
	return []row{{
		claim: fmt.Sprintf("RLS, %.0f calls a second (half of what the echo can): p50, p99", rate),
		bar:   "beside the echo's",
		measured: fmt.Sprintf("%s, %s; echo %s, %s", milliseconds(times[0].p50), milliseconds(times[0].p99),
			milliseconds(times[1].p50), milliseconds(times[1].p99)),
	}}, nil
}

// quantiles are in nanoseconds, over rounds.
type quantiles struct{ p50, p99 stats.Spread }

// latencies asks servers in turn, round after round, at a steady rate.
func (b *bench) latencies(servers []*process.Server, w workload.Spec, rate float64) ([]quantiles, error) {
	p50, p99 := make([][]float64, len(servers)), make([][]float64, len(servers))
	for range b.rounds() {
		for i, s := range servers {
			r, err := b.ask(s, w, rate, b.period())
			if err != nil {
				return nil, err
			}
			p50[i] = append(p50[i], float64(r.Latency.Quantile(0.5)))
			p99[i] = append(p99[i], float64(r.Latency.Quantile(0.99)))
		}
	}
	out := make([]quantiles, len(servers))
	for i := range servers {
		out[i] = quantiles{p50: stats.SpreadOf(p50[i]), p99: stats.SpreadOf(p99[i])}
	}
	return out, nil
}
