package ratelimitstats

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/weir-project/weir/config"
	"github.com/weir-project/weir/server"
)

// A minute of requests, and the lines that a statsd server gets: hits and not requests,
// split where they cross the limit.
func TestTimelineOfLines(t *testing.T) {
	b := newBook(t, plainLines(nil), edge)
	want(t, "at the start", b.flush(0), `ratelimit.service.config_load_success:1|c`)

	b.Descriptor(hit("edge", "user", 0, 3))
	want(t, "3 of 10", b.flush(1), `
		ratelimit.service.rate_limit.edge.user.total_hits:3|c
		ratelimit.service.rate_limit.edge.user.within_limit:3|c`)

	b.Descriptor(hit("edge", "user", 3, 6))
	want(t, "9 of 10: the 9th is above 0.8", b.flush(2), `
		ratelimit.service.rate_limit.edge.user.total_hits:6|c
		ratelimit.service.rate_limit.edge.user.near_limit:1|c
		ratelimit.service.rate_limit.edge.user.within_limit:6|c`)

	b.Descriptor(hit("edge", "user", 9, 4))
	want(t, "13 of 10: one more was near, three are over", b.flush(3), `
		ratelimit.service.rate_limit.edge.user.total_hits:4|c
		ratelimit.service.rate_limit.edge.user.over_limit:3|c
		ratelimit.service.rate_limit.edge.user.near_limit:1|c`)

	b.Descriptor(hit("edge", "user", 13, 2))
	b.Descriptor(hit("edge", "user", 15, 0))
	b.Descriptor(back(hit("edge", "user", 15, 7)))
	want(t, "all over; a look; hits given back", b.flush(4), `
		ratelimit.service.rate_limit.edge.user.total_hits:2|c
		ratelimit.service.rate_limit.edge.user.over_limit:2|c
		ratelimit.service.rate_limit.edge.user.total_negative_hits:7|c`)

	b.Descriptor(shadow(of(5, "edge", "path_/v1/*.method_POST", 4, 3)))
	b.Descriptor(of(1, "edge", "remote_address_10.0.0.1", 0, 1))
	want(t, "a shadow; an address", b.flush(5), `
		ratelimit.service.rate_limit.edge.path_/v1/*.method_POST.total_hits:3|c
		ratelimit.service.rate_limit.edge.path_/v1/*.method_POST.over_limit:2|c
		ratelimit.service.rate_limit.edge.path_/v1/*.method_POST.near_limit:1|c
		ratelimit.service.rate_limit.edge.path_/v1/*.method_POST.shadow_mode:2|c
		ratelimit.service.rate_limit.edge.remote_address_10_0_0_1.total_hits:1|c
		ratelimit.service.rate_limit.edge.remote_address_10_0_0_1.near_limit:1|c
		ratelimit.service.rate_limit.edge.remote_address_10_0_0_1.within_limit:1|c`)

	b.DomainNotFound("nowhere")
	b.DomainNotFound("nowhere")
	b.GlobalShadowMode()
	b.ServiceError()
	b.StoreError()
	b.LoadFailed()
	want(t, "the service", b.flush(6), `
		ratelimit.service.config_load_error:1|c
		ratelimit.service.global_shadow_mode:1|c
		ratelimit.service.call.should_rate_limit.service_error:1|c
		ratelimit.service.call.should_rate_limit.redis_error:1|c
		ratelimit.service.rate_limit.nowhere.domain_not_found:2|c`)

	for range 12 {
		b.Answered(3 * time.Millisecond)
	}
	b.Answered(250 * time.Microsecond)
	b.Answered(1234567 * time.Microsecond)
	want(t, "times", b.flush(7), `
		ratelimit_server.ShouldRateLimit.total_requests:14|c
		ratelimit_server.ShouldRateLimit.response_time:0.25|ms
		ratelimit_server.ShouldRateLimit.response_time:3|ms
		ratelimit_server.ShouldRateLimit.response_time:3|ms
		ratelimit_server.ShouldRateLimit.response_time:3|ms|@0.1
		ratelimit_server.ShouldRateLimit.response_time:1240|ms`)

	b.Descriptor(hit("edge", "org_a:b|c", 0, 1))
	want(t, "a value of a request", b.flush(8), `
		ratelimit.service.rate_limit.edge.org_a_b_c.total_hits:1|c
		ratelimit.service.rate_limit.edge.org_a_b_c.within_limit:1|c
		ratelimit.service.runtime_series:1|g`)
	want(t, "nothing", b.flush(9), `ratelimit.service.runtime_series:1|g`)
}

