package server

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/weir-project/weir/limiter"
)

// refusalNames are the classes of refusals, as the label of metrics.
var refusalNames = map[limiter.Class]string{
	limiter.ClassQuota:        "quota",
	limiter.ClassAcceleration: "acceleration",
	limiter.ClassConcurrency:  "concurrency",
	limiter.ClassEntitlement:  "entitlement",
	limiter.ClassSpend:        "spend",
	limiter.ClassOverload:     "overload",
}

var (
	paceRateDesc    = prometheus.NewDesc("weir_pace_rate", "Learned pace, in units per minute; the sum over all quotas of the name.", []string{"owner", "meter"}, nil)
	paceBurstDesc   = prometheus.NewDesc("weir_pace_burst_seconds", "Learned burst, as seconds of the pace; the smallest of all quotas of the name.", []string{"owner", "meter"}, nil)
	paceGateDesc    = prometheus.NewDesc("weir_pace_gate_seconds", "How long a meter is still held shut after a refusal; the longest of all quotas of the name.", []string{"owner", "meter"}, nil)
	paceBacklogDesc = prometheus.NewDesc("weir_pace_backlog", "Units that were sent and that the upstream has not drained yet; the sum over all quotas of the name.", []string{"owner", "meter"}, nil)
	paceLimitDesc   = prometheus.NewDesc("weir_pace_limit", "Limit that the pace stays below, in units per minute; the sum over all quotas of the name whose limit is known.", []string{"owner", "meter"}, nil)
	paceStartupDesc = prometheus.NewDesc("weir_pace_startups", "Quotas of the name whose limit is unknown and still looked for.", []string{"owner", "meter"}, nil)

	quotaCapDesc      = prometheus.NewDesc("weir_quota_in_flight_cap", "How many calls may be open at a time, where refusals taught one; the smallest of all quotas of the name, 0 for none.", []string{"owner"}, nil)
	quotaSpendDesc    = prometheus.NewDesc("weir_quota_spend_gate_seconds", "How long nothing is sent still because the money is spent; the longest of all quotas of the name.", []string{"owner"}, nil)
	quotaOverloadDesc = prometheus.NewDesc("weir_quota_overloaded", "Quotas of the name whose upstream is overloaded.", []string{"owner"}, nil)
	quotaWaitingDesc  = prometheus.NewDesc("weir_quota_waiting", "Calls that wait, by quota and tenant: held ones, and places of those that were told to come back.", []string{"owner", "tenant", "state"}, nil)
)

// paceCollector shows what was learned and who waits. Quotas of one name, of different
// organisations or models, are shown together: their number is the callers' doing. So are
// tenants that the configuration does not name.
type paceCollector struct{ d *decider }

// Describe implements prometheus.Collector.
func (c *paceCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		paceRateDesc, paceBurstDesc, paceGateDesc, paceBacklogDesc, paceLimitDesc, paceStartupDesc,
		quotaCapDesc, quotaSpendDesc, quotaOverloadDesc, quotaWaitingDesc,
	} {
		ch <- d
	}
}

// Collect implements prometheus.Collector. A store that does not answer within a
// second is left out, so that a scrape never hangs.
func (c *paceCollector) Collect(ch chan<- prometheus.Metric) {
	a, now := c.d.loaded.Load(), c.d.now()
	if len(a.Spec.Quotas) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	views, err := c.d.store.Quotas(ctx, now)
	if err != nil {
		return
	}
	sums := make(map[string]*quotaSum, len(a.Spec.Quotas))
	for i := range a.Spec.Quotas {
		sums[a.Spec.Quotas[i].Name] = newQuotaSum(&a.Spec.Quotas[i])
	}
	for i := range views {
		if s := sums[views[i].Name]; s != nil {
			s.add(now, &views[i])
		}
	}
	for owner, s := range sums {
		s.collect(ch, owner)
	}
}

// quotaSum is how all quotas of one name stand.
type quotaSum struct {
	learned                    bool
	paces                      map[limiter.Meter]*paceSum
	waiting                    map[string]*waitingSum // by tenant, as far as it is named
	flightCap, spend, overload float64
}

// waitingSum is what one tenant has waiting.
type waitingSum struct{ held, appointed float64 }

// paceSum is what all quotas of one name have learned of one meter.
type paceSum struct{ rate, burst, gate, backlog, limit, startups float64 }

func newQuotaSum(q *limiter.QuotaSpec) *quotaSum {
	s := &quotaSum{learned: q.Learn, paces: map[limiter.Meter]*paceSum{}, waiting: map[string]*waitingSum{other: {}}}
	for tenant := range q.Tenants {
		s.waiting[tenant] = &waitingSum{}
	}
	return s
}

func (s *quotaSum) add(now limiter.Instant, v *limiter.QuotaView) {
	for i := range v.Tenants {
		t := &v.Tenants[i]
		w := s.waiting[t.Tenant]
		if w == nil {
			w = s.waiting[other]
		}
		w.held += float64(t.Waiting)
		w.appointed += float64(t.Tickets)
	}
	if !s.learned {
		return
	}
	for i := range v.Paces {
		p := &v.Paces[i]
		if s.paces[p.Meter] == nil {
			s.paces[p.Meter] = &paceSum{burst: p.Burst}
		}
		s.paces[p.Meter].add(now, p)
	}
	if c := float64(v.InFlightCap); c > 0 && (s.flightCap == 0 || c < s.flightCap) {
		s.flightCap = c
	}
	s.spend = max(s.spend, v.SpendUntil.Sub(now).Seconds())
	if v.OverloadRate > 0 {
		s.overload++
	}
}

func (s *paceSum) add(now limiter.Instant, p *limiter.PaceView) {
	s.rate += p.Rate
	s.burst = min(s.burst, p.Burst)
	s.gate = max(s.gate, p.GateUntil.Sub(now).Seconds())
	s.backlog += p.Backlog
	s.limit += p.Limit
	if p.Startup {
		s.startups++
	}
}

func (s *quotaSum) collect(ch chan<- prometheus.Metric, owner string) {
	show := func(d *prometheus.Desc, value float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	for tenant, w := range s.waiting {
		show(quotaWaitingDesc, w.held, owner, tenant, "held")
		show(quotaWaitingDesc, w.appointed, owner, tenant, "appointed")
	}
	if !s.learned {
		return
	}
	show(quotaCapDesc, s.flightCap, owner)
	show(quotaSpendDesc, s.spend, owner)
	show(quotaOverloadDesc, s.overload, owner)
	for meter, p := range s.paces {
		show(paceRateDesc, p.rate, owner, meter.String())
		show(paceBurstDesc, p.burst, owner, meter.String())
		show(paceGateDesc, p.gate, owner, meter.String())
		show(paceBacklogDesc, p.backlog, owner, meter.String())
		show(paceLimitDesc, p.limit, owner, meter.String())
		show(paceStartupDesc, p.startups, owner, meter.String())
	}
}
