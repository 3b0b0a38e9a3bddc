package limitertest

import (
	"slices"
	"time"

	"github.com/weir-project/weir/limiter"
)

// budgets are timelines of counters that are asked with a stated 0 before a call, and with
// what it cost when it has ended.
func budgets() []timeline {
	hour := rules(rule("k", per(60, time.Hour)), rule("n", per(2, time.Hour)), rule("m", per(10, time.Minute)))
	return slices.Concat(spentBudgets(hour), keptBudgets(hour), []timeline{manyBudgets()})
}

// spentBudgets are what is charged of a budget, and what is not.
func spentBudgets(hour limiter.Spec) []timeline {
	return []timeline{
		{name: "what was spent is charged where it does not fit, and paid later", spec: hour, steps: []step{
			{"0s", "ask k=a !0", "allowed | 0/60"},
			{"1m", "ask k=a !25", "allowed | 25/60 reset=1h2m"},
			{"1m", "ask k=a !0", "allowed | 25/60 reset=1h2m"},
			{"2m", "ask k=a !25", "allowed | 50/60 reset=1h3m"},
			{"2m", "ask k=a !0", "allowed | 50/60 reset=1h3m"},
			{"3m", "ask k=a !25", "denied retry=1h2m | 75/60 reset=2h3m spent"},
			{"3m", "ask k=a !0", "denied retry=1h2m | 75/60 reset=2h3m"},
			{"3m", "ask k=b !0", "allowed | 0/60"},
			{"1h2m-1ns", "ask k=a !0", "denied retry=1h2m | 75/60 reset=2h3m"},
			{"1h2m", "ask k=a !0", "allowed | 50/60 reset=2h3m"},
		}},
		{name: "a key that was never asked with 0 is refused what does not fit, and not charged", spec: hour, steps: []step{
			{"0s", "ask k=a !0", "allowed | 0/60"},
			{"0s", "ask k=b 50", "allowed | 50/60 reset=1h1m"},
			{"0s", "ask k=b !25", "denied retry=1h1m | 50/60 reset=1h1m"},
			{"0s", "ask n=a !3", "infeasible retry=never | 0/2"},
		}},
		{name: "a budget can be refused what was not stated", spec: hour, steps: []step{
			{"0s", "ask k=a !0", "allowed | 0/60"},
			{"0s", "ask k=a 61", "infeasible retry=never | 0/60"},
			{"0s", "ask k=a 60", "allowed | 60/60 reset=1h1m"},
			{"0s", "ask k=a 1", "denied retry=1h1m | 60/60 reset=1h1m"},
			{"0s", "ask k=a 0", "allowed | 60/60 reset=1h1m"},
		}},
		{name: "a plain 0 makes no budget, nor a look", spec: hour, steps: []step{
			{"0s", "ask k=a 0", "allowed | 0/60"},
			{"0s", "look k=a !0", "allowed | 0/60"},
			{"0s", "ask k=a !61", "infeasible retry=never | 0/60"},
		}},
		{name: "beside limits that refuse", spec: hour, steps: []step{
			{"0s", "ask k=a !0, n=a 2", "allowed | 0/60 | 2/2 reset=1h1m"},
			{"0s", "ask k=b !0, n=a 1", "denied by=1 retry=1h1m | 0/60 | 2/2 reset=1h1m"},
			{"0s", "ask k=a !25, n=a 1", "denied by=1 retry=1h1m | 25/60 reset=1h1m spent | 2/2 reset=1h1m"},
			{"0s", "ask k=a !40, n=b 1", "denied retry=1h1m | 65/60 reset=2h2m spent | 0/2"},
			{"0s", "ask n=b 1, k=b 1, k=a !1", "denied by=2 retry=1h1m | 0/2 | 0/60 | 66/60 reset=2h2m spent"},
			{"0s", "look k=a !40", "denied retry=1h1m | 66/60 reset=2h2m"},
		}},
		{name: "one counter, asked with both", spec: hour, steps: []step{
			{"0s", "ask k=a !0, k=a 1", "allowed | 1/60 reset=1h1m | 1/60 reset=1h1m"},
			{"0s", "ask k=a !60, k=a 1", "infeasible retry=never | 61/60 reset=2h2m spent | 61/60 reset=2h2m"},
		}},
	}
}

// keptBudgets are how long a counter is known as one, and other ways to ask.
func keptBudgets(hour limiter.Spec) []timeline {
	still := fixedRules(rule("k", fixed(60, time.Hour)))
	return []timeline{
		{name: "a call that is longer than its counter is kept", spec: hour, steps: []step{
			{"0s", "ask m=a !0", "allowed | 0/10"},
			{"0s", "ask m=a !1", "allowed | 1/10 reset=1m1s"},
			{"1h", "ask m=a !25", "infeasible retry=never | 25/10 reset=1h3m3s spent"},
			{"1h", "ask m=b !25", "infeasible retry=never | 25/10 reset=1h3m3s spent"},
			{"1h", "ask m=a !0", "denied retry=1h2m2s | 25/10 reset=1h3m3s"},
		}},
		{name: "of a limit that nobody has spent from, looks are remembered for a quarter of an hour", spec: hour, steps: []step{
			{"0s", "ask m=a !0, m=b !0", "allowed | 0/10 | 0/10"},
			{"15m", "ask m=c !25", "infeasible retry=never | 0/10"},
			{"15m1s", "ask m=a !25", "infeasible retry=never | 25/10 reset=18m4s spent"},
			{"15m1s", "ask m=c !25", "infeasible retry=never | 25/10 reset=18m4s spent"},
		}},
		{name: "and then forgotten", spec: hour, steps: []step{
			{"0s", "ask m=a !0", "allowed | 0/10"},
			{"15m2s", "ask m=a !25", "infeasible retry=never | 0/10"},
		}},
		{name: "one by one", spec: hour, steps: []step{
			{"0s", "each k=a !0, n=a 1", "allowed | 0/60 | 1/2 reset=1h1m"},
			{"0s", "each k=a !61, n=a 1", "infeasible retry=never | 61/60 reset=2h2m spent | 2/2 reset=1h1m"},
			{"0s", "each k=b 61, n=a !1", "infeasible retry=never | 0/60 | 2/2 reset=1h1m"},
		}},
		{name: "in fixed windows", spec: still, steps: []step{
			{"0s", "each k=a !0", "allowed | 0/60"},
			{"0s", "each k=a !61", "infeasible retry=never | 61/60 reset=1h"},
			{"0s", "ask k=b !0", "allowed | 0/60"},
			{"0s", "ask k=b !61", "infeasible retry=never | 61/60 reset=1h spent"},
			{"0s", "ask k=b !0", "denied retry=1h | 61/60 reset=1h"},
			{"1h", "ask k=b !0", "allowed | 0/60"},
		}},
	}
}

// manyBudgets: those beyond the bound on keys share one.
func manyBudgets() timeline {
	return timeline{
		name: "keys beyond the bound share a budget", spec: rules(rule("k", per(60, time.Hour))),
		opts: limiter.Options{MaxKeys: 1}, beyond: true, steps: []step{
			{"0s", "ask k=a !0", "allowed | 0/60"},
			{"0s", "ask k=b !0", "allowed | 0/60 overflow"},
			{"0s", "ask k=c !0", "allowed | 0/60 overflow"},
			{"0s", "ask k=b !61", "infeasible retry=never | 61/60 reset=2h2m spent overflow"},
			{"0s", "ask k=c !0", "denied retry=1h1m | 61/60 reset=2h2m overflow"},
			{"0s", "ask k=a !0", "allowed | 0/60"},
		},
	}
}
