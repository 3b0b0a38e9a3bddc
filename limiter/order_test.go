package limiter

import (
	"math"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// list is what turns are, said slowly: a sorted list that is walked from its beginning.
type list []*listed

type listed struct {
	id    Turn
	band  Priority
	start float64
	cost  cost
	dies  Instant
}

func (l list) before(b Priority, start float64) cost {
	var c cost
	for _, n := range l {
		if n.band < b || (n.band == b && n.start < start) {
			c = c.plus(n.cost)
		}
	}
	return c
}

// ids are those of l by band, start and id.
func (l list) ids() []Turn {
	s := slices.Clone(l)
	slices.SortFunc(s, func(a, b *listed) int {
		switch {
		case a.band != b.band:
			return int(a.band) - int(b.band)
		case a.start < b.start:
			return -1
		case a.start > b.start:
			return 1
		}
		return int(a.id) - int(b.id)
	})
	var out []Turn
	for _, n := range s {
		out = append(out, n.id)
	}
	return out
}

func (t *turns) ids() []Turn {
	var out []Turn
	var walk func(n *spot)
	walk = func(n *spot) {
		if n != nil {
			walk(n.left)
			out = append(out, Turn(n.order))
			walk(n.right)
		}
	}
	walk(t.order.root)
	return out
}

// Turns are in the order of the slow list, sum up to the same, and die at the same
// time, whatever is kept, changed and dropped. The costs are whole numbers, so that
// sums are exact in any order.
func TestTurnsAreASortedList(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var (
			fast turns
			slow list
			q    line
			f    = &flow{weight: 1}
			now  = t0
		)
		drawCost := func() cost {
			return cost{float64(rapid.IntRange(0, 3).Draw(t, "requests")), float64(rapid.IntRange(0, 1e6).Draw(t, "in")), 1}
		}
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			what := rapid.IntRange(0, 9).Draw(t, "what")
			if len(slow) == 0 {
				what = 0
			}
			switch {
			case what <= 4:
				n := listed{
					band: Priority(rapid.IntRange(1, 3).Draw(t, "band")), start: float64(rapid.IntRange(0, 20).Draw(t, "start")),
					cost: drawCost(), dies: now.Add(time.Duration(rapid.IntRange(1, 50).Draw(t, "dies"))),
				}
				kept := fast.keep(turn{spot: spot{band: n.band, start: n.start, cost: n.cost}, seconds: 1, flow: f})
				fast.until(kept, n.dies)
				n.id = kept.id()
				f.below++
				slow = append(slow, &n)
			case what <= 6:
				i := rapid.IntRange(0, len(slow)-1).Draw(t, "dropped")
				fast.drop(fast.byID[slow[i].id])
				f.below--
				slow = slices.Delete(slow, i, i+1)
			case what == 7:
				n := slow[rapid.IntRange(0, len(slow)-1).Draw(t, "changed")]
				n.cost, n.dies = drawCost(), now.Add(time.Duration(rapid.IntRange(1, 50).Draw(t, "dies")))
				fast.order.reweigh(&fast.byID[n.id].spot, n.cost)
				fast.until(fast.byID[n.id], n.dies)
			default:
				now = now.Add(time.Duration(rapid.IntRange(0, 30).Draw(t, "time")))
				fast.expire(now, &q)
				slow = slices.DeleteFunc(slow, func(n *listed) bool { return n.dies <= now })
			}
			if got, want := fast.ids(), slow.ids(); !slices.Equal(got, want) {
				t.Fatalf("the order is %v, want %v", got, want)
			}
			if fast.len() != len(slow) || len(fast.byID) != len(slow) || len(fast.dying) != len(slow) {
				t.Fatalf("%d, %d and %d places, want %d", fast.len(), len(fast.byID), len(fast.dying), len(slow))
			}
			if f.below != float64(len(slow)) { // whose place is given up is not charged for it
				t.Fatalf("the tenant is charged %v, want %d", f.below, len(slow))
			}
			b, start := Priority(rapid.IntRange(0, 4).Draw(t, "b")), float64(rapid.IntRange(-1, 21).Draw(t, "at"))
			if got, want := fast.before(b, start), slow.before(b, start); got != want {
				t.Fatalf("before %d, %v: %v, want %v", b, start, got, want)
			}
		}
		fast.expire(Never, &q)
		if fast.len() > 0 || fast.byID != nil || fast.free != nil {
			t.Fatalf("%d places, and memory for more, are kept for nobody", fast.len())
		}
	})
}

// The depth of an order stays near the logarithm of its size, in whatever order its
// places come.
func TestOrderIsBalanced(t *testing.T) {
	const n = maxTurns
	starts := map[string]func(i int) float64{
		"rising":  func(i int) float64 { return float64(i) },
		"falling": func(i int) float64 { return float64(-i) },
		"equal":   func(int) float64 { return 0 },
		"mixed":   func(i int) float64 { return float64(i * 2654435761 % 1000) },
	}
	for name, start := range starts {
		var o order
		places := make([]spot, n)
		for i := range places {
			places[i] = spot{start: start(i), order: uint64(i + 1)}
			o.insert(&places[i])
		}
		for i := 0; i < n; i += 2 {
			o.remove(&places[i])
		}
		if got, most := o.root.depth(), 4*int(math.Log2(n)); got > most {
			t.Errorf("%s: %d places are %d deep, want at most %d", name, o.n, got, most)
		}
	}
}

func (n *spot) depth() int {
	if n == nil {
		return 0
	}
	return 1 + max(n.left.depth(), n.right.depth())
}

// What is held before any point of a line is what its waiters will take, those of all
// higher bands and the repeats first.
func TestAheadSumsUpWhoWaits(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := newHistory(t, drawQuota(t))
		for range rapid.IntRange(10, 150).Draw(t, "steps") {
			switch rapid.IntRange(0, 5).Draw(t, "what") {
			case 0, 1, 2, 3:
				h.ask()
			case 4:
				h.report()
				h.check() // it may have said that there is money again
			case 5:
				h.pass(time.Duration(rapid.Int64Range(0, int64(2*time.Second)).Draw(t, "time")))
			}
			for _, st := range h.l.shards[0].order {
				b, start := Priority(rapid.IntRange(1, 3).Draw(t, "b")), st.line.virtual+rapid.Float64Range(0, 100).Draw(t, "at")
				got, want := st.line.ahead.before(b, start), st.line.slowBefore(b, start)
				for m := range got {
					if math.Abs(got[m]-want[m]) > 1e-9*want[m] {
						t.Fatalf("before %d, %v: %v, want %v", b, start, got, want)
					}
				}
			}
		}
	})
}

func (q *line) slowBefore(b Priority, start float64) cost {
	var c cost
	for _, w := range q.front {
		c = c.plus(w.ask.mainQuota().likely)
	}
	for i := range q.bands {
		for _, w := range q.bands[i] {
			if Priority(i) < b || (Priority(i) == b && w.start < start) {
				c = c.plus(w.ask.mainQuota().likely)
			}
		}
	}
	return c
}
