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
	paceStartupDesc = prometheus.NewDesc("weir_pace_startups", "Quotas of the name whose limit is unknown and still looked for.", []string{"owner", "meter"}, nil)
)

// paceCollector shows what was learned. Quotas of one name, of different organisations
// or models, are shown together: their number is the callers' doing.
type paceCollector struct{ d *decider }

// Describe implements prometheus.Collector.
func (c *paceCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{paceRateDesc, paceBurstDesc, paceGateDesc, paceStartupDesc} {
		ch <- d
	}
}

// paceSum is what all quotas of one name have learned of one meter.
type paceSum struct{ rate, burst, gate, startups float64 }

// Collect implements prometheus.Collector. A store that does not answer within a
// second is left out, so that a scrape never hangs.
func (c *paceCollector) Collect(ch chan<- prometheus.Metric) {
	a, now := c.d.loaded.Load(), c.d.now()
	if len(a.learned) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	views, err := c.d.store.Quotas(ctx, now)
	if err != nil {
		return
	}
	type key struct {
		owner string
		meter limiter.Meter
	}
	sums := map[key]*paceSum{}
	for i := range views {
		if !a.learned[views[i].Name] {
			continue
		}
		for _, p := range views[i].Paces {
			k := key{views[i].Name, p.Meter}
			if sums[k] == nil {
				sums[k] = &paceSum{burst: p.Burst}
			}
			sums[k].add(now, &p)
		}
	}
	for k, s := range sums {
		for desc, value := range map[*prometheus.Desc]float64{
			paceRateDesc: s.rate, paceBurstDesc: s.burst, paceGateDesc: s.gate, paceStartupDesc: s.startups,
		} {
			ch <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, k.owner, k.meter.String())
		}
	}
}

func (s *paceSum) add(now limiter.Instant, p *limiter.PaceView) {
	s.rate += p.Rate
	s.burst = min(s.burst, p.Burst)
	s.gate = max(s.gate, p.GateUntil.Sub(now).Seconds())
	if p.Startup {
		s.startups++
	}
}
