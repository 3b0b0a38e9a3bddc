package server

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	crand "crypto/rand"
	"encoding/binary"
	"hash/maphash"
	"math/bits"
	"slices"
	"sync"
	"time"

	"github.com/weir-project/weir/config"
	"github.com/weir-project/weir/limiter"
)

// A place in the order of callers that were told to come back is a limiter.Turn: a
// small number that anybody could guess. Direct callers get it as a ticket that they
// cannot make themselves. Proxies cannot keep a ticket, since whom they ask for comes
// back with another request: their places are kept here.

// ticketLen is the length of a ticket: one block of the cipher.
const ticketLen = aes.BlockSize

// seals make tickets. A ticket is a turn beside the claim that it is bound to,
// encrypted as one block under a key of this process: who changes a bit of it gets
// another claim. It is safe for concurrent use.
type seals struct {
	block cipher.Block
	seed  maphash.Seed
}

func newSeals() *seals {
	key := make([]byte, 32)
	_, _ = crand.Read(key) // never fails: it ends the process instead
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err) // there is no other reason than a key of another length
	}
	return &seals{block: block, seed: maphash.MakeSeed()}
}

// claim stands for the attributes of a call, in whatever order they come: who asks,
// and for which quotas.
func (s *seals) claim(attributes []limiter.Entry) uint64 {
	var sum uint64
	for i := range attributes {
		e := &attributes[i]
		h := bits.RotateLeft64(maphash.String(s.seed, e.Key), 23) ^ maphash.String(s.seed, e.Value)
		sum += h | 1
	}
	return sum
}

// seal makes the ticket of a turn, in to.
func (s *seals) seal(to *[ticketLen]byte, turn limiter.Turn, claim uint64) {
	binary.LittleEndian.PutUint64(to[:8], uint64(turn))
	binary.LittleEndian.PutUint64(to[8:], claim)
	s.block.Encrypt(to[:], to[:])
}

// open returns the turn of a ticket, by way of the room in buf; 0 for one that is
// stale, foreign or made up.
func (s *seals) open(buf *[ticketLen]byte, ticket []byte, claim uint64) limiter.Turn {
	if len(ticket) != ticketLen {
		return 0
	}
	s.block.Decrypt(buf[:], ticket)
	if binary.LittleEndian.Uint64(buf[8:]) != claim {
		return 0
	}
	return limiter.Turn(binary.LittleEndian.Uint64(buf[:8]))
}

// places are those of callers that asked through a proxy, by their claims: whoever
// comes next with the same claim gets the one that is due first. It is safe for
// concurrent use.
type places struct {
	mu    sync.Mutex
	of    map[uint64][]keptPlace // in the order in which they are due
	n     int
	swept limiter.Instant
}

// keptPlace is one of them.
type keptPlace struct {
	turn limiter.Turn
	back limiter.Instant // when the caller was told to come back
}

const (
	// maxPlaces bounds how many are kept. Whose place is not kept is a newcomer.
	maxPlaces = 1 << 16
	// earlyBack is how much earlier than told a caller's clock may bring it back.
	earlyBack = 200 * time.Millisecond
	// maxLate is for how long places are kept at most: the core gives them up by then.
	maxLate = 4 * time.Second
	// sweepPlaces is how often those of callers that did not come back are dropped.
	sweepPlaces = 10 * time.Second
)

func newPlaces() *places { return &places{of: map[uint64][]keptPlace{}} }

// put keeps a place until its caller was due.
func (p *places) put(now limiter.Instant, claim uint64, turn limiter.Turn, back limiter.Instant) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now.Sub(p.swept) >= sweepPlaces {
		p.swept = now
		for c := range p.of {
			p.drop(now, c)
		}
	}
	if p.n >= maxPlaces {
		return
	}
	list := p.of[claim]
	at, _ := slices.BinarySearchFunc(list, back, func(k keptPlace, t limiter.Instant) int {
		if k.back <= t {
			return -1
		}
		return 1
	})
	p.of[claim] = slices.Insert(list, at, keptPlace{turn, back})
	p.n++
}

// take returns the place that is due first, or, for a caller that says that it comes
// again, the next one; 0 if there is none.
func (p *places) take(now limiter.Instant, claim uint64, again bool) limiter.Turn {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.n == 0 {
		return 0
	}
	p.drop(now, claim)
	list := p.of[claim]
	if len(list) == 0 || !again && list[0].back.Sub(now) > earlyBack {
		return 0
	}
	p.set(claim, list, 1)
	return list[0].turn
}

// drop forgets the places of a claim whose callers did not come back.
func (p *places) drop(now limiter.Instant, claim uint64) {
	list, gone := p.of[claim], 0
	for gone < len(list) && now.Sub(list[gone].back) > maxLate {
		gone++
	}
	if gone > 0 {
		p.set(claim, list, gone)
	}
}

// set leaves out the first n of a claim's places.
func (p *places) set(claim uint64, list []keptPlace, n int) {
	p.n -= n
	if n == len(list) {
		delete(p.of, claim)
		return
	}
	p.of[claim] = list[n:]
}

// priorityOf reads a priority as attributes say it; what is none leaves it to the
// tenant's terms.
func priorityOf(attributes []limiter.Entry) limiter.Priority {
	for i := range attributes {
		if attributes[i].Key == attributeNames[wordPriority] {
			priority, _ := config.ParsePriority(attributes[i].Value)
			return priority
		}
	}
	return limiter.PriorityUnset
}

// pause waits until at, or until ctx ends.
func (d *decider) pause(ctx context.Context, at limiter.Instant) error {
	wait := time.NewTimer(at.Sub(d.now()))
	defer wait.Stop()
	select {
	case <-wait.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
