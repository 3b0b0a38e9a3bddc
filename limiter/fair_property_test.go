package limiter

import (
	"encoding/binary"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// Start-time fair queueing bounds how far two tenants that both wait all the time can be
// apart: in any interval, what they were served for each unit of weight differs by no more
// than the largest call of either (Goyal, Vin, Cheng, theorem 1).
func TestServiceIsFairInAnyInterval(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const perSecond = 1000
		q := paced(CapLimits, 1_000_000, 60*perSecond, 0)
		q.Tenants = map[string]TenantSpec{}
		n := rapid.IntRange(2, 4).Draw(t, "tenants")
		weights, largest := map[string]float64{}, map[string]float64{}
		for i := range n {
			name := string(rune('a' + i))
			weights[name] = rapid.Float64Range(0.2, 8).Draw(t, "weight")
			q.Tenants[name] = TenantSpec{Weight: weights[name]}
		}
		c := newCrowd(t, q)
		c.allow(c.now, "filler", 5*perSecond)
		cost := func(tenant string) uint64 {
			v := rapid.Uint64Range(perSecond/4, 3*perSecond).Draw(t, "cost")
			largest[tenant] = max(largest[tenant], float64(v))
			return v
		}
		depth := rapid.IntRange(3, 6).Draw(t, "depth")
		for name := range n {
			for range depth {
				tenant := string(rune('a' + name))
				c.hold(tenant, cost(tenant), Interactive)
			}
		}
		served := map[string]float64{}
		low, high := map[string]float64{}, map[string]float64{}
		for range rapid.IntRange(20, 120).Draw(t, "calls") {
			w := c.next()
			served[w.tenant] += float64(w.amount) / w.weight(weights)
			waited := c.waiting(w.tenant)
			c.hold(w.tenant, cost(w.tenant), Interactive)
			for i, x := range c.tenants(weights) {
				for _, y := range c.tenants(weights)[i+1:] {
					d := served[x] - served[y]
					if !waited && (x == w.tenant || y == w.tenant) { // an interval begins
						low[x+y], high[x+y] = d, d
					}
					low[x+y], high[x+y] = min(low[x+y], d), max(high[x+y], d)
					bound := largest[x]/weights[x] + largest[y]/weights[y]
					if spread := high[x+y] - low[x+y]; spread > bound*(1+1e-9)+1e-6 {
						t.Fatalf("%s and %s were %v apart in some interval, at most %v is fair", x, y, spread, bound)
					}
				}
			}
		}
	})
}

// crowd is a line of many callers, held and let in one by one.
type crowd struct {
	t    *rapid.T
	l    *Limiter
	p    *Plan
	now  Instant
	ids  uint64
	held map[Ticket]*member
	gone map[Ticket]bool // decided or cancelled
	done []*member       // decided and not taken by next
	open []ID
	log  string

	waited *member // whoever was first and would fit
	since  Instant
}

type member struct {
	ticket Ticket
	tenant string
	amount uint64
	d      Decision
}

func (m *member) weight(w map[string]float64) float64 { return w[m.tenant] }

