package main

import (
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"strings"

	"github.com/weir-project/weir/bench/internal/stats"
)

// benchLine is a line of `go test -bench -benchmem`.
var benchLine = regexp.MustCompile(`(?m)^Benchmark(\S+)\s+\d+\s+([0-9.]+) ns/op.*?\s(\d+) allocs/op`)

// coreBar returns the bar of a benchmark of the core, in nanoseconds; 0 if it has
// none.
func coreBar(name string) float64 {
	switch {
	case strings.Contains(name, "Decide/charges=1/"):
		return 300
	case strings.Contains(name, "Decide/charges=4/"):
		return 1000
	}
	return 0
}

// measureCore runs the benchmarks of the core, which need no server.
func measureCore(b *bench) ([]row, error) {
	count, benchtime := "3", "200ms"
	if b.full {
		count, benchtime = "7", "1s"
	}
	cmd := exec.Command("go", "test", "-run", "^$", "-bench", "^Benchmark(Decide|Denied|Report)$", "-benchmem",
		"-cpu", "1", "-count", count, "-benchtime", benchtime, "./limiter")
	cmd.Dir = b.root
	out, err := cmd.CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("%s: %w\n%s", cmd, err, out)
	}
	return coreRows(string(out))
}

// coreRows makes a row of each benchmark in what `go test` printed.
func coreRows(out string) ([]row, error) {
	var names []string
	times, allocs := map[string][]float64{}, map[string]int{}
	for _, m := range benchLine.FindAllStringSubmatch(out, -1) {
		ns, err := strconv.ParseFloat(m[2], 64)
		if err != nil {
			return nil, err
		}
		n, err := strconv.Atoi(m[3])
		if err != nil {
			return nil, err
		}
		if times[m[1]] == nil {
			names = append(names, m[1])
		}
		times[m[1]] = append(times[m[1]], ns)
		allocs[m[1]] = max(allocs[m[1]], n)
	}
	var rows []row
	for _, name := range names {
		s := stats.SpreadOf(times[name])
		r := row{claim: "core, " + name, measured: fmt.Sprintf("%.0f ns (%.0f–%.0f), %d allocations", s.Median, s.Min, s.Max, allocs[name])}
		if bar := coreBar(name); bar > 0 {
			r.bar, r.verdict = fmt.Sprintf("%.0f ns, 0 allocations", bar), atMost(s.Median, bar)
			if allocs[name] > 0 {
				r.verdict = missed
			}
		}
		rows = append(rows, r)
	}
	if len(rows) == 0 {
		return nil, fmt.Errorf("no benchmark was found in\n%s", out)
	}
	return rows, nil
}
