package limitertest

import (
	"maps"
	"math"
	"math/bits"
	"time"

	"github.com/weir-project/weir/limiter"
)

// Buckets is the number of sub-buckets of a window.
const Buckets = 60

// window is the slow counter of one key of one limit: units by the bucket in
// which they were charged. It keeps the rule of the conservative ring word for word:
// with buckets of ceil(length/60), at an instant in bucket i, what is in the
// buckets i-60 to i counts. A fixed window is a single bucket, as wide as it is long.
type window struct {
	length time.Duration
	fixed  bool
	span   int64 // how many buckets before the current one count
	width  int64
	limit  uint64
	units  map[int64]uint64
	debt   uint64
	now    int64
	budget bool // what is stated of it was spent already
}

func newWindow(length time.Duration) *window {
	return &window{
		length: length,
		span:   Buckets,
		width:  (int64(length) + Buckets - 1) / Buckets,
		units:  map[int64]uint64{},
	}
}

// windowOf returns an empty window for a limit.
func windowOf(l limiter.LimitSpec) *window {
	w := newWindow(l.Window)
	if l.Fixed {
		w.fixed, w.span, w.width = true, 0, int64(l.Window)
	}
	return w
}

func (w *window) clone() *window {
	c := *w
	c.units = maps.Clone(w.units)
	return &c
}

// bucket returns floor(t/width), also for instants before the epoch.
func (w *window) bucket(t int64) int64 {
	b := t / w.width
	if t%w.width < 0 {
		b--
	}
	return b
}

// sum returns what counts in bucket i, debt aside.
func (w *window) sum(i int64) uint64 {
	var s uint64
	for b, u := range w.units {
		if b >= i-w.span && b <= i {
			s = saturate(s, u)
		}
	}
	return s
}

// used returns what counts now, with debt.
func (w *window) used() uint64 { return saturate(w.sum(w.bucket(w.now)), w.debt) }

// idle says that nothing is left to remember.
func (w *window) idle() bool { return w.used() == 0 }

// advance brings w to instant t: it forgets what has left the window, and at each
// bucket's beginning charges debt into the room that appeared.
func (w *window) advance(t int64) {
	last, i := w.bucket(w.now), w.bucket(t)
	if kept := max(2*w.span, 1, int64(limiter.MaxTTL)/w.width+1); w.debt == 0 && i-last > kept {
		w.budget = false // nobody remembers
	}
	if i < last {
		if last-i > w.span+1 {
			w.restart(t)
		}
		return
	}
	w.now = t
	for w.debt > 0 && last < i {
		if last = w.skipRounds(last, i); last < i {
			last++
			w.forget(last)
			w.payDebt(last)
		}
	}
	w.forget(i)
}

// skipRounds passes over whole rounds of the ring, from bucket b on and not past i, in
// which nothing happens but that a full window of debt is paid: each leaves the ring
// as it was, one round later. It returns the bucket that it came to.
func (w *window) skipRounds(b, i int64) int64 {
	const round = Buckets + 1
	if w.sum(b) != w.limit {
		return b
	}
	rounds := (i - b) / round
	if w.limit > 0 {
		rounds = min(rounds, int64(w.debt/w.limit))
	}
	if rounds == 0 {
		return b
	}
	moved := make(map[int64]uint64, len(w.units))
	for at, u := range w.units {
		moved[at+rounds*round] = u
	}
	w.units = moved
	w.debt -= uint64(rounds) * w.limit
	return b + rounds*round
}

// forget drops what does not count in bucket i any more.
func (w *window) forget(i int64) {
	for b := range w.units {
		if b < i-w.span {
			delete(w.units, b)
		}
	}
}

// payDebt charges debt into the room of bucket i.
func (w *window) payDebt(i int64) {
	if s := w.sum(i); w.debt > 0 && s < w.limit {
		pay := min(w.debt, w.limit-s)
		w.debt -= pay
		w.units[i] += pay
	}
}

