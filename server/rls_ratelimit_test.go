package server

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	rlsv3 "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/weir-project/weir/config"
	"github.com/weir-project/weir/limiter"
	"github.com/weir-project/weir/store/memory"
)

// ratelimitFile is a file of envoyproxy/ratelimit with a bit of everything.
const ratelimitFile = `
domain: t
descriptors:
- {key: m3, rate_limit: {name: three, unit: minute, requests_per_unit: 3}}
- {key: m10, rate_limit: {unit: minute, requests_per_unit: 10}, metadata: {team: a, more: {x: 1}}}
- {key: day, rate_limit: {unit: day, requests_per_unit: 10}, metadata: {team: b, more: {y: yes}}}
- {key: white}
- {key: free, rate_limit: {unlimited: true, replaces: [{name: three}]}}
- {key: none, rate_limit: {unit: minute}}
- {key: most, rate_limit: {unit: minute, requests_per_unit: 4294967295}}
- {key: shy, shadow_mode: true, rate_limit: {unit: minute, requests_per_unit: 1}}
- {key: q1, quota_mode: true, rate_limit: {unit: minute, requests_per_unit: 1}}
- {key: q2, quota_mode: true, rate_limit: {unit: minute, requests_per_unit: 2}}
- {key: week, rate_limit: {unit: week, requests_per_unit: 5}}
- {key: month, rate_limit: {unit: month, requests_per_unit: 5}}
- {key: year, rate_limit: {unit: year, requests_per_unit: 5}}
- {key: gold, rate_limit: {unit: hour, requests_per_unit: 9, replaces: [{name: three}]}}
- {key: deep, detailed_metric: true, rate_limit: {unit: minute, requests_per_unit: 10}}
`

// newRatelimitWorld serves ratelimitFile.
func newRatelimitWorld(t testing.TB, strict bool, o RatelimitOptions) *rlsWorld {
	t.Helper()
	path := filepath.Join(t.TempDir(), "t.yaml")
	if err := os.WriteFile(path, []byte(ratelimitFile), 0o600); err != nil {
		t.Fatal(err)
	}
	loaded, err := config.Options{Strict: strict}.Load([]string{path}, nil)
	if err != nil {
		t.Fatal(err)
	}
	clock := func() limiter.Instant { return limiter.InstantOf(time.Now()) }
	store := memory.NewWithClock(limiter.Options{}, clock)
	t.Cleanup(store.Close)
	d := newDecider(store, loaded, newMetrics("test"), slog.New(slog.DiscardHandler), 1000)
	w := &rlsWorld{d: d, store: store, rls: newRLS(d), als: newALS(d)}
	o.Headers = o.Headers.withDefaults()
	w.rls.ratelimit = o
	return w
}

// told writes an answer in a line: the code, and for each descriptor its code, what
// remains of which limit, its name, and when that is reset. Headers follow.
func told(r *rlsv3.RateLimitResponse) string {
	var b strings.Builder
	b.WriteString(strings.ToLower(strings.TrimSuffix(r.GetOverallCode().String(), "_LIMIT")))
	for _, s := range r.GetStatuses() {
		b.WriteString(" | " + strings.ToLower(strings.TrimSuffix(s.GetCode().String(), "_LIMIT")))
		if l := s.GetCurrentLimit(); l != nil {
			fmt.Fprintf(&b, " %d of %d/%s", s.GetLimitRemaining(), l.GetRequestsPerUnit(), strings.ToLower(l.GetUnit().String()))
			if l.GetName() != "" {
				b.WriteString(" " + l.GetName())
			}
			b.WriteString(" " + s.GetDurationUntilReset().AsDuration().String())
		} else if s.GetLimitRemaining() > 0 {
			fmt.Fprintf(&b, " %d", s.GetLimitRemaining())
		}
	}
	for _, h := range r.GetResponseHeadersToAdd() {
		fmt.Fprintf(&b, " %s=%s", h.GetKey(), h.GetValue())
	}
	return b.String()
}

// rlsStep is a request at an instant, and what is told.
type rlsStep struct {
	at      string // since the beginning
	request *rlsv3.RateLimitRequest
	want    string
}

// tooMany asks for more hits than any limit admits.
func tooMany(r *rlsv3.RateLimitRequest) *rlsv3.RateLimitRequest {
	r.GetDescriptors()[0].HitsAddend = wrapperspb.UInt64(limiter.MaxAmount + 1)
	return r
}

