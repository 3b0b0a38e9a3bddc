package main

import (
	"context"
	"fmt"
	"time"

	rlsv3 "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/weir-project/weir/bench/internal/process"
)

// verify makes one real gRPC call and checks that it is admitted, with the wanted
// number of statuses, each with a limit.
func verify(s *process.Server, req *rlsv3.RateLimitRequest, statuses int) error {
	conn, err := grpc.NewClient(s.Addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	res, err := rlsv3.NewRateLimitServiceClient(conn).ShouldRateLimit(ctx, req)
	if err != nil {
		return fmt.Errorf("%s: %w", s.Addr, err)
	}
	if res.GetOverallCode() != rlsv3.RateLimitResponse_OK || len(res.GetStatuses()) != statuses {
		return fmt.Errorf("%s answered %v, want OK and %d statuses", s.Addr, res, statuses)
	}
	for _, st := range res.GetStatuses() {
		if st.GetCurrentLimit() == nil {
			return fmt.Errorf("%s answered %v, want a limit in every status", s.Addr, res)
		}
	}
	return nil
}
