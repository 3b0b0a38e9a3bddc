package limitertest

import (
	"slices"
	"time"

	"github.com/weir-project/weir/limiter"
)

// fixed is a limit of requests in fixed windows.
func fixed(amount uint64, window time.Duration) limiter.LimitSpec {
	l := per(amount, window)
	l.Fixed = true
	return l
}

// fixedRules is a spec with one domain "d" that counts in fixed windows.
func fixedRules(rules ...limiter.RuleSpec) limiter.Spec {
	return limiter.Spec{Domains: []limiter.DomainSpec{{Name: "d", Fixed: true, Rules: rules}}}
}

// fixedWindows are timelines of windows that begin at multiples of their length, and of
// charges that are made whether they fit or not. They start where a minute begins.
func fixedWindows() []timeline {
	minute := fixedRules(rule("k", fixed(10, time.Minute)), rule("two", fixed(3, time.Minute)), rule("none", fixed(0, time.Minute)))
	return slices.Concat(fixedEdges(minute), oneByOne(minute), softly(), fixedKeys())
}

func fixedEdges(minute limiter.Spec) []timeline {
	return []timeline{
		{name: "a window ends with all that it holds", spec: minute, steps: []step{
			{"1m-1ns", "ask k=a 10", "allowed | 10/10 reset=1m"},
			{"1m-1ns", "ask k=a 1", "denied retry=1m | 10/10 reset=1m"},
			{"1m", "ask k=a 10", "allowed | 10/10 reset=2m"},
			{"1m", "ask k=a 11", "infeasible retry=never | 10/10 reset=2m"},
			{"1m", "ask k=b 4", "allowed | 4/10 reset=2m"},
			{"5m+30s", "look k=a 10", "allowed | 0/10"},
		}},
		{name: "what was spent already leaves no debt", spec: minute, steps: []step{
			{"0s", "force k=a 35", "allowed | 35/10 reset=1m"},
			{"59s", "ask k=a 0", "denied retry=1m | 35/10 reset=1m"},
			{"1m", "ask k=a 10", "allowed | 10/10 reset=2m"},
			{"1m", "refund k=a 4", "allowed | 6/10 reset=2m"},
			{"2m", "refund k=a 4", "allowed | 0/10"},
		}},
		{name: "the clock goes back over the edge", spec: minute, beyond: true, steps: []step{
			{"1m", "ask k=a 9", "allowed | 9/10 reset=2m"},
			{"1m-1ns", "ask k=a 1", "allowed | 10/10 reset=2m"},
			{"1m-1ns", "ask k=a 1", "denied retry=2m | 10/10 reset=2m"},
			{"1h", "ask k=a 10", "allowed | 10/10 reset=1h1m"},
			{"2m", "ask k=a 1", "denied retry=3m | 10/10 reset=3m"},
			{"3m", "ask k=a 1", "allowed | 1/10 reset=4m"},
		}},
		{name: "weeks, months and years of the Unix epoch", spec: fixedRules(
			rule("w", fixed(1, 7*day)), rule("m", fixed(1, 30*day)), rule("y", fixed(1, 365*day)),
		), align: 60 * day, steps: []step{ // 2026-01-01, day 20,454 of the epoch
			{"0s", "each w=a 1, m=a 1, y=a 1", "allowed | 1/1 reset=7d | 1/1 reset=6d | 1/1 reset=351d"},
			{"6d-1ns", "ask m=a 1", "denied retry=6d | 1/1 reset=6d"},
			{"6d", "ask m=a 1", "allowed | 1/1 reset=36d"},
		}},
	}
}