func playRatelimit(t *testing.T, w *rlsWorld, steps []rlsStep) {
	t.Helper()
	time.Sleep(time.Second)
	start := time.Now()
	for i, s := range steps {
		at, err := time.ParseDuration(s.at)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Until(start.Add(at)))
		out, err := w.rls.ShouldRateLimit(t.Context(), s.request)
		got := ""
		if err != nil {
			got = fmt.Sprintf("%s: %s", status.Convert(err).Code(), status.Convert(err).Message())
		} else {
			got = told(out)
		}
		if got != s.want {
			t.Errorf("step %d, at %s: %v\n got %s\nwant %s", i, s.at, s.request, got, s.want)
		}
	}
}

// TestStrictAnswers: what was recorded of envoyproxy/ratelimit is what weir answers. Time
// begins 2000-01-01 00:00:01: 2 days into a week, 7 into a month, 7 into a year.
func TestStrictAnswers(t *testing.T) {
	for name, steps := range map[string][]rlsStep{
		"3 a minute": {
			{"0s", request("t", "m3=x"), "ok | ok 2 of 3/minute three 59s"},
			{"1ms", request("t", "m3=x hits:2"), "ok | ok 0 of 3/minute three 59s"},
			{"1s", request("t", "m3=x"), "over | over 0 of 3/minute three 58s"},
			{"58s", request("t", "m3=x"), "over | over 0 of 3/minute three 1s"},
			{"58.999999999s", request("t", "m3=x hits:2 negative"), "ok | ok 0 of 3/minute three 1s"},
			{"59s", request("t", "m3=x"), "ok | ok 2 of 3/minute three 1m0s"},
		},
		"no limit": {
			{"0s", request("t", "other=x", "white=x", "m3=x deeper=y", "", "=x"), "ok | ok | ok | ok | ok | ok"},
			{"0s", request("nowhere", "m3=x"), "ok | ok"},
			{"0s", request("t", "free=x"), "ok | ok 4294967295"},
			{"0s", request("t", "none=x"), "over | over 0 of 0/minute 59s"},
			{"0s", request("t", "none=y hits:0"), "ok | ok 0 of 0/minute 59s"},
		},
		"errors": {
			{"0s", request("", "m3=x"), "Unknown: rate limit domain must not be empty"},
			{"0s", request("t"), "Unknown: rate limit descriptor list must not be empty"},
			{"0s", request(""), "Unknown: rate limit domain must not be empty"},
		},
		"a shadow": {
			{"0s", request("t", "shy=x"), "ok | ok 0 of 1/minute 59s"},
			{"0s", request("t", "shy=x"), "ok | ok 0 of 1/minute 59s"},
			{"0s", request("t", "shy=x", "m3=x hits:4"), "over | ok 0 of 1/minute 59s | over 0 of 3/minute three 59s"},
		},
		"hits": {
			{"0s", withHits(request("t", "m10=x"), 4), "ok | ok 6 of 10/minute 59s"},
			{"0s", withHits(request("t", "m10=x"), 0), "ok | ok 5 of 10/minute 59s"},
			{"0s", request("t", "m10=x hits:0"), "ok | ok 5 of 10/minute 59s"},
			{"0s", request("t", "m10=x hits:5"), "ok | ok 0 of 10/minute 59s"},
			{"0s", request("t", "m10=x hits:0"), "ok | ok 0 of 10/minute 59s"},
			{"0s", request("t", "m10=x hits:7"), "over | over 0 of 10/minute 59s"},
			{"0s", request("t", "m10=x hits:0"), "over | over 0 of 10/minute 59s"},
			{"0s", request("t", "m10=x hits:8 negative"), "ok | ok 1 of 10/minute 59s"},
			{"0s", request("t", "m10=x hits:99 negative"), "ok | ok 10 of 10/minute 59s"},
		},
		"more than ever fits": {
			{"0s", withHits(request("t", "m10=x"), 11), "over | over 0 of 10/minute 59s"},
			{"0s", request("t", "m10=x hits:2 negative"), "ok | ok 1 of 10/minute 59s"},
			{"0s", withHits(request("t", "m10=y"), 4294967295), "over | over 0 of 10/minute 59s"},
			{"0s", withHits(request("t", "most=y"), 4294967295), "ok | ok 0 of 4294967295/minute 59s"},
			{"0s", request("t", "most=y"), "over | over 0 of 4294967295/minute 59s"},
			{"0s", tooMany(request("t", "m10=z")), "over | over"},
		},
		"limits that come along": {
			{"0s", withLimit(request("t", "any=org1"), 2, typev3.RateLimitUnit_MINUTE), "ok | ok 1 of 2/minute 59s"},
			{"0s", withLimit(request("t", "any=org1"), 2, typev3.RateLimitUnit_MINUTE), "ok | ok 0 of 2/minute 59s"},
			{"0s", withLimit(request("t", "any=org1"), 2, typev3.RateLimitUnit_MINUTE), "over | over 0 of 2/minute 59s"},
			{"0s", withLimit(request("t", "shy=x"), 1, typev3.RateLimitUnit_DAY), "ok | ok 0 of 1/day 23h59m59s"},
			{"0s", withLimit(request("t", "shy=x"), 1, typev3.RateLimitUnit_DAY), "over | over 0 of 1/day 23h59m59s"},
			{"0s", withLimit(request("t", ""), 2, typev3.RateLimitUnit_MINUTE), "ok | ok 1 of 2/minute 59s"},
			{"0s", withLimit(request("nowhere", "any=org1"), 0, typev3.RateLimitUnit_MINUTE), "ok | ok"},
			{"0s", withLimit(request("t", "any=w"), 2, 7), "ok | ok 1 of 2/week 119h59m59s"},
			{"0s", withLimit(request("t", "any=x"), 2, 8), "InvalidArgument: descriptor 0: limit has the unit 8; expected SECOND, MINUTE, HOUR, DAY, MONTH, YEAR or WEEK"},
			{"0s", request("t", "m10=shared hits:4"), "ok | ok 6 of 10/minute 59s"},
			{"0s", withLimit(request("t", "m10=shared"), 6, typev3.RateLimitUnit_MINUTE), "ok | ok 1 of 6/minute 59s"},
		},
		"long values are told apart": {
			{"0s", request("t", "m3="+strings.Repeat("x", 3000), "m3="+strings.Repeat("x", 2999)+"y"), "ok | ok 2 of 3/minute three 59s | ok 2 of 3/minute three 59s"},
			{"0s", request("t", "m3="+strings.Repeat("x", 3000)), "ok | ok 1 of 3/minute three 59s"},
			{"0s", request("t", "m3="+strings.Repeat("x", 70000)), "over"},
		},
		"two descriptors": {
			{"0s", withHits(request("t", "m10=x", "m3=x"), 2), "ok | ok 8 of 10/minute 59s | ok 1 of 3/minute three 59s"},
			{"0s", withHits(request("t", "m10=x", "m3=x"), 2), "over | ok 6 of 10/minute 59s | over 0 of 3/minute three 59s"},
			{"0s", withHits(request("t", "m10=x", "m3=x"), 2), "over | ok 4 of 10/minute 59s | over 0 of 3/minute three 59s"},
			{"0s", request("t", "m3=y", "m3=y"), "ok | ok 2 of 3/minute three 59s | ok 1 of 3/minute three 59s"},
		},
		"quotas": {
			{"0s", request("t", "q1=x", "q2=x"), "ok | ok 0 of 1/minute 59s | ok 1 of 2/minute 59s"},
			{"0s", request("t", "q1=x", "q2=x"), "ok | over 0 of 1/minute 59s | ok 0 of 2/minute 59s"},
			{"0s", request("t", "q1=x", "q2=x"), "over | over 0 of 1/minute 59s | over 0 of 2/minute 59s"},
			{"0s", request("t", "q1=x", "m10=x"), "over | over 0 of 1/minute 59s | ok 9 of 10/minute 59s"},
		},
		"long windows": {
			{"0s", request("t", "week=x", "month=x", "year=x"), "ok | ok 4 of 5/week 119h59m59s | ok 4 of 5/month 551h59m59s | ok 4 of 5/year 8591h59m59s"},
		},
		"replaced": {
			{"0s", request("t", "m3=x", "gold=x"), "ok | ok | ok 8 of 9/hour 59m59s"},
			{"0s", request("t", "free=x", "m3=x"), "ok | ok 4294967295 | ok"},
			{"0s", request("t", "m3=x"), "ok | ok 2 of 3/minute three 59s"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { playRatelimit(t, newRatelimitWorld(t, true, RatelimitOptions{}), steps) })
		})
	}
}