// hitByHit is the slow model: it looks at each hit of a request by itself.
type hitByHit struct{ total, over, near, within, shadow, negative, crossed uint64 }

func (m *hitByHit) take(e *server.RatelimitEvent, ratio float32) {
	if e.Negative {
		m.negative += e.Hits
		return
	}
	m.total += e.Hits
	for n := e.Before + 1; n <= e.Before+e.Hits; n++ {
		switch {
		case n > e.Limit:
			m.over++
			if e.Shadow {
				m.shadow++
			}
		case e.After <= e.Limit:
			m.within++
		default:
			m.crossed++ // of a request that was over, but not this hit
		}
		// A float of 24 bits, rounded down: the last hit that is not near.
		if n <= e.Limit && n > uint64(float32(e.Limit)*ratio) {
			m.near++
		}
	}
}

// Whatever is asked in whatever order, each hit is counted where the model counts it; and
// all hits are within the limit, over it, or below it in a request that crossed it.
func TestCountsAreThoseOfTheModel(t *testing.T) {
	rules := load(t, edge).Spec.Domains
	rapid.Check(t, func(t *rapid.T) {
		ratio := rapid.SampledFrom([]float32{0, 0.5, 0.8, 0.95, 1}).Draw(t, "ratio")
		limit := rapid.Uint64Range(0, 40).Draw(t, "limit")
		inShadow := rapid.Bool().Draw(t, "shadow")
		s := newStats(ratio, nil)
		s.bind(rules)
		var model hitByHit
		var counted uint64
		for range rapid.IntRange(0, 30).Draw(t, "requests") {
			e := of(limit, "edge", "user", counted, rapid.Uint64Range(0, 20).Draw(t, "hits"))
			e.Shadow = inShadow
			switch rapid.IntRange(0, 9).Draw(t, "kind") {
			case 0:
				e = back(e)
				counted = e.After
			case 1: // a new window
				counted = 0
				continue
			case 2: // refused, and not charged
				if e.Over {
					e.Charged = false
					break
				}
				fallthrough
			default:
				counted = e.After
			}
			s.Descriptor(e)
			model.take(e, ratio)
		}
		c := (*s.domains.Load())["edge"].fixed["user"]
		got := hitByHit{
			c.total(totalHits), c.total(overLimit), c.total(nearLimit), c.total(withinLimit),
			c.total(shadowMode), c.total(negativeHits), model.crossed,
		}
		if got != model {
			t.Fatalf("%+v, want %+v", got, model)
		}
		if got.total != got.within+got.over+got.crossed {
			t.Fatalf("%d hits, and %d within, %d over, %d below in a request that crossed", got.total, got.within, got.over, got.crossed)
		}
		if got.near > got.within+got.crossed {
			t.Fatalf("%d near, of %d within and %d below in a request that crossed", got.near, got.within, got.crossed)
		}
	})
}

