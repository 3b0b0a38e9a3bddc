package server

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/weir-project/weir/config"
	"github.com/weir-project/weir/limiter"
	weirv1 "github.com/weir-project/weir/proto/weir/v1"
	"github.com/weir-project/weir/store/memory"
)

// world is a whole server with its clients, on the virtual time of a synctest bubble.
type world struct {
	t      *testing.T
	server *Server
	quota  weirv1.QuotaServiceClient
	admin  weirv1.AdminServiceClient
	conn   *grpc.ClientConn
	web    *http.Client
	log    *logBuffer
	stop   context.CancelFunc
	ended  chan error

	grpcDoor, httpDoor *pipeListener
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

// opus is a quota of 10 requests, 1000 input tokens and 500 output tokens a minute.
func opus() limiter.Spec {
	return limiter.Spec{
		Quotas: []limiter.QuotaSpec{{
			Name: "opus", Provider: "anthropic",
			Match: []limiter.AttributePattern{{Key: "model", Pattern: "claude-*"}},
			Limits: []limiter.LimitSpec{
				{Meter: limiter.Requests, Amount: 10, Window: time.Minute},
				{Meter: limiter.InputTokens, Amount: 1000, Window: time.Minute},
				{Meter: limiter.OutputTokens, Amount: 500, Window: time.Minute},
			},
		}},
		Domains: []limiter.DomainSpec{{
			Name: "edge",
			Rules: []limiter.RuleSpec{
				{Name: "per-user", Key: "user", Limits: []limiter.LimitSpec{{Meter: limiter.Requests, Amount: 3, Window: time.Minute}}},
				{Key: "path", Value: "/v1/*", Rules: []limiter.RuleSpec{
					{Key: "method", Value: "POST", Limits: []limiter.LimitSpec{{Meter: limiter.Requests, Amount: 5, Window: time.Hour}}},
				}},
			},
		}},
	}
}

func loaded(t testing.TB, spec limiter.Spec, digest string, prev *config.Loaded) *config.Loaded {
	t.Helper()
	var plan *limiter.Plan
	if prev != nil {
		plan = prev.Plan
	}
	plan, err := limiter.Compile(spec, plan)
	if err != nil {
		t.Fatal(err)
	}
	return &config.Loaded{
		Plan: plan, Spec: spec, Vocabulary: config.DefaultVocabulary(), Digest: digest,
		Sources: []string{"test.yaml"}, Quotas: len(spec.Quotas), Rules: 2,
	}
}

// inBubble runs a test on virtual time, against a server that o describes in so far
// as it matters. The server has ended when f has.
func inBubble(t *testing.T, o Options, f func(*testing.T, *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, o)
		t.Cleanup(w.end)
		f(t, w)
	})
}

func newWorld(t *testing.T, o Options) *world {
	t.Helper()
	w := &world{t: t, log: &logBuffer{}, ended: make(chan error, 1)}
	grpcDoor, httpDoor := newPipeListener(), newPipeListener()
	w.grpcDoor, w.httpDoor = grpcDoor, httpDoor
	o.GRPCListener, o.HTTPListener = grpcDoor, httpDoor
	o.Logger = slog.New(slog.NewTextHandler(w.log, nil))
	if o.Store == nil {
		store := memory.New(limiter.Options{Shards: 4})
		t.Cleanup(store.Close)
		o.Store = store
	}
	if o.Loaded == nil {
		o.Loaded = loaded(t, opus(), "aaaaaaaaaaaa", nil)
	}
	var err error
	if w.server, err = New(o); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	w.stop = stop
	go func() { w.ended <- w.server.Run(ctx) }()
	w.conn, err = grpc.NewClient("passthrough:weir",
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return grpcDoor.dial(ctx) }),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	w.quota, w.admin = weirv1.NewQuotaServiceClient(w.conn), weirv1.NewAdminServiceClient(w.conn)
	w.web = &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return httpDoor.dial(ctx) },
	}}
	synctest.Wait()
	return w
}

