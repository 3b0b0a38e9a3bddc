package simulate

import (
	"fmt"
	"strings"
	"time"
)

// Named returns the scenario of an upstream and a workload that are known by name.
//
// Upstreams, of which each may end in n for one that sends no headers:
//
//	U1    a bucket of a minute
//	U2    a bucket of a second, while headers tell of a minute
//	U3    may not grow too fast
//	U4    halves its limits after 400 s, until 800 s
//	U5    others use half of it, a third of the time
//	U6    is overloaded four times
//	U7    tells neither headers nor when to come back nor what was exceeded
//	U8x2  its limits are configured as twice what they are
//	U8d2  its limits are configured, as a hint, as half of what they are
//	U8u   its limits are not known
//	U9    holds max_tokens from the start of a call
//
// Workloads:
//
//	W1    500 items, 20 workers, 60 requests a minute
//	W1b   2000 items, 500 workers, 600 requests a minute
//	W2    70 % of 60 requests a minute, at random
//	W3r   150 % of 600 requests a minute, by five tenants, of whom one is greedy
//	W3i   the same of 1.2 million input tokens a minute, with very different requests
//	W3o   the same of 240,000 output tokens a minute
//	W5    130 % of 1.2 million input tokens, with 70 % read from a cache
func Named(upstream, workload string) (Scenario, error) {
	w, limits, err := namedWorkload(workload)
	if err != nil {
		return Scenario{}, err
	}
	s := Scenario{Name: upstream + " x " + workload, Workload: w}
	s.Upstream.Name, s.Upstream.Limits = upstream, limits
	name, noHeaders := strings.CutSuffix(upstream, "n")
	s.Upstream.NoHeaders = noHeaders
	return s, s.behave(name)
}

// UpstreamNames and WorkloadNames are what Named knows.
func UpstreamNames() []string {
	return []string{"U1", "U2", "U3", "U4", "U5", "U6", "U7", "U8x2", "U8d2", "U8u", "U9"}
}

// WorkloadNames are the workloads that Named knows.
func WorkloadNames() []string { return []string{"W1", "W1b", "W2", "W3r", "W3i", "W3o", "W5"} }

func sec(n int) Duration { return Duration(time.Duration(n) * time.Second) }

// behave lets the upstream of s behave as the one of that name does.
func (s *Scenario) behave(name string) error {
	u := &s.Upstream
	switch name {
	case "U1":
	case "U2":
		u.Interval = sec(1)
	case "U3":
		u.Acceleration = &Acceleration{Floor: 0.1, Factor: 2, Memory: sec(60), Burst: sec(10)}
	case "U4":
		u.Changes = []Change{{At: sec(400), Factor: 0.5}, {At: sec(800), Factor: 1}}
		s.Told.Hint = true
	case "U5":
		u.Foreign = &Foreign{Share: 0.5, From: sec(100), On: sec(100), Off: sec(200)}
	case "U6":
		u.Overloads = []Overload{
			{At: sec(200), For: sec(40), Share: 1},
			{At: sec(450), For: sec(40), Share: 0.5},
			{At: sec(700), For: sec(40), Share: 0.9},
			{At: sec(950), For: sec(40), Share: 1},
		}
	case "U7":
		u.NoHeaders, u.NoRetryAfter, u.NoMeter = true, true, true
	case "U8x2":
		s.Told.Factor = 2
	case "U8d2":
		s.Told.Factor, s.Told.Hint = 0.5, true
	case "U8u":
		s.Told.Unknown, s.Told.Hint = true, true
	case "U9":
		u.ReservesMaxTokens = true
	default:
		return fmt.Errorf("no upstream is called %q; there are %s, each also with n for no headers", name, strings.Join(UpstreamNames(), ", "))
	}
	return nil
}

func namedWorkload(name string) (Workload, Amounts, error) {
	w := Workload{
		Name:   name,
		Input:  Dist{Median: 1000, P99: 8000, Max: 100_000},
		Output: Dist{Median: 400, P99: 2500, Max: 4096},
	}
	overload := func(binding string, load float64) {
		w.Binding, w.Load, w.Deadline = binding, load, sec(60)
		w.Tenants = []Tenant{
			{"greedy", 1, 0.4}, {"small", 1, 0.15}, {"middle", 2, 0.15}, {"other", 2, 0.15}, {"large", 4, 0.15},
		}
	}
	heavy := Dist{Median: 1000, P99: 30_000, Max: 200_000}
	limits := Amounts{Requests: 4000, InputTokens: 10e6, OutputTokens: 2e6}
	switch name {
	case "W1":
		w.Items, w.Workers = 500, 20
		limits = Amounts{Requests: 60, InputTokens: 1e6, OutputTokens: 200_000}
	case "W1b":
		w.Items, w.Workers = 2000, 500
		limits.Requests = 600
	case "W2":
		w.Load, w.Deadline = 0.7, sec(60)
		limits = Amounts{Requests: 60, InputTokens: 1e6, OutputTokens: 200_000}
	case "W3r":
		overload("requests", 1.5)
		limits.Requests = 600
	case "W3i":
		overload("input_tokens", 1.5)
		w.Input, limits.InputTokens = heavy, 1.2e6
	case "W3o":
		overload("output_tokens", 1.5)
		limits.OutputTokens = 240_000
	case "W5":
		overload("input_tokens", 1.3)
		w.Input, limits.InputTokens = heavy, 1.2e6
		w.Cached = Span{0.5, 0.9}
	default:
		return w, limits, fmt.Errorf("no workload is called %q; there are %s", name, strings.Join(WorkloadNames(), ", "))
	}
	return w, limits, nil
}
