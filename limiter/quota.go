package limiter

import (
	"encoding/binary"
	"slices"
	"strings"
	"time"
)

// quotaState is one quota: of one organisation, or whatever tells quotas of its name
// apart. Its counters are in the shard's table.
type quotaState struct {
	quota        *quota
	key          string   // in shard.quotas
	place        int      // in shard.order
	values       []string // of quota.per
	payer        payer    // without an org if nobody knows
	hash         uint64
	overflow     bool
	asked        Instant // when it was last charged
	swept        Instant // when its tenants were last looked through
	open         int
	calibrations map[string]*calibration // by tenant
	pool         pool                    // of all of them
	line         line
	bars         bars   // rights that the upstream refused
	parked       int    // held asks that are not in line yet
	pacer        *pacer // nil unless the quota is learned
}

// maxTenants bounds the tenants of one quota whose estimates are learned apart.
const maxTenants = 1024

// otherTenants is the name under which those beyond are kept; no tenant can have it,
// since names are bounded far below its length.
var otherTenants = strings.Repeat("\x00", 512) //nolint:gochecknoglobals // a constant that Go cannot write as one

// quotaState returns the state of the quota that r names; nil if there is none and
// no room for one more.
func (l *Limiter) quotaState(now Instant, a *Ask, r *quotaRef) *quotaState {
	s := &l.shards[r.shard]
	a.scratch = binary.LittleEndian.AppendUint32(a.scratch[:0], r.quota.id)
	a.scratch = append(a.scratch, a.quotaKey(r)...)
	if st := s.quotas[string(a.scratch)]; st != nil {
		if st.quota != r.quota { // of another plan
			st.adopt(now, r.quota)
		}
		return st
	}
	if !r.overflow && !l.roomForQuota(now, int(r.shard)) {
		return nil
	}
	st := &quotaState{quota: r.quota, hash: r.hash, overflow: r.overflow, asked: now}
	if r.quota.learn {
		st.pacer = newPacer(now, r.quota)
	}
	if !r.overflow {
		st.values = splitKey(a.bytes(r.key))
	}
	st.payer = st.payerOf()
	if !a.DryRun {
		st.key, st.place = string(a.scratch), len(s.order)
		s.quotas[st.key] = st
		s.order = append(s.order, st)
		if !st.overflow {
			l.keys.Add(1)
		}
	}
	return st
}

// adopt lets the quota go on under another plan. What was learned stays, unless the
// configured limits changed.
func (s *quotaState) adopt(now Instant, q *quota) {
	s.quota = q
	s.payer = s.payerOf()
	if !q.learn {
		s.pacer = nil
		return
	}
	if fresh := newPacer(now, q); s.pacer == nil || s.pacer.configured != fresh.configured || s.pacer.capped != fresh.capped || s.pacer.joint != fresh.joint {
		s.pacer = fresh
	}
}

// quotaMemory is how long a quota that nobody asks for is remembered, with what was
// learned about it.
const quotaMemory = 24 * time.Hour

// roomForQuota reports whether one more quota may be told apart; where the bound is
// reached it first looks for keys, and for quotas with unused limits, to forget.
func (l *Limiter) roomForQuota(now Instant, shard int) bool {
	if l.keys.Load() < int64(l.opts.MaxKeys) {
		return true
	}
	l.Sweep(now, shard, sweepWhenFull)
	s := &l.shards[shard]
	for range min(sweepWhenFull, len(s.order)) {
		l.sweepQuota(now, s, true)
	}
	return l.keys.Load() < int64(l.opts.MaxKeys)
}

// sweepQuota looks at the next quota of s and forgets it if it is long unused; where
// room is short, already if its limits are.
func (l *Limiter) sweepQuota(now Instant, s *shard, short bool) {
	if len(s.order) == 0 {
		return
	}
	s.sweepAt = (s.sweepAt + 1) % len(s.order)
	st := s.order[s.sweepAt]
	memory := quotaMemory
	if short {
		memory = 0
		for _, lim := range st.quota.limits {
			memory = max(memory, 2*lim.Window)
		}
	}
	if st.open > 0 || st.line.len() > 0 || st.parked > 0 || now.Sub(st.asked) <= memory {
		st.sweep(now)
		return
	}
	last := s.order[len(s.order)-1]
	last.place, s.order[st.place] = st.place, last
	s.order = s.order[:len(s.order)-1]
	delete(s.quotas, st.key)
	if !st.overflow {
		l.keys.Add(-1)
	}
}

// sweep forgets tenants that did not call lately; of a quota at rest also their places
// in its order.
func (s *quotaState) sweep(now Instant) {
	if now.Sub(s.swept) < time.Minute {
		return
	}
	s.swept = now
	s.forgetTenants(now)
	if s.line.len() > 0 || now.Sub(s.asked) <= 2*time.Minute {
		return
	}
	if s.pacer != nil {
		if s.pacer.turns.expire(now, &s.line); s.pacer.turns.len() > 0 {
			return
		}
	}
	if s.line.forget(now); len(s.line.flows) == 0 {
		s.line.flows = nil
	}
}

