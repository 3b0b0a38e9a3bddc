package main

import (
	"bufio"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/weir-project/weir/bench/internal/h2client"
	"github.com/weir-project/weir/bench/internal/messages"
	"github.com/weir-project/weir/bench/internal/process"
	"github.com/weir-project/weir/bench/internal/stats"
	"github.com/weir-project/weir/bench/internal/workload"
)

const (
	reloadRules = 9_990 // and those that are asked for: 10,000 are the most
	reloadRate  = 2000
	reloads     = 8
	reloadEvery = 600 * time.Millisecond
	reloadBar   = 5e6 // nanoseconds that the longest call may take more
)

// measureReload asks at a steady rate, in turn without and with 10,000 rules that change
// again and again. A call that fails ends it. Weir runs on both cores, as it would: on one,
// whatever else it does is in the way of calls.
func measureReload(b *bench) ([]row, error) {
	dir, err := os.MkdirTemp(b.dir, "rules-")
	if err != nil {
		return nil, err
	}
	plan := messages.RulesPlan(reloadRules)
	if err := putRules(dir, plan); err != nil {
		return nil, err
	}
	addr, web := b.port(), b.port()
	weir, err := b.startOn(fmt.Sprint(b.serverCore, ",", b.loadCore), addr, "weir", "serve", "--grpc-addr", addr, "--http-addr", web, dir)
	if err != nil {
		return nil, err
	}
	w := workload.Spec{Kind: "one", Keys: 1000}
	var calm, busy, calmTail, busyTail []float64
	for range b.rounds() {
		r, err := b.ask(weir, w, reloadRate, reloads*reloadEvery)
		if err != nil {
			return nil, err
		}
		calm, calmTail = append(calm, float64(r.Latency.Quantile(1))), append(calmTail, float64(r.Latency.Quantile(0.99)))
		if r, err = b.askThroughReloads(weir, w, web, dir, plan); err != nil {
			return nil, err
		}
		busy, busyTail = append(busy, float64(r.Latency.Quantile(1))), append(busyTail, float64(r.Latency.Quantile(0.99)))
	}
	more := make([]float64, len(calm))
	for i := range calm {
		more[i] = busy[i] - calm[i]
	}
	what := fmt.Sprintf("%d reloads of 10,000 rules at %d calls a second: ", reloads, reloadRate)
	return []row{
		{claim: what + "calls that failed", bar: "0", measured: "0", verdict: kept},
		{
			claim: what + "what the longest call takes more", bar: "5 ms",
			measured: fmt.Sprintf("%s: %s against %s", milliseconds(stats.SpreadOf(more)),
				milliseconds(stats.SpreadOf(busy)), milliseconds(stats.SpreadOf(calm))),
			verdict: atMost(stats.SpreadOf(more).Median, reloadBar),
		},
		{claim: what + "p99, with and without", measured: milliseconds(stats.SpreadOf(busyTail)) + ", " + milliseconds(stats.SpreadOf(calmTail))},
	}, nil
}

// askThroughReloads asks while the rules change, and checks that each change came into force.
func (b *bench) askThroughReloads(s *process.Server, w workload.Spec, web, dir, plan string) (*h2client.Result, error) {
	changed := make(chan error, 1)
	go func() { changed <- changeRules(web, dir, plan) }()
	r, err := b.ask(s, w, reloadRate, (reloads+1)*reloadEvery)
	return r, errors.Join(err, <-changed)
}

// changeRules changes the amounts of all rules, time after time.
func changeRules(web, dir, plan string) error {
	before := ""
	for n := range reloads + 1 {
		now, err := digestOf(web)
		if err != nil {
			return err
		}
		if now == before {
			return fmt.Errorf("%d reloads: the rules were not in force %s after they changed", n, reloadEvery)
		}
		if n == reloads {
			return nil
		}
		before = now
		if err := putRules(dir, strings.ReplaceAll(plan, "requests_per_unit: 1", fmt.Sprint("requests_per_unit: ", 2+n%2))); err != nil {
			return err
		}
		time.Sleep(reloadEvery)
	}
	return nil
}

// putRules replaces the file at once, as those do who deploy.
func putRules(dir, plan string) error {
	next := filepath.Join(dir, ".next")
	if err := os.WriteFile(next, []byte(plan), 0o600); err != nil {
		return err
	}
	return os.Rename(next, filepath.Join(dir, "rules.yaml"))
}

// digestOf returns the line of the metrics that says which configuration is in force.
func digestOf(web string) (string, error) {
	resp, err := http.Get("http://" + web + "/metrics")
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	for in := bufio.NewScanner(resp.Body); in.Scan(); {
		if strings.HasPrefix(in.Text(), "weir_config_info{") && strings.HasSuffix(in.Text(), " 1") {
			return in.Text(), nil
		}
	}
	return "", errors.New("the metrics do not say which configuration is in force")
}
