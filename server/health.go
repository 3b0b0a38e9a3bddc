package server

import (
	"sync"
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

	mu              sync.Mutex
	open, hasConfig bool // guarded by mu
}

func newReadiness() *readiness {
	r := &readiness{grpc: health.NewServer(), hasConfig: true}
	r.set(false)
	return r
}

// set says whether new work is welcome.
func (r *readiness) set(open bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.open = open
	r.tell()
}

// configured says whether there is a configuration to serve new work with.
func (r *readiness) configured(has bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.hasConfig != has {
		r.hasConfig = has
		r.tell()
	}
}

// tell puts at every door what set and configured said. The caller holds mu.
func (r *readiness) tell() {
	ready := r.open && r.hasConfig
	r.ready.Store(ready)
	status := healthpb.HealthCheckResponse_NOT_SERVING
	if ready {
		status = healthpb.HealthCheckResponse_SERVING
	}
	r.grpc.SetServingStatus("", status)
	r.grpc.SetServingStatus(rateLimitService, status)
}
