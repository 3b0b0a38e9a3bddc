package config_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weir-project/weir/config"
	"github.com/weir-project/weir/limiter"
)

// deepRatelimit is a file of envoyproxy/ratelimit with 10,000 rules on four levels: ten of
// each below each, so that a descriptor of four entries passes 40.
func deepRatelimit() string {
	var b strings.Builder
	b.WriteString("domain: edge\ndescriptors:\n")
	var level func(depth int)
	level = func(depth int) {
		pad := strings.Repeat("  ", depth)
		for i := range 10 {
			fmt.Fprintf(&b, "%s- key: k%d\n%s  value: v%d\n", pad, depth, pad, i)
			if depth == 3 {
				fmt.Fprintf(&b, "%s  rate_limit: {unit: hour, requests_per_unit: 4000000000}\n", pad)
				continue
			}
			b.WriteString(pad + "  descriptors:\n")
			level(depth + 1)
		}
	}
	level(0)
	return b.String()
}

// deepRules are the same as weir's own.
func deepRules() string {
	var b strings.Builder
	b.WriteString("rules:\n")
	for i := range config.MaxRules {
		fmt.Fprintf(&b, "- {domain: edge, match: [{key: k0, value: v%d}, {key: k1, value: v%d}, {key: k2, value: v%d}, {key: k3, value: v%d}], limits: [{amount: 4000000000, per: 1h}]}\n",
			i/1000, i/100%10, i/10%10, i%10)
	}
	return b.String()
}

// rulesOf are the benchmarks' configurations, of 10,000 rules each.
func rulesOf(b *testing.B, name string) (paths []string, o config.Options) {
	b.Helper()
	text := deepRatelimit()
	switch name {
	case "weir":
		half := strings.SplitAfterN(deepRules(), "\n", 5002)
		rest := "rules:\n" + half[len(half)-1]
		text = strings.Join(half[:len(half)-1], "")
		paths = append(paths, filepath.Join(b.TempDir(), "rest.yaml"))
		if err := os.WriteFile(paths[0], []byte(rest), 0o600); err != nil {
			b.Fatal(err)
		}
	case "strict":
		o.Strict = true
	}
	paths = append(paths, filepath.Join(b.TempDir(), "a.yaml"))
	if err := os.WriteFile(paths[len(paths)-1], []byte(text), 0o600); err != nil {
		b.Fatal(err)
	}
	return paths, o
}

// BenchmarkLoadDeep reads 10,000 rules on four levels.
func BenchmarkLoadDeep(b *testing.B) {
	for _, name := range []string{"weir", "ratelimit", "strict"} {
		b.Run(name, func(b *testing.B) {
			paths, o := rulesOf(b, name)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := o.Load(paths, nil); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkDecideDeep matches and decides descriptors of four entries against them, as
// weir's own rules, as rules of a file of envoyproxy/ratelimit, and counted as there.
func BenchmarkDecideDeep(b *testing.B) {
	for _, name := range []string{"weir", "ratelimit", "strict"} {
		b.Run(name, func(b *testing.B) {
			paths, o := rulesOf(b, name)
			l, err := o.Load(paths, nil)
			if err != nil {
				b.Fatal(err)
			}
			lim := limiter.New(limiter.Options{})
			var asks [1000][]limiter.Entry
			for i := range asks {
				n := i * 7919 % config.MaxRules
				for k, v := range []int{n / 1000, n / 100 % 10, n / 10 % 10, n % 10} {
					asks[i] = append(asks[i], limiter.Entry{Key: fmt.Sprint("k", k), Value: fmt.Sprint("v", v)})
				}
			}
			var a limiter.Ask
			var d limiter.Decision
			now := limiter.InstantOf(time.Unix(1_700_000_000, 0))
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				a.Reset()
				a.OneByOne = o.Strict
				if l.Plan.MatchDescriptor(&a, "edge", 0, asks[i%len(asks)], limiter.Hits{Amount: 1}) != limiter.Matched {
					b.Fatal("no rule")
				}
				lim.Route(&a)
				if lim.Decide(now, &a, &d); d.Verdict != limiter.Allowed {
					b.Fatal(d.Verdict)
				}
				now++
			}
		})
	}
}
