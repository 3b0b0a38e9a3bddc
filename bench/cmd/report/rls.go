package main

import (
	"errors"
	"fmt"

	rlsv3 "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"

	"github.com/weir-project/weir/bench/internal/messages"
	"github.com/weir-project/weir/bench/internal/process"
	"github.com/weir-project/weir/bench/internal/stats"
	"github.com/weir-project/weir/bench/internal/workload"
)

// calls is how many calls one run of h2load makes.
func (b *bench) calls() int {
	if b.full {
		return 200_000
	}
	return 40_000
}

// measureRLS compares the CPU time of one ShouldRateLimit with the echo's.
func measureRLS(b *bench) ([]row, error) {
	weir, err := b.weir(messages.RulesPlan(1))
	if err != nil {
		return nil, err
	}
	echo, err := b.echo()
	if err != nil {
		return nil, err
	}
	full, err := b.echo("-statuses")
	if err != nil {
		return nil, err
	}
	var rows []row
	for _, w := range []struct {
		name string
		req  *rlsv3.RateLimitRequest
	}{
		{"1 descriptor of 3 entries", messages.One(messages.User(1))},
		{"4 descriptors", messages.Four(messages.User(1))},
	} {
		got, err := b.compareRLS(w.name, w.req, weir, echo, full)
		if err != nil {
			return rows, err
		}
		rows = append(rows, got...)
	}
	return rows, nil
}

func (b *bench) compareRLS(name string, req *rlsv3.RateLimitRequest, weir, echo, full *process.Server) ([]row, error) {
	n := len(req.GetDescriptors())
	check := func() error {
		return errors.Join(verify(weir, req, n), verify(echo, req, 0), verify(full, req, n))
	}
	if err := check(); err != nil {
		return nil, err
	}
	servers := []*process.Server{echo, weir, full}
	for _, s := range servers {
		if _, err := b.h2load(s, req, 5000); err != nil {
			return nil, err
		}
	}
	rates := map[*process.Server][]float64{}
	costs, err := b.contest(servers, func(s *process.Server) (uint64, error) {
		rate, err := b.h2load(s, req, b.calls())
		rates[s] = append(rates[s], rate)
		return uint64(b.calls()), err
	})
	if err != nil {
		return nil, err
	}
	against, withStatuses := ratios(costs[1], costs[0]), ratios(costs[1], costs[2])
	return []row{
		{
			claim: "RLS, " + name + ": CPU per call, weir / echo", bar: "1.0", measured: fmt.Sprintf("%s: %s against %s",
				ratio(against), microseconds(stats.SpreadOf(costs[1])), microseconds(stats.SpreadOf(costs[0]))),
			verdict: atMost(against.Median, 1),
		},
		{
			claim: "… / echo that answers as much as weir does", measured: fmt.Sprintf("%s; calls a second on one core: weir %.0f, echo %.0f",
				ratio(withStatuses), stats.SpreadOf(rates[weir]).Median, stats.SpreadOf(rates[echo]).Median),
		},
	}, check()
}

// measureLLM compares the CPU time of an ask with its report with the echo's.
func measureLLM(b *bench) ([]row, error) {
	weir, err := b.weir(messages.QuotaPlan)
	if err != nil {
		return nil, err
	}
	echo, err := b.echo()
	if err != nil {
		return nil, err
	}
	costs, err := b.contest([]*process.Server{echo, weir}, func(s *process.Server) (uint64, error) {
		r, err := b.ask(s, workload.Spec{Kind: "llm"}, 0, b.period())
		if err != nil {
			return 0, err
		}
		return r.Sent, nil
	})
	if err != nil {
		return nil, err
	}
	return []row{{
		claim: "RLS, asks and reports of LLM calls in turn (3 limits, a reservation): CPU per call, weir / echo",
		measured: fmt.Sprintf("%s: %s against %s", ratio(ratios(costs[1], costs[0])),
			microseconds(stats.SpreadOf(costs[1])), microseconds(stats.SpreadOf(costs[0]))),
	}}, nil
}
