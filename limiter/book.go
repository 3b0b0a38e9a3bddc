package limiter

import "encoding/binary"

// reservation is an open hold on limits. Its counters are pinned: they are not
// forgotten while it lives.
type reservation struct {
	id       ID
	tenant   uint64 // hash
	expires  Instant
	ttl      int64
	reserved Usage // what was expected
	charged  Usage // what is charged, after reports of progress
	shards   ShardSet
	request  digest
	named    bool // has a request id

	estimate float64 // input tokens before calibration; 0 if the caller gave none
	cal      *calibration
	quota    *quotaState
	flow     *flow  // the lane of the tenant that asked; nil where nobody did
	right    uint64 // hash of the credential, model and kind of context; 0 if unknown
	most     uint64 // of the output, by the caller's word; 0 if it gave none
	counts   bool   // the quota counts what the model reads from the cache
	leases   leases
	taught   uint32          // attempts that were learned from
	refused  *refusedAttempt // the latest one, while it may have been the last; nil if none

	n    int
	few  [inlineHolds]hold
	more []hold

	heapAt int
}

const inlineHolds = 4

// hold is one charge of a reservation.
type hold struct {
	limit   *Limit
	max     uint64
	amount  uint64
	bucket  int64
	counter uint32
	shard   uint8
	fixed   bool // of a descriptor's hits: reports do not change it
	counts  bool // its quota counts what the model reads from the cache
}

func (r *reservation) hold(i int) *hold {
	if i < inlineHolds {
		return &r.few[i]
	}
	return &r.more[i-inlineHolds]
}

// add notes one more charge; one to a counter that r holds already becomes part of
// that hold.
func (r *reservation) add(h hold) {
	for i := range r.n {
		if o := r.hold(i); o.counter == h.counter && o.shard == h.shard {
			o.amount = addSat(o.amount, h.amount)
			return
		}
	}
	if r.n < inlineHolds {
		r.few[r.n] = h
	} else {
		r.more = append(r.more[:r.n-inlineHolds], h)
	}
	r.n++
}

// tomb is what is remembered of a reservation that ended, so that a replay of its
// end is recognised.
type tomb struct {
	id      ID
	ending  Ending
	charged Usage
	tenant  uint64
	request digest
	named   bool
	forget  Instant
}

// idemEntry is what is remembered of an idempotency key.
type idemEntry struct {
	id       ID
	expires  Instant
	forget   Instant
	reserved Usage
}

// book holds the reservations of one shard. What it remembers of ended ones is
// bounded: the oldest are forgotten first, which only turns a replay from a no-op
// with an answer into a no-op without one.
type book struct {
	byID      map[ID]place
	byRequest map[digest]ID
	byIdem    map[digest]idemEntry

	chunks [][]reservation
	made   uint32
	free   []uint32
	heap   []deadline

	maxTombs int
	tombs    queue[tomb]
	idems    queue[idemKey]
}

// place says where what is known of a reservation is: among the open ones, or, once
// it ended, in the queue of tombs, by its running number.
type place struct {
	at    uint32
	ended bool
}

// deadline is an open reservation in the order of expiry. The instant is repeated
// here, so that comparing touches no reservation.
type deadline struct {
	expires Instant
	at      uint32
}

type idemKey struct {
	key    digest
	forget Instant
}

const reservationChunk = 64

func (b *book) init(maxTombs int) {
	b.byID = map[ID]place{}
	b.byRequest = map[digest]ID{}
	b.byIdem = map[digest]idemEntry{}
	b.maxTombs = maxTombs
}

func (b *book) at(i uint32) *reservation { return &b.chunks[i/reservationChunk][i%reservationChunk] }

func (b *book) openCount() int { return len(b.heap) }

// get returns an open reservation of tenant ("" is anybody, as a hash of 0).
func (b *book) get(id ID, tenant uint64) (uint32, *reservation) {
	p, ok := b.byID[id]
	if !ok || p.ended {
		return 0, nil
	}
	r := b.at(p.at)
	if tenant != 0 && r.tenant != tenant {
		return 0, nil
	}
	return p.at, r
}

// ended returns what is remembered of a reservation that ended, or nil. It is valid
// until another one ends.
func (b *book) ended(id ID) *tomb {
	if p, ok := b.byID[id]; ok && p.ended {
		return b.tombs.numbered(p.at)
	}
	return nil
}

// make returns a blank reservation.
func (b *book) make() (uint32, *reservation) {
	var i uint32
	if n := len(b.free); n > 0 {
		i, b.free = b.free[n-1], b.free[:n-1]
	} else {
		i = b.made
		if i%reservationChunk == 0 {
			b.chunks = append(b.chunks, make([]reservation, reservationChunk))
		}
		b.made++
	}
	r := b.at(i)
	*r = reservation{more: r.more[:0]}
	return i, r
}

