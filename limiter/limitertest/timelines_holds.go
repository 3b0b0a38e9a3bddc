package limitertest

import (
	"slices"
	"time"

	"github.com/weir-project/weir/limiter"
)

// org is a quota of one minute for each org: requests, input and output tokens.
func org() limiter.Spec {
	return quotas(limiter.QuotaSpec{Name: "q", Limits: []limiter.LimitSpec{
		meter(limiter.Requests, 10, time.Minute),
		meter(limiter.InputTokens, 1000, time.Minute),
		meter(limiter.OutputTokens, 100, time.Minute),
	}})
}

// holds are timelines of reservations: how they end, and that they end once.
func holds() []timeline {
	return slices.Concat(settlements(), adjustments(), endings(), strangers(), replays())
}

// settlements are timelines of reports.
func settlements() []timeline {
	return []timeline{
		{name: "settled with less", spec: org(), steps: []step{
			{"0s", "open #1 org:a in=600 out=60", "allowed until=2m | 1/10 reset=1m1s | 600/1000 reset=1m1s | 60/100 reset=1m1s"},
			{"0s", "ask org:a in=500 out=0", "denied by=1 retry=1m1s | 1/10 reset=1m1s | 600/1000 reset=1m1s | 60/100 reset=1m1s"},
			{"5s", "report #1 in=400 out=10", "settled req=1 in=400 out=10"},
			{"5s", "look org:a in=0 out=0", "allowed | 1/10 reset=1m1s | 400/1000 reset=1m1s | 10/100 reset=1m1s"},
		}},
		{name: "settled with more leaves debt", spec: org(), steps: []step{
			{"0s", "open #1 org:a in=600 out=60", "allowed until=2m | 1/10 reset=1m1s | 600/1000 reset=1m1s | 60/100 reset=1m1s"},
			{"5s", "report #1 in=1500 out=250", "settled req=1 in=1500 out=250"},
			{"5s", "look org:a in=0 out=0", "denied by=1 retry=2m2s | 1/10 reset=1m1s | 1500/1000 reset=2m2s | 250/100 reset=3m3s"},
			{"1m1s", "look org:a in=1 out=1", "denied by=2 retry=2m2s | 0/10 | 900/1000 reset=2m2s | 190/100 reset=3m3s"},
			{"2m2s", "look org:a in=1 out=1", "allowed | 0/10 | 0/1000 | 90/100 reset=3m3s"},
		}},
		{name: "settled when it has left the window", spec: org(), steps: []step{
			{"0s", "open #1 @ttl=10m org:a in=600 out=60", "allowed until=10m | 1/10 reset=1m1s | 600/1000 reset=1m1s | 60/100 reset=1m1s"},
			{"2m", "ask org:a in=300 out=30", "allowed | 1/10 reset=3m1s | 300/1000 reset=3m1s | 30/100 reset=3m1s"},
			{"2m", "report #1 in=100 out=80", "settled req=1 in=100 out=80"},
			{"2m", "look org:a in=0 out=0", "allowed | 1/10 reset=3m1s | 300/1000 reset=3m1s | 50/100 reset=3m1s"},
		}},
		{name: "what is not known stays charged", spec: org(), steps: []step{
			{"0s", "open #1 org:a in=600 out=60", "allowed until=2m | 1/10 reset=1m1s | 600/1000 reset=1m1s | 60/100 reset=1m1s"},
			{"1s", "report #1 out=5", "settled req=1 in=600 out=5"},
			{"1s", "open #2 org:a in=100 out=60", "allowed until=2m1s | 2/10 reset=1m2s | 700/1000 reset=1m2s | 65/100 reset=1m2s"},
			{"2s", "report #2 in=50 +refund", "settled req=0 in=50 out=0"},
			{"2s", "open #3 org:a in=100 out=60", "allowed until=2m2s | 2/10 reset=1m3s | 750/1000 reset=1m3s | 65/100 reset=1m3s"},
			{"3s", "report #3 out=50 +floor", "settled req=1 in=100 out=60"},
			{"3s", "look org:a in=0 out=0", "allowed | 2/10 reset=1m3s | 750/1000 reset=1m3s | 65/100 reset=1m3s"},
		}},
	}
}

