package ratelimitstats

import (
	"strconv"
	"sync/atomic"
	"time"
)

// timings count how long calls took, to three digits, rounded up. So each bound of a
// histogram with no more digits is a bound between two slots. They are safe for
// concurrent use; sent belongs to whoever holds Stats.sending.
type timings struct {
	slots [numSlots]atomic.Uint64
	sum   atomic.Uint64 // in ns
	sent  [numSlots]uint64
}

// The slots: one for each microsecond below 1 ms, then 900 for each power of ten.
const (
	linear    = 1000
	perDecade = 900
	numSlots  = linear + 7*perDecade + 1
)

func newTimings() *timings { return new(timings) }

func (t *timings) add(took time.Duration) {
	took = max(took, 0)
	t.sum.Add(uint64(took))
	t.slots[slotOf(took)].Add(1)
}

// slotOf returns the slot of d: the first whose value is not below d, or the last.
func slotOf(d time.Duration) int {
	us := int64((d + time.Microsecond - 1) / time.Microsecond)
	if us < linear {
		return int(us)
	}
	at, unit := linear, int64(10)
	for us > 1000*unit {
		at += perDecade
		unit *= 10
	}
	return min(at+int((us+unit-1)/unit)-100, numSlots-1)
}

// slotMicros returns the value of a slot, in microseconds.
func slotMicros(slot int) uint64 {
	if slot < linear {
		return uint64(slot)
	}
	unit := uint64(10)
	for slot -= linear; slot >= perDecade; slot -= perDecade {
		unit *= 10
	}
	return uint64(slot+100) * unit
}

// appendMillis appends the value of a slot in milliseconds, with no more digits than it
// has.
func appendMillis(b []byte, slot int) []byte {
	return strconv.AppendFloat(b, float64(slotMicros(slot))/1e3, 'f', -1, 64)
}
