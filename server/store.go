// Package server speaks the protocols: Envoy RLS v3, access logs, weir.v1 over gRPC
// and Connect, and HTTP. It is the only package that knows gRPC codes. It may import
// config, provider, limiter and the generated protos.
package server

import (
	"context"
	"time"

	"github.com/weir-project/weir/limiter"
)

// Store is where counters and reservations live. Its methods are safe for
// concurrent use. Errors mean that the store is sick, never that a limit refused.
type Store interface {
	// Decide answers a, into d. It returns once there is an answer: where a asks to
	// be held, that may take until a.HoldUntil; if ctx ends before, a is withdrawn,
	// nothing is charged, and ctx's error is returned.
	Decide(ctx context.Context, now limiter.Instant, a *limiter.Ask, d *limiter.Decision) error
	// Report settles the reservation that ref names.
	Report(ctx context.Context, now limiter.Instant, ref Ref, tenant string, o limiter.Outcome) (limiter.Settlement, error)
	// Release gives a reservation back.
	Release(ctx context.Context, now limiter.Instant, ref Ref, tenant string) (limiter.Settlement, error)
	// Renew moves a reservation's expiry to now+ttl.
	Renew(ctx context.Context, now limiter.Instant, ref Ref, tenant string, ttl time.Duration) (limiter.Settlement, error)
	// Zero forgets the counters of owner (and meter, unless nil) that a is matched to.
	Zero(ctx context.Context, now limiter.Instant, a *limiter.Ask, owner string, meter *limiter.Meter) (int, error)
	// ClearGates opens the gates of the quotas called owner (that of meter, unless nil)
	// that a is matched to.
	ClearGates(ctx context.Context, now limiter.Instant, a *limiter.Ask, owner string, meter *limiter.Meter) (int, error)
	// Quotas lists the quotas that have been asked for, by name and attributes.
	Quotas(ctx context.Context, now limiter.Instant) ([]limiter.QuotaView, error)
	// Stats sums up.
	Stats(ctx context.Context) (limiter.Stats, error)
	// Name is shown in the banner, for example "memory".
	Name() string
}

// Ref names a reservation: by its id, or else by its request id.
type Ref = limiter.Ref
