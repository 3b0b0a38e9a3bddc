package server

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"

	"github.com/weir-project/weir/limiter"
	weirv1 "github.com/weir-project/weir/proto/weir/v1"
)

func (w *world) health(service string) (healthpb.HealthCheckResponse_ServingStatus, error) {
	resp, err := healthpb.NewHealthClient(w.conn).Check(w.t.Context(), &healthpb.HealthCheckRequest{Service: service})
	return resp.GetStatus(), err
}

func (w *world) wantHealth(want healthpb.HealthCheckResponse_ServingStatus, ready int) {
	w.t.Helper()
	for _, service := range []string{"", "ratelimit"} {
		if got, err := w.health(service); got != want || err != nil {
			w.t.Errorf("health of %q: %v, %v; want %v", service, got, err, want)
		}
	}
	for _, path := range []string{"/readyz", "/healthcheck"} {
		if code, text, _ := w.fetch("GET", path, ""); code != ready {
			w.t.Errorf("%s: %d %q, want %d", path, code, text, ready)
		}
	}
	if code, text, _ := w.fetch("GET", "/healthz", ""); code != 200 || text != "ok\n" {
		w.t.Errorf("/healthz: %d %q", code, text)
	}
}

func TestADrainingServerServesUntilEverybodyKnows(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, w *world) {
		w.wantHealth(healthpb.HealthCheckResponse_SERVING, 200)
		if _, text, _ := w.fetch("GET", "/healthcheck", ""); text != "OK" {
			t.Errorf("/healthcheck says %q, want OK", text)
		}
		if _, err := w.health("other"); status.Code(err) != codes.NotFound {
			t.Errorf("health of an unknown service: %v, want NOT_FOUND", err)
		}
		// A caller is held, a session is open, and somebody watches the health.
		w.reserve(call("acme", 900, 100))
		time.Sleep(40 * time.Second)
		held := make(chan *weirv1.ReserveResponse, 1)
		go func() { held <- w.reserve(waiting(call("acme", 600, 100), 30*time.Second)) }()
		s := openSession(t, w)
		watch, err := healthpb.NewHealthClient(w.conn).Watch(t.Context(), &healthpb.HealthCheckRequest{})
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()

		w.stop() // 0s
		synctest.Wait()
		began := time.Now()
		w.wantHealth(healthpb.HealthCheckResponse_NOT_SERVING, 500)
		for range 4 { // up to 4s it decides as ever
			wantVerdict(t, w.reserve(call("other", 10, 10)), weirv1.Verdict_VERDICT_ALLOW)
			send(t, s, reserveCallOf(1, call("other", 10, 10)))
			wantVerdict(t, receive(t, s)[0].GetReserve(), weirv1.Verdict_VERDICT_ALLOW)
			time.Sleep(time.Second)
		}
		// 5s: who is held is told how things stand, the session ends, the server too.
		wantVerdict(t, <-held, weirv1.Verdict_VERDICT_DENY)
		if _, err := s.Recv(); status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "open another session") {
			t.Errorf("the session ended with %v, want UNAVAILABLE and what to do", err)
		}
		for {
			if _, err := watch.Recv(); err != nil {
				break
			}
		}
		err = <-w.ended
		if took := time.Since(began); err != nil || took < 5*time.Second || took > 6*time.Second {
			t.Errorf("ended after %v with %v, want after 5s", took, err)
		}
		w.ended <- nil
	})
}

// stuckStore does not answer until the caller leaves.
type stuckStore struct{ brokenStore }

func (stuckStore) Decide(ctx context.Context, _ limiter.Instant, _ *limiter.Ask, _ *limiter.Decision) error {
	<-ctx.Done()
	return ctx.Err()
}

func TestACallThatDoesNotEndIsCut(t *testing.T) {
	inBubble(t, Options{Store: stuckStore{}, DrainDelay: -1}, func(t *testing.T, w *world) {
		failed := make(chan error, 1)
		go func() {
			_, err := w.quota.Reserve(t.Context(), call("acme", 1, 1))
			failed <- err
		}()
		synctest.Wait()
		began := time.Now()
		w.stop()
		if err := <-failed; status.Code(err) != codes.Unavailable && status.Code(err) != codes.Canceled {
			t.Errorf("got %v, want that the connection was closed", err)
		}
		err := <-w.ended
		if took := time.Since(began); err != nil || took != DefaultStopTimeout {
			t.Errorf("ended after %v with %v, want after %v", took, err, DefaultStopTimeout)
		}
		w.ended <- nil
	})
}

