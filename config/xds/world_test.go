package xds

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	serverv3 "github.com/envoyproxy/go-control-plane/pkg/server/v3"
	ratelimitv3 "github.com/envoyproxy/go-control-plane/ratelimit/config/ratelimit/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/weir-project/weir/config"
)

// patience is how long something is waited for: far longer than it takes.
const patience = 30 * time.Second

// plane is a control plane: the server that others build theirs of, or a scripted one.
type plane struct {
	t        *testing.T
	cache    cache.SnapshotCache
	script   func(discoveryv3.AggregatedDiscoveryService_StreamAggregatedResourcesServer) error
	options  []grpc.ServerOption
	requests chan *discoveryv3.DiscoveryRequest
	headers  chan metadata.MD
	addr     string
	server   *grpc.Server
	cancel   context.CancelFunc
	served   sync.WaitGroup
}

func newPlane(t *testing.T) *plane {
	t.Helper()
	p := &plane{
		t: t, addr: "127.0.0.1:0", cache: cache.NewSnapshotCache(true, cache.IDHash{}, nil),
		requests: make(chan *discoveryv3.DiscoveryRequest, 1000), headers: make(chan metadata.MD, 100),
	}
	t.Cleanup(p.stop)
	return p
}

// start serves, at the same address as before.
func (p *plane) start() {
	p.t.Helper()
	l, err := net.Listen("tcp", p.addr)
	if err != nil {
		p.t.Fatal(err)
	}
	p.addr = l.Addr().String()
	p.serve(l)
}

func (p *plane) serve(l net.Listener) {
	ctx, cancel := context.WithCancel(context.Background())
	p.cancel = cancel
	p.server = grpc.NewServer(p.options...)
	if p.script != nil {
		discoveryv3.RegisterAggregatedDiscoveryServiceServer(p.server, scripted{p: p})
	} else {
		discoveryv3.RegisterAggregatedDiscoveryServiceServer(p.server, serverv3.NewServer(ctx, p.cache, serverv3.CallbackFuncs{
			StreamOpenFunc: func(ctx context.Context, _ int64, _ string) error {
				md, _ := metadata.FromIncomingContext(ctx)
				p.headers <- md
				return nil
			},
			StreamRequestFunc: func(_ int64, r *discoveryv3.DiscoveryRequest) error {
				p.requests <- r
				return nil
			},
		}))
	}
	server := p.server
	p.served.Go(func() { _ = server.Serve(l) })
}

// stop ends the server and its streams at once.
func (p *plane) stop() {
	if p.server != nil {
		p.cancel()
		p.server.Stop()
		p.served.Wait()
	}
}

type scripted struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer
	p *plane
}

func (s scripted) StreamAggregatedResources(stream discoveryv3.AggregatedDiscoveryService_StreamAggregatedResourcesServer) error {
	return s.p.script(stream)
}

// set makes the server say that these are all resources.
func (p *plane) set(version string, configs ...*ratelimitv3.RateLimitConfig) {
	p.t.Helper()
	list := make([]types.Resource, len(configs))
	for i, c := range configs {
		list[i] = c
	}
	snapshot, err := cache.NewSnapshot(version, map[resource.Type][]types.Resource{resource.RateLimitConfigType: list})
	if err != nil {
		p.t.Fatal(err)
	}
	if err := p.cache.SetSnapshot(context.Background(), "node-1", snapshot); err != nil {
		p.t.Fatal(err)
	}
}

// want waits for the next request and checks what it says of the response before.
func (p *plane) want(version string, hasNonce bool, reasons ...string) *discoveryv3.DiscoveryRequest {
	p.t.Helper()
	select {
	case r := <-p.requests:
		if r.GetVersionInfo() != version || (r.GetResponseNonce() != "") != hasNonce || r.GetTypeUrl() != typeURL {
			p.t.Fatalf("request of version %q, nonce %q and type %q, want version %q, a nonce: %v",
				r.GetVersionInfo(), r.GetResponseNonce(), r.GetTypeUrl(), version, hasNonce)
		}
		if (r.GetErrorDetail() != nil) != (len(reasons) > 0) {
			p.t.Fatalf("request with the error %v, want %q", r.GetErrorDetail(), reasons)
		}
		for _, reason := range reasons {
			if !strings.Contains(r.GetErrorDetail().GetMessage(), reason) {
				p.t.Fatalf("error detail %q, want %q in it", r.GetErrorDetail().GetMessage(), reason)
			}
		}
		return r
	case <-time.After(patience):
		p.t.Fatalf("no request, want one of version %q", version)
	}
	return nil
}

