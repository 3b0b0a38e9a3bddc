package limiter

import (
	"container/heap"
	"time"
)

// line is the queue of one quota: start-time fair queueing (Goyal, Vin, Cheng,
// SIGCOMM 1996) over tenants by weight, with the seconds of the scarcest meter as the
// cost; one such order for each priority. Whoever asks while others wait takes a place
// among them, or is told to come back.
type line struct {
	bands   [numPriorities]band
	front   band  // repeats of calls that the upstream refused
	ahead   order // all who wait
	flows   map[string]*flow
	virtual float64 // the start tag of whoever was served last
	n       int
	active  float64 // weights of the tenants that wait
	served  int     // from higher bands, since a starving lower one was served
	reliefs uint64
	eased   [numPriorities]uint64 // when a band was relieved last, by the number of reliefs
	made    uint64
	tryAt   Instant // when the first should be looked at again
}

// flow is one tenant in a line.
type flow struct {
	weight  float64
	spaced  float64        // the weight that its last ask's turn was spaced by
	finish  float64        // the finish tag of its last ask
	window  *ceilingWindow // of a tenant with a ceiling
	below   float64        // seconds of the quota beyond the floor
	at      Instant
	n       int // asks that wait
	tickets int // places of those who come back
	standing
}

// starving is how long the first of a lower band waits at most before it is served
// between two of the higher bands; relief is how many of those come in between.
const (
	starving = 10 * time.Second
	relief   = 3
)

func (q *line) len() int { return q.n }

// band is a heap of waiters by their start tags.
type band []*waiter

func (b band) Len() int { return len(b) }
func (b band) Less(i, j int) bool {
	if b[i].start != b[j].start {
		return b[i].start < b[j].start
	}
	return b[i].order < b[j].order
}

func (b band) Swap(i, j int) {
	b[i], b[j] = b[j], b[i]
	b[i].bandAt, b[j].bandAt = i, j
}

// Push is for container/heap.
func (b *band) Push(x any) {
	w := x.(*waiter)
	w.bandAt = len(*b)
	*b = append(*b, w)
}

// Pop is for container/heap.
func (b *band) Pop() any {
	old := *b
	w := old[len(old)-1]
	old[len(old)-1] = nil
	*b = old[:len(old)-1]
	return w
}

// flow returns the tenant's flow. The tenants of a line are bounded: beyond the bound
// they share one.
func (s *quotaState) flow(now Instant, tenant string) *flow {
	q := &s.line
	f := q.flows[tenant]
	if f == nil && len(q.flows) >= maxTenants {
		q.forget(now)
		if len(q.flows) >= maxTenants {
			tenant = otherTenants
			f = q.flows[tenant]
		}
	}
	if f == nil {
		if q.flows == nil {
			q.flows = map[string]*flow{}
		}
		f = &flow{at: now, standing: newStanding()}
		q.flows[clone(tenant)] = f
	}
	t := s.terms(tenant)
	f.weight = t.Weight
	if f.weight <= 0 {
		f.weight = 1
	}
	f.bring(now, t)
	return f
}

// bring lets what a flow has had wear off until now.
func (f *flow) bring(now Instant, t *TenantSpec) {
	dt := max(0, now.Sub(f.at).Seconds())
	switch {
	case t.Ceiling <= 0:
		f.window = nil
	case f.window == nil:
		f.window = &ceilingWindow{at: second(now)}
	default:
		f.window.advance(now)
	}
	f.below = max(0, f.below-t.Floor*dt)
	f.at = max(f.at, now)
}

// forget drops tenants that nothing is known of any more.
func (q *line) forget(now Instant) {
	for name, f := range q.flows {
		if f.n == 0 && f.tickets == 0 && f.open == 0 && f.parked == 0 && f.shut <= now && (f.finish <= q.virtual || now.Sub(f.at) > time.Minute) {
			delete(q.flows, name)
		}
	}
}

func (s *quotaState) terms(tenant string) *TenantSpec {
	if t, ok := s.quota.tenants[tenant]; ok {
		return t
	}
	return &s.quota.defaultTenant
}

