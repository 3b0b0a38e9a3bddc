package limiter

import "time"

// openReservation remembers what a was charged.
func (l *Limiter) openReservation(now Instant, a *Ask, d *Decision) {
	b := &l.shards[a.home].book
	i, r := b.make()
	ttl := a.TTL
	if ttl <= 0 {
		ttl = DefaultTTL
	}
	ttl = min(ttl, MaxTTL)
	r.id, r.tenant, r.ttl = a.ID, l.tenantHash(a.Tenant), int64(ttl)
	r.expires = now.Add(ttl)
	r.reserved, r.charged, r.shards = d.Reserved, d.Reserved, a.shards
	if q := a.mainQuota(); q != nil && q.state != nil {
		r.quota, r.cal = q.state, q.state.calibration(now, a.Tenant)
		r.counts, r.leases = q.counts, q.leases
		r.estimate = rawInput(&q.est, r.counts)
		q.state.open++
		r.cal.open++
		if r.flow = q.flow; r.flow != nil {
			r.flow.open++
		}
		r.right, r.most = a.right, 0
		if q.est.HasMax {
			r.most = q.est.MaxTokens
		}
	}
	for j := range a.charges {
		c := &a.charges[j]
		if c.refund {
			continue
		}
		r.add(hold{
			limit: c.limit, max: c.max, amount: c.amount, bucket: l.shards[c.shard].table.at(c.counter).last,
			counter: c.counter, shard: c.shard, fixed: c.quota < 0, counts: c.quota >= 0 && a.quotas[c.quota].counts,
		})
	}
	for j := range r.n {
		h := r.hold(j)
		l.shards[h.shard].table.at(h.counter).pins++
	}
	b.byID[r.id] = place{at: i}
	b.heapPush(i)
	l.open.Add(1)
	if a.RequestID != "" {
		r.request, r.named = a.request, true
		b.byRequest[a.request] = r.id
	}
	if a.IdempotencyKey != "" {
		ib := &l.shards[a.idemShard].book
		ib.byIdem[a.idem] = idemEntry{id: r.id, expires: r.expires, forget: now.Add(2 * ttl), reserved: r.reserved}
		ib.idems.push(idemKey{a.idem, now.Add(2 * ttl)})
		ib.forget(now)
	}
	d.ID, d.Opened, d.ExpiresAt = r.id, true, r.expires
}

// tenantHash stands for a tenant's name in reservations; 0 stands for anybody. It is
// only compared for the same reservation, so that 63 bits are enough.
func (l *Limiter) tenantHash(tenant string) uint64 {
	var space [256]byte
	return l.secret.bytes(ofTenant, append(space[:0], tenant...)) | 1
}

func (l *Limiter) claimedBy(tenant string) uint64 {
	if tenant == "" {
		return 0
	}
	return l.tenantHash(tenant)
}

// Find returns the reservation, open or ended, of a request id. It touches
// HomeOfRequest(requestID).
func (l *Limiter) Find(requestID string) (ID, bool) {
	k := l.requestDigest(requestID)
	id, ok := l.shards[l.shardOf(k[0])].book.byRequest[k]
	return id, ok
}

// ShardsOf says which shards Report and Release of id touch. It touches HomeOf(id)
// itself; its answer holds for as long as that is not unlocked, or until the
// reservation has ended.
func (l *Limiter) ShardsOf(id ID) ShardSet {
	home := l.HomeOf(id)
	if _, r := l.shards[home.First()].book.get(id, 0); r != nil {
		return home | r.shards
	}
	return home
}

// endedAs answers for a reservation that is not open.
func (b *book) endedAs(now Instant, id ID, tenant uint64) Settlement {
	t := b.ended(id)
	if t == nil || t.forget <= now || (tenant != 0 && t.tenant != tenant) {
		return Settlement{}
	}
	return Settlement{Ending: t.ending, Charged: t.charged}
}

// openAt returns the reservation id, if it is open at now and tenant's. Otherwise
// the Settlement is the answer.
func (l *Limiter) openAt(now Instant, id ID, tenant string) (uint32, *reservation, Settlement) {
	b := &l.shards[l.HomeOf(id).First()].book
	who := l.claimedBy(tenant)
	i, r := b.get(id, who)
	if r == nil {
		return 0, nil, b.endedAs(now, id, who)
	}
	if r.expires <= now {
		l.expire(now, l.HomeOf(id).First(), i)
		return 0, nil, b.endedAs(now, id, who)
	}
	return i, r, Settlement{}
}