// wantRefusal waits for a refusal with these reasons, after more of the one before.
func (p *plane) wantRefusal(version string, reasons ...string) {
	p.t.Helper()
	deadline := time.After(patience)
	for {
		select {
		case r := <-p.requests:
			if r.GetErrorDetail() == nil || r.GetVersionInfo() != version {
				p.t.Fatalf("request %v, want a refusal", r)
			}
			if !slices.ContainsFunc(reasons, func(s string) bool { return !strings.Contains(r.GetErrorDetail().GetMessage(), s) }) {
				return
			}
		case <-deadline:
			p.t.Fatalf("no refusal with %q", reasons)
		}
	}
}

// wantAfter skips the refusals of the same as before, which the server repeats.
func (p *plane) wantAfter(version string) {
	p.t.Helper()
	deadline := time.After(patience)
	for {
		select {
		case r := <-p.requests:
			if r.GetErrorDetail() == nil && r.GetVersionInfo() == version {
				return
			}
		case <-deadline:
			p.t.Fatalf("version %q was not accepted", version)
		}
	}
}

// edge is a resource with one limit for each value of user.
func edge(domain string, perMinute uint32) *ratelimitv3.RateLimitConfig {
	return &ratelimitv3.RateLimitConfig{Name: domain, Domain: domain, Descriptors: []*ratelimitv3.RateLimitDescriptor{{
		Key: "user", RateLimit: &ratelimitv3.RateLimitPolicy{Unit: ratelimitv3.RateLimitUnit_MINUTE, RequestsPerUnit: perMinute},
	}}}
}

// force is a sink that puts in force, as a server does, and lets the test look.
type force struct {
	reloader *config.Reloader
	applied  chan *config.Loaded
	refused  chan error
}

func newForce() *force {
	f := &force{applied: make(chan *config.Loaded, 100), refused: make(chan error, 1000)}
	f.reloader = config.NewReloader(nil, config.NotLoaded(), func(l *config.Loaded) { f.applied <- l }, func(error) {})
	return f
}

func (f *force) Put(_ context.Context, resources []*ratelimitv3.RateLimitConfig) error {
	return f.reloader.Put(resources)
}

func (f *force) Refused(err error) { f.refused <- err }

// want waits until limits of these amounts are in force, in the order of their domains.
func (f *force) want(t *testing.T, amounts ...uint64) {
	t.Helper()
	select {
	case l := <-f.applied:
		got := []uint64{}
		for _, d := range l.Spec.Domains {
			got = append(got, d.Rules[0].Limits[0].Amount)
		}
		if fmt.Sprint(got) != fmt.Sprint(append([]uint64{}, amounts...)) {
			t.Fatalf("limits %d in force, want %d", got, amounts)
		}
	case <-time.After(patience):
		t.Fatalf("nothing happened, want limits of %d", amounts)
	}
}

// wantNone checks that nothing else was put in force.
func (f *force) wantNone(t *testing.T) {
	t.Helper()
	select {
	case l := <-f.applied:
		t.Fatalf("%v in force, want it as before", l.Spec.Domains)
	default:
	}
}

// logBuffer collects a log. It is safe for concurrent use.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// want waits for a text in the log.
func (l *logBuffer) want(t *testing.T, text string) {
	t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if strings.Contains(l.String(), text) {
			return
		}
	}
	t.Fatalf("no %q in the log:\n%s", text, l)
}

// run runs a client of o until the test ends. It does not wait long after failures.
func run(t *testing.T, o Options, sink Sink) (*Client, *logBuffer) {
	t.Helper()
	log := &logBuffer{}
	o.Logger = slog.New(slog.NewTextHandler(log, nil))
	o.NodeID = "node-1"
	o.ConnectInterval = cmp.Or(o.ConnectInterval, 20*time.Millisecond)
	o.InitialInterval = cmp.Or(o.InitialInterval, 20*time.Millisecond)
	o.MaxInterval = cmp.Or(o.MaxInterval, 100*time.Millisecond)
	c, err := New(o, sink)
	if err != nil {
		t.Fatal(err)
	}
	start(t, c)
	return c, log
}

// start runs c until the test ends.
func start(t *testing.T, c *Client) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run returned %v, want canceled", err)
		}
	})
}
