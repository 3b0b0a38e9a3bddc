package limitertest

import (
	"testing"
	"time"

	"github.com/weir-project/weir/limiter"
)

// Run is the suite that every store passes. How many random histories each property
// tries is set by -rapid.checks.
func Run(t *testing.T, factory Factory) {
	for _, group := range []struct {
		name      string
		timelines []timeline
	}{
		{"Windows", windows()},
		{"Fixed", fixedWindows()},
		{"Budgets", budgets()},
		{"Amounts", amounts()},
		{"Reservations", holds()},
		{"Matching", matches()},
		{"Overflow", append(overflows(), bounds()...)},
	} {
		t.Run("Timelines/"+group.name, func(t *testing.T) {
			for _, tl := range group.timelines {
				t.Run(tl.name, func(t *testing.T) { run(t, factory, tl) })
			}
		})
	}
	for _, p := range []struct {
		name  string
		check func(*testing.T, Factory)
	}{
		{"Held", Held},
		{"Differential", Differential},
		{"I1 never more than the limit", NeverMoreThanTheLimit},
		{"I2 a denial changes nothing", DenialChangesNothing},
		{"I3 one ending each", OneEndingEach},
		{"I9 keys never collide", KeysNeverCollide},
		{"I13 retry is honest", RetryIsHonest},
		{"I15 same seed, same log", SameSeedSameLog},
	} {
		t.Run(p.name, func(t *testing.T) { p.check(t, factory) })
	}
}

// rule is a rule on a key, with limits of requests.
func rule(key string, limits ...limiter.LimitSpec) limiter.RuleSpec {
	return limiter.RuleSpec{Key: key, Limits: limits}
}

// per is a limit of requests.
func per(amount uint64, window time.Duration) limiter.LimitSpec {
	return limiter.LimitSpec{Meter: limiter.Requests, Amount: amount, Window: window}
}

// meter is a limit of some other meter.
func meter(m limiter.Meter, amount uint64, window time.Duration) limiter.LimitSpec {
	return limiter.LimitSpec{Meter: m, Amount: amount, Window: window}
}

// rules is a spec with one domain "d".
func rules(rules ...limiter.RuleSpec) limiter.Spec {
	return limiter.Spec{Domains: []limiter.DomainSpec{{Name: "d", Rules: rules}}}
}

// quotas is a spec with quotas alone.
func quotas(quotas ...limiter.QuotaSpec) limiter.Spec { return limiter.Spec{Quotas: quotas} }

const day = 24 * time.Hour
