package ratelimitstats

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/statsd_exporter/pkg/line"
)

// What is sent is what a server reads: statsd_exporter's own parser, and its sums.
func TestLinesAreReadAsTheyAreMeant(t *testing.T) {
	tags := []Tag{{"env", "test"}, {"zone", "eu"}}
	for name, lines := range map[string]*lines{"statsd": plainLines(tags), "dogstatsd": dogLines(tags, nil)} {
		b := newBook(t, lines, edge)
		b.Descriptor(hit("edge", "user", 8, 5))
		b.Descriptor(hit("edge", "user_a:b|c#d@e", 0, 1))
		for i := range 3456 {
			b.Answered(time.Duration(i%2+1) * 250 * time.Microsecond)
		}
		var log bytes.Buffer
		counter := prometheus.NewCounter(prometheus.CounterOpts{Name: "x"})
		failed := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "y"}, []string{"reason"})
		parser := line.NewParser()
		parser.EnableDogstatsdParsing()
		sums, counts := map[string]float64{}, map[string]int{}
		for text := range strings.Lines(b.flush(0)) {
			for _, e := range parser.LineToEvents(strings.TrimSpace(text), *failed, counter, counter, counter, slog.New(slog.NewTextHandler(&log, nil))) {
				metric, inName := strings.CutSuffix(e.MetricName(), ".__env=test.__zone=eu")
				if l := e.Labels(); inName == (l["env"] == "test" && l["zone"] == "eu") {
					t.Errorf("%s: the tags of %q are %v", name, text, l)
				}
				sums[metric] += e.Value()
				counts[metric]++
			}
		}
		want := map[string]float64{
			"ratelimit.service.config_load_success":                         1,
			"ratelimit.service.rate_limit.edge.user.total_hits":             5,
			"ratelimit.service.rate_limit.edge.user.over_limit":             3,
			"ratelimit.service.rate_limit.edge.user.near_limit":             2,
			"ratelimit.service.rate_limit.edge.user_a_b_c#d@e.total_hits":   1,
			"ratelimit.service.rate_limit.edge.user_a_b_c#d@e.within_limit": 1,
			"ratelimit.service.runtime_series":                              1,
			"ratelimit_server.ShouldRateLimit.total_requests":               3456,
		}
		took := sums[serverRoot+"."+responseTime]
		delete(sums, serverRoot+"."+responseTime)
		if diff := cmp.Diff(want, sums); diff != "" || log.Len() > 0 {
			t.Errorf("%s (-want +got):\n%s\n%s", name, diff, &log)
		}
		if n := counts[serverRoot+"."+responseTime]; n != 3456 || took < 1.2959 || took > 1.2961 {
			t.Errorf("%s: %d calls that took %v s in all", name, n, took)
		}
	}
}