func oneByOne(minute limiter.Spec) []timeline {
	return []timeline{
		{name: "each charge is made, whatever the others are", spec: minute, steps: []step{
			{"0s", "each k=a 2, two=a 2", "allowed | 2/10 reset=1m | 2/3 reset=1m"},
			{"0s", "each k=a 2, two=a 2", "denied by=1 retry=1m | 4/10 reset=1m | 4/3 reset=1m"},
			{"0s", "each k=a 2, two=a 2", "denied by=1 retry=1m | 6/10 reset=1m | 6/3 reset=1m"},
			{"0s", "each k=a 4, two=a 0", "denied by=1 retry=1m | 10/10 reset=1m | 6/3 reset=1m"},
			{"1m", "each k=a 1, two=a 1", "allowed | 1/10 reset=2m | 1/3 reset=2m"},
		}},
		{name: "one that is refused is charged too", spec: minute, steps: []step{
			{"0s", "each k=a 11", "infeasible retry=never | 11/10 reset=1m"},
			{"0s", "each k=a 1", "denied retry=1m | 12/10 reset=1m"},
			{"0s", "each k=a 0", "denied retry=1m | 12/10 reset=1m"},
			{"0s", "each k=a 2 -refund", "allowed | 10/10 reset=1m"},
			{"0s", "each k=a 0", "allowed | 10/10 reset=1m"},
			{"0s", "each k=a 1000 -refund", "allowed | 0/10"},
			{"0s", "each none=a 1", "infeasible retry=never | 1/0 reset=1m"},
			{"0s", "each none=b 0", "allowed | 0/0"},
			{"0s", "each k=b 2^53, k=b 2^53", "infeasible retry=never | 9007199254740992/10 reset=1m | 9007199254740992/10 reset=1m"},
		}},
		{name: "the same descriptor twice is two charges", spec: minute, steps: []step{
			{"0s", "each two=a 1, two=a 1", "allowed | 1/3 reset=1m | 2/3 reset=1m"},
			{"0s", "each two=a 1, two=a 1", "denied by=1 retry=1m | 3/3 reset=1m | 4/3 reset=1m"},
		}},
		{name: "a sliding limit beside them is charged if it fits", spec: limiter.Spec{Domains: []limiter.DomainSpec{{
			Name: "d", Fixed: true, Rules: []limiter.RuleSpec{rule("k", fixed(2, time.Minute)), rule("s", per(2, time.Minute))},
		}}}, steps: []step{
			{"0s", "each k=a 3, s=a 3", "infeasible retry=never | 3/2 reset=1m | 0/2"},
			{"0s", "each k=a 1, s=a 2", "denied retry=1m | 4/2 reset=1m | 2/2 reset=1m1s"},
			{"1m", "each k=a 1, s=a 1", "denied by=1 retry=1m1s | 1/2 reset=2m | 2/2 reset=1m1s"},
		}},
	}
}

// softly are timelines of limits that refuse only together.
func softly() []timeline {
	soft := func(r limiter.RuleSpec) limiter.RuleSpec { r.Soft = true; return r }
	slide := rules(soft(rule("a", per(1, time.Minute))), soft(rule("b", per(2, time.Minute))), rule("hard", per(2, time.Minute)))
	still := fixedRules(soft(rule("a", fixed(1, time.Minute))), soft(rule("b", fixed(2, time.Minute))), rule("hard", fixed(2, time.Minute)))
	return []timeline{
		{name: "soft limits in fixed windows", spec: still, steps: []step{
			{"0s", "each a=x 1, b=x 1", "allowed | 1/1 reset=1m | 1/2 reset=1m"},
			{"0s", "each a=x 1, b=x 1", "allowed | 2/1 reset=1m over | 2/2 reset=1m"},
			{"0s", "each a=x 1, b=x 1", "denied retry=1m | 3/1 reset=1m | 3/2 reset=1m"},
			{"0s", "each +spare a=x 1, b=x 1", "allowed | 4/1 reset=1m over | 4/2 reset=1m over"},
			{"0s", "each a=x 1, hard=x 1", "denied retry=1m | 5/1 reset=1m | 1/2 reset=1m"},
		}},
		{name: "a soft limit that is over is charged with the others, or none is", spec: slide, steps: []step{
			{"0s", "ask a=x 1, b=x 1", "allowed | 1/1 reset=1m1s | 1/2 reset=1m1s"},
			{"0s", "ask a=x 1, b=x 1", "allowed | 2/1 reset=1m1s over | 2/2 reset=1m1s"},
			{"30s", "ask a=x 1, b=x 1", "denied retry=1m1s | 2/1 reset=1m1s | 2/2 reset=1m1s"},
			{"30s", "ask a=x 1", "denied retry=1m1s | 2/1 reset=1m1s"},
			{"30s", "ask a=x 1, hard=x 3", "infeasible by=1 retry=never | 2/1 reset=1m1s | 0/2"},
			{"30s", "ask a=x 1, b=y 1, hard=x 2", "allowed | 3/1 reset=1m31s over | 1/2 reset=1m31s | 2/2 reset=1m31s"},
			{"1m1s", "ask a=x 0", "allowed | 1/1 reset=1m31s"},
			{"1m31s", "ask a=x 1", "allowed | 1/1 reset=2m32s"},
		}},
		{name: "all limits are soft", spec: slide, steps: []step{
			{"0s", "ask +soft hard=x 2, b=x 1", "allowed | 2/2 reset=1m1s | 1/2 reset=1m1s"},
			{"0s", "ask +soft hard=x 1, b=x 1", "allowed | 3/2 reset=1m1s over | 2/2 reset=1m1s"},
			{"0s", "ask +soft hard=x 1, b=x 1", "denied retry=1m1s | 3/2 reset=1m1s | 2/2 reset=1m1s"},
			{"0s", "ask +spare hard=x 1, b=x 1", "allowed | 4/2 reset=1m1s over | 3/2 reset=1m1s over"},
		}},
	}
}

