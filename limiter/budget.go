package limiter

// A gateway that learns what a call costs when it has ended asks twice: first with a
// stated amount of 0, to see whether anything is left, and in the end with what was spent,
// under the same descriptor. Nothing but the first tells the second from an ask that may
// be refused. So a counter that was asked with 0 is a budget: what is stated of it later is
// charged, whether it fits or not, and what does not fit is debt, as the use of a
// reservation is.
//
// A counter that is a budget stays one as long as it is kept: until nobody has asked for it
// for two windows and for MaxTTL. One that is not kept, or in which nothing is used, is a
// budget if any key of its limit was one that was spent from: for calls that last longer
// than that, and for those of which another process saw the beginning. One look alone does
// not change what is told about other keys.
//
// A soft limit is a budget without being looked at: it counts whoever is admitted beyond it
// anyway, and gateways that make soft limits ask with one hit, and state what was spent.

// peeks says that c looks whether anything is left of a budget. Where it is charged by
// itself to a fixed window, whatever fits, nobody needs to know.
func (a *Ask) peeks(c *charge) bool {
	return c.stated && c.amount == 0 && !c.refund && (!a.OneByOne || !c.limit.Fixed)
}

// spent says that c, which was looked up, is what was spent of a budget already.
func (l *Limiter) spent(a *Ask, c *charge) bool {
	if !c.stated || c.amount == 0 || c.refund || a.Force || (a.OneByOne && c.limit.Fixed) {
		return false
	}
	if c.limit.Soft {
		return true
	}
	if c.found {
		n := l.shards[c.shard].table.at(c.counter)
		if n.budget || n.used() > 0 {
			return n.budget
		}
	}
	return c.limit.budgets.Load()
}

// open notes that a key of l is a budget that was spent from. All who ask share the note: it is written once.
func (l *Limit) open() {
	if !l.budgets.Load() {
		l.budgets.Store(true)
	}
}

// mark notes that n, the counter of c, is a budget if it was spent from, or looked at.
func (c *charge) mark(n *counter, peeks bool) {
	n.budget = n.budget || c.spent || peeks
	if c.spent {
		c.limit.open()
	}
}

// inherit takes over which limits are budgets.
func (p *Plan) inherit(prev *Plan) {
	if prev == nil {
		return
	}
	budgets := map[uint32]bool{}
	for _, l := range prev.limits {
		if l.budgets.Load() {
			budgets[l.alone] = true
		}
	}
	for _, l := range p.limits {
		if budgets[l.alone] {
			l.open()
		}
	}
}

// chargeSpent charges what a spent already, after it was refused.
func (l *Limiter) chargeSpent(now Instant, a *Ask, d *Decision) {
	for i := range a.charges {
		if c := &a.charges[i]; c.spent {
			l.charge(now, a, c)
			d.Checks[i].Spent = true
		}
	}
	for i := range a.charges { // others may be of the same counter
		c := &a.charges[i]
		if c.ofQuota {
			continue
		}
		if !c.found {
			c.counter, c.found = l.shards[c.shard].table.find(c.hash, c.id, a.chargeKey(c))
		}
		l.viewIn(now, a, c, &d.Checks[i])
	}
}
