package config

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/weir-project/weir/limiter"
)

// Who works beside calls rests as long as it worked, and who has nobody to wait for does not.
func TestBackgroundRests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rests := func(b *Background) time.Duration {
			began := time.Now()
			b.Rest()
			return time.Since(began)
		}
		var b Background
		for i, step := range []struct{ work, rest time.Duration }{
			{time.Second, 0}, // nothing was done yet, as far as it knows
			{workFor - 1, 0},
			{1, restFor},
			{workFor / 2, 0},
			{workFor / 2, restFor},
			{10 * workFor, restFor},
		} {
			time.Sleep(step.work)
			if got := rests(&b); got != step.rest {
				t.Errorf("step %d: after %v of work it rested for %v, want %v", i, step.work, got, step.rest)
			}
		}
		time.Sleep(time.Second)
		if got := rests(nil); got != 0 {
			t.Errorf("with nothing to answer it rested for %v", got)
		}
	})
}

// What replaces a plan in force is read beside calls; what is read first is not.
func TestOnlyReloadsAreBesideCalls(t *testing.T) {
	text := []byte("domain: d\ndescriptors:\n- key: k\n  rate_limit: {unit: minute, requests_per_unit: 1}\n")
	s := snapshot{files: []source{{path: "f.yaml", data: text}}}
	var prev *Loaded
	for _, want := range []bool{false, true} {
		r := &report{}
		l, err := Options{}.build([]string{"f.yaml"}, s, r, prev)
		if err != nil {
			t.Fatal(err)
		}
		if got := r.beside != nil; got != want {
			t.Errorf("with a plan in force %v: beside calls %v", prev != nil, got)
		}
		prev = l
	}
}

// Whoever compiles a large plan is let rest now and then.
func TestCompilingRests(t *testing.T) {
	d := limiter.DomainSpec{Name: "d"}
	for i := range 1000 {
		d.Rules = append(d.Rules, limiter.RuleSpec{
			Key: "k", Value: string(rune('a' + i)),
			Limits: []limiter.LimitSpec{{Meter: limiter.Requests, Amount: 1, Window: time.Minute}},
		})
	}
	n := 0
	if _, err := limiter.CompileBeside(limiter.Spec{Domains: []limiter.DomainSpec{d}}, nil, func() { n++ }); err != nil {
		t.Fatal(err)
	}
	if n < 10 {
		t.Errorf("%d rests in 1,000 rules, want one in some dozens", n)
	}
}
