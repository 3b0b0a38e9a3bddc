package limiter

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// While the bucket does not run empty nothing is lost and nothing is made: what is owed is
// what was charged, less what was given back, less what time has drained, whatever becomes
// of the calls and in whichever order.
func TestDebtIsConserved(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const perSecond, stock = 100.0, 1_000_000
		q := paced(CapLimits, 1_000_000, 60*perSecond, 60*perSecond)
		q.ReservesMaxTokens = rapid.Bool().Draw(t, "reserves")
		c := newCrowd(t, q)
		c.allow(t0, "stock", stock)
		owed := float64(stock)
		type taken struct {
			id     ID
			amount uint64
		}
		var open []taken
		for range rapid.IntRange(1, 80).Draw(t, "steps") {
			switch what := rapid.IntRange(0, 5).Draw(t, "what"); {
			case what < 2 || len(open) == 0:
				n := rapid.Uint64Range(0, 10_000).Draw(t, "amount")
				open = append(open, taken{c.allow(c.now, "t", n), n})
				owed += float64(n)
			case what < 4:
				i := rapid.IntRange(0, len(open)-1).Draw(t, "which")
				x := open[i]
				open = append(open[:i], open[i+1:]...)
				class := rapid.SampledFrom([]Class{ClassOK, ClassOverload, ClassUnused, ClassServer, ClassSpend, ClassConcurrency}).Draw(t, "class")
				n := rapid.Uint64Range(0, 20_000).Draw(t, "used")
				c.l.Report(c.now, x.id, "", outcomeOf(class, used(n, 1)))
				if owed -= float64(x.amount); class == ClassOK {
					owed += float64(n)
				}
			case what == 4:
				i := rapid.IntRange(0, len(open)-1).Draw(t, "which")
				c.l.Release(c.now, open[i].id, "")
				owed -= float64(open[i].amount)
				open = append(open[:i], open[i+1:]...)
			default:
				d := time.Duration(rapid.IntRange(0, 10_000).Draw(t, "ms")) * time.Millisecond
				c.now = c.now.Add(d)
				owed -= perSecond * d.Seconds()
			}
			if got := c.l.Quotas(c.now, 0)[0].Paces[InputTokens].Backlog; !near(got, owed, 0.01) {
				t.Fatalf("at %s the backlog is %v, want %v\n%s", c.now.Sub(t0), got, owed, c.log)
			}
		}
	})
}

// What passes in any interval is at most what the rate drains in it and one burst, when
// everybody is let in as soon as it may be; the largest call comes on top, since it needs
// only an empty bucket.
func TestNoIntervalHasMoreThanRateAndBurst(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const perSecond = 1000.0
		c := newCrowd(t, paced(CapLimits, 1_000_000, 60*perSecond, 0))
		type passed struct {
			at     Instant
			amount float64
		}
		var all []passed
		largest, burst := 0.0, 1.0
		for range rapid.IntRange(5, 60).Draw(t, "calls") {
			if rapid.IntRange(0, 9).Draw(t, "pause") == 0 {
				end := c.now.Add(time.Duration(rapid.IntRange(0, 20_000).Draw(t, "ms")) * time.Millisecond)
				for c.now < end {
					c.step(end)
				}
			}
			n := rapid.Uint64Range(1, 3000).Draw(t, "amount")
			m := c.hold("t", n, Interactive)
			for len(c.done) == 0 || c.done[0] != m {
				if len(c.done) > 0 {
					c.done = c.done[1:]
					continue
				}
				c.step(Never)
			}
			c.done = c.done[1:]
			all = append(all, passed{c.now, float64(n)})
			largest = max(largest, float64(n))
			burst = max(burst, c.l.Quotas(c.now, 0)[0].Paces[InputTokens].Burst)
		}
		for i := range all {
			sum := 0.0
			for _, x := range all[i:] {
				sum += x.amount
				bound := perSecond*(x.at.Sub(all[i].at).Seconds()+burst) + largest
				if sum > bound+1 {
					t.Fatalf("%v tokens within %s, at most %v may pass", sum, x.at.Sub(all[i].at), bound)
				}
			}
		}
	})
}
