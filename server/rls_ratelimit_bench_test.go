package server

import (
	"context"
	"testing"
	"time"
)

// quietObserver is an observer that keeps nothing.
type quietObserver struct{ hits uint64 }

func (o *quietObserver) Descriptor(e *RatelimitEvent) { o.hits += e.Hits + uint64(len(e.Path)) }
func (*quietObserver) DomainNotFound(string)          {}
func (*quietObserver) GlobalShadowMode()              {}
func (*quietObserver) ServiceError()                  {}

// ratelimitCalls are calls of a domain of a file of envoyproxy/ratelimit, bytes in, bytes
// out: counted as weir's own, counted as there, with all that is said beside, and refused.
func ratelimitCalls(t testing.TB) map[string]func() {
	calls := map[string]func(){}
	add := func(name string, strict bool, o RatelimitOptions, domain string, descriptors ...string) {
		w := newRatelimitWorld(t, strict, o)
		data := marshaled(t, request(domain, descriptors...))
		dec := func(v any) error { return codec{}.Unmarshal(buffersOf(data), v) }
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		t.Cleanup(cancel)
		calls[name] = func() {
			if _, err := w.rls.handle(ctx, dec, nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	said := RatelimitOptions{Observer: &quietObserver{}, Headers: RatelimitHeaders{Enabled: true}}
	add("sliding", false, RatelimitOptions{}, "t", "most=x")
	add("strict", true, RatelimitOptions{}, "t", "most=x")
	add("strict/descriptors=4", true, RatelimitOptions{}, "t", "most=x", "most=y", "day=x hits:0", "free=x")
	add("strict/said", true, said, "t", "most=x")
	add("strict/refused", true, said, "t", "none=x", "deep=x hits:0")
	add("unknown", true, said, "nowhere", "a=b")
	return calls
}

// BenchmarkRatelimit is one call of such a domain without its transport. It allocates as
// much as one of a domain of weir's own, see BenchmarkShouldRateLimit.
func BenchmarkRatelimit(b *testing.B) {
	for name, call := range ratelimitCalls(b) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				call()
			}
		})
	}
}
