package provider

import (
	"testing"
	"time"

	"github.com/weir-project/weir/limiter"
)

func TestSpanAfter(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"try again in 1.2s.":                           1200 * time.Millisecond,
		"try again in 6m0s":                            6 * time.Minute,
		"try again in 7h12m0s":                         7*time.Hour + 12*time.Minute,
		"try again in 20ms. visit":                     20 * time.Millisecond,
		"try again in 26 seconds":                      26 * time.Second,
		"try again in 5 minutes":                       5 * time.Minute,
		"try again in 1 minute and":                    time.Minute,
		"try again in 2 days":                          48 * time.Hour,
		"try again in a while. try again in 3 s":       3 * time.Second,
		`try again in ": "37s"`:                        37 * time.Second,
		"try again in 45.578569677s.":                  45578569677,
		"try again in 1.s":                             0,
		"try again in 5":                               0,
		"try again in 5 apples":                        0,
		"try again in 5 sheep":                         0,
		"try again in 2026-01-01":                      0,
		"try again in -5s":                             0,
		"try again in 0s":                              0,
		"try again in ":                                0,
		"try again later":                              0,
		"":                                             0,
		"try again in 0.0000000000000000000000000001s": 0,
	} {
		if got := time.Duration(spanAfter(text, "try again in ")); got != want {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	}
}

func TestNumberAfter(t *testing.T) {
	for text, want := range map[string]uint64{
		"limit 30000, used": 30_000, "limit 30,000 input": 30_000, "limit 1,234,567.": 1_234_567,
		"limit reached: limit 5": 5, "limit 150000.000000 / min": 150_000, "limit 12,34": 12, "limit 12,345,6": 12_345,
		"limit 9007199254740992": limiter.MaxAmount, "limit 9007199254740993": 0, "limit 99999999999999999999999999": 0,
		"limit 999,999,999,999,999,999,999,999": 0, "limit -5": 0, "limit x": 0, "": 0,
	} {
		if got := numberAfter(text, "limit "); got != want {
			t.Errorf("%q: %d, want %d", text, got, want)
		}
	}
}

func TestInstantOrSpan(t *testing.T) {
	for value, want := range map[string]time.Duration{
		"2026-08-20T12:00:30Z": 30 * time.Second, "2026-08-20T14:00:30+02:00": 30 * time.Second, "2026-08-20T11:00:00Z": 0,
		"Thu, 20 Aug 2026 12:00:30 GMT": 30 * time.Second,
		"1s":                            time.Second, "6m0s": 6 * time.Minute, "12ms": 12 * time.Millisecond, "7h12m0s": time.Hour, "2m59.56s": 179560 * time.Millisecond,
		"13": 13 * time.Second, "0": 0, "1.5": 1500 * time.Millisecond,
		"1787227230": 30 * time.Second, "1787227230000": 30 * time.Second, "1787227230500": 30500 * time.Millisecond,
		"1787220000": 0,
		"-1":         -1, "": -1, "soon": -1, "NaN": -1, "1h!": -1, "99999999999999999999": -1, "9999-01-01T00:00:00Z": -1,
	} {
		d, ok := instantOrSpan(value, noon)
		if !ok {
			d = -1
		}
		if d != want {
			t.Errorf("%q: %v, want %v", value, d, want)
		}
	}
}

func TestDateAfter(t *testing.T) {
	at := time.Date(2026, 9, 1, 6, 30, 0, 0, time.UTC)
	for text, want := range map[string]time.Time{
		"access on 2026-09-01 at 06:30 utc.":    at,
		"access on 2026-09-01 at 06:30:00 utc":  at,
		"access on 2026-09-01t06:30:00z":        at,
		"access on 2026-09-01 06:30 utc":        at,
		"access on 2026-09-01.":                 at.Truncate(24 * time.Hour),
		"access on 2026-13-01":                  {},
		"access on 2026-09-":                    {},
		"access on monday":                      {},
		"access at 2026-09-01 at 06:30 utc":     {},
		"access on 2026-09-01 at 25:61 utc and": at.Truncate(24 * time.Hour),
	} {
		if got, _ := dateAfter(text, "access on "); !got.Equal(want) {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	}
}
