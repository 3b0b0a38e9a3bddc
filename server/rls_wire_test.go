package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	alsv3 "github.com/envoyproxy/go-control-plane/envoy/data/accesslog/v3"
	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/service/accesslog/v3"
	rlsv3 "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/reflection"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/weir-project/weir/limiter"
)

// wire serves both doors over gRPC, and returns a connection to them.
func (w *rlsWorld) wire(t testing.TB, o ...grpc.ServerOption) *grpc.ClientConn {
	t.Helper()
	lis := bufconn.Listen(1 << 20)
	g := grpc.NewServer(append(o, codecOption())...)
	w.rls.register(g)
	w.als.register(g)
	reflection.Register(g)
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = g.Serve(lis) // ends with the test
	}()
	conn, err := grpc.NewClient("passthrough:///weir",
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return lis.DialContext(ctx) }),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = conn.Close()
		g.Stop()
		<-served
	})
	return conn
}

func TestOverTheWire(t *testing.T) {
	w := newRLSWorld(t, worldSpec())
	c := rlsv3.NewRateLimitServiceClient(w.wire(t))
	for range 3 { // the same room is used again
		out, err := c.ShouldRateLimit(t.Context(), request("edge", "user=ann hits:3", "nobody=x"))
		if err != nil || out.GetOverallCode() != ok || len(out.GetStatuses()) != 2 {
			t.Fatalf("%v, %v", out, err)
		}
	}
	out, err := c.ShouldRateLimit(t.Context(), request("edge", "user=ann hits:3"))
	if err != nil || out.GetOverallCode() != over {
		t.Fatalf("%v, %v", out, err)
	}
	if message, _ := errorOf(t, out); !strings.HasPrefix(message, "per-user: limit of 10 requests per minute reached: 9 used, 3 more requested") {
		t.Errorf("%q", message)
	}
	if _, err := c.ShouldRateLimit(t.Context(), request("", "user=ann")); status.Code(err) != codes.InvalidArgument {
		t.Errorf("%v, want INVALID_ARGUMENT", err)
	}
}

func TestCallsThatAreNoCalls(t *testing.T) {
	w := newRLSWorld(t, worldSpec())
	conn := w.wire(t)
	garbage := &emptypb.Empty{}
	garbage.ProtoReflect().SetUnknown([]byte{0x12, 2, 0x0a, 9}) // a descriptor whose entry is cut off
	err := conn.Invoke(t.Context(), rlsv3.RateLimitService_ShouldRateLimit_FullMethodName, garbage, new(emptypb.Empty))
	if status.Code(err) != codes.Internal || !strings.Contains(err.Error(), "descriptor 0") {
		t.Errorf("malformed: %v", err)
	}
	err = conn.Invoke(t.Context(), "/envoy.service.ratelimit.v3.RateLimitService/Nonsense", garbage, garbage)
	if status.Code(err) != codes.Unimplemented {
		t.Errorf("unknown method: %v", err)
	}
	if got := shown(w.call(t, "edge", "user=ann"))[0].Remaining; got != 9 {
		t.Errorf("%d left, want 9", got)
	}
}

// An interceptor sees the call, may refuse it, and does not keep the next one from its
// room.
func TestBehindAnInterceptor(t *testing.T) {
	w := newRLSWorld(t, worldSpec())
	seen := 0
	c := rlsv3.NewRateLimitServiceClient(w.wire(t, grpc.UnaryInterceptor(
		func(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
			if seen++; seen%2 == 0 {
				return nil, status.Error(codes.PermissionDenied, info.FullMethod)
			}
			return next(ctx, req)
		})))
	for i := range 10 {
		out, err := c.ShouldRateLimit(t.Context(), request("edge", "user=ann"))
		if i%2 == 1 {
			if status.Code(err) != codes.PermissionDenied {
				t.Errorf("call %d: %v", i, err)
			}
			continue
		}
		if err != nil || shown(out)[0].Remaining != uint32(9-i/2) {
			t.Errorf("call %d: %v, %v", i, out, err)
		}
	}
}

