package limitertest

import (
	"time"

	"github.com/weir-project/weir/limiter"
)

// matches are timelines about which limits a request concerns.
func matches() []timeline {
	return append(ruleMatches(), quotaMatchesTimelines()...)
}

func ruleMatches() []timeline {
	valued := func(key, value string, amount uint64) limiter.RuleSpec {
		r := rule(key, per(amount, time.Minute))
		r.Value = value
		return r
	}
	shared := valued("k", "s*", 13)
	shared.ShareValues = true
	tree := rules(valued("k", "", 10), valued("k", "a*c", 11), valued("k", "a*", 12), shared, valued("k", "abc", 14))
	nested := rules(limiter.RuleSpec{Key: "k", Value: "x", Limits: []limiter.LimitSpec{per(1, time.Minute)}, Rules: []limiter.RuleSpec{
		valued("j", "", 20), valued("j", "y", 21),
	}}, limiter.RuleSpec{Key: "k", Limits: []limiter.LimitSpec{per(2, time.Minute)}, Rules: []limiter.RuleSpec{valued("i", "", 30)}})
	return []timeline{
		{name: "exact, then patterns in order, then the key alone", spec: tree, steps: []step{
			{"0s", "ask k=abc 1", "allowed | 1/14 reset=1m1s"},
			{"0s", "ask k=abbc 1", "allowed | 1/11 reset=1m1s"},
			{"0s", "ask k=ac 1", "allowed | 1/11 reset=1m1s"},
			{"0s", "ask k=ab 1", "allowed | 1/12 reset=1m1s"},
			{"0s", "ask k=b 1", "allowed | 1/10 reset=1m1s"},
			{"0s", "ask k= 1", "allowed | 1/10 reset=1m1s"},
			{"0s", "ask k=c 1", "allowed | 1/10 reset=1m1s"},
			{"0s", "ask j=b 1", "allowed"},
		}},
		{name: "values of a pattern count by themselves, or together", spec: tree, steps: []step{
			{"0s", "ask k=a1 5", "allowed | 5/12 reset=1m1s"},
			{"0s", "ask k=a2 12", "allowed | 12/12 reset=1m1s"},
			{"0s", "ask k=a1 5", "allowed | 10/12 reset=1m1s"},
			{"0s", "ask k=s1 5", "allowed | 5/13 reset=1m1s"},
			{"0s", "ask k=s2 5", "allowed | 10/13 reset=1m1s"},
			{"0s", "ask k=s3 5, k=a3 5", "denied retry=1m1s | 10/13 reset=1m1s | 0/12"},
		}},
		{name: "a descent never goes back", spec: nested, steps: []step{
			{"0s", "ask k=x 1", "allowed | 1/1 reset=1m1s"},
			{"0s", "ask k=x/j=y 21", "allowed | 21/21 reset=1m1s"},
			{"0s", "ask k=x/j=z 20", "allowed | 20/20 reset=1m1s"},
			{"0s", "ask k=x/i=z 100", "allowed"},
			{"0s", "ask k=y/i=z 30", "allowed | 30/30 reset=1m1s"},
			{"0s", "ask k=y/i=z/h=1 30", "allowed"},
			{"0s", "ask k=z/i=z 30", "allowed | 30/30 reset=1m1s"},
			{"0s", "ask k=y 3", "infeasible retry=never | 0/2"},
		}},
		{name: "the order of entries counts", spec: rules(
			limiter.RuleSpec{Key: "k", Rules: []limiter.RuleSpec{valued("j", "", 5)}},
			limiter.RuleSpec{Key: "j", Rules: []limiter.RuleSpec{valued("k", "", 6)}},
		), align: time.Minute, steps: []step{
			{"0s", "ask k=a/j=b 5", "allowed | 5/5 reset=1m1s"},
			{"0s", "ask j=b/k=a 6", "allowed | 6/6 reset=1m1s"},
			{"0s", "ask k=a 6", "allowed"},
		}},
	}
}

func quotaMatchesTimelines() []timeline {
	named := func(name string, per []string, match ...limiter.AttributePattern) limiter.QuotaSpec {
		return limiter.QuotaSpec{
			Name: name, Per: per, Match: match,
			Limits: []limiter.LimitSpec{meter(limiter.InputTokens, 100, time.Minute)},
		}
	}
	big := limiter.AttributePattern{Key: "model", Pattern: "big-*"}
	rest := named("rest", []string{})
	rest.Except = []limiter.AttributePattern{big}
	reserves := named("one", nil)
	reserves.Limits = []limiter.LimitSpec{meter(limiter.OutputTokens, 10000, time.Minute)}
	reserves.ReservesMaxTokens = true
	expects := reserves
	expects.Name, expects.ReservesMaxTokens = "two", false
	return []timeline{
		{name: "one quota for each org", spec: quotas(named("q", nil)), steps: []step{
			{"0s", "ask org:a in=60", "allowed | 60/100 reset=1m1s"},
			{"0s", "ask org:b in=60", "allowed | 60/100 reset=1m1s"},
			{"0s", "ask model:m in=60", "allowed | 60/100 reset=1m1s"},
			{"0s", "ask model:n in=60", "denied retry=1m1s | 60/100 reset=1m1s"},
			{"0s", "ask model:m+org:a in=40", "allowed | 100/100 reset=1m1s"},
		}},
		{name: "all that match are charged, or none", spec: quotas(
			named("by model", []string{"model"}, big), named("by org", []string{"org"}), named("all", []string{}),
		), steps: []step{
			{"0s", "ask org:a+model:big-1 in=60", "allowed | 60/100 reset=1m1s | 60/100 reset=1m1s | 60/100 reset=1m1s"},
			{"0s", "ask org:b+model:small in=30", "allowed | 30/100 reset=1m1s | 90/100 reset=1m1s"},
			{"0s", "ask org:a+model:big-2 in=30", "denied by=2 retry=1m1s | 0/100 | 60/100 reset=1m1s | 90/100 reset=1m1s"},
			{"0s", "ask org:a+model:big-2 in=10", "allowed | 10/100 reset=1m1s | 70/100 reset=1m1s | 100/100 reset=1m1s"},
		}},
		{name: "one of them takes the rest", spec: quotas(named("big", []string{}, big), rest), steps: []step{
			{"0s", "ask model:big-1 in=60", "allowed | 60/100 reset=1m1s"},
			{"0s", "ask model:huge in=100", "allowed | 100/100 reset=1m1s"},
			{"0s", "ask model:big-2 in=40", "allowed | 100/100 reset=1m1s"},
			{"0s", "ask org:a in=1", "denied retry=1m1s | 100/100 reset=1m1s"},
		}},
		{name: "quotas that reserve differently", spec: quotas(reserves, expects), beyond: true, steps: []step{
			{"0s", "open #1 org:a out=5000 +estimated", "allowed until=2m | 5000/10000 reset=1m1s | 1000/10000 reset=1m1s"},
			{"1s", "report #1", "settled req=1 in=0 out=5000"},
			{"1s", "look org:a out=0", "allowed | 5000/10000 reset=1m1s | 1000/10000 reset=1m1s"},
			{"1s", "open #2 org:a out=5000 +estimated", "allowed until=2m1s | 10000/10000 reset=1m2s | 2000/10000 reset=1m2s"},
			{"2s", "report #2 out=70", "settled req=1 in=0 out=70"},
			{"2s", "look org:a out=0", "allowed | 5070/10000 reset=1m2s | 1070/10000 reset=1m2s"},
		}},
	}
}
