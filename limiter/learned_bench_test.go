package limiter

import (
	"encoding/binary"
	"fmt"
	"runtime"
	"testing"
	"time"
)

// The benchmarks of learned quotas: what one call costs from its attributes to its
// decision, and from its outcome to the end of its report, with three paces.

// learnedBench asks one learned quota, or one of many, for many tenants.
type learnedBench struct {
	t       testing.TB
	p       *Plan
	l       *Limiter
	now     Instant
	a       Ask
	d       Decision
	ids     uint64
	attrs   []Entry
	tenants []string
}

// newLearnedBench has a quota for each org; perMinute calls a minute of 1,000 tokens in
// and 300 out are what it is limited to.
func newLearnedBench(t testing.TB, perMinute uint64, tenants int) *learnedBench {
	t.Helper()
	p, err := Compile(Spec{Quotas: []QuotaSpec{{
		Name: "lab", Learn: true, Per: []string{"org"}, Match: []AttributePattern{{Key: "model", Pattern: "claude-lab-*"}},
		Limits: []LimitSpec{
			{Meter: Requests, Amount: perMinute, Window: time.Minute},
			{Meter: InputTokens, Amount: 1000 * perMinute, Window: time.Minute},
			{Meter: OutputTokens, Amount: 1000 * perMinute, Window: time.Minute},
		},
	}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	b := &learnedBench{
		t: t, p: p, now: t0, attrs: []Entry{{"org", "acme"}, {"model", "claude-lab-1"}},
		l: New(Options{Seed: 7, MaxHeld: 10_000, MaxHeldPerTenant: 10_000, MaxKeys: 100_000}),
	}
	for i := range tenants {
		b.tenants = append(b.tenants, fmt.Sprintf("tenant-%02d", i))
	}
	return b
}

// ask decides for the i-th tenant. Who waits does so for hold; turn is a kept place.
func (b *learnedBench) ask(i int, hold time.Duration, turn Turn) {
	a := &b.a
	a.Reset()
	b.ids++
	binary.LittleEndian.PutUint64(a.ID[8:], b.ids)
	a.Tenant, a.Open, a.Turn = b.tenants[i%len(b.tenants)], true, turn
	if hold > 0 {
		a.HoldUntil = b.now.Add(hold)
	}
	b.p.MatchAttributes(a, "llm", -1, b.attrs, Estimate{InputTokens: 1000, HasInput: true, MaxTokens: 300, HasMax: true})
	b.l.Route(a)
	b.l.Decide(b.now, a, &b.d)
}

func (b *learnedBench) report() {
	if b.d.Verdict != Allowed {
		b.t.Fatalf("got %s, want allowed", b.d.Verdict)
	}
	o := Outcome{
		Class: ClassOK, Usage: Usage{InputTokens: 1000, OutputTokens: 300},
		HasInput: true, HasOutput: true, Learn: true, Sent: b.now,
	}
	for m := range o.Headers {
		l := uint64(b.p.quotas[0].limits[m].Amount)
		o.Headers[m] = HeaderState{Limit: l, Remaining: l, HasLimit: true, HasRemaining: true}
	}
	if s := b.l.Report(b.now, b.d.ID, b.a.Tenant, o); !s.Applied {
		b.t.Fatalf("the report was not applied: %+v", s)
	}
}

// call is one call that passes, with its report.
func (b *learnedBench) call(i int) {
	b.ask(i, time.Minute, 0)
	b.report()
}

func BenchmarkLearned(b *testing.B) {
	l := newLearnedBench(b, 1e12, 50)
	b.Run("decide and report", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			l.now += Instant(10 * time.Microsecond)
			l.call(i)
		}
	})
	b.Run("report", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			b.StopTimer()
			l.now += Instant(10 * time.Microsecond)
			l.ask(i, time.Minute, 0)
			b.StartTimer()
			l.report()
		}
	})
}

// queued is a quota that admits nothing for now, and n asks that wait for it.
func queued(t testing.TB, n int) *learnedBench {
	l := newLearnedBench(t, 60, 50)
	for i := 0; l.l.held.Load() < int64(n); i++ {
		l.ask(i, 24*time.Hour, 0)
	}
	return l
}

// BenchmarkLearnedQueue is one more ask that joins the line and leaves it again, and the
// first that is served, with one that takes its place.
func BenchmarkLearnedQueue(b *testing.B) {
	for _, n := range []int{100, 1000, 4000} {
		b.Run(fmt.Sprintf("waiting=%d/push and cancel", n), func(b *testing.B) {
			l := queued(b, n)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				l.ask(i, 24*time.Hour, 0)
				if l.d.Verdict != Held || !l.l.Cancel(l.now, l.d.Ticket) {
					b.Fatalf("got %s, want held, and cancelled", l.d.Verdict)
				}
			}
		})
		b.Run(fmt.Sprintf("waiting=%d/push and pop", n), func(b *testing.B) {
			l := queued(b, n)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				l.ask(i, 24*time.Hour, 0)
				l.serve(n)
			}
		})
	}
}