// grpcurl and its like learn the service by reflection, although its messages are read
// by hand.
func TestReflectionKnowsTheService(t *testing.T) {
	w := newRLSWorld(t, worldSpec())
	stream, err := reflectionv1.NewServerReflectionClient(w.wire(t)).ServerReflectionInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ask := func(r *reflectionv1.ServerReflectionRequest) *reflectionv1.ServerReflectionResponse {
		t.Helper()
		if err := stream.Send(r); err != nil {
			t.Fatal(err)
		}
		out, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	const name = "envoy.service.ratelimit.v3.RateLimitService"
	list := ask(&reflectionv1.ServerReflectionRequest{MessageRequest: &reflectionv1.ServerReflectionRequest_ListServices{}})
	if !strings.Contains(list.String(), name) {
		t.Errorf("not listed: %v", list)
	}
	file := ask(&reflectionv1.ServerReflectionRequest{MessageRequest: &reflectionv1.ServerReflectionRequest_FileContainingSymbol{FileContainingSymbol: name}})
	var methods []string
	for _, b := range file.GetFileDescriptorResponse().GetFileDescriptorProto() {
		f := new(descriptorpb.FileDescriptorProto)
		if err := proto.Unmarshal(b, f); err != nil {
			t.Fatal(err)
		}
		for _, s := range f.GetService() {
			for _, m := range s.GetMethod() {
				methods = append(methods, s.GetName()+"/"+m.GetName())
			}
		}
	}
	if strings.Join(methods, " ") != "RateLimitService/ShouldRateLimit" {
		t.Errorf("methods %v, answer %v", methods, file)
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
}

// logStream opens a stream of access logs.
func logStream(t testing.TB, conn *grpc.ClientConn) accesslogv3.AccessLogService_StreamAccessLogsClient {
	t.Helper()
	s, err := accesslogv3.NewAccessLogServiceClient(conn).StreamAccessLogs(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// logs makes a message of entries.
func logs(entries ...*alsv3.HTTPAccessLogEntry) *accesslogv3.StreamAccessLogsMessage {
	return &accesslogv3.StreamAccessLogsMessage{LogEntries: &accesslogv3.StreamAccessLogsMessage_HttpLogs{
		HttpLogs: &accesslogv3.StreamAccessLogsMessage_HTTPAccessLogEntries{LogEntry: entries},
	}}
}

// closed ends a stream, and waits until all of it was taken in.
func closed(t testing.TB, s accesslogv3.AccessLogService_StreamAccessLogsClient) {
	t.Helper()
	if _, err := s.CloseAndRecv(); err != nil {
		t.Fatal(err)
	}
}

func TestAccessLogsOverTheWire(t *testing.T) {
	w := newRLSWorld(t, worldSpec())
	conn := w.wire(t)
	id := w.reserve(t, ordinaryAsk)
	s := logStream(t, conn)
	e := ending{status: 200, details: "via_upstream", attempts: 1, metadata: "input_tokens=25 output_tokens=42"}

	first := logs()
	first.Identifier = &accesslogv3.StreamAccessLogsMessage_Identifier{LogName: "downstream", Node: &corev3.Node{Id: strings.Repeat("n", 61<<10)}}
	attempt := e.entry("d016", "")
	attempt.CommonProperties.AccessLogType = alsv3.AccessLogType_UpstreamEnd
	huge := e.entry(strings.Repeat("r", 300<<10), "org=acme model=claude-lab-1")
	huge.CommonProperties.Metadata.FilterMetadata["envoy.llm"].Fields["error_message"] = nil
	strange := &alsv3.HTTPAccessLogEntry{CommonProperties: &alsv3.AccessLogCommon{AccessLogType: alsv3.AccessLogType_DownstreamEnd}}
	tcp := &accesslogv3.StreamAccessLogsMessage{LogEntries: &accesslogv3.StreamAccessLogsMessage_TcpLogs{
		TcpLogs: &accesslogv3.StreamAccessLogsMessage_TCPAccessLogEntries{LogEntry: []*alsv3.TCPAccessLogEntry{{}, {}}},
	}}
	for _, m := range []*accesslogv3.StreamAccessLogsMessage{
		first, new(accesslogv3.StreamAccessLogsMessage), tcp, logs(attempt, strange), logs(huge),
		logs(e.entry("d016", "reservation="+id)),
	} {
		if err := s.Send(m); err != nil {
			t.Fatal(err)
		}
	}
	closed(t, s)
	// The huge entry has no name that could be one, and is charged as spending.
	if got, want := w.used(t), (limiter.Usage{Requests: 2, InputTokens: 50, OutputTokens: 84}); got != want {
		t.Errorf("charged %+v, want %+v", got, want)
	}
	// A stream of garbage ends, and does no harm.
	bad := &accesslogv3.StreamAccessLogsMessage{}
	bad.ProtoReflect().SetUnknown([]byte{0x12, 5, 0x0a, 9})
	s = logStream(t, conn)
	if err := s.Send(bad); err != nil {
		t.Fatal(err)
	}
	if err := s.RecvMsg(new(accesslogv3.StreamAccessLogsResponse)); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("garbage: %v", err)
	}
	if id := w.reserve(t, ordinaryAsk+"x"); id == "" {
		t.Error("no life after garbage")
	}
}

// Draining ends streams from the server's side, loses no entry of those that were sent
// before, and ends streams that come later.
func TestDrainingLosesNoEntry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newRLSWorld(t, worldSpec())
		conn := w.wire(t)
		e := ending{status: 200, details: "via_upstream", attempts: 1, metadata: "org=acme model=claude-lab-1 input_tokens=1 output_tokens=1"}
		idle, busy := logStream(t, conn), logStream(t, conn)
		if err := idle.Send(logs(e.entry("i", ""))); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		began := time.Now()
		drained := make(chan time.Duration, 1)
		go func() {
			w.als.drain()
			drained <- time.Since(began)
		}()
		sent := 1
		for range 30 {
			if err := busy.Send(logs(e.entry(fmt.Sprint("b", sent), ""))); err != nil {
				t.Fatal(err)
			}
			sent++
			time.Sleep(10 * time.Millisecond)
		}
		if err := busy.RecvMsg(new(accesslogv3.StreamAccessLogsResponse)); err != nil {
			t.Errorf("the busy stream: %v", err)
		}
		if err := idle.RecvMsg(new(accesslogv3.StreamAccessLogsResponse)); err != nil {
			t.Errorf("the idle stream: %v", err)
		}
		if took := <-drained; took > maxQuietWait+quiet {
			t.Errorf("drained after %v", took)
		}
		late := logStream(t, conn)
		if err := late.Send(logs(e.entry("late", ""))); err != nil {
			t.Fatal(err)
		}
		sent++
		if err := late.RecvMsg(new(accesslogv3.StreamAccessLogsResponse)); err != nil {
			t.Errorf("a stream that came later: %v", err)
		}
		w.als.drain()
		if got := w.used(t).InputTokens; got != uint64(sent) {
			t.Errorf("%d entries arrived of %d", got, sent)
		}
	})
}

