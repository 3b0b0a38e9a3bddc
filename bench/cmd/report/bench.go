package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/weir-project/weir/bench/internal/h2client"
	"github.com/weir-project/weir/bench/internal/messages"
	"github.com/weir-project/weir/bench/internal/process"
	"github.com/weir-project/weir/bench/internal/stats"
	"github.com/weir-project/weir/bench/internal/workload"
)

// firstPort is the first of the ports that servers get, one after another.
const firstPort = 18300

// bench is what the sections share.
type bench struct {
	full                 bool
	serverCore, loadCore int
	bin, root, dir       string

	servers []*process.Server
	ports   int
}

// rounds is how often each measurement is made, the contestants in turn.
func (b *bench) rounds() int {
	if b.full {
		return 7
	}
	return 3
}

// period is how long one timed run takes.
func (b *bench) period() time.Duration {
	if b.full {
		return 5 * time.Second
	}
	return time.Second
}

func (b *bench) stopAll() {
	for _, s := range b.servers {
		if err := s.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, "stop:", err)
		}
	}
	b.servers = nil
}

func (b *bench) port() string {
	b.ports++
	return fmt.Sprintf("127.0.0.1:%d", firstPort+b.ports)
}

func (b *bench) start(addr, name string, args ...string) (*process.Server, error) {
	return b.startOn(strconv.Itoa(b.serverCore), addr, name, args...)
}

func (b *bench) startOn(cores, addr, name string, args ...string) (*process.Server, error) {
	s, err := process.Start(cores, addr, nil, filepath.Join(b.bin, name), args...)
	if err == nil {
		b.servers = append(b.servers, s)
	}
	return s, err
}

func (b *bench) echo(flags ...string) (*process.Server, error) {
	addr := b.port()
	return b.start(addr, "echo", append([]string{"-grpc-addr", addr}, flags...)...)
}

// weir starts weir under a plan. Its HTTP port is the gRPC one plus one.
func (b *bench) weir(plan string) (*process.Server, error) {
	addr, web := b.port(), b.port()
	file := filepath.Join(b.dir, fmt.Sprintf("plan-%d.yaml", b.ports))
	if err := os.WriteFile(file, []byte(plan), 0o600); err != nil {
		return nil, err
	}
	return b.start(addr, "weir", "serve", "--grpc-addr", addr, "--http-addr", web, file)
}

// ask runs a workload in a closed loop of 8 × 32, or at a rate. Answers other than
// OK are an error: a refusal or a failure would be cheaper than what is measured.
func (b *bench) ask(s *process.Server, w workload.Spec, rate float64, d time.Duration) (*h2client.Result, error) {
	next, err := workload.New(w)
	if err != nil {
		return nil, err
	}
	o := h2client.Options{
		Addr: s.Addr, Path: messages.ShouldRateLimit, Conns: 8, Streams: 32, Duration: d, Rate: rate, Next: next,
	}
	if rate > 0 {
		o.Streams = 1000
	}
	if w.Order == "each" {
		o.Duration, o.Requests = 0, w.Keys
	}
	r, err := h2client.Run(o)
	if err != nil {
		return nil, err
	}
	if r.OK != r.Sent {
		return r, fmt.Errorf("%+v: %d calls: %d OK, %d over limit, %d failed", w, r.Sent, r.OK, r.OverLimit, r.Failed)
	}
	return r, nil
}

// contest measures contestants in turn, round after round, and returns for each
// the nanoseconds of its server's CPU time per unit of work, round by round.
func (b *bench) contest(servers []*process.Server, run func(*process.Server) (units uint64, err error)) ([][]float64, error) {
	costs := make([][]float64, len(servers))
	for range b.rounds() {
		for i, s := range servers {
			before, err := s.CPU()
			if err != nil {
				return nil, err
			}
			units, err := run(s)
			if err != nil {
				return nil, err
			}
			after, err := s.CPU()
			if err != nil {
				return nil, err
			}
			if units == 0 {
				return nil, errors.New("a run did no work")
			}
			costs[i] = append(costs[i], float64(after-before)/float64(units))
		}
	}
	return costs, nil
}

// ratios divides round by round.
func ratios(a, b []float64) stats.Spread {
	r := make([]float64, len(a))
	for i := range a {
		r[i] = a[i] / b[i]
	}
	return stats.SpreadOf(r)
}
