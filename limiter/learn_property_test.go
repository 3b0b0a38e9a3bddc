package limiter

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// history is a random life of a learned quota: asks that wait or do not, reports of
// every class with headers that may be absurd, cancellations, time that passes.
type history struct {
	t      *rapid.T
	l      *Limiter
	p      *Plan
	now    Instant
	ids    uint64
	open   []ID
	held   map[Ticket]bool
	turns  []Turn
	played []func(*Limiter, *strings.Builder)
	log    strings.Builder
	gates  [3]Instant
	money  Instant // until when a gateway says that there is none
	quotas QuotaSpec
}

func drawQuota(t *rapid.T) QuotaSpec {
	q := QuotaSpec{
		Name: "q", Learn: true, Mode: LimitMode(rapid.IntRange(0, 1).Draw(t, "mode")),
		Tenants: map[string]TenantSpec{
			"a": {Weight: 3, Floor: 0.3}, "b": {Priority: Batch}, "c": {Ceiling: 0.5, Priority: Standard},
		},
	}
	if rapid.Bool().Draw(t, "known") {
		q.Limits = []LimitSpec{
			{Meter: Requests, Amount: rapid.Uint64Range(1, 10_000).Draw(t, "rpm"), Window: time.Minute},
			{Meter: InputTokens, Amount: rapid.Uint64Range(0, 10_000_000).Draw(t, "itpm"), Window: time.Minute},
			{Meter: Requests, Amount: 1_000_000, Window: 24 * time.Hour},
		}
	}
	return q
}

