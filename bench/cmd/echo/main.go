// Command echo is the yardstick: a plain grpc-go server, with default settings, that
// serves what weir serves and decides nothing. It answers every ShouldRateLimit with
// OK, and every message of a Session with as many allowing answers as it has calls.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	rlsv3 "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	weirv1 "github.com/weir-project/weir/proto/weir/v1"
)

func main() {
	addr := flag.String("grpc-addr", "127.0.0.1:18180", "where to listen")
	statuses := flag.Bool("statuses", false, "answer with one status a descriptor, as weir does, instead of the code alone")
	raw := flag.Bool("raw", false, "serve only Session, without decoding: what a bare stream costs")
	flag.Parse()
	if err := run(*addr, *statuses, *raw); err != nil {
		fmt.Fprintln(os.Stderr, "echo:", err)
		os.Exit(1)
	}
}

func run(addr string, statuses, raw bool) error {
	lis, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	var s *grpc.Server
	if raw {
		s = rawServer()
	} else {
		s = grpc.NewServer()
		rlsv3.RegisterRateLimitServiceServer(s, rateLimit{statuses: statuses})
		weirv1.RegisterQuotaServiceServer(s, quota{})
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-stop
		s.Stop()
	}()
	return s.Serve(lis)
}

type rateLimit struct{ statuses bool }

// ShouldRateLimit admits.
func (r rateLimit) ShouldRateLimit(_ context.Context, req *rlsv3.RateLimitRequest) (*rlsv3.RateLimitResponse, error) {
	res := &rlsv3.RateLimitResponse{OverallCode: rlsv3.RateLimitResponse_OK}
	if r.statuses {
		for range req.GetDescriptors() {
			res.Statuses = append(res.Statuses, &rlsv3.RateLimitResponse_DescriptorStatus{
				Code: rlsv3.RateLimitResponse_OK,
				CurrentLimit: &rlsv3.RateLimitResponse_RateLimit{
					RequestsPerUnit: 4_000_000_000, Unit: rlsv3.RateLimitResponse_RateLimit_HOUR,
				},
				LimitRemaining:     3_999_999_999,
				DurationUntilReset: &durationpb.Duration{Seconds: 3600, Nanos: 1},
			})
		}
	}
	return res, nil
}

type quota struct {
	weirv1.UnimplementedQuotaServiceServer
}

// Session answers each message at once.
func (quota) Session(stream grpc.BidiStreamingServer[weirv1.SessionRequest, weirv1.SessionResponse]) error {
	for {
		req, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		res := &weirv1.SessionResponse{}
		for _, call := range req.GetCalls() {
			res.Answers = append(res.Answers, answer(call))
		}
		if err := stream.Send(res); err != nil {
			return err
		}
	}
}

// answer is about as long as weir's.
func answer(call *weirv1.SessionCall) *weirv1.SessionAnswer {
	a := &weirv1.SessionAnswer{Sequence: call.GetSequence()}
	if call.GetReserve() == nil {
		a.Answer = &weirv1.SessionAnswer_Report{Report: &weirv1.ReportResponse{
			Ending: weirv1.Ending_ENDING_SETTLED, Applied: true,
			Charged: &weirv1.Usage{Requests: 1, InputTokens: 925, OutputTokens: 342},
		}}
		return a
	}
	r := &weirv1.ReserveResponse{
		Verdict: weirv1.Verdict_VERDICT_ALLOW, Reservation: "AAAAAAAAAAAAAAAAAAAAAA",
		ExpiresAt: timestamppb.New(time.Unix(1_800_000_000, 1)),
		Reserved:  &weirv1.Usage{Requests: 1, InputTokens: 1000, OutputTokens: 2048}, Plan: "echo",
	}
	for _, meter := range [...]string{"requests", "input_tokens", "output_tokens"} {
		r.Limits = append(r.Limits, &weirv1.LimitState{
			Owner: "lab", Meter: meter, Limit: 1e12, Window: &durationpb.Duration{Seconds: 60},
			Used: 1e6, Remaining: 1e12 - 1e6, ResetAfter: &durationpb.Duration{Seconds: 60, Nanos: 1}, Requested: 1000,
		})
	}
	a.Answer = &weirv1.SessionAnswer_Reserve{Reserve: r}
	return a
}
