package ratelimitstats

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	ratelimitv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/common/ratelimit/v3"
	rlsv3 "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/weir-project/weir/config"
	"github.com/weir-project/weir/limiter"
	"github.com/weir-project/weir/server"
	"github.com/weir-project/weir/store/memory"
)

// yearly is a file of envoyproxy/ratelimit whose windows hardly ever end while a test runs.
const yearly = `
domain: edge
descriptors:
- key: user
  rate_limit: {unit: year, requests_per_unit: 10}
- key: shy
  shadow_mode: true
  rate_limit: {unit: year, requests_per_unit: 1}
- key: path
  descriptors:
  - key: method
    value: "P*"
    rate_limit: {unit: year, requests_per_unit: 5}
  - key: deep
    detailed_metric: true
    rate_limit: {unit: year, requests_per_unit: 5}
- key: to
  value_to_metric: true
  descriptors:
  - key: model
    rate_limit: {unit: year, requests_per_unit: 5}
- key: free
  rate_limit: {unlimited: true}
`

// serve starts a server that is watched by s, unless that is nil, and returns a client.
func serve(t testing.TB, s *Stats, strict bool) rlsv3.RateLimitServiceClient {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a.yaml"), []byte(yearly), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := config.Options{Strict: strict}.Load([]string{dir}, nil)
	if err != nil {
		t.Fatal(err)
	}
	store := memory.New(limiter.Options{Shards: 4})
	o := server.Options{
		Store: store, Loaded: l, GRPCAddr: "127.0.0.1:0", HTTPAddr: "127.0.0.1:0", DrainDelay: -1,
		Logger: slog.New(slog.DiscardHandler),
	}
	if s != nil {
		o.Ratelimit = server.RatelimitOptions{Observer: s, Service: s}
	}
	srv, err := server.New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- srv.Run(ctx) }()
	conn, err := grpc.NewClient(srv.GRPCAddr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = conn.Close()
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		store.Close()
	})
	return rlsv3.NewRateLimitServiceClient(conn)
}

// descriptor makes one of "key=value key=value".
func descriptor(text string) *ratelimitv3.RateLimitDescriptor {
	d := new(ratelimitv3.RateLimitDescriptor)
	for pair := range strings.FieldsSeq(text) {
		key, value, _ := strings.Cut(pair, "=")
		d.Entries = append(d.Entries, &ratelimitv3.RateLimitDescriptor_Entry{Key: key, Value: value})
	}
	return d
}

