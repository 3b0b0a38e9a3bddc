package server

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"

	rlsv3 "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"

	"github.com/weir-project/weir/limiter"
	weirv1 "github.com/weir-project/weir/proto/weir/v1"
	"github.com/weir-project/weir/store/memory"

	"github.com/weir-project/weir/test/authority"
)

// TestOwnServicesAreClosed: where it is asked for, who can reach a port from elsewhere and
// shows no certificate finds only what proxies and probes need.
func TestOwnServicesAreClosed(t *testing.T) {
	ours := authority.New(t)
	mutual := filesOf(t, ours, t.TempDir(), 2)
	oneSided := mutual
	oneSided.ClientCAFile = ""
	for name, tc := range map[string]struct {
		o          Options
		grpc, http bool // weir's own are served there
	}{
		"not asked for":     {Options{GRPCAddr: "0.0.0.0:0", HTTPAddr: "0.0.0.0:0"}, true, true},
		"all interfaces":    {Options{GRPCAddr: "0.0.0.0:0", HTTPAddr: "0.0.0.0:0", CloseOwn: true}, false, false},
		"loopback":          {Options{GRPCAddr: "127.0.0.1:0", HTTPAddr: "127.0.0.1:0", CloseOwn: true}, true, true},
		"HTTP alone":        {Options{GRPCAddr: "0.0.0.0:0", HTTPAddr: "127.0.0.1:0", CloseOwn: true}, false, true},
		"TLS for all":       {Options{GRPCAddr: "0.0.0.0:0", HTTPAddr: "0.0.0.0:0", CloseOwn: true, TLS: oneSided}, false, false},
		"client TLS":        {Options{GRPCAddr: "0.0.0.0:0", HTTPAddr: "0.0.0.0:0", CloseOwn: true, TLS: mutual}, true, true},
		"client TLS, plain": {Options{GRPCAddr: "0.0.0.0:0", HTTPAddr: "0.0.0.0:0", CloseOwn: true, TLS: mutual, PlainHTTP: true}, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := serveFor(t, tc.o)
			if g, h := s.ServesOwn(); g != tc.grpc || h != tc.http {
				t.Errorf("it says %t, %t, want %t, %t", g, h, tc.grpc, tc.http)
			}
			info := s.grpc.GetServiceInfo()
			for _, own := range []string{
				weirv1.AdminService_ServiceDesc.ServiceName, weirv1.QuotaService_ServiceDesc.ServiceName, "grpc.reflection.v1.ServerReflection",
			} {
				if _, served := info[own]; served != tc.grpc {
					t.Errorf("%s is served: %t, want %t", own, served, tc.grpc)
				}
			}
			if !tc.o.TLS.on() {
				askOverGRPC(t, s, tc.grpc)
			}
			if s.HTTPScheme() == "http" {
				askOverHTTP(t, s, tc.http)
			}
		})
	}
}

// serveFor runs a server until the test ends.
func serveFor(t *testing.T, o Options) *Server {
	t.Helper()
	store := memory.New(limiter.Options{Shards: 1})
	o.Store, o.Loaded, o.DrainDelay, o.Logger = store, loaded(t, opus(), "a", nil), -1, slog.New(slog.DiscardHandler)
	o.InsecurePlaintext = true
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		store.Close()
	})
	return s
}

// onLoopback is a as this machine reaches it.
func onLoopback(a net.Addr) string {
	_, port, _ := net.SplitHostPort(a.String())
	return net.JoinHostPort("127.0.0.1", port)
}

func askOverGRPC(t *testing.T, s *Server, own bool) {
	t.Helper()
	conn, err := grpc.NewClient(onLoopback(s.GRPCAddr()), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	want := codes.Unimplemented
	if own {
		want = codes.OK
	}
	_, err = weirv1.NewAdminServiceClient(conn).GetPlan(t.Context(), &weirv1.GetPlanRequest{})
	if status.Code(err) != want {
		t.Errorf("AdminService: %v, want %v", err, want)
	}
	_, err = weirv1.NewQuotaServiceClient(conn).Reserve(t.Context(), call("acme", 1, 1))
	if status.Code(err) != want {
		t.Errorf("QuotaService: %v, want %v", err, want)
	}
	stream, err := reflectionpb.NewServerReflectionClient(conn).ServerReflectionInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_ = stream.Send(&reflectionpb.ServerReflectionRequest{MessageRequest: &reflectionpb.ServerReflectionRequest_ListServices{}})
	if _, err = stream.Recv(); status.Code(err) != want {
		t.Errorf("reflection: %v, want %v", err, want)
	}
	if _, err := healthpb.NewHealthClient(conn).Check(t.Context(), &healthpb.HealthCheckRequest{}); err != nil {
		t.Errorf("health: %v", err)
	}
	if _, err := rlsv3.NewRateLimitServiceClient(conn).ShouldRateLimit(t.Context(), request("nowhere", "k=v")); err != nil {
		t.Errorf("the rate limit service: %v", err)
	}
}

func askOverHTTP(t *testing.T, s *Server, own bool) {
	t.Helper()
	want := http.StatusNotFound
	if own {
		want = http.StatusOK
	}
	for path, want := range map[string]int{"/weir.v1.AdminService/GetPlan": want, "/json": http.StatusOK} {
		body := `{}`
		if path == "/json" {
			body = `{"domain": "nowhere", "descriptors": [{"entries": [{"key": "k", "value": "v"}]}]}`
		}
		resp, err := http.Post("http://"+onLoopback(s.HTTPAddr())+path, "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%s: %d, want %d", path, resp.StatusCode, want)
		}
	}
}
