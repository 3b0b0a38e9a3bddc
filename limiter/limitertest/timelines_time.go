package limitertest

import (
	"slices"
	"time"

	"github.com/weir-project/weir/limiter"
)

// windows are timelines of one limit and one key, at the edges of buckets and
// windows. A window of a minute has buckets of a second: what is charged in second
// 0 counts until second 61 begins.
func windows() []timeline {
	minute := rules(rule("k", per(10, time.Minute)))
	return slices.Concat(edges(minute), clocks(minute), lengths())
}

// edges are timelines at the edges of buckets.
func edges(minute limiter.Spec) []timeline {
	return []timeline{
		{name: "fill", spec: minute, steps: []step{
			{"0s", "ask k=a 4", "allowed | 4/10 reset=1m1s"},
			{"0s", "ask k=a 6", "allowed | 10/10 reset=1m1s"},
			{"0s", "ask k=a 1", "denied retry=1m1s | 10/10 reset=1m1s"},
			{"0s", "ask k=b 10", "allowed | 10/10 reset=1m1s"},
		}},
		{name: "edges of a bucket", spec: minute, steps: []step{
			{"1s-1ns", "ask k=a 10", "allowed | 10/10 reset=1m1s"},
			{"1s", "ask k=a 1", "denied retry=1m1s | 10/10 reset=1m1s"},
			{"59s", "ask k=a 1", "denied retry=1m1s | 10/10 reset=1m1s"},
			{"1m-1ns", "ask k=a 1", "denied retry=1m1s | 10/10 reset=1m1s"},
			{"1m", "ask k=a 1", "denied retry=1m1s | 10/10 reset=1m1s"},
			{"1m1s-1ns", "ask k=a 1", "denied retry=1m1s | 10/10 reset=1m1s"},
			{"1m1s", "ask k=a 10", "allowed | 10/10 reset=2m2s"},
			{"2m1s+999ms", "ask k=a 1", "denied retry=2m2s | 10/10 reset=2m2s"},
			{"2m2s", "ask k=a 10", "allowed | 10/10 reset=3m3s"},
		}},
		{name: "a burst at the end of a bucket, then a drip", spec: minute, steps: []step{
			{"1s-1ns", "ask k=a 9", "allowed | 9/10 reset=1m1s"},
			{"1s", "ask k=a 1", "allowed | 10/10 reset=1m2s"},
			{"1m", "ask k=a 1", "denied retry=1m1s | 10/10 reset=1m2s"},
			{"1m1s", "ask k=a 1", "allowed | 2/10 reset=2m2s"},
			{"1m1s+500ms", "ask k=a 8", "allowed | 10/10 reset=2m2s"},
			{"1m2s-1ns", "ask k=a 1", "denied retry=1m2s | 10/10 reset=2m2s"},
			{"1m2s", "ask k=a 2", "denied retry=2m2s | 9/10 reset=2m2s"},
			{"1m2s", "ask k=a 1", "allowed | 10/10 reset=2m3s"},
		}},
		{name: "a drip that uses every bucket", spec: rules(rule("k", per(61, time.Minute))), steps: drip()},
	}
}