// TestSlidingAnswers: without Strict such files are kept as all limits are. A limit holds
// in any minute, and who is refused is charged nowhere.
func TestSlidingAnswers(t *testing.T) {
	for name, steps := range map[string][]rlsStep{
		"the window slides": {
			{"0s", request("t", "m3=x hits:3"), "ok | ok 0 of 3/minute three 1m1s"},
			{"60s", request("t", "m3=x"), "over | over 0 of 3/minute three 1s content-type=application/json retry-after=1 retry-after-ms=1000 x-should-retry=true"},
			{"61s", request("t", "m3=x"), "ok | ok 2 of 3/minute three 1m1s"},
		},
		"all or nothing": {
			{"0s", withHits(request("t", "m10=x", "m3=x"), 2), "ok | ok 8 of 10/minute 1m1s | ok 1 of 3/minute three 1m1s"},
			{"0s", withHits(request("t", "m10=x", "m3=x"), 2), "over | ok 8 of 10/minute 1m1s | over 0 of 3/minute three 1m1s content-type=application/json retry-after=61 retry-after-ms=61000 x-should-retry=true"},
			{"0s", request("t", "m10=x hits:0"), "ok | ok 8 of 10/minute 1m1s"},
			{"0s", request("t", "m10=y hits:11"), "over | over 0 of 10/minute 0s content-type=application/json x-should-retry=false"},
			{"0s", request("t", "m10=y hits:10"), "ok | ok 0 of 10/minute 1m1s"},
		},
		"quotas": {
			{"0s", request("t", "q1=x", "q2=x"), "ok | ok 0 of 1/minute 1m1s | ok 1 of 2/minute 1m1s"},
			{"0s", request("t", "q1=x", "q2=x"), "ok | over 0 of 1/minute 1m1s | ok 0 of 2/minute 1m1s"},
			{"1s", request("t", "q1=x", "q2=x"), "over | over 0 of 1/minute 1m0s | over 0 of 2/minute 1m0s content-type=application/json retry-after=60 retry-after-ms=60000 x-should-retry=true"},
			{"61s", request("t", "q1=x", "q2=x"), "ok | ok 0 of 1/minute 1m1s | ok 1 of 2/minute 1m1s"},
		},
		"a budget is looked at, and charged what was spent": {
			{"0s", request("t", "m3=x", "m10=x hits:0"), "ok | ok 2 of 3/minute three 1m1s | ok 10 of 10/minute 0s"},
			{"1s", request("t", "m10=x hits:7"), "ok | ok 3 of 10/minute 1m1s"},
			{"1s", request("t", "m3=x", "m10=x hits:0"), "ok | ok 1 of 3/minute three 1m1s | ok 3 of 10/minute 1m1s"},
			{"2s", request("t", "m10=x hits:7"), "over | over 0 of 10/minute 2m1s content-type=application/json retry-after=60 retry-after-ms=60000 x-should-retry=true"},
			{"2s", request("t", "m3=x", "m10=x hits:0"), "over | ok 1 of 3/minute three 1m0s | over 0 of 10/minute 2m1s content-type=application/json retry-after=60 retry-after-ms=60000 x-should-retry=true"},
			{"2s", request("t", "m3=x", "m10=x hits:1"), "over | ok 1 of 3/minute three 1m0s | over 0 of 10/minute 2m1s content-type=application/json retry-after=60 retry-after-ms=60000 x-should-retry=true"},
			{"62s", request("t", "m3=x", "m10=x hits:0"), "ok | ok 2 of 3/minute three 1m1s | ok 2 of 10/minute 1m1s"},
		},
		"hits of the whole request are not those of a budget": {
			{"0s", request("t", "m10=x hits:0"), "ok | ok 10 of 10/minute 0s"},
			{"0s", withHits(request("t", "m10=x"), 11), "over | over 0 of 10/minute 0s content-type=application/json x-should-retry=false"},
			{"0s", request("t", "m10=x"), "ok | ok 9 of 10/minute 1m1s"},
		},
		"what there is besides": {
			{"0s", request("t", "free=x", "m3=x", "white=x"), "ok | ok 4294967295 | ok | ok"},
			{"0s", request("t", "shy=x hits:5"), "ok | ok 0 of 1/minute 1m1s"},
			{"0s", withLimit(request("t", "m3=x"), 1, typev3.RateLimitUnit_MINUTE), "ok | ok 0 of 1/minute 1m1s"},
			{"0s", request("t", "m3=x"), "ok | ok 2 of 3/minute three 1m1s"},
			{"0s", request("", "m3=x"), "InvalidArgument: domain is empty; expected the name of a domain of rules, or of LLM calls"},
			{"0s", request("nowhere", "m3=x"), "ok | ok"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { playRatelimit(t, newRatelimitWorld(t, false, RatelimitOptions{}), steps) })
		})
	}
}

