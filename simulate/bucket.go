package simulate

import (
	"math"

	"github.com/weir-project/weir/limiter"
)

// bucket is a token bucket that is refilled all the time, and may be in debt.
type bucket struct {
	rate     float64 // units a second
	capacity float64
	level    float64
	drain    float64 // units a second that calls under way produce
	at       limiter.Instant
}

func newBucket(now limiter.Instant, perMinute, interval, least float64) bucket {
	b := bucket{rate: perMinute / 60, at: now}
	b.capacity = max(b.rate*interval, least)
	b.level = b.capacity
	return b
}

func (b *bucket) advance(now limiter.Instant) {
	if now <= b.at {
		return
	}
	b.level = min(b.capacity, b.level+(b.rate-b.drain)*now.Sub(b.at).Seconds())
	b.at = now
}

// slack is what sums of fractions may be off by.
const slack = 1e-6

// wait returns in how many seconds amount is there, 0 if it is. What is larger than
// the bucket needs it full.
func (b *bucket) wait(amount float64) float64 {
	missing := min(amount, b.capacity) - b.level
	if missing <= slack*max(1, b.capacity) {
		return 0
	}
	return missing / b.rate
}

// resize changes the rate, and the capacity with it.
func (b *bucket) resize(perMinute, interval, least float64) {
	b.rate = perMinute / 60
	b.capacity = max(b.rate*interval, least)
	b.level = min(b.level, b.capacity)
}

// ramp bounds how fast usage of a meter may grow: a bucket whose rate follows what was
// admitted lately.
type ramp struct {
	spec   *Acceleration
	bucket bucket
	recent float64 // admitted, forgotten exponentially
	full   float64 // the rate of the limit, a second
}

func newRamp(now limiter.Instant, a *Acceleration, perMinute float64) *ramp {
	r := &ramp{spec: a, full: perMinute / 60}
	r.bucket = newBucket(now, perMinute*a.Floor, a.Burst.Seconds(), 1)
	return r
}

func (r *ramp) advance(now limiter.Instant) {
	dt := now.Sub(r.bucket.at).Seconds()
	if dt <= 0 {
		return
	}
	r.bucket.advance(now)
	memory := r.spec.Memory.Seconds()
	r.recent *= math.Exp(-dt / memory)
	r.bucket.resize(60*max(r.spec.Floor*r.full, r.spec.Factor*r.recent/memory), r.spec.Burst.Seconds(), 1)
}

func (r *ramp) take(amount float64) {
	r.bucket.level -= amount
	r.recent += amount
}