// Report says what the call of a reservation really used: the estimate is replaced
// by that, once. What exceeds it is charged, and may leave debt; what falls short
// is given back to the time when it was charged. A report of progress only raises
// what is charged, says what the upstream's headers said, and leaves the reservation open. tenant, unless empty, must be the
// one that reserved. It touches ShardsOf(id).
func (l *Limiter) Report(now Instant, id ID, tenant string, o Outcome) Settlement {
	i, r, s := l.openAt(now, id, tenant)
	if r == nil {
		return s
	}
	o.countReads(r)
	if !o.Trusted {
		r.clamp(&o)
	}
	if o.Progress && o.Attempt > 0 && o.Class.Refuses() {
		return l.attempted(now, r, &o)
	}
	r.charged = r.actual(&o)
	for j := range r.n {
		if h := r.hold(j); !h.fixed {
			l.rehold(now, h, r.wants(h, &o), !o.Progress)
		}
	}
	var tried Settlement // of an earlier attempt
	if o.Progress {
		l.concludeAttempt(now, r, &o, &tried)
		before := l.pace(now, r, &o)
		tried.Ending, tried.Applied, tried.Charged, tried.ExpiresAt = Open, true, r.charged, r.expires
		adopted := tried.Adopted
		tried.since(&before, r.pacer())
		tried.Adopted = tried.Adopted || adopted
		l.wake(now, r.shards)
		return tried
	}
	r.heard(now, &o)
	l.concludeAttempt(now, r, &o, &tried)
	before := l.learn(now, r, &o)
	var refusedBy string
	if o.Class.Refuses() && r.quota != nil {
		refusedBy = r.quota.quota.name
	}
	pacer := r.pacer()
	s = l.end(now, i, r, Settled)
	s.Attempt, s.Quota, s.Event, s.EventMeter = tried.Attempt, tried.Quota, tried.Event, tried.EventMeter
	s.since(&before, pacer)
	s.Adopted = s.Adopted || tried.Adopted
	if refusedBy != "" {
		s.Refused, s.Quota = o.Class, refusedBy
	}
	return s
}

// learn takes in what o, the last report of r, says of its quota and of its tenant's
// estimates. It returns how the pacer stood before.
func (l *Limiter) learn(now Instant, r *reservation, o *Outcome) (before mark) {
	before = l.pace(now, r, o)
	if o.Learn && !o.Trusted && r.pacer() != nil {
		r.quota.owe(r.flow, &r.leases, r.quota.quota.cost(r.charged))
	}
	if o.Learn && r.cal != nil {
		if o.HasInput {
			r.cal.learnInput(r.estimate, r.believable(o, o.Usage.InputTokens))
		}
		if o.HasOutput && !o.OutputFloor {
			r.quota.learnOutput(now, r.cal, o.Usage.OutputTokens)
		}
	}
	return before
}

// pace lets the pace of r's quota learn from o, and returns what it was before.
func (l *Limiter) pace(now Instant, r *reservation, o *Outcome) (before mark) {
	p := r.pacer()
	if p == nil {
		return before
	}
	p.advance(now)
	before = p.mark()
	rates := p.rates()
	l.learnMoney(now, r, o)
	p.report(now, &r.leases, o, r.quota.quota.cost(r.charged), r.quota.open, r.flow)
	r.quota.rescale(now, rates)
	return before
}

// actual works out what a reservation is to be charged after o.
func (r *reservation) actual(o *Outcome) Usage {
	u := r.charged
	switch {
	case o.Progress:
		if o.HasInput {
			u.InputTokens = max(u.InputTokens, o.Usage.InputTokens)
		}
		if o.HasOutput {
			u.OutputTokens = max(u.OutputTokens, o.Usage.OutputTokens)
		}
		return u
	case o.RefundRequests:
		u.Requests = 0
	}
	switch {
	case o.HasInput:
		u.InputTokens = o.Usage.InputTokens
	case o.RefundInput:
		u.InputTokens = 0
	}
	switch {
	case o.HasOutput && o.OutputFloor:
		u.OutputTokens = max(u.OutputTokens, o.Usage.OutputTokens)
	case o.HasOutput:
		u.OutputTokens = o.Usage.OutputTokens
	case o.RefundOutput:
		u.OutputTokens = 0
	}
	u.InputTokens, u.OutputTokens = min(u.InputTokens, MaxAmount), min(u.OutputTokens, MaxAmount)
	return u
}