// TestRatelimitModesOfAll: the modes that hold for all rules, and the headers.
func TestRatelimitModesOfAll(t *testing.T) {
	headers := RatelimitOptions{Headers: RatelimitHeaders{Enabled: true, Reset: "x-reset"}}
	for name, tc := range map[string]struct {
		options RatelimitOptions
		steps   []rlsStep
	}{
		"shadow": {RatelimitOptions{ShadowMode: true}, []rlsStep{
			{"0s", request("t", "m3=x hits:4"), "ok | over 0 of 3/minute three 59s"},
			{"0s", tooMany(request("t", "m10=x")), "ok | over"},
			{"0s", withLimit(request("t", "m10=x"), 0, typev3.RateLimitUnit_DAY), "ok | over 0 of 0/day 23h59m59s"},
		}},
		"quota": {RatelimitOptions{QuotaMode: true}, []rlsStep{
			{"0s", request("t", "m3=x hits:4"), "over | over 0 of 3/minute three 59s"},
			{"0s", request("t", "m3=x", "other=x"), "ok | over 0 of 3/minute three 59s | ok"},
			{"0s", request("t", "m3=x", "m10=x"), "ok | over 0 of 3/minute three 59s | ok 9 of 10/minute 59s"},
			{"0s", request("t", "none=x", "free=x"), "over | over 0 of 0/minute 59s | ok 4294967295"},
			{"0s", request("t", "other=x"), "ok | ok"},
		}},
		"headers": {headers, []rlsStep{
			{"0s", request("t", "m10=x hits:3", "day=x"), "ok | ok 7 of 10/minute 59s | ok 9 of 10/day 23h59m59s RateLimit-Limit=10 RateLimit-Remaining=7 x-reset=59"},
			{"0s", request("t", "day=y hits:3", "m10=y hits:3"), "ok | ok 7 of 10/day 23h59m59s | ok 7 of 10/minute 59s RateLimit-Limit=10 RateLimit-Remaining=7 x-reset=86399"},
			{"0s", request("t", "day=z hits:11", "m3=z hits:4", "m10=z hits:10"), "over | over 0 of 10/day 23h59m59s | over 0 of 3/minute three 59s | ok 0 of 10/minute 59s RateLimit-Limit=3 RateLimit-Remaining=0 x-reset=59"},
			{"0s", request("t", "q2=z hits:3", "day=z"), "over | over 0 of 2/minute 59s | over 0 of 10/day 23h59m59s RateLimit-Limit=10 RateLimit-Remaining=0 x-reset=86399"},
			{"0s", request("t", "free=x", "white=x"), "ok | ok 4294967295 | ok"},
			{"0s", request("nowhere", "m3=x"), "ok | ok"},
			{"0s", request("t", "shy=x hits:2", "m10=w"), "ok | ok 0 of 1/minute 59s | ok 9 of 10/minute 59s RateLimit-Limit=1 RateLimit-Remaining=0 x-reset=59"},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { playRatelimit(t, newRatelimitWorld(t, true, tc.options), tc.steps) })
		})
	}
}

