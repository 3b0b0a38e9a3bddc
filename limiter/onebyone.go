package limiter

import "slices"

// decideOneByOne decides each charge of a by itself.
func (l *Limiter) decideOneByOne(now Instant, a *Ask, d *Decision) {
	d.Checks = slices.Grow(d.Checks[:0], len(a.charges))[:len(a.charges)]
	soft := softs{first: -1, retry: Never}
	for i := range a.charges {
		c, k := &a.charges[i], &d.Checks[i]
		if !c.found { // the charge before may have made the counter
			c.counter, c.found = l.shards[c.shard].table.find(c.hash, c.counters(), a.chargeKey(c))
		}
		c.total = c.amount
		l.meet(now, a, c, k)
		soft.hear(a, d, i)
		if !a.DryRun && (!k.Over || c.limit.Fixed || c.limit.Shadow) {
			l.charge(now, a, c)
		}
		l.viewIn(now, a, c, k)
	}
	soft.settle(a, d)
}

// meet fills in what the limit of c says, before anything is charged.
func (l *Limiter) meet(now Instant, a *Ask, c *charge, k *Check) {
	k.Limit, k.Descriptor, k.Amount, k.Requested = c.limit, int(c.descriptor), c.max, c.amount
	k.RetryAt, k.Over = now, false
	k.Overflow = c.overflow || (c.ofQuota && a.quotas[c.quota].overflow)
	vast := c.limit.paced && a.vast(c)
	if c.refund || a.Force || (passes(l.used(c), c.total, c.max) && !vast) {
		return
	}
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

// hear takes into d what check i, of charge i, says.
func (s *softs) hear(a *Ask, d *Decision, i int) {
	k := &d.Checks[i]
	isSoft := k.Limit.Soft || a.Soft
	if isSoft {
		s.n++
	}
	switch {
	case !k.Over || k.Limit.Shadow:
	case isSoft:
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
