package limiter

import (
	"math"
	"slices"
)

// Decide answers a, into d. All limits are checked, then all are charged, or none
// is; a denied, infeasible, overloaded or dry Ask changes no count, except for what was
// spent of a budget already, which any but a dry one charges. It touches the
// shards that Route(a) said, and must follow that call. Only where MaxKeys was
// reached can the answer be Reroute; see there.
func (l *Limiter) Decide(now Instant, a *Ask, d *Decision) {
	d.reset(now)
	if l.known(now, a, d) {
		return
	}
	if !l.resolve(now, a) {
		d.Verdict = Reroute
		return
	}
	switch r := a.mainQuota(); {
	case r != nil && r.state != nil && !a.Force:
		if a.DryRun {
			l.foresee(now, a, d, r)
			return
		}
		l.decideFairly(now, a, d, r)
	case a.OneByOne:
		l.decideOneByOne(now, a, d)
		return
	default:
		l.settleVerdict(now, a, d)
	}
	if a.spends && d.Verdict != Allowed && !a.DryRun {
		l.chargeSpent(now, a, d)
	}
}

// decideFairly decides an Ask of a quota, in its tenant's turn.
func (l *Limiter) decideFairly(now Instant, a *Ask, d *Decision, r *quotaRef) {
	st := r.state
	f, t := st.flow(now, a.Tenant), st.terms(a.Tenant)
	r.flow = f
	if st.pacer != nil {
		st.pacer.meet(now, f)
	}
	a.Retry = a.Retry && (a.counted || f.mayRepeat(a.Trusted))
	if pause, cause := st.pause(now, a, f, t, a.secondsOf(r)); pause > 0 {
		l.check(now, a, d)
		l.views(now, a, d)
		l.denyForPause(now, a, d, pause, cause)
		l.park(now, a, d, r, f)
		return
	}
	switch {
	case st.pacer != nil && a.HoldUntil <= now:
		l.appoint(now, a, d, r, f)
	case a.mustWait():
		l.check(now, a, d)
		l.views(now, a, d)
		l.join(now, a, d)
	default:
		l.settleVerdict(now, a, d)
		switch {
		case d.Verdict == Allowed && !a.Retry:
			st.line.virtual = st.line.tag(f, t, a.secondsOf(r))
		case d.Verdict == Denied && a.mayHold(now, d.RetryAt):
			l.join(now, a, d)
		}
	}
}

// reset makes d an answer that allows, with nothing in it.
func (d *Decision) reset(now Instant) {
	d.Verdict, d.RefusedBy, d.RetryAt, d.Checks = Allowed, -1, now, d.Checks[:0]
	d.Reserved, d.ID, d.Opened, d.ExpiresAt, d.Replayed, d.Ticket = Usage{}, ID{}, false, 0, false, 0
	d.Delay, d.Turn, d.Refusal = 0, 0, Refusal{}
}

// known answers an Ask that was made before, under the same idempotency key, or
// whose units were charged before, under the same request id.
func (l *Limiter) known(now Instant, a *Ask, d *Decision) bool {
	if a.DryRun {
		return false
	}
	if a.IdempotencyKey != "" && a.Open {
		if e, ok := l.shards[a.idemShard].book.byIdem[a.idem]; ok && l.recall(now, a, d, &e) {
			return true
		}
	}
	if a.Force && a.RequestID != "" {
		b := &l.shards[a.home].book
		if id, ok := b.byRequest[a.request]; ok {
			if t := b.ended(id); t == nil || t.forget > now {
				d.ID, d.Replayed = id, true
				return true
			}
		}
	}
	return false
}

// recall answers with the reservation of an idempotency key, unless that was long
// enough ago to be forgotten.
func (l *Limiter) recall(now Instant, a *Ask, d *Decision, e *idemEntry) bool {
	expires, forget := e.expires, e.forget
	if home := l.HomeOf(e.id); home&a.shards != 0 { // it may have been renewed
		if _, r := l.shards[home.First()].book.get(e.id, 0); r != nil {
			expires, forget = r.expires, max(forget, r.expires)
		}
	}
	if forget <= now {
		return false
	}
	d.ID, d.ExpiresAt, d.Reserved = e.id, expires, e.reserved
	d.Opened, d.Replayed = true, true
	return true
}

