package h2client

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"testing"
	"time"

	rlsv3 "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"google.golang.org/grpc"

	"github.com/weir-project/weir/bench/internal/messages"
)

// server answers OK, OVER_LIMIT and an error in turn, and counts.
type server struct {
	calls  atomic.Uint64
	inTurn bool
}

func (s *server) ShouldRateLimit(context.Context, *rlsv3.RateLimitRequest) (*rlsv3.RateLimitResponse, error) {
	n := s.calls.Add(1)
	switch {
	case s.inTurn && n%3 == 1:
		return &rlsv3.RateLimitResponse{OverallCode: rlsv3.RateLimitResponse_OVER_LIMIT}, nil
	case s.inTurn && n%3 == 2:
		return nil, errors.New("not now")
	}
	return &rlsv3.RateLimitResponse{OverallCode: rlsv3.RateLimitResponse_OK}, nil
}

func serve(t *testing.T, s *server) string {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := grpc.NewServer(grpc.MaxConcurrentStreams(7))
	rlsv3.RegisterRateLimitServiceServer(g, s)
	go func() { _ = g.Serve(lis) }()
	t.Cleanup(g.Stop)
	return lis.Addr().String()
}

func options(t *testing.T, addr string) Options {
	t.Helper()
	frame, err := messages.Frame(messages.Four(messages.User(1)))
	if err != nil {
		t.Fatal(err)
	}
	return Options{
		Addr: addr, Path: messages.ShouldRateLimit, Conns: 2, Streams: 16,
		Next: func(int) func([]byte) []byte {
			return func(b []byte) []byte { return append(b, frame...) }
		},
	}
}

func TestAClosedLoopAsksAsOftenAsItIsToldAndTellsAnswersApart(t *testing.T) {
	s := &server{inTurn: true}
	o := options(t, serve(t, s))
	o.Requests = 3000
	r, err := Run(o)
	if err != nil {
		t.Fatal(err)
	}
	if want := (Tally{Sent: 3000, OK: 1000, OverLimit: 1000, Failed: 1000}); r.Tally != want {
		t.Errorf("got %+v, want %+v", r.Tally, want)
	}
	if n := s.calls.Load(); n != 3000 || r.Latency.Count() != 3000 {
		t.Errorf("the server saw %d calls, %d were timed, want 3000 of each", n, r.Latency.Count())
	}
}

func TestAnOpenLoopAsksWhateverIsDueWithinTheTime(t *testing.T) {
	s := &server{}
	o := options(t, serve(t, s))
	o.Rate, o.Duration = 2000, 500*time.Millisecond
	r, err := Run(o)
	if err != nil {
		t.Fatal(err)
	}
	if r.Sent < 1000 || r.Sent > 1001 || r.OK != r.Sent {
		t.Errorf("got %+v, want 1000 calls, all OK", r.Tally)
	}
}

func TestAServerThatGoesAwayIsAnErrorAndDoesNotHang(t *testing.T) {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			c, err := lis.Accept()
			if err != nil {
				return
			}
			_ = c.Close()
		}
	}()
	t.Cleanup(func() { _ = lis.Close() })
	o := options(t, lis.Addr().String())
	o.Requests = 10
	if r, err := Run(o); err == nil {
		t.Errorf("got %+v and no error", r.Tally)
	}
}
