package limitertest

import (
	"slices"
	"time"

	"github.com/weir-project/weir/limiter"
)

// amounts are timelines about how much is asked for, of how many limits.
func amounts() []timeline {
	shadow := rule("s", per(5, time.Minute))
	shadow.Shadow = true
	free := limiter.RuleSpec{Key: "free", Unlimited: true}
	spec := rules(
		rule("k", per(10, time.Minute)),
		rule("j", per(4, time.Minute)),
		rule("huge", per(limiter.MaxAmount, time.Minute)),
		rule("none", per(0, time.Minute)),
		shadow, free,
	)
	return slices.Concat(sizes(spec), sums(spec), debts(spec), exceptions(spec))
}

// sizes are timelines of the smallest and the largest amounts.
func sizes(spec limiter.Spec) []timeline {
	return []timeline{
		{name: "peeks", spec: spec, steps: []step{
			{"0s", "ask k=a 0", "allowed | 0/10"},
			{"0s", "ask k=a 10", "allowed | 10/10 reset=1m1s"},
			{"0s", "ask k=a 0", "allowed | 10/10 reset=1m1s"},
			{"0s", "force k=a 1", "allowed | 11/10 reset=2m2s"},
			{"0s", "ask k=a 0", "denied retry=1m1s | 11/10 reset=2m2s"},
			{"1m1s", "ask k=a 0", "allowed | 1/10 reset=2m2s"},
		}},
		{name: "a limit of nothing", spec: spec, steps: []step{
			{"0s", "ask none=a 0", "allowed | 0/0"},
			{"0s", "ask none=a 1", "infeasible retry=never | 0/0"},
			{"0s", "look none=a 1", "infeasible retry=never | 0/0"},
			{"0s", "force none=a 1", "allowed | 1/0 reset=never"},
			{"100d", "ask none=a 0", "infeasible retry=never | 1/0 reset=never"},
		}},
		{name: "more than a limit ever admits", spec: spec, steps: []step{
			{"0s", "ask k=a 11", "infeasible retry=never | 0/10"},
			{"0s", "ask k=a 2^53", "infeasible retry=never | 0/10"},
			{"0s", "ask k=a 2^64-1", "infeasible retry=never | 0/10"},
			{"0s", "ask k=a 6, k=a 5", "infeasible retry=never | 0/10 | 0/10"},
			{"0s", "ask k=a 2^64-1, k=a 2", "infeasible retry=never | 0/10 | 0/10"},
			{"0s", "ask k=a 10", "allowed | 10/10 reset=1m1s"},
		}},
		{name: "the largest limit", spec: spec, steps: []step{
			{"0s", "ask huge=a 2^53", "allowed | 9007199254740992/9007199254740992 reset=1m1s"},
			{"0s", "ask huge=a 1", "denied retry=1m1s | 9007199254740992/9007199254740992 reset=1m1s"},
			{"0s", "ask huge=a 2^53", "denied retry=1m1s | 9007199254740992/9007199254740992 reset=1m1s"},
			{"1m1s", "ask huge=a 2^53-1", "allowed | 9007199254740991/9007199254740992 reset=2m2s"},
			{"1m1s", "ask huge=a 2", "denied retry=2m2s | 9007199254740991/9007199254740992 reset=2m2s"},
			{"1m1s", "ask huge=a 1", "allowed | 9007199254740992/9007199254740992 reset=2m2s"},
		}},
		{name: "more than the largest limit", spec: spec, steps: []step{
			{"0s", "ask huge=a 2^64-1", "infeasible retry=never | 0/9007199254740992"},
			{"0s", "ask huge=a 2^53, huge=a 1", "infeasible retry=never | 0/9007199254740992 | 0/9007199254740992"},
			{"0s", "ask huge=a 2^64-1, huge=a 1", "infeasible retry=never | 0/9007199254740992 | 0/9007199254740992"},
			{"0s", "ask huge=a 2^63, huge=a 2^63", "infeasible retry=never | 0/9007199254740992 | 0/9007199254740992"},
		}},
	}
}

