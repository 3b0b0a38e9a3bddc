package limiter

import "bytes"

// table holds the counters of one shard: an open-addressing index over chunks that
// never move, so that a counter's number and its address stay what they are for as
// long as it lives.
//
// The index is kept small, 4 bytes a slot and up to three quarters full: looking a key
// up waits for the index and then for the counter, and the index of a million keys is
// to stay in the processor's cache while the counters cannot.
type table struct {
	slots []slot
	used  int

	counters []*[counterChunk]counter
	made     uint32   // counters ever handed out
	free     []uint32 // of these, those given back
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

// slot is a place of the index: 0 if it is empty, else the counter's number plus 1 and,
// in the upper byte, the low byte of its tag, which tells most others from it.
type slot uint32

const (
	slotNumberBits = 24
	maxCounters    = 1<<slotNumberBits - 1 // of one table
	maxKeyCounters = maxCounters - 1<<16   // of these, for keys counted one by one; a rule's overflow always has one
)

func makeSlot(tag, counter uint32) slot { return slot(tag<<slotNumberBits | (counter + 1)) }

func (s slot) counter() uint32 { return uint32(s)&maxCounters - 1 }

// home returns the place where the search for a tag begins. (The multiplication takes
// the place of a remainder: Lemire, "Fast random integer generation in an interval",
// 2019.) It depends on the upper bits most, and slots hold the lower ones.
func (t *table) home(tag uint32) int { return int(uint64(tag) * uint64(len(t.slots)) >> 32) }

// after returns the place that follows p.
func (t *table) after(p int) int {
	if p++; p < len(t.slots) {
		return p
	}
	return 0
}

// full reports that there is no number for one more key.
func (t *table) full() bool { return t.used >= maxKeyCounters }

// at returns counter i.
func (t *table) at(i uint32) *counter { return &t.counters[i/counterChunk][i%counterChunk] }

// find returns the number of the counter of (limit, key).
func (t *table) find(hash uint64, limit uint32, key []byte) (uint32, bool) {
	if len(t.slots) == 0 {
		return 0, false
	}
	tag := uint32(hash)
	for p := t.home(tag); ; p = t.after(p) {
		s := t.slots[p]
		if s == 0 {
			return 0, false
		}
		if byte(s>>slotNumberBits) == byte(tag) {
			i := s.counter()
			if c := t.at(i); c.tag == tag && c.limit == limit && bytes.Equal(t.keyOf(c), key) {
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
func (t *table) insert(hash uint64, limit uint32, key []byte, l *Limit, now Instant) uint32 {
	if (t.used+1)*4 > len(t.slots)*3 {
		t.rehash(max(minSlots, len(t.slots)+len(t.slots)/2))
	}
	var i uint32
	if n := len(t.free); n > 0 {
		i, t.free = t.free[n-1], t.free[:n-1]
	} else {
		i = t.made
		if i%counterChunk == 0 {
			t.counters = append(t.counters, new([counterChunk]counter))
		}
		t.made++
	}
	c := t.at(i)
	*c = counter{limit: limit, tag: uint32(hash), width: l.width, fixed: l.Fixed, last: bucketOf(now, l.width)}
	if len(key) <= inlineKey {
		c.keyLen = uint8(copy(c.short[:], key))
	} else {
		c.keyLen, c.long = longKey, t.keys.put(key)
	}
	t.used++
	t.place(i)
	return i
}

// place puts counter i into the index.
func (t *table) place(i uint32) {
	tag := t.at(i).tag
	p := t.home(tag)
	for t.slots[p] != 0 {
		p = t.after(p)
	}
	t.slots[p] = makeSlot(tag, i)
}

// rehash makes the index anew with size slots. It goes by the counters, in the order in
// which they lie in memory.
func (t *table) rehash(size int) {
	t.slots = make([]slot, size)
	for i := range t.made {
		if t.at(i).live() {
			t.place(i)
		}
	}
}

// remove forgets counter i.
func (t *table) remove(i uint32) {
	p := t.home(t.at(i).tag)
	for t.slots[p] == 0 || t.slots[p].counter() != i {
		p = t.after(p)
	}
	// Close the gap: move up whatever was pushed past it.
	n := len(t.slots)
	for q := t.after(p); t.slots[q] != 0; q = t.after(q) {
		home := t.home(t.at(t.slots[q].counter()).tag)
		if (q-home+n)%n >= (q-p+n)%n {
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