// adjustments are timelines of reports that meet something unusual.
func adjustments() []timeline {
	return []timeline{
		{name: "progress only raises", spec: org(), steps: []step{
			{"0s", "open #1 org:a in=600 out=60", "allowed until=2m | 1/10 reset=1m1s | 600/1000 reset=1m1s | 60/100 reset=1m1s"},
			{"1s", "report #1 in=700 out=20 +progress", "open req=1 in=700 out=60 until=2m"},
			{"2s", "report #1 in=650 out=90 +progress", "open req=1 in=700 out=90 until=2m"},
			{"2s", "look org:a in=0 out=0", "allowed | 1/10 reset=1m1s | 700/1000 reset=1m2s | 90/100 reset=1m3s"},
			{"3s", "report #1 in=700 out=70", "settled req=1 in=700 out=70"},
			{"3s", "look org:a in=0 out=0", "allowed | 1/10 reset=1m1s | 700/1000 reset=1m2s | 70/100 reset=1m3s"},
		}},
		{name: "a meter that was not expected", spec: org(), steps: []step{
			{"0s", "open #1 org:a in=10 out=0", "allowed until=2m | 1/10 reset=1m1s | 10/1000 reset=1m1s | 0/100"},
			{"1s", "ask org:b in=7 out=0", "allowed | 1/10 reset=1m2s | 7/1000 reset=1m2s | 0/100"},
			{"1s", "report #1 in=10 out=50", "settled req=1 in=10 out=50"},
			{"1s", "look org:a in=0 out=0", "allowed | 1/10 reset=1m1s | 10/1000 reset=1m1s | 50/100 reset=1m2s"},
			{"1s", "look org:b in=0 out=0", "allowed | 1/10 reset=1m2s | 7/1000 reset=1m2s | 0/100"},
		}},
		{name: "hits are not replaced by a report", spec: mixed(), steps: []step{
			{"0s", "open #1 k=a 3, org:a in=60 out=0", "allowed until=2m | 3/10 reset=1m1s | 60/100 reset=1m1s"},
			{"1s", "report #1 in=20", "settled req=1 in=20 out=0"},
			{"1s", "look k=a 0, org:a in=0 out=0", "allowed | 3/10 reset=1m1s | 20/100 reset=1m1s"},
			{"1s", "open #2 k=a 3, org:a in=60 out=0", "allowed until=2m1s | 6/10 reset=1m2s | 80/100 reset=1m2s"},
			{"2s", "release #2", "released req=0 in=0 out=0"},
			{"2s", "look k=a 0, org:a in=0 out=0", "allowed | 3/10 reset=1m1s | 20/100 reset=1m1s"},
		}},
		{name: "tokens are input and output", spec: quotas(limiter.QuotaSpec{Name: "q", Limits: []limiter.LimitSpec{
			meter(limiter.Tokens, 100, time.Minute),
		}}), steps: []step{
			{"0s", "open #1 org:a in=60 out=30", "allowed until=2m | 90/100 reset=1m1s"},
			{"1s", "report #1 out=10", "settled req=1 in=60 out=10"},
			{"1s", "ask org:a in=20 out=10", "allowed | 100/100 reset=1m2s"},
		}},
		{name: "a give-back pays debt first", spec: org(), steps: []step{
			{"0s", "open #1 org:a in=0 out=80", "allowed until=2m | 1/10 reset=1m1s | 0/1000 | 80/100 reset=1m1s"},
			{"1s", "force org:a in=0 out=50", "allowed | 2/10 reset=1m2s | 0/1000 | 130/100 reset=2m2s"},
			{"2s", "report #1 out=60", "settled req=1 in=0 out=60"},
			{"2s", "look org:a in=0 out=1", "denied by=2 retry=1m1s | 2/10 reset=1m2s | 0/1000 | 110/100 reset=2m2s"},
			{"1m1s", "look org:a in=0 out=70", "allowed | 1/10 reset=1m2s | 0/1000 | 30/100 reset=2m2s"},
			{"1m2s", "look org:a in=0 out=90", "allowed | 0/10 | 0/1000 | 10/100 reset=2m2s"},
		}},
	}
}