// A stream that never falls silent is ended nevertheless.
func TestDrainingEndsAStreamThatNeverRests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newRLSWorld(t, worldSpec())
		s := logStream(t, w.wire(t))
		stopped := make(chan struct{})
		go func() {
			defer close(stopped)
			for s.Send(logs(&alsv3.HTTPAccessLogEntry{})) == nil {
				time.Sleep(time.Millisecond)
			}
		}()
		time.Sleep(time.Second)
		began := time.Now()
		w.als.drain()
		if took := time.Since(began); took < quiet || took > maxQuietWait+quiet {
			t.Errorf("ended after %v", took)
		}
		<-stopped
	})
}

// Streams end by themselves before their connection is closed for its age.
func TestAnOldStreamEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newRLSWorld(t, worldSpec())
		s := logStream(t, w.wire(t))
		began := time.Now()
		if err := s.RecvMsg(new(accesslogv3.StreamAccessLogsResponse)); err != nil {
			t.Errorf("%v", err)
		}
		if took := time.Since(began); took < maxSessionAge || took > maxSessionAge+maxQuietWait {
			t.Errorf("ended after %v, want %v", took, maxSessionAge)
		}
	})
}

// Entries that arrived are settled although their sender is gone.
func TestASenderThatDies(t *testing.T) {
	w := newRLSWorld(t, worldSpec())
	ctx, cancel := context.WithCancel(t.Context())
	s, err := accesslogv3.NewAccessLogServiceClient(w.wire(t)).StreamAccessLogs(ctx)
	if err != nil {
		t.Fatal(err)
	}
	e := ending{status: 200, details: "via_upstream", attempts: 1, metadata: "org=acme model=claude-lab-1 input_tokens=1 output_tokens=1"}
	if err := s.Send(logs(e.entry("x", ""))); err != nil {
		t.Fatal(err)
	}
	for w.used(t).InputTokens == 0 {
		time.Sleep(time.Millisecond)
	}
	cancel()
	w.als.drain()
	if got := w.used(t).InputTokens; got != 1 {
		t.Errorf("charged %d", got)
	}
}