// sums are timelines of requests over several limits.
func sums(spec limiter.Spec) []timeline {
	return []timeline{
		{name: "all or nothing", spec: spec, steps: []step{
			{"0s", "ask j=a 3", "allowed | 3/4 reset=1m1s"},
			{"1s", "ask k=a 2, j=a 2", "denied by=1 retry=1m1s | 0/10 | 3/4 reset=1m1s"},
			{"1s", "ask j=a 2, k=a 2", "denied retry=1m1s | 3/4 reset=1m1s | 0/10"},
			{"1s", "ask k=b 11, j=a 2", "infeasible retry=never | 0/10 | 3/4 reset=1m1s"},
			{"1s", "ask j=a 2, k=b 11", "infeasible retry=never | 3/4 reset=1m1s | 0/10"},
			{"1s", "look k=a 10, j=a 1", "allowed | 0/10 | 3/4 reset=1m1s"},
			{"1s", "ask k=a 10, j=a 1", "allowed | 10/10 reset=1m2s | 4/4 reset=1m2s"},
			{"1m1s", "ask k=a 1, j=a 3", "denied retry=1m2s | 10/10 reset=1m2s | 1/4 reset=1m2s"},
			{"1m1s", "ask j=a 4, k=a 1", "denied retry=1m2s | 1/4 reset=1m2s | 10/10 reset=1m2s"},
		}},
		{name: "the same limit twice is the sum", spec: spec, steps: []step{
			{"0s", "ask k=a 3, k=a 4", "allowed | 7/10 reset=1m1s | 7/10 reset=1m1s"},
			{"0s", "ask k=a 2, k=b 1, k=a 2", "denied retry=1m1s | 7/10 reset=1m1s | 0/10 | 7/10 reset=1m1s"},
			{"0s", "ask k=a 2, k=b 1, k=a 1", "allowed | 10/10 reset=1m1s | 1/10 reset=1m1s | 10/10 reset=1m1s"},
			{"0s", "ask k=c 0, k=c 3", "allowed | 3/10 reset=1m1s | 3/10 reset=1m1s"},
		}},
	}
}

// debts are timelines of what was spent beyond a limit.
func debts(spec limiter.Spec) []timeline {
	return []timeline{
		{name: "spent already", spec: spec, steps: []step{
			{"0s", "force k=a 8", "allowed | 8/10 reset=1m1s"},
			{"0s", "ask k=a 3", "denied retry=1m1s | 8/10 reset=1m1s"},
			{"0s", "force k=a 8", "allowed | 16/10 reset=2m2s"},
			{"0s", "force k=a 0", "allowed | 16/10 reset=2m2s"},
			{"1m1s", "ask k=a 5", "denied retry=2m2s | 6/10 reset=2m2s"},
			{"1m1s", "ask k=a 4", "allowed | 10/10 reset=2m2s"},
		}},
		{name: "debt that fills many windows", spec: spec, steps: []step{
			{"0s", "force k=a 1005", "allowed | 1005/10 reset=1h42m41s"},
			{"0s", "look k=a 1", "denied retry=1h41m40s | 1005/10 reset=1h42m41s"},
			{"1m1s", "look k=a 1", "denied retry=1h41m40s | 995/10 reset=1h42m41s"},
			{"1h40m39s", "look k=a 6", "denied retry=1h42m41s | 15/10 reset=1h42m41s"},
			{"1h41m40s-1ns", "look k=a 1", "denied retry=1h41m40s | 15/10 reset=1h42m41s"},
			{"1h41m40s", "ask k=a 5", "allowed | 10/10 reset=1h42m41s"},
		}},
		{name: "debt is paid when room appears, not when somebody looks", spec: spec, steps: []step{
			{"0s", "ask k=a 10", "allowed | 10/10 reset=1m1s"},
			{"30s", "force k=a 7", "allowed | 17/10 reset=2m2s"},
			{"1m40s", "ask k=a 4", "denied retry=2m2s | 7/10 reset=2m2s"},
			{"1m40s", "ask k=a 3", "allowed | 10/10 reset=2m41s"},
			{"2m2s", "ask k=a 7", "allowed | 10/10 reset=3m3s"},
		}},
		{name: "the largest debt", spec: spec, steps: []step{
			{"0s", "force k=a 2^64-1", "allowed | 9007199254740992/10 reset=too far"},
			{"0s", "force k=a 2^53", "allowed | 9007199254740992/10 reset=too far"},
			{"3650d", "ask k=a 1", "denied retry=too far | 9007199203042642/10 reset=too far"},
		}, beyond: true},
	}
}

