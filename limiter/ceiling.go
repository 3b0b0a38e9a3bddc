package limiter

import "time"

// ceilingWindow is what a tenant with a ceiling has had of its quota, in seconds of that,
// second by second: as with hard limits, the whole of the oldest second counts.
type ceilingWindow struct {
	at  int64 // the current second
	sum float64
	had [ceilingSeconds + 1]float64 // by second, modulo their number
}

// ceilingSeconds is the time over which a tenant's ceiling holds.
const ceilingSeconds = 60

func second(now Instant) int64 { return int64(now) / int64(time.Second) }

// advance forgets what was had more than a minute ago.
func (w *ceilingWindow) advance(now Instant) {
	to := second(now)
	for n := 0; w.at < to && n < len(w.had); n++ {
		w.at++
		w.had[w.at%int64(len(w.had))] = 0
	}
	if w.at < to {
		w.at = to
	}
	w.sum = 0
	for _, v := range w.had {
		w.sum += v
	}
}

func (w *ceilingWindow) add(seconds float64) {
	w.had[w.at%int64(len(w.had))] += seconds
	w.sum += seconds
}

// giveBack takes back what was had last.
func (w *ceilingWindow) giveBack(seconds float64) {
	for n := int64(0); n < int64(len(w.had)) && seconds > 0; n++ {
		v := &w.had[(w.at-n+int64(len(w.had)))%int64(len(w.had))]
		part := min(*v, seconds)
		*v -= part
		seconds -= part
		w.sum -= part
	}
}

// until returns when so much was forgotten that no more than room is left, but not
// longer than until all is.
func (w *ceilingWindow) until(now Instant, room float64) Instant {
	n, left := int64(len(w.had)), w.sum
	for k := n - 1; k >= 0; k-- { // the oldest first
		if left <= room {
			break
		}
		left -= w.had[(w.at-k+n)%n]
		if left <= max(room, fit) {
			return Instant((w.at - k + n) * int64(time.Second))
		}
	}
	return now
}

// copied returns a copy, for a look ahead.
func (w *ceilingWindow) copied() *ceilingWindow {
	if w == nil {
		return nil
	}
	c := *w
	return &c
}
