package limiter

import "slices"

// decideOneByOne decides each charge of a by itself.
func (l *Limiter) decideOneByOne(now Instant, a *Ask, d *Decision) {
	d.Checks = slices.Grow(d.Checks[:0], len(a.charges))[:len(a.charges)]
	soft := softs{first: -1, retry: Never}
	for i := range a.charges {
		c, k := &a.charges[i], &d.Checks[i]
		if !c.found { // the charge before may have made the counter
			c.counter, c.found = l.shards[c.shard].table.find(c.hash, c.id, a.chargeKey(c))
		}
		c.total, c.spent = c.amount, l.spent(a, c) // which the charge before may have changed
		*k = Check{Limit: c.limit, Descriptor: int(c.descriptor), Amount: c.max, Requested: c.amount, RetryAt: now, Overflow: c.overflow}
		if c.limit.Soft || a.Soft {
			soft.n++
		}
		if !c.refund && !passes(l.used(c), c.total, c.max) {
			l.over(c, k, false)
			soft.hear(a, d, i)
		}
		if !a.DryRun && (!k.Over || c.limit.Fixed || c.limit.Shadow || c.spent) {
			l.charge(now, a, c)
			k.Spent = k.Over && c.spent
		}
		l.viewIn(now, a, c, k)
	}
	soft.settle(a, d)
}

// over says that c does not fit, or is so vast that it never does, and when it will.
func (l *Limiter) over(c *charge, k *Check, vast bool) {
	k.Over = true
	switch {
	case c.total > c.max || vast:
		k.RetryAt = Never
	case c.found:
		t := &l.shards[c.shard].table
		k.RetryAt = t.passAt(t.at(c.counter), c.total, c.max)
	}
}

// softs is what the soft limits of an Ask say so far.
type softs struct {
	n, over int
	first   int     // of those that are over
	retry   Instant // when the first of them has room
}

// hear takes into d that check i is over.
func (s *softs) hear(a *Ask, d *Decision, i int) {
	switch k := &d.Checks[i]; {
	case k.Limit.Shadow:
	case k.Limit.Soft || a.Soft:
		if s.over++; s.first < 0 {
			s.first = i
		}
		s.retry = min(s.retry, k.RetryAt)
	default:
		d.refusedBy(i, k.RetryAt)
	}
}

// settle refuses if all soft limits are over.
func (s *softs) settle(a *Ask, d *Decision) {
	if s.n > 0 && s.over == s.n && !a.Spare {
		d.refusedBy(s.first, s.retry)
	}
}

// refusedBy notes that check i refuses until retry.
func (d *Decision) refusedBy(i int, retry Instant) {
	if d.RefusedBy < 0 {
		d.RefusedBy, d.Verdict, d.Refusal.Cause = i, Denied, CauseLimit
	}
	if retry == Never {
		d.Verdict = Infeasible
	}
	d.RetryAt = max(d.RetryAt, retry)
}