// resolve finds the counters of a and the amounts of its charges. It reports false
// if a must be routed anew, because a key is to share an overflow counter.
func (l *Limiter) resolve(now Instant, a *Ask) bool {
	a.spends = false
	for i := range a.quotas {
		r := &a.quotas[i]
		if r.quota == nil {
			r.cost = costOf(&r.est, nil, nil, false)
			continue
		}
		st := l.quotaState(now, a, r)
		if st == nil {
			r.overflow = true
			return l.reroute(now, a)
		}
		r.state = st
		if st.pacer != nil {
			st.pacer.advance(now)
			l.seePurse(st)
		}
		cal := st.known(a.Tenant)
		r.cost = costOf(&r.est, cal, r.quota, r.counts)
		r.likely = likelyCost(&r.est, cal, st.prior(), r.quota, r.cost)
		if r.paced = r.likely; r.quota.reservesMax {
			r.paced = r.quota.cost(r.cost)
		}
	}
	for i := range a.charges {
		c := &a.charges[i]
		if c.quota >= 0 {
			c.amount = a.quotas[c.quota].cost.Of(c.limit.Meter)
		}
		if c.limit.paced {
			c.max = c.limit.ceiling(a.quotas[c.quota].state.pacer)
		}
		t := &l.shards[c.shard].table
		c.counter, c.found = t.find(c.hash, c.id, a.chargeKey(c))
		if c.found {
			t.advance(t.at(c.counter), now, c.max)
		} else if (c.amount > 0 || a.Open || a.peeks(c)) && !c.refund && !c.overflow && !a.DryRun && !l.roomForKey(now, c) {
			c.overflow = true
			return l.reroute(now, a)
		}
		if c.stated { // few are
			c.spent = l.spent(a, c)
			a.spends = a.spends || c.spent
		}
	}
	for i := range a.charges {
		a.sum(i)
	}
	return true
}

// sum sets the total of charge i: charges to the same counter are one.
func (a *Ask) sum(i int) {
	c := &a.charges[i]
	c.total = c.amount
	if len(a.charges) == 1 {
		return
	}
	for j := range a.charges {
		o := &a.charges[j]
		if i != j && o.hash == c.hash && o.id == c.id && o.refund == c.refund &&
			string(a.chargeKey(o)) == string(a.chargeKey(c)) {
			if c.total += o.amount; c.total < o.amount {
				c.total = math.MaxUint64
			}
		}
	}
}

// reroute routes a again. If that needs no other shards, it is resolved on the spot.
func (l *Limiter) reroute(now Instant, a *Ask) bool {
	had := a.shards
	if l.Route(a)&^had != 0 {
		return false
	}
	return l.resolve(now, a)
}

// roomForKey reports whether one more key may be counted by itself; where the bound
// is reached it first looks for a few idle ones to forget.
func (l *Limiter) roomForKey(now Instant, c *charge) bool {
	t := &l.shards[c.shard].table
	if l.keys.Load() < int64(l.opts.MaxKeys) && !t.full() {
		return true
	}
	return l.Sweep(now, int(c.shard), sweepWhenFull) > 0 && l.keys.Load() < int64(l.opts.MaxKeys) && !t.full()
}

const sweepWhenFull = 128

// settleVerdict checks and, if all is well, charges.
func (l *Limiter) settleVerdict(now Instant, a *Ask, d *Decision) {
	l.check(now, a, d)
	l.checkPaces(now, a, d)
	if d.Verdict != Allowed || a.DryRun || !l.room(now, a, d) {
		l.views(now, a, d)
		return
	}
	l.commit(now, a, d)
}

// room reports whether one more reservation may be opened, and whether it may be tried
// that there is money; if not, d says so.
func (l *Limiter) room(now Instant, a *Ask, d *Decision) bool {
	if !a.Open || l.open.Load() < int64(l.opts.MaxReservations) {
		return l.mayLook(now, a, d)
	}
	d.Verdict = Overloaded
	d.RetryAt = now.Add(DefaultTTL)
	return false
}

