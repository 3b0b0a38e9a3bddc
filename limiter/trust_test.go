package limiter

import (
	"encoding/binary"
	"fmt"
	"testing"
	"time"
)

// gang is a number of tenants that always have calls to make, against an upstream that
// accepts all that weir lets through. Liars say of each of their calls that it was
// refused.
type gang struct {
	t     *testing.T
	plan  *Plan
	l     *Limiter
	now   Instant
	ids   uint64
	held  map[Ticket]int
	open  []gangCall
	busy  []int // calls of each tenant that are held or open
	next  []Instant
	liars int
	lie   func(*Outcome)
	done  []int
}

type gangCall struct {
	tenant int
	id     ID
	ends   Instant
}

const gangSize = 20

func newGang(t *testing.T, liars int, lie func(*Outcome)) *gang {
	t.Helper()
	plan, err := Compile(Spec{Quotas: []QuotaSpec{{Name: "q", Learn: true, Limits: []LimitSpec{
		{Meter: Requests, Amount: 600, Window: time.Minute},
	}}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return &gang{
		t: t, plan: plan, l: New(Options{}), now: Instant(time.Hour), held: map[Ticket]int{},
		busy: make([]int, gangSize), next: make([]Instant, gangSize), done: make([]int, gangSize), liars: liars, lie: lie,
	}
}

// play lets d pass, and returns how many calls those who do not lie made meanwhile.
func (c *gang) play(d time.Duration) int {
	clear(c.done)
	for end := c.now.Add(d); c.now < end; c.now = c.now.Add(10 * time.Millisecond) {
		c.finish()
		for i := range gangSize {
			for c.busy[i] < 2 && c.now >= c.next[i] {
				c.ask(i)
			}
		}
		for at, set := c.l.Next(0); at <= c.now; at, set = c.l.Next(0) {
			c.l.Advance(c.now, 0, set)
		}
		for _, e := range c.l.Ready(0) {
			if i, ok := c.held[e.Ticket]; ok {
				delete(c.held, e.Ticket)
				c.answer(i, &e.Decision)
			}
		}
	}
	n := 0
	for _, done := range c.done[c.liars:] {
		n += done
	}
	return n
}

func (c *gang) ask(i int) {
	c.ids++
	a := Ask{Tenant: fmt.Sprint("tenant ", i), Open: true, HoldUntil: c.now.Add(30 * time.Second)}
	binary.LittleEndian.PutUint64(a.ID[8:], c.ids)
	c.plan.MatchAttributes(&a, "", -1, []Entry{{"org", "acme"}}, Estimate{InputTokens: 100, HasInput: true, MaxTokens: 10, HasMax: true})
	c.l.Route(&a)
	var d Decision
	c.l.Decide(c.now, &a, &d)
	c.busy[i]++
	c.answer(i, &d)
}

func (c *gang) answer(i int, d *Decision) {
	switch d.Verdict {
	case Allowed:
		c.open = append(c.open, gangCall{i, d.ID, c.now.Add(500 * time.Millisecond)})
	case Held:
		c.held[d.Ticket] = i
	default:
		c.busy[i]--
		c.next[i] = d.RetryAt
	}
}

func (c *gang) finish() {
	left := c.open[:0]
	for _, call := range c.open {
		if call.ends > c.now {
			left = append(left, call)
			continue
		}
		o := Outcome{Class: ClassOK, Usage: Usage{1, 100, 10}, HasInput: true, HasOutput: true, Learn: true}
		if call.tenant < c.liars {
			c.lie(&o)
		}
		if s := c.l.Report(c.now, call.id, "", o); !s.Applied {
			c.t.Fatalf("a report was not taken: %+v", s)
		}
		c.busy[call.tenant]--
		c.done[call.tenant]++
	}
	c.open = left
}

func refusal(after time.Duration) func(*Outcome) {
	return func(o *Outcome) {
		*o = Outcome{Class: ClassQuota, Named: Requests, HasNamed: true, RetryAfter: after, RefundRequests: true, RefundInput: true, RefundOutput: true}
	}
}

// lies are what can be said of a call that went well.
func lies() map[string]func(*Outcome) {
	return map[string]func(*Outcome){
		"refused for a minute": refusal(time.Minute),
		"refused for a second": refusal(time.Second),
		"refused, for nothing": refusal(0),
		"limit of one": func(o *Outcome) {
			o.Headers[Requests] = HeaderState{Limit: 1, Remaining: 0, HasLimit: true, HasRemaining: true}
		},
		"nothing remains": func(o *Outcome) {
			o.Headers[Requests] = HeaderState{Limit: 600, Remaining: 0, HasLimit: true, HasRemaining: true}
		},
		"a ramp of one":  func(o *Outcome) { refusal(0)(o); o.Class, o.Ramp, o.RampNext = ClassAcceleration, 1, 2 },
		"money is spent": func(o *Outcome) { refusal(time.Hour)(o); o.Class = ClassSpend },
		"too many":       func(o *Outcome) { refusal(0)(o); o.Class = ClassConcurrency },
		"overloaded":     func(o *Outcome) { refusal(0)(o); o.Class = ClassOverload },
		"it was huge":    func(o *Outcome) { o.Usage = Usage{1, 1e12, 1e12} },
	}
}

// Whatever one tenant of twenty says, the others keep nine tenths; whatever five say, a
// quarter; and a minute after the last lie they have all of it again.
func TestLiesOfTenants(t *testing.T) {
	lies := lies()
	base := func(liars int) (int, int) {
		c := newGang(t, liars, func(*Outcome) {})
		return c.play(10 * time.Minute), c.play(time.Minute)
	}
	one1, _ := base(1)
	five1, minute := base(5)
	honest := map[int]int{1: one1, 5: five1}
	for name, lie := range lies {
		t.Run(name, func(t *testing.T) {
			one := newGang(t, 1, lie)
			if n := one.play(10 * time.Minute); n < honest[1]*9/10 {
				t.Errorf("beside one liar the others made %d calls in ten minutes, and %d without", n, honest[1])
			}
			five := newGang(t, 5, lie)
			if n := five.play(10 * time.Minute); n < honest[5]/4 {
				t.Errorf("beside five liars the others made %d calls in ten minutes, and %d without", n, honest[5])
			}
			five.lie = func(*Outcome) {}
			five.play(time.Minute)
			if n := five.play(time.Minute); n < minute*95/100 {
				t.Errorf("a minute after the last lie the others made %d calls in a minute, and %d without", n, minute)
			}
		})
	}
}

// What a tenant says while it is the only one that asks does not outlast the others'
// coming.
func TestLiesOfWhoIsAlone(t *testing.T) {
	honest := newGang(t, 1, func(*Outcome) {})
	honest.play(6 * time.Minute)
	minute := honest.play(time.Minute)
	for name, lie := range lies() {
		t.Run(name, func(t *testing.T) {
			c := newGang(t, 1, lie)
			for i := 1; i < gangSize; i++ {
				c.next[i] = c.now.Add(5 * time.Minute)
			}
			c.play(6 * time.Minute) // the others come after five
			if n := c.play(time.Minute); n < minute*9/10 {
				t.Errorf("a minute after they came the others made %d calls in a minute, and %d without", n, minute)
			}
		})
	}
}

// A gateway is believed at once.
func TestTheWordOfAGateway(t *testing.T) {
	c := newGang(t, 1, func(o *Outcome) { refusal(20 * time.Second)(o); o.Trusted = true })
	c.play(2 * time.Second)
	if p := c.l.Quotas(c.now, 0)[0].Paces[Requests]; p.GateUntil < c.now.Add(15*time.Second) {
		t.Errorf("the gate is open: %+v", p)
	}
}

// Who asks alone is believed at once, since nobody else is touched.
func TestTheWordOfTheOnlyTenant(t *testing.T) {
	c := newGang(t, 1, refusal(20*time.Second))
	for i := 1; i < gangSize; i++ {
		c.next[i] = Never
	}
	c.play(2 * time.Second)
	if p := c.l.Quotas(c.now, 0)[0].Paces[Requests]; p.GateUntil < c.now.Add(15*time.Second) {
		t.Errorf("the gate is open: %+v", p)
	}
}

// Saying that each call repeats a refused one gains next to nothing.
func TestRepeatsThatNobodyRefused(t *testing.T) {
	c := newGang(t, 0, nil)
	greedy := 0
	for range 6000 {
		a := Ask{Tenant: "tenant 0", Retry: true, Open: true, HoldUntil: c.now.Add(time.Second)}
		c.ids++
		binary.LittleEndian.PutUint64(a.ID[8:], c.ids)
		c.plan.MatchAttributes(&a, "", -1, []Entry{{"org", "acme"}}, Estimate{})
		c.l.Route(&a)
		var d Decision
		c.l.Decide(c.now, &a, &d)
		switch d.Verdict {
		case Allowed:
			greedy++
		case Held:
			c.held[d.Ticket] = 0
			c.busy[0]++
		default:
		}
		c.play(10 * time.Millisecond)
		greedy += c.done[0]
	}
	c.play(2 * time.Second)
	share := 600 / gangSize // of a minute
	if greedy > 2*share {
		t.Errorf("a tenant that repeats made %d calls in a minute, its share is %d", greedy, share)
	}
}
