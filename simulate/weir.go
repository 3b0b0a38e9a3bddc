package simulate

import (
	"encoding/binary"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/weir-project/weir/limiter"
)

// weir is the core of package limiter, driven as a server drives it.
type weir struct {
	s      *simulation
	plan   *limiter.Plan
	l      *limiter.Limiter
	ids    chance
	wish   limiter.Ask
	answer limiter.Decision
	held   map[limiter.Ticket]*call
	wakeAt limiter.Instant // when a look at what is due is planned; 0 if none is
	paces  []limiter.PaceView
	looked limiter.Instant // when paces were
}

func newWeir(s *simulation) *weir {
	plan, err := limiter.Compile(limiter.Spec{Quotas: []limiter.QuotaSpec{quotaOf(s)}}, nil)
	if err != nil {
		s.fault = err
		return &weir{s: s}
	}
	w := &weir{s: s, plan: plan, ids: newChance(s.sc.Seed, 5)}
	w.reset()
	return w
}

// quotaOf is the quota that weir is configured with.
func quotaOf(s *simulation) limiter.QuotaSpec {
	q := limiter.QuotaSpec{
		Name: "upstream", Learn: true, ReservesMaxTokens: s.sc.Upstream.ReservesMaxTokens,
		Tenants: map[string]limiter.TenantSpec{},
	}
	if s.sc.Told.Hint {
		q.Mode = limiter.HintLimits
	}
	for m, v := range s.told() {
		if !s.sc.Told.Unknown {
			q.Limits = append(q.Limits, limiter.LimitSpec{
				Meter: limiter.Meter(m), Amount: uint64(math.Round(v)), Window: time.Minute,
			})
		}
	}
	for _, t := range s.sc.Workload.Tenants {
		q.Tenants[t.Name] = limiter.TenantSpec{Weight: t.Weight}
	}
	return q
}

// manyHeld is more than wait in any scenario.
const manyHeld = 1 << 20

func (w *weir) reset() {
	w.l = limiter.New(limiter.Options{Shards: 1, Seed: w.s.sc.Seed, MaxHeld: manyHeld, MaxHeldPerTenant: manyHeld})
	w.held = map[limiter.Ticket]*call{}
}

// restart starts anew. Held callers lose their connections, and ask again within a
// second.
func (w *weir) restart() {
	old := w.held
	w.reset()
	for _, t := range slices.Sorted(maps.Keys(old)) {
		c := old[t]
		w.s.after(time.Duration(w.s.luck.uniform()*float64(time.Second)), func() { w.s.ask(c) })
	}
}

func (w *weir) ask(c *call) {
	a := &w.wish
	a.Reset()
	binary.LittleEndian.PutUint64(a.ID[:8], w.ids.Uint64())
	binary.LittleEndian.PutUint64(a.ID[8:], w.ids.Uint64())
	a.Tenant, a.Open, a.Retry, a.Turn = w.s.sc.Workload.Tenants[c.tenant].Name, true, c.retry, c.turn
	a.TTL, a.Trusted = limiter.MaxTTL, !w.s.sc.Tenants
	if c.deadline != limiter.Never {
		a.Deadline = c.deadline
	}
	if w.s.sc.Mode == Queue {
		a.HoldUntil = min(c.deadline, w.s.now.Add(longestHold))
	}
	w.plan.MatchAttributes(a, "", -1, []limiter.Entry{{Key: "org", Value: "acme"}}, limiter.Estimate{
		InputTokens: uint64(c.estimate), HasInput: true, MaxTokens: uint64(c.max), HasMax: true,
	})
	w.l.Route(a)
	w.l.Decide(w.s.now, a, &w.answer)
	w.tell(c, &w.answer)
	w.settle()
}

// longestHold is how long a caller without a deadline is held at most.
const longestHold = 10 * time.Minute

// tell passes a decision on to the caller.
func (w *weir) tell(c *call, d *limiter.Decision) {
	c.turn = d.Turn
	switch d.Verdict {
	case limiter.Allowed:
		c.id = d.ID
		w.s.grant(c, d.Delay)
	case limiter.Held:
		w.held[d.Ticket] = c
	case limiter.Denied:
		w.denied(c, d)
	default:
		w.s.refuse(c)
	}
}

// denied lets a caller come back when it was told to, if that is before its deadline,
// unless it was held.
func (w *weir) denied(c *call, d *limiter.Decision) {
	if c.deadline != limiter.Never && w.s.sc.Mode == Queue {
		w.s.refuse(c)
		return
	}
	w.s.refer(c, d.RetryAt)
}

func (w *weir) arrived(*call) {}

func (w *weir) begun(c *call) {
	w.l.Report(w.s.now, c.id, "", limiter.Outcome{
		Progress: true, HasInput: true, Usage: limiter.Usage{InputTokens: uint64(c.input)}, Headers: c.headers, Sent: c.sent,
		Trusted: !w.s.sc.Tenants,
	})
	w.settle()
}

func (w *weir) report(c *call, r *reply) {
	o := limiter.Outcome{
		Class: r.class, Named: r.named, HasNamed: r.hasNamed, RetryAfter: r.retryAfter, Headers: r.headers, Sent: c.sent,
		Trusted: !w.s.sc.Tenants,
	}
	if r.class == limiter.ClassOK {
		o.Usage = limiter.Usage{Requests: 1, InputTokens: uint64(c.input), OutputTokens: uint64(c.output)}
		o.HasInput, o.HasOutput, o.Learn = true, true, true
	} else {
		o.RefundRequests, o.RefundInput, o.RefundOutput = !w.s.sc.Upstream.ChargesRefused, true, true
	}
	w.l.Report(w.s.now, c.id, "", o)
	w.settle()
}

func (w *weir) retry(c *call, r *reply) (time.Duration, bool) {
	if r.class == limiter.ClassOverload {
		return backoff(w.s.luck, c.refused-1, r.retryAfter), true
	}
	return 0, true
}

// mostTurns bounds how often the limiter may want to be called at one instant.
const mostTurns = 100_000

// settle does what is due, and plans the next look.
func (w *weir) settle() {
	for range mostTurns {
		at, set := w.l.Next(0)
		if at > w.s.now {
			w.ready()
			w.wake(at)
			return
		}
		w.l.Advance(w.s.now, 0, set)
	}
	w.s.fault = errRestless
}

func (w *weir) ready() {
	for _, e := range w.l.Ready(0) {
		if c := w.held[e.Ticket]; c != nil && e.Ticket != 0 {
			delete(w.held, e.Ticket)
			w.tell(c, &e.Decision)
		}
	}
}

func (w *weir) wake(at limiter.Instant) {
	if at == limiter.Never || (w.wakeAt > w.s.now && w.wakeAt <= at) {
		return
	}
	w.wakeAt = at
	w.s.agenda.plan(at, func() {
		if w.wakeAt == at {
			w.wakeAt = 0
			w.settle()
		}
	})
}

func (w *weir) learned(m limiter.Meter) float64 {
	if w.looked != w.s.now || w.paces == nil {
		w.looked, w.paces = w.s.now, nil
		if q := w.l.Quotas(w.s.now, 0); len(q) > 0 {
			w.paces = q[0].Paces
		}
	}
	for _, p := range w.paces {
		if p.Meter == m {
			return p.Rate
		}
	}
	return 0
}