// checkPaces asks the learned quotas of a, if nothing else refused.
func (l *Limiter) checkPaces(now Instant, a *Ask, d *Decision) {
	if d.Verdict != Allowed || a.Force {
		return
	}
	for i := range a.quotas {
		r := &a.quotas[i]
		if r.state == nil || r.state.pacer == nil {
			continue
		}
		p, c := r.state.pacer, r.paced
		var before cost
		if !a.Retry && p.turns.len() > 0 {
			p.turns.expire(now, &r.state.line)
			before = p.turns.before(r.state.band(a), a.startIn(now, r))
		}
		if w, m := p.wait(now, c, before, r.state.open); w > fit {
			if before != (cost{}) { // those who were told to come back come when they come
				w = max(w, comeBack)
			}
			l.denyByPace(now, a, d, r, m, p.told(now, m, w))
			if !a.DryRun {
				p.blockedBy(c, before)
			}
		}
	}
}

// comeBack is how often, in seconds, to look whether those came back whose turn is
// earlier.
const comeBack = 0.02

// startIn returns the start tag that a has, or would get, in the order of r.
func (a *Ask) startIn(now Instant, r *quotaRef) float64 {
	if a.tagged {
		return a.start
	}
	q := &r.state.line
	start := q.virtual
	if f := q.flows[a.Tenant]; f != nil {
		start = max(start, f.finish)
	}
	return start
}

// commit makes the charges of a, all of which were checked.
func (l *Limiter) commit(now Instant, a *Ask, d *Decision) {
	for i := range a.charges {
		l.charge(now, a, &a.charges[i])
	}
	for i := range a.quotas {
		r := &a.quotas[i]
		a.countRepeat(r.flow)
		if r.state != nil && r.state.pacer != nil {
			r.leases = r.state.pacer.charge(now, r.paced, d.Delay)
			r.leases.likely = r.likely
			r.state.pacer.saw(now, r.flow, a)
			if !a.Open || r != a.mainQuota() { // nobody will report it
				r.state.pacer.report(now, &r.leases, &Outcome{Class: ClassUnknown}, r.quota.cost(r.cost), 0, r.flow)
			}
		}
	}
	switch {
	case a.Open:
		l.openReservation(now, a, d)
	case a.Force && a.RequestID != "":
		l.shards[a.home].book.remember(now, a, d)
	}
	for i := range a.charges {
		c := &a.charges[i]
		if !c.found { // looked at, and perhaps charged by another charge
			c.counter, c.found = l.shards[c.shard].table.find(c.hash, c.id, a.chargeKey(c))
		}
	}
	l.views(now, a, d)
	for i := range a.quotas {
		if st := a.quotas[i].state; st != nil {
			st.asked = now
		}
	}
}

// check fills in what each limit says, before anything is charged.
func (l *Limiter) check(now Instant, a *Ask, d *Decision) {
	d.Checks = slices.Grow(d.Checks[:0], len(a.charges))[:len(a.charges)]
	soft := softs{first: -1, retry: Never}
	for i := range a.charges {
		c, k := &a.charges[i], &d.Checks[i]
		k.Limit, k.Descriptor, k.Amount, k.Requested = c.limit, int(c.descriptor), c.max, c.amount
		k.RetryAt, k.Over, k.Spent = now, false, false
		k.Overflow = c.overflow || (c.ofQuota && a.quotas[c.quota].overflow)
		if c.limit.Soft || a.Soft {
			soft.n++
		}
		vast := c.limit.paced && a.vast(c)
		if c.refund || a.Force || (passes(l.used(c), c.total, c.max) && !vast) {
			continue
		}
		l.over(c, k, vast)
		soft.hear(a, d, i)
	}
	if soft.over > 0 {
		soft.settle(a, d)
	}
	if len(a.quotas) > 0 {
		d.Reserved = a.reserved()
	}
}

func (l *Limiter) used(c *charge) uint64 {
	if !c.found {
		return 0
	}
	return l.shards[c.shard].table.at(c.counter).used()
}

