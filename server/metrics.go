package server

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/weir-project/weir/config"
	"github.com/weir-project/weir/limiter"
	"github.com/weir-project/weir/provider"
)

// other is the label of whatever the configuration does not name.
const other = "other"

// metrics are what /metrics shows. Labels come from the configuration and from fixed
// lists, never from a caller. It is safe for concurrent use.
type metrics struct {
	registry *prometheus.Registry

	decisionSeconds prometheus.Histogram
	settlements     [limiter.Expired + 1]atomic.Uint64
	errors          *prometheus.CounterVec
	overloads       prometheus.Counter
	panics          prometheus.Counter
	accessLog       *prometheus.CounterVec
	refusals        *prometheus.CounterVec
	events          *prometheus.CounterVec
	oddAnswers      *prometheus.CounterVec
	// changed, unless nil, is told of each refusal and each limit that was adopted.
	changed func()
	// service, unless nil, is told of each configuration that could not be loaded.
	service    RatelimitServiceObserver
	reloadOK   prometheus.Gauge
	reloadTime prometheus.Gauge
	configInfo *prometheus.GaugeVec

	binding sync.Mutex // one plan after the other
	plan    atomic.Pointer[planSeries]
}

func newMetrics(version string) *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		decisionSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:                            "weir_decision_seconds",
			Help:                            "Time the store took to decide, without time held; one of 64 decisions is timed.",
			NativeHistogramBucketFactor:     1.1,
			NativeHistogramMaxBucketNumber:  100,
			NativeHistogramMinResetDuration: time.Hour,
			Buckets:                         []float64{1e-6, 5e-6, 25e-6, 1e-4, 5e-4, 25e-4, 1e-2, 5e-2, 0.25, 1},
		}),
	}
	m.plan.Store(&planSeries{})
	m.registry.MustRegister(m.decisionSeconds, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.count()
	m.reloadOK = m.gauge("weir_config_last_reload_successful",
		"1 if the configuration on disk is the one in force, 0 if it is invalid.").WithLabelValues()
	m.reloadTime = m.gauge("weir_config_last_reload_success_timestamp_seconds",
		"When the configuration in force was loaded, in Unix seconds.").WithLabelValues()
	m.configInfo = m.gauge("weir_config_info", "1 for the digest of the configuration in force.", "digest")
	m.gauge("weir_build_info", "1 for the version that runs.", "version").WithLabelValues(version).Set(1)
	return m
}

// count makes the counters.
func (m *metrics) count() {
	m.registry.MustRegister(planCollector{m})
	m.errors = m.counter("weir_errors_total", "Calls answered with an error, by gRPC code.", "code")
	m.overloads = m.counter("weir_overloads_total", "Calls refused because too many were in flight.").WithLabelValues()
	m.panics = m.counter("weir_panics_total", "Calls that ended in a recovered panic: each is a bug.").WithLabelValues()
	m.accessLog = m.counter("weir_access_log_entries_total", "Access log entries received, by what came of them.", "result")
	m.refusals = m.counter("weir_refusals_total", "Calls that the upstream refused, by quota and class.", "owner", "class")
	m.events = m.counter("weir_pace_events_total",
		"Refusals that changed a learned pace, by what they were taken for: what it cost to find the pace.", "owner", "meter", "event")
	m.oddAnswers = m.counter("weir_odd_answers_total",
		"Upstreams' answers in which something was clamped or ignored because nobody can mean it, by what it was.", "what")
	for name := range provider.AllOddities.Names {
		m.oddAnswers.WithLabelValues(name) // so that it is there before the first
	}
}

// counter makes and registers counters; one with no labels is its only child.
func (m *metrics) counter(name, help string, labels ...string) *prometheus.CounterVec {
	v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	m.registry.MustRegister(v)
	return v
}

// gauge makes and registers gauges; one with no labels is its only child.
func (m *metrics) gauge(name, help string, labels ...string) *prometheus.GaugeVec {
	v := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, labels)
	m.registry.MustRegister(v)
	return v
}

// watchStore adds the gauges that the store is asked for when somebody looks.
func (m *metrics) watchStore(s Store) {
	m.registry.MustRegister(&storeCollector{store: s, metrics: m})
}