// end ends the server, if that has not happened yet, and its clients.
func (w *world) end() {
	w.stop()
	w.web.CloseIdleConnections()
	if err := w.conn.Close(); err != nil {
		w.t.Error(err)
	}
	select {
	case err := <-w.ended:
		if err != nil {
			w.t.Errorf("Run: %v", err)
		}
	case <-time.After(2 * time.Minute):
		w.t.Error("the server does not end")
	}
}

// call asks for a call of an organisation with so many input tokens and max_tokens.
func call(org string, input, most uint64) *weirv1.ReserveRequest {
	return &weirv1.ReserveRequest{
		Attributes: map[string]string{"org": org, "model": "claude-opus", "tenant": "chat"},
		Estimate:   &weirv1.Estimate{InputTokens: &input, MaxTokens: &most},
	}
}

func (w *world) reserve(req *weirv1.ReserveRequest) *weirv1.ReserveResponse {
	w.t.Helper()
	resp, err := w.quota.Reserve(w.t.Context(), req)
	if err != nil {
		w.t.Fatalf("Reserve: %v", err)
	}
	return resp
}

// used says what a limit of an organisation's quota shows as used.
func (w *world) used(org, meter string) uint64 {
	w.t.Helper()
	resp, err := w.admin.Explain(w.t.Context(), &weirv1.ExplainRequest{Attributes: map[string]string{"org": org, "model": "claude-opus"}})
	if err != nil {
		w.t.Fatal(err)
	}
	for _, l := range resp.GetLimits() {
		if l.GetMeter() == meter {
			return l.GetUsed()
		}
	}
	w.t.Fatalf("no limit on %s", meter)
	return 0
}

// fetch asks the HTTP port.
func (w *world) fetch(method, path, body string, header ...string) (int, string, http.Header) {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), method, "http://localhost"+path, strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
		if header[i] == "Host" {
			req.Host = header[i+1]
		}
	}
	resp, err := w.web.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return resp.StatusCode, string(b), resp.Header
}

// pipeListener is a port in memory, with the deadlines of net.Pipe: those of bufconn
// can still go off when they have been taken back, and net/http sets many.
type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newPipeListener() *pipeListener {
	return &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
}

func (l *pipeListener) dial(ctx context.Context) (net.Conn, error) {
	near, far := net.Pipe()
	select {
	case l.conns <- far:
		return near, nil
	case <-l.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "pipe"} }

// brokenStore fails.
type brokenStore struct{ cause error }

func (s brokenStore) Decide(context.Context, limiter.Instant, *limiter.Ask, *limiter.Decision) error {
	return s.cause
}

func (s brokenStore) Report(context.Context, limiter.Instant, Ref, string, limiter.Outcome) (limiter.Settlement, error) {
	return limiter.Settlement{}, s.cause
}

func (s brokenStore) Release(context.Context, limiter.Instant, Ref, string) (limiter.Settlement, error) {
	return limiter.Settlement{}, s.cause
}

func (s brokenStore) Renew(context.Context, limiter.Instant, Ref, string, time.Duration) (limiter.Settlement, error) {
	return limiter.Settlement{}, s.cause
}

func (s brokenStore) Zero(context.Context, limiter.Instant, *limiter.Ask, string, *limiter.Meter) (int, error) {
	return 0, s.cause
}

func (s brokenStore) ClearGates(context.Context, limiter.Instant, *limiter.Ask, string, *limiter.Meter) (int, error) {
	return 0, s.cause
}

func (s brokenStore) Quotas(context.Context, limiter.Instant) ([]limiter.QuotaView, error) {
	return nil, s.cause
}

func (s brokenStore) Stats(context.Context) (limiter.Stats, error) { return limiter.Stats{}, s.cause }

func (s brokenStore) Name() string { return "broken" }

func containsAny(s string, parts ...string) bool {
	for _, p := range parts {
		if strings.Contains(s, p) {
			return true
		}
	}
	return false
}
