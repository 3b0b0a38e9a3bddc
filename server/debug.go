package server

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"slices"
	"strings"
	"time"

	dto "github.com/prometheus/client_model/go"

	"github.com/weir-project/weir/limiter"
)

// The debug port shows what envoyproxy/ratelimit shows on its own: profiles, the rules in
// force, figures. It takes no part in readiness or draining.

// listenDebug opens the port.
func (s *Server) listenDebug(refused func(netip.Addr)) error {
	o := s.options
	o.TLS = TLSFiles{} // it is not encrypted, whatever the others are
	var err error
	s.debugListener, err = door{"debugging", "DEBUG_HOST and DEBUG_PORT", o.DebugAddr, nil}.open(&o, refused)
	if err != nil {
		return err
	}
	s.debug = &http.Server{
		Handler:           s.recovered(s.debugHandler()),
		ReadHeaderTimeout: 3 * time.Second,
		IdleTimeout:       60 * time.Second,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(o.Logger.Handler(), slog.LevelDebug),
	}
	return nil
}

func (s *Server) serveDebug() error {
	if err := s.debug.Serve(s.debugListener); err != nil && !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("server: serving debugging on %s: %w", s.debugListener.Addr(), err)
	}
	return nil
}

// DebugAddr is where debugging is served; nil if it is not.
func (s *Server) DebugAddr() net.Addr {
	if s.debugListener == nil {
		return nil
	}
	return s.debugListener.Addr()
}

const debugIndex = `/debug/pprof/: root of various pprof endpoints. hit for help.
/debug/pprof/profile: CPU profiling endpoint
/debug/pprof/trace: trace endpoint
/rlconfig: print out the currently loaded configuration for debugging
/stats: print out stats
`

func (s *Server) debugHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	mux.HandleFunc("/rlconfig", func(w http.ResponseWriter, _ *http.Request) {
		text(w, http.StatusOK, rulesText(s.d.loaded.Load().Spec.Domains))
	})
	mux.HandleFunc("/stats", s.serveStats)
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { text(w, http.StatusOK, debugIndex) })
	handler := http.NewCrossOriginProtection().Handler(mux)
	if local(s.debugListener.Addr()) {
		handler = localNames(handler)
	}
	return handler
}

// serveStats shows the counters and gauges of /metrics, one a line, by name.
func (s *Server) serveStats(w http.ResponseWriter, _ *http.Request) {
	families, err := s.d.metrics.registry.Gather()
	if err != nil {
		text(w, http.StatusInternalServerError, "the figures cannot be read: "+err.Error()+"\n")
		return
	}
	var b strings.Builder
	for _, f := range families { // they come in the order of their names
		for _, m := range f.GetMetric() {
			writeStat(&b, f.GetName(), m)
		}
	}
	text(w, http.StatusOK, b.String())
}

func writeStat(w io.Writer, name string, m *dto.Metric) {
	labels := make([]string, 0, len(m.GetLabel()))
	for _, l := range m.GetLabel() {
		labels = append(labels, fmt.Sprintf("%s=%q", l.GetName(), l.GetValue()))
	}
	if len(labels) > 0 {
		name += "{" + strings.Join(labels, ",") + "}"
	}
	switch {
	case m.GetCounter() != nil:
		fmt.Fprintf(w, "%s: %v\n", name, m.GetCounter().GetValue())
	case m.GetGauge() != nil:
		fmt.Fprintf(w, "%s: %v\n", name, m.GetGauge().GetValue())
	case m.GetHistogram() != nil:
		fmt.Fprintf(w, "%s: count %d, sum %v\n", name, m.GetHistogram().GetSampleCount(), m.GetHistogram().GetSampleSum())
	case m.GetSummary() != nil:
		fmt.Fprintf(w, "%s: count %d, sum %v\n", name, m.GetSummary().GetSampleCount(), m.GetSummary().GetSampleSum())
	}
}

// rulesText lists the rules as envoyproxy/ratelimit does, but always in the same order:
// that of their paths.
func rulesText(domains []limiter.DomainSpec) string {
	var lines []string
	for i := range domains {
		lines = appendRules(lines, domains[i].Name, domains[i].Rules)
	}
	slices.Sort(lines)
	return strings.Join(lines, "")
}

func appendRules(lines []string, path string, rules []limiter.RuleSpec) []string {
	for i := range rules {
		r := &rules[i]
		at := path + "." + r.Key
		if r.Value != "" {
			at += "_" + r.Value
		}
		for _, l := range r.Limits {
			lines = append(lines, fmt.Sprintf("%s: unit=%s requests_per_unit=%d, shadow_mode: %t, quota_mode: %t\n",
				at, windowName(l.Window), l.Amount, r.Shadow, r.Soft))
		}
		if r.Unlimited {
			lines = append(lines, fmt.Sprintf("%s: unit=UNKNOWN requests_per_unit=0, shadow_mode: %t, quota_mode: %t\n", at, r.Shadow, r.Soft))
		}
		lines = appendRules(lines, at, r.Rules)
	}
	return lines
}

// windowName is the name of Envoy's unit that is as long as a window, or else the length.
func windowName(window time.Duration) string {
	names := [...]string{"UNKNOWN", "SECOND", "MINUTE", "HOUR", "DAY", "MONTH", "YEAR", "WEEK"}
	if unit, n := unitOf(window); unit > 0 && n == 1 {
		return names[unit]
	}
	return window.String()
}