// tag gives f's next ask its start tag, and charges f for it.
func (q *line) tag(f *flow, t *TenantSpec, seconds float64) float64 {
	start := q.startOf(f, t)
	f.spaced = q.weightOf(f, t)
	f.finish = max(start, f.finish) + seconds/f.spaced
	if f.window != nil {
		f.window.add(seconds)
	}
	f.below += seconds
	return start
}

// weightOf is the weight that f's turns are spaced by: its own, or as much as its floor
// needs beside the others that wait.
func (q *line) weightOf(f *flow, t *TenantSpec) float64 {
	if t.Floor <= 0 {
		return f.weight
	}
	others := q.active
	if f.n+f.tickets > 0 {
		others -= f.weight
	}
	return max(f.weight, max(0, others)*t.Floor/max(1-t.Floor, 0.01))
}

// enter and exit note that f begins to wait, or has one call less that does.
func (q *line) enter(f *flow) {
	if f.n+f.tickets == 1 {
		q.active += f.weight
	}
}

func (q *line) exit(f *flow) {
	if f.n+f.tickets == 0 {
		q.active = max(0, q.active-f.weight)
	}
}

// untag takes back what an ask was charged that was never served.
func (q *line) untag(f *flow, seconds float64) {
	f.finish = max(q.virtual, f.finish-seconds/max(f.spaced, f.weight))
	if f.window != nil {
		f.window.giveBack(seconds)
	}
	f.below = max(0, f.below-seconds)
}

// overCeiling returns for how long a tenant must pause before seconds more, 0 if it
// need not. Who has had nothing lately may have one call of any size.
func (f *flow) overCeiling(now Instant, t *TenantSpec, seconds float64) time.Duration {
	if t.Ceiling <= 0 || f.window == nil || f.window.sum <= fit {
		return 0
	}
	room := t.Ceiling*ceilingSeconds - seconds
	if f.window.sum <= room+fit {
		return 0
	}
	return max(1, f.window.until(now, max(0, room)).Sub(now))
}

func (q *line) push(w *waiter) {
	q.made++
	w.order = q.made
	w.flow.n++
	q.enter(w.flow)
	q.n++
	q.ahead.insert(&w.spot)
	if w.ask.Retry {
		heap.Push(&q.front, w)
		return
	}
	heap.Push(&q.bands[w.band], w)
}

func (q *line) remove(w *waiter) {
	w.flow.n--
	q.exit(w.flow)
	q.n--
	q.ahead.remove(&w.spot)
	if w.ask.Retry {
		heap.Remove(&q.front, w.bandAt)
		return
	}
	heap.Remove(&q.bands[w.band], w.bandAt)
}

// first returns whose turn it is.
func (q *line) first(now Instant) *waiter {
	if len(q.front) > 0 {
		return q.front[0]
	}
	var w, starved *waiter
	for i := range q.bands {
		if len(q.bands[i]) == 0 {
			continue
		}
		o := q.bands[i][0]
		if w == nil {
			w = o
			if q.served < relief {
				return w
			}
		} else if now.Sub(o.since) > starving && (starved == nil || q.eased[o.band] < q.eased[starved.band]) {
			starved = o
		}
	}
	if starved != nil {
		return starved
	}
	return w
}

// serve notes that w was served.
func (q *line) serve(w *waiter) {
	if w.ask.Retry {
		return
	}
	q.virtual = max(q.virtual, w.start)
	q.count(w.band, nil)
}

// count notes that one of band was served, for the relief of lower ones; t, unless nil,
// are those who come back by themselves.
func (q *line) count(b Priority, t *turns) {
	higher, lower := false, false
	for i := range q.bands {
		if len(q.bands[i]) > 0 {
			higher, lower = higher || Priority(i) < b, lower || Priority(i) > b
		}
	}
	if t != nil && t.order.root != nil {
		higher, lower = higher || t.order.first().band < b, lower || t.order.last().band > b
	}
	switch {
	case higher: // it was relieved
		q.reliefs++
		q.served, q.eased[b] = 0, q.reliefs
	case lower:
		q.served++
	default:
		q.served = 0
	}
}

// shards returns those that looking at the first touches, whoever that is by then.
func (q *line) shards() ShardSet {
	var set ShardSet
	if len(q.front) > 0 {
		set = q.front[0].ask.shards
	}
	for i := range q.bands {
		if len(q.bands[i]) > 0 {
			set |= q.bands[i][0].ask.shards
		}
	}
	return set
}
