package ratelimitstats

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/weir-project/weir/server"
)

// manyRules is a file with so many rules that they do not fit into a small cache.
func manyRules(n int) string {
	var b strings.Builder
	b.WriteString("domain: edge\ndescriptors:\n")
	for i := range n {
		fmt.Fprintf(&b, "- {key: path, value: /v1/things/%d, rate_limit: {unit: minute, requests_per_unit: 10}}\n", i)
	}
	return b.String()
}

// No event of what the configuration names allocates, and none of a value that was seen.
func TestCountingAllocatesNothing(t *testing.T) {
	b := newBook(t, plainLines(nil), edge)
	fixed, seen := hit("edge", "user", 9, 3), hit("edge", "user_ann", 0, 1)
	b.Descriptor(seen)
	for name, f := range map[string]func(){
		"a path of the configuration": func() { b.Descriptor(fixed) },
		"a value that was seen":       func() { b.Descriptor(seen) },
		"a call":                      func() { b.Answered(time.Millisecond) },
		"a global shadow":             b.GlobalShadowMode,
	} {
		if n := testing.AllocsPerRun(1000, f); n > 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func BenchmarkDescriptor(b *testing.B) {
	events := func(n int, path string) []*server.RatelimitEvent {
		all := make([]*server.RatelimitEvent, n)
		for i := range all {
			all[i] = hit("edge", fmt.Sprintf(path, i), 3, 1)
		}
		return all
	}
	for _, bench := range []struct {
		name   string
		events []*server.RatelimitEvent
	}{
		{"one path", events(1, "path_/v1/things/%d")},
		{"1000 paths", events(1000, "path_/v1/things/%d")},
		{"1000 values", events(1000, "org_%d")},
		{"too many values", events(4000, "org_%d")[MaxRuntimeSeries:]},
	} {
		book := newBook(b, plainLines(nil), manyRules(1000))
		if strings.HasPrefix(bench.name, "too many") {
			for _, e := range events(MaxRuntimeSeries, "org_%d") {
				book.Descriptor(e)
			}
		}
		b.Run(bench.name, func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				book.Descriptor(bench.events[i%len(bench.events)])
			}
		})
		b.Run(bench.name+" in parallel", func(b *testing.B) {
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for i := 0; pb.Next(); i++ {
					book.Descriptor(bench.events[i%len(bench.events)])
				}
			})
		})
	}
}

func BenchmarkAnswered(b *testing.B) {
	s := newStats(DefaultNearLimitRatio, nil)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for i := 0; pb.Next(); i++ {
			s.Answered(time.Duration(i%1000) * time.Microsecond)
		}
	})
}

// BenchmarkFlush is what it takes to send all that may be counted.
func BenchmarkFlush(b *testing.B) {
	book := newBook(b, plainLines(nil), manyRules(1000))
	for i := range MaxRuntimeSeries {
		book.Descriptor(hit("edge", fmt.Sprintf("org_%d", i), 3, 1))
	}
	for i := 0; b.Loop(); i++ {
		book.Descriptor(hit("edge", "path_/v1/things/7", 3, 1))
		book.flush(time.Duration(i) * time.Millisecond)
	}
}
