package main

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"testing"
	"time"
)

func TestTheHeapGrowsByAFixedAmountOrByWhatMustBeRead(t *testing.T) {
	const mib = 1 << 20
	tests := []struct {
		name          string
		live, scanned uint64
		want          int
	}{
		{"before the first collection", 0, 0, maxPercent},
		{"hardly anything lives", mib, mib, maxPercent},
		{"a small heap", 8 * mib, 4 * mib, 800},
		{"a million counters", 160 * mib, 4 * mib, 40},
		{"a hundred million counters", 16 << 30, 4 * mib, minPercent},
		{"many reservations, which have pointers", 400 * mib, 350 * mib, 700},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := collectorPercent(tt.live, tt.scanned); got != tt.want {
				t.Errorf("collectorPercent(%d, %d) = %d, want %d", tt.live, tt.scanned, got, tt.want)
			}
		})
	}
}

// collectorSetting returns the percentage in force.
func collectorSetting() int {
	s := []metrics.Sample{{Name: "/gc/gogc:percent"}}
	metrics.Read(s)
	return int(s[0].Value.Uint64())
}

func TestTheCollectorIsPacedUnlessTheEnvironmentSaysOtherwise(t *testing.T) {
	before := collectorSetting()
	limit := debug.SetMemoryLimit(-1)
	defer debug.SetMemoryLimit(limit)
	tests := []struct {
		name   string
		env    map[string]string
		memory uint64
		want   int
	}{
		{"the memory is known", nil, 1 << 33, maxPercent},
		{"the memory is unknown", nil, 0, before},
		{"the environment bounds it", map[string]string{"GOMEMLIMIT": "1GiB"}, 0, maxPercent},
		{"the environment says how often", map[string]string{"GOGC": "50"}, 1 << 33, before},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			stop := tuneCollector(func(k string) string { return tt.env[k] }, tt.memory)
			got := collectorSetting()
			stop()
			if got != tt.want {
				t.Errorf("the percentage is %d, want %d", got, tt.want)
			}
			if after := collectorSetting(); after != before {
				t.Errorf("after the end the percentage is %d, want %d again", after, before)
			}
		})
	}
}

func TestEveryCollectionSetsWhenTheNextOneIs(t *testing.T) {
	limit := debug.SetMemoryLimit(-1)
	defer debug.SetMemoryLimit(limit)
	defer tuneCollector(func(string) string { return "" }, 1<<33)()
	wait := func(what string, holds func(int) bool) {
		t.Helper()
		for range 1000 {
			runtime.GC()
			if holds(collectorSetting()) {
				return
			}
			time.Sleep(time.Millisecond) // the runtime calls back when it likes
		}
		t.Fatalf("%s: the percentage is %d", what, collectorSetting())
	}
	counters := make([]byte, 256<<20)
	wait("256 MiB without pointers", func(p int) bool { return p < 50 })
	runtime.KeepAlive(counters)
	pointers := make([]*int, 8<<20)
	wait("64 MiB of pointers", func(p int) bool { return p > 500 })
	runtime.KeepAlive(pointers)
}