// wants says what h is to be charged after o, of which r.charged is the sum. What o
// says nothing about stays as it was reserved, which may differ between quotas.
func (r *reservation) wants(h *hold, o *Outcome) uint64 {
	in, out := o.HasInput || o.RefundInput, o.HasOutput || o.RefundOutput
	switch m := h.limit.Meter; {
	case m == Requests && o.RefundRequests && !o.Progress, m == InputTokens && in, m == Tokens && (in || out):
		return o.recount(r, h, r.charged.Of(m))
	case m == OutputTokens && o.HasOutput && o.OutputFloor:
		return max(h.amount, o.Usage.OutputTokens)
	case m == OutputTokens && out:
		return r.charged.OutputTokens
	}
	return h.amount
}

// rehold changes what a hold has charged to want.
func (l *Limiter) rehold(now Instant, h *hold, want uint64, back bool) {
	t := &l.shards[h.shard].table
	c := t.at(h.counter)
	t.advance(c, now, h.max)
	switch {
	case want > h.amount && (h.limit.Shadow || h.limit.paced):
		t.add(c, want-h.amount)
	case want > h.amount:
		t.spend(c, want-h.amount, h.max)
	case want < h.amount && back:
		t.giveBack(c, h.bucket, h.amount-want)
	default:
		return
	}
	h.amount = want
}

// end ends an open reservation, and lets those that wait for its limits look again.
func (l *Limiter) end(now Instant, i uint32, r *reservation, ending Ending) Settlement {
	for j := range r.n {
		h := r.hold(j)
		l.shards[h.shard].table.at(h.counter).pins--
	}
	if r.quota != nil {
		r.quota.open--
		if r.flow != nil {
			r.flow.open--
		}
		if p := r.quota.pacer; p != nil && ending != Settled {
			p.advance(now)
			o := Outcome{Class: ClassUnknown} // it is charged as reserved
			if ending == Released {
				o.Class = ClassUnused
			}
			p.report(now, &r.leases, &o, r.quota.quota.cost(r.charged), r.quota.open, r.flow)
		}
	}
	s := Settlement{Ending: ending, Applied: true, Charged: r.charged}
	shards := r.shards
	l.shards[l.HomeOf(r.id).First()].book.bury(i, ending, now)
	l.open.Add(-1)
	if ending != Expired {
		l.wake(now, shards)
	}
	return s
}

// Release ends a reservation whose call was never sent, and gives everything back.
// tenant, unless empty, must be the one that reserved. It touches ShardsOf(id).
func (l *Limiter) Release(now Instant, id ID, tenant string) Settlement {
	i, r, s := l.openAt(now, id, tenant)
	if r == nil {
		return s
	}
	r.charged = Usage{}
	for j := range r.n {
		l.rehold(now, r.hold(j), 0, true)
	}
	return l.end(now, i, r, Released)
}

// Renew lets a reservation live for ttl (0 means DefaultTTL, at most MaxTTL) from
// now. It touches ShardsOf(id), and changes only that reservation.
func (l *Limiter) Renew(now Instant, id ID, tenant string, ttl time.Duration) Settlement {
	_, r, s := l.openAt(now, id, tenant)
	if r == nil {
		return s
	}
	if ttl <= 0 {
		ttl = DefaultTTL
	}
	r.ttl = int64(min(ttl, MaxTTL))
	r.expires = now.Add(min(ttl, MaxTTL))
	l.shards[l.HomeOf(id).First()].book.heapFix(r.heapAt)
	return Settlement{Ending: Open, Applied: true, Charged: r.charged, ExpiresAt: r.expires}
}

// expire ends reservation i of a shard: its estimate stays charged.
func (l *Limiter) expire(now Instant, shard int, i uint32) {
	s := &l.shards[shard]
	r := s.book.at(i)
	id := r.id
	l.end(now, i, r, Expired)
	s.expired++
	s.events = append(s.events, Event{Expired: id})
}
