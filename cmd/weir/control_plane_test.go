package main

import (
	"context"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	commonv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/common/ratelimit/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	rlsv3 "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	serverv3 "github.com/envoyproxy/go-control-plane/pkg/server/v3"
	ratelimitv3 "github.com/envoyproxy/go-control-plane/ratelimit/config/ratelimit/v3"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rogpeppe/go-internal/testscript"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/weir-project/weir/config"
	"github.com/weir-project/weir/config/xds"
	"github.com/weir-project/weir/limiter"
	"github.com/weir-project/weir/server"
	"github.com/weir-project/weir/store/memory"
)

// patience is how long something is waited for: far longer than it takes.
const patience = 30 * time.Second

// gateway is a control plane.
type gateway struct {
	t       *testing.T
	cache   cache.SnapshotCache
	addr    string
	answers chan *discoveryv3.DiscoveryRequest // those to responses
	nodes   sync.Map                           // those that have asked
}

func newGateway(t *testing.T) *gateway {
	t.Helper()
	g, stop, err := startGateway()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	g.t = t
	return g
}

func startGateway() (g *gateway, stop func(), failed error) {
	g = &gateway{cache: cache.NewSnapshotCache(true, cache.IDHash{}, nil), answers: make(chan *discoveryv3.DiscoveryRequest, 1000)}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	g.addr = l.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	s := grpc.NewServer()
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(s, serverv3.NewServer(ctx, g.cache, serverv3.CallbackFuncs{
		StreamRequestFunc: func(_ int64, r *discoveryv3.DiscoveryRequest) error {
			g.nodes.Store(r.GetNode().GetId(), true)
			if r.GetResponseNonce() != "" {
				g.answers <- r
			}
			return nil
		},
	}))
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Serve(l)
	}()
	return g, func() {
		cancel()
		s.Stop()
		<-done
	}, nil
}

// say makes the gateway say that domain "edge" has so many requests a minute per user;
// unit UNKNOWN is what nobody can put in force.
func (g *gateway) say(version string, unit ratelimitv3.RateLimitUnit, perMinute uint32) {
	g.t.Helper()
	if err := g.set(version, unit, perMinute); err != nil {
		g.t.Fatal(err)
	}
}

func (g *gateway) set(version string, unit ratelimitv3.RateLimitUnit, perMinute uint32) error {
	snapshot, err := cache.NewSnapshot(version, map[resource.Type][]types.Resource{resource.RateLimitConfigType: {&ratelimitv3.RateLimitConfig{
		Name: "edge", Domain: "edge", Descriptors: []*ratelimitv3.RateLimitDescriptor{{
			Key: "user", RateLimit: &ratelimitv3.RateLimitPolicy{Unit: unit, RequestsPerUnit: perMinute},
		}},
	}}})
	if err != nil {
		return err
	}
	return g.cache.SetSnapshot(context.Background(), "default", snapshot)
}

// wantAnswer waits for the next answer that accepts, or refuses.
func (g *gateway) wantAnswer(accepts bool, version string) {
	g.t.Helper()
	deadline := time.After(patience)
	for {
		select {
		case r := <-g.answers:
			if (r.GetErrorDetail() == nil) == accepts && r.GetVersionInfo() == version {
				return
			}
		case <-deadline:
			g.t.Fatalf("no answer about %q, accepting: %v", version, accepts)
		}
	}
}

// begin starts a control plane's client.
func (g *gateway) begin(o xds.Options, paths ...string) *controlPlane {
	g.t.Helper()
	o.Server, o.ConnectInterval, o.InitialInterval = g.addr, 10*time.Millisecond, 10*time.Millisecond
	c, err := startControlPlane(o, config.Options{}, paths, slog.New(slog.DiscardHandler))
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(c.stop)
	return c
}

// servedBy is a server that began with what a control plane said.
func servedBy(t *testing.T, c *controlPlane) rlsv3.RateLimitServiceClient {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	first, err := c.first(ctx)
	if err != nil {
		t.Fatal(err)
	}
	store := memory.New(limiter.Options{Shards: 1})
	srv, err := server.New(server.Options{
		GRPCAddr: "127.0.0.1:0", HTTPAddr: "127.0.0.1:0", Store: store, Loaded: first, Paths: c.paths,
		Logger: slog.New(slog.DiscardHandler), DrainDelay: -1, Collectors: []prometheus.Collector{c.client},
	})
	if err != nil {
		t.Fatal(err)
	}
	c.attach(srv)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- srv.Run(ctx) }()
	conn, err := grpc.NewClient(srv.GRPCAddr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = conn.Close()
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
		store.Close()
	})
	return rlsv3.NewRateLimitServiceClient(conn)
}

// ask asks for a user in domain "edge", and returns the code or the error.
func ask(t *testing.T, to rlsv3.RateLimitServiceClient, user string) string {
	t.Helper()
	r, err := to.ShouldRateLimit(t.Context(), &rlsv3.RateLimitRequest{Domain: "edge", Descriptors: []*commonv3.RateLimitDescriptor{{
		Entries: []*commonv3.RateLimitDescriptor_Entry{{Key: "user", Value: user}},
	}}})
	if err != nil {
		return err.Error()
	}
	return r.GetOverallCode().String()
}