func TestStopEndsAtOnce(t *testing.T) {
	inBubble(t, Options{Store: stuckStore{}}, func(t *testing.T, w *world) {
		go func() { _, _ = w.quota.Reserve(t.Context(), call("acme", 1, 1)) }()
		synctest.Wait()
		began := time.Now()
		w.stop()
		time.Sleep(time.Second)
		w.server.Stop()
		err := <-w.ended
		if took := time.Since(began); err != nil || took != time.Second {
			t.Errorf("ended after %v with %v, want at once", took, err)
		}
		w.ended <- nil
	})
}

func TestAReloadFailsNothingAndKeepsCounters(t *testing.T) {
	first := loaded(t, opus(), "aaaaaaaaaaaa", nil)
	inBubble(t, Options{Loaded: first}, func(t *testing.T, w *world) {
		wantVerdict(t, w.reserve(call("acme", 600, 100)), weirv1.Verdict_VERDICT_ALLOW)
		spec := opus()
		spec.Quotas[0].Limits[1].Amount = 2000
		w.server.Apply(loaded(t, spec, "bbbbbbbbbbbb", first))
		resp := w.reserve(call("acme", 1300, 100))
		wantVerdict(t, resp, weirv1.Verdict_VERDICT_ALLOW)
		if resp.GetPlan() != "bbbbbbbbbbbb" {
			t.Errorf("plan %q, want the new one", resp.GetPlan())
		}
		if used := w.used("acme", "input_tokens"); used != 1900 {
			t.Errorf("%d input tokens are used, want 1900", used)
		}
		// An invalid file changes nothing, and says so.
		w.server.refuse(errors.New("quotas.yaml:3:1: unknown field"))
		plan, err := w.admin.GetPlan(t.Context(), &weirv1.GetPlanRequest{})
		if err != nil || plan.GetPlan() != "bbbbbbbbbbbb" || plan.GetLastError() != "quotas.yaml:3:1: unknown field" {
			t.Errorf("plan %v, %v", plan, err)
		}
		if !strings.Contains(w.log.String(), "quotas.yaml:3:1") {
			t.Errorf("the log does not say it:\n%s", w.log)
		}
		if _, text, _ := w.fetch("GET", "/metrics", ""); !strings.Contains(text, "weir_config_last_reload_successful 0") {
			t.Error("the metric does not say it")
		}
		w.server.Apply(first)
		if _, text, _ := w.fetch("GET", "/metrics", ""); !strings.Contains(text, `weir_config_info{digest="aaaaaaaaaaaa"} 1`) ||
			strings.Contains(text, "bbbbbbbbbbbb") || !strings.Contains(text, "weir_config_last_reload_successful 1") {
			t.Error("the metrics do not show that the plan is valid again")
		}
	})
}

func TestTooManyCallsInFlightAreRefused(t *testing.T) {
	inBubble(t, Options{Store: stuckStore{}, MaxInFlight: 1, DrainDelay: -1}, func(t *testing.T, w *world) {
		ctx, leave := context.WithCancel(t.Context())
		go func() { _, _ = w.quota.Reserve(ctx, call("acme", 1, 1)) }()
		synctest.Wait()
		_, err := w.quota.Reserve(t.Context(), call("acme", 1, 1))
		if status.Code(err) != codes.ResourceExhausted || !strings.Contains(err.Error(), "1 calls are in flight") {
			t.Errorf("got %v, want RESOURCE_EXHAUSTED", err)
		}
		w.wantHealth(healthpb.HealthCheckResponse_SERVING, 200)
		leave()
		synctest.Wait()
		if n := w.server.d.inFlight.Load(); n != 0 {
			t.Errorf("%d calls are in flight, want 0", n)
		}
	})
}

// panicStore has a bug.
type panicStore struct{ brokenStore }

func (panicStore) Decide(context.Context, limiter.Instant, *limiter.Ask, *limiter.Decision) error {
	panic("kaboom")
}

