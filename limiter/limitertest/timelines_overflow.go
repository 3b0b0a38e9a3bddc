package limitertest

import (
	"time"

	"github.com/weir-project/weir/limiter"
)

// overflows are timelines at the bound on keys: a live counter is never forgotten for
// a new key, and new keys share a counter for each limit.
func overflows() []timeline {
	two := rules(rule("k", per(10, time.Minute)), rule("j", per(10, time.Minute)))
	few := limiter.Options{MaxKeys: 3, Shards: 1} // a shard makes room for its own keys
	return []timeline{
		{name: "new keys share a counter", spec: two, opts: few, beyond: true, steps: []step{
			{"0s", "ask k=a 9", "allowed | 9/10 reset=1m1s"},
			{"0s", "ask k=b 1", "allowed | 1/10 reset=1m1s"},
			{"0s", "ask k=c 1", "allowed | 1/10 reset=1m1s"},
			{"1s", "ask k=d 6", "allowed | 6/10 reset=1m2s overflow"},
			{"1s", "ask k=e 6", "denied retry=1m2s | 6/10 reset=1m2s overflow"},
			{"1s", "ask k=f 4", "allowed | 10/10 reset=1m2s overflow"},
			{"1s", "ask j=f 4", "allowed | 4/10 reset=1m2s overflow"},
			{"1s", "ask k=a 2", "denied retry=1m1s | 9/10 reset=1m1s"},
			{"1s", "ask k=a 1, k=g 1", "denied by=1 retry=1m2s | 9/10 reset=1m1s | 10/10 reset=1m2s overflow"},
			{"1s", "ask k=a 1, j=g 1", "allowed | 10/10 reset=1m2s | 5/10 reset=1m2s overflow"},
		}},
		{name: "two new keys of one request share it too", spec: two, opts: few, beyond: true, steps: []step{
			{"0s", "ask k=a 1", "allowed | 1/10 reset=1m1s"},
			{"0s", "ask k=b 1", "allowed | 1/10 reset=1m1s"},
			{"0s", "ask k=c 1", "allowed | 1/10 reset=1m1s"},
			{"0s", "ask k=d 6, k=e 5", "infeasible retry=never | 0/10 overflow | 0/10 overflow"},
			{"0s", "ask k=d 5, k=e 5", "allowed | 10/10 reset=1m1s overflow | 10/10 reset=1m1s overflow"},
		}},
		{name: "rules with fixed windows do not share it", spec: fixedRules(rule("k", fixed(10, time.Minute)), rule("j", fixed(3, time.Minute))), opts: few, beyond: true, steps: []step{
			{"0s", "each k=a 1, k=b 1, k=c 1", "allowed | 1/10 reset=1m | 1/10 reset=1m | 1/10 reset=1m"},
			{"0s", "each k=d 6, k=e 6", "denied by=1 retry=1m | 6/10 reset=1m overflow | 12/10 reset=1m overflow"},
			{"0s", "each j=a 2, j=b 1", "allowed | 2/3 reset=1m overflow | 3/3 reset=1m overflow"},
			{"0s", "each k=a 1, k=d 1 max=4/1m", "allowed | 2/10 reset=1m | 1/4 reset=1m overflow"},
			{"2m", "each k=x 1, k=y 1, k=z 1", "allowed | 1/10 reset=3m | 1/10 reset=3m | 1/10 reset=3m"},
		}},
		{name: "a live counter is never forgotten", spec: two, opts: few, beyond: true, steps: flood()},
		{name: "idle keys make room after two windows", spec: two, opts: few, beyond: true, steps: []step{
			{"0s", "ask k=a 9", "allowed | 9/10 reset=1m1s"},
			{"0s", "ask k=b 9", "allowed | 9/10 reset=1m1s"},
			{"0s", "ask k=c 9", "allowed | 9/10 reset=1m1s"},
			{"30s", "ask k=c 1", "allowed | 10/10 reset=1m31s"},
			{"30s", "ask k=d 9", "allowed | 9/10 reset=1m31s overflow"},
			{"2m2s", "ask k=e 9", "allowed | 9/10 reset=3m3s"},
			{"2m2s", "ask k=f 9", "allowed | 9/10 reset=3m3s"},
			{"2m2s", "ask k=g 1", "allowed | 1/10 reset=3m3s overflow"},
			{"2m2s", "ask k=e 2", "denied retry=3m3s | 9/10 reset=3m3s"},
			{"2m2s", "ask k=c 10", "allowed | 10/10 reset=3m3s"},
		}},
	}
}

