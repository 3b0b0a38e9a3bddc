package server

import (
	"errors"
	"testing"

	ratelimitv3 "github.com/envoyproxy/go-control-plane/ratelimit/config/ratelimit/v3"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/weir-project/weir/config"
)

// TestPut: what a control plane says is in force, or is shown not to be, until it says
// again what is.
func TestPut(t *testing.T) {
	own := prometheus.NewGauge(prometheus.GaugeOpts{Name: "weir_own", Help: "A collector of the caller."})
	inBubble(t, Options{Loaded: config.NotLoaded(), Collectors: []prometheus.Collector{own}}, func(t *testing.T, w *world) {
		resource := func(domain string) []*ratelimitv3.RateLimitConfig {
			return []*ratelimitv3.RateLimitConfig{{Name: "r", Domain: domain}}
		}
		want := func(err error, valid bool, inForce string) {
			t.Helper()
			l := w.server.d.loaded.Load()
			got := ""
			for _, d := range l.Spec.Domains {
				got += d.Name
			}
			if (err == nil) != valid || got != inForce || (w.server.lastError.Load() == nil) != valid ||
				testutil.ToFloat64(w.server.d.metrics.reloadOK) != map[bool]float64{true: 1}[valid] {
				t.Errorf("got %v with %q in force and the last error %v, want %q, valid: %v", err, got, w.server.lastError.Load(), inForce, valid)
			}
		}
		put := func(domain string) error { return w.server.Put(t.Context(), resource(domain)) }
		want(put("a"), true, "a")
		want(put(""), false, "a")
		want(put("a"), true, "a")
		unreadable := errors.New("unreadable")
		w.server.Refused(unreadable)
		want(unreadable, false, "a")
		want(put("a"), true, "a")
		want(w.server.Put(t.Context(), nil), true, "")
		if n, err := testutil.GatherAndCount(w.server.d.metrics.registry, "weir_own"); n != 1 || err != nil {
			t.Errorf("%d of the caller's metrics are shown, want 1: %v", n, err)
		}
		w.server.Stop()
		if put("b") == nil {
			t.Error("a server that has stopped took resources")
		}
	})
}
