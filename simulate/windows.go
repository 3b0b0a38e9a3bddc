package simulate

import (
	"time"

	"github.com/weir-project/weir/limiter"
)

// fixed counts requests and estimated input tokens in minutes of the clock, and tells
// callers to come back in the next one. What calls really used it does not learn.
type fixed struct {
	s      *simulation
	limits [3]float64
	minute limiter.Instant
	used   [3]float64
}

func newFixed(s *simulation) *fixed { return &fixed{s: s, limits: s.told()} }

func (f *fixed) ask(c *call) {
	const minute = limiter.Instant(time.Minute)
	if m := f.s.now / minute; m != f.minute {
		f.minute, f.used = m, [3]float64{}
	}
	cost := [3]float64{1, c.estimate}
	for m := range cost {
		// What is larger than the limit has a minute for itself.
		if f.used[m] > 0 && f.used[m]+cost[m] > f.limits[m] {
			f.s.refer(c, (f.minute+1)*minute)
			return
		}
	}
	for m := range cost {
		f.used[m] += cost[m]
	}
	f.s.grant(c, 0)
}

func (f *fixed) arrived(*call)                 {}
func (f *fixed) begun(*call)                   {}
func (f *fixed) report(*call, *reply)          {}
func (f *fixed) restart()                      { f.used = [3]float64{} }
func (f *fixed) learned(limiter.Meter) float64 { return 0 }

func (f *fixed) retry(c *call, r *reply) (time.Duration, bool) {
	return backoff(f.s.luck, c.refused-1, r.retryAfter), true
}

// sliding counts requests and input tokens in the last minute, by the second, and
// replaces estimates by what was used. It tells callers to come back when what they
// need has left the window, of which others may have made use by then.
type sliding struct {
	s      *simulation
	limits [3]float64
	ring   [60][3]float64
	used   [3]float64
	second limiter.Instant
}

func newSliding(s *simulation) *sliding {
	return &sliding{s: s, limits: s.told(), second: s.now / limiter.Instant(time.Second)}
}

// advance forgets what has left the window.
func (w *sliding) advance() {
	now := w.s.now / limiter.Instant(time.Second)
	for ; w.second < now; w.second++ {
		old := &w.ring[(w.second+1)%60]
		for m := range old {
			w.used[m] = max(0, w.used[m]-old[m])
		}
		*old = [3]float64{}
	}
}

// taken is what a call was counted with, and when.
type taken struct {
	second limiter.Instant
	cost   [3]float64
}

func (w *sliding) ask(c *call) {
	w.advance()
	cost := [3]float64{1, c.estimate}
	wait := 0
	for m := range cost {
		left := w.used[m]
		for n := 0; left > slack && left+cost[m] > w.limits[m]; {
			n++
			left -= w.ring[(w.second+limiter.Instant(n))%60][m]
			wait = max(wait, n)
		}
	}
	if wait > 0 {
		w.s.refer(c, (w.second+limiter.Instant(wait))*limiter.Instant(time.Second))
		return
	}
	w.add(w.second, cost, 1)
	c.decision = &taken{w.second, cost}
	w.s.grant(c, 0)
}

func (w *sliding) add(second limiter.Instant, cost [3]float64, sign float64) {
	slot := &w.ring[second%60]
	for m := range cost {
		slot[m] = max(0, slot[m]+sign*cost[m])
		w.used[m] = max(0, w.used[m]+sign*cost[m])
	}
}

func (w *sliding) report(c *call, r *reply) {
	w.advance()
	t, ok := c.decision.(*taken)
	if !ok || r.class != limiter.ClassOK || w.second-t.second >= 60 {
		return
	}
	w.add(t.second, [3]float64{0, c.input - t.cost[1]}, 1)
}

func (w *sliding) arrived(*call)                 {}
func (w *sliding) begun(*call)                   {}
func (w *sliding) learned(limiter.Meter) float64 { return 0 }

func (w *sliding) restart() { w.ring, w.used = [60][3]float64{}, [3]float64{} }

func (w *sliding) retry(c *call, r *reply) (time.Duration, bool) {
	return backoff(w.s.luck, c.refused-1, r.retryAfter), true
}
