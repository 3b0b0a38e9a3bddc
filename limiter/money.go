package limiter

import (
	"maps"
	"sync/atomic"
	"time"
)

// The money of an organisation at a provider pays for all its quotas there, whatever
// their models, and these live in any shards. While there is money nothing is known of it.
// Once an upstream said that it is spent there is a purse, which is shared by the quotas:
// asking it is reading an atomic number. Only a gateway's word makes one, since nobody
// who asks for one quota can be the only one that the others' closing touches.

// payer is who pays for a quota, and whom.
type payer struct{ provider, org string }

// purse is money that is spent. The zero until says that there is some again: it is
// final, what is spent anew is another purse.
type purse struct {
	payer
	until   atomic.Int64 // an Instant: until when nothing is sent
	since   atomic.Int64 // when the upstream said so last
	looking atomic.Int64 // until when one call looks whether there is money, and the others wait
}

// purses are those of a Limiter. A map is never changed once it can be seen; nil is an
// empty one. Lines in other shards are not told that there is money again: they look by
// themselves, see lookAgain.
type purses struct {
	of atomic.Pointer[map[payer]*purse]
}

const (
	// maxPurses bounds organisations without money. Beyond, only the quota closes.
	maxPurses = 1024
	// purseMemory is how long one is kept that nobody looked into.
	purseMemory = 24 * time.Hour
)

// shutUntil is until when p keeps calls off; in the past if it does not.
func (p *purse) shutUntil() Instant {
	if p == nil {
		return 0
	}
	until := p.until.Load()
	if until == 0 {
		return 0
	}
	return Instant(max(until, p.looking.Load()))
}

// spentUntil is shutUntil without the time for which one looks.
func (p *purse) spentUntil() Instant {
	if p == nil {
		return 0
	}
	return Instant(p.until.Load())
}

// look makes the caller the one that looks into p, if nobody does.
func (p *purse) look(now Instant) bool {
	until, looking := p.until.Load(), p.looking.Load()
	switch {
	case until == 0:
		return true
	case until > int64(now) || looking > int64(now):
		return false
	}
	return p.looking.CompareAndSwap(looking, int64(now.Add(spendWait)))
}

// extend lets p be spent until then; false if it has money again.
func (p *purse) extend(now, until Instant) bool {
	for {
		was := p.until.Load()
		if was == 0 {
			return false
		}
		p.since.Store(int64(now))
		if p.until.CompareAndSwap(was, max(was, int64(until))) {
			return true
		}
	}
}

// get returns the purse of who; nil if it has money.
func (s *purses) get(who payer) *purse {
	of := s.of.Load()
	if of == nil || who.org == "" {
		return nil
	}
	return (*of)[who]
}

// spend notes that who has no money until then; false if there is no room for it.
func (s *purses) spend(now Instant, who payer, until Instant) bool {
	for {
		old := s.of.Load()
		next := map[payer]*purse{}
		if old != nil {
			if p := (*old)[who]; p != nil && p.extend(now, until) {
				return true
			}
			next = maps.Clone(*old)
		}
		maps.DeleteFunc(next, func(_ payer, p *purse) bool {
			was := p.until.Load()
			return was == 0 || (now.Sub(Instant(was)) > purseMemory && p.until.CompareAndSwap(was, 0))
		})
		if len(next) >= maxPurses {
			return false
		}
		p := &purse{payer: payer{clone(who.provider), clone(who.org)}}
		p.since.Store(int64(now))
		p.until.Store(int64(until))
		next[p.payer] = p
		if s.of.CompareAndSwap(old, &next) {
			return true
		}
	}
}

// open notes that p has money again.
func (s *purses) open(p *purse) {
	if p.until.Swap(0) == 0 {
		return
	}
	for {
		old := s.of.Load()
		if old == nil || (*old)[p.payer] != p {
			return
		}
		next := maps.Clone(*old)
		delete(next, p.payer)
		rest := &next
		if len(next) == 0 {
			rest = nil
		}
		if s.of.CompareAndSwap(old, rest) {
			return
		}
	}
}

// payerOf says who pays for the quota: the organisation that tells it from others, or
// that it is for. Of a quota of several nobody knows.
func (s *quotaState) payerOf() payer {
	if s.overflow {
		return payer{}
	}
	for i, k := range s.quota.per {
		if k == "org" && i < len(s.values) {
			return payer{s.quota.provider, s.values[i]}
		}
	}
	return payer{s.quota.provider, s.quota.org}
}

// seePurse lets the quota see whether its payer has money.
func (l *Limiter) seePurse(s *quotaState) {
	if s.pacer != nil {
		s.pacer.purse = l.money.get(s.payer)
	}
}

// mayLook reports whether a may be sent: where the money is spent one call looks whether
// there is some again. If that is another one, d says so.
func (l *Limiter) mayLook(now Instant, a *Ask, d *Decision) bool {
	if a.Force {
		return true
	}
	for i := range a.quotas {
		r := &a.quotas[i]
		if r.state == nil || r.state.pacer == nil || r.state.pacer.purse == nil || a.looks(i) {
			continue
		}
		if p := r.state.pacer.purse; !p.look(now) {
			l.denyByPace(now, a, d, r, Requests, p.shutUntil().Sub(now).Seconds())
			return false
		}
	}
	return true
}

// looks says whether a quota of a before i has the same purse.
func (a *Ask) looks(i int) bool {
	for j := range i {
		if st := a.quotas[j].state; st != nil && st.pacer != nil && st.pacer.purse == a.quotas[i].state.pacer.purse {
			return true
		}
	}
	return false
}

// learnMoney takes in what a report says of the money of r's payer.
func (l *Limiter) learnMoney(now Instant, r *reservation, o *Outcome) {
	q := r.quota
	switch {
	case o.Class == ClassSpend && o.closesOrg() && q.payer.org != "":
		l.money.spend(now, q.payer, now.Add(spendFor(o.RetryAfter)))
	case o.Class == ClassOK || (o.Class == ClassUnset && !o.Progress):
		if p := l.money.get(q.payer); p != nil && int64(r.leases.decided) > p.since.Load() {
			l.money.open(p)
		}
	}
	l.seePurse(q)
}

// closesOrg says whether a spent budget is that of all quotas of the organisation.
func (o *Outcome) closesOrg() bool { return o.Trusted && !o.Narrow }
