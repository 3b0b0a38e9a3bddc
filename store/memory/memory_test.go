package memory

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weir-project/weir/limiter"
)

func plan(t *testing.T) *limiter.Plan {
	t.Helper()
	p, err := limiter.Compile(limiter.Spec{
		Quotas: []limiter.QuotaSpec{{
			Name:   "opus",
			Limits: []limiter.LimitSpec{{Meter: limiter.Requests, Amount: 10, Window: time.Minute}},
		}},
		Domains: []limiter.DomainSpec{{Name: "edge", Rules: []limiter.RuleSpec{
			{Key: "user", Limits: []limiter.LimitSpec{{Meter: limiter.Requests, Amount: 100, Window: time.Hour}}},
			{Key: "path", Limits: []limiter.LimitSpec{{Meter: limiter.Requests, Amount: 150, Window: time.Hour}}},
		}}},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func quotaAsk(p *limiter.Plan, id byte, hold time.Duration) *limiter.Ask {
	a := &limiter.Ask{Open: true, ID: limiter.ID{0, id}, Tenant: "chat"}
	p.MatchAttributes(a, "", -1, []limiter.Entry{{Key: "org", Value: "acme"}}, limiter.Estimate{})
	if hold > 0 {
		a.HoldUntil = limiter.InstantOf(time.Now()).Add(hold)
	}
	return a
}

func now() limiter.Instant { return limiter.InstantOf(time.Now()) }

// Many goroutines over two limits that lie in different shards: exactly the tighter
// one is used up, and nothing is charged for the refused.
func TestAllOrNothingUnderContention(t *testing.T) {
	p := plan(t)
	s := New(limiter.Options{})
	defer s.Close()
	at := now()
	var allowed atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			var d limiter.Decision
			for range 50 {
				a := &limiter.Ask{}
				p.MatchDescriptor(a, "edge", 0, []limiter.Entry{{Key: "path", Value: "/v1"}}, limiter.Hits{Amount: 1})
				p.MatchDescriptor(a, "edge", 1, []limiter.Entry{{Key: "user", Value: "ann"}}, limiter.Hits{Amount: 1})
				if err := s.Decide(context.Background(), at, a, &d); err != nil {
					t.Error(err)
				}
				if d.Verdict == limiter.Allowed {
					allowed.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if allowed.Load() != 100 {
		t.Fatalf("allowed %d, want 100", allowed.Load())
	}
	a := &limiter.Ask{DryRun: true}
	p.MatchDescriptor(a, "edge", 0, []limiter.Entry{{Key: "path", Value: "/v1"}}, limiter.Hits{})
	var d limiter.Decision
	_ = s.Decide(context.Background(), at, a, &d)
	if d.Checks[0].Used != 100 {
		t.Fatalf("the wider limit says %d used, want 100: refused asks were charged", d.Checks[0].Used)
	}
}

func TestHeldUntilThereIsRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := plan(t)
		s := New(limiter.Options{})
		defer s.Close()
		var d limiter.Decision
		var first limiter.ID
		for i := range 10 {
			if _ = s.Decide(t.Context(), now(), quotaAsk(p, byte(i+1), 0), &d); d.Verdict != limiter.Allowed {
				t.Fatal("the quota is not what it says")
			}
			first = d.ID
		}
		start := time.Now()
		// Cannot be held long enough: told at once.
		if _ = s.Decide(t.Context(), now(), quotaAsk(p, 20, 10*time.Second), &d); d.Verdict != limiter.Denied || time.Since(start) != 0 {
			t.Fatalf("got %s after %s", d.Verdict, time.Since(start))
		}
		// Held until the window has passed.
		go func() {
			time.Sleep(20 * time.Second)
			if r, _ := s.Release(context.Background(), now(), limiter.Ref{ID: first}, "chat"); !r.Applied {
				t.Error("release did not apply")
			}
		}()
		_ = s.Decide(t.Context(), now(), quotaAsk(p, 21, 2*time.Minute), &d)
		if d.Verdict != limiter.Allowed || time.Since(start) != 20*time.Second {
			t.Fatalf("after a release: %s after %s, want allowed after 20s", d.Verdict, time.Since(start))
		}
		_ = s.Decide(t.Context(), now(), quotaAsk(p, 22, 2*time.Minute), &d)
		if el := time.Since(start); d.Verdict != limiter.Allowed || el < 60*time.Second || el > 61*time.Second {
			t.Fatalf("after the window: %s after %s", d.Verdict, el)
		}
	})
}

func TestACallerThatLeavesConsumesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := plan(t)
		s := New(limiter.Options{})
		defer s.Close()
		var d limiter.Decision
		for i := range 10 {
			_ = s.Decide(t.Context(), now(), quotaAsk(p, byte(i+1), 0), &d)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if err := s.Decide(ctx, now(), quotaAsk(p, 30, 2*time.Minute), &d); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("got %v", err)
		}
		st, _ := s.Stats(t.Context())
		if st.Held != 0 || st.Open != 10 {
			t.Fatalf("left behind: %+v", st)
		}
		time.Sleep(2 * time.Minute)
		for i := range 10 {
			if _ = s.Decide(t.Context(), now(), quotaAsk(p, byte(i+40), 0), &d); d.Verdict != limiter.Allowed {
				t.Fatalf("ask %d was %s, %+v: the one that left was charged", i, d.Verdict, d)
			}
		}
		time.Sleep(3 * time.Minute) // all expire by themselves
		if st, _ := s.Stats(t.Context()); st.Open != 0 || st.Expired != 20 {
			t.Fatalf("got %+v", st)
		}
	})
}