// TestNoConfigurationYet: until there is a configuration, each mode says so in its way.
func TestNoConfigurationYet(t *testing.T) {
	for strict, want := range map[bool]codes.Code{true: codes.Unknown, false: codes.Unavailable} {
		w := newRatelimitWorld(t, strict, RatelimitOptions{})
		l := config.NotLoaded()
		l.Strict = strict
		w.d.apply(l)
		_, err := w.rls.ShouldRateLimit(t.Context(), request("t", "m3=x"))
		if s := status.Convert(err); s.Code() != want || s.Message() != "no rate limit configuration loaded" {
			t.Errorf("strict %t: %v", strict, err)
		}
	}
}

// TestDynamicMetadata: the request, and what the files say of descriptors that passed.
func TestDynamicMetadata(t *testing.T) { synctest.Test(t, testDynamicMetadata) }

func testDynamicMetadata(t *testing.T) {
	w := newRatelimitWorld(t, true, RatelimitOptions{DynamicMetadata: true})
	for i, step := range []struct {
		request *rlsv3.RateLimitRequest
		want    map[string]any
	}{
		{withHits(request("t", "m10=x white=y"), 0), map[string]any{
			"domain": "t", "descriptors": []any{map[string]any{"entries": []any{"m10=x", "white=y"}}},
		}},
		{withHits(request("t", "m10=x hits:0", "day=x"), 3), map[string]any{
			"domain": "t", "hitsAddend": 3.0,
			"descriptors": []any{map[string]any{"entries": []any{"m10=x"}, "hitsAddend": 0.0}, map[string]any{"entries": []any{"day=x"}}},
			"metadata":    map[string]any{"team": "a", "more": map[string]any{"x": 1.0, "y": true}},
		}},
		{request("t", "m10=x hits:11", "day=x"), map[string]any{
			"domain":      "t",
			"descriptors": []any{map[string]any{"entries": []any{"m10=x"}, "hitsAddend": 11.0}, map[string]any{"entries": []any{"day=x"}}},
			"metadata":    map[string]any{"team": "b", "more": map[string]any{"y": true}},
		}},
		{withLimit(request("nowhere", ""), 5, typev3.RateLimitUnit_DAY), map[string]any{
			"domain": "nowhere", "descriptors": []any{map[string]any{"entries": []any{}, "limit": "requests_per_unit:5 unit:DAY"}},
		}},
	} {
		out, err := w.rls.ShouldRateLimit(t.Context(), step.request)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(step.want, out.GetDynamicMetadata().AsMap()); diff != "" {
			t.Errorf("step %d (-want +got):\n%s", i, diff)
		}
	}
}

