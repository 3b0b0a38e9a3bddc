package ratelimitstats

import (
	"context"
	"flag"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// newScraped returns Stats with a port for Prometheus that nothing listens on, and what
// it would answer, without the metrics of Go and of the process.
func newScraped(t testing.TB, o Prometheus, tags map[string]string, files ...string) (*Stats, *scrape, func() string) {
	t.Helper()
	o.Listener = new(net.TCPListener)
	c, err := newScrape(o, sortTags(tags), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	s := newStats(DefaultNearLimitRatio, c)
	s.Loaded(load(t, files...))
	handler := c.handler(s)
	return s, c, func() string {
		t.Helper()
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
		if w.Code != http.StatusOK {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
		var ours strings.Builder
		for line := range strings.Lines(w.Body.String()) {
			name := strings.TrimPrefix(strings.TrimPrefix(line, "# HELP "), "# TYPE ")
			if !strings.HasPrefix(name, "go_") && !strings.HasPrefix(name, "process_") {
				ours.WriteString(line)
			}
		}
		return ours.String()
	}
}

// golden compares text with a file of testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	wanted, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(wanted), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}

const deep = `
domain: deep
descriptors:
- key: a
  rate_limit: {unit: minute, requests_per_unit: 10}
  descriptors:
  - key: b
    rate_limit: {unit: minute, requests_per_unit: 10}
    descriptors:
    - key: c
      rate_limit: {unit: minute, requests_per_unit: 10}
`

const dotted = `
domain: do.tted
descriptors:
- key: a
  rate_limit: {unit: minute, requests_per_unit: 10}
`

// everything counts something under every name.
func everything(s *Stats) {
	s.Descriptor(shadow(hit("edge", "user", 7, 5)))
	s.Descriptor(hit("edge", "user", 0, 2))
	s.Descriptor(back(hit("edge", "user", 5, 2)))
	s.Descriptor(hit("deep", "a.b", 0, 1))
	s.Descriptor(hit("deep", "a.b.c", 0, 10))
	s.Descriptor(hit("do.tted", "a", 0, 1))
	s.Descriptor(hit("edge", "org_\xffx", 0, 1))
	s.DomainNotFound("no-where")
	s.GlobalShadowMode()
	s.ServiceError()
	s.StoreError()
	s.LoadFailed()
	for _, d := range []time.Duration{250 * time.Microsecond, 5 * time.Millisecond, 5*time.Millisecond + 1, time.Minute} {
		s.Answered(d)
	}
}

// What Prometheus gets: the names and labels of envoyproxy/ratelimit, deeper levels with
// the second, a dot in a domain as one more level, and what no mapping names by itself.
func TestScrape(t *testing.T) {
	s, _, ask := newScraped(t, Prometheus{}, nil, edge, deep, dotted)
	everything(s)
	golden(t, "scrape.txt", ask())
	everything(s)
	golden(t, "scrape_twice.txt", ask())
}

func TestScrapeWithTagsAndMilliseconds(t *testing.T) {
	s, _, ask := newScraped(t, Prometheus{Milliseconds: true}, map[string]string{"env": "test", "a-b": "c"}, edge)
	s.Descriptor(hit("edge", "user", 0, 1))
	s.Answered(5 * time.Millisecond)
	golden(t, "scrape_tags.txt", ask())
}

// A mapping in the words of earlier versions of statsd_exporter, with all that it can say.
func TestScrapeWithAMapping(t *testing.T) {
	file, err := os.ReadFile("testdata/mapping.yaml")
	if err != nil {
		t.Fatal(err)
	}
	m, err := NewMapping(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"line 3: ttl", "line 26: native_histogram_bucket_factor"}, m.Unused); diff != "" {
		t.Errorf("what has no effect (-want +got):\n%s", diff)
	}
	s, _, ask := newScraped(t, Prometheus{Mapping: m}, nil, edge, deep)
	everything(s)
	ask()
	s.Answered(20 * time.Millisecond)
	golden(t, "scrape_mapping.txt", ask())
}

// Response times without any word on how to show them are a summary, as in statsd_exporter.
func TestScrapeOfASummary(t *testing.T) {
	m, err := NewMapping([]byte("mappings:\n- match: ratelimit_server.*.response_time\n  name: took\n  labels: {method: $1}\n"))
	if err != nil {
		t.Fatal(err)
	}
	s, _, ask := newScraped(t, Prometheus{Mapping: m}, nil, edge)
	for i := range 100 {
		s.Answered(time.Duration(i+1) * time.Millisecond)
	}
	s.GlobalShadowMode()
	golden(t, "scrape_summary.txt", ask())
}

// Series go when what they count is gone, but not the sums that others are part of.
func TestScrapeForgets(t *testing.T) {
	s, c, ask := newScraped(t, Prometheus{}, nil, deep)
	s.Descriptor(hit("deep", "a.b", 0, 1))
	s.Descriptor(hit("deep", "a.b.c", 0, 2))
	s.Descriptor(hit("deep", "a.b.c", 2, 2))
	const series = `ratelimit_service_rate_limit_total_hits{domain="deep",key1="a",key2="b"} 5`
	if got := ask(); !strings.Contains(got, series) {
		t.Fatalf("no %s:\n%s", series, got)
	}
	sweep := func(at time.Duration) {
		s.sending.Lock()
		defer s.sending.Unlock()
		c.take(s, time.Now().Add(at))
	}
	s.bind(load(t, strings.Replace(deep, "      rate_limit", "      # rate_limit", 1)).Spec.Domains)
	sweep(KeepIdle + time.Minute)
	if got := ask(); !strings.Contains(got, series) {
		t.Errorf("when a part of it is gone there is no %s:\n%s", series, got)
	}
	s.bind(nil)
	sweep(2*KeepIdle + 3*time.Minute)
	sweep(3*KeepIdle + 6*time.Minute)
	if got := ask(); strings.Contains(got, "deep") || len(c.byLabels) != 1 || len(c.families) != 1 {
		t.Errorf("when all is gone there are %d series, want the one of loads:\n%s", len(c.byLabels), got)
	}
}

func TestBadMappings(t *testing.T) {
	for file, says := range map[string]string{
		"":                                   "the file holds no mapping",
		"- a":                                "the file holds no mapping",
		"a: [":                               "did not find",
		"maps: []":                           "field maps not found",
		"mappings: [{match: a.b}]":           "metric mapping didn't set a metric name",
		"mappings: [{match: a.b, name: 0x}]": "doesn't match regex",
		"mappings: [{match: '(', match_type: regex, name: x}]":                           "invalid regex",
		"mappings: [{match: a.b, name: x, labels: {__x: y}}]":                            `mapping of "a.b": the label __x is Prometheus' own`,
		"mappings: [{match: a.b, name: x, summary_options: {max_age: -1s}}]":             `mapping of "a.b": max_age is negative`,
		"defaults: {summary_options: {max_age: -1s}}\nmappings: [{match: a.b, name: x}]": "defaults: max_age is negative",
	} {
		if _, err := NewMapping([]byte(file)); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v, want %q", file, err, says)
		}
	}
}

// Whatever a mapping says, it is refused, or asking for metrics works.
func FuzzMapping(f *testing.F) {
	f.Add(string(defaultMapping))
	if file, err := os.ReadFile("testdata/mapping.yaml"); err == nil {
		f.Add(string(file))
	}
	f.Add("mappings: [{match: 'ratelimit.*', name: x, timer_type: summary, quantiles: [{quantile: 2, error: -1}]}]")
	l := load(f, edge, deep)
	f.Fuzz(func(t *testing.T, file string) {
		m, err := NewMapping([]byte(file))
		if err != nil {
			return
		}
		c, err := newScrape(Prometheus{Mapping: m, Listener: new(net.TCPListener)}, nil, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		s := newStats(DefaultNearLimitRatio, c)
		s.Loaded(l)
		registry := prometheus.NewRegistry()
		registry.MustRegister(&collector{c, s})
		for range 2 {
			everything(s)
			if _, err := registry.Gather(); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// The port answers on its path alone, and closes in the end.
func TestPort(t *testing.T) {
	s, err := New(Options{Prometheus: &Prometheus{Addr: "127.0.0.1:0", Path: "/stats"}, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	addr := s.sink.(*scrape).listener.Addr().String()
	s.Loaded(load(t, edge))
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for path, code := range map[string]int{"/stats": 200, "/metrics": 404} {
		resp, err := client.Get("http://" + addr + path)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode != code || code == 200 && !strings.Contains(string(body), "\nratelimit_service_config_load_success 1\n") {
			t.Errorf("%s: %d %s", path, resp.StatusCode, body)
		}
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if c, err := net.Dial("tcp", addr); err == nil {
		_ = c.Close()
		t.Error("the port is open still")
	}
}
