package ratelimitstats

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/statsd_exporter/pkg/mapper"
	"golang.org/x/net/netutil"
)

// maxScrapers bounds the connections of those who ask for metrics.
const maxScrapers = 64

// scrape is a port where Prometheus asks. Its series are there from the first hit on, as
// those of envoyproxy/ratelimit are, and show what was counted until then.
type scrape struct {
	listener net.Listener
	path     string
	mapping  *Mapping
	tags     prometheus.Labels
	log      *slog.Logger

	// What follows is guarded by Stats.sending.
	byName   map[string]*metric // of the names of statsd; nil: not shown
	byLabels map[string]*metric // of the names and labels of Prometheus
	families map[string]*family
	timer    *timerMetric
	swept    time.Time
	readings []reading
}

// metric is a series of Prometheus, which may be the sum of several of statsd.
type metric struct {
	desc   *prometheus.Desc
	key    string
	family string
	kind   prometheus.ValueType
	scale  float64
	value  float64
	of     int // how many of byName it is the sum of
}

// family is what all series of a name have in common.
type family struct {
	kind prometheus.ValueType
	help string
	size int
}

func newScrape(o Prometheus, tags []Tag, log *slog.Logger) (*scrape, error) {
	if o.Addr == "" {
		o.Addr = DefaultPrometheusAddr
	}
	if o.Path == "" {
		o.Path = DefaultPrometheusPath
	}
	if !strings.HasPrefix(o.Path, "/") {
		return nil, fmt.Errorf("ratelimitstats: the path for Prometheus is %q, expected one that begins with /", o.Path)
	}
	c := &scrape{
		listener: o.Listener, path: o.Path, mapping: o.Mapping, tags: prometheus.Labels{}, log: log,
		byName: map[string]*metric{}, byLabels: map[string]*metric{}, families: map[string]*family{},
	}
	for _, t := range tags {
		c.tags[mapper.EscapeMetricName(t.Key)] = t.Value
	}
	if c.mapping == nil {
		c.mapping = DefaultMapping(o.Milliseconds)
	}
	for _, what := range c.mapping.Unused {
		log.Warn("a part of the mapping for Prometheus has no effect", slog.String("at", what))
	}
	if c.listener == nil {
		l, err := net.Listen("tcp", o.Addr)
		if err != nil {
			return nil, fmt.Errorf("ratelimitstats: cannot listen for Prometheus on %q: %w", o.Addr, err)
		}
		c.listener = l
	}
	return c, nil
}

func (c *scrape) close() error { return c.listener.Close() }

// run implements sink.
func (c *scrape) run(ctx context.Context, s *Stats) error {
	mux := http.NewServeMux()
	mux.Handle(c.path, c.handler(s))
	web := &http.Server{
		Handler:           mux,
		ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second,
		WriteTimeout: 30 * time.Second, IdleTimeout: 5 * time.Minute,
		MaxHeaderBytes: 16 << 10,
		ErrorLog:       slog.NewLogLogger(c.log.Handler(), slog.LevelWarn),
	}
	ended := make(chan error, 1)
	go func() { ended <- web.Serve(netutil.LimitListener(c.listener, maxScrapers)) }()
	select {
	case err := <-ended:
		return fmt.Errorf("ratelimitstats: serving Prometheus on %s: %w", c.listener.Addr(), err)
	case <-ctx.Done():
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastTimeout)
	defer cancel()
	err := web.Shutdown(last)
	if errors.Is(err, context.DeadlineExceeded) {
		err = web.Close()
	}
	if served := <-ended; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}

func (c *scrape) handler(s *Stats) http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(&collector{c, s},
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return promhttp.HandlerFor(registry, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError})
}

// collector shows what s counts. It describes nothing, since its labels depend on paths.
type collector struct {
	*scrape
	s *Stats
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	c.s.sending.Lock()
	defer c.s.sending.Unlock()
	c.take(c.s, time.Now())
	for _, m := range c.byLabels {
		ch <- prometheus.MustNewConstMetric(m.desc, m.kind, m.value*m.scale)
	}
	if c.timer != nil {
		c.timer.collect(c.s.took, ch)
	}
}