// heard is an observer that writes down what it is told.
type heard struct{ events []string }

func (h *heard) Descriptor(e *RatelimitEvent) {
	text := fmt.Sprintf("%s %s %d hits %d-%d/%d", e.Domain, e.Path, e.Hits, e.Before, e.After, e.Limit)
	for i, on := range []bool{e.Negative, !e.Charged, e.Over, e.Shadow, e.Quota} {
		if on {
			text += " " + []string{"negative", "free", "over", "shadow", "quota"}[i]
		}
	}
	h.events = append(h.events, text)
}

func (h *heard) DomainNotFound(domain string) { h.events = append(h.events, "no "+domain) }
func (h *heard) GlobalShadowMode()            { h.events = append(h.events, "shadow mode") }
func (h *heard) ServiceError()                { h.events = append(h.events, "error") }

// TestObserver: what metrics need is told for each descriptor, in both modes.
func TestObserver(t *testing.T) { synctest.Test(t, testObserver) }

func testObserver(t *testing.T) {
	for strict, want := range map[bool][]string{
		true: {
			"t m10 7 hits 0-7/10", "t deep_x 1 hits 0-1/10", "t m10 4 hits 7-11/10 over", "t m10 2 hits 9-9/10 negative",
			"t any_x.b 1 hits 0-1/5", "t m3 1 hits 0-1/3", "t m3 1 hits 1-2/3", "t shy 2 hits 0-2/1 over shadow",
			"no nowhere", "no nowhere", "error", "t q1 2 hits 0-2/1 over quota", "shadow mode",
		},
		false: {
			"t m10 7 hits 0-7/10", "t deep_x 1 hits 0-1/10", "t m10 4 hits 7-11/10 free over", "shadow mode", "t m10 2 hits 5-5/10 negative",
			"t any_x.b 1 hits 0-1/5", "t m3 1 hits 1-2/3", "t m3 1 hits 1-2/3", "t shy 2 hits 0-2/1 over shadow",
			"no nowhere", "no nowhere", "error", "t q1 2 hits 0-2/1 over quota", "shadow mode",
		},
	} {
		h := &heard{}
		w := newRatelimitWorld(t, strict, RatelimitOptions{Observer: h, ShadowMode: true})
		for _, r := range []*rlsv3.RateLimitRequest{
			request("t", "m10=x hits:7", "deep=x", "white=x", "free=x"), request("t", "m10=x hits:4"), request("t", "m10=x hits:2 negative"),
			withLimit(request("t", "any=x b="), 5, typev3.RateLimitUnit_DAY), request("t", "m3=x", "m3=x"), request("t", "shy=x hits:2"),
			request("nowhere", "a=b", "c=d"), request("t"), request("t", "q1=x hits:2"),
		} {
			_, _ = w.rls.ShouldRateLimit(t.Context(), r)
		}
		if strict { // the request with m10 4 was let through by the mode, too
			want = slices.Insert(want, 3, "shadow mode")
		}
		if diff := cmp.Diff(want, h.events); diff != "" {
			t.Errorf("strict %t (-want +got):\n%s", strict, diff)
		}
	}
}
