package limiter

import (
	"math"
	"testing"
	"time"
)

// What an upstream accepts is found within minutes; after a restart it need not be
// found again.
func TestLearningSurvivesARestart(t *testing.T) {
	up := &bucket{rate: 10, capacity: 600, level: 600, at: t0}
	w := newWorld(t, unknown(), up, true)
	for i := range 60 {
		k := &worker{tenant: "t"}
		w.after(t0, time.Duration(i)*time.Millisecond, func(now Instant) { w.ask(now, k) })
	}
	w.run(at(20 * time.Minute))
	now := at(20 * time.Minute)
	kept := w.l.Learned(now, 0)
	if len(kept) != 1 || kept[0].Paces[0].Startup || len(kept[0].Tenants) != 1 {
		t.Fatalf("kept %+v", kept)
	}
	fresh := New(Options{Shards: 8, Seed: 3})
	set, ok := fresh.RouteLearned(w.p, &kept[0])
	if !ok || !fresh.Restore(now, w.p, &kept[0]) {
		t.Fatal("not restored")
	}
	v := fresh.Quotas(now, set.First())[0].Paces[0]
	if v.Startup || v.Rate < 0.9*600 || v.Rate > 1.1*600 {
		t.Fatalf("restored %+v", v)
	}
	if again := fresh.Learned(now, set.First()); again[0].Paces[0].Burst != kept[0].Paces[0].Burst {
		t.Fatalf("the burst was %v, is %v", kept[0].Paces[0].Burst, again[0].Paces[0].Burst)
	}
}

func TestRestoreLeavesOutWhatCannotBe(t *testing.T) {
	w := newWorld(t, known(600), nil, true)
	for _, s := range []Learned{
		{Quota: "other", Attributes: []Entry{{"org", "acme"}}},
		{Quota: "q"},
		{Quota: "q", Attributes: []Entry{{"model", "x"}}},
	} {
		if _, ok := w.l.RouteLearned(w.p, &s); ok || w.l.Restore(t0, w.p, &s) {
			t.Errorf("%+v was taken in", s)
		}
	}
	good := LearnedPace{Rate: 300, Target: 600, Burst: 2, Top: 54, Probe: 60}
	for _, bad := range []func(*LearnedPace){
		func(p *LearnedPace) { p.Rate = math.NaN() },
		func(p *LearnedPace) { p.Rate = -1 },
		func(p *LearnedPace) { p.Target = math.Inf(1) },
		func(p *LearnedPace) { p.Burst = 1e9 },
		func(p *LearnedPace) { p.Top = 0 },
		func(p *LearnedPace) { p.Probe = math.Inf(1) },
	} {
		p := good
		bad(&p)
		l := New(Options{})
		l.Restore(t0, w.p, &Learned{Quota: "q", Attributes: []Entry{{"org", "a"}}, Paces: []LearnedPace{p, p, p}})
		if v := l.Quotas(t0, 0)[0].Paces[0]; v.Rate != 600 || v.Burst != firstBurst {
			t.Errorf("%+v made it %+v", p, v)
		}
	}
	l := New(Options{})
	l.Restore(t0, w.p, &Learned{
		Quota: "q", Attributes: []Entry{{"org", "a"}},
		Paces:   []LearnedPace{{Rate: 9000, Target: 9000, Burst: 2, Top: 54, Probe: 60, Gate: Never}, good, good},
		Tenants: []LearnedTenant{{Name: "t", Actual: math.NaN()}},
	})
	v := l.Quotas(t0, 0)[0].Paces[0]
	if v.Rate > 600 {
		t.Errorf("above what is configured: %+v", v)
	}
	if v.GateUntil > t0.Add(time.Minute) {
		t.Errorf("closed for ever: %+v", v)
	}
}