// moneyPlan has quotas of 64 models, which one organisation's money pays for.
func moneyPlan(t *testing.T) *limiter.Plan {
	t.Helper()
	p, err := limiter.Compile(limiter.Spec{Quotas: []limiter.QuotaSpec{{
		Name: "q", Provider: "anthropic", Learn: true, Per: []string{"org", "model"},
		Limits: []limiter.LimitSpec{{Meter: limiter.Requests, Amount: 60_000, Window: time.Minute}},
	}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func moneyAsk(p *limiter.Plan, id, model byte) *limiter.Ask {
	a := &limiter.Ask{Open: true, ID: limiter.ID{0, id, model}, Tenant: "chat"}
	p.MatchAttributes(a, "", -1, []limiter.Entry{{Key: "org", Value: "acme"}, {Key: "model", Value: string(rune('A' + model))}}, limiter.Estimate{})
	return a
}

// Of many that ask for as many models at once, one looks whether there is money again; a
// restart, also in between, changes nothing.
func TestOneLooksWhetherThereIsMoney(t *testing.T) {
	p, dir := moneyPlan(t), t.TempDir()
	start := now()
	var later atomic.Int64
	clock := func() limiter.Instant { return start.Add(time.Duration(later.Load())) }
	s := NewWithClock(limiter.Options{}, clock)
	defer func() { s.Close() }()
	var d limiter.Decision
	if err := s.Decide(context.Background(), clock(), moneyAsk(p, 1, 0), &d); err != nil || d.Verdict != limiter.Allowed {
		t.Fatalf("%s %v", d.Verdict, err)
	}
	if _, err := s.Report(context.Background(), clock(), limiter.Ref{ID: d.ID}, "", limiter.Outcome{Class: limiter.ClassSpend, Trusted: true}); err != nil {
		t.Fatal(err)
	}
	ask := func(round byte) int64 {
		var allowed atomic.Int64
		var wg sync.WaitGroup
		for model := range byte(32) {
			wg.Go(func() {
				var d limiter.Decision
				if err := s.Decide(context.Background(), clock(), moneyAsk(p, round, model), &d); err != nil {
					t.Error(err)
				}
				if d.Verdict == limiter.Allowed {
					allowed.Add(1)
				}
			})
		}
		wg.Wait()
		return allowed.Load()
	}
	if n := ask(2); n != 0 {
		t.Fatalf("%d were let in at once", n)
	}
	if err := s.Save(dir); err != nil {
		t.Fatal(err)
	}
	s.Close()
	s = NewWithClock(limiter.Options{}, clock)
	if n, err := s.Load(dir, p); n == 0 || err != nil {
		t.Fatalf("restored %d, %v", n, err)
	}
	later.Store(int64(14 * time.Minute))
	if n := ask(3); n != 0 {
		t.Errorf("%d were let in a minute too soon", n)
	}
	for round := range byte(5) { // nobody says what became of it: the next one looks after a minute
		later.Store(int64(16*time.Minute + time.Duration(round)*time.Minute))
		if n := ask(4 + round); n != 1 {
			t.Errorf("%d looked, want one", n)
		}
	}
}
