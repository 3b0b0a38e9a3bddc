package limiter

import (
	"math/bits"
	"sync/atomic"
)

// ShardSet is a set of shards: bit i stands for shard i.
type ShardSet uint64

// Has reports whether shard i is in s.
func (s ShardSet) Has(i int) bool { return s>>uint(i)&1 != 0 }

// First returns the lowest shard of s, which is not empty.
func (s ShardSet) First() int { return bits.TrailingZeros64(uint64(s)) }

// Rest returns s without its lowest shard.
func (s ShardSet) Rest() ShardSet { return s & (s - 1) }

// MaxShards is the largest number of shards of a Limiter.
const MaxShards = 64

// Options of New. Zero values mean the defaults that each field names.
type Options struct {
	// Shards is a power of two, at most MaxShards. Default 1.
	Shards int
	// Seed of the hashes that spread keys. A server gives a random one, so that
	// nobody can aim at a shard; decisions do not depend on it.
	Seed uint64
	// MaxKeys bounds the keys that are counted one by one, and the quotas. Beyond it
	// a new key shares its rule's overflow counter. Default 1,000,000.
	MaxKeys int
	// MaxReservations bounds open reservations; beyond it asks are Overloaded.
	// Default 1,000,000. A quarter as many ended ones are remembered.
	MaxReservations int
	// MaxHeld bounds held asks; beyond it they are answered at once. Default 4096.
	MaxHeld int
	// MaxHeldPerTenant bounds those of one tenant, in one quota. Default 64.
	MaxHeldPerTenant int
}

func (o Options) withDefaults() Options {
	if o.Shards < 1 {
		o.Shards = 1
	}
	if o.Shards > MaxShards {
		o.Shards = MaxShards
	}
	o.Shards = 1 << (bits.Len(uint(o.Shards)) - 1)
	if o.MaxKeys <= 0 {
		o.MaxKeys = 1_000_000
	}
	if o.MaxReservations <= 0 {
		o.MaxReservations = 1_000_000
	}
	if o.MaxHeld <= 0 {
		o.MaxHeld = 4096
	}
	if o.MaxHeldPerTenant <= 0 {
		o.MaxHeldPerTenant = 64
	}
	return o
}

// Limiter is the state: counters, reservations, quotas, held asks. See the package
// comment for how calls share it.
type Limiter struct {
	opts   Options
	secret secret
	shift  uint // of a hash, to its shard
	shards []shard

	// All that shards share: sums over them, and whose money is spent.
	keys, open, held atomic.Int64
	money            purses
}

// shard is the part of a Limiter that one lock guards.
type shard struct {
	table   table
	quotas  map[string]*quotaState
	order   []*quotaState // the same, for looking at them in turn
	sweepAt int
	book    book
	lines   lines
	events  []Event

	overflowed uint64 // charges that went to an overflow counter
	expired    uint64 // reservations that expired
}

// New returns an empty Limiter.
func New(o Options) *Limiter {
	o = o.withDefaults()
	l := &Limiter{opts: o, secret: secretOf(o.Seed), shift: uint(64 - bits.Len(uint(o.Shards-1))), shards: make([]shard, o.Shards)}
	for i := range l.shards {
		s := &l.shards[i]
		s.quotas = map[string]*quotaState{}
		s.lines.byTicket = map[Ticket]*waiter{}
		s.book.init(max(o.MaxReservations/4/o.Shards, 64))
	}
	return l
}

// Shards returns the number of shards.
func (l *Limiter) Shards() int { return len(l.shards) }

func (l *Limiter) shardOf(hash uint64) uint8 {
	if l.shift >= 64 {
		return 0
	}
	return uint8(hash >> l.shift)
}

