package main

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	rlscommon "github.com/envoyproxy/go-control-plane/envoy/extensions/common/ratelimit/v3"
	rlsv3 "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	collectorv1 "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"github.com/weir-project/weir/config"
	"github.com/weir-project/weir/limiter"
	"github.com/weir-project/weir/server"
	"github.com/weir-project/weir/store/memory"
)

// spanSink takes spans, over HTTP and over gRPC. It is safe for concurrent use.
type spanSink struct {
	collectorv1.UnimplementedTraceServiceServer
	mu    sync.Mutex
	spans []seenSpan
}

type seenSpan struct {
	name, trace, parent string
	resource            map[string]string
}

func (s *spanSink) Export(_ context.Context, r *collectorv1.ExportTraceServiceRequest) (*collectorv1.ExportTraceServiceResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, of := range r.GetResourceSpans() {
		about := map[string]string{}
		for _, a := range of.GetResource().GetAttributes() {
			about[a.GetKey()] = a.GetValue().GetStringValue()
		}
		for _, scope := range of.GetScopeSpans() {
			for _, span := range scope.GetSpans() {
				s.spans = append(s.spans, seenSpan{span.GetName(), hexOf(span.GetTraceId()), hexOf(span.GetParentSpanId()), about})
			}
		}
	}
	return &collectorv1.ExportTraceServiceResponse{}, nil
}

func (s *spanSink) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	in := &collectorv1.ExportTraceServiceRequest{}
	if err != nil || r.URL.Path != "/v1/traces" || proto.Unmarshal(body, in) != nil {
		http.Error(w, "not spans", http.StatusBadRequest)
		return
	}
	_, _ = s.Export(r.Context(), in) // it never fails
}

func hexOf(b []byte) string {
	const digits = "0123456789abcdef"
	var s strings.Builder
	for _, c := range b {
		s.WriteByte(digits[c>>4])
		s.WriteByte(digits[c&15])
	}
	return s.String()
}

// Spans are made of calls, in their callers' traces, and reach the collector over either
// protocol before the process ends.
func TestTracing(t *testing.T) {
	const trace, span = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
	cases := map[string]struct {
		grpc     bool
		metadata []string
		rate     float64
		want     int
	}{
		"w3c":                 {false, []string{"traceparent", "00-" + trace + "-" + span + "-01"}, 1, 1},
		"b3 in one header":    {false, []string{"b3", trace + "-" + span + "-1"}, 1, 1},
		"b3 in several":       {true, []string{"x-b3-traceid", trace, "x-b3-spanid", span, "x-b3-sampled", "1"}, 0, 1},
		"caller does not":     {true, []string{"traceparent", "00-" + trace + "-" + span + "-00"}, 1, 0},
		"begun here":          {true, nil, 1, 1},
		"begun here, sampled": {false, nil, 0, 0},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			sink := &spanSink{}
			collect(t, sink, c.grpc)
			r := newRefSettings([]string{
				"TRACING_ENABLED=true", "TRACING_SERVICE_NAMESPACE=edge", "TRACING_SERVICE_INSTANCE_ID=one",
				"TRACING_EXPORTER_PROTOCOL=" + map[bool]string{true: "grpc", false: "http"}[c.grpc],
				"TRACING_SAMPLING_RATE=" + map[float64]string{0: "0", 1: "1"}[c.rate],
			}, true, false)
			callTraced(t, r, c.metadata)
			if len(sink.spans) != c.want {
				t.Fatalf("%d spans, want %d: %+v", len(sink.spans), c.want, sink.spans)
			}
			for _, s := range sink.spans {
				if s.name != "envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit" || c.metadata != nil && (s.trace != trace || s.parent != span) {
					t.Errorf("span %+v, want a call to ShouldRateLimit in the caller's trace", s)
				}
				for key, want := range map[string]string{"service.name": "RateLimit", "service.namespace": "edge", "service.instance.id": "one", "team": "gate"} {
					if s.resource[key] != want {
						t.Errorf("%s is %q, want %q", key, s.resource[key], want)
					}
				}
			}
		})
	}
}

// collect has the exporters send to sink.
func collect(t *testing.T, sink *spanSink, overGRPC bool) {
	t.Helper()
	t.Setenv("OTEL_RESOURCE_ATTRIBUTES", "team=gate")
	if !overGRPC {
		web := httptest.NewServer(sink)
		t.Cleanup(web.Close)
		t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", web.URL)
		return
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := grpc.NewServer()
	collectorv1.RegisterTraceServiceServer(g, sink)
	served := make(chan error, 1)
	go func() { served <- g.Serve(l) }()
	t.Cleanup(func() {
		g.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://"+l.Addr().String())
}

// callTraced starts a server that is traced as r says, calls it once, and ends it.
func callTraced(t *testing.T, r *refSettings, pairs []string) {
	t.Helper()
	store := memory.New(limiter.Options{Shards: 1})
	defer store.Close()
	log := slog.New(slog.DiscardHandler)
	o := server.Options{
		GRPCAddr: "127.0.0.1:0", HTTPAddr: "127.0.0.1:0", Store: store, Loaded: config.Options{}.Nothing(), Logger: log, DrainDelay: -1,
	}
	stop, err := r.trace(&o, log)
	if err != nil {
		t.Fatal(err)
	}
	srv, err := server.New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- srv.Run(ctx) }()
	conn, err := grpc.NewClient(srv.GRPCAddr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	in := &rlsv3.RateLimitRequest{Domain: "edge", Descriptors: []*rlscommon.RateLimitDescriptor{
		{Entries: []*rlscommon.RateLimitDescriptor_Entry{{Key: "user", Value: "a"}}},
	}}
	with := metadata.AppendToOutgoingContext(t.Context(), pairs...)
	if _, err := rlsv3.NewRateLimitServiceClient(conn).ShouldRateLimit(with, in); err != nil {
		t.Error(err)
	}
	if _, err := grpc_health_v1.NewHealthClient(conn).Check(with, &grpc_health_v1.HealthCheckRequest{}); err != nil {
		t.Error(err)
	}
	_ = conn.Close() // all is answered
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	stop()
}