func TestAPanicEndsOneCallOnly(t *testing.T) {
	inBubble(t, Options{Store: panicStore{}}, func(t *testing.T, w *world) {
		for range 2 {
			_, err := w.quota.Reserve(t.Context(), call("acme", 1, 1))
			if status.Code(err) != codes.Internal || strings.Contains(err.Error(), "kaboom") {
				t.Errorf("got %v, want INTERNAL without the panic", err)
			}
		}
		s := openSession(t, w)
		send(t, s, reserveCallOf(1, call("acme", 1, 1)))
		if _, err := s.Recv(); status.Code(err) != codes.Internal {
			t.Errorf("session: got %v, want INTERNAL", err)
		}
		if code, text, _ := w.fetch("POST", "/weir.v1.QuotaService/Reserve", "{}", "Content-Type", "application/json"); code != 500 || strings.Contains(text, "kaboom") {
			t.Errorf("JSON: got %d %s", code, text)
		}
		if !strings.Contains(w.log.String(), "kaboom") {
			t.Error("the log does not tell of the panic")
		}
		if n := w.server.d.inFlight.Load(); n != 0 {
			t.Errorf("%d calls are in flight, want 0", n)
		}
	})
}

func TestReflectionShowsAllServices(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, w *world) {
		ctx, done := context.WithCancel(t.Context())
		defer done()
		stream, err := grpc_reflection_v1.NewServerReflectionClient(w.conn).ServerReflectionInfo(ctx)
		if err != nil {
			t.Fatal(err)
		}
		err = stream.Send(&grpc_reflection_v1.ServerReflectionRequest{
			MessageRequest: &grpc_reflection_v1.ServerReflectionRequest_ListServices{},
		})
		if err != nil {
			t.Fatal(err)
		}
		resp, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		have := map[string]bool{}
		for _, s := range resp.GetListServicesResponse().GetService() {
			have[s.GetName()] = true
		}
		for _, name := range []string{
			"weir.v1.QuotaService", "weir.v1.AdminService", "grpc.health.v1.Health", "envoy.service.ratelimit.v3.RateLimitService",
			"envoy.service.accesslog.v3.AccessLogService", "grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection",
		} {
			if !have[name] {
				t.Errorf("%s is not there: %v", name, have)
			}
		}
	})
}

func TestNewSaysWhatToChange(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	_, port, _ := net.SplitHostPort(taken.Addr().String())
	base := Options{Store: brokenStore{}, Loaded: loaded(t, opus(), "a", nil), GRPCAddr: "127.0.0.1:0", HTTPAddr: "127.0.0.1:0"}
	for name, c := range map[string]struct {
		change func(*Options)
		want   string
	}{
		"no store":         {func(o *Options) { o.Store = nil }, "Options.Store"},
		"no configuration": {func(o *Options) { o.Loaded = nil }, "Options.Loaded"},
		"gRPC port taken":  {func(o *Options) { o.GRPCAddr = taken.Addr().String() }, "port " + port + ", for gRPC, is taken by another process: stop that one, or choose another port with --grpc-addr"},
		"HTTP port taken":  {func(o *Options) { o.HTTPAddr = taken.Addr().String() }, "port " + port + ", for HTTP, is taken by another process: stop that one, or choose another port with --http-addr"},
		"no port":          {func(o *Options) { o.GRPCAddr = "localhost" }, `--grpc-addr: cannot listen for gRPC on "localhost"`},
		"open to others":   {func(o *Options) { o.GRPCAddr = "0.0.0.0:0" }, "--insecure-plaintext"},
		"HTTP open too":    {func(o *Options) { o.HTTPAddr = ":0" }, "--http-addr: [::]:"},
		"half an identity": {func(o *Options) { o.TLS.CertFile = "x" }, "--tls-key"},
		"clients, no TLS":  {func(o *Options) { o.TLS.ClientCAFile = "x" }, "--tls-cert"},
		"no such key":      {func(o *Options) { o.TLS.CertFile, o.TLS.KeyFile = "/no/cert", "/no/key" }, "/no/cert"},
		"negative bound":   {func(o *Options) { o.MaxInFlight = -1 }, "Options.MaxInFlight"},
	} {
		t.Run(name, func(t *testing.T) {
			o := base
			c.change(&o)
			s, err := New(o)
			if err == nil {
				_ = s.Close()
				t.Fatal("New succeeds")
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %q, want %q in it", err, c.want)
			}
		})
	}
	t.Run("told so, it listens anywhere", func(t *testing.T) {
		o := base
		o.GRPCAddr, o.InsecurePlaintext = "0.0.0.0:0", true
		s, err := New(o)
		if err != nil {
			t.Fatal(err)
		}
		_ = s.Close()
	})
	t.Run("path checking off", func(t *testing.T) {
		t.Setenv(strictPathSwitch, "true")
		if _, err := New(base); err == nil || !strings.Contains(err.Error(), strictPathSwitch) {
			t.Errorf("got %v, want that it does not start", err)
		}
	})
}