// accessLogResult returns the counter of entries that ended in result, one of a fixed
// list. Keep it: looking it up costs more than adding to it.
func (m *metrics) accessLogResult(result string) prometheus.Counter {
	return m.accessLog.WithLabelValues(result)
}

// settled counts what came of a report, a release or an expiry.
func (m *metrics) settled(s limiter.Settlement) {
	if s.Applied || s.Ending == limiter.Unknown {
		m.settlements[s.Ending].Add(1)
	}
	if (s.Quota != "" || s.Adopted) && m.changed != nil {
		m.changed()
	}
	if s.Quota == "" {
		return
	}
	if s.Attempt.Refuses() {
		m.refusals.WithLabelValues(s.Quota, refusalNames[s.Attempt]).Inc()
	}
	if s.Refused.Refuses() {
		m.refusals.WithLabelValues(s.Quota, refusalNames[s.Refused]).Inc()
	}
	if s.Event != limiter.NoEvent {
		m.events.WithLabelValues(s.Quota, s.EventMeter.String(), s.Event.String()).Inc()
	}
}

// odd counts what in an answer nobody can mean.
func (m *metrics) odd(o provider.Oddities) {
	for name := range o.Names {
		m.oddAnswers.WithLabelValues(name).Inc()
	}
}

// loaded shows the configuration in force.
func (m *metrics) loaded(l *config.Loaded, at time.Time) {
	m.configInfo.Reset()
	m.configInfo.WithLabelValues(l.Digest).Set(1)
	m.reloadOK.Set(1)
	m.reloadTime.Set(float64(at.UnixMilli()) / 1e3)
}

// loadFailed shows that the configuration on disk is not the one in force.
func (m *metrics) loadFailed() {
	m.reloadOK.Set(0)
	if m.service != nil {
		m.service.LoadFailed()
	}
}

// storeCollector shows the store's sums.
type storeCollector struct {
	store   Store
	metrics *metrics
}

var (
	reservationsDesc = prometheus.NewDesc("weir_reservations", "Reservations now, by state.", []string{"state"}, nil)
	heldDesc         = prometheus.NewDesc("weir_held_calls", "Callers that are held now.", nil, nil)
	keysDesc         = prometheus.NewDesc("weir_keys", "Keys counted now.", nil, nil)
	quotasDesc       = prometheus.NewDesc("weir_quotas", "Quotas counted now: one for each organisation, or whatever a quota is told apart by.", nil, nil)
	overflowDesc     = prometheus.NewDesc("weir_overflow_charges_total", "Charges to overflow counters, because the bound on keys was reached.", nil, nil)
	settlementsDesc  = prometheus.NewDesc("weir_settlements_total", "Reservations that ended, and reports for unknown ones, by ending.", []string{"ending"}, nil)
)

// Describe implements prometheus.Collector.
func (c *storeCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{reservationsDesc, heldDesc, keysDesc, quotasDesc, overflowDesc, settlementsDesc} {
		ch <- d
	}
}

// Collect implements prometheus.Collector. A store that does not answer within a
// second is left out, so that a scrape never hangs.
func (c *storeCollector) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	for _, e := range []limiter.Ending{limiter.Unknown, limiter.Settled, limiter.Released} {
		ch <- prometheus.MustNewConstMetric(settlementsDesc, prometheus.CounterValue, float64(c.metrics.settlements[e].Load()), e.String())
	}
	st, err := c.store.Stats(ctx)
	if err != nil {
		return
	}
	ch <- prometheus.MustNewConstMetric(settlementsDesc, prometheus.CounterValue, float64(st.Expired), limiter.Expired.String())
	ch <- prometheus.MustNewConstMetric(reservationsDesc, prometheus.GaugeValue, float64(st.Open), limiter.Open.String())
	ch <- prometheus.MustNewConstMetric(heldDesc, prometheus.GaugeValue, float64(st.Held))
	ch <- prometheus.MustNewConstMetric(keysDesc, prometheus.GaugeValue, float64(st.Keys))
	ch <- prometheus.MustNewConstMetric(overflowDesc, prometheus.CounterValue, float64(st.Overflowed))
	ch <- prometheus.MustNewConstMetric(quotasDesc, prometheus.GaugeValue, float64(st.Quotas))
}