func newCrowd(t *rapid.T, q QuotaSpec) *crowd {
	p, err := Compile(Spec{Quotas: []QuotaSpec{q}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return &crowd{
		t: t, p: p, now: t0, held: map[Ticket]*member{}, gone: map[Ticket]bool{},
		l: New(Options{MaxHeldPerTenant: 1000}),
	}
}

// waiting reports whether anybody of a tenant waits.
func (c *crowd) waiting(tenant string) bool {
	for _, m := range c.held {
		if m.tenant == tenant {
			return true
		}
	}
	return false
}

func (c *crowd) tenants(weights map[string]float64) []string {
	out := make([]string, 0, len(weights))
	for name := range weights {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

func (c *crowd) asking(tenant string, amount uint64, change func(*Ask)) Decision {
	c.ids++
	a := &Ask{Open: true, Tenant: tenant, TTL: MaxTTL}
	binary.LittleEndian.PutUint64(a.ID[8:], c.ids)
	change(a)
	c.p.MatchAttributes(a, "", -1, []Entry{{"org", "acme"}}, Estimate{Requests: 1, InputTokens: amount, Exact: true})
	d := decide(c.l, c.now, a)
	c.log += fmt.Sprintf("%d %s %d: %s\n", c.now.Sub(t0), tenant, amount, d.Verdict)
	return d
}

// allow charges amount whatever room there is.
func (c *crowd) allow(now Instant, tenant string, amount uint64) ID {
	c.now = now
	d := c.asking(tenant, amount, func(a *Ask) { a.Force = true })
	return d.ID
}

// hold asks for a place in the line.
func (c *crowd) hold(tenant string, amount uint64, b Priority) *member {
	d := c.asking(tenant, amount, func(a *Ask) { a.HoldUntil, a.Priority = c.now.Add(24*time.Hour), b })
	m := &member{tenant: tenant, amount: amount, ticket: d.Ticket, d: d}
	switch d.Verdict {
	case Held:
		if c.held[d.Ticket] != nil || c.gone[d.Ticket] {
			c.t.Fatalf("ticket %d was given twice", d.Ticket)
		}
		c.held[d.Ticket] = m
	case Allowed:
		c.letIn(m)
	case Denied, Infeasible, Overloaded, Reroute:
		c.t.Fatalf("%s: %s", tenant, d.Verdict)
	}
	return m
}

func (c *crowd) letIn(m *member) {
	if m.d.Verdict != Allowed {
		c.t.Fatalf("a held ask was %s", m.d.Verdict)
	}
	if g := c.gate(); g > c.now.Add(m.d.Delay) {
		c.t.Fatalf("let in at %s, while all is closed until %s", c.now.Sub(t0), g.Sub(t0))
	}
	c.done = append(c.done, m)
	c.open = append(c.open, m.d.ID)
}

// gate is until when no call may be sent.
func (c *crowd) gate() Instant {
	var g Instant
	for _, q := range c.l.Quotas(c.now, 0) {
		for _, p := range q.Paces {
			g = max(g, p.GateUntil)
		}
	}
	return g
}

// step goes to the next instant at which something is due, but not beyond end.
func (c *crowd) step(end Instant) {
	next, set := c.l.Next(0)
	if len(c.held) > 0 && next > c.now.Add(lookAgain) {
		c.t.Fatalf("at %s somebody waits, and is looked at again only at %s", c.now.Sub(t0), next.Sub(t0))
	}
	if next > end {
		c.now = end
		return
	}
	c.now = max(c.now, next)
	c.l.Advance(c.now, 0, set)
	for _, e := range c.l.Ready(0) {
		if e.Ticket == 0 {
			continue
		}
		m := c.held[e.Ticket]
		if m == nil {
			c.t.Fatalf("ticket %d is decided, and does not wait", e.Ticket)
		}
		delete(c.held, e.Ticket)
		c.gone[e.Ticket] = true
		m.d = e.Decision
		c.letIn(m)
	}
	c.conserves()
}

// conserves checks that whoever is first is not left waiting while it fits.
func (c *crowd) conserves() {
	st := c.l.shards[0].order[0]
	w := st.line.first(c.now)
	if n := st.line.len() + st.parked; n != len(c.held) {
		c.t.Fatalf("%d wait, the line has %d", len(c.held), n)
	}
	if w == nil {
		c.waited = nil
		return
	}
	a := w.ask.clone()
	a.DryRun = true
	m := c.held[w.ticket]
	if d := decide(c.l, c.now, &a); d.Verdict != Allowed || d.Delay > 0 {
		c.waited = nil
	} else if c.waited != m {
		c.waited, c.since = m, c.now
	} else if c.now.Sub(c.since) > lookAgain {
		c.t.Fatalf("at %s the first has fitted for %s, and waits", c.now.Sub(t0), c.now.Sub(c.since))
	}
}

// next lets time pass until somebody is let in, and reports that all went well.
func (c *crowd) next() *member {
	for range 100_000 {
		if len(c.done) > 0 {
			m := c.done[0]
			c.done = c.done[1:]
			o := outcomeOf(ClassOK, used(m.amount, 0))
			c.l.Report(c.now, m.d.ID, "", o)
			return m
		}
		c.step(Never)
	}
	c.t.Fatal("nobody is let in")
	return nil
}

// cancel takes some of those who wait out of the line, in a random order.
func (c *crowd) cancel() {
	for range rapid.IntRange(1, 5).Draw(c.t, "leave") {
		if len(c.held) == 0 {
			return
		}
		tickets := make([]Ticket, 0, len(c.held))
		for ticket := range c.held {
			tickets = append(tickets, ticket)
		}
		slices.Sort(tickets)
		ticket := tickets[rapid.IntRange(0, len(tickets)-1).Draw(c.t, "who")]
		if !c.l.Cancel(c.now, ticket) || c.l.Cancel(c.now, ticket) {
			c.t.Fatalf("ticket %d, which waits, is not cancelled once", ticket)
		}
		delete(c.held, ticket)
		c.gone[ticket] = true
	}
}

// answer reports what became of one of those who were let in.
func (c *crowd) answer() {
	if len(c.open) == 0 {
		return
	}
	i := rapid.IntRange(0, len(c.open)-1).Draw(c.t, "which")
	class := rapid.SampledFrom([]Class{
		ClassOK, ClassOK, ClassOK, ClassOK, ClassOK, ClassQuota, ClassOverload, ClassConcurrency, ClassSpend, ClassUnused, ClassUnknown,
	}).Draw(c.t, "class")
	wait := time.Duration(rapid.IntRange(0, 20).Draw(c.t, "after")) * time.Second
	c.l.Report(c.now, c.open[i], "", outcomeOf(class, after(wait), used(rapid.Uint64Range(0, 5000).Draw(c.t, "used"), 0)))
	c.open = append(c.open[:i], c.open[i+1:]...)
}

// Among many who wait, come and leave in any order: each is decided once or cancelled
// once, never both; nobody goes while a refusal or spent money closes the quota; whoever
// is first is let in within a quarter of a second of when it fits; in the end nobody is
// left.
func TestManyWhoWaitAreEachDecidedOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		q := paced(LimitMode(rapid.IntRange(0, 1).Draw(t, "mode")), 600, 60_000, 0)
		q.Tenants = map[string]TenantSpec{"a": {Weight: 3}, "b": {Priority: Batch}}
		c := newCrowd(t, q)
		c.allow(t0, "filler", 3000)
		for range rapid.IntRange(5, 60).Draw(t, "steps") {
			switch rapid.IntRange(0, 5).Draw(t, "what") {
			case 0, 1:
				for range rapid.IntRange(1, 12).Draw(t, "come") {
					c.hold(rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "tenant"), rapid.Uint64Range(0, 3000).Draw(t, "amount"),
						Priority(rapid.IntRange(0, 3).Draw(t, "priority")))
				}
			case 2:
				c.cancel()
			case 3:
				c.answer()
			default:
				end := c.now.Add(time.Duration(rapid.IntRange(1, 5000).Draw(t, "ms")) * time.Millisecond)
				for c.now < end {
					c.step(end)
				}
			}
		}
		for end := c.now.Add(5 * time.Hour); len(c.held) > 0 && c.now < end; {
			for _, id := range c.open {
				c.l.Report(c.now, id, "", outcomeOf(ClassOK))
			}
			c.open = c.open[:0]
			c.step(end)
		}
		if len(c.held) > 0 {
			t.Fatalf("%d wait for ever", len(c.held))
		}
	})
}
