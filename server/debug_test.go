package server

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	rlscommon "github.com/envoyproxy/go-control-plane/envoy/extensions/common/ratelimit/v3"
	rlsv3 "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"

	"github.com/weir-project/weir/config"
	"github.com/weir-project/weir/limiter"
	"github.com/weir-project/weir/store/memory"
)

// The rules are listed by their paths, whatever the order of the files.
func TestRulesText(t *testing.T) {
	minute := func(n uint64) []limiter.LimitSpec {
		return []limiter.LimitSpec{{Meter: limiter.Requests, Amount: n, Window: time.Minute}}
	}
	got := rulesText([]limiter.DomainSpec{
		{Name: "web", Rules: []limiter.RuleSpec{
			{Key: "path", Value: "/v1/*", Shadow: true, Limits: minute(5), Rules: []limiter.RuleSpec{{Key: "user", Soft: true, Limits: minute(0)}}},
			{Key: "free", Unlimited: true},
			{Key: "burst", Limits: []limiter.LimitSpec{{Amount: 3, Window: 1500 * time.Millisecond}, {Amount: 9, Window: 7 * 24 * time.Hour}}},
		}},
		{Name: "api", Rules: []limiter.RuleSpec{{Key: "user", Limits: minute(10)}}},
	})
	want := `api.user: unit=MINUTE requests_per_unit=10, shadow_mode: false, quota_mode: false
web.burst: unit=1.5s requests_per_unit=3, shadow_mode: false, quota_mode: false
web.burst: unit=WEEK requests_per_unit=9, shadow_mode: false, quota_mode: false
web.free: unit=UNKNOWN requests_per_unit=0, shadow_mode: false, quota_mode: false
web.path_/v1/*.user: unit=MINUTE requests_per_unit=0, shadow_mode: false, quota_mode: true
web.path_/v1/*: unit=MINUTE requests_per_unit=5, shadow_mode: true, quota_mode: false
`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// The debug port is open only if it is asked for; it shows the index, the rules and the
// figures, and ends with the server.
func TestDebugPort(t *testing.T) {
	store := memory.New(limiter.Options{Shards: 1})
	defer store.Close()
	s, err := New(Options{
		GRPCAddr: "127.0.0.1:0", HTTPAddr: "127.0.0.1:0", DebugAddr: "127.0.0.1:0", DrainDelay: -1,
		Store: store, Loaded: loaded(t, opus(), "aaaaaaaaaaaa", nil), Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	base := "http://" + s.DebugAddr().String()
	for path, want := range map[string]string{
		"/":                      "/rlconfig: print out the currently loaded configuration for debugging\n",
		"/rlconfig":              "edge.user: unit=MINUTE requests_per_unit=3, shadow_mode: false, quota_mode: false\n",
		"/stats":                 `weir_build_info{version="unknown"}: 1` + "\n",
		"/debug/pprof/":          "goroutine",
		"/debug/pprof/goroutine": "",
	} {
		res, err := http.Get(base + path)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		if err = errors.Join(err, res.Body.Close()); err != nil || res.StatusCode != 200 || !strings.Contains(string(body), want) {
			t.Errorf("%s: %d %v %.300s; want 200 and %q", path, res.StatusCode, err, body, want)
		}
	}
	stop()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if _, err := http.Get(base + "/"); err == nil {
		t.Error("the debug port is open after the server has ended")
	}
	http.DefaultClient.CloseIdleConnections()
}

// Without TLS the debug port is not opened to other machines, unless that is allowed.
func TestDebugPortStaysOnThisMachine(t *testing.T) {
	store := memory.New(limiter.Options{Shards: 1})
	defer store.Close()
	o := Options{
		GRPCAddr: "127.0.0.1:0", HTTPAddr: "127.0.0.1:0", DebugAddr: "0.0.0.0:0",
		Store: store, Loaded: loaded(t, opus(), "aaaaaaaaaaaa", nil), Logger: slog.New(slog.DiscardHandler),
	}
	if _, err := New(o); err == nil || !strings.Contains(err.Error(), "DEBUG_HOST and DEBUG_PORT") {
		t.Errorf("got %v, want a refusal that names the variables", err)
	}
	o.InsecurePlaintext = true
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// Who wants envoyproxy/ratelimit's errors gets its code for this, too.
func TestWithoutConfigurationStrictly(t *testing.T) {
	missing := config.NotLoaded()
	missing.Strict = true
	inBubble(t, Options{Loaded: missing}, func(t *testing.T, w *world) {
		_, err := rlsv3.NewRateLimitServiceClient(w.conn).ShouldRateLimit(t.Context(), &rlsv3.RateLimitRequest{
			Domain: "edge", Descriptors: []*rlscommon.RateLimitDescriptor{{Entries: []*rlscommon.RateLimitDescriptor_Entry{{Key: "user", Value: "a"}}}},
		})
		if status.Code(err) != codes.Unknown || status.Convert(err).Message() != "no rate limit configuration loaded" {
			t.Errorf("got %v, want UNKNOWN, no rate limit configuration loaded", err)
		}
	})
}

// A server without a configuration says so, and is ready only if nobody minds; the first
// valid configuration changes both.
func TestWithoutConfiguration(t *testing.T) {
	for _, minds := range []bool{false, true} {
		inBubble(t, Options{Loaded: config.NotLoaded(), ReadyWithConfig: minds}, func(t *testing.T, w *world) {
			health := grpc_health_v1.NewHealthClient(w.conn)
			is := func(want grpc_health_v1.HealthCheckResponse_ServingStatus) {
				t.Helper()
				for _, service := range []string{"", "ratelimit"} {
					got, err := health.Check(t.Context(), &grpc_health_v1.HealthCheckRequest{Service: service})
					if err != nil || got.GetStatus() != want {
						t.Errorf("service %q is %v, %v; want %v", service, got, err, want)
					}
				}
			}
			ask := func() error {
				_, err := rlsv3.NewRateLimitServiceClient(w.conn).ShouldRateLimit(t.Context(), &rlsv3.RateLimitRequest{
					Domain:      "edge",
					Descriptors: []*rlscommon.RateLimitDescriptor{{Entries: []*rlscommon.RateLimitDescriptor_Entry{{Key: "user", Value: "a"}}}},
				})
				return err
			}
			if err := ask(); status.Code(err) != codes.Unavailable || status.Convert(err).Message() != "no rate limit configuration loaded" {
				t.Errorf("got %v, want no rate limit configuration loaded", err)
			}
			if minds {
				is(grpc_health_v1.HealthCheckResponse_NOT_SERVING)
			} else {
				is(grpc_health_v1.HealthCheckResponse_SERVING)
			}
			w.server.Apply(loaded(t, opus(), "bbbbbbbbbbbb", nil))
			is(grpc_health_v1.HealthCheckResponse_SERVING)
			if err := ask(); err != nil {
				t.Error(err)
			}
		})
	}
}
