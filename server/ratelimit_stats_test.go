package server_test

import (
	"io"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	ratelimitv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/common/ratelimit/v3"
	rlsv3 "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"

	"github.com/weir-project/weir/config"
	"github.com/weir-project/weir/ratelimitstats"
	"github.com/weir-project/weir/server"
)

// counted returns what serves a call of some descriptors of a file of envoyproxy/ratelimit,
// with or without its metrics.
func counted(tb testing.TB, withMetrics bool, users ...string) func() {
	tb.Helper()
	dir := tb.TempDir()
	file := "domain: edge\ndescriptors: [{key: user, rate_limit: {unit: year, requests_per_unit: 4294967295}}]\n"
	if err := os.WriteFile(filepath.Join(dir, "a.yaml"), []byte(file), 0o600); err != nil {
		tb.Fatal(err)
	}
	l, err := config.Options{Strict: true}.Load([]string{dir}, nil)
	if err != nil {
		tb.Fatal(err)
	}
	var o server.RatelimitOptions
	if withMetrics {
		s, err := ratelimitstats.New(ratelimitstats.Options{NearLimitRatio: ratelimitstats.DefaultNearLimitRatio, Writer: io.Discard})
		if err != nil {
			tb.Fatal(err)
		}
		s.Loaded(l)
		o.Observer, o.Service = s, s
	}
	r := &rlsv3.RateLimitRequest{Domain: "edge"}
	for _, user := range users {
		r.Descriptors = append(r.Descriptors, &ratelimitv3.RateLimitDescriptor{
			Entries: []*ratelimitv3.RateLimitDescriptor_Entry{{Key: "user", Value: user}},
		})
	}
	return server.Handler(tb, l, o, r)
}

// The metrics of envoyproxy/ratelimit allocate nothing on the path of a decision.
func TestMetricsAllocateNothing(t *testing.T) {
	without, with := allocations(counted(t, false, "ann", "bob")), allocations(counted(t, true, "ann", "bob"))
	// With the race detector pools lose a quarter of what they hold: a part of an allocation.
	if with >= without+1 {
		t.Errorf("%.2f allocations with metrics, %.2f without", with, without)
	}
}

// allocations returns how many a call makes on average.
func allocations(call func()) float64 {
	const calls = 4000
	call()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range calls {
		call()
	}
	runtime.ReadMemStats(&after)
	return float64(after.Mallocs-before.Mallocs) / calls
}

func BenchmarkMetrics(b *testing.B) {
	for _, bench := range []struct {
		name string
		with bool
		call []string
	}{
		{"1 descriptor", false, []string{"ann"}},
		{"1 descriptor counted", true, []string{"ann"}},
		{"4 descriptors", false, []string{"ann", "bob", "cat", "dan"}},
		{"4 descriptors counted", true, []string{"ann", "bob", "cat", "dan"}},
	} {
		b.Run(bench.name, func(b *testing.B) {
			call := counted(b, bench.with, bench.call...)
			b.ReportAllocs()
			for b.Loop() {
				call()
			}
		})
	}
}
