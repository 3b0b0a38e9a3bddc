package simulate

import (
	"math"
	"slices"
	"time"

	"github.com/weir-project/weir/limiter"
)

// meters count what happens in a run.
type meters struct {
	limits [3]float64

	arrivals, dropped, completed int
	asks, sent, accepted         int
	rejected, overloaded         int
	waits                        []float64
	waiting                      []int
	offered, served              []float64 // by tenant, in seconds of the scarcest meter
	slot                         limiter.Instant
	inSlot, peak                 int
	series                       Series
	now                          moment
	usedBefore                   [3]float64 // at the last sample
}

// moment is what happened since the last sample.
type moment struct {
	sent, rejected, overloaded int
}

// Series are samples of a run, one each second.
type Series struct {
	// Accepted units, and the limit of the upstream, in units a minute, by meter.
	Accepted [3][]float64 `json:"accepted"`
	Limit    [3][]float64 `json:"limit"`
	// Learned is the rate at which the limiter paces, 0 where it does not say.
	Learned [3][]float64 `json:"learned"`
	// Sent calls in the second, those of them that were refused with 429, and with 529.
	Sent       []float64 `json:"sent"`
	Rejected   []float64 `json:"rejected"`
	Overloaded []float64 `json:"overloaded"`
	// Waiting requests, by tenant.
	Waiting [][]float64 `json:"waiting"`
}

const peakSlot = 100 * time.Millisecond

func (m *meters) init(s *simulation) {
	m.limits = s.sc.Upstream.Limits.vector()
	n := len(s.sc.Workload.Tenants)
	m.waiting, m.offered, m.served = make([]int, n), make([]float64, n), make([]float64, n)
	m.series.Waiting = make([][]float64, n)
}

// cost returns what c takes, in seconds of the scarcest meter.
func (m *meters) cost(c *call) float64 {
	var cost float64
	for i, a := range c.amounts() {
		cost = max(cost, 60*a/m.limits[i])
	}
	return cost
}

func (m *meters) begin(c *call) {
	m.arrivals++
	m.offered[c.tenant] += m.cost(c)
	m.waiting[c.tenant]++
}

func (m *meters) ask(now limiter.Instant) {
	m.asks++
	if slot := now / limiter.Instant(peakSlot); slot != m.slot {
		m.slot, m.inSlot = slot, 0
	}
	m.inSlot++
	m.peak = max(m.peak, m.inSlot)
}

func (m *meters) drop(c *call) {
	m.dropped++
	m.waiting[c.tenant]--
}

func (m *meters) complete() { m.completed++ }

func (m *meters) send() {
	m.sent++
	m.now.sent++
}

// answer counts what the upstream made of c.
func (m *meters) answer(c *call, r *reply) {
	switch r.class {
	case limiter.ClassOK:
		m.accepted++
		m.waits = append(m.waits, c.sent.Sub(c.arrived).Seconds())
		m.waiting[c.tenant]--
		m.served[c.tenant] += m.cost(c)
	case limiter.ClassOverload:
		m.overloaded++
		m.now.overloaded++
	default:
		m.rejected++
		m.now.rejected++
	}
}

func (m *meters) sample(s *simulation) {
	s.up.advance(s.now)
	x := &m.series
	for i := range m.limits {
		x.Accepted[i] = append(x.Accepted[i], 60*(s.up.ours[i]-m.usedBefore[i]))
		x.Limit[i] = append(x.Limit[i], s.up.limitPerMinute(limiter.Meter(i)))
		x.Learned[i] = append(x.Learned[i], s.gate.learned(limiter.Meter(i)))
	}
	m.usedBefore = s.up.ours
	x.Sent = append(x.Sent, float64(m.now.sent))
	x.Rejected = append(x.Rejected, float64(m.now.rejected))
	x.Overloaded = append(x.Overloaded, float64(m.now.overloaded))
	m.now = moment{}
	for i, n := range m.waiting {
		x.Waiting[i] = append(x.Waiting[i], float64(n))
	}
}

// jain returns Jain's index of how evenly tenants got their fair shares: 1 if all did.
// The fair shares divide what was served in proportion to the weights, and nobody's is
// more than it asked for.
func jain(tenants []Tenant, offered, served []float64) float64 {
	fair := fairShares(tenants, offered, served)
	var sum, squares, n float64
	for i := range served {
		if fair[i] <= 0 {
			continue
		}
		x := served[i] / fair[i]
		sum += x
		squares += x * x
		n++
	}
	if squares == 0 {
		return 1
	}
	return sum * sum / (n * squares)
}

func fairShares(tenants []Tenant, offered, served []float64) []float64 {
	fair := make([]float64, len(tenants))
	var left, weight float64
	open := make([]bool, len(tenants))
	for i := range tenants {
		left += served[i]
		weight += tenants[i].Weight
		open[i] = true
	}
	for range tenants {
		full := false
		for i := range tenants {
			if open[i] && offered[i] <= left*tenants[i].Weight/weight {
				fair[i], open[i], full = offered[i], false, true
				left -= offered[i]
				weight -= tenants[i].Weight
				break
			}
		}
		if !full {
			break
		}
	}
	for i := range tenants {
		if open[i] {
			fair[i] = max(0, left) * tenants[i].Weight / weight
		}
	}
	return fair
}

// percentile returns the value that a share p of the sorted values do not exceed.
func percentile(sorted []float64, p float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	i := int(math.Ceil(p*float64(len(sorted)))) - 1
	return sorted[min(max(i, 0), len(sorted)-1)]
}

// result sums the run up.
func (s *simulation) result() *Result {
	s.up.advance(s.now)
	m := &s.meters
	r := &Result{
		Scenario: s.sc.Name, Limiter: s.sc.Limiter, Mode: s.sc.Mode, Seed: s.sc.Seed, Upstream: s.sc.Upstream.Name,
		Workload: s.sc.Workload.Name, Binding: limiter.Requests, Duration: s.now.Sub(start),
		Arrived: m.arrivals, Completed: m.completed, Dropped: m.dropped, Asked: m.asks, Sent: m.sent, Accepted: m.accepted,
		Rejected: m.rejected, Overloaded: m.overloaded, PeakAsks: m.peak,
		Jain:        jain(s.sc.Workload.Tenants, m.offered, m.served),
		ForeignSent: s.up.foreignSent, ForeignRejected: s.up.foreignRefused, Series: m.series,
	}
	for i := range s.up.ours {
		u := 100 * s.up.ours[i] / max(1, s.up.couldServe(limiter.Meter(i)))
		if i == 0 || u > r.Utilization {
			r.Utilization, r.Binding = u, limiter.Meter(i)
		}
	}
	for i, t := range s.sc.Workload.Tenants {
		r.Tenants = append(r.Tenants, TenantResult{Name: t.Name, Weight: t.Weight, Offered: m.offered[i], Served: m.served[i]})
	}
	slices.Sort(m.waits)
	r.WaitP50, r.WaitP95 = percentile(m.waits, 0.5), percentile(m.waits, 0.95)
	if s.sc.Workload.Items > 0 && s.undone == 0 {
		r.Makespan = s.now.Sub(start).Seconds()
	}
	r.Changes = changesOf(s.sc, r)
	return r
}
