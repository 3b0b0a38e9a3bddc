package xds

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// cause says what a stream ended of, in one of a few words.
type cause string

const (
	causeConnect  cause = "connect"   // the server cannot be reached
	causeTLS      cause = "tls"       // the sides do not know each other, or a file is at fault
	causeStream   cause = "stream"    // the stream ended
	causeTooLarge cause = "too_large" // a response was longer than its bound
	causePings    cause = "pings"     // the server wants fewer pings
)

var causes = []cause{causeConnect, causeTLS, causeStream, causeTooLarge, causePings}

// stats are what a Client's metrics show. It is safe for concurrent use.
type stats struct {
	mu                    sync.Mutex
	connected             bool
	accepts, refusals     uint64
	acceptedAt, refusedAt time.Time
	resources             int
	lastRefused           bool
	failures              map[cause]uint64
}

func (s *stats) change(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

func (s *stats) opened() { s.change(func() { s.connected = true }) }
func (s *stats) closed() { s.change(func() { s.connected = false }) }

func (s *stats) failed(c cause) {
	s.change(func() {
		if s.failures == nil {
			s.failures = map[cause]uint64{}
		}
		s.failures[c]++
	})
}

func (s *stats) took(resources int, at time.Time) {
	s.change(func() { s.accepts, s.resources, s.acceptedAt, s.lastRefused = s.accepts+1, resources, at, false })
}

func (s *stats) refused(at time.Time) {
	s.change(func() { s.refusals, s.refusedAt, s.lastRefused = s.refusals+1, at, true })
}

var (
	connectedDesc = prometheus.NewDesc("weir_xds_connected", "1 while there is a stream from the control plane.", nil, nil)
	responsesDesc = prometheus.NewDesc("weir_xds_responses_total", "Responses of the control plane, by what came of them.", []string{"result"}, nil)
	inForceDesc   = prometheus.NewDesc("weir_xds_last_response_accepted", "1 if the control plane's last response is in force, 0 if it was refused or there was none.", nil, nil)
	lastDesc      = prometheus.NewDesc("weir_xds_last_response_timestamp_seconds", "When a response was last accepted or refused, in Unix seconds; 0 for never.", []string{"result"}, nil)
	resourcesDesc = prometheus.NewDesc("weir_xds_resources", "Resources of the control plane that are in force.", nil, nil)
	failuresDesc  = prometheus.NewDesc("weir_xds_stream_failures_total", "Streams that ended or could not be opened, by cause.", []string{"cause"}, nil)
)

// Describe implements prometheus.Collector.
func (c *Client) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{connectedDesc, responsesDesc, inForceDesc, lastDesc, resourcesDesc, failuresDesc} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *Client) Collect(ch chan<- prometheus.Metric) {
	s := &c.stats
	s.mu.Lock()
	defer s.mu.Unlock()
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	count := func(d *prometheus.Desc, v uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	gauge(connectedDesc, truth(s.connected))
	count(responsesDesc, s.accepts, "accepted")
	count(responsesDesc, s.refusals, "refused")
	gauge(inForceDesc, truth(s.accepts > 0 && !s.lastRefused))
	gauge(lastDesc, seconds(s.acceptedAt), "accepted")
	gauge(lastDesc, seconds(s.refusedAt), "refused")
	gauge(resourcesDesc, float64(s.resources))
	for _, cause := range causes {
		count(failuresDesc, s.failures[cause], string(cause))
	}
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func seconds(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMilli()) / 1e3
}
