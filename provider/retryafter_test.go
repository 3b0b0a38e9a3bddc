package provider

import (
	"testing"
	"time"

	"github.com/weir-project/weir/limiter"
)

func TestRetryAfter(t *testing.T) {
	now := limiter.InstantOf(time.Date(2026, 2, 25, 20, 0, 0, 0, time.UTC))
	for _, tc := range []struct {
		seconds, millis string
		want            time.Duration
		ok              bool
	}{
		{seconds: "16", want: 16 * time.Second, ok: true},
		{seconds: " 16 ", want: 16 * time.Second, ok: true},
		{seconds: "1.5", want: 1500 * time.Millisecond, ok: true},
		{seconds: "0.0000000001", want: 1, ok: true},
		{seconds: "2", millis: "1250", want: 1250 * time.Millisecond, ok: true},
		{seconds: "2", millis: "nonsense", want: 2 * time.Second, ok: true},
		{seconds: "2", millis: "-1", want: 2 * time.Second, ok: true},
		{seconds: "3600", want: time.Hour, ok: true},
		{seconds: "86400", want: time.Hour, ok: true},
		{seconds: "Wed, 25 Feb 2026 20:00:30 GMT", want: 30 * time.Second, ok: true},
		{seconds: "Wednesday, 25-Feb-26 20:00:30 GMT", want: 30 * time.Second, ok: true},
		{seconds: "Wed Feb 25 20:00:30 2026", want: 30 * time.Second, ok: true},
		{seconds: "Thu, 26 Feb 2026 20:00:30 GMT", want: time.Hour, ok: true},

		{},
		{seconds: "0"},
		{seconds: "-5"},
		{seconds: "+5"},
		{seconds: "NaN"},
		{seconds: "Inf"},
		{seconds: "1e3"},
		{seconds: "0x10"},
		{seconds: "1.2.3"},
		{seconds: "."},
		{seconds: "soon"},
		{seconds: "31622401"},
		{seconds: "99999999999999999999999999"},
		{seconds: "Wed, 25 Feb 2026 19:59:59 GMT"},
		{seconds: "Fri, 31 Dec 9999 23:59:59 GMT"},
	} {
		got, ok := RetryAfter(tc.seconds, tc.millis, now)
		if got != tc.want || ok != tc.ok {
			t.Errorf("RetryAfter(%q, %q) = %v, %v, want %v, %v", tc.seconds, tc.millis, got, ok, tc.want, tc.ok)
		}
	}
}

// FuzzRetryAfter: never negative, never zero, never more than is believed.
func FuzzRetryAfter(f *testing.F) {
	for _, s := range []string{"16", "1.5", "1e309", "Wed, 25 Feb 2026 20:00:30 GMT", "-1", "NaN"} {
		f.Add(s, "", int64(0))
		f.Add("", s, int64(1)<<62)
	}
	f.Fuzz(func(t *testing.T, seconds, millis string, now int64) {
		d, ok := RetryAfter(seconds, millis, limiter.Instant(now))
		if ok && (d <= 0 || d > MaxRetryAfter) || !ok && d != 0 {
			t.Fatalf("RetryAfter(%q, %q) = %v, %v", seconds, millis, d, ok)
		}
	})
}
