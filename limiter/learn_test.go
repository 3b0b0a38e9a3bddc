package limiter

import (
	"container/heap"
	"math/rand/v2"
	"testing"
	"time"
)

// bucket is an upstream's own limit of requests.
type bucket struct {
	rate, capacity, level float64 // per second, units, units
	at                    Instant
}

// take reports whether one unit is there, and else the whole seconds until it is.
func (b *bucket) take(now Instant) (bool, time.Duration) {
	b.level = min(b.capacity, b.level+b.rate*now.Sub(b.at).Seconds())
	b.at = now
	if b.level >= 1 {
		b.level--
		return true, 0
	}
	s := time.Duration((1-b.level)/b.rate) + 1
	return false, s * time.Second
}

// world is a loop of askers around an upstream: each asks, is held or comes back by its
// appointment, sends, reports, and asks anew.
type world struct {
	t        testing.TB
	l        *Limiter
	p        *Plan
	up       *bucket
	rng      *rand.Rand
	due      steps
	ids      uint64
	waiting  map[Ticket]*worker
	held     bool // whether askers can wait
	accepted map[string]int
	refused  int
	asked    int
}

type worker struct {
	tenant string
	turn   Turn
	retry  bool
	id     ID
}

// step is something that happens at an instant.
type step struct {
	at   Instant
	n    uint64
	what func(now Instant)
}

type steps []step

func (s steps) Len() int { return len(s) }
func (s steps) Less(i, j int) bool {
	return s[i].at < s[j].at || (s[i].at == s[j].at && s[i].n < s[j].n)
}
func (s steps) Swap(i, j int) { s[i], s[j] = s[j], s[i] }
func (s *steps) Push(x any)   { *s = append(*s, x.(step)) }
func (s *steps) Pop() any {
	old := *s
	x := old[len(old)-1]
	*s = old[:len(old)-1]
	return x
}

