package ratelimitstats

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// A time is shown as the next number of three digits, in microseconds.
func TestSlots(t *testing.T) {
	for d, ms := range map[time.Duration]string{
		0:                                "0",
		1:                                "0.001",
		time.Microsecond:                 "0.001",
		999 * time.Microsecond:           "0.999",
		time.Millisecond - 1:             "1",
		time.Millisecond:                 "1",
		time.Millisecond + 1:             "1.01",
		5 * time.Millisecond:             "5",
		9995 * time.Microsecond:          "10",
		10 * time.Millisecond:            "10",
		1234 * time.Millisecond:          "1240",
		10 * time.Second:                 "10000",
		300 * 24 * time.Hour:             "10000000",
		10_000*time.Second + 1:           "10000000",
		10_000 * time.Second:             "10000000",
		9_990*time.Second + time.Second:  "10000000",
		9_980*time.Second + time.Second:  "9990000",
		100*time.Second + 10*time.Second: "110000",
	} {
		if got := string(appendMillis(nil, slotOf(d))); got != ms {
			t.Errorf("%v is %s ms, want %s", d, got, ms)
		}
	}
}

func TestSlotsAreTight(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := time.Duration(rapid.Int64Range(0, int64(10_000*time.Second)).Draw(t, "time"))
		shown := time.Duration(slotMicros(slotOf(d))) * time.Microsecond
		if shown < d || shown-d > max(d/100, time.Microsecond) {
			t.Fatalf("%v is shown as %v", d, shown)
		}
		if slot := slotOf(shown); slotMicros(slot) != uint64(shown/time.Microsecond) {
			t.Fatalf("%v, which is a slot, is shown as %d us", shown, slotMicros(slot))
		}
	})
}

// However many calls took a time, servers that multiply up get exactly their number.
func TestRatesAddUp(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.Uint64Range(1, 100_000_000).Draw(t, "calls")
		var sum uint64
		count := 0
		for line := range strings.Lines(string(plainLines(nil).reading(nil, reading{nil, 7, n}))) {
			value, rate, sampled := strings.Cut(strings.TrimSpace(line), "|@")
			if value != "ratelimit_server.ShouldRateLimit.response_time:0.007|ms" {
				t.Fatalf("the line %q", line)
			}
			times := uint64(1)
			if sampled {
				f, err := strconv.ParseFloat(rate, 64)
				if err != nil {
					t.Fatal(err)
				}
				times = uint64(1 / f) // as servers do
			}
			sum += times
			count++
		}
		if sum != n || count > 9*len(fmt.Sprint(n)) {
			t.Fatalf("%d calls, in %d lines", sum, count)
		}
	})
}
