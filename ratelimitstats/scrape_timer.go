package ratelimitstats

import (
	"slices"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/statsd_exporter/pkg/mapper"
)

// timerMetric shows response times, as a histogram or a summary. It is guarded by
// Stats.sending.
type timerMetric struct {
	desc    *prometheus.Desc
	scale   float64 // from milliseconds
	buckets []float64
	summary prometheus.Summary // instead of buckets
}

// newTimer returns how the mapping shows response times, which is not at all where it
// drops them. Those that t has sent already are included.
func (c *scrape) newTimer(t *timings) *timerMetric {
	name := serverRoot + "." + responseTime
	found, ok := c.describe(name, mapper.MetricTypeObserver)
	if !ok {
		return &timerMetric{}
	}
	c.families[found.family].size++
	m := &timerMetric{desc: found.desc, scale: found.scale}
	rule, labels, _ := c.mapping.mapper.GetMapping(name, mapper.MetricTypeObserver)
	if rule == nil {
		rule = &mapper.MetricMapping{}
	}
	defaults := &c.mapping.mapper.Defaults
	observer := rule.ObserverType
	if observer == mapper.ObserverTypeDefault {
		observer = defaults.ObserverType
	}
	if observer == mapper.ObserverTypeHistogram {
		m.buckets = defaults.HistogramOptions.Buckets
		if rule.HistogramOptions != nil && len(rule.HistogramOptions.Buckets) > 0 {
			m.buckets = rule.HistogramOptions.Buckets
		}
		m.buckets = slices.Sorted(slices.Values(m.buckets))
		return m
	}
	options := defaults.SummaryOptions
	if rule.SummaryOptions != nil {
		options = *rule.SummaryOptions
	}
	objectives := make(map[float64]float64, len(options.Quantiles))
	for _, q := range options.Quantiles {
		objectives[q.Quantile] = q.Error
	}
	m.summary = prometheus.NewSummary(prometheus.SummaryOpts{
		Name: found.family, Help: c.families[found.family].help, ConstLabels: c.labels(labels, rule.HonorLabels),
		Objectives: objectives, MaxAge: options.MaxAge, AgeBuckets: options.AgeBuckets, BufCap: options.BufCap,
	})
	for slot := range t.slots {
		m.observe(reading{nil, slot, t.sent[slot]})
	}
	return m
}

// observe adds what a slot has counted to the summary, if it is one.
func (m *timerMetric) observe(r reading) {
	if m.summary == nil {
		return
	}
	value := float64(slotMicros(r.at)) / 1e3 * m.scale
	for range r.n {
		m.summary.Observe(value)
	}
}

// collect shows the metric.
func (m *timerMetric) collect(t *timings, ch chan<- prometheus.Metric) {
	switch {
	case m.summary != nil:
		ch <- m.summary
	case m.buckets != nil:
		ch <- m.histogram(t)
	}
}

// histogram sums the slots up. The bounds of buckets with more than three digits are
// rounded to what slots can tell.
func (m *timerMetric) histogram(t *timings) prometheus.Metric {
	counts := make(map[float64]uint64, len(m.buckets))
	var count uint64
	slot := 0
	for _, bound := range m.buckets {
		for slot < len(t.sent) && float64(slotMicros(slot))/1e3*m.scale <= bound*(1+1e-9) {
			count += t.sent[slot]
			slot++
		}
		counts[bound] = count
	}
	for ; slot < len(t.sent); slot++ {
		count += t.sent[slot]
	}
	return prometheus.MustNewConstHistogram(m.desc, count, float64(t.sum.Load())/1e6*m.scale, counts)
}
