package limiter

import (
	"testing"
	"time"
)

// What is known of budgets is the limit's, and outlives a change of the plan; looking and
// charging allocate nothing.
func TestBudgetsOutliveThePlan(t *testing.T) {
	spec := Spec{Domains: []DomainSpec{{Name: "d", Rules: []RuleSpec{
		{Key: "k", Limits: []LimitSpec{{Meter: Requests, Amount: 60, Window: time.Hour}}},
		{Key: "other", Limits: []LimitSpec{{Meter: Requests, Amount: 60, Window: time.Hour}}},
	}}}}
	first, err := Compile(spec, nil)
	if err != nil {
		t.Fatal(err)
	}
	spec.Domains[0].Rules[0].Limits[0].Amount = 50
	second, err := Compile(spec, first)
	if err != nil {
		t.Fatal(err)
	}
	l, now := New(Options{}), Instant(time.Hour)
	var a Ask
	var d Decision
	ask := func(p *Plan, key, value string, hits uint64) Check {
		a.Reset()
		p.MatchDescriptor(&a, "d", 0, []Entry{{key, value}}, Hits{Amount: hits, Stated: true})
		l.Route(&a)
		l.Decide(now, &a, &d)
		return d.Checks[0]
	}
	ask(first, "k", "a", 0)
	if c := ask(first, "k", "b", 61); c.Spent {
		t.Errorf("nobody has spent from it: %+v", c)
	}
	ask(first, "k", "a", 10)
	third, err := Compile(spec, first)
	if err != nil {
		t.Fatal(err)
	}
	if c := ask(second, "k", "c", 61); c.Spent {
		t.Errorf("a plan that was made before: %+v", c)
	}
	if c := ask(third, "k", "c", 61); !c.Spent || c.Used != 61 || d.Verdict != Infeasible {
		t.Errorf("a plan that was made afterwards: %v %+v", d.Verdict, c)
	}
	if c := ask(third, "other", "c", 61); c.Spent {
		t.Errorf("another rule: %+v", c)
	}
	if n := testing.AllocsPerRun(100, func() { ask(third, "k", "a", 0); ask(third, "k", "a", 1); ask(third, "k", "c", 1) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
