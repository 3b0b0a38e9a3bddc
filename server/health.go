package server

import (
	"sync/atomic"

	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

// rateLimitService is the name by which proxies ask for our health.
const rateLimitService = "ratelimit"

// readiness says, at every door, whether new work should be sent here. It is safe for
// concurrent use.
type readiness struct {
	ready atomic.Bool
	grpc  *health.Server
}

func newReadiness() *readiness {
	r := &readiness{grpc: health.NewServer()}
	r.set(false)
	return r
}

// set says whether new work is welcome.
func (r *readiness) set(ready bool) {
	r.ready.Store(ready)
	status := healthpb.HealthCheckResponse_NOT_SERVING
	if ready {
		status = healthpb.HealthCheckResponse_SERVING
	}
	r.grpc.SetServingStatus("", status)
	r.grpc.SetServingStatus(rateLimitService, status)
}