// reserved is what a means for its first quota.
func (a *Ask) reserved() Usage {
	var u Usage
	first := a.mainQuota()
	for i := range a.quotas {
		if r := &a.quotas[i]; r == first || (r.state != nil && r.state == first.state) {
			u.Requests = addSat(u.Requests, r.cost.Requests)
			u.InputTokens = addSat(u.InputTokens, r.cost.InputTokens)
			u.OutputTokens = addSat(u.OutputTokens, r.cost.OutputTokens)
		}
	}
	return u
}

// mainQuota returns the first quota of a, which estimates are learned for; else
// the first reference to none, else nil.
func (a *Ask) mainQuota() *quotaRef {
	for i := range a.quotas {
		if a.quotas[i].quota != nil {
			return &a.quotas[i]
		}
	}
	if len(a.quotas) > 0 {
		return &a.quotas[0]
	}
	return nil
}

// views fills in how the counters of a stand now.
func (l *Limiter) views(now Instant, a *Ask, d *Decision) {
	for i := range a.charges {
		k := &d.Checks[i]
		if l.viewIn(now, a, &a.charges[i], k); k.Over && d.Refusal.Cause > CauseLimit && k.Limit.paced {
			k.Remaining = 0 // the pace has no room, whatever the window says
		}
	}
}

// viewIn fills in how the counter of c, a charge of a, stands.
func (l *Limiter) viewIn(now Instant, a *Ask, c *charge, k *Check) {
	k.Used, k.ResetAt = 0, now
	if c.found {
		t := &l.shards[c.shard].table
		n := t.at(c.counter)
		k.Used = n.used()
		k.ResetAt = t.emptyAt(n, now, c.max)
	}
	if c.limit.paced {
		k.Amount = c.limit.stated(a.quotas[c.quota].state.pacer)
	}
	k.Remaining = subFloor(k.Amount, k.Used)
}

// charge makes one charge, and its counter if there is none yet.
func (l *Limiter) charge(now Instant, a *Ask, c *charge) {
	// A reservation needs the counter even for nothing: its report may charge it.
	if (c.amount == 0 && !a.Open && !a.peeks(c)) || (c.refund && !c.found) {
		return
	}
	s := &l.shards[c.shard]
	t := &s.table
	if !c.found {
		key := a.chargeKey(c)
		// A charge before this one may have made the counter.
		if c.counter, c.found = t.find(c.hash, c.id, key); !c.found {
			c.counter, c.found = t.insert(c.hash, c.id, key, c.limit, now), true
			if string(key) != overflowKey {
				l.keys.Add(1)
			}
		}
	}
	if c.overflow {
		s.overflowed++
	}
	n := t.at(c.counter)
	if c.stated {
		c.mark(n, a.peeks(c))
	}
	switch {
	case c.refund:
		t.refund(n, c.amount)
	case c.limit.Shadow || c.limit.paced || c.limit.Soft || a.Soft: // what is owed to a pace, the pace remembers
		t.add(n, c.amount)
	default:
		t.spend(n, c.amount, c.max)
	}
}

// mayHold reports whether the caller can wait until at.
func (a *Ask) mayHold(now, at Instant) bool {
	return a.HoldUntil > now && at <= a.HoldUntil && !a.DryRun && !a.Force && !a.spends && a.HasQuota()
}

// Sweep looks at up to n counters of a shard, going round, and forgets those that
// were unused for two windows; and at as many quotas, forgotten after a day. It returns
// how many counters it forgot. It touches that shard.
func (l *Limiter) Sweep(now Instant, shard, n int) int {
	for range min(max(n, 1), len(l.shards[shard].order)) {
		l.sweepQuota(now, &l.shards[shard], false)
	}
	t := &l.shards[shard].table
	dropped, keys := 0, 0
	for n = min(n, int(t.made)); n > 0; n-- {
		if t.sweepAt >= t.made {
			t.sweepAt = 0
		}
		c := t.at(t.sweepAt)
		if c.live() && c.idle(now) {
			if string(t.keyOf(c)) != overflowKey {
				keys++
			}
			t.remove(t.sweepAt)
			dropped++
		}
		t.sweepAt++
	}
	l.keys.Add(int64(-keys))
	return dropped
}