// A reload keeps the counts of paths that stay, and those of paths that go until they are
// sent; names that nothing is counted under are forgotten.
func TestReloads(t *testing.T) {
	b := newBook(t, plainLines(nil), edge)
	b.flush(0)
	b.Descriptor(hit("edge", "user", 0, 1))
	b.Descriptor(hit("edge", "path_/v1/*.method_POST", 0, 1))
	b.Descriptor(hit("edge", "org_a", 0, 1))
	b.DomainNotFound("nowhere")
	b.bind(load(t, "domain: edge\ndescriptors: [{key: user, rate_limit: {unit: day, requests_per_unit: 5}}]\n").Spec.Domains)
	b.Descriptor(hit("edge", "user", 1, 1))
	b.Descriptor(hit("edge", "path_/v1/*.method_POST", 1, 1)) // decided before the reload
	want(t, "after the reload", b.flush(time.Second), `
		ratelimit.service.rate_limit.edge.org_a.total_hits:1|c
		ratelimit.service.rate_limit.edge.org_a.within_limit:1|c
		ratelimit.service.rate_limit.edge.path_/v1/*.method_POST.total_hits:2|c
		ratelimit.service.rate_limit.edge.path_/v1/*.method_POST.within_limit:2|c
		ratelimit.service.rate_limit.edge.user.total_hits:2|c
		ratelimit.service.rate_limit.edge.user.within_limit:2|c
		ratelimit.service.rate_limit.nowhere.domain_not_found:1|c
		ratelimit.service.runtime_series:1|g`)

	fixed := func() int { return len((*b.domains.Load())["edge"].fixed) }
	if fixed() != 3 {
		t.Errorf("%d paths are kept right after the reload, want 3", fixed())
	}
	b.flush(KeepIdle / 2)
	if fixed() != 3 {
		t.Errorf("%d paths are kept for a while, want 3", fixed())
	}
	b.flush(KeepIdle + 2*time.Minute)
	if fixed() != 1 {
		t.Errorf("%d paths are kept for good, want the one that is configured", fixed())
	}
	b.bind(nil)
	b.flush(KeepIdle + 4*time.Minute)
	b.flush(2*KeepIdle + 8*time.Minute)
	if n := len(*b.domains.Load()); n != 0 {
		t.Errorf("%d domains are kept that nobody configured or asked for", n)
	}
}

// Unlimited rules have no limit to count against, and a file of weir's own is none of
// envoyproxy/ratelimit: nothing is counted for either unless somebody says so.
func TestLoadedCounts(t *testing.T) {
	b := newBook(t, plainLines(nil))
	l := load(t, edge)
	b.Loaded(l)
	b.Loaded(l)
	b.LoadFailed()
	want(t, "loads", b.flush(0), `
		ratelimit.service.config_load_success:2|c
		ratelimit.service.config_load_error:1|c`)
	if d := (*b.domains.Load())["edge"]; d == nil || d.fixed["free"] != nil || len(d.fixed) != 3 {
		t.Errorf("the counters of the file: %+v", d)
	}
	b.Loaded(&config.Loaded{})
}

func TestNames(t *testing.T) {
	for in, want := range map[string]string{
		"user":                            "user",
		"a:b|c":                           "a_b_c",
		"a.b":                             "a.b",
		"remote_address_10.0.0.1":         "remote_address_10_0_0_1",
		"masked_10.1.2.0/24.x":            "masked_10_1_2_0/24.x",
		"1.2.3":                           "1.2.3",
		"1.2.3.4.5.6.7.8":                 "1_2_3_4.5_6_7_8",
		"a\nb.total_hits:9|c\n":           "a_b.total_hits_9_c_",
		"\xff\xfe":                        "_",
		"ünï.cöde":                        "ünï.cöde",
		strings.Repeat("9", 4) + ".1.1.1": "9999_1_1_1",
	} {
		if got := statName(in); got != want {
			t.Errorf("%q is %q, want %q", in, got, want)
		}
	}
}

func FuzzNames(f *testing.F) {
	for _, s := range []string{"user", "a:b|c", "10.0.0.1", "\xff\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := statName(s)
		if strings.ContainsAny(got, ":|\n\r\x00") || strings.ToValidUTF8(got, "") != got {
			t.Errorf("%q is %q, which means something in a line", s, got)
		}
	})
}
