package main

import (
	"fmt"
	"time"

	"github.com/weir-project/weir/bench/internal/messages"
	"github.com/weir-project/weir/bench/internal/process"
	"github.com/weir-project/weir/bench/internal/workload"
)

const (
	million   = 1_000_000
	memoryBar = 200 // bytes a key, beyond the key's own
	tailBar   = 2e6 // nanoseconds
	tailRate  = 5000
)

// measureKeys fills a server with a million keys, each asked for once, and then
// compares it with one of a thousand.
func measureKeys(b *bench) ([]row, error) {
	few, err := b.weir(messages.RulesPlan(1))
	if err != nil {
		return nil, err
	}
	many, err := b.weir(messages.RulesPlan(1))
	if err != nil {
		return nil, err
	}
	echo, err := b.echo()
	if err != nil {
		return nil, err
	}
	memory, err := b.fill(many)
	if err != nil {
		return nil, err
	}
	rows := []row{memory}
	for _, order := range []string{"uniform", "zipf"} {
		r, err := b.flat("1 k and 1 M live keys, "+order, few, many,
			workload.Spec{Kind: "one", Keys: 1000, Order: order}, workload.Spec{Kind: "one", Keys: million, Order: order})
		if err != nil {
			return rows, err
		}
		rows = append(rows, r)
	}
	times, err := b.latencies([]*process.Server{many, echo}, workload.Spec{Kind: "one", Keys: million}, tailRate)
	if err != nil {
		return rows, err
	}
	return append(rows, row{
		claim: "1 M keys, 5,000 calls a second, uniform: p99", bar: "2 ms",
		measured: fmt.Sprintf("%s; echo %s", milliseconds(times[0].p99), milliseconds(times[1].p99)),
		verdict:  atMost(times[0].p99.Median, tailBar),
	}), nil
}

// fill asks for a thousand keys, until the heap is as large as garbage makes it, and
// then for a million, and says what each of these added to what is resident.
func (b *bench) fill(s *process.Server) (row, error) {
	if _, err := b.ask(s, workload.Spec{Kind: "one", Keys: 1000}, 0, 4*time.Second); err != nil {
		return row{}, err
	}
	before, err := s.RSS()
	if err != nil {
		return row{}, err
	}
	if _, err := b.ask(s, workload.Spec{Kind: "one", Keys: million, Order: "each"}, 0, 0); err != nil {
		return row{}, err
	}
	after, err := s.RSS()
	if err != nil {
		return row{}, err
	}
	perKey := (float64(after)-float64(before))/(million-1000) - float64(messages.UserWidth)
	return row{
		claim: "1 M keys, each asked for once: resident bytes per key, beyond the key's own",
		bar:   fmt.Sprintf("%d B", memoryBar), verdict: atMost(perKey, memoryBar),
		measured: fmt.Sprintf("%.0f B (%d MiB with 1 k keys, %d MiB with 1 M)", perKey, before>>20, after>>20),
	}, nil
}