// Route fixes which shards Decide touches for a, and marks a.ID with the shard in
// which the reservation will live. It reads nothing that changes.
func (l *Limiter) Route(a *Ask) ShardSet {
	var set ShardSet
	for i := range a.quotas {
		r := &a.quotas[i]
		if r.quota == nil {
			continue
		}
		r.overflow = r.overflow || r.key.len() > maxKeyLen
		r.hash = l.hashKey(r.quota.id, a.quotaKey(r))
		r.shard = l.shardOf(r.hash)
		set |= 1 << r.shard
	}
	for i := range a.charges {
		c := &a.charges[i]
		if c.ofQuota {
			// All meters of a quota live in one shard.
			r := &a.quotas[c.quota]
			top := ^uint64(0) << l.shift
			c.hash = r.hash&top | mix(r.hash, uint64(c.id)^mixB)&^top
			c.shard = r.shard
		} else {
			c.overflow = c.overflow || c.key.len() > maxKeyLen
			if c.overflow {
				c.id = c.limit.alone
			}
			c.hash = l.hashKey(c.id, a.chargeKey(c))
			c.shard = l.shardOf(c.hash)
		}
		set |= 1 << c.shard
	}
	if a.Open || a.RequestID != "" || a.IdempotencyKey != "" {
		set |= l.routeNames(a, set)
	}
	if set == 0 {
		set = 1
	}
	if a.rights.len() > 0 {
		a.right, a.tenant = l.secret.bytes(ofRight, a.bytes(a.rights))|1, l.tenantHash(a.Tenant)
	}
	a.shards = set
	return set
}

// routeNames picks the home of the reservation: the shard of its request id, so
// that a report can find it; else that of its idempotency key; else any of set.
func (l *Limiter) routeNames(a *Ask, set ShardSet) ShardSet {
	home := uint8(0)
	if set != 0 {
		home = uint8(set.First())
	}
	if a.IdempotencyKey != "" {
		a.idem = l.secret.digestOf(ofIdempotency, a.Tenant, a.IdempotencyKey)
		a.idemShard = l.shardOf(a.idem[0])
		home = a.idemShard
		set |= 1 << a.idemShard
	}
	if a.RequestID != "" {
		a.request = l.requestDigest(a.RequestID)
		home = l.shardOf(a.request[0])
	}
	a.home = home
	a.ID[0] = home
	return set | 1<<home
}

func (l *Limiter) requestDigest(requestID string) digest {
	return l.secret.digestOf(ofRequest, requestID)
}

func (l *Limiter) hashKey(id uint32, key []byte) uint64 {
	return l.secret.bytes(uint64(id)*mixB, key)
}

// overflowKey is the key of overflow counters and quotas. No captured value looks
// like it: it would be a length that does not end.
const overflowKey = "\x80"

func (a *Ask) quotaKey(r *quotaRef) []byte {
	if r.overflow {
		return a.overflowed()
	}
	return a.bytes(r.key)
}

func (a *Ask) chargeKey(c *charge) []byte {
	if c.overflow || (c.ofQuota && a.quotas[c.quota].overflow) {
		return a.overflowed()
	}
	return a.bytes(c.key)
}

// overflowed returns overflowKey, kept at the end of the keys.
func (a *Ask) overflowed() []byte {
	if n := len(a.keys); n == 0 || a.keys[n-1] != overflowKey[0] {
		a.keys = append(a.keys, overflowKey...)
	}
	return a.keys[len(a.keys)-1:]
}

// HomeOf returns the shard in which the reservation id lives, if it does.
func (l *Limiter) HomeOf(id ID) ShardSet { return 1 << (id[0] & uint8(len(l.shards)-1)) }

// HomeOfRequest returns the shard in which reservations of a request id live.
func (l *Limiter) HomeOfRequest(requestID string) ShardSet {
	return 1 << l.shardOf(l.requestDigest(requestID)[0])
}

// Stats are sums over one shard.
type Stats struct {
	// Keys are counters in use.
	Keys int
	// Quotas are those that have been asked for.
	Quotas int
	// Open reservations.
	Open int
	// Held asks.
	Held int
	// Overflowed counts charges to overflow counters since the start.
	Overflowed uint64
	// Expired counts reservations that expired since the start.
	Expired uint64
}

// Stats sums a shard up. It touches that shard.
func (l *Limiter) Stats(i int) Stats {
	s := &l.shards[i]
	return Stats{
		Keys: s.table.used, Quotas: len(s.quotas), Open: s.book.openCount(), Held: len(s.lines.byTicket),
		Overflowed: s.overflowed, Expired: s.expired,
	}
}

// Add returns the sums of s and o.
func (s Stats) Add(o Stats) Stats {
	return Stats{
		Keys: s.Keys + o.Keys, Quotas: s.Quotas + o.Quotas, Open: s.Open + o.Open, Held: s.Held + o.Held,
		Overflowed: s.Overflowed + o.Overflowed, Expired: s.Expired + o.Expired,
	}
}

// SweepShare returns how many counters of a shard to look at so that all are looked
// at in the given number of rounds. It touches that shard.
func (l *Limiter) SweepShare(shard, rounds int) int {
	return int(l.shards[shard].table.made)/rounds + 1
}
