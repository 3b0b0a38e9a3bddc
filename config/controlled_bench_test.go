package config

import (
	"fmt"
	"testing"

	ratelimitv3 "github.com/envoyproxy/go-control-plane/ratelimit/config/ratelimit/v3"
)

// manyRules returns a resource of that many rules, two levels deep, as Envoy Gateway
// writes them: a route, and below it what tells its clients apart.
func manyRules(n int) *ratelimitv3.RateLimitConfig {
	c := &ratelimitv3.RateLimitConfig{Name: "gateway", Domain: "gateway"}
	const perRoute = 4
	for i := 0; i < n; i += perRoute {
		route := fmt.Sprintf("httproute/default/route-%d/rule/0/match/0/www_example_com", i)
		d := &ratelimitv3.RateLimitDescriptor{Key: route, Value: route}
		for j := range min(perRoute, n-i) {
			d.Descriptors = append(d.Descriptors, &ratelimitv3.RateLimitDescriptor{
				Key: fmt.Sprintf("rule-%d-match-0", j), Value: fmt.Sprintf("rule-%d-match-0", j),
				RateLimit: &ratelimitv3.RateLimitPolicy{Unit: ratelimitv3.RateLimitUnit_MINUTE, RequestsPerUnit: uint32(100 + j)},
			})
		}
		c.Descriptors = append(c.Descriptors, d)
	}
	return c
}

// BenchmarkPut is a control plane's update of as many rules as there may be, of which
// one has changed: all that happens before the plan is swapped.
func BenchmarkPut(b *testing.B) {
	first, second := manyRules(MaxRules), manyRules(MaxRules)
	second.Descriptors[7].Descriptors[1].RateLimit.RequestsPerUnit = 7
	r := NewReloader(nil, NotLoaded(), func(*Loaded) {}, func(error) {})
	next := [][]*ratelimitv3.RateLimitConfig{{first}, {second}}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if err := r.Put(next[i%2]); err != nil {
			b.Fatal(err)
		}
	}
	if r.current.Rules != MaxRules {
		b.Fatalf("%d rules, want %d", r.current.Rules, MaxRules)
	}
}