// serve lets time pass until at most n wait.
func (b *learnedBench) serve(n int) {
	for b.l.held.Load() > int64(n) {
		at, set := b.l.Next(0)
		b.now = max(b.now, at)
		b.l.Advance(b.now, 0, set)
		for _, e := range b.l.Ready(0) {
			if e.Ticket == 0 {
				continue
			}
			if e.Decision.Verdict != Allowed {
				b.t.Fatalf("got %s, want allowed", e.Decision.Verdict)
			}
			b.l.Report(b.now, e.Decision.ID, "", Outcome{Class: ClassOK})
		}
	}
}

// ticket is a kept place, and whose it is.
type ticket struct {
	turn   Turn
	tenant int
}

// tickets is a quota with n kept places, and those places.
func tickets(t testing.TB, n int) (l *learnedBench, kept []ticket) {
	l = newLearnedBench(t, 600, 50)
	for i := 0; len(kept) < n; i++ {
		if l.ask(i, 0, 0); l.d.Turn != 0 {
			kept = append(kept, ticket{l.d.Turn, i})
		} else if i > 2*n+100 {
			t.Fatalf("only %d places are kept", len(kept))
		}
	}
	return l, kept
}

// BenchmarkTickets is a caller that comes back too early and is told again.
func BenchmarkTickets(b *testing.B) {
	for _, n := range []int{100, 1000, 4000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			l, kept := tickets(b, n)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				k := kept[i*7919%n]
				if l.ask(k.tenant, 0, k.turn); l.d.Verdict != Denied {
					b.Fatalf("got %s, want denied", l.d.Verdict)
				}
			}
			if got := l.l.shards[0].order[0].pacer.turns.len(); got != n {
				b.Fatalf("%d places are kept, want %d", got, n)
			}
		})
	}
}

// idleQuotas makes quotas that each tenant called once, one quota after another, some
// hours ago. Only then they are swept, so that the memory for counters in use is that of
// all quotas at their busiest.
func idleQuotas(t testing.TB, quotas, tenants int) *learnedBench {
	l := newLearnedBench(t, 6000, tenants)
	for i := range quotas {
		l.attrs[0].Value = fmt.Sprintf("org-%05d", i)
		for j := range tenants {
			l.now = l.now.Add(time.Second)
			l.call(j)
		}
	}
	l.now = l.now.Add(time.Hour)
	l.l.Advance(l.now, 0, 1)
	for range 4 * quotas {
		l.l.Sweep(l.now, 0, 1)
	}
	return l
}

// BenchmarkIdleQuotas says what each of 10,000 learned quotas takes that nobody asks for
// at the moment.
func BenchmarkIdleQuotas(b *testing.B) {
	for _, tenants := range []int{1, 10} {
		b.Run(fmt.Sprintf("tenants=%d", tenants), func(b *testing.B) {
			const quotas = 10_000
			for b.Loop() {
				before := heapInUse()
				l := idleQuotas(b, quotas, tenants)
				b.ReportMetric(float64(heapInUse()-before)/quotas, "B/quota")
				runtime.KeepAlive(l)
			}
		})
	}
}

// A call that nothing holds up allocates nothing, from its attributes to the end of its
// report.
func TestLearnedCallAllocatesNothing(t *testing.T) {
	l := newLearnedBench(t, 1e12, 50)
	i := 0
	call := func() {
		l.now = l.now.Add(10 * time.Millisecond)
		l.call(i)
		i++
	}
	for range 100_000 { // until what is remembered of calls that ended grows no more
		call()
	}
	if n := testing.AllocsPerRun(1000, call); n > 0 {
		t.Errorf("a call makes %v allocations, want none", n)
	}
}

// A learned quota with ten tenants that nobody asks for takes at most 4 KiB, and there
// is nothing to wake up for.
func TestIdleLearnedQuotaIsSmall(t *testing.T) {
	const quotas = 1000
	before := heapInUse()
	l := idleQuotas(t, quotas, 10)
	if each := (heapInUse() - before) / quotas; each > 4096 {
		t.Errorf("an idle quota takes %d bytes, want at most 4096", each)
	}
	if at, _ := l.l.Next(0); at != Never {
		t.Errorf("something happens at %d, want never", at)
	}
	runtime.KeepAlive(l)
}
