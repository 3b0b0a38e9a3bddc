package ratelimitstats

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"
)

// A million callers with values of their own fill the series that one domain may have, and
// are then counted together: nothing that they send takes more memory.
func TestAMillionValuesAreBounded(t *testing.T) {
	b := newBook(t, plainLines(nil), edge)
	b.flush(0)
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	const callers = 1_000_000
	for i := range callers {
		e := hit("edge", "", 0, 1)
		e.Path = fmt.Appendf(nil, "user_%d", i)
		b.Descriptor(e)
		b.DomainNotFound(fmt.Sprintf("domain-%d", i))
	}
	b.Descriptor(hit("edge", "user", 0, 1)) // what is configured has its own counters still
	if grown := int64(heap()) - int64(before); grown > 8<<20 {
		t.Errorf("the heap has grown by %d bytes", grown)
	}
	if n := b.taken.Load(); n != MaxRuntimeSeries {
		t.Errorf("%d series with values, want %d", n, MaxRuntimeSeries)
	}
	if n := len(*b.domains.Load()); n != 1+MaxUnknownDomains {
		t.Errorf("%d domains, want one and %d", n, MaxUnknownDomains)
	}
	lines := b.flush(time.Second)
	for _, line := range []string{
		"ratelimit.service.rate_limit.edge.user.total_hits:1|c",
		"ratelimit.service.rate_limit.edge.user_1999.total_hits:1|c",
		fmt.Sprintf("ratelimit.service.rate_limit.edge.other.total_hits:%d|c", callers-MaxRuntimeSeries),
		fmt.Sprintf("ratelimit.service.rate_limit.other.domain_not_found:%d|c", callers-MaxUnknownDomains),
		fmt.Sprintf("ratelimit.service.series_folded:%d|c", callers-MaxRuntimeSeries),
		fmt.Sprintf("ratelimit.service.runtime_series:%d|g", MaxRuntimeSeries),
	} {
		if !strings.Contains(lines, line+"\n") {
			t.Errorf("no line %s", line)
		}
	}
	if strings.Contains(lines, "user_2000.") {
		t.Error("a series too many is sent")
	}

	// Idle names make room for others.
	b.flush(KeepIdle + 2*time.Minute)
	want(t, "when all were idle", b.flush(KeepIdle+4*time.Minute), `ratelimit.service.runtime_series:0|g`)
	b.Descriptor(hit("edge", "user_late", 0, 1))
	want(t, "a new caller", b.flush(KeepIdle+5*time.Minute), `
		ratelimit.service.rate_limit.edge.user_late.total_hits:1|c
		ratelimit.service.rate_limit.edge.user_late.within_limit:1|c
		ratelimit.service.runtime_series:1|g`)
}

// All domains together have a bound too, and a path has one on its length.
func TestAllDomainsTogetherAreBounded(t *testing.T) {
	var files []string
	const domains = 12
	for i := range domains {
		files = append(files, fmt.Sprintf("domain: d%d\ndescriptors: [{key: user, rate_limit: {unit: day, requests_per_unit: 5}}]\n", i))
	}
	b := newBook(t, plainLines(nil), files...)
	for i := range domains {
		b.Descriptor(hit(fmt.Sprintf("d%d", i), "user_"+strings.Repeat("x", MaxRuntimePath), 0, 1))
		if n := b.taken.Load(); n != int64(min(i*MaxRuntimeSeries, MaxAllRuntimeSeries)) {
			t.Fatalf("a path that is too long is series %d", n)
		}
		for j := range MaxRuntimeSeries {
			b.Descriptor(hit(fmt.Sprintf("d%d", i), fmt.Sprintf("user_%d", j), 0, 1))
		}
	}
	if n := b.taken.Load(); n != MaxAllRuntimeSeries {
		t.Errorf("%d series with values, want %d", n, MaxAllRuntimeSeries)
	}
	lines := b.flush(0)
	for i, n := range []int{0: 1, 9: 1, 10: 1 + MaxRuntimeSeries, 11: 1 + MaxRuntimeSeries} {
		if line := fmt.Sprintf("ratelimit.service.rate_limit.d%d.other.total_hits:%d|c\n", i, n); n > 0 && !strings.Contains(lines, line) {
			t.Errorf("no line %s", line)
		}
	}
}
