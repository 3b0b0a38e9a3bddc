package main

import (
	"fmt"

	"github.com/weir-project/weir/bench/internal/messages"
	"github.com/weir-project/weir/bench/internal/process"
	"github.com/weir-project/weir/bench/internal/stats"
	"github.com/weir-project/weir/bench/internal/workload"
)

// flatBar is how much more a call may cost among many rules or keys than among few
// before it is called missed. The bar itself says "flat"; what more is left to the
// processor's caches, which hold a thousand keys and not a million.
const flatBar = 1.1

// measureRules compares a domain of few rules with one of many.
func measureRules(b *bench) ([]row, error) {
	few, err := b.weir(messages.RulesPlan(1))
	if err != nil {
		return nil, err
	}
	many, err := b.weir(messages.RulesPlan(1000))
	if err != nil {
		return nil, err
	}
	w := workload.Spec{Kind: "one", Keys: 1000}
	r, err := b.flat("1 and 1,000 rules in a domain", few, many, w, w)
	return []row{r}, err
}

// flat compares the CPU time of a call to a server that holds much with that of a
// call to one that holds little.
func (b *bench) flat(name string, few, many *process.Server, small, large workload.Spec) (row, error) {
	costs, err := b.contest([]*process.Server{few, many}, func(s *process.Server) (uint64, error) {
		w := small
		if s == many {
			w = large
		}
		r, err := b.ask(s, w, 0, b.period())
		if err != nil {
			return 0, err
		}
		return r.Sent, nil
	})
	if err != nil {
		return row{}, err
	}
	growth := ratios(costs[1], costs[0])
	return row{
		claim: "RLS, " + name + ": CPU per call, many / few", bar: fmt.Sprintf("flat (%.1f)", flatBar),
		measured: fmt.Sprintf("%s: %s against %s", ratio(growth),
			microseconds(stats.SpreadOf(costs[1])), microseconds(stats.SpreadOf(costs[0]))),
		verdict: atMost(growth.Median, flatBar),
	}, nil
}