// restart is for a clock that went back by more than the window: everything counts as
// charged now.
func (w *window) restart(t int64) {
	s := w.sum(w.bucket(w.now))
	w.now = t
	w.units = map[int64]uint64{}
	if s > 0 {
		w.units[w.bucket(t)] = s
	}
}

// fits says whether amount more is within the limit.
func (w *window) fits(amount uint64) bool {
	sum, carry := bits.Add64(w.used(), amount, 0)
	return carry == 0 && sum <= w.limit
}

// charge counts amount now; what is above the limit becomes debt, if the window slides.
func (w *window) charge(amount uint64) {
	if w.fixed {
		w.count(amount)
		return
	}
	i := w.bucket(w.now)
	room := uint64(0)
	if s := w.sum(i); s < w.limit {
		room = w.limit - s
	}
	now := min(room, amount)
	if now > 0 {
		w.units[i] += now
	}
	w.debt = saturate(w.debt, amount-now)
}

// count adds amount to the current bucket, whatever the limit.
func (w *window) count(amount uint64) {
	if i := w.bucket(w.now); amount > 0 {
		w.units[i] = saturate(w.units[i], amount)
	}
}

// giveBack takes amount off the debt, and the rest off bucket b if that still counts.
func (w *window) giveBack(b int64, amount uint64) {
	paid := min(w.debt, amount)
	w.debt -= paid
	amount -= paid
	if u := w.units[b]; u > 0 {
		w.take(b, min(u, amount))
	}
}

// refund takes amount off the debt, and the rest off the newest units.
func (w *window) refund(amount uint64) {
	paid := min(w.debt, amount)
	w.debt -= paid
	amount -= paid
	i := w.bucket(w.now)
	for b := i; b >= i-w.span && amount > 0; b-- {
		if u := w.units[b]; u > 0 {
			t := min(u, amount)
			w.take(b, t)
			amount -= t
		}
	}
}

func (w *window) take(b int64, amount uint64) {
	w.units[b] -= amount
	if w.units[b] == 0 {
		delete(w.units, b)
	}
}

// retryAt returns the first instant from now on at which amount fits if nobody else
// asks, and limiter.Never if there is none.
func (w *window) retryAt(amount uint64) limiter.Instant {
	if amount > w.limit {
		return limiter.Never
	}
	return w.firstWhen(func(c *window) bool { return c.fits(amount) })
}

// TooFar is the last instant: it stands for those that come, but that no
// [limiter.Instant] can tell.
const TooFar = limiter.Never - 1

// resetAt returns the first instant from now on at which nothing is used.
func (w *window) resetAt() limiter.Instant { return w.firstWhen((*window).idle) }

// firstWhen returns the first bucket's beginning (or now) at which ok, which stays
// true once it is.
func (w *window) firstWhen(ok func(*window) bool) limiter.Instant {
	if ok(w) {
		return limiter.Instant(w.now)
	}
	if w.limit == 0 && w.debt > 0 {
		return limiter.Never // no room ever appears to pay it in
	}
	i := w.bucket(w.now)
	last := math.MaxInt64 / w.width
	holds := func(b int64) bool {
		if b > last {
			return true
		}
		c := w.clone()
		c.advance(b * w.width)
		return ok(c)
	}
	step := int64(1)
	for i+step <= last && !holds(i+step) {
		step *= 2
	}
	low, high := i+step/2, min(i+step, last+1)
	for low+1 < high {
		if mid := low + (high-low)/2; holds(mid) {
			high = mid
		} else {
			low = mid
		}
	}
	if high > last {
		return TooFar
	}
	return limiter.Instant(high * w.width)
}

// saturate returns a+b, at most limiter.MaxAmount.
func saturate(a, b uint64) uint64 {
	if a > limiter.MaxAmount || b > limiter.MaxAmount-a {
		return limiter.MaxAmount
	}
	return a + b
}
