package main

import (
	"fmt"

	"github.com/weir-project/weir/bench/internal/messages"
	"github.com/weir-project/weir/bench/internal/process"
	"github.com/weir-project/weir/bench/internal/session"
	"github.com/weir-project/weir/bench/internal/stats"
)

// measureSession measures decisions over a stream, beside a stream that decodes and
// encodes the same messages and one that only bounces them.
func measureSession(b *bench) ([]row, error) {
	weir, err := b.weir(messages.QuotaPlan)
	if err != nil {
		return nil, err
	}
	echo, err := b.echo()
	if err != nil {
		return nil, err
	}
	raw, err := b.echo("-raw")
	if err != nil {
		return nil, err
	}
	var rows []row
	for _, c := range []struct {
		calls int
		bar   float64 // µs
	}{{1, 3}, {16, 1.2}} {
		costs, err := b.contest([]*process.Server{raw, echo, weir}, func(s *process.Server) (uint64, error) {
			return b.drive(s, c.calls, s == raw)
		})
		if err != nil {
			return rows, err
		}
		decision := stats.SpreadOf(costs[2])
		rows = append(rows, row{
			claim: fmt.Sprintf("Session, %d decisions a message: CPU per decision", c.calls),
			bar:   fmt.Sprintf("%.1f µs", c.bar),
			measured: fmt.Sprintf("%s; a stream with the same messages that decides nothing %s, one that does not decode them %s",
				microseconds(decision), microseconds(stats.SpreadOf(costs[1])), microseconds(stats.SpreadOf(costs[0]))),
			verdict: atMost(decision.Median, c.bar*1e3),
		})
	}
	return rows, nil
}

// drive runs sessions and returns how many calls were answered.
func (b *bench) drive(s *process.Server, calls int, bounce bool) (uint64, error) {
	t, _, err := session.Run(session.Options{
		Addr: s.Addr, Streams: 4, Pipeline: 64, Calls: calls, Duration: b.period(), Reports: !bounce, Bounce: bounce,
	})
	if err != nil {
		return 0, err
	}
	if t.Errors > 0 || t.Allowed != t.Reserves {
		return 0, fmt.Errorf("%s: %+v: want every reserve allowed and no errors", s.Addr, t)
	}
	return t.Calls, nil
}
