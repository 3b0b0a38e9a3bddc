package provider

import (
	"strings"
	"testing"
	"time"

	"github.com/weir-project/weir/limiter"
)

// FuzzRead: whatever an upstream of any provider says, what is read of it is within
// bounds, and nothing is given back for a call that had begun or that succeeded.
func FuzzRead(f *testing.F) {
	f.Add(uint8(0), 429, "rate_limit_error", "rate limit of 50 requests per minute. try again in 1.5s", "anthropic-ratelimit-requests-limit: 50\nretry-after: 5", int64(noon), int64(0), false)
	f.Add(uint8(1), 200, "overloaded_error", "Overloaded", "ratelimit: \"a\";r=0;t=5\nratelimit-policy: \"a\";q=10;w=60", int64(noon), int64(1), true)
	f.Add(uint8(5), 429, "", "quotaId PerDay retryDelay: 37s, limit: 5", "x-ratelimit-remaining: 0\nx-ratelimit-reset: 1787227230000", int64(-1), int64(-1), false)
	f.Add(uint8(9), -1, "a#b:c", "\xff regain access on 2026-09-01 at 00:00 utc", "x-should-retry: TRUE", int64(1)<<62, int64(1)<<62, false)
	f.Fuzz(func(t *testing.T, which uint8, status int, errorType, message, lines string, now, in int64, midStream bool) {
		p := Named(Names()[int(which)%len(Names())])
		a := Answer{Status: status, ErrorType: errorType, Message: message, Model: errorType, RetryAfter: lines, RetryIn: time.Duration(in), MidStream: midStream}
		for line := range strings.SplitSeq(lines, "\n") {
			name, value, _ := strings.Cut(line, ": ")
			a.Headers = append(a.Headers, limiter.Entry{Key: name, Value: value})
		}
		r := p.Read(&a, limiter.Instant(now))
		checkBounds(t, &r, limiter.Instant(now))
		o := p.Outcome(&r, &Usage{Input: uint64(now), Output: uint64(in), HasInput: midStream, HasOutput: true})
		if o.Class == limiter.ClassUnset || o.Usage.InputTokens > limiter.MaxAmount || o.Usage.OutputTokens > limiter.MaxAmount || o.RetryAfter < 0 {
			t.Fatalf("outcome %+v", o)
		}
		if o.HasNamed && p.JointTokens && o.Named == limiter.Tokens {
			t.Fatalf("named %v", o.Named)
		}
	})
}

func checkBounds(t *testing.T, r *Reading, now limiter.Instant) {
	t.Helper()
	longest := MaxRetryAfter
	if r.Until != 0 {
		longest = MaxUntil
		if r.Until <= now || r.Class != limiter.ClassSpend {
			t.Fatalf("until %v", r.Until)
		}
	}
	switch {
	case r.Class > limiter.ClassUnknown, r.Named > limiter.Tokens, r.Weight < 1, r.Odd > AllOddities:
		t.Fatalf("no such class, meter, weight or oddity: %+v", r)
	case r.RetryAfter < 0, r.RetryAfter > longest, r.Reset < 0, r.Reset > MaxRetryAfter:
		t.Fatalf("waits %v, %v", r.RetryAfter, r.Reset)
	case max(r.Limit, r.Requested, r.Ramp, r.RampNext) > limiter.MaxAmount:
		t.Fatalf("numbers %+v", r)
	case (r.Begun || r.Class == limiter.ClassOK || r.Class == limiter.ClassUnset || r.Class == limiter.ClassUnknown) && r.Refund != Refund{}:
		t.Fatalf("%+v gives back", r)
	}
	for m, h := range r.Headers {
		if h.Limit > limiter.MaxAmount || h.Remaining > limiter.MaxAmount || h.HasLimit && (h.Limit == 0 || h.Remaining > h.Limit) {
			t.Fatalf("%v: %+v", limiter.Meter(m), h)
		}
	}
}

// BenchmarkRead: what a report costs, by what it carries.
func BenchmarkRead(b *testing.B) {
	headers := entries(
		"anthropic-ratelimit-requests-limit", "4000", "anthropic-ratelimit-requests-remaining", "3999", "anthropic-ratelimit-requests-reset", "2026-08-20T12:00:00Z",
		"anthropic-ratelimit-input-tokens-limit", "200000", "anthropic-ratelimit-input-tokens-remaining", "180000", "anthropic-ratelimit-input-tokens-reset", "2026-08-20T12:01:03Z",
		"anthropic-ratelimit-output-tokens-limit", "80000", "anthropic-ratelimit-output-tokens-remaining", "80000", "anthropic-ratelimit-output-tokens-reset", "2026-08-20T12:00:00Z",
		"anthropic-ratelimit-tokens-limit", "280000", "anthropic-ratelimit-tokens-remaining", "80000", "anthropic-ratelimit-tokens-reset", "2026-08-20T12:00:00Z",
	)
	refused := Answer{Status: 429, ErrorType: "rate_limit_error", Message: "This request would exceed your organization's rate limit of 200,000 input tokens per minute (org: 01234567-89ab-cdef-0123-456789abcdef, model: claude-opus-4-6). For details, refer to the documentation."}
	withHeaders := refused
	withHeaders.Headers = append(entries("retry-after", "16"), headers...)
	used := Usage{Input: 25, Output: 42, HasInput: true, HasOutput: true}
	for name, a := range map[string]Answer{
		"success": {Status: 200}, "success with headers": {Status: 200, Headers: headers},
		"refusal": refused, "refusal with headers": withHeaders,
		"overloaded": {Status: 529, ErrorType: "overloaded_error", Message: "Overloaded"},
		"longest":    {Status: 429, Message: strings.Repeat("Rate limit. ", MaxText/12)},
	} {
		for _, p := range []string{"anthropic", "generic"} {
			b.Run(p+"/"+name, func(b *testing.B) {
				profile := Named(p)
				b.ReportAllocs()
				for b.Loop() {
					r := profile.Read(&a, noon)
					profile.Outcome(&r, &used)
				}
			})
		}
	}
}
