package simulate

import (
	"time"

	"github.com/weir-project/weir/limiter"
)

// oracle sees the upstream's buckets as they are, and queues callers by fair queueing.
// What requests will use it only estimates, unless it is perfect, and how long they
// take to arrive it does not know: a practical upper bound for limiters.
type oracle struct {
	s       *simulation
	perfect bool
	front   []*call // repeats
	queues  []queueOf
	virtual float64
	flying  [3]float64 // granted, and not with the upstream yet
	planned limiter.Instant
}

// queueOf is one tenant's queue.
type queueOf struct {
	calls       []*call
	starts      []float64 // of the calls
	finish      float64
	actual, est float64 // input tokens, to correct estimates by
}

func newOracle(s *simulation) *oracle {
	return &oracle{s: s, perfect: s.sc.Limiter == Perfect, queues: make([]queueOf, len(s.sc.Workload.Tenants))}
}

// cost returns what c is expected to need at its start.
func (o *oracle) cost(c *call) [3]float64 {
	if o.perfect {
		return o.s.up.needs(c.guess, c.max)
	}
	q := &o.queues[c.tenant]
	in := c.estimate
	if q.est > 0 {
		in *= (q.actual + 5*c.estimate) / (q.est + 5*c.estimate)
	}
	return o.s.up.needs(in, c.max)
}

func (o *oracle) ask(c *call) {
	cost := o.cost(c)
	c.decision = &cost
	if c.retry {
		o.front = append(o.front, c)
	} else {
		q := &o.queues[c.tenant]
		at := max(o.virtual, q.finish)
		q.finish = at + o.seconds(cost)/o.s.sc.Workload.Tenants[c.tenant].Weight
		q.calls, q.starts = append(q.calls, c), append(q.starts, at)
	}
	o.serve()
}

// seconds of the scarcest meter that cost takes.
func (o *oracle) seconds(cost [3]float64) float64 {
	var s float64
	for m, n := range cost {
		s = max(s, 60*n/o.s.up.limitPerMinute(limiter.Meter(m)))
	}
	return s
}

// serve grants what has room, in turn, and looks again when there may be more.
func (o *oracle) serve() {
	o.s.up.advance(o.s.now)
	for {
		c, q := o.first()
		if c == nil {
			return
		}
		if c.deadline < o.s.now {
			o.pop(q)
			o.s.refuse(c)
			continue
		}
		cost := c.decision.(*[3]float64)
		if wait := o.wait(*cost); wait > 0 {
			o.again(seconds(wait))
			return
		}
		o.pop(q)
		for m := range cost {
			o.flying[m] += cost[m]
		}
		o.s.grant(c, 0)
	}
}

// wait is how long until cost fits beside what is on its way.
func (o *oracle) wait(cost [3]float64) float64 {
	var longest float64
	for m, n := range cost {
		b := o.s.up.enforced[m]
		b.level -= o.flying[m]
		longest = max(longest, b.wait(n))
		if r := o.s.up.ramps[m]; r != nil {
			b = r.bucket
			b.level -= o.flying[m]
			longest = max(longest, b.wait(n))
		}
	}
	return longest
}

// again looks again after d, but before long: what the upstream does may change.
func (o *oracle) again(d time.Duration) {
	at := o.s.now.Add(min(max(d+1, 100*time.Microsecond), 250*time.Millisecond))
	if o.planned > o.s.now && o.planned <= at {
		return
	}
	o.planned = at
	o.s.agenda.plan(at, func() {
		if o.planned == at {
			o.planned = 0
			o.serve()
		}
	})
}

// first returns whose turn it is, and in which queue; nil for repeats.
func (o *oracle) first() (*call, *queueOf) {
	if len(o.front) > 0 {
		return o.front[0], nil
	}
	var least *queueOf
	for i := range o.queues {
		q := &o.queues[i]
		if len(q.calls) > 0 && (least == nil || q.starts[0] < least.starts[0]) {
			least = q
		}
	}
	if least == nil {
		return nil, nil
	}
	return least.calls[0], least
}

func (o *oracle) pop(q *queueOf) {
	if q == nil {
		o.front = o.front[1:]
		return
	}
	o.virtual = max(o.virtual, q.starts[0])
	q.calls, q.starts = q.calls[1:], q.starts[1:]
}

func (o *oracle) arrived(c *call) {
	for m, n := range c.decision.(*[3]float64) {
		o.flying[m] = max(0, o.flying[m]-n)
	}
	o.serve()
}

func (o *oracle) report(c *call, r *reply) {
	if q := &o.queues[c.tenant]; r.class == limiter.ClassOK {
		q.actual = 0.993*q.actual + c.input
		q.est = 0.993*q.est + c.estimate
	}
	o.serve()
}

func (o *oracle) retry(c *call, r *reply) (time.Duration, bool) {
	if r.class == limiter.ClassOverload {
		return backoff(o.s.luck, c.refused-1, r.retryAfter), true
	}
	return 0, true
}

func (o *oracle) begun(*call) {}

func (o *oracle) restart() {}

func (o *oracle) learned(limiter.Meter) float64 { return 0 }