// fixedKeys are timelines of what counts together in fixed windows, of patterns of keys,
// and of limits that others replace.
func fixedKeys() []timeline {
	valued := func(key, value string, amount uint64) limiter.RuleSpec {
		r := rule(key, fixed(amount, time.Minute))
		r.Value, r.KeyPattern = value, key == "p*" || key == "*q"
		return r
	}
	shared := valued("k", "s*", 13)
	shared.ShareValues = true
	first, second := valued("n", "1", 5), valued("n", "2", 6)
	first.Limits[0].Name, second.Limits[0].Name, second.Replaces = "one", "two", []string{"one", "nobody"}
	free := limiter.RuleSpec{Key: "free", Unlimited: true, Replaces: []string{"two"}}
	tree := fixedRules(valued("k", "", 10), valued("k", "a*", 12), shared, valued("p*", "", 7), valued("pq", "x*", 8), valued("*q", "y", 9), first, second, free)
	return []timeline{
		{name: "rules and overrides count the same descriptor together", spec: tree, steps: []step{
			{"0s", "each k=b 3", "allowed | 3/10 reset=1m"},
			{"0s", "each k=b 1 max=4/1m", "allowed | 4/4 reset=1m"},
			{"0s", "each k=b 1 max=9/1h", "allowed | 1/9 reset=1h"},
			{"0s", "each k=b 1", "allowed | 5/10 reset=1m"},
			{"0s", "each k=s1 5, k=s2 5, k=s* 1", "allowed | 5/13 reset=1m | 10/13 reset=1m | 11/13 reset=1m"},
			{"0s", "each k=a1 5, k=a* 5", "allowed | 5/12 reset=1m | 5/12 reset=1m"},
		}},
		{name: "patterns of keys take their turn among those of values", spec: tree, steps: []step{
			{"0s", "each pq=xyz 1", "allowed | 1/7 reset=1m"},
			{"0s", "each pq=x* 1", "allowed | 1/8 reset=1m"},
			{"0s", "each p=1 1, pp=1 1, p*=1 1", "allowed | 1/7 reset=1m | 1/7 reset=1m | 1/7 reset=1m"},
			{"0s", "each oq=y 1, oq=yy 1, *q=y 1", "allowed | 1/9 reset=1m | 1/9 reset=1m"},
			{"0s", "each o=q_y 1", "allowed | 1/9 reset=1m"},
		}},
		{name: "what is replaced is not charged", spec: tree, steps: []step{
			{"0s", "each n=1 1", "allowed | 1/5 reset=1m"},
			{"0s", "each n=1 1, n=2 1", "allowed | 1/6 reset=1m"},
			{"0s", "ask n=2 1, n=1 1", "allowed | 2/6 reset=1m"},
			{"0s", "ask n=2 1, n=1 1, free=x 1, k=b 1", "allowed | 1/10 reset=1m"},
			{"0s", "ask n=1 1, n=2 1 max=3/1m", "allowed | 2/5 reset=1m | 3/3 reset=1m"},
		}},
	}
}