// mixed has a rule on hits, and a quota of input tokens.
func mixed() limiter.Spec {
	s := rules(rule("k", per(10, time.Minute)))
	s.Quotas = []limiter.QuotaSpec{{Name: "q", Limits: []limiter.LimitSpec{meter(limiter.InputTokens, 100, time.Minute)}}}
	return s
}

// oneMeter is a quota of input tokens.
func oneMeter() limiter.Spec {
	return quotas(limiter.QuotaSpec{Name: "q", Limits: []limiter.LimitSpec{meter(limiter.InputTokens, 100, time.Minute)}})
}

// endings are timelines of reservations that end, and of what comes after.
func endings() []timeline {
	one := oneMeter()
	return []timeline{
		{name: "double report", spec: one, steps: []step{
			{"0s", "open #1 org:a in=60", "allowed until=2m | 60/100 reset=1m1s"},
			{"1s", "report #1 in=10", "settled req=1 in=10 out=0"},
			{"1s", "report #1 in=90", "settled req=1 in=10 out=0 unchanged"},
			{"1s", "report #1 in=0 +refund", "settled req=1 in=10 out=0 unchanged"},
			{"1s", "release #1", "settled req=1 in=10 out=0 unchanged"},
			{"1s", "renew #1 1m", "settled req=1 in=10 out=0 unchanged"},
			{"3m", "report #1 in=90", "settled req=1 in=10 out=0 unchanged"},
			{"3m", "look org:a in=100", "allowed | 0/100"},
		}},
		{name: "double release", spec: one, steps: []step{
			{"0s", "open #1 org:a in=60", "allowed until=2m | 60/100 reset=1m1s"},
			{"0s", "ask org:a in=40", "allowed | 100/100 reset=1m1s"},
			{"1s", "release #1", "released req=0 in=0 out=0"},
			{"1s", "release #1", "released req=0 in=0 out=0 unchanged"},
			{"1s", "report #1 in=60", "released req=0 in=0 out=0 unchanged"},
			{"1s", "look org:a in=60", "allowed | 40/100 reset=1m1s"},
		}},
		{name: "expiry keeps the estimate", spec: one, steps: []step{
			{"0s", "open #1 @ttl=10s org:a in=60", "allowed until=10s | 60/100 reset=1m1s"},
			{"10s-1ns", "renew #1 5s", "open req=1 in=60 out=0 until=14.999999999s"},
			{"15s-2ns", "renew #1 5s", "open req=1 in=60 out=0 until=19.999999998s"},
			{"20s-2ns", "renew #1 5s", "expired req=1 in=60 out=0 unchanged"},
			{"20s", "look org:a in=0", "allowed | 60/100 reset=1m1s"},
		}},
		{name: "late report", spec: one, steps: []step{
			{"0s", "open #1 @ttl=10s org:a in=60", "allowed until=10s | 60/100 reset=1m1s"},
			{"10s", "report #1 in=10", "expired req=1 in=60 out=0 unchanged"},
			{"11s", "report #1 in=90", "expired req=1 in=60 out=0 unchanged"},
			{"11s", "release #1", "expired req=1 in=60 out=0 unchanged"},
			{"11s", "look org:a in=0", "allowed | 60/100 reset=1m1s"},
		}},
	}
}