// splitKey undoes Ask.capture.
func splitKey(key []byte) []string {
	var out []string
	for len(key) > 0 {
		n, w := binary.Uvarint(key)
		key = key[w:]
		out = append(out, string(key[:n]))
		key = key[n:]
	}
	return out
}

// QuotaView is one quota, as it stands.
type QuotaView struct {
	// Name and Provider are those of the configuration.
	Name, Provider string
	// Attributes tell the quota from others of its name.
	Attributes []Entry
	// Overflow says that it stands for all those beyond the bound on keys.
	Overflow bool
	// Checks are its limits; nothing is requested of them.
	Checks []Check
	// Paces are what was learned, of Requests, InputTokens and OutputTokens, or of Requests
	// and Tokens where the upstream counts these together; nil unless the quota is
	// learned.
	Paces []PaceView
	// Open reservations, and held asks.
	Open, Held int
	// Tenants are those that wait, those with the most held asks first.
	Tenants []TenantView
	// InFlightCap is the most calls that may be open at a time; 0 unless it was learned.
	InFlightCap uint64
	// OverloadRate is how many calls a minute are tried while the upstream is overloaded;
	// 0 if it is well.
	OverloadRate float64
	// SpendUntil is until when nothing is sent because the money is spent; in the past if
	// it is not.
	SpendUntil Instant
	// LastAsked is when something was last charged to it.
	LastAsked Instant
}

// Quotas lists the quotas of a shard, in the order of their names and attributes. It
// touches that shard.
func (l *Limiter) Quotas(now Instant, shard int) []QuotaView {
	s := &l.shards[shard]
	out := make([]QuotaView, 0, len(s.quotas))
	for _, st := range s.quotas {
		v := QuotaView{
			Name: st.quota.name, Provider: st.quota.provider, Overflow: st.overflow,
			Open: st.open, Held: st.line.len() + st.parked, LastAsked: st.asked,
		}
		var a Ask
		r := quotaRef{quota: st.quota, hash: st.hash, overflow: st.overflow}
		for i, value := range st.values {
			v.Attributes = append(v.Attributes, Entry{st.quota.per[i], value})
			a.capture(value)
		}
		r.key = span{0, a.mark()}
		r.state = st
		if st.pacer != nil {
			st.pacer.advance(now)
			l.seePurse(st)
			v.Paces = st.pacer.views(now)
		}
		st.look(now, &v)
		a.quotas = append(a.quotas, r)
		for _, lim := range st.quota.limits {
			a.charges = append(a.charges, charge{limit: lim, id: lim.id, max: lim.Amount, key: r.key, ofQuota: true})
		}
		l.Route(&a)
		for i := range a.charges {
			c := &a.charges[i]
			k := Check{Limit: c.limit, Descriptor: -1, Amount: c.max, RetryAt: now, Overflow: st.overflow}
			if c.limit.paced {
				c.max = c.limit.ceiling(st.pacer)
			}
			if c.counter, c.found = s.table.find(c.hash, c.id, a.chargeKey(c)); c.found {
				s.table.advance(s.table.at(c.counter), now, c.max)
			}
			c.quota = 0
			l.viewIn(now, &a, c, &k)
			k.Over = k.Used >= k.Amount
			v.Checks = append(v.Checks, k)
		}
		out = append(out, v)
	}
	slices.SortFunc(out, CompareQuotas)
	return out
}

// CompareQuotas orders quotas by name and attributes.
func CompareQuotas(a, b QuotaView) int {
	if c := strings.Compare(a.Name, b.Name); c != 0 {
		return c
	}
	return slices.CompareFunc(a.Attributes, b.Attributes, func(x, y Entry) int { return strings.Compare(x.Value, y.Value) })
}

// Zero forgets what the counters that a is matched to hold, if they are of limits of
// owner, and of meter unless that is nil. It returns how many it found, and touches
// the shards that Route(a) said.
func (l *Limiter) Zero(now Instant, a *Ask, owner string, meter *Meter) int {
	zeroed := 0
	for i := range a.charges {
		c := &a.charges[i]
		if c.limit.Owner != owner || (meter != nil && c.limit.Meter != *meter) {
			continue
		}
		t := &l.shards[c.shard].table
		if n, ok := t.find(c.hash, c.id, a.chargeKey(c)); ok {
			t.shrink(t.at(n))
			t.advance(t.at(n), now, c.max)
			zeroed++
		}
	}
	l.wake(now, a.shards)
	return zeroed
}

func durationOf(ns int64) time.Duration { return time.Duration(ns) }