func newWorld(t testing.TB, q QuotaSpec, up *bucket, held bool) *world {
	t.Helper()
	p, err := Compile(Spec{Quotas: []QuotaSpec{q}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return &world{
		t: t, l: New(Options{}), p: p, up: up, rng: rand.New(rand.NewPCG(1, 2)), held: held,
		waiting: map[Ticket]*worker{}, accepted: map[string]int{},
	}
}

func (w *world) after(now Instant, d time.Duration, what func(now Instant)) {
	w.ids++
	heap.Push(&w.due, step{now.Add(d), w.ids, what})
}

func (w *world) hop() time.Duration { return time.Duration(20+w.rng.IntN(60)) * time.Millisecond }

func (w *world) ask(now Instant, k *worker) {
	w.asked++
	a := &Ask{Open: true, Tenant: k.tenant, Turn: k.turn, Retry: k.retry}
	if w.held {
		a.HoldUntil = now.Add(time.Hour)
	}
	w.ids++
	for i := range 8 {
		a.ID[8+i] = byte(w.ids >> (8 * i))
	}
	one := Estimate{Requests: 1, InputTokens: 1, HasInput: true, MaxTokens: 1, HasMax: true, Exact: true}
	w.p.MatchAttributes(a, "", -1, []Entry{{"org", "acme"}}, one)
	d := decide(w.l, now, a)
	k.turn = d.Turn
	switch d.Verdict {
	case Allowed:
		w.send(now, k, d)
	case Held:
		w.waiting[d.Ticket] = k
	case Denied:
		w.after(now, d.RetryAt.Sub(now), func(now Instant) { w.ask(now, k) })
	case Infeasible, Overloaded, Reroute:
		w.t.Fatalf("answered %s", d.Verdict)
	}
}

func (w *world) send(now Instant, k *worker, d Decision) {
	k.id = d.ID
	w.after(now, d.Delay+w.hop(), func(now Instant) {
		ok, after := w.up.take(now)
		w.after(now, w.hop(), func(now Instant) {
			o := Outcome{Class: ClassOK, Usage: Usage{InputTokens: 1, OutputTokens: 1}, HasInput: true, HasOutput: true}
			if ok {
				w.accepted[k.tenant]++
			} else {
				w.refused++
				o = Outcome{Class: ClassQuota, RetryAfter: after, RefundRequests: true, RefundInput: true, RefundOutput: true}
			}
			w.l.Report(now, k.id, "", o)
			k.turn, k.retry = 0, !ok
			w.ask(now, k)
		})
	})
}

// run lets time pass until end.
func (w *world) run(end Instant) {
	for {
		at, set := w.l.Next(0)
		if len(w.due) > 0 && w.due[0].at < at {
			s := heap.Pop(&w.due).(step)
			if s.at >= end {
				return
			}
			s.what(s.at)
			continue
		}
		if at >= end {
			return
		}
		w.l.Advance(at, 0, set)
		for _, e := range w.l.Ready(0) {
			if k := w.waiting[e.Ticket]; k != nil {
				delete(w.waiting, e.Ticket)
				if e.Decision.Verdict != Allowed {
					w.t.Fatalf("a held ask was %s", e.Decision.Verdict)
				}
				w.send(at, k, e.Decision)
			}
		}
	}
}

func (w *world) total() (n int) {
	for _, a := range w.accepted {
		n += a
	}
	return n
}

func known(perMinute uint64) QuotaSpec {
	return QuotaSpec{Name: "q", Learn: true, Limits: []LimitSpec{{Meter: Requests, Amount: perMinute, Window: time.Minute}}}
}

func unknown() QuotaSpec { return QuotaSpec{Name: "q", Learn: true, Mode: HintLimits} }

// Each upstream refuses what it cannot take and says nothing else. Nearly all that it
// would take is used, nearly nothing is refused, by callers that wait and by callers
// that come back.
func TestLearnsWhatTheUpstreamAccepts(t *testing.T) {
	for _, c := range []struct {
		name    string
		quota   QuotaSpec
		up      bucket // 10 a second
		minutes int
		util    float64 // at least this share of what it could have taken
		refused float64 // at most this share of what was sent
	}{
		{"a minute's limit, known", known(600), bucket{capacity: 600}, 20, 0.98, 0.001},
		{"a minute's limit enforced a second at a time", known(600), bucket{capacity: 10}, 20, 0.98, 0.003},
		{"half of what was configured", known(1200), bucket{capacity: 600}, 20, 0.95, 0.008},
		{"nothing configured", unknown(), bucket{capacity: 600}, 20, 0.93, 0.01},
	} {
		for _, held := range []bool{true, false} {
			name := c.name + ", callers come back"
			if held {
				name = c.name + ", callers wait"
			}
			t.Run(name, func(t *testing.T) {
				up := c.up
				up.rate, up.level, up.at = 10, up.capacity, t0
				w := newWorld(t, c.quota, &up, held)
				for i := range 60 {
					k := &worker{tenant: "t"}
					w.after(t0, time.Duration(i)*time.Millisecond, func(now Instant) { w.ask(now, k) })
				}
				end := at(time.Duration(c.minutes) * time.Minute)
				w.run(end)
				could := 10*60*float64(c.minutes) + up.capacity
				util := float64(w.total()) / could
				refused := float64(w.refused) / float64(w.total()+w.refused)
				t.Logf("util %.2f %%, refused %.2f %%, %.1f asks a call; %+v", 100*util, 100*refused,
					float64(w.asked)/float64(w.total()), w.l.Quotas(end, 0)[0].Paces[0])
				if util < c.util || refused > c.refused {
					t.Errorf("util %.4f, want %.4f; refused %.4f, want at most %.4f", util, c.util, refused, c.refused)
				}
			})
		}
	}
}

// Tenants share what is scarce by their weights, however much each asks for.
func TestSharesByWeight(t *testing.T) {
	for _, held := range []bool{true, false} {
		q := known(600)
		q.Tenants = map[string]TenantSpec{"b": {Weight: 2}, "c": {Weight: 4}}
		up := &bucket{rate: 10, capacity: 600, level: 600, at: t0}
		w := newWorld(t, q, up, held)
		for tenant, n := range map[string]int{"a": 60, "b": 30, "c": 30} {
			for i := range n {
				k := &worker{tenant: tenant}
				w.after(t0, time.Duration(i)*time.Millisecond, func(now Instant) { w.ask(now, k) })
			}
		}
		w.run(at(10 * time.Minute))
		total := float64(w.total())
		for tenant, share := range map[string]float64{"a": 1.0 / 7, "b": 2.0 / 7, "c": 4.0 / 7} {
			if got := float64(w.accepted[tenant]) / total; got < 0.93*share || got > 1.07*share {
				t.Errorf("held %v: %s has %.3f of the quota, want %.3f", held, tenant, got, share)
			}
		}
	}
}