// bury ends reservation i.
func (b *book) bury(i uint32, ending Ending, now Instant) {
	r := b.at(i)
	b.heapRemove(r.heapAt)
	b.entomb(tomb{
		id: r.id, ending: ending, charged: r.charged, tenant: r.tenant, request: r.request, named: r.named,
		forget: now.Add(2 * durationOf(r.ttl)),
	})
	b.free = append(b.free, i)
	if r.cal != nil {
		r.cal.open--
	}
	r.cal, r.quota, r.flow, r.refused = nil, nil, nil, nil
	b.forget(now)
}

func (b *book) entomb(t tomb) { b.byID[t.id] = place{b.tombs.push(t), true} }

// remember notes that what a request id stands for was charged without a reservation.
func (b *book) remember(now Instant, a *Ask, d *Decision) {
	var id ID
	binary.LittleEndian.PutUint64(id[:], a.request[0])
	binary.LittleEndian.PutUint64(id[8:], a.request[1])
	id[0] = a.home
	b.entomb(tomb{
		id: id, ending: Settled, charged: d.Reserved, request: a.request, named: true, forget: now.Add(2 * DefaultTTL),
	})
	b.byRequest[a.request] = id
	b.forget(now)
}

// forget drops what need not be remembered any more.
func (b *book) forget(now Instant) {
	for b.tombs.len() > 0 {
		t := b.tombs.front()
		if t.forget > now && b.tombs.len() <= b.maxTombs {
			break
		}
		// What has the same name since then is another one.
		if p := b.byID[t.id]; p.ended && p.at == b.tombs.head {
			delete(b.byID, t.id)
			if t.named && b.byRequest[t.request] == t.id {
				delete(b.byRequest, t.request)
			}
		}
		b.tombs.pop()
	}
	for b.idems.len() > 0 {
		k := *b.idems.front()
		full := b.idems.len() > 2*b.maxTombs
		if k.forget > now && !full {
			break
		}
		b.idems.pop()
		e, ok := b.byIdem[k.key]
		if !ok || e.forget > k.forget { // made anew since
			continue
		}
		if _, r := b.get(e.id, 0); r != nil && !full && r.expires > now { // renewed: remembered while it lives
			e.forget = r.expires.Add(2 * durationOf(r.ttl))
			b.byIdem[k.key] = e
			b.idems.push(idemKey{k.key, e.forget})
			continue
		}
		delete(b.byIdem, k.key)
	}
}

// nextExpiry returns the open reservation that expires first.
func (b *book) nextExpiry() (uint32, *reservation) {
	if len(b.heap) == 0 {
		return 0, nil
	}
	return b.heap[0].at, b.at(b.heap[0].at)
}

func (b *book) heapPush(i uint32) {
	r := b.at(i)
	r.heapAt = len(b.heap)
	b.heap = append(b.heap, deadline{r.expires, i})
	b.heapUp(len(b.heap) - 1)
}

func (b *book) heapRemove(p int) {
	last := len(b.heap) - 1
	b.heapSwap(p, last)
	b.heap = b.heap[:last]
	if p < last {
		b.heapUp(p)
		b.heapDown(p)
	}
}

// heapFix restores the order after the expiry of the reservation at p changed.
func (b *book) heapFix(p int) {
	b.heap[p].expires = b.at(b.heap[p].at).expires
	b.heapUp(p)
	b.heapDown(p)
}

func (b *book) heapLess(p, q int) bool { return b.heap[p].expires < b.heap[q].expires }

func (b *book) heapSwap(p, q int) {
	b.heap[p], b.heap[q] = b.heap[q], b.heap[p]
	b.at(b.heap[p].at).heapAt, b.at(b.heap[q].at).heapAt = p, q
}

func (b *book) heapUp(p int) {
	for p > 0 && b.heapLess(p, (p-1)/2) {
		b.heapSwap(p, (p-1)/2)
		p = (p - 1) / 2
	}
}

func (b *book) heapDown(p int) {
	for {
		q := 2*p + 1
		if q+1 < len(b.heap) && b.heapLess(q+1, q) {
			q++
		}
		if q >= len(b.heap) || !b.heapLess(q, p) {
			return
		}
		b.heapSwap(p, q)
		p = q
	}
}

// queue is a first-in-first-out ring that grows as needed. What is in it has a running
// number, modulo 2^32.
type queue[T any] struct {
	buf  []T // its length is a power of two: number i lies at i modulo that
	head uint32
	n    int
}

func (q *queue[T]) len() int { return q.n }

// numbered returns what push said is number i, and is still in the queue.
func (q *queue[T]) numbered(i uint32) *T { return &q.buf[i&uint32(len(q.buf)-1)] }

func (q *queue[T]) front() *T { return q.numbered(q.head) }

func (q *queue[T]) push(v T) uint32 {
	if q.n == len(q.buf) {
		old := *q
		q.buf = make([]T, max(16, 2*q.n))
		for k := range uint32(q.n) {
			*q.numbered(q.head + k) = *old.numbered(q.head + k)
		}
	}
	i := q.head + uint32(q.n)
	*q.numbered(i) = v
	q.n++
	return i
}

func (q *queue[T]) pop() {
	*q.front() = *new(T)
	q.head++
	q.n--
}