// TestControlPlaneFirst: the process waits for the first configuration, serves it, and
// accepts it only then; later ones come in while it serves.
func TestControlPlaneFirst(t *testing.T) {
	g := newGateway(t)
	c := g.begin(xds.Options{})
	soon, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if l, err := c.first(soon); err == nil {
		t.Fatalf("began with %v, want to wait", l.Spec)
	}
	g.say("1", ratelimitv3.RateLimitUnit_MINUTE, 1)
	to := servedBy(t, c)
	g.wantAnswer(true, "1")
	for i, want := range []string{"OK", "OVER_LIMIT"} {
		if got := ask(t, to, "ann"); got != want {
			t.Errorf("call %d: %s, want %s", i, got, want)
		}
	}
	g.say("2", ratelimitv3.RateLimitUnit_UNKNOWN, 1)
	g.wantAnswer(false, "1")
	if got := ask(t, to, "ann"); got != "OVER_LIMIT" {
		t.Errorf("%s under what was in force before, want OVER_LIMIT", got)
	}
	g.say("3", ratelimitv3.RateLimitUnit_MINUTE, 0)
	g.wantAnswer(true, "3")
	if got := ask(t, to, "bob"); got != "OVER_LIMIT" {
		t.Errorf("%s under a limit of 0, want OVER_LIMIT", got)
	}
}

// TestControlPlaneBeginsBadly: an invalid first configuration opens the ports, and calls
// are answered with an error until a valid one comes.
func TestControlPlaneBeginsBadly(t *testing.T) {
	g := newGateway(t)
	g.say("1", ratelimitv3.RateLimitUnit_UNKNOWN, 1)
	to := servedBy(t, g.begin(xds.Options{}))
	if got := ask(t, to, "ann"); !strings.Contains(got, "no rate limit configuration loaded") {
		t.Errorf("got %s, want an error", got)
	}
	g.wantAnswer(false, "")
	g.say("2", ratelimitv3.RateLimitUnit_MINUTE, 1)
	g.wantAnswer(true, "2")
	if got := ask(t, to, "ann"); got != "OK" {
		t.Errorf("got %s, want OK", got)
	}
}

// TestControlPlaneForced: the process is told not to wait.
func TestControlPlaneForced(t *testing.T) {
	g := newGateway(t)
	to := servedBy(t, g.begin(xds.Options{StartWithout: true}))
	if got := ask(t, to, "ann"); !strings.Contains(got, "no rate limit configuration loaded") {
		t.Errorf("got %s, want an error", got)
	}
	g.say("1", ratelimitv3.RateLimitUnit_MINUTE, 0)
	g.wantAnswer(true, "1")
	if got := ask(t, to, "ann"); got != "OVER_LIMIT" {
		t.Errorf("got %s, want OVER_LIMIT", got)
	}
}

// TestControlPlaneBesideFiles: weir's own files join what the control plane says; where
// they are invalid the process does not start.
func TestControlPlaneBesideFiles(t *testing.T) {
	g := newGateway(t)
	dir := t.TempDir()
	writeFile(t, dir+"/weir.yaml", "rules: [{domain: edge, match: [{key: tier}], limits: [{amount: 0, per: 1m}]}]\n")
	g.say("1", ratelimitv3.RateLimitUnit_MINUTE, 0)
	c := g.begin(xds.Options{}, dir)
	first, err := c.first(t.Context())
	if err != nil || first.Rules != 2 || strings.Join(first.Sources, " ") != dir+"/weir.yaml xds:edge" {
		t.Errorf("began with %d rules of %v, %v", first.Rules, first.Sources, err)
	}
	writeFile(t, dir+"/weir.yaml", "rules: [")
	if _, err := startControlPlane(xds.Options{}, config.Options{}, []string{dir}, slog.Default()); err == nil {
		t.Error("began with an invalid file")
	}
}

func writeFile(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// gatewayAt VAR starts a control plane and sets VAR to its address.
func gatewayAt(ts *testscript.TestScript, _ bool, args []string) {
	g, stop, err := startGateway()
	ts.Check(err)
	ts.Defer(stop)
	ts.Setenv(args[0], g.addr)
	gateways.Store(g.addr, g)
}

// gateways are those of scripts, by address.
var gateways sync.Map

// says ADDR VERSION UNIT N makes a control plane say that domain edge has so many
// requests per unit and user.
func says(ts *testscript.TestScript, _ bool, args []string) {
	g, ok := gateways.Load(args[0])
	if !ok {
		ts.Fatalf("no control plane at %s", args[0])
	}
	n, err := strconv.ParseUint(args[3], 10, 32)
	ts.Check(err)
	ts.Check(g.(*gateway).set(args[1], ratelimitv3.RateLimitUnit(ratelimitv3.RateLimitUnit_value[args[2]]), uint32(n)))
}

// asked ADDR NODE waits until a control plane was asked by a node.
func asked(ts *testscript.TestScript, _ bool, args []string) {
	g, ok := gateways.Load(args[0])
	if !ok {
		ts.Fatalf("no control plane at %s", args[0])
	}
	for begun := time.Now(); time.Since(begun) < patience; time.Sleep(5 * time.Millisecond) {
		if _, ok := g.(*gateway).nodes.Load(args[1]); ok {
			return
		}
	}
	ts.Fatalf("%s did not ask", args[1])
}