// exceptions are timelines of what is not checked as usual.
func exceptions(spec limiter.Spec) []timeline {
	return []timeline{
		{name: "refunds", spec: spec, steps: []step{
			{"0s", "refund k=a 5", "allowed | 0/10"},
			{"0s", "ask k=a 6", "allowed | 6/10 reset=1m1s"},
			{"10s", "ask k=a 4", "allowed | 10/10 reset=1m11s"},
			{"20s", "refund k=a 5", "allowed | 5/10 reset=1m1s"},
			{"20s", "refund k=a 2^64-1", "allowed | 0/10"},
			{"20s", "ask k=a 10", "allowed | 10/10 reset=1m21s"},
			{"20s", "force k=a 5", "allowed | 15/10 reset=2m22s"},
			{"20s", "refund k=a 6", "allowed | 9/10 reset=1m21s"},
			{"20s", "refund k=a 1, j=a 1", "allowed | 8/10 reset=1m21s | 0/4"},
		}},
		{name: "shadows count, and never refuse", spec: spec, steps: []step{
			{"0s", "ask s=a 4", "allowed | 4/5 reset=1m1s"},
			{"0s", "ask s=a 4", "allowed | 8/5 reset=1m1s over"},
			{"0s", "ask s=a 100, k=a 1", "allowed | 108/5 reset=1m1s over | 1/10 reset=1m1s"},
			{"0s", "ask s=a 1, k=a 10", "denied by=1 retry=1m1s | 108/5 reset=1m1s | 1/10 reset=1m1s"},
			{"1m1s", "ask s=a 5", "allowed | 5/5 reset=2m2s"},
		}},
		{name: "the largest amounts in a shadow", spec: spec, steps: []step{
			{"0s", "ask s=a 2^64-1", "allowed | 9007199254740992/5 reset=1m1s over"},
			{"30s", "ask s=a 2^64-1", "allowed | 9007199254740992/5 reset=1m31s over"},
			{"1m1s", "ask s=a 0", "allowed | 9007199254740992/5 reset=1m31s over"},
			{"1m31s", "ask s=a 1", "allowed | 1/5 reset=2m32s"},
		}},
		{name: "unlimited, and not counted", spec: spec, steps: []step{
			{"0s", "ask free=a 2^64-1", "allowed"},
			{"0s", "ask nowhere=a 2^64-1", "allowed"},
			{"0s", "ask k=a/j=b 1", "allowed"},
			{"0s", "ask k=a 1, free=a 5", "allowed | 1/10 reset=1m1s"},
		}},
		{name: "overrides", spec: spec, steps: []step{
			{"0s", "ask k=a 3 max=4/1m", "allowed | 3/4 reset=1m1s"},
			{"0s", "ask k=a 2 max=4/1m", "denied retry=1m1s | 3/4 reset=1m1s"},
			{"0s", "ask k=a 2 max=5/1m", "allowed | 5/5 reset=1m1s"},
			{"0s", "ask k=a 2 max=5/1h", "allowed | 2/5 reset=1h1m"},
			{"0s", "ask k=a 10", "allowed | 10/10 reset=1m1s"},
			{"0s", "ask nowhere=a/else=b 2 max=5/1h", "allowed | 2/5 reset=1h1m"},
			{"0s", "ask k=b 6 max=5/1m", "infeasible retry=never | 0/5"},
			{"0s", "ask free=b 6 max=5/1m", "infeasible retry=never | 0/5"},
		}},
		{name: "forgetting a counter", spec: spec, steps: []step{
			{"0s", "force k=a 30", "allowed | 30/10 reset=3m3s"},
			{"0s", "ask k=b 10", "allowed | 10/10 reset=1m1s"},
			{"0s", "zero k=a", "1"},
			{"0s", "ask k=a 10", "allowed | 10/10 reset=1m1s"},
			{"0s", "ask k=b 1", "denied retry=1m1s | 10/10 reset=1m1s"},
		}},
	}
}