// take adds what was counted to the series of Prometheus. s.sending is held.
func (c *scrape) take(s *Stats, now time.Time) {
	c.readings = s.read(now, c.readings[:0])
	timed := false
	for _, r := range c.readings {
		s.done(r)
		if r.series == nil {
			timed = true
			if c.timer != nil {
				c.timer.observe(r)
			}
			continue
		}
		if m := c.metric(r.series.base+"."+r.series.names[r.at], mapper.MetricTypeCounter); m != nil {
			m.value += float64(r.n)
		}
	}
	if timed && c.timer == nil {
		c.timer = c.newTimer(s.took)
	}
	if n, worth := s.gauge(); worth {
		if m := c.metric(serviceRoot+"."+runtimeSeries, mapper.MetricTypeGauge); m != nil {
			m.value = float64(n)
		}
	}
	if now.Sub(c.swept) >= sweepEvery {
		c.swept = now
		s.sweep(now, c.forget)
	}
}

// metric returns the series of a name of statsd, or nil if it is not shown.
func (c *scrape) metric(name string, kind mapper.MetricType) *metric {
	m, known := c.byName[name]
	if known {
		return m
	}
	if found, ok := c.describe(name, kind); ok {
		m = c.byLabels[found.key]
		if m == nil {
			m = found
			c.byLabels[m.key] = m
			c.families[m.family].size++
		}
		m.of++
	}
	c.byName[name] = m
	return m
}

// describe says what a name of statsd is to Prometheus. It is not shown where the mapping
// drops it, or where series of its name are of another kind.
func (c *scrape) describe(name string, kind mapper.MetricType) (*metric, bool) {
	rule, labels, mapped := c.mapping.mapper.GetMapping(name, kind)
	if !mapped {
		rule, labels = &mapper.MetricMapping{Name: name}, nil
	}
	if rule.Action == mapper.ActionTypeDrop || rule.Name == "" {
		return nil, false
	}
	m := &metric{family: mapper.EscapeMetricName(rule.Name), scale: 1, kind: prometheus.CounterValue}
	if kind == mapper.MetricTypeGauge {
		m.kind = prometheus.GaugeValue
	}
	if kind == mapper.MetricTypeObserver {
		m.kind = prometheus.UntypedValue
	}
	if rule.Scale.Set {
		m.scale = rule.Scale.Val
	}
	if m.kind == prometheus.CounterValue && m.scale < 0 {
		return nil, false
	}
	f := c.families[m.family]
	if f == nil {
		f = &family{kind: m.kind, help: rule.HelpText}
		if f.help == "" {
			f.help = "Counted as envoyproxy/ratelimit does."
		}
		c.families[m.family] = f
	}
	if f.kind != m.kind {
		c.log.Warn("a metric is not shown to Prometheus: another of its name is of another type",
			slog.String("name", name), slog.String("shown_as", m.family))
		return nil, false
	}
	all := c.labels(labels, rule.HonorLabels)
	m.key = key(m.family, all)
	m.desc = prometheus.NewDesc(m.family, f.help, nil, all)
	if _, err := prometheus.NewConstMetric(m.desc, m.kind, 0); err != nil {
		c.log.Warn("a metric is not shown to Prometheus", slog.String("name", name), slog.Any("error", err))
		return nil, false
	}
	return m, true
}

// labels adds the tags to the labels that a mapping gives, which win unless it honours
// those that are there.
func (c *scrape) labels(mapped prometheus.Labels, honour bool) prometheus.Labels {
	all := maps.Clone(c.tags)
	for label, value := range mapped {
		if _, there := all[label]; !there || !honour {
			all[label] = strings.ToValidUTF8(value, "_")
		}
	}
	return all
}

func key(name string, labels prometheus.Labels) string {
	var b strings.Builder
	b.WriteString(name)
	for _, label := range slices.Sorted(maps.Keys(labels)) {
		fmt.Fprintf(&b, "\x00%s\x00%s", label, labels[label])
	}
	return b.String()
}

// forget drops what only a series that is gone was counted in.
func (c *scrape) forget(t *series) {
	for _, counter := range t.names {
		name := t.base + "." + counter
		m := c.byName[name]
		delete(c.byName, name)
		if m == nil {
			continue
		}
		if m.of--; m.of > 0 {
			continue
		}
		delete(c.byLabels, m.key)
		if f := c.families[m.family]; f.size > 1 {
			f.size--
		} else {
			delete(c.families, m.family)
		}
	}
}
