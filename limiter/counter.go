package limiter

// counter is the use of one limit by one key. It holds no pointers, so that a
// million of them cost the garbage collector nothing. Most keys are hit a few times
// per window: their buckets are (bucket, units) pairs in the counter itself. Keys
// with more buckets in use, or with debt, have a ring in the table.
type counter struct {
	limit  uint32 // the limit's ID
	tag    uint32 // the part of its hash that places it in the table
	long   keyRef // where its key is, if that is longer than inlineKey
	keyLen uint8  // up to inlineKey: the key is in short; else longKey
	fixed  bool   // its window is fixed: one bucket, whose units are sum
	n      uint8  // pairs in use
	budget bool   // it takes what was spent whole, see budget.go
	short  [inlineKey]byte
	width  int64             // of a bucket, in nanoseconds; 0 while the counter is nobody's
	last   int64             // the bucket up to which the counter has been brought
	sum    uint64            // units in live buckets
	pairs  [inlinePairs]pair // oldest first, none empty
	debt   uint64
	pins   uint32 // reservations that refer to the counter
	ring   uint32 // its ring's place in the table, plus 1
}

// A counter fills two cache lines. A key of up to inlineKey bytes lies in it, which
// saves finding it the third miss of the cache.
const (
	inlinePairs = 5
	inlineKey   = 32
	longKey     = inlineKey + 1
)

// pair packs a bucket's number modulo 1024 and its units.
type pair uint64

const (
	pairUnitBits = 54 // MaxAmount itself must fit
	pairTagMask  = 1<<(64-pairUnitBits) - 1
)

func makePair(bucket int64, units uint64) pair {
	return pair(uint64(bucket)&pairTagMask<<pairUnitBits | units)
}

func (p pair) units() uint64 { return uint64(p) & (1<<pairUnitBits - 1) }

// bucket returns the pair's bucket, given one that is at most pairTagMask later.
func (p pair) bucket(last int64) int64 {
	return last - int64((uint64(last)-uint64(p)>>pairUnitBits)&pairTagMask)
}

// live reports whether the counter is in use.
func (c *counter) live() bool { return c.width != 0 }

// used is what counts against the limit.
func (c *counter) used() uint64 { return addSat(c.sum, c.debt) }

// idle reports whether the counter may be forgotten: it is empty, nobody refers to
// it, and it was last used two windows ago.
func (c *counter) idle(now Instant) bool {
	return c.pins == 0 && c.stale(bucketOf(now, c.width))
}

// stale reports whether c says nothing any more in bucket idx, had nobody kept it. That it
// is a budget matters as long as the calls that were admitted can last.
func (c *counter) stale(idx int64) bool {
	past := int64(2 * subBuckets)
	if c.fixed {
		past = 1
	}
	if c.budget {
		past = max(past, int64(MaxTTL)/c.width+1)
	}
	return c.debt == 0 && idx-c.last > past
}

// advance brings c to the bucket of now, under a limit of max units.
func (t *table) advance(c *counter, now Instant, max uint64) {
	idx := bucketOf(now, c.width)
	if c.budget && c.stale(idx) { // as if it had been forgotten, whether it was or not
		c.budget = false
	}
	switch {
	case idx == c.last:
		return
	case c.fixed:
		c.turn(idx)
		return
	case idx < c.last:
		if c.last-idx > liveBuckets {
			t.rebase(c, idx)
		}
		return
	case c.ring != 0:
		w := t.busy(c)
		w.advance(idx, max)
		c.last, c.sum, c.debt = w.last, w.sum, w.debt
		return
	}
	keep := 0
	for keep < int(c.n) && idx-c.pairs[keep].bucket(c.last) > subBuckets {
		keep++
	}
	c.last = idx
	if keep == 0 {
		return
	}
	c.n = uint8(copy(c.pairs[:], c.pairs[keep:c.n]))
	c.sum = 0
	for _, p := range c.pairs[:c.n] {
		c.sum = addSat(c.sum, p.units())
	}
}

// turn brings a fixed window to bucket idx. Who comes with an instant of the window
// before, as happens to calls that are made at once, is counted in this one; a clock
// that was further ahead has been put right.
func (c *counter) turn(idx int64) {
	switch {
	case idx > c.last:
		c.last, c.sum = idx, 0
	case c.last-idx > 1:
		c.last = idx
	}
}

// rebase moves everything to bucket idx, after a clock that was far ahead.
func (t *table) rebase(c *counter, idx int64) {
	if c.ring != 0 {
		r := t.ringOf(c)
		*r = ring{}
		r[slotOf(idx)] = c.sum
	} else if c.n > 0 {
		c.n = 1
		c.pairs[0] = makePair(idx, c.sum)
	}
	c.last = idx
}

