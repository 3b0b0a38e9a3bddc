package memory

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weir-project/weir/limiter"
)

// pacedPlan has one quota of 600 requests a minute that is learned.
func pacedPlan(t *testing.T) *limiter.Plan {
	t.Helper()
	p, err := limiter.Compile(limiter.Spec{Quotas: []limiter.QuotaSpec{{
		Name: "opus", Learn: true,
		Limits: []limiter.LimitSpec{{Meter: limiter.Requests, Amount: 600, Window: time.Minute}},
	}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// wish is an ask of one of five organisations, of the tenants of which each may wait.
func wish(p *limiter.Plan, n uint64, org string, hold time.Duration) *limiter.Ask {
	a := &limiter.Ask{Open: true, Tenant: string(rune('a' + n%7)), TTL: limiter.MaxTTL}
	binary.LittleEndian.PutUint64(a.ID[8:], n)
	p.MatchAttributes(a, "", -1, []limiter.Entry{{Key: "org", Value: org}},
		limiter.Estimate{Requests: 1, InputTokens: 1, MaxTokens: 1, Exact: true})
	if hold > 0 {
		a.HoldUntil = now().Add(hold)
	}
	return a
}

// outcome is a report: that a call worked, or that it was refused.
func outcome(class limiter.Class, after time.Duration) limiter.Outcome {
	o := limiter.Outcome{Trusted: true, Class: class, RetryAfter: after, Usage: limiter.Usage{Requests: 1, InputTokens: 1, OutputTokens: 1}}
	o.HasInput, o.HasOutput = class == limiter.ClassOK, class == limiter.ClassOK
	o.RefundRequests, o.RefundInput, o.RefundOutput = !o.HasInput, !o.HasInput, !o.HasInput
	return o
}

// A hundred and fifty callers of five organisations wait, are let in or lose patience at
// any moment, over many shards: each has one answer, whoever left is not charged, and all
// that the quotas grant is used.
func TestACrowdOfCallersWhoLoseTheirPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := pacedPlan(t)
		s := New(limiter.Options{})
		defer s.Close()
		var ids, in, left atomic.Uint64
		ctx, stop := context.WithCancel(t.Context())
		var running sync.WaitGroup
		const orgs, each = 5, 30
		for i := range orgs * each {
			running.Go(func() {
				rng := rand.New(rand.NewPCG(uint64(i), 1))
				var d limiter.Decision
				for ctx.Err() == nil {
					patience, enough := context.WithTimeout(ctx, time.Duration(1+rng.IntN(8000))*time.Millisecond)
					err := s.Decide(patience, now(), wish(p, ids.Add(1), string(rune('v'+i%orgs)), time.Minute), &d)
					enough()
					switch {
					case err != nil:
						left.Add(1)
						continue
					case d.Verdict != limiter.Allowed:
						t.Errorf("%s", d.Verdict)
						return
					}
					in.Add(1)
					time.Sleep(time.Duration(50+rng.IntN(100)) * time.Millisecond)
					if r, _ := s.Report(ctx, now(), limiter.Ref{ID: d.ID}, "", outcome(limiter.ClassOK, 0)); !r.Applied {
						t.Errorf("a report ended as %s", r.Ending)
					}
				}
			})
		}
		time.Sleep(3 * time.Minute)
		in.Store(0)
		time.Sleep(2 * time.Minute)
		got := in.Load()
		stop()
		running.Wait()
		synctest.Wait()
		if want := uint64(orgs * 600 * 2); got < want*97/100 || got > want*103/100 {
			t.Errorf("%d were let in in two minutes, want %d", got, want)
		}
		if left.Load() < 100 {
			t.Errorf("%d lost their patience: too few to mean anything", left.Load())
		}
		if st, _ := s.Stats(t.Context()); st.Held != 0 || st.Open != 0 {
			t.Errorf("left behind: %+v", st)
		}
		// What was owed drains, and those who left owe nothing.
		time.Sleep(time.Minute)
		quotas, _ := s.Quotas(t.Context(), now())
		if len(quotas) != orgs {
			t.Fatalf("%d quotas, want %d", len(quotas), orgs)
		}
		for _, q := range quotas {
			if q.Held != 0 || q.Open != 0 || q.Paces[0].Backlog != 0 {
				t.Errorf("%v: %d held, %d open, %v owed", q.Attributes, q.Held, q.Open, q.Paces[0].Backlog)
			}
		}
	})
}

// A refusal is told to those who wait already: nobody goes before the upstream said, and
// the timers then let them in one by one.
func TestThoseWhoWaitKeepToARefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := pacedPlan(t)
		s := New(limiter.Options{})
		defer s.Close()
		start := time.Now()
		var d limiter.Decision
		var last limiter.ID
		for i := range 10 {
			if _ = s.Decide(t.Context(), now(), wish(p, uint64(i+1), "acme", 0), &d); d.Verdict != limiter.Allowed {
				t.Fatal(d.Verdict)
			}
			last = d.ID
		}
		var mu sync.Mutex
		var waited []time.Duration
		var running sync.WaitGroup
		for i := range 40 {
			running.Go(func() {
				var d limiter.Decision
				if err := s.Decide(t.Context(), now(), wish(p, uint64(100+i), "acme", time.Minute), &d); err != nil || d.Verdict != limiter.Allowed {
					t.Errorf("%s, %v", d.Verdict, err)
				}
				mu.Lock()
				defer mu.Unlock()
				waited = append(waited, time.Since(start))
			})
		}
		synctest.Wait()
		if r, _ := s.Report(t.Context(), now(), limiter.Ref{ID: last}, "", outcome(limiter.ClassQuota, 5*time.Second)); !r.Applied {
			t.Fatal("the refusal was not taken")
		}
		running.Wait()
		early, first := 0, 0
		for _, w := range waited {
			switch {
			case w < 5*time.Second:
				early++
			case w < 6*time.Second:
				first++
			}
		}
		if early > 0 || first < 9 || first > 11 {
			t.Errorf("%d of %d went before the gate, %d in the second after it: %v", early, len(waited), first, waited)
		}
	})
}