// bounds are timelines at the other bounds.
func bounds() []timeline {
	org := quotas(limiter.QuotaSpec{Name: "q", Limits: []limiter.LimitSpec{meter(limiter.InputTokens, 10, time.Minute)}})
	return []timeline{
		{name: "a reservation keeps its counter", spec: mixed(), opts: limiter.Options{MaxKeys: 2, Shards: 1}, beyond: true, steps: []step{
			{"0s", "open #1 @ttl=15m k=a 5, org:x in=50", "allowed until=15m | 5/10 reset=1m1s | 50/100 reset=1m1s"},
			{"10m", "ask k=b 1", "allowed | 1/10 reset=11m1s overflow"},
			{"10m", "report #1 in=70", "settled req=1 in=70 out=0"},
			{"10m", "look org:x in=0", "allowed | 20/100 reset=11m1s"},
		}},
		{name: "quotas are bounded as well", spec: org, opts: limiter.Options{MaxKeys: 4, Shards: 1}, beyond: true, steps: []step{
			{"0s", "ask org:a in=6", "allowed | 6/10 reset=1m1s"},
			{"0s", "ask org:b in=6", "allowed | 6/10 reset=1m1s"},
			{"0s", "ask org:c in=6", "allowed | 6/10 reset=1m1s overflow"},
			{"0s", "ask org:d in=6", "denied retry=1m1s | 6/10 reset=1m1s overflow"},
			{"0s", "ask org:a in=4", "allowed | 10/10 reset=1m1s"},
			{"100d", "ask org:e in=6", "allowed | 6/10 reset=100d+1m1s"},
		}},
		{name: "too many reservations", spec: org, opts: limiter.Options{MaxReservations: 2}, beyond: true, steps: []step{
			{"0s", "open #1 org:a in=1", "allowed until=2m | 1/10 reset=1m1s"},
			{"0s", "open #2 org:b in=1", "allowed until=2m | 1/10 reset=1m1s"},
			{"0s", "open #3 org:c in=1", "overloaded retry=2m | 0/10"},
			{"0s", "ask org:c in=1", "allowed | 1/10 reset=1m1s"},
			{"1s", "report #1 in=1", "settled req=1 in=1 out=0"},
			{"1s", "open #3 org:c in=1", "allowed until=2m1s | 2/10 reset=1m2s"},
			{"2m", "report #2 in=1", "expired req=1 in=1 out=0 unchanged"},
			{"2m", "open #4 org:c in=1", "allowed until=4m | 1/10 reset=3m1s"},
		}},
	}
}

// flood fills a counter, sends many new keys, and looks whether it is still full.
func flood() []step {
	steps := []step{{"0s", "ask k=a 10", "allowed | 10/10 reset=1m1s"}}
	for i := range 200 {
		steps = append(steps, step{"1s", "look k=a 1", "denied retry=1m1s | 10/10 reset=1m1s"})
		key := "k=new" + string(rune('A'+i%50)) + string(rune('A'+i/50))
		want := "denied retry=1m2s | 10/10 reset=1m2s overflow"
		switch {
		case i < 2:
			want = "allowed | 1/10 reset=1m2s"
		case i < 12:
			want = overflowed(i - 1)
		}
		steps = append(steps, step{"1s", "ask " + key + " 1", want})
	}
	return steps
}

func overflowed(n int) string { return "allowed | " + used(n, 10, 62*time.Second) + " overflow" }
