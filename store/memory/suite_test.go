package memory_test

import (
	"testing"

	"github.com/weir-project/weir/limiter"
	"github.com/weir-project/weir/limiter/limitertest"
	"github.com/weir-project/weir/store/memory"
)

// TestSuite runs the suite that every store passes.
func TestSuite(t *testing.T) {
	limitertest.Run(t, func(tb testing.TB, o limiter.Options, clock func() limiter.Instant) limitertest.Store {
		s := memory.NewWithClock(o, clock)
		tb.Cleanup(s.Close)
		return s
	})
}