// ask asks for hits in the domain edge; -1 says nothing of hits.
func ask(t testing.TB, c rlsv3.RateLimitServiceClient, hits int, descriptors ...*ratelimitv3.RateLimitDescriptor) *rlsv3.RateLimitResponse {
	t.Helper()
	if hits >= 0 {
		for _, d := range descriptors {
			d.HitsAddend = wrapperspb.UInt64(uint64(hits))
		}
	}
	out, err := c.ShouldRateLimit(t.Context(), &rlsv3.RateLimitRequest{Domain: "edge", Descriptors: descriptors})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

var tookLine = regexp.MustCompile(`(?m)^ratelimit_server\.ShouldRateLimit\.response_time:[0-9.]+\|ms(\|@[0-9.]+)?\n`)

// Requests to a whole server that counts as envoyproxy/ratelimit does, and the lines of
// what became of them.
func TestServedTimeline(t *testing.T) {
	b := newBook(t, plainLines(nil))
	c := serve(t, b.Stats, true)
	at := time.Duration(0)
	lines := func() string {
		at++
		return tookLine.ReplaceAllString(b.flush(at), "")
	}
	const calls = "ratelimit_server.ShouldRateLimit.total_requests:"
	want(t, "at the start", lines(), `ratelimit.service.config_load_success:1|c`)

	ask(t, c, 4, descriptor("user=ann"))
	ask(t, c, -1, descriptor("user=ann"))
	ask(t, c, 0, descriptor("user=ann"))
	ask(t, c, 5, descriptor("user=ann"))
	want(t, "10 of 10", lines(), `
		ratelimit.service.rate_limit.edge.user.total_hits:10|c
		ratelimit.service.rate_limit.edge.user.near_limit:2|c
		ratelimit.service.rate_limit.edge.user.within_limit:10|c
		`+calls+`4|c`)

	ask(t, c, 7, descriptor("user=ann"))
	ask(t, c, 11, descriptor("user=bob"))
	ask(t, c, 1, descriptor("user=bob"))
	want(t, "17 of 10; 11 at once, and one more, which is charged", lines(), `
		ratelimit.service.rate_limit.edge.user.total_hits:19|c
		ratelimit.service.rate_limit.edge.user.over_limit:9|c
		ratelimit.service.rate_limit.edge.user.near_limit:2|c
		`+calls+`3|c`)

	ask(t, c, 3, descriptor("shy=a"), descriptor("user=cat"), descriptor("free=x"), descriptor("nothing=x"))
	want(t, "a shadow beside others", lines(), `
		ratelimit.service.rate_limit.edge.shy.total_hits:3|c
		ratelimit.service.rate_limit.edge.shy.over_limit:2|c
		ratelimit.service.rate_limit.edge.shy.near_limit:1|c
		ratelimit.service.rate_limit.edge.shy.shadow_mode:2|c
		ratelimit.service.rate_limit.edge.user.total_hits:3|c
		ratelimit.service.rate_limit.edge.user.within_limit:3|c
		`+calls+`1|c`)

	back := descriptor("user=cat")
	back.IsNegativeHits = true
	ask(t, c, 2, back)
	own := descriptor("user=dan host=10.1.2.3")
	own.Limit = &ratelimitv3.RateLimitDescriptor_RateLimitOverride{RequestsPerUnit: 2, Unit: typev3.RateLimitUnit_YEAR}
	ask(t, c, 3, own, descriptor("path=/a method=POST"), descriptor("path=/a deep=b"), descriptor("to=c model=d"))
	want(t, "hits given back; limits and values of requests", lines(), `
		ratelimit.service.rate_limit.edge.path.method_P*.total_hits:3|c
		ratelimit.service.rate_limit.edge.path.method_P*.within_limit:3|c
		ratelimit.service.rate_limit.edge.path_/a.deep_b.total_hits:3|c
		ratelimit.service.rate_limit.edge.path_/a.deep_b.within_limit:3|c
		ratelimit.service.rate_limit.edge.to_c.model.total_hits:3|c
		ratelimit.service.rate_limit.edge.to_c.model.within_limit:3|c
		ratelimit.service.rate_limit.edge.user.total_negative_hits:2|c
		ratelimit.service.rate_limit.edge.user_dan.host_10_1_2_3.total_hits:3|c
		ratelimit.service.rate_limit.edge.user_dan.host_10_1_2_3.over_limit:1|c
		ratelimit.service.rate_limit.edge.user_dan.host_10_1_2_3.near_limit:1|c
		`+calls+`2|c
		ratelimit.service.runtime_series:3|g`)

	_, err := c.ShouldRateLimit(t.Context(), &rlsv3.RateLimitRequest{Descriptors: []*ratelimitv3.RateLimitDescriptor{descriptor("a=b")}})
	if err == nil {
		t.Error("no domain, and no error")
	}
	if _, err := c.ShouldRateLimit(t.Context(), &rlsv3.RateLimitRequest{Domain: "nowhere", Descriptors: []*ratelimitv3.RateLimitDescriptor{descriptor("a=b"), descriptor("c=d")}}); err != nil {
		t.Error(err)
	}
	want(t, "no domain, and none that is known", lines(), `
		ratelimit.service.call.should_rate_limit.service_error:1|c
		ratelimit.service.rate_limit.nowhere.domain_not_found:2|c
		`+calls+`2|c
		ratelimit.service.runtime_series:3|g`)
}

// BenchmarkServed is a call over loopback, with and without anybody who counts.
func BenchmarkServed(b *testing.B) {
	for _, watched := range []bool{false, true} {
		name := "nobody counts"
		var s *Stats
		if watched {
			name = "counted"
			s = newStats(DefaultNearLimitRatio, nil)
		}
		b.Run(name, func(b *testing.B) {
			c := serve(b, s, true)
			r := &rlsv3.RateLimitRequest{Domain: "edge", Descriptors: []*ratelimitv3.RateLimitDescriptor{descriptor("user=ann"), descriptor("path=/a method=POST")}}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := c.ShouldRateLimit(b.Context(), r); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