// strangers are timelines of ids that are not the caller's, and of times to live.
func strangers() []timeline {
	one := oneMeter()
	return []timeline{
		{name: "times to live", spec: one, steps: []step{
			{"0s", "open #1 org:a in=1", "allowed until=2m | 1/100 reset=1m1s"},
			{"0s", "open #2 @ttl=1h org:a in=1", "allowed until=15m | 2/100 reset=1m1s"},
			{"0s", "open #3 @ttl=1ns org:a in=1", "allowed until=1ns | 3/100 reset=1m1s"},
			{"1ns", "report #3 in=0", "expired req=1 in=1 out=0 unchanged"},
			{"1m", "renew #1 20m", "open req=1 in=1 out=0 until=16m"},
			{"10m", "renew #1 0s", "open req=1 in=1 out=0 until=12m"},
			{"11m", "renew #1 1s", "open req=1 in=1 out=0 until=11m1s"},
			{"11m1s", "renew #1 1s", "expired req=1 in=1 out=0 unchanged"},
			{"15m-1ns", "report #2 in=0", "settled req=1 in=0 out=0"},
		}},
		{name: "unknown and foreign", spec: one, steps: []step{
			{"0s", "report #9 in=1", "unknown"},
			{"0s", "release #9", "unknown"},
			{"0s", "renew #9 1m", "unknown"},
			{"0s", "open #1 @tenant=x org:a in=60", "allowed until=2m | 60/100 reset=1m1s"},
			{"1s", "report #1 @tenant=y in=0", "unknown"},
			{"1s", "release #1 @tenant=y", "unknown"},
			{"1s", "renew #1 @tenant=y 1m", "unknown"},
			{"1s", "look org:a in=0", "allowed | 60/100 reset=1m1s"},
			{"1s", "report #1 @tenant=x in=20", "settled req=1 in=20 out=0"},
			{"1s", "report #1 @tenant=y in=0", "unknown"},
			{"1s", "report #1 in=0", "settled req=1 in=20 out=0 unchanged"},
		}},
		{name: "a denied ask leaves no reservation", spec: one, steps: []step{
			{"0s", "ask org:a in=60", "allowed | 60/100 reset=1m1s"},
			{"0s", "open #1 org:a in=60", "denied retry=1m1s | 60/100 reset=1m1s"},
			{"0s", "report #1 in=10", "unknown"},
			{"0s", "open #1 org:a in=600", "infeasible retry=never | 60/100 reset=1m1s"},
			{"0s", "release #1", "unknown"},
			{"0s", "look org:a in=0", "allowed | 60/100 reset=1m1s"},
		}},
	}
}

// replays are timelines of calls that are made twice.
func replays() []timeline {
	one := oneMeter()
	return []timeline{
		{name: "idempotency keys", spec: one, steps: []step{
			{"0s", "open #1 @tenant=x @idem=i org:a in=60", "allowed until=2m | 60/100 reset=1m1s"},
			{"1s", "open #2 @tenant=x @idem=i org:a in=60", "allowed replayed until=2m"},
			{"1s", "open #3 @tenant=y @idem=i org:a in=30", "allowed until=2m1s | 90/100 reset=1m2s"},
			{"1s", "look org:a in=0", "allowed | 90/100 reset=1m2s"},
			{"2s", "report #2 in=0", "unknown"},
			{"2s", "report #1 in=10", "settled req=1 in=10 out=0"},
			{"2s", "open #4 @tenant=x @idem=i org:a in=60", "allowed replayed until=2m"},
			{"2s", "look org:a in=0", "allowed | 40/100 reset=1m2s"},
			{"2s", "open #5 @tenant=x @idem=j org:a in=90", "denied retry=1m2s | 40/100 reset=1m2s"},
			{"1m2s", "open #5 @tenant=x @idem=j org:a in=90", "allowed until=3m2s | 90/100 reset=2m3s"},
		}},
		{name: "a renewed reservation is replayed with its expiry", spec: one, steps: []step{
			{"0s", "open #1 @idem=i @ttl=1m org:a in=60", "allowed until=1m | 60/100 reset=1m1s"},
			{"30s", "renew #1 5m", "open req=1 in=60 out=0 until=5m30s"},
			{"31s", "open #2 @idem=i @ttl=1m org:a in=60", "allowed replayed until=5m30s"},
		}},
		{name: "spent already, reported twice", spec: one, steps: []step{
			{"0s", "force @rid=r org:a in=60", "allowed | 60/100 reset=1m1s"},
			{"1s", "force @rid=r org:a in=60", "allowed replayed"},
			{"1s", "force @rid=s org:a in=60", "allowed | 120/100 reset=2m2s"},
			{"2s", "open #1 @rid=t org:b in=60", "allowed until=2m2s | 60/100 reset=1m3s"},
			{"3s", "force @rid=t org:b in=60", "allowed replayed"},
			{"3s", "look org:b in=0", "allowed | 60/100 reset=1m3s"},
		}},
	}
}
