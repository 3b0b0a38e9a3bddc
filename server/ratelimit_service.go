package server

import (
	"time"

	"github.com/weir-project/weir/config"
)

// RatelimitServiceObserver is told how Envoy's rate limit service fares, as the metrics of
// envoyproxy/ratelimit need it. Answered and StoreError are called from many goroutines at
// once, on the path of decisions: they must be quick and must not block.
type RatelimitServiceObserver interface {
	// Loaded is called with the first configuration and each that follows, before it
	// decides, and also with one that decides like the last.
	Loaded(l *config.Loaded)
	// LoadFailed is called for each new state of the files that is not valid.
	LoadFailed()
	// Answered is called for each call of ShouldRateLimit over gRPC, with the time that it
	// took once it was read.
	Answered(took time.Duration)
	// StoreError is called for each request that the store did not decide.
	StoreError()
}
