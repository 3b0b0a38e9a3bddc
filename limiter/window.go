package limiter

import (
	"math"
	"math/bits"
)

// The conservative ring. A window is divided into subBuckets buckets of equal
// width; the units that count at an instant in bucket i are those of the buckets
// i-subBuckets … i. These cover at least one whole window, whatever the instant's
// place in its bucket, so that no interval of a window's length ever holds more
// units than the sum that was checked.
const (
	subBuckets  = 60
	liveBuckets = subBuckets + 1
)

// ring holds the units of the live buckets; bucket b is at b modulo liveBuckets.
type ring [liveBuckets]uint64

// bucketWidth returns the width of the buckets of a window, in nanoseconds,
// rounded up so that subBuckets of them are never shorter than the window.
func bucketWidth(window int64) int64 { return (window + subBuckets - 1) / subBuckets }

// bucketOf returns the bucket that now lies in.
func bucketOf(now Instant, width int64) int64 {
	b := int64(now) / width
	if int64(now)%width < 0 {
		b--
	}
	return b
}

// never is a bucket that does not come.
const never = math.MaxInt64 / 2

// startOf returns the instant at which bucket b begins: short of Never, except for never.
func startOf(b, width int64) Instant {
	if b == never {
		return Never
	}
	if b > 0 {
		if hi, lo := bits.Mul64(uint64(b), uint64(width)); hi != 0 || lo >= math.MaxInt64 {
			return Never - 1
		}
	}
	return Instant(b * width)
}

func slotOf(b int64) int {
	s := int(b % liveBuckets)
	if s < 0 {
		s += liveBuckets
	}
	return s
}

// busy is a window in its full form: with a bucket each, and possibly with debt.
// Debt is what was used beyond the limit. It is never forgiven: as soon as units
// leave the window, debt takes their place, so that a window later the limit's
// worth of it is paid.
type busy struct {
	r    *ring
	last int64 // the bucket up to which the window has been brought
	sum  uint64
	debt uint64
}

// advance brings the window to bucket idx, which is not before w.last, under a
// limit of max units.
func (w *busy) advance(idx int64, max uint64) {
	for w.last < idx {
		if w.debt == 0 || max == 0 {
			w.expire(idx)
			return
		}
		// While more than the limit is owed, a whole turn of the ring repeats itself:
		// each bucket leaves and is filled again by debt.
		if turns := (idx - w.last) / liveBuckets; turns > 0 && w.sum == max && w.debt >= max {
			w.turn(turns, max)
			continue
		}
		w.step(max)
	}
}

// turn takes whole turns of the ring at once, as many as are wanted and owed.
func (w *busy) turn(turns int64, max uint64) {
	if owed := w.debt / max; uint64(turns) > owed {
		turns = int64(owed)
	}
	w.debt -= uint64(turns) * max
	w.last += turns * liveBuckets
}

// step advances by one bucket and pays debt with what left.
func (w *busy) step(max uint64) {
	w.last++
	s := slotOf(w.last)
	w.drop(s)
	if w.sum < max {
		pay := min(max-w.sum, w.debt)
		w.r[s] = pay
		w.sum += pay
		w.debt -= pay
	}
}

// drop empties slot s.
func (w *busy) drop(s int) {
	gone := w.r[s]
	w.r[s] = 0
	if w.sum >= MaxAmount { // the sum may have saturated: count again
		w.sum = 0
		for _, u := range w.r {
			w.sum = addSat(w.sum, u)
		}
		return
	}
	w.sum -= gone
}

// expire advances to bucket idx without looking at debt.
func (w *busy) expire(idx int64) {
	if idx-w.last >= liveBuckets {
		*w.r = ring{}
		w.sum = 0
		w.last = idx
		return
	}
	for w.last < idx {
		w.last++
		if s := slotOf(w.last); w.r[s] != 0 {
			w.drop(s)
		}
	}
}

// passes reports whether amount fits under max; an amount of 0 fits unless more
// than max is used.
func passes(used, amount, max uint64) bool { return used <= max && amount <= max-used }

// passAt returns the first bucket at whose beginning amount (at most max) fits, by
// playing the window forward. It changes w and its ring: pass a copy.
func (w *busy) passAt(amount, max uint64) int64 {
	for !passes(addSat(w.sum, w.debt), amount, max) {
		if max == 0 && w.debt > 0 {
			return never
		}
		if over := w.sum + w.debt + amount - max; w.sum == max && w.debt >= max && over > max {
			w.turn(int64((over-1)/max), max)
			continue
		}
		w.step(max)
	}
	return w.last
}

// emptyAt returns the bucket at whose beginning nothing is used any more. It
// changes w and its ring: pass a copy.
func (w *busy) emptyAt(max uint64) int64 {
	for w.debt > 0 {
		if max == 0 {
			return never
		}
		if w.sum == max && w.debt >= max {
			w.turn(int64(w.debt/max), max)
			continue
		}
		w.step(max)
	}
	for b := w.last; b > w.last-liveBuckets; b-- {
		if w.r[slotOf(b)] != 0 {
			return b + liveBuckets
		}
	}
	return w.last
}