func newHistory(t *rapid.T, q QuotaSpec) *history {
	p, err := Compile(Spec{Quotas: []QuotaSpec{q}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return &history{t: t, l: newPlayed(), p: p, now: t0, held: map[Ticket]bool{}, quotas: q}
}

func newPlayed() *Limiter { return New(Options{MaxHeldPerTenant: 5}) }

// play does one thing to the limiter, and remembers it to do it again to another. What
// do refers to must not change.
func (h *history) play(do func(*Limiter, *strings.Builder)) {
	do(h.l, &h.log)
	h.played = append(h.played, do)
}

// again plays the same history to a new limiter, which must say the same, byte for byte.
func (h *history) again() {
	l, want := newPlayed(), h.log.String()
	var log strings.Builder
	for i, do := range h.played {
		said := log.Len()
		if do(l, &log); !strings.HasPrefix(want, log.String()) {
			h.t.Fatalf("step %d of the same history went another way:\n%swant\n%s", i, log.String()[said:], want[said:])
		}
	}
	if log.Len() != len(want) {
		h.t.Fatalf("%d bytes were said at first, and %d when it was played again", len(want), log.Len())
	}
}

func (h *history) ask() {
	t := h.t
	a := &Ask{
		Tenant: rapid.SampledFrom([]string{"a", "b", "c", "d", ""}).Draw(t, "tenant"),
		Open:   rapid.IntRange(0, 9).Draw(t, "open") > 0, Priority: Priority(rapid.IntRange(0, 4).Draw(t, "priority")),
		Retry: rapid.IntRange(0, 5).Draw(t, "retry") == 0,
	}
	if len(h.turns) > 0 && rapid.Bool().Draw(t, "back") {
		a.Turn = h.turns[rapid.IntRange(0, len(h.turns)-1).Draw(t, "turn")]
	}
	if rapid.Bool().Draw(t, "waits") {
		a.HoldUntil = h.now.Add(time.Duration(rapid.Int64Range(0, int64(5*time.Minute)).Draw(t, "hold")))
	}
	h.ids++
	for i := range 8 {
		a.ID[8+i] = byte(h.ids >> (8 * i))
	}
	e := Estimate{
		InputTokens: rapid.Uint64Range(0, 1<<rapid.IntRange(0, 54).Draw(t, "size")).Draw(t, "in"), HasInput: rapid.Bool().Draw(t, "has in"),
		MaxTokens: rapid.Uint64Range(0, 1<<20).Draw(t, "max"), HasMax: rapid.Bool().Draw(t, "has max"),
	}
	var d Decision
	p, now, asked := h.p, h.now, *a
	h.play(func(l *Limiter, log *strings.Builder) {
		a := asked
		p.MatchAttributes(&a, "", -1, []Entry{{"org", "acme"}}, e)
		d = decide(l, now, &a)
		fmt.Fprintf(log, "%d ask %+v\n", now, d)
	})
	h.took(d)
}

// took checks an answer and remembers what it leaves open.
func (h *history) took(d Decision) {
	switch d.Verdict {
	case Allowed:
		for m, gate := range h.gates {
			if h.now.Add(d.Delay) < gate {
				h.t.Fatalf("let in at %d for %s later, while %s is closed until %d", h.now, d.Delay, Meter(m), gate)
			}
		}
		if h.now < h.money {
			h.t.Fatalf("let in at %d, while there is no money until %d", h.now, h.money)
		}
		if d.Delay > 250*time.Millisecond {
			h.t.Fatalf("a delay of %s", d.Delay)
		}
		if d.Opened {
			h.open = append(h.open, d.ID)
		}
	case Held:
		if h.held[d.Ticket] {
			h.t.Fatalf("ticket %d was given twice", d.Ticket)
		}
		h.held[d.Ticket] = true
	case Denied:
		if d.RetryAt <= h.now {
			h.t.Fatalf("denied at %d until %d", h.now, d.RetryAt)
		}
		if d.Turn != 0 {
			h.turns = append(h.turns, d.Turn)
		}
	case Infeasible, Overloaded, Reroute:
	}
}

func (h *history) report() {
	if len(h.open) == 0 {
		return
	}
	t := h.t
	i := rapid.IntRange(0, len(h.open)-1).Draw(t, "which")
	id := h.open[i]
	odd := []uint64{0, 1, 999, 1000, 1_000_000, MaxAmount, math.MaxUint64}
	o := Outcome{
		Trusted: rapid.Bool().Draw(t, "trusted"),
		Class:   Class(rapid.IntRange(0, int(ClassUnknown)).Draw(t, "class")),
		Named:   Meter(rapid.IntRange(0, 4).Draw(t, "named")), HasNamed: rapid.Bool().Draw(t, "has named"),
		RetryAfter: time.Duration(rapid.Int64Range(0, int64(time.Minute)).Draw(t, "after")),
		Usage:      Usage{InputTokens: rapid.SampledFrom(odd).Draw(t, "used in"), OutputTokens: rapid.SampledFrom(odd).Draw(t, "used out")},
		HasInput:   rapid.Bool().Draw(t, "knows in"), HasOutput: rapid.Bool().Draw(t, "knows out"), Learn: rapid.Bool().Draw(t, "learn"),
		RefundRequests: rapid.Bool().Draw(t, "refund r"), RefundInput: rapid.Bool().Draw(t, "refund i"), RefundOutput: rapid.Bool().Draw(t, "refund o"),
		Sent: h.now.Add(-time.Duration(rapid.Int64Range(-1e9, 1e10).Draw(t, "sent"))), Progress: rapid.IntRange(0, 5).Draw(t, "progress") == 0,
		Narrow: rapid.Bool().Draw(t, "narrow"), Attempt: uint32(max(0, rapid.IntRange(-3, 3).Draw(t, "attempt"))),
		Ramp: rapid.SampledFrom(odd).Draw(t, "ramp"), RampNext: rapid.SampledFrom(odd).Draw(t, "ramp next"),
	}
	for m := range o.Headers {
		o.Headers[m] = HeaderState{
			Limit: rapid.SampledFrom(odd).Draw(t, "limit"), Remaining: rapid.SampledFrom(odd).Draw(t, "remaining"),
			HasLimit: rapid.Bool().Draw(t, "has limit"), HasRemaining: rapid.Bool().Draw(t, "has remaining"),
		}
	}
	var s Settlement
	now := h.now
	h.play(func(l *Limiter, log *strings.Builder) {
		s = l.Report(now, id, "", o)
		fmt.Fprintf(log, "%d report %d %+v\n", now, o.Class, s)
	})
	if s.Ending != Open {
		h.open = append(h.open[:i], h.open[i+1:]...)
	}
}

// pass lets time go by, step by step, and collects what becomes decided.
func (h *history) pass(d time.Duration) {
	end := h.now.Add(d)
	for range 10_000 {
		at, set := h.l.Next(0)
		if at > end {
			h.now = end
			h.check()
			return
		}
		h.now = max(h.now, at)
		for _, e := range h.advance(set) {
			if e.Ticket == 0 {
				continue
			}
			if !h.held[e.Ticket] {
				h.t.Fatalf("ticket %d is decided, and was not held, or was decided before", e.Ticket)
			}
			delete(h.held, e.Ticket)
			h.took(e.Decision)
		}
		h.check()
	}
	h.t.Fatalf("time does not pass: at %d something is due for ever", h.now)
}

func (h *history) advance(set ShardSet) (events []Event) {
	now := h.now
	h.play(func(l *Limiter, log *strings.Builder) {
		l.Advance(now, 0, set)
		events = l.Ready(0)
		fmt.Fprintf(log, "%d advance %+v\n", now, events)
	})
	return events
}

// check looks at everything that must hold at any time.
func (h *history) check() {
	st := h.l.shards[0].order
	if len(st) == 0 {
		return
	}
	p := st[0].pacer
	for m, d := range p.paces {
		for name, v := range map[string]float64{
			"rate": d.limit, "target": d.target, "burst": d.burst, "backlog": d.backlog, "outstanding": d.outstanding, "depth": d.depth,
			"ramp": d.ramp.rate, "step": d.ramp.step, "rate in force": d.perMinute(),
		} {
			if math.IsNaN(v) || math.IsInf(v, 0) || v < 0 {
				h.t.Fatalf("%s of %s is %v", name, Meter(m), v)
			}
		}
		if d.limit <= 0 || d.burst < leastBurst || d.burst > mostBurst {
			h.t.Fatalf("%s: rate %v, burst %v", Meter(m), d.limit, d.burst)
		}
		if p.capped && p.configured[m] > 0 && d.limit > p.configured[m] {
			h.t.Fatalf("%s: %v a minute, above the configured %v", Meter(m), d.limit, p.configured[m])
		}
		if d.perMinute() > d.limit {
			h.t.Fatalf("%s: %v a minute are in force, and %v were learned", Meter(m), d.perMinute(), d.limit)
		}
		h.gates[m] = d.gate
	}
	h.money = h.l.money.get(st[0].payer).shutUntil()
	if n := st[0].line.len() + st[0].parked; n != len(h.held) {
		h.t.Fatalf("%d are held, the line has %d", len(h.held), n)
	}
	if st[0].open != h.l.shards[0].book.openCount() {
		h.t.Fatalf("the quota counts %d open reservations, there are %d", st[0].open, h.l.shards[0].book.openCount())
	}
	// Nobody waits for a limit that has room, or only for so long that a pace may have
	// grown meanwhile.
	if w := st[0].line.first(h.now); w != nil && st[0].line.tryAt > h.now.Add(lookAgain) {
		var d Decision
		now := h.now
		h.play(func(l *Limiter, log *strings.Builder) {
			a := l.shards[0].order[0].line.first(now).ask.clone()
			a.DryRun = true
			d = decide(l, now, &a)
			fmt.Fprintf(log, "%d look %+v\n", now, d)
		})
		if d.Verdict == Allowed {
			h.t.Fatalf("there is room at %d for who is first, and it is looked at again only at %d", h.now, st[0].line.tryAt)
		}
	}
}

func (h *history) cancel() {
	held := slices.Sorted(maps.Keys(h.held))
	if len(held) == 0 {
		return
	}
	ticket, now, cancelled := rapid.SampledFrom(held).Draw(h.t, "ticket"), h.now, false
	h.play(func(l *Limiter, log *strings.Builder) {
		cancelled = l.Cancel(now, ticket)
		fmt.Fprintf(log, "%d cancel %d %v\n", now, ticket, cancelled)
	})
	if !cancelled {
		h.t.Fatalf("ticket %d is held, and cannot be cancelled", ticket)
	}
	delete(h.held, ticket)
	if h.l.Cancel(h.now, ticket) {
		h.t.Fatal("cancelled twice")
	}
}

// learned notes all that the limiter knows.
func (h *history) learned() {
	now := h.now
	h.play(func(l *Limiter, log *strings.Builder) {
		fmt.Fprintf(log, "%d learned %+v %+v %+v\n", now, l.Learned(now, 0), l.Quotas(now, 0), l.Stats(0))
	})
}

func (h *history) live(steps int) {
	for range steps {
		switch rapid.IntRange(0, 9).Draw(h.t, "what") {
		case 0, 1, 2, 3:
			h.ask()
		case 4, 5, 6:
			h.report()
		case 7, 8:
			h.pass(time.Duration(rapid.Int64Range(0, int64(20*time.Second)).Draw(h.t, "time")))
		case 9:
			h.cancel()
		}
		h.check()
	}
	h.pass(20 * time.Minute)
	if len(h.held) > 0 {
		h.t.Fatalf("%d are held for ever", len(h.held))
	}
	h.learned()
}

// Gates are kept, every held ask is decided exactly once, nobody waits while there is
// room, what is learned stays in its bounds, and the same history gives the same
// decisions, whatever upstreams and callers do.
func TestLearnedQuotaProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := newHistory(t, drawQuota(t))
		h.live(rapid.IntRange(10, 120).Draw(t, "steps"))
		h.again()
	})
}