func marshaled(t testing.TB, r *rlsv3.RateLimitRequest) []byte {
	t.Helper()
	data, err := proto.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// BenchmarkShouldRateLimit is one call without its transport: bytes in, bytes out.
func BenchmarkShouldRateLimit(b *testing.B) {
	wide := worldSpec()
	for i := range wide.Domains {
		for j := range wide.Domains[i].Rules {
			for k := range wide.Domains[i].Rules[j].Limits {
				wide.Domains[i].Rules[j].Limits[k].Amount = limiter.MaxAmount
			}
		}
	}
	for i := range wide.Quotas[0].Limits {
		wide.Quotas[0].Limits[i].Amount = limiter.MaxAmount
	}
	wide.Domains[0].Rules = append(wide.Domains[0].Rules, limiter.RuleSpec{
		Key: "route", Rules: []limiter.RuleSpec{{Key: "method", Rules: []limiter.RuleSpec{{
			Key: "client", Limits: []limiter.LimitSpec{{Meter: limiter.Requests, Amount: limiter.MaxAmount, Window: time.Minute}},
		}}}},
	})
	refused := worldSpec()
	three := "route=/v1/messages method=POST client=ann"
	hits := func(r *rlsv3.RateLimitRequest) *rlsv3.RateLimitRequest {
		r.Descriptors[0].HitsAddend = wrapperspb.UInt64(5)
		return r
	}
	for _, bm := range []struct {
		name    string
		spec    limiter.Spec
		request *rlsv3.RateLimitRequest
	}{
		{"descriptors=1", wide, request("edge", three)},
		{"descriptors=4", wide, request("edge", three, "user=ann", "user=bob", "odd=x")},
		{"llm", wide, request("llm", "org=acme tenant=batch model=claude-lab-1 body_bytes=4000 max_tokens=2048")},
		{"llm/report", wide, request("llm", "request_id=unknown status=200 details=via_upstream attempts=1 last_event=message_stop")},
		{"denied", refused, hits(request("edge", "user=ann"))},
	} {
		b.Run(bm.name, func(b *testing.B) {
			w := newRLSWorld(b, bm.spec)
			data := marshaled(b, bm.request)
			dec := func(v any) error { return codec{}.Unmarshal(buffersOf(data), v) }
			ctx, cancel := context.WithTimeout(b.Context(), time.Hour)
			defer cancel()
			b.ReportAllocs()
			for b.Loop() {
				if _, err := w.rls.handle(ctx, dec, nil); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