// clocks are timelines of clocks that do odd things.
func clocks(minute limiter.Spec) []timeline {
	return []timeline{
		{name: "idle years", spec: minute, steps: []step{
			{"0s", "ask k=a 10", "allowed | 10/10 reset=1m1s"},
			{"3650d", "look k=a 10", "allowed | 0/10"},
			{"3650d", "ask k=a 10", "allowed | 10/10 reset=3650d+1m1s"},
			{"3650d+1m", "ask k=a 1", "denied retry=3650d+1m1s | 10/10 reset=3650d+1m1s"},
			{"36500d", "ask k=a 10", "allowed | 10/10 reset=36500d+1m1s"},
		}},
		{name: "time stands still", spec: minute, steps: []step{
			{"30s", "ask k=a 5", "allowed | 5/10 reset=1m31s"},
			{"30s", "ask k=a 5", "allowed | 10/10 reset=1m31s"},
			{"30s", "ask k=a 1", "denied retry=1m31s | 10/10 reset=1m31s"},
			{"30s", "ask k=a 1", "denied retry=1m31s | 10/10 reset=1m31s"},
		}},
		{name: "the clock goes back a little", spec: minute, beyond: true, steps: []step{
			{"40s", "ask k=a 10", "allowed | 10/10 reset=1m41s"},
			{"10s", "ask k=a 1", "denied retry=1m41s | 10/10 reset=1m41s"},
			{"1m41s-1ns", "ask k=a 1", "denied retry=1m41s | 10/10 reset=1m41s"},
			{"1m41s", "ask k=a 1", "allowed | 1/10 reset=2m42s"},
		}},
		{name: "the clock goes back a little, and counts", spec: minute, beyond: true, steps: []step{
			{"40s", "ask k=a 5", "allowed | 5/10 reset=1m41s"},
			{"10s", "ask k=a 5", "allowed | 10/10 reset=1m41s"},
			{"1m11s", "ask k=a 1", "denied retry=1m41s | 10/10 reset=1m41s"},
		}},
		{name: "the clock was an hour ahead", spec: minute, beyond: true, steps: []step{
			{"1h", "ask k=a 10", "allowed | 10/10 reset=1h1m1s"},
			{"30s", "ask k=a 1", "denied retry=1m31s | 10/10 reset=1m31s"},
			{"1m31s-1ns", "ask k=a 1", "denied retry=1m31s | 10/10 reset=1m31s"},
			{"1m31s", "ask k=a 10", "allowed | 10/10 reset=2m32s"},
		}},
	}
}

// lengths are timelines of short and long windows.
func lengths() []timeline {
	return []timeline{
		{name: "windows of a millisecond", spec: rules(rule("k", per(2, time.Millisecond))), steps: []step{
			{"0s", "ask k=a 2", "allowed | 2/2 reset=1.016687ms"},
			{"1ms", "ask k=a 1", "denied retry=1.016687ms | 2/2 reset=1.016687ms"},
			{"1016687ns-1ns", "ask k=a 1", "denied retry=1.016687ms | 2/2 reset=1.016687ms"},
			{"1016687ns", "ask k=a 1", "allowed | 1/2 reset=2.033374ms"},
		}},
		{name: "windows of a leap year", spec: rules(rule("k", per(2, 366*day))), steps: []step{
			{"0s", "ask k=a 1", "allowed | 1/2 reset=372d+2h24m"},
			{"200d", "ask k=a 1", "allowed | 2/2 reset=567d+7h12m"},
			{"366d", "ask k=a 1", "denied retry=372d+2h24m | 2/2 reset=567d+7h12m"},
			{"372d+2h24m-1ns", "ask k=a 1", "denied retry=372d+2h24m | 2/2 reset=567d+7h12m"},
			{"372d+2h24m", "ask k=a 1", "allowed | 2/2 reset=744d+4h48m"},
		}},
		{name: "two windows on one key", spec: rules(rule("k", per(3, 6*time.Second), per(5, time.Minute))), steps: []step{
			{"0s", "ask k=a 3", "allowed | 3/3 reset=6.1s | 3/5 reset=1m1s"},
			{"5s", "ask k=a 1", "denied retry=6.1s | 3/3 reset=6.1s | 3/5 reset=1m1s"},
			{"12s", "ask k=a 3", "denied by=1 retry=1m1s | 0/3 | 3/5 reset=1m1s"},
			{"12s", "ask k=a 2", "allowed | 2/3 reset=18.1s | 5/5 reset=1m13s"},
		}},
	}
}

// drip is a unit a second for a minute, and what comes after.
func drip() []step {
	steps := []step{}
	for s := range 61 {
		at := time.Duration(s) * time.Second
		steps = append(steps, step{at.String(), "ask k=a 1", "allowed | " + used(s+1, 61, at+61*time.Second)})
	}
	return append(steps,
		step{"1m0.9s", "ask k=a 1", "denied retry=1m1s | " + used(61, 61, 121*time.Second)},
		step{"1m1s", "ask k=a 1", "allowed | " + used(61, 61, 122*time.Second)},
		step{"1m1s", "ask k=a 1", "denied retry=1m2s | " + used(61, 61, 122*time.Second)},
		step{"1m30s", "ask k=a 29", "allowed | " + used(61, 61, 151*time.Second)},
		step{"1m30s", "look k=a 1", "denied retry=1m31s | " + used(61, 61, 151*time.Second)},
	)
}
