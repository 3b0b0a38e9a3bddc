package limiter

import "bytes"

// table holds the counters of one shard: an open-addressing index over chunks that
// never move, so that a counter's number and its address stay what they are for as
// long as it lives.
type table struct {
	slots []uint64 // hash tag in the upper half, counter number + 1 in the lower
	used  int

	counters [][]counter // chunks of counterChunk
	made     uint32      // counters ever handed out
	free     []uint32    // of these, those given back
	sweepAt  uint32

	rings     []*[ringChunk]ring // nil where no ring is in use
	ringsUsed []uint8            // of each of these
	ringsMade uint32
	freeRings []uint32

	keys arena
}

const (
	counterChunk = 256
	ringChunk    = 32
	minSlots     = 16
)

// at returns counter i.
func (t *table) at(i uint32) *counter { return &t.counters[i/counterChunk][i%counterChunk] }

// find returns the number of the counter of (limit, key).
func (t *table) find(hash uint64, limit uint32, key []byte) (uint32, bool) {
	if len(t.slots) == 0 {
		return 0, false
	}
	mask := uint32(len(t.slots) - 1)
	for p := uint32(hash) & mask; ; p = (p + 1) & mask {
		s := t.slots[p]
		if s == 0 {
			return 0, false
		}
		if uint32(s>>32) == uint32(hash) {
			i := uint32(s) - 1
			if c := t.at(i); c.limit == limit && bytes.Equal(t.keyOf(c), key) {
				return i, true
			}
		}
	}
}

// keyOf returns the key of c, which is c's or the arena's.
func (t *table) keyOf(c *counter) []byte {
	if c.keyLen <= inlineKey {
		return c.short[:c.keyLen]
	}
	return t.keys.get(c.long)
}

// insert makes a counter of (limit, key), which the table does not have.
func (t *table) insert(hash uint64, limit uint32, key []byte, width int64, now Instant) uint32 {
	if (t.used+1)*4 > len(t.slots)*3 {
		t.rehash(max(minSlots, 2*len(t.slots)))
	}
	var i uint32
	if n := len(t.free); n > 0 {
		i, t.free = t.free[n-1], t.free[:n-1]
	} else {
		i = t.made
		if i%counterChunk == 0 {
			t.counters = append(t.counters, make([]counter, counterChunk))
		}
		t.made++
	}
	c := t.at(i)
	*c = counter{limit: limit, tag: uint32(hash), width: width, last: bucketOf(now, width), live: true}
	if len(key) <= inlineKey {
		c.keyLen = uint16(copy(c.short[:], key))
	} else {
		c.keyLen, c.long = longKey, t.keys.put(key)
	}
	t.used++
	t.place(uint64(uint32(hash))<<32 | uint64(i+1))
	return i
}

func (t *table) place(s uint64) {
	mask := uint32(len(t.slots) - 1)
	p := uint32(s>>32) & mask
	for t.slots[p] != 0 {
		p = (p + 1) & mask
	}
	t.slots[p] = s
}

func (t *table) rehash(size int) {
	old := t.slots
	t.slots = make([]uint64, size)
	for _, s := range old {
		if s != 0 {
			t.place(s)
		}
	}
}

// remove forgets counter i.
func (t *table) remove(i uint32) {
	mask := uint32(len(t.slots) - 1)
	p := t.at(i).tag & mask
	for uint32(t.slots[p]) != i+1 {
		p = (p + 1) & mask
	}
	// Close the gap: move up whatever was pushed past it.
	for q := (p + 1) & mask; t.slots[q] != 0; q = (q + 1) & mask {
		home := uint32(t.slots[q]>>32) & mask
		if (q-home)&mask >= (q-p)&mask {
			t.slots[p] = t.slots[q]
			p = q
		}
	}
	t.slots[p] = 0
	c := t.at(i)
	t.shrink(c)
	if c.keyLen == longKey {
		t.keys.drop(c.long)
	}
	*c = counter{}
	t.free = append(t.free, i)
	t.used--
}

func (t *table) newRing() uint32 {
	if n := len(t.freeRings); n > 0 {
		i := t.freeRings[n-1]
		t.freeRings = t.freeRings[:n-1]
		return t.useRing(i)
	}
	if t.ringsMade%ringChunk == 0 {
		t.rings, t.ringsUsed = append(t.rings, nil), append(t.ringsUsed, 0)
	}
	t.ringsMade++
	return t.useRing(t.ringsMade)
}

func (t *table) useRing(i uint32) uint32 {
	chunk := (i - 1) / ringChunk
	if t.rings[chunk] == nil {
		t.rings[chunk] = new([ringChunk]ring)
	}
	t.ringsUsed[chunk]++
	return i
}

// freeRing gives ring i back, and the memory of its chunk with the last of it: many
// counters are busy at times, and idle for longer.
func (t *table) freeRing(i uint32) {
	*t.ringAt(i) = ring{}
	t.freeRings = append(t.freeRings, i)
	chunk := (i - 1) / ringChunk
	if t.ringsUsed[chunk]--; t.ringsUsed[chunk] == 0 {
		t.rings[chunk] = nil
	}
}

func (t *table) ringAt(i uint32) *ring { return &t.rings[(i-1)/ringChunk][(i-1)%ringChunk] }

func (t *table) ringOf(c *counter) *ring { return t.ringAt(c.ring) }

// keyRef says where in the arena a key is: the chunk in the upper bits, the place in
// it, in units of arenaUnit, in the lower ones. A key is preceded by its length.
type keyRef uint32

const (
	arenaUnit  = 8
	arenaChunk = 1 << 16
	arenaPlace = arenaChunk / arenaUnit
	maxKeyLen  = arenaChunk/2 - 2 // longer ones share the overflow counter
)

// arena holds keys in large chunks without pointers. Freed places are used again
// for keys of about the same length.
type arena struct {
	chunks [][]byte
	next   int // first free byte of the last chunk
	free   map[int][]keyRef
}

func arenaSize(keyLen int) int { return (keyLen + 2 + arenaUnit - 1) / arenaUnit * arenaUnit }

func (a *arena) put(key []byte) keyRef {
	size := arenaSize(len(key))
	var ref keyRef
	if f := a.free[size]; len(f) > 0 {
		ref = f[len(f)-1]
		a.free[size] = f[:len(f)-1]
	} else {
		if len(a.chunks) == 0 || a.next+size > arenaChunk {
			a.chunks = append(a.chunks, make([]byte, arenaChunk))
			a.next = 0
		}
		ref = keyRef((len(a.chunks)-1)*arenaPlace + a.next/arenaUnit)
		a.next += size
	}
	b := a.at(ref)
	b[0], b[1] = byte(len(key)), byte(len(key)>>8)
	copy(b[2:], key)
	return ref
}

func (a *arena) at(ref keyRef) []byte {
	return a.chunks[ref/arenaPlace][ref%arenaPlace*arenaUnit:]
}

func (a *arena) get(ref keyRef) []byte {
	b := a.at(ref)
	n := int(b[0]) | int(b[1])<<8
	return b[2 : 2+n]
}

func (a *arena) drop(ref keyRef) {
	if a.free == nil {
		a.free = make(map[int][]keyRef)
	}
	size := arenaSize(len(a.get(ref)))
	a.free[size] = append(a.free[size], ref)
}