// busy returns c, which has a ring, as a window; changes must be copied back.
func (t *table) busy(c *counter) busy {
	return busy{r: t.ringOf(c), last: c.last, sum: c.sum, debt: c.debt}
}

// add charges units to the current bucket.
func (t *table) add(c *counter, units uint64) {
	if units == 0 {
		return
	}
	units = min(units, MaxAmount)
	c.sum = addSat(c.sum, units)
	if c.ring == 0 {
		if n := int(c.n); n > 0 && c.pairs[n-1].bucket(c.last) == c.last {
			c.pairs[n-1] = makePair(c.last, addSat(c.pairs[n-1].units(), units))
			return
		}
		if c.fixed {
			return
		}
		if c.n < inlinePairs {
			c.pairs[c.n] = makePair(c.last, units)
			c.n++
			return
		}
		t.grow(c)
	}
	r := t.ringOf(c)
	s := slotOf(c.last)
	r[s] = addSat(r[s], units)
}

// spend charges units that were used already: what is beyond max becomes debt, except
// in a fixed window, which ends with all that it holds.
func (t *table) spend(c *counter, units, max uint64) {
	room := subFloor(max, c.sum)
	t.add(c, min(units, room))
	switch {
	case units <= room:
		return
	case c.fixed:
		t.add(c, units-room)
		return
	case c.ring == 0:
		t.grow(c)
	}
	c.debt = addSat(c.debt, units-room)
}

// giveBack takes up to units off: off the debt first, then off bucket b, if that
// still counts.
func (t *table) giveBack(c *counter, b int64, units uint64) {
	paid := min(units, c.debt)
	c.debt -= paid
	units -= paid
	if units == 0 || c.last-b > subBuckets || b > c.last {
		return
	}
	if c.fixed {
		if b == c.last {
			c.sum = subFloor(c.sum, units)
		}
		return
	}
	if c.ring != 0 {
		r := t.ringOf(c)
		t.lower(c, &r[slotOf(b)], units)
		return
	}
	for i := range c.pairs[:c.n] {
		if p := c.pairs[i]; p.bucket(c.last) == b {
			have := p.units()
			t.lower(c, &have, units)
			c.pairs[i] = makePair(b, have)
			if have == 0 {
				c.n = uint8(i + copy(c.pairs[i:], c.pairs[i+1:c.n]))
			}
			return
		}
	}
}

// refund takes up to units off: off the debt first, then off the newest buckets.
func (t *table) refund(c *counter, units uint64) {
	units = min(units, c.used())
	for b := c.last; units > 0 && b >= c.last-subBuckets; b-- {
		before := c.used()
		t.giveBack(c, b, units)
		units -= before - c.used()
	}
}

// lower takes up to units off *have and the sum.
func (t *table) lower(c *counter, have *uint64, units uint64) {
	units = min(units, *have)
	*have -= units
	c.sum = subFloor(c.sum, units)
}

// passAt returns the earliest instant from which on amount, which does not fit
// now and is at most max, fits.
func (t *table) passAt(c *counter, amount, max uint64) Instant {
	if c.fixed {
		return startOf(c.last+1, c.width)
	}
	var r ring
	w := t.copyTo(c, &r)
	return startOf(w.passAt(amount, max), c.width)
}

// emptyAt returns the instant from which on c is unused; now if it is.
func (t *table) emptyAt(c *counter, now Instant, max uint64) Instant {
	if c.sum == 0 && c.debt == 0 {
		return now
	}
	if c.n > 0 { // most
		return startOf(c.pairs[c.n-1].bucket(c.last)+liveBuckets, c.width)
	}
	if c.fixed {
		return startOf(c.last+1, c.width)
	}
	if c.debt == 0 {
		w := t.busy(c)
		return startOf(w.emptyAt(max), c.width) // changes nothing without debt
	}
	var r ring
	w := t.copyTo(c, &r)
	return startOf(w.emptyAt(max), c.width)
}

// copyTo returns c as a window over a copy of its buckets.
func (t *table) copyTo(c *counter, r *ring) busy {
	if c.ring != 0 {
		*r = *t.ringOf(c)
	} else {
		for _, p := range c.pairs[:c.n] {
			r[slotOf(p.bucket(c.last))] = p.units()
		}
	}
	return busy{r: r, last: c.last, sum: c.sum, debt: c.debt}
}

// grow gives c a ring.
func (t *table) grow(c *counter) {
	var r ring
	t.copyTo(c, &r)
	c.ring = t.newRing()
	*t.ringOf(c) = r
	c.n = 0
}

// shrink takes the ring of an unused counter away.
func (t *table) shrink(c *counter) {
	if c.ring != 0 {
		t.freeRing(c.ring)
		c.ring = 0
	}
	c.n, c.sum, c.debt = 0, 0, 0
}
