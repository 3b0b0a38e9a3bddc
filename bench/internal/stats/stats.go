// Package stats sums measurements up.
package stats

import (
	"math/bits"
	"slices"
	"time"
)

// subBuckets is the number of buckets for each doubling: a recorded duration is off
// by at most 1/subBuckets of itself.
const subBuckets = 64

// Histogram counts durations, from nanoseconds to hours, with an error of at most
// 1.6 %. The zero value is empty. It is not safe for concurrent use.
type Histogram struct {
	counts [64 * subBuckets]uint64
	total  uint64
}

// Record counts d; one that is negative counts as 0.
func (h *Histogram) Record(d time.Duration) {
	h.counts[bucketOf(uint64(max(d, 0)))]++
	h.total++
}

// Merge adds what o counted.
func (h *Histogram) Merge(o *Histogram) {
	for i, n := range o.counts {
		h.counts[i] += n
	}
	h.total += o.total
}

// Count is the number of recorded durations.
func (h *Histogram) Count() uint64 { return h.total }

// Quantile returns the duration that a part q, from 0 to 1, of the recorded ones
// do not exceed; 0 if there are none.
func (h *Histogram) Quantile(q float64) time.Duration {
	rank := uint64(q * float64(h.total))
	var seen uint64
	for i, n := range h.counts {
		seen += n
		if n > 0 && (seen > rank || seen == h.total) {
			return time.Duration(upperOf(i))
		}
	}
	return 0
}

// bucketOf returns the bucket of v: exact below subBuckets, then 64 a doubling.
func bucketOf(v uint64) int {
	if v < subBuckets {
		return int(v)
	}
	shift := bits.Len64(v) - bits.Len64(subBuckets)
	return shift*subBuckets + int(v>>shift)
}

// upperOf returns the largest value of bucket i.
func upperOf(i int) uint64 {
	if i < 2*subBuckets {
		return uint64(i)
	}
	shift := i/subBuckets - 1
	mantissa := uint64(i - shift*subBuckets)
	return (mantissa+1)<<shift - 1
}

// Spread is a set of measurements of the same thing in several rounds.
type Spread struct{ Median, Min, Max float64 }

// SpreadOf returns the spread of values, which must not be empty.
func SpreadOf(values []float64) Spread {
	s := slices.Sorted(slices.Values(values))
	m := s[len(s)/2]
	if len(s)%2 == 0 {
		m = (s[len(s)/2-1] + m) / 2
	}
	return Spread{Median: m, Min: s[0], Max: s[len(s)-1]}
}
